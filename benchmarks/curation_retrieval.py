"""The most similar rows of a memory-mapped bank, exactly, against faiss's flat index and against the products alone.

In turn, in one process with one thread: `one`, `clear.curation.retrieval.search.top_scores` in one direction; `both`,
with the least similar rows from the same products; `half`, from a float16 bank; the peer `faiss.IndexFlatIP`, which
holds the rows in memory already; and as limits one product of the whole matrix (`gemm`), and the same with float16
converted by blocks (`half_gemm`). Without faiss it is left out.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from timing import cpu_s

EXAMPLE = """example:
  OMP_NUM_THREADS=1 python benchmarks/curation_retrieval.py --rounds 3
"""
RATIOS = (('one', 'gemm'), ('both', 'gemm'), ('half', 'half_gemm'), ('faiss', 'one'))


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--dim', type=int, default=512)
    parser.add_argument('--prompts', type=int, default=11)
    parser.add_argument('--q', type=int, default=16_000)
    parser.add_argument('--rounds', type=int, default=3)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import warnings

    import numpy as np
    import torch

    from clear.curation.retrieval.search import top_scores, unit_queries
    from clear.features.writing import write_bank

    warnings.filterwarnings('ignore', 'The given NumPy array is not writable')
    torch.set_num_threads(1)
    queries = unit_queries(np.random.default_rng(0).normal(size=(args.prompts, args.dim)))
    with tempfile.TemporaryDirectory() as folder:
        features = unit_vectors(args.rows, args.dim)
        banks = {dtype: write_bank(Path(folder) / dtype, features, np.full(args.rows, -1), class_names=[], dtype=dtype)
                 for dtype in ('float32', 'float16')}
        whole = torch.from_numpy(features)
        peer = flat_index(whole.numpy())
        works = dict(gemm=lambda: torch.mm(torch.from_numpy(queries), whole.T),
                     half_gemm=lambda: converted_products(banks['float16'], torch.from_numpy(queries)),
                     one=lambda: top_scores([banks['float32']], queries, args.q),
                     both=lambda: top_scores([banks['float32']], queries, args.q, both=True),
                     half=lambda: top_scores([banks['float16']], queries, args.q))
        if peer is not None:
            works['faiss'] = lambda: peer.search(queries, args.q)
        for work in works.values():
            work()  # files are mapped then, and memory is there
        rounds = []
        for number in range(args.rounds):
            rounds.append({name: cpu_s(work) for name, work in works.items()})
            print(f'round {number + 1}, cpu-s: ' + '  '.join(f'{name} {took:.2f}' for name, took in rounds[-1].items()))
        equal = None
        if peer is not None:
            found = top_scores([banks['float32']], queries, args.q).highest.rows
            equal = min(len(np.intersect1d(a, b)) / args.q for a, b in zip(found, peer.search(queries, args.q)[1]))
    ratios = {f'{one}_over_{other}': round(statistics.median(each[one] / each[other] for each in rounds), 2)
              for one, other in RATIOS if one in works}
    print(json.dumps(dict(benchmark='curation_retrieval', rows=args.rows, dim=args.dim, prompts=args.prompts, q=args.q,
                          rounds=args.rounds, **ratios, least_share_equal_to_faiss=equal)))
    return 0


def unit_vectors(rows, dim):
    """(N, D) float32 random directions."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    features = torch.empty(rows, dim)
    for part in features.split(50_000):
        functional.normalize(part.normal_(generator=generator), dim=1, out=part)
    return features.numpy()


def flat_index(features):
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(features.shape[1])
    index.add(features)
    return index


def converted_products(bank, queries) -> None:
    import numpy as np
    import torch

    stored = np.asarray(bank.features)
    block, out = torch.empty(4096, bank.dim), torch.empty(len(queries), 4096)
    for start in range(0, len(stored), 4096):
        part = block[:len(stored[start:start + 4096])]
        part.copy_(torch.from_numpy(stored[start:start + 4096]))
        torch.mm(queries, part.T, out=out if len(part) == 4096 else None)


if __name__ == '__main__':
    sys.exit(main())
