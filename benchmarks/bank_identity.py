"""From the built encoder to the opened bank that exists already, by every door, at an earlier commit and now.

ResNet-50 with random weights, a folder of small files with the names of images, and a bank of zeros under the very
fingerprint. In turn, each in a process of its own, in the tree of the earlier commit and in this one: the program
`extract_features.py`, a feature run (`open_bank` of its scenario), a probe (the finder of its data), and a probe that
was resumed (its banks are compared first). Reading the folder is part of it, imports and building the encoder are not.
CPU seconds, one thread, medians of round-wise ratios.

Claim: before / now >= 1.5 by every door, against commit 256812c.

    git worktree add ../before 256812c
    python benchmarks/bank_identity.py --before ../before --rounds 5
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOORS = ('extract_features', 'feature_run', 'probe', 'probe_resumed')

# Runs in either tree: modules are found where the tree has them.
OPEN = """
import argparse, importlib, json, logging, sys, time
import torch
torch.set_num_threads(1)
door, encoder_cfg, data_cfg, config = json.loads(sys.argv[1])
from clear.continual.scenarios.bank_features import open_bank
from clear.features import build, program
try:
    from clear.datasets import read_images
except ImportError:
    from clear.features import build_source as read_images
try:
    jobs = importlib.import_module('clear.engine.probing.jobs')
except ImportError:
    jobs = importlib.import_module('clear.engine.probe_jobs')
for name in ('pyarrow.parquet', 'clear.evaluation'):
    importlib.import_module(name)
real = build.make_encoder
encoder = real(encoder_cfg)
for module in list(sys.modules.values()):
    if getattr(module, 'make_encoder', None) is real:
        module.make_encoder = lambda cfg: encoder
logging.disable(logging.CRITICAL)
args = argparse.Namespace(config=config, launcher='none', cfg_options=[], encoder=None, data=None, out=None,
                          device='cpu', dry_run=False, resume=True, overwrite=False)
job = jobs.Job('encoder', 'task', encoder_cfg, dict(type='KNN'), dict(train=data_cfg, test=data_cfg))

started = time.process_time()
if door == 'extract_features':
    program.run(args)
elif door == 'feature_run':
    open_bank(dict(encoder=encoder_cfg, device='cpu'), None, source=read_images(data_cfg))
else:
    try:
        finder = importlib.import_module('clear.engine.probing.finder').DataFinder
    except ImportError:
        finder = getattr(jobs, 'DataFinder', None) or jobs.BankFinder
    finder = finder(dict(device='cpu'))
    if door == 'probe_resumed':
        finder.fingerprints(job)
    finder.find(job)
print(time.process_time() - started)
"""


def write_files(folder: Path, count: int) -> None:
    """Files of different sizes in ten classes, as many as there are images; nobody decodes them."""
    for number in range(count):
        path = folder / f'class_{number % 10}' / f'{number:06}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x' * (1 + number % 97))


def write_bank(encoder_cfg: dict, data_cfg: dict) -> None:
    """The bank that all doors find below the current folder, without a forward pass."""
    import numpy as np

    from clear.datasets import read_images
    from clear.features import bank_path, identity_of
    from clear.features.build import make_encoder
    from clear.features.writing import allocate_array, write_small_files

    encoder, source = make_encoder(encoder_cfg), read_images(data_cfg)
    identity = identity_of(encoder, source)
    folder = bank_path(encoder, source, identity)
    folder.mkdir(parents=True)
    allocate_array(folder / 'features.npy', identity['dtype'], (len(source), encoder.embed_dim))
    write_small_files(folder, identity=identity, dim=encoder.embed_dim, labels=source.label_array(),
                      valid=np.ones(len(source), dtype=bool), ids=source.texts('id'), paths=source.texts('path'),
                      buckets=source.buckets(), timestamps=source.times(), class_names=source.class_names,
                      notes=dict(encoder=dict(type=type(encoder).__name__, config=None), source=source.kind))


def seconds(tree: Path, arguments: list) -> float:
    """CPU seconds of one door in the tree of a commit."""
    done = subprocess.run([sys.executable, '-c', OPEN, json.dumps(arguments)], capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(tree), 'OMP_NUM_THREADS': '1'})
    if done.returncode:
        sys.exit(f'{arguments[0]} failed in {tree}:\n{done.stderr}')
    return float(done.stdout.splitlines()[-1])


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--before', type=Path, required=True, help='working tree of the earlier commit')
    parser.add_argument('--files', type=int, default=20_000, help='images (default: 20000)')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--small', action='store_true', help='a small encoder and few files, to see that it runs')
    args = parser.parse_args(argv)
    count = 40 if args.small else args.files
    encoder = dict(type='TorchvisionEncoder', arch='squeezenet1_1' if args.small else 'resnet50')
    trees = dict(before=args.before.resolve(), now=ROOT)
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_files(Path('images'), count)
        data = dict(type='ImageFolder', root='images')
        write_bank(encoder, data)
        Path('features.py').write_text(f'encoder = {encoder!r}\ndata = {data!r}\nthreads = 1\n')
        times = {door: {name: [] for name in trees} for door in DOORS}
        for index in range(args.rounds):
            for door in DOORS:
                for name in sorted(trees, reverse=index % 2 == 1):
                    times[door][name].append(seconds(trees[name], [door, encoder, data, 'features.py']))
        os.chdir(ROOT)
    ratios = {door: statistics.median(one / other for one, other in zip(each['before'], each['now']))
              for door, each in times.items()}
    for door, each in times.items():
        print(f'{door:16} before {statistics.median(each["before"]):.3f} s  now {statistics.median(each["now"]):.3f} s'
              f'  before / now {ratios[door]:.2f}')
    print(json.dumps(dict(benchmark='bank_identity', arch=encoder['arch'], files=count, rounds=args.rounds,
                          **{f'{door}_before_over_now': ratio for door, ratio in ratios.items()})))


if __name__ == '__main__':
    main()
