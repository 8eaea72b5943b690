"""Ranks of relevant passages in a collection as large as MS MARCO's first million, against the matrix product alone.

project: `PassageRanks` by cosine (and by cosine and dot product at once) of 1,000 queries among 1,000,000 x 384
synthetic passages, in chunks of 50,000; limit: the product in blocks of 4,096 passages and nothing else. The passages
lie in a file that is mapped, and each chunk is read before it is timed: what is measured is the search.
"""

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

from timing import cpu_s, ratio

EXAMPLE = """example:
  python benchmarks/passage_search.py --rounds 3
"""
CHUNK = 50_000


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='rounds of project and limit in turn (default: 3)')
    parser.add_argument('--small', action='store_true', help='20,000 x 32 passages and 50 queries')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import numpy as np
    import torch

    torch.set_num_threads(1)
    count, num_queries, dim = (20_000, 50, 32) if args.small else (1_000_000, 1000, 384)
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(num_queries, dim, generator=generator)
    relevant = torch.randperm(count, generator=generator)[:num_queries]  # one for each query
    print(f'{num_queries:,} queries, {count:,} x {dim} passages, k = 100, 1 thread, torch {torch.__version__}')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'passages.npy'
        stored = np.lib.format.open_memmap(path, 'w+', np.float32, (count, dim))
        for start in range(0, count, CHUNK):
            rows = torch.randn(min(CHUNK, count - start), dim, generator=generator)
            stored[start:start + CHUNK] = rows.numpy()
        stored.flush()
        del stored
        rounds = [one_round(number, path, queries, relevant) for number in range(1, args.rounds + 1)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(dict(benchmark='passage_search', rounds=args.rounds,
                          cosine_over_limit=ratio(rounds, 'cosine', 'limit'),
                          both_over_limit=ratio(rounds, 'both', 'limit'), peak_gib=round(peak, 2))))
    return 0


def one_round(number, path, queries, relevant) -> dict[str, float]:
    """CPU seconds of each, chunk by chunk in turn, so that all see the machine in the same state."""
    import numpy as np
    import torch

    from clear.evaluation.text.passage_search import PassageRanks

    searches = dict(cosine=PassageRanks(queries, kinds=['cosine']), both=PassageRanks(queries))
    times = dict.fromkeys([*searches, 'limit'], 0.0)
    stored = np.load(path, mmap_mode='r')
    for start in range(0, len(stored), CHUNK):
        chunk = torch.from_numpy(np.array(stored[start:start + CHUNK]))
        own = ((relevant >= start) & (relevant < start + CHUNK)).nonzero().squeeze(1)
        for name, search in searches.items():
            times[name] += cpu_s(lambda: search.add(chunk, own, relevant[own] - start))  # noqa: B023
        times['limit'] += cpu_s(lambda: products_only(queries, chunk))  # noqa: B023
    for name, search in searches.items():
        times[name] += cpu_s(search.ranks)
    print(f'round {number}: ' + '  '.join(f'{name} {value:.2f} cpu-s' for name, value in times.items()))
    return times


def products_only(queries, passages) -> None:
    import torch

    out = torch.empty(len(queries), 4096)
    for start in range(0, len(passages), 4096):
        block = passages[start:start + 4096]
        torch.mm(queries, block.T, out=out if len(block) == 4096 else torch.empty(len(queries), len(block)))


if __name__ == '__main__':
    sys.exit(main())
