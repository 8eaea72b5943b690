"""`clear.train`, `evaluate` and `extract` in notebooks: the command line's numbers, and nothing left behind."""

import asyncio
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from banks import blobs
from clear_trees import write_clear_tree
from short_runs import (
    FEATURE_CONFIG,
    IMAGE_CONFIG,
    environment,
    read_results,
    run,
    train,
    without_timing,
    write_config,
)
from tiny_encoder import TinyEncoder, content, write_images
from toy_runs import TOY

import clear
from clear.core.files import read_json
from clear.core.programs.guest import as_guest
from clear.features import write_bank

PROBE = dict(tasks=[dict(type='KNN', name='knn', k=3)], data=dict(train='train', test='test'), device='cpu',
             name='probe')


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'images', per_class=10, num_buckets=2, image_size=32,
                            features=8)


@pytest.fixture
def config(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config('features.py', FEATURE_CONFIG, tree)
    return write_config('config.py', IMAGE_CONFIG, tree, "model['head']['loss'] = dict(type='CrossEntropyLoss')\n")


def process():
    """What a call could change of this process."""
    from mmengine.utils.manager import ManagerMixin
    from mmengine.visualization import Visualizer  # noqa: F401

    def kinds(kind):
        return [each for child in kind.__subclasses__() for each in (child, *kinds(child))]

    matplotlib = sys.modules.get('matplotlib')
    return dict(
        handlers=[log.handlers[:] for log in (logging.getLogger('clear'), logging.getLogger())],
        levels=[log.level for log in (logging.getLogger('clear'), logging.getLogger())],
        propagate=logging.getLogger('clear').propagate, threads=torch.get_num_threads(),
        dtype=torch.get_default_dtype(), grad=torch.is_grad_enabled(), torch=torch.get_rng_state().tolist(),
        numpy=str(np.random.get_state()), random=random.getstate(), cwd=Path.cwd(), path=sys.path[:],
        environ=dict(os.environ), signals=[signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
        cudnn=[getattr(torch.backends.cudnn, name) for name in ('benchmark', 'deterministic', 'enabled')],
        deterministic=torch.get_deterministic_debug_mode(), collector=gc.isenabled(), filters=warnings.filters[:],
        group=torch.distributed.is_initialized(),
        rc=dict(dict.items(matplotlib.rcParams)) if matplotlib else None,
        kept={kind.__name__: list(kind._instance_dict.items()) for kind in kinds(ManagerMixin) if kind._instance_dict})


def disturb():
    """Settings of a user who has worked in the notebook before."""
    torch.manual_seed(random.randrange(1000))
    np.random.seed(random.randrange(1000))
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    logging.getLogger('clear').addHandler(logging.NullHandler())


@pytest.fixture
def as_a_user_left_it():
    """Put this process in order after a test that disturbed it."""
    log = logging.getLogger('clear')
    handlers = log.handlers[:]
    yield
    log.handlers[:] = handlers
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


def weights(work_dir):
    return torch.load(Path(work_dir) / 'latest.pth', weights_only=True)['state_dict']


def assert_same_run(one, other):
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)
    assert without_timing(read_results(one)) == without_timing(read_results(other))


def stopping(monkeypatch, *sent):
    """Send this process signals at its second iteration."""
    from clear.engine.progress import Progress

    step, calls = Progress.step, []

    def stop(self, where, numbers=None):
        calls.append(where)
        if len(calls) == 2:
            for number in sent:
                signal.raise_signal(number)
        step(self, where, numbers)

    monkeypatch.setattr(Progress, 'step', stop)


def test_importing_is_quick_and_brings_what_is_asked_for():
    code = '''
import sys, clear
assert not {'torch', 'numpy', 'mmengine', 'typing', 'argparse'} & set(sys.modules) - set(sys.argv[1].split(','))
assert {'train', 'evaluate', 'extract', 'Predictor', 'Run', 'ConfigError'} <= set(dir(clear))
assert clear.ConfigError.__mro__[1] is clear.ClearError and 'torch' not in sys.modules
try:
    clear.trian
except AttributeError as error:
    assert str(error) == "module 'clear' has no attribute 'trian'"
'''
    bare = subprocess.run([sys.executable, '-c', 'import sys; print(",".join(sys.modules))'], env=environment(),
                          capture_output=True, text=True).stdout.strip()
    done = subprocess.run([sys.executable, '-c', code, bare], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_is_that_of_the_command_line_in_any_order(config, as_a_user_left_it):
    train('config.py', '--work-dir', 'line', '--cfg-options', 'cl_strategy.train_epochs=2')
    disturb()
    clear.train('features.py', work_dir='other', seed=3)
    found = clear.train('config.py', work_dir='cell', cl_strategy=dict(train_epochs=2))
    assert_same_run('line', 'cell')
    as_dict = dict(_base_=Path('config.py'), name='config', cl_strategy=dict(train_epochs=2))
    clear.train(as_dict, 'dict', **{'cl_strategy.train_mb_size': 64})
    assert_same_run('line', 'dict')
    assert found.results.acc_matrix == read_results('line')['acc_matrix'] and found.work_dir == Path('cell')
    with pytest.raises(clear.ConfigError, match='_base_ is 3; expected the name of a config'):
        clear.train(dict(as_dict, _base_=3))
    with pytest.raises(clear.DataError, match='nowhere'):
        clear.train(as_dict, 'dict', scenario=dict(data_root=Path('nowhere')), overwrite=True)


def test_an_ordinary_run_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('toy.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in TOY.items()))
    train('toy.py', '--work-dir', 'line')
    found = clear.train(TOY, work_dir='cell')
    torch.testing.assert_close(weights('line'), weights('cell'), rtol=0, atol=0)
    assert without_timing(read_results('line')) == without_timing(read_results('cell'))
    assert [row[0] for row in found.table().rows] and 'figures' not in found.table().columns


@pytest.mark.parametrize('ends', ['well', 'ordinarily', 'with an error', 'by the user', 'on the way'])
def test_the_process_is_left_as_it_was(ends, config, monkeypatch, as_a_user_left_it):
    clear.train('features.py', work_dir='imports')  # what is imported stays
    disturb()
    before = process()
    if ends == 'well':
        clear.train('config.py', work_dir='run')
    elif ends == 'ordinarily':
        clear.train(TOY, work_dir='toy')
    elif ends == 'with an error':
        with pytest.raises(clear.DataError):
            clear.train('config.py', work_dir='run', scenario=dict(data_root='nowhere'))
    elif ends == 'by the user':
        stopping(monkeypatch, signal.SIGINT)
        with pytest.raises(clear.Interrupted, match='resume=True'):
            clear.train('config.py', work_dir='run')
    else:
        monkeypatch.setattr('clear.engine.progress.Progress.step', lambda self, where, numbers=None: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            clear.train('config.py', work_dir='run')
    after = process()
    assert {key: value for key, value in after.items() if value != before[key]} == {}


def test_a_stopped_cell_goes_on_where_it_was(config, monkeypatch):
    clear.train('config.py', work_dir='whole', cl_strategy=dict(train_epochs=2))
    with monkeypatch.context() as patch:
        # The second Ctrl-C of somebody impatient must not end the kernel.
        stopping(patch, signal.SIGINT)
        with pytest.raises(clear.Interrupted):
            clear.train('config.py', work_dir='run', cl_strategy=dict(train_epochs=2))
    clear.train('config.py', work_dir='run', cl_strategy=dict(train_epochs=2), resume=True)
    assert_same_run('whole', 'run')


def test_a_second_ctrl_c_ends_the_call_alone(config, monkeypatch):
    stopping(monkeypatch, signal.SIGINT, signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a shell
    with pytest.raises(clear.Interrupted):
        clear.train('config.py', work_dir='run')
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_reaches_who_runs_us_after_all_is_saved(config, monkeypatch):
    stopping(monkeypatch, signal.SIGTERM)
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(sorted(path.name for path in Path('run').iterdir())))
    try:
        with pytest.raises(clear.Interrupted):
            clear.train('config.py', work_dir='run')
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(came) == 1 and {'iteration.pth', 'latest.pth'} & set(came[0])


def test_a_cell_run_twice(config, capsys):
    first = clear.train('features.py', work_dir='run')
    kept = content(Path('run'))
    capsys.readouterr()
    with pytest.raises(clear.ConfigError) as caught:
        clear.train('features.py', work_dir='run')
    assert len(str(caught.value).splitlines()) == 1 and '--' not in str(caught.value)
    assert 'resume=True' in str(caught.value) and 'overwrite=True' in str(caught.value)
    assert content(Path('run')) == kept
    again = clear.train('features.py', work_dir='run', resume=True)
    assert again.results.acc_matrix == first.results.acc_matrix
    replaced = clear.train('features.py', work_dir='run', overwrite=True, seed=1)
    assert replaced.results.seeds['train'] == 1


@pytest.mark.parametrize('options, words', [
    (dict(cl_strategi=1), "nobody reads 'cl_strategi'. Did you mean 'cl_strategy'"),
    (dict(model=dict(head=torch.nn.Linear(2, 2))), 'can be written down'), (dict(seeds=[1, 1]), 'two different')])
def test_what_cannot_be_run_is_told_in_one_message(options, words, config):
    with pytest.raises(clear.ConfigError) as caught:
        clear.train('features.py', 'run', **options)
    assert words in str(caught.value) and '--' not in str(caught.value)


def test_within_a_loop_and_beside_the_main_thread(config):
    async def cell():
        return clear.train('features.py', work_dir='loop')

    asyncio.run(cell())
    thread = threading.Thread(target=lambda: clear.train('features.py', work_dir='thread'))
    thread.start()
    thread.join()
    assert_same_run('loop', 'thread')


def test_two_at_once_are_refused(config):
    caught = []

    def cell():
        try:
            clear.train('features.py', work_dir='run')
        except clear.ClearError as error:
            caught.append(str(error))

    with as_guest():
        thread = threading.Thread(target=cell)
        thread.start()
        thread.join()
    assert len(caught) == 1 and 'Another run is under way' in caught[0] and not Path('run').exists()


def test_checkpoints_are_measured_as_test_does(config):
    clear.train('config.py', work_dir='run')
    run('test', 'config.py', 'run/latest.pth', '--out', 'line.json')
    line, found = read_json('line.json'), clear.evaluate('config.py', 'run/latest.pth')
    assert found.results.metrics == {'mean': line['mean'], **line['accuracy']} and found.work_dir is None
    with pytest.raises(clear.ConfigError, match='give checkpoint='):
        clear.evaluate('config.py')


def test_probes_of_encoders_are_those_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, count in (('train', 60), ('test', 31)):
        write_bank(tmp_path / 'good' / name, *blobs(count), class_names=['a', 'b', 'c'], encoder='sha256:01')
    encoders = dict(good=dict(bank='good'))
    whole = dict(PROBE, encoders=encoders, runner_type='ProbeRunner')
    Path('probe.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in whole.items()))
    train('probe.py', '--work-dir', 'line')
    clear.evaluate(whole, work_dir='cell')
    line, cell = map(read_results, ('line', 'cell'))
    assert all(line[key] == cell[key] for key in line if key not in ('timing', 'extras'))
    assert line['extras']['config_text'].replace('line', 'cell') == cell['extras']['config_text']
    found = clear.evaluate(work_dir='options', encoders=encoders, **PROBE)
    assert found.results.metrics == line['metrics']
    assert 'good' in repr(found) and found.table().records()[0]['encoder'] == 'good'


def test_features_are_those_of_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'images')
    encoder = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))
    Path('extract.py').write_text(f'encoder = {encoder!r}\ndata = dict(type="ImageFolder", root="images")\n')
    assert run('extract_features', 'extract.py', '--out', 'line').code == 0
    bank = clear.extract(encoder, 'images', out='cell')
    assert content(Path('line')) == content(Path('cell'))
    assert bank.features.shape == (20, 512) and dict(bank.table().rows)['images'] == 20
    assert '<table>' in bank._repr_html_() and 'squeezenet' not in repr(bank)
    assert clear.extract('extract.py', root='banks').work_dir.parent == (tmp_path / 'banks').absolute()
    own = clear.extract(TinyEncoder(), dict(type='ImageFolder', root='images'), 'own', dtype='float32')
    assert own.bank.meta['dtype'] == 'float32'
    with pytest.raises(clear.ConfigError, match='batch_sice'):
        clear.extract(encoder, 'images', batch_sice=3)
    with pytest.raises(clear.DataError) as caught:
        clear.extract(encoder, 'images', out='own')
    assert '--' not in str(caught.value)
