"""Batches from a feature bank against a DataLoader over per-sample items, and against bare tensor indexing.

One pass over shuffled features in batches of 256, as an epoch of head training takes them. In turn: the bank
(`FeatureBank.batches`), the peer (`DataLoader` over a data set whose items are one row of the same file as float32 and
its label, collated), the same loader over rows that are in memory as float32, and the limit (batches indexed from a
tensor in memory, already float32). Process CPU time, one thread.

Claim: peer / bank >= 10.

    python benchmarks/bank_reading.py --rounds 5
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from clear.features import write_bank

BATCH_SIZE = 256


class Items(Dataset):
    """A row and its label per item, from the same memory-mapped file."""

    def __init__(self, bank):
        self.features, self.labels = bank.features, bank.labels.tolist()

    def __len__(self):
        return len(self.features)

    def __getitem__(self, row):
        return torch.from_numpy(self.features[row].astype(np.float32)), self.labels[row]


class ItemsInMemory(Items):
    """The same from tensors in memory that are float32 already."""

    def __init__(self, bank):
        self.features, labels = bank.tensors()
        self.labels = labels.tolist()

    def __getitem__(self, row):
        return self.features[row], self.labels[row]


def consume(batches) -> float:
    """Touch every batch, as a training step would; the sum proves that all candidates read the same."""
    return sum(float(features[:, 0].sum()) + float(labels.sum()) for features, labels in batches)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--small', action='store_true', help='a few rows, to see that it runs')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    count, dim = (2_000, 64) if args.small else (20_000, 512)
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        bank = write_bank(Path(folder) / 'bank', generator.normal(size=(count, dim)).astype(np.float32),
                          generator.integers(0, 10, count), dtype='float16')
        features, labels = bank.tensors()
        order = torch.from_numpy(generator.permutation(count))
        loader, in_memory = (DataLoader(items(bank), BATCH_SIZE, sampler=order.tolist())
                             for items in (Items, ItemsInMemory))
        candidates = {
            'bank': lambda: bank.batches(order, BATCH_SIZE), 'dataloader': lambda: loader,
            'dataloader_in_memory': lambda: in_memory,
            'limit': lambda: ((features[rows], labels[rows]) for rows in order.split(BATCH_SIZE))}
        sums = {name: consume(make()) for name, make in candidates.items()}  # also warms caches
        assert max(sums.values()) - min(sums.values()) < 1e-3 * count, sums
        times = {name: [] for name in candidates}
        for _ in range(args.rounds):
            for name, make in candidates.items():
                started = time.process_time()
                consume(make())
                times[name].append(time.process_time() - started)
    ratios = {f'{name}_over_bank': statistics.median(other / own for other, own in zip(times[name], times['bank']))
              for name in candidates if name != 'bank'}
    for name, values in times.items():
        print(f'{name:20} {statistics.median(values) * 1e3:9.2f} ms CPU per pass, {min(values) * 1e3:.2f} ... '
              f'{max(values) * 1e3:.2f}')
    print(json.dumps(dict(benchmark='bank_reading', rows=count, dim=dim, rounds=args.rounds, **ratios)))


if __name__ == '__main__':
    main()
