"""CPU time of listing N unreadable images: it grows with N, not with its square.

    python benchmarks/bad_samples.py

N = 1000, 2000, 4000 of 400,000 images, the 1 % that a run tolerates. A ratio is the time of twice as many images
divided by the time of N, the smallest of the rounds each; 2 is linear.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--small', action='store_true', help='100, 200 and 400 images: checks that the script runs')
    args = parser.parse_args(argv)
    sizes = (100, 200, 400) if args.small else (1000, 2000, 4000)
    seconds = {size: min(cpu_time(size, 100 * sizes[-1]) for _ in range(args.rounds)) for size in sizes}
    for size, each in seconds.items():
        print(f'{size:6} images {each:8.3f} s')
    print(json.dumps(dict(seconds={str(size): round(each, 4) for size, each in seconds.items()},
                          ratios=[round(seconds[more] / seconds[less], 2) for less, more in zip(sizes, sizes[1:])])))
    return 0


def cpu_time(count: int, total: int) -> float:
    from clear.datasets import BadSamples

    with tempfile.TemporaryDirectory() as folder:
        bad = BadSamples(Path(folder) / 'bad_samples.jsonl', {'train': total})
        start = time.process_time()
        for number in range(count):
            bad.report('train', '1', f'labeled_images/1/class/{number:09}.jpg', 'image file is truncated')
        return time.process_time() - start


if __name__ == '__main__':
    raise SystemExit(main())
