"""An epoch of a head for pixels on maps that are stored, against the head alone and against encoding every batch.

project: `PixelTraining.train_epoch` on stored maps, with whatever it reads and counts; limit: the head's own steps on
the same maps, laid out in memory before; peer: the same epoch, with the frozen encoder run on every batch.
`PixelWiseHead` on a ResNet-18 at 64 pixels, batches of 16. Maps and losses of project and peer are compared at float32.

Then a task of few and of many images, each in a process of its own: the largest memory that it took.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import cpu_s, ratio

SIZE, BATCH = 64, 16
EXAMPLE = """example:
  OMP_NUM_THREADS=1 python benchmarks/pixelwise_cache.py --rounds 5
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5, help='rounds of the three in turn (default: 5)')
    parser.add_argument('--images', type=int, default=64, help='training images of an epoch (default: 64)')
    parser.add_argument('--many', type=int, default=5000, help='images of the larger task, ten times the smaller '
                        '(default: 5000; 0 leaves memory out)')
    parser.add_argument('--small', action='store_true', help='16 images, and memory of 20 and 200')
    parser.add_argument('--memory-of', type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1)
    if args.memory_of:
        return print_memory(args.memory_of)
    images, many = (16, 200) if args.small else (args.images, args.many)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rounds, differences = epochs(root, images, args.rounds)
        found = dict(benchmark='pixelwise_cache', rounds=args.rounds, images=images,
                     stored_over_limit=ratio(rounds, 'stored', 'limit'),
                     encoded_over_stored=ratio(rounds, 'encoded', 'stored'), **differences)
        if many:
            found['peak_mb'] = {count: memory(root / f'memory_{count}', count) for count in (many // 10, many)}
    print(json.dumps(found))
    return 0


def epochs(root, count, num_rounds):
    """Seconds of each round, and by how much values differ."""
    import torch

    from clear.evaluation import PixelwiseProbe
    from clear.evaluation.dense.pixelwise_job import PixelwiseJob
    from clear.evaluation.task import TaskData
    from clear.models.towers.image import build_encoder

    torch.manual_seed(0)
    encoder = build_encoder(dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=SIZE, crop=SIZE)))
    train, test = make_table(root / 'train', count), make_table(root / 'test', BATCH)
    data = TaskData(images=dict(train=train, val=test, test=test), storage=dict(root=str(root / 'banks')))

    def training(cache):
        task = PixelwiseProbe(head=dict(type='PixelWiseHead'), loss=dict(type='bce_logits'), metric='iou',
                              recipe=dict(size=(SIZE, SIZE)), epochs=2 * num_rounds + 2, batch_size=BATCH, cache=cache,
                              cache_dtype='float32')
        made = PixelwiseJob(task, encoder, data).training()
        return made, *made.begun(task.all_settings[0])

    ways = {'stored': training('maps'), 'encoded': training('none')}
    limit, learner, _ = training('maps')
    batches = list(limit.train.feed.batches(limit.train.rows, 0, BATCH))

    def epoch(name):
        made, own, schedule = ways[name]
        own.model.train()
        made.at.iteration = 0
        made.train_epoch(own, schedule)
        made.at.epoch += 1

    def steps_alone():
        learner.model.train()
        for batch in batches:
            outputs = learner.model(batch.inputs, batch.size)
            learner.step(limit.loss(outputs, batch.values, batch.valid), len(batch))

    print(f'{count} images of {SIZE} pixels, batches of {BATCH}, 1 thread, torch {torch.__version__}')
    rounds = []
    for number in range(num_rounds + 1):
        times = dict(stored=cpu_s(lambda: epoch('stored')), limit=cpu_s(steps_alone),
                     encoded=cpu_s(lambda: epoch('encoded')))
        print(f"{'warm-up' if not number else f'round {number}'}: "
              + '  '.join(f'{name} {value:.2f} cpu-s' for name, value in times.items()))
        rounds += [times] if number else []
    return rounds, differences(ways)


def differences(ways):
    """The largest difference of a map and of a weight after all epochs, relative to the largest value."""
    import torch

    stored, encoded = (ways[name][0].train for name in ('stored', 'encoded'))
    rows = stored.rows[:BATCH]
    asked, kept = (next(part.feed.batches(rows, 0, BATCH)) for part in (encoded, stored))
    maps = [[], []]

    def keep(place):
        return lambda found, size: maps[place].extend(found) or torch.zeros(len(rows), 1, *size)

    encoded.feed.outputs(keep(0), asked)
    stored.feed.outputs(keep(1), kept)
    of_maps = max(((one - two).abs().max() / one.abs().max()).item() for one, two in zip(*maps))
    weights = [ways[name][1].model.state_dict() for name in ways]
    of_weights = max(((value - weights[1][name]).abs().max() / value.abs().max()).item()
                     for name, value in weights[0].items())
    return dict(map_difference=of_maps, weight_difference=of_weights)


def make_table(root, count):
    """Noise with a bright square that the mask marks."""
    import numpy as np
    from PIL import Image

    from clear.datasets.dense.decoders import NonZero
    from clear.datasets.dense.targets import DenseTable

    rng = np.random.default_rng(0)
    (root / 'images').mkdir(parents=True)
    (root / 'masks').mkdir()
    names = [f'{number:05}.png' for number in range(count)]
    for name in names:
        mask = np.zeros((SIZE, SIZE), np.uint8)
        top, left = rng.integers(0, SIZE // 2, 2)
        mask[top:top + SIZE // 2, left:left + SIZE // 2] = 255
        image = (mask[..., None] // 2 + rng.integers(0, 128, (SIZE, SIZE, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / 'images' / name, compress_level=1)
        Image.fromarray(mask).save(root / 'masks' / name)
    columns = dict(path=[f'images/{name}' for name in names], mask=[f'masks/{name}' for name in names])
    return DenseTable.from_columns(root, columns, target_kind='mask', decode=NonZero())


def memory(root, count):
    """Largest resident memory, in MB, of a process that runs a task of this many images."""
    make_table(root / 'train', count)
    make_table(root / 'test', count // 10)
    done = subprocess.run([sys.executable, __file__, '--memory-of', str(root)], capture_output=True, text=True,
                          check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f'{count} images: {found["stored_mb"]:,.0f} MB of maps, at most {found["peak_mb"]:,.0f} MB in memory')
    return found['peak_mb']


def print_memory(root) -> int:
    from clear.datasets.dense.decoders import NonZero
    from clear.datasets.dense.targets import DenseTable
    from clear.evaluation import PixelwiseProbe
    from clear.evaluation.task import TaskData
    from clear.models.towers.image import build_encoder

    encoder = build_encoder(dict(type='TorchvisionEncoder', arch='mobilenet_v3_small',
                                 preprocess=dict(resize=SIZE, crop=SIZE)))
    tables = {}
    for split in ('train', 'test'):
        names = sorted(path.name for path in (root / split / 'images').iterdir())
        columns = dict(path=[f'images/{name}' for name in names], mask=[f'masks/{name}' for name in names])
        tables[split] = DenseTable.from_columns(root / split, columns, target_kind='mask', decode=NonZero())
    task = PixelwiseProbe(head=dict(type='LinearPixelHead', levels=[0, 1]), loss=dict(type='bce_logits'),
                          metric='iou', recipe=dict(size=(SIZE, SIZE)), epochs=1, batch_size=64, cache='maps',
                          cache_dtype='float32')
    task.run(encoder, TaskData(images=tables, storage=dict(root=str(root / 'banks')), folder=root / 'job'))
    stored = sum(path.stat().st_size for path in (root / 'banks').rglob('maps_*.npy'))
    # Not getrusage: what that says of a new process is at least what its parent took.
    peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    print(json.dumps(dict(stored_mb=stored / 2**20, peak_mb=int(peak.split()[1]) / 2**10)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
