"""Recall at 1, 5 and 10, both ways, of 5,000 images and 25,000 captions, against CLIP_benchmark's metric.

project: `ImageTextRetrieval.measure`; peer: the scores, the matrix of positives and `recall_at_k` of
`clip_benchmark.metrics.zeroshot_retrieval`, in batches of 64, as its `evaluate` calls them; limit: both sides
normalised and their matrix product, in one call. Memory is the growth of the process's peak, each in a process of its
own. Without clip-benchmark only project and limit are measured.
"""

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path

from timing import ratio

EXAMPLE = """example:
  python benchmarks/retrieval_metrics.py --rounds 3
"""
KS = (1, 5, 10)


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='rounds of project, peer and limit in turn (default: 3)')
    parser.add_argument('--small', action='store_true', help='100 images and 500 captions of 32 numbers')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1)
    data = pairs(args.small)
    works = dict(project=project, limit=product)
    if peer_module() is None:
        print('clip-benchmark is not installed: the peer is left out.')
    else:
        works['peer'] = peer
    print(f'{len(data[0]):,} images, {len(data[1]):,} captions, {data[0].shape[1]} numbers, 1 thread, '
          f'torch {torch.__version__}')
    for work in works.values():
        work(*pairs(True))  # imports are no part of it
    rounds, values = [], {}
    for number in range(args.rounds):
        times = {}
        for name, work in works.items():
            started = time.process_time()
            values[name] = work(*data)
            times[name] = time.process_time() - started
        rounds.append(times)
        print(f'round {number + 1}: ' + '  '.join(f'{name} {value:.3f} cpu-s' for name, value in times.items()))
    memory = {name: in_own_process(work, args.small) for name, work in works.items()}
    print('memory: ' + '  '.join(f'{name} {value / 2**20:.0f} MB' for name, value in memory.items()))
    has_peer = 'peer' in works
    largest = max(abs(values['project'][name] - value) for name, value in values['peer'].items()) if has_peer else None
    print(json.dumps(dict(
        benchmark='retrieval_metrics', rounds=args.rounds,
        project_over_peer=ratio(rounds, 'project', 'peer') if has_peer else None,
        project_over_limit=ratio(rounds, 'project', 'limit'),
        memory_over_peer=round(memory['project'] / memory['peer'], 3) if has_peer else None,
        largest_difference=largest)))
    return 0


def pairs(is_small: bool):
    """Images, five captions near each, and the image of each caption."""
    import torch

    num_images, dim = (100, 32) if is_small else (5000, 512)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num_images, dim, generator=generator)
    owners = torch.arange(num_images).repeat_interleave(5)
    return images, images[owners] + 8 * torch.randn(len(owners), dim, generator=generator), owners


def project(images, texts, owners) -> dict[str, float]:
    from clear.evaluation import ImageTextRetrieval

    found = ImageTextRetrieval(ks=KS).measure(images, texts, owners)
    return {name: value for name, value in found.items() if '_R@' in name}


def peer(images, texts, owners) -> dict[str, float]:
    import torch
    from torch.nn import functional

    module = peer_module()
    scores = functional.normalize(texts, dim=1) @ functional.normalize(images, dim=1).T
    positives = torch.zeros_like(scores, dtype=torch.bool)
    positives[torch.arange(len(scores)), owners] = True
    found = {}
    for k in KS:
        for way, each, right in (('text2image', scores, positives), ('image2text', scores.T, positives.T)):
            hits = module.batchify(module.recall_at_k, each, right, 64, 'cpu', k=k) > 0
            found[f'{way}_R@{k}'] = hits.double().mean().item()
    return found


def product(images, texts, owners):
    from torch.nn import functional

    return functional.normalize(texts, dim=1) @ functional.normalize(images, dim=1).T


def peer_module():
    try:
        from clip_benchmark.metrics import zeroshot_retrieval
    except ImportError:
        return None
    return zeroshot_retrieval


def in_own_process(work, is_small: bool) -> int:
    """Bytes by which one call lets the peak of a fresh process grow."""
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure_peak, args=(sender, work, is_small))
    process.start()
    sender.close()
    value = receiver.recv()
    process.join()
    return value


def measure_peak(sender, work, is_small: bool) -> None:
    import torch

    torch.set_num_threads(1)
    work(*pairs(True))  # imports, and what libraries set up
    data = pairs(is_small)
    before = status_bytes('VmRSS')
    work(*data)
    sender.send(status_bytes('VmHWM') - before)


def status_bytes(name: str) -> int:
    """Of this process (Linux). Not `ru_maxrss`, which begins with that of the process that started this one."""
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == '__main__':
    sys.exit(main())
