"""Runs that are killed at random moments and resumed, against the same runs left alone.

Eight kinds of run, each in processes of its own: a continual strategy with a memory, a continual regulariser whose
images come from workers, several seeds, pretraining, pretraining over a stream of buckets, probing, alignment with a
queue and a frozen tower that is read from a bank, and alignment with prototypes and LoRA. One run of each kind is left
alone. Others get a signal at a random moment (four of five SIGKILL, else SIGTERM; one in six
while the program still starts), and `--resume` brings them to the end. Then they must have the same files, the same
results.json but for `timing`, the same tensors in every checkpoint bit by bit, and nothing that a killed writer left.

Claim: no difference. Some 8 s of CPU a start, two starts a moment.

    python benchmarks/kill_storm.py --moments 20 --seed 0
    python benchmarks/kill_storm.py --kinds replay stream --moments 2 --folder /tmp/storm
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SHARE = 1 / 6
SIGTERM_SHARE = 1 / 5
LIMIT_S = 600

LENET = """
model = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=10, in_channels=120))
checkpoint_config, threads, device = dict(interval=1, iter_interval=4, max_keep=2), 1, 'cpu'
"""
ROTATED = LENET + """
scenario = dict(type='RotatedDigits', n_experiences=3, size=32, seed=0, limit=300)
"""
MOCO = """
model = dict(type='MoCo', backbone=dict(type='ResNet', depth=18, stem_channels=4, base_channels=4),
             neck=dict(type='ProjectionMLP', in_channels=32, out_channels=8), queue_size=16, momentum=0.9,
             data_preprocessor=dict(type='ViewPreprocessor', views=dict(
                 type='BatchedMultiCrop', recipe='moco_v2', options=dict(size=16))))
train_dataloader = dict(batch_size=8, num_workers={workers}, dataset=dict(
    type='BucketImages', data_root={data!r}, image_size=16{buckets}))
train_cfg = dict(by_epoch=True, max_epochs={epochs})
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=4)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, iter_interval=2, max_keep=2),
                     logger=dict(type='LoggerHook', interval=1))
seed, device, threads = 3, 'cpu', 1
"""
PAIRS = """
_args = dict(embed_dim=16, text_cfg=dict(width=32, heads=2, layers=2, context_length=24),
             vision_cfg=dict(width=32, head_width=16, layers=2, patch_size=8, image_size=32))
_tower = dict(arch='ViT-B-32', model_args=_args)
train_dataloader = dict(batch_size=8, num_workers={workers}, dataset=dict(
    type='ImageTextPairs', images=dict(
        type='PromptedClassification', templates=['a {{}}', 'the digit {{}}'],
        images=dict(type='FileList', path='{lists}/1/train.txt', root={data!r})),
    transform=[dict(type='RandomResizedCrop', size=32, scale=(0.5, 1.0)), dict(type='ToTensor')]))
train_cfg = dict(by_epoch=True, max_epochs=8)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.002))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=8)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, iter_interval=3, max_keep=2),
                     logger=dict(type='LoggerHook', interval=1))
seed, device, threads, banks = 3, 'cpu', 1, dict(root='banks')
"""
QUEUE = """
model = dict(type='ImageTextAlignment', loss=dict(type='SEEDLoss', embed_dim=16, queue_size=24, teacher_temp=0.07),
             image_encoder=dict(type='OpenCLIPImageEncoder', trainable=True, **_tower),
             text_encoder=dict(type='OpenCLIPTextEncoder', **_tower))
"""
PROTOTYPES = """
_head = dict(type='DINOHead', num_layers=1, out_channels=8, bottleneck_channels=12)
_lora = dict(lora=dict(rank=2))
model = dict(type='ImageTextAlignment', loss=dict(type='ProtoCPCLoss', out_dim=8), image_head=_head, text_head=_head,
             image_encoder=dict(type='OpenCLIPImageEncoder', trainable=_lora, **_tower),
             text_encoder=dict(type='OpenCLIPTextEncoder', trainable=_lora, **_tower))
"""


def config_text(kind: str, data: Path) -> str:
    """The config of a kind of run; `data` holds the demo's digits."""
    root = str(data)
    if kind == 'replay':
        return ROTATED + """
cl_strategy = dict(type='Replay', mem_size=60, train_mb_size=16, train_epochs=6,
                   optimizer=dict(type='SGD', lr=0.02, momentum=0.9))
"""
    if kind == 'workers':
        return LENET + f"""
_transform = [dict(type='Grayscale'), dict(type='ToTensor')]
scenario = dict(type='FolderByTime', data_root='{root}/labeled_images', times=['1', '2', '3'], seed=0,
                train_transform=_transform, eval_transform=_transform)
num_workers = 2
cl_strategy = dict(type='EWC', ewc_lambda=1.0, train_mb_size=16, train_epochs=1,
                   optimizer=dict(type='SGD', lr=0.02, momentum=0.9))
"""
    if kind == 'seeds':
        return ROTATED + """
seeds = [0, 1]
cl_strategy = dict(type='Naive', train_mb_size=16, train_epochs=4,
                   optimizer=dict(type='SGD', lr=0.02, momentum=0.9))
"""
    if kind == 'pretraining':
        return MOCO.format(data=root, workers=2, epochs=8, buckets=", buckets=['1', '2']")
    if kind == 'stream':
        return MOCO.format(data=root, workers=0, epochs=4, buckets='') + """
stream = dict(buckets=['1', '2', '3'], mode='replay', replay_size=8)
"""
    lists = f'{root}/training_folder/testset_ratio_0.3/split_0'
    if kind == 'queue':
        return PAIRS.format(data=root, lists=lists, workers=2) + QUEUE
    if kind == 'prototypes':
        return PAIRS.format(data=root, lists=lists, workers=0) + PROTOTYPES
    return f"""
runner_type = 'ProbeRunner'
encoders = dict(
    {', '.join(f"r{seed}=dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))"
               for seed in range(2))})
data = dict(train=dict(type='FileList', path='{lists}/1/train.txt', root={root!r}),
            test=dict(type='FileList', path='{lists}/1/test.txt', root={root!r}))
tasks = [dict(type='KNN', k=3), dict(type='NearestClassMean'), dict(type='LinearProbe', epochs=40),
         dict(type='LinearProbe', name='longer', epochs=80)]
banks = dict(root='banks')
device, threads = 'cpu', 1
"""


KINDS = ('replay', 'workers', 'seeds', 'pretraining', 'stream', 'probing', 'queue', 'prototypes')


class Storm:
    """Runs of one kind, each in a folder of its own below `folder`."""

    def __init__(self, kind: str, folder: Path, data: Path):
        self.kind, self.folder, self.data = kind, folder, data
        self.starts = 0

    def start(self, name: str, *options: str) -> subprocess.Popen:
        """The program in the folder `name`, in a session of its own."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        (place / 'storm.py').write_text(config_text(self.kind, self.data))
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
        env = {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg'}
        self.starts += 1
        with (place / 'output.txt').open('a') as output:
            return subprocess.Popen([sys.executable, str(ROOT / 'tools' / 'train.py'), 'storm.py', '--work-dir', 'run',
                                     *options], cwd=place, env=env, stdout=output, stderr=output,
                                    start_new_session=True)

    def whole(self) -> None:
        """The run that is left alone, and how long its two phases take."""
        started = time.monotonic()
        process = self.start('whole')
        self.start_s = _wait_for_log(self.folder / 'whole', process) - started
        if process.wait(LIMIT_S):
            raise SystemExit(f'{self.kind}: the run fails by itself:\n{_tail(self.folder / "whole")}')
        self.run_s = time.monotonic() - started - self.start_s

    def moment(self, number: int, draw: random.Random) -> dict:
        """Stop a run once, resume it, and say in what it differs from the one left alone."""
        name, how = f'moment_{number}', signal.SIGTERM if draw.random() < SIGTERM_SHARE else signal.SIGKILL
        is_early, share = draw.random() < START_SHARE, draw.random()
        process = self.start(name)
        if not is_early:
            _wait_for_log(self.folder / name, process)
        time.sleep(share * (self.start_s if is_early else self.run_s))
        process.send_signal(how)
        code = process.wait(LIMIT_S)
        problems = []
        if how == signal.SIGTERM and code not in (0, 143):
            problems.append(f'code {code} after SIGTERM')
        code = self.start(name, '--resume').wait(LIMIT_S)
        if code == 2 and 'Nothing to resume' in _tail(self.folder / name):
            code = self.start(name).wait(LIMIT_S)
        problems += [f'code {code} after --resume: {_tail(self.folder / name)}'] if code else \
            differences(self.folder / 'whole' / 'run', self.folder / name / 'run')
        return dict(kind=self.kind, moment=number, signal=how.name, phase='start' if is_early else 'run',
                    share=round(share, 3), problems=problems)


def _wait_for_log(place: Path, process: subprocess.Popen) -> float:
    while not list(place.glob('run/**/run.log')) and process.poll() is None:
        time.sleep(0.01)
    return time.monotonic()


def _tail(place: Path) -> str:
    return '\n'.join((place / 'output.txt').read_text(errors='replace').splitlines()[-4:])


def differences(whole: Path, resumed: Path) -> list[str]:
    """What tells a resumed run from one that was left alone."""
    first, second = (_files(folder) for folder in (whole, resumed))
    found = [f'{name} is missing' for name in sorted(first - second)]
    found += [f'{name} is left over' for name in sorted(second - first)]
    for name in sorted(first & second):
        a, b = whole / name, resumed / name
        if a.suffix in ('.json', '') and a.parent.name == 'vis_data':  # a line for each record, with times
            found += [] if _steps(a) == _steps(b) else [f'{name} has other steps']
        elif name.endswith('.json'):
            found += [] if _without_time(a) == _without_time(b) else [f'{name} differs']
        elif name.endswith('.pth'):
            found += [f'{name}: {part} differs' for part in _other_tensors(a, b)]
    return found


def _files(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    # Avalanche's log is named after the time, once for each start.
    return {name for name in names if not name.endswith('.log')}


def _without_time(path: Path) -> object:
    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()
                    if key not in ('timing', 'time_s', 'attempts', 'git')}
        return [clean(item) for item in value] if isinstance(value, list) else value

    return clean(json.loads(path.read_text()))


def _steps(path: Path) -> list[tuple]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line.get('iter'), line.get('step')) for line in lines]


def _other_tensors(first: Path, second: Path) -> list[str]:
    import torch

    a, b = (torch.load(path, weights_only=True) for path in (first, second))

    def compare(one: object, other: object, where: str) -> list[str]:
        if isinstance(one, torch.Tensor):
            same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
            return [] if same else [where]
        if isinstance(one, dict):
            if not isinstance(other, dict) or one.keys() != other.keys():
                return [where]
            return [item for key in one for item in compare(one[key], other[key], f'{where}.{key}')]
        if isinstance(one, (list, tuple)):
            if type(one) is not type(other) or len(one) != len(other):
                return [where]
            return [item for index, pair in enumerate(zip(one, other)) for item in compare(*pair, f'{where}[{index}]')]
        return []

    keys = [key for key in ('state_dict', 'optimizer') if key in a]
    return [item for key in keys for item in compare(a[key], b.get(key), key)]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS)
    parser.add_argument('--moments', type=int, default=20, help='of each kind')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--folder', type=Path, help='keep the runs here (default: a temporary folder)')
    args = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))
    from clear.datasets.make.demo import write_demo

    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        data = folder / 'demo'
        write_demo(data, seeds=[0], limit=100)
        outcomes, starts = [], 0
        for kind in args.kinds:
            shutil.rmtree(folder / kind, ignore_errors=True)
            storm = Storm(kind, folder / kind, data)
            storm.whole()
            print(f'{kind}: {storm.start_s:.1f} s to start, {storm.run_s:.1f} s to run', flush=True)
            draw = random.Random(f'{kind} {args.seed}')
            for number in range(args.moments):
                outcomes.append(storm.moment(number, draw))
                print(json.dumps(outcomes[-1]), flush=True)
            starts += storm.starts
    failed = [outcome for outcome in outcomes if outcome['problems']]
    print(json.dumps(dict(moments=len(outcomes), starts=starts, failed=len(failed))))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
