"""Reading small JPEGs from tar shards, against a bare loop over `webdataset.WebDataset`.

Both decode alike and mix through a buffer of as many samples. `reading` is the image and its caption; `samples` adds
the transform, and on our side what a batch of a training is made by: draws, labels, the report of damaged images. One
process, process CPU time, medians of round-wise ratios.

Claims: bare loop / ours >= 0.9 in both.

    python benchmarks/shard_reading.py --rounds 7
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from webdataset import TarWriter, WebDataset

from clear.datasets import ShardBatchSampler, ShardSampler, WebDatasetPairs, build_transform, decode_image

TRANSFORM = [dict(type='Resize', size=32), dict(type='ToTensor')]
BUFFER, BATCH, SHARDS = 500, 50, 4


def write_shards(folder: Path, count: int, size: int) -> list[str]:
    """Smooth noise, so that a file has some bytes a pixel as photographs have."""
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        with TarWriter(str(folder / f'{shard}.tar'), mtime=0) as writer:
            for row in range(count // SHARDS):
                coarse = rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8)
                stored = io.BytesIO()
                Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(stored, 'JPEG', quality=85)
                writer.write({'__key__': f'{shard}{row:06}', 'jpg': stored.getvalue(), 'txt': f'caption {row}',
                              'cls': row % 7})
    return [str(folder / f'{shard}.tar') for shard in range(SHARDS)]


def loops(folder: Path, urls: list[str]) -> dict:
    """Name -> (ours, bare); each reads everything once and returns the number of samples."""
    dataset, transform = WebDatasetPairs(str(folder), TRANSFORM), build_transform(TRANSFORM)
    sampler = ShardSampler(dataset, seed=0, buffer_size=BUFFER)

    def bare(work) -> int:
        return sum(1 for sample in WebDataset(urls, shardshuffle=False).shuffle(BUFFER, initial=BUFFER)
                   if work(sample))

    def read(sample: dict) -> tuple:
        return decode_image(sample['jpg']), sample['txt'].decode()

    def make(sample: dict) -> tuple:
        return transform(decode_image(sample['jpg'])), sample['txt'].decode(), int(sample['cls'])

    def ours_read() -> int:
        return sum(1 for _, row in sampler if (dataset.images.open_image(row), dataset.images.captions(row)))

    def ours_make() -> int:
        return sum(len(dataset.__getitems__(keys)) for keys in ShardBatchSampler(sampler, BATCH))

    return dict(reading=(ours_read, lambda: bare(read)), samples=(ours_make, lambda: bare(make)))


def timed(function, count: int) -> float:
    started = time.process_time()
    assert function() == count
    return time.process_time() - started


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--size', type=int, default=64, help='pixels of a side (default: %(default)s)')
    parser.add_argument('--small', action='store_true', help='few images, to see that it runs')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    count, ratios = 200 if args.small else 2000, {}
    with tempfile.TemporaryDirectory() as name:
        urls = write_shards(Path(name), count, args.size)
        for title, (ours, bare) in loops(Path(name), urls).items():
            pairs = []
            for number in range(args.rounds):
                found = [timed(each, count) for each in ((ours, bare) if number % 2 else (bare, ours))]
                pairs.append(found if number % 2 else found[::-1])
            own, theirs = (statistics.median(times) for times in zip(*pairs))
            print(f'{title:8} {own / count * 1e6:6.0f} us a pair, bare loop {theirs / count * 1e6:6.0f} us (CPU)',
                  flush=True)
            ratios[title] = statistics.median(theirs / own for own, theirs in pairs)
    print(json.dumps({title: round(value, 3) for title, value in ratios.items()}))


if __name__ == '__main__':
    main()
