"""A stream of 1,000 experiences of 4 feature rows: does an experience cost the same at the end as at the start?

One run of Naive on a linear head, in this process, one thread. After every experience the run tests all buckets, so an
experience costs as much as there are buckets, 1,000 here; that part (`evaluation`) is timed by itself. What is left is
training, the journal, the checkpoint and `results.json`, which is written every ten seconds. CPU seconds, which other
work on the machine changes least; a hundred experiences each.

Claim: the last hundred <= 1.2 x the first hundred.

    python benchmarks/many_experiences.py
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

EDGE = 100


def config(root: Path, num_classes: int, dim: int) -> dict:
    return dict(scenario=dict(type='CLEAR', data_root=str(root), seed=0, feature=dict(bank=str(root / 'bank'))),
                model=dict(head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=dim)),
                cl_strategy=dict(type='Naive', train_mb_size=4, eval_mb_size=4, train_epochs=1,
                                 optimizer=dict(type='SGD', lr=0.1)),
                loggers=[], metrics=[], device='cpu', report=False)


def measure(experiences: int, rows: int, dim: int) -> list[tuple[float, float]]:
    """(CPU seconds, of these in the tests) of every experience."""
    import torch

    from clear.continual.scenarios.base import ScenarioInfo, TensorBucket, make_benchmark
    from clear.engine.continual.runner import ContinualRunner

    torch.set_num_threads(1)
    times: list[tuple[float, float]] = []

    class Timed(ContinualRunner):
        def build_data(self) -> None:
            generator = torch.Generator().manual_seed(0)

            def buckets() -> list[TensorBucket]:
                return [TensorBucket(torch.randn(rows, dim, generator=generator), torch.arange(rows) % 2)
                        for _ in range(experiences)]

            info = ScenarioInfo(class_names=['a', 'b'], bucket_names=[str(number) for number in range(experiences)],
                                protocol='iid', fingerprint='0', train=buckets(), test=buckets())
            self.benchmark, self.info = make_benchmark(info), info

        def _run_experience(self, experience: int) -> None:
            started = time.process_time()
            super()._run_experience(experience)
            times.append((time.process_time() - started, self.tested_s))

        def _measure(self, experience: int) -> tuple[list, list]:
            started = time.process_time()
            rows = super()._measure(experience)
            self.tested_s = time.process_time() - started
            return rows

    with tempfile.TemporaryDirectory() as folder:
        runner = Timed(config(Path(folder), 2, dim), Path(folder) / 'run')
        runner.build()
        runner.train()
        size = {name: (Path(folder) / 'run' / name).stat().st_size for name in
                ('latest.pth', 'results.json', 'matrix.jsonl')}
    print('bytes at the end', size)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--experiences', type=int, default=1000)
    parser.add_argument('--rows', type=int, default=4)
    parser.add_argument('--dim', type=int, default=16)
    args = parser.parse_args()
    times = measure(args.experiences, args.rows, args.dim)
    edge = min(EDGE, len(times) // 2)
    parts = dict(whole=lambda entry: entry[0], evaluation=lambda entry: entry[1],
                 rest=lambda entry: entry[0] - entry[1])
    seconds = {name: [sum(map(part, chosen)) / edge for chosen in (times[:edge], times[-edge:])]
               for name, part in parts.items()}
    for name, (first, last) in seconds.items():
        print(f'{name:11} {1e3 * first:8.2f} ms an experience of the first {edge}, {1e3 * last:8.2f} ms of the last')
    print(json.dumps({f'{name}_last_over_first': last / first for name, (first, last) in seconds.items()}))


if __name__ == '__main__':
    main()
