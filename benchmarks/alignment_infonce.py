"""InfoNCE with 8,192 pairs of 512 numbers, forward and backward, float32, one thread.

In turn, in one process, CPU time, medians of round-wise ratios:

ours: `InfoNCELoss`, whose scores are streamed through one small buffer;
matrices: the usual form: normalise, one matrix of scores for each direction, two cross-entropies;
one_matrix: the same with one matrix of scores and its transpose;
open_clip: `open_clip.ClipLoss` on normalised rows;
products: three products of matrices, the scores and the gradients of both towers, and nothing else: the limit of a form
    that holds its scores.

Memory is the growth of the resident set at its highest, forward and backward of one step, each form in a process of its
own; the pairs and what a small step before allocates are not counted.

Seen on two busy AMD EPYC cores, 5 rounds: 0.595 x matrices, 1.46 x products; memory 0.075 of matrices'.

Claims: ours <= 0.7 x matrices, <= 1.8 x products; memory of ours <= 1/7 of matrices'.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time

EXAMPLE = """example:
  python benchmarks/alignment_infonce.py --rounds 3
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='rounds of all forms in turn (default: 3)')
    parser.add_argument('--pairs', type=int, default=8192, help='batch (default: 8192, which the claims are for)')
    parser.add_argument('--dim', type=int, default=512, help='width (default: 512)')
    parser.add_argument('--small', action='store_true', help='1,024 pairs of 64, to see that it runs')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1)
    num_pairs, dim = (1024, 64) if args.small else (args.pairs, args.dim)
    print(f'{num_pairs} pairs of {dim}, float32, 1 thread, torch {torch.__version__}')
    forms = dict(ours=ours, matrices=matrices, one_matrix=one_matrix, open_clip=open_clip)
    # First, while this process is small.
    memory = {name: extra_memory(form, num_pairs, dim) for name, form in forms.items()}
    steps = {name: step_of(form(), num_pairs, dim) for name, form in forms.items()}
    times = measure({**steps, 'products': products(num_pairs, dim)}, args.rounds)
    for name, values in times.items():
        print(f'{name:11}{statistics.median(values):7.3f} s CPU ({min(values):.3f} to {max(values):.3f})'
              + (f'{memory[name]:8.0f} MB' if name in memory else ''))
    ratios = {f'ours_over_{name}': ratio(times, name) for name in times if name != 'ours'}
    print(json.dumps(dict(
        benchmark='alignment_infonce', pairs=num_pairs, dim=dim, rounds=args.rounds, **ratios,
        **{f'memory_ours_over_{name}': round(memory['ours'] / max(value, 1e-9), 3) for name, value in memory.items()
           if name != 'ours'}, memory_mb={name: round(value) for name, value in memory.items()})))
    return 0


def measure(steps, rounds) -> dict[str, list[float]]:
    """CPU seconds of a step, by name and round; every step once before."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.process_time()
            step()
            times[name].append(time.process_time() - started)
    return times


def ratio(times, other) -> float:
    return round(statistics.median(a / b for a, b in zip(times['ours'], times[other])), 3)


def extra_memory(form, num_pairs, dim) -> float:
    """MB that a step needs beside its pairs, measured in a process of its own."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_memory, args=(form, num_pairs, dim, sender))
    process.start()
    sender.close()
    value = receiver.recv()
    process.join()
    return value


def _measure_memory(form, num_pairs, dim, sender) -> None:
    loss = form()
    step_of(loss, 64, dim)()
    step = step_of(loss, num_pairs, dim)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def step_of(loss, num_pairs, dim):
    """Forward and backward of one batch."""
    import torch

    generator = torch.Generator().manual_seed(0)
    towers = [torch.randn(num_pairs, dim, generator=generator).requires_grad_() for _ in range(2)]
    scale = torch.tensor(1 / 0.07, requires_grad=True)

    def step():
        for leaf in (*towers, scale):
            leaf.grad = None
        loss(*towers, scale).backward()

    return step


def ours():
    from clear.models.losses import InfoNCELoss

    criterion = InfoNCELoss()
    return lambda text, image, scale: criterion(text, image, logit_scale=scale)


def matrices():
    import torch
    from torch.nn.functional import cross_entropy, normalize

    def loss(text, image, scale):
        text, image = normalize(text, dim=1), normalize(image, dim=1)
        targets = torch.arange(len(text))
        return (cross_entropy(scale * image @ text.T, targets) + cross_entropy(scale * text @ image.T, targets)) / 2

    return loss


def one_matrix():
    import torch
    from torch.nn.functional import cross_entropy, normalize

    def loss(text, image, scale):
        scores = scale * normalize(image, dim=1) @ normalize(text, dim=1).T
        targets = torch.arange(len(text))
        return (cross_entropy(scores, targets) + cross_entropy(scores.T, targets)) / 2

    return loss


def open_clip():
    from open_clip.loss import ClipLoss
    from torch.nn.functional import normalize

    criterion = ClipLoss()
    return lambda text, image, scale: criterion(normalize(image, dim=1), normalize(text, dim=1), scale)


def products(num_pairs, dim):
    import torch

    rows, columns = torch.randn(2, num_pairs, dim)

    def step():
        scores = rows @ columns.T
        return scores @ columns, scores.T @ rows

    return step


if __name__ == '__main__':
    sys.exit(main())
