"""What CLSA's multi-crop step costs beside its passes: ResNet-18, five weak and five strong crops, one thread.

In turn, in one process, CPU time, medians of round-wise ratios:

step: `clear`'s CLSA with a queue of 65,536 keys, from views to the updated weights;
passes: the same ten forward and backward passes of the query encoder, and the key encoder's forward, on the same
    views, and nothing else: no loss, no queue, no moving average, no optimiser.

Claim: step / passes <= 1.10.
"""

import argparse
import json
import statistics
import sys
import time

EXAMPLE = """example:
  python benchmarks/clsa_overhead.py --rounds 5
"""
DIM, SIZES = 128, (32, 28, 24, 20, 16)
CLAIM = 1.10


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='rounds of both in turn (default: 3)')
    parser.add_argument('--batch-size', type=int, default=32, help='images (default: 32)')
    parser.add_argument('--net', default='ResNet_CIFAR', choices=['ResNet', 'ResNet_CIFAR'],
                        help='the claim is for ResNet_CIFAR (default), whose maps fit small crops')
    parser.add_argument('--small', action='store_true', help='a small network and queue, to see that it runs')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch
    from mmengine.logging import MMLogger

    from clear.registry import MODELS

    MMLogger.get_instance('benchmark', log_level='WARNING')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone, width, queue_size = dict(type=args.net, depth=18), 512, 65536
    if args.small:
        backbone, width, queue_size = dict(backbone, stem_channels=8, base_channels=8), 64, 256
    model = MODELS.build(dict(
        type='CLSA', backbone=backbone, neck=dict(type='ProjectionMLP', in_channels=width, out_channels=DIM),
        queue_size=queue_size, num_weak=len(SIZES), num_strong=len(SIZES)))
    model.init_weights()
    views = [torch.randn(args.batch_size, 3, size, size) for size in (SIZES[0], *SIZES, *SIZES)]
    print(f'{backbone}, crops {SIZES}, batch {args.batch_size}, queue {queue_size}, 1 thread, '
          f'torch {torch.__version__}')
    steps = dict(step=whole_step(model, views), passes=passes(model, views))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for run in steps.values():
        run()
    for _ in range(args.rounds):
        for name, run in steps.items():
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    for name, values in times.items():
        print(f'{name:7} {1000 * statistics.median(values):8.1f} ms CPU '
              f'({1000 * min(values):.1f} to {1000 * max(values):.1f})')
    ratio = statistics.median(a / b for a, b in zip(times['step'], times['passes']))
    print(f'step / passes {ratio:.3f}, claimed: {CLAIM}')
    print(json.dumps(dict(benchmark='clsa_overhead', net=args.net, rounds=args.rounds,
                          step_over_passes=round(ratio, 3))))
    return 0


def whole_step(model, views):
    import torch

    optimizer = torch.optim.SGD(model.encoder_q.parameters(), 0.03, momentum=0.9, weight_decay=1e-4, fused=True)
    iteration = 0

    def run():
        nonlocal iteration
        # Not one of every tenth iteration, which also measures the accuracy: the median would not see it anyway.
        iteration += 1 if (iteration + 1) % 10 else 2
        model.set_progress(iteration, 1000, 100)
        losses = model(views, mode='loss')
        optimizer.zero_grad()
        (losses['loss_contrastive'] + losses['loss_divergence']).backward()
        optimizer.step()

    return run


def passes(model, views):
    import torch

    def run():
        model.encoder_q.zero_grad()
        sum(model.encoder_q(view).sum() for view in views[1:]).backward()
        with torch.no_grad():
            model.encoder_k(views[0])

    return run


if __name__ == '__main__':
    sys.exit(main())
