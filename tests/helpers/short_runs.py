"""Short runs of the programs in `tools/`, in this process: importing torch anew for each would take minutes."""

import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
CONFIGS = ROOT / 'configs'

# Three classes of 8-d features, and a head on them; the data root comes from `write_config`.
FEATURE_CONFIG = """
scenario = dict(type='CLEAR', data_root={root!r}, evaluation_protocol='iid', seed=0, feature_type='moco_b0')
model = dict(head=dict(type='LinearClsHead', num_classes=3, in_channels=8))
batch_size = 8
cl_strategy = dict(type='Naive', train_mb_size=batch_size, eval_mb_size=8, train_epochs=2,
                   optimizer=dict(type='SGD', lr=0.1), scheduler=dict(type='StepLR', step_size=1))
loggers = []
metrics = []
threads = 1
"""
# Three classes of grey 32 x 32 images, and LeNet5.
IMAGE_CONFIG = """
_transform = [dict(type='Grayscale'), dict(type='ToTensor')]
scenario = dict(type='CLEAR', data_root={root!r}, evaluation_protocol='iid', seed=0, train_transform=_transform,
                eval_transform=_transform)
model = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=3, in_channels=120))
cl_strategy = dict(type='Naive', train_mb_size=64, eval_mb_size=64, train_epochs=1,
                   optimizer=dict(type='SGD', lr=0.1))
loggers = []
metrics = []
threads = 1
"""


@dataclass
class Finished:
    """What a program left: its exit code and what it wrote to the two streams."""

    code: int
    out: str
    err: str


def write_config(path, text, root, more=''):
    """Write a config whose data are below `root`; `more` is appended as it is."""
    path = Path(path)
    path.write_text(text.format(root=str(root)) + more)
    return path


def load_tool(name):
    """`main` of `tools/<name>.py`."""
    spec = importlib.util.spec_from_file_location(f'tool_{Path(name).stem}', TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def run(program, *arguments):
    """Call `main` of a program as the shell would, and catch what it writes."""
    out, err, path = io.StringIO(), io.StringIO(), [*sys.path]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = load_tool(program)([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        finally:
            sys.path[:] = path  # a folder of custom_imports stays there while a program runs
            forget_outside_modules()
    return Finished(code, out.getvalue(), err.getvalue())


def forget_outside_modules():
    """Drop what a config's `custom_imports` brought from a test's folder, as the end of its process would.

    Another test has a module of that name, and a registry takes a name once.
    """
    from clear import registry

    dropped = outside_modules(sys.modules, tempfile.gettempdir())
    for each in [each for each in vars(registry).values() if isinstance(each, registry.Registry)] if dropped else ():
        for name in [name for name, kind in each.module_dict.items() if kind.__module__ in dropped]:
            del each.module_dict[name]
    for name in dropped:
        del sys.modules[name]


def outside_modules(modules, folder, homes=(ROOT, sys.prefix)):
    """Names of the modules whose file lies below a folder, and not below `homes`: this tree may itself lie there."""
    def lies_in(path, parent):
        return path.startswith(f'{parent}{os.sep}')

    found = {name: str(getattr(module, '__file__', None) or '') for name, module in [*modules.items()]}
    found = {name: os.path.realpath(path) for name, path in found.items() if lies_in(path, folder)}
    kept = [os.path.realpath(home) for home in homes]
    return {name for name, path in found.items() if not any(lies_in(path, home) for home in kept)}


def train(*arguments):
    """Run `tools/train.py` and require success."""
    finished = run('train', *arguments)
    assert finished.code == 0, finished.err
    return finished


def read_results(work_dir):
    return json.loads((Path(work_dir) / 'results.json').read_text())


def without_timing(results):
    return {key: value for key, value in results.items() if key != 'timing'}


def program(name):
    """The command of a program for a process of its own."""
    return [sys.executable, str(TOOLS / f'{name}.py')]


def environment(**more):
    """Environment of a process of its own: this tree first on the path, one thread, no network."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    return {**os.environ, 'PYTHONPATH': path, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg',
            'WANDB_MODE': 'offline', **more}


def truncate(path, num_bytes=200):
    """Cut a file short, as a broken download does."""
    Path(path).write_bytes(Path(path).read_bytes()[:num_bytes])


def listed(root, bucket, part, seed=0):
    """Images of one part of a bucket in the old layout, as paths below `root`, in the order of the list."""
    text = (Path(root) / 'training_folder' / 'testset_ratio_0.3' / f'split_{seed}' / bucket / f'{part}.txt').read_text()
    return [line.rsplit(' ', 1)[0] for line in text.splitlines()]
