"""Time of a memory's update over a hundred experiences: it must depend on the new samples, not on the past.

Reservoir and biased reservoir of ours and Avalanche's reservoir, each with 1,000 places, updated by 100 experiences of
1,000 rows. Process CPU time, one thread; the ratio is the median of the last ten updates over that of updates 6 ... 15
(the first ones fill the memory). The limit is drawing one random number per new sample and sorting.

    python benchmarks/buffer_update.py --rounds 3
"""

import argparse
import json
import statistics
import time
import warnings

import torch

from clear.continual.buffers import BiasedReservoirSamplingBuffer, ReservoirSamplingBuffer
from clear.continual.scenarios.base import TensorBucket, task_aware


def updates(make, datasets) -> list[float]:
    """CPU seconds of each update."""
    buffer, times = make(), []
    for dataset in datasets:
        started = time.process_time()
        buffer.update_from_dataset(dataset)
        times.append(time.process_time() - started)
    return times


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--small', action='store_true', help='20 small experiences, to see that it runs')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    from avalanche.training.storage_policy import ReservoirSamplingBuffer as Stock

    count, rows = (20, 50) if args.small else (100, 1000)
    datasets = task_aware([TensorBucket(torch.zeros(rows, 4), torch.arange(rows) % 10) for _ in range(count)])
    ways = dict(reservoir=lambda: ReservoirSamplingBuffer(rows), biased=lambda: BiasedReservoirSamplingBuffer(rows),
                avalanche=lambda: Stock(rows))
    result = dict(benchmark='buffer_update', rounds=args.rounds)
    for name, make in ways.items():
        runs = [updates(make, datasets) for _ in range(args.rounds)]
        early = statistics.median(value for run in runs for value in run[5:15])
        late = statistics.median(value for run in runs for value in run[-10:])
        print(f'{name:10} {1000 * early:.2f} ms early, {1000 * late:.2f} ms late')
        result[f'{name}_late_over_early'] = late / early
    print(json.dumps(result))


if __name__ == '__main__':
    main()
