"""Exact cosine neighbours without faiss, against faiss's flat index.

project: `clear.evaluation.nearest_neighbours(backend='torch')`; peer: `faiss.IndexFlatIP`, with its normalisation and
its build; limit: the matrix product in blocks and nothing else. Without faiss only project and limit are measured.
"""

import argparse
import json
import sys

from timing import cpu_s, ratio

EXAMPLE = """example:
  python benchmarks/knn.py --rounds 5
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5, help='rounds of project, peer and limit in turn (default: 5)')
    parser.add_argument('--small', action='store_true', help='2,000 x 32 rows and 50 queries in place of 50,000 x 512')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    from clear.evaluation import nearest_neighbours

    torch.set_num_threads(1)
    num_rows, num_queries, dim = (2000, 50, 32) if args.small else (50000, 1000, 512)
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(num_rows, dim, generator=generator)
    queries = torch.randn(num_queries, dim, generator=generator)
    has_faiss = faiss_module() is not None
    print(f'{num_queries:,} queries, {num_rows:,} x {dim} rows, k = 20, 1 thread, torch {torch.__version__}')
    if not has_faiss:
        print("faiss is not installed: the peer is left out (pip install 'clear-framework[curate]').")
    rounds = []
    for number in range(args.rounds):
        times = dict(project=cpu_s(lambda: nearest_neighbours(queries, base, 20, backend='torch')),
                     limit=cpu_s(lambda: products_only(queries, base)))
        if has_faiss:
            times['peer'] = cpu_s(lambda: by_faiss(queries, base, 20))
        rounds.append(times)
        print(f'round {number + 1}: ' + '  '.join(f'{name} {value:.3f} cpu-s' for name, value in times.items()))
    agreement = None
    if has_faiss:
        same = nearest_neighbours(queries, base, 20, backend='torch')[1] == by_faiss(queries, base, 20)
        agreement = round(same.double().mean().item(), 6)
        print(f'share of equal neighbours: {agreement}')
    print(json.dumps(dict(benchmark='knn', rounds=args.rounds,
                          project_over_peer=ratio(rounds, 'project', 'peer') if has_faiss else None,
                          project_over_limit=ratio(rounds, 'project', 'limit'), faiss=has_faiss, equal=agreement)))
    return 0


def faiss_module():
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    return faiss


def by_faiss(queries, base, k):
    """Rows (Q, k) of faiss's flat index of inner products."""
    import torch
    from torch.nn import functional

    index = faiss_module().IndexFlatIP(base.shape[1])
    index.add(functional.normalize(base, dim=1).numpy())
    return torch.from_numpy(index.search(functional.normalize(queries, dim=1).numpy(), k)[1])


def products_only(queries, base):
    import torch

    out = torch.empty(len(queries), 4096)
    for start in range(0, len(base), 4096):
        block = base[start:start + 4096]
        torch.mm(queries, block.T, out=out if len(block) == 4096 else torch.empty(len(queries), len(block)))


if __name__ == '__main__':
    sys.exit(main())
