"""Seconds of one core per GB to read a checkpoint with its checksums, against plain `torch.load`, from the page cache.

    python benchmarks/checkpoint_reading.py --megabytes 1000 --rounds 7

The last line is a JSON object: seconds per GB (medians over the rounds) and their difference and ratio. Processor time
is measured, as other programs on the machine do not count in it.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from clear.core.files import load_tensors, save_tensors


def seconds(read, path: Path) -> float:
    start = time.process_time()
    read(path)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--megabytes', type=int, default=1000, help='size of the file (default: 1000)')
    parser.add_argument('--tensors', type=int, default=300, help='tensors in it (default: 300)')
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'checkpoint.pth'
        elements = args.megabytes * 250_000 // args.tensors
        save_tensors(path, {f'layer{index}.weight': torch.randn(elements) for index in range(args.tensors)})
        gigabytes = path.stat().st_size / 1e9
        readers = {'plain': lambda path: torch.load(path, map_location='cpu', weights_only=True),
                   'checked': load_tensors}
        times = {name: [] for name in readers}
        for _ in range(args.rounds + 1):
            for name, read in readers.items():
                times[name].append(seconds(read, path) / gigabytes)
    # The first round fills the page cache.
    medians = {name: statistics.median(each[1:]) for name, each in times.items()}
    spread = {name: f'{min(each[1:]):.3f} ... {max(each[1:]):.3f}' for name, each in times.items()}
    print(f'{gigabytes:.2f} GB, {args.tensors} tensors, {args.rounds} rounds, s/GB: '
          + ', '.join(f'{name} {medians[name]:.3f} ({spread[name]})' for name in medians))
    print(json.dumps(dict(plain_s_per_gb=round(medians['plain'], 3), checked_s_per_gb=round(medians['checked'], 3),
                          check_s_per_gb=round(medians['checked'] - medians['plain'], 3),
                          ratio=round(medians['checked'] / medians['plain'], 2))))


if __name__ == '__main__':
    main()
