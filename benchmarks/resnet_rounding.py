"""How far apart two equal trainings of a BatchNorm ResNet end, if one of them is rounded otherwise.

A stream of handwritten digits (three buckets, ResNet-18 on 32 pixels, SGD with momentum), trained

product: by `clear`'s continual runner;
plain: by a loop of plain PyTorch over the same batches, from the same weights;
nudged: by that loop, from weights of which each but 0 is the next number of its type (1e-7 off in float32, 2e-16 in
float64).

Printed are, after 1, 3, 10 and all iterations, the distance of the weights from plain's, relative to how far these had
moved, and the largest difference in the last row of the accuracy matrix. If product and plain agree and plain and
nudged do not, then differences between such runs are rounding, which BatchNorm amplifies, and no fault.

Claim: product equals plain to the last bit.
"""

import argparse
import json
import sys
import tempfile

EXAMPLE = """example:
  python benchmarks/resnet_rounding.py --epochs 4
"""
LENET = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=10, in_channels=120))
STEPS, BUCKETS = (1, 3, 10), 3


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=4, help='of each bucket (default: 4)')
    parser.add_argument('--limit', type=int, default=100, help='digits that the stream is made of (default: 100)')
    parser.add_argument('--lr', type=float, default=0.05, help='rate (default: 0.05)')
    parser.add_argument('--dtype', choices=['float32', 'float64'], default='float32',
                        help='float64 takes several times as long (default: float32)')
    parser.add_argument('--width', type=int, default=64, help='channels of the first stage of the ResNet (default: 64)')
    parser.add_argument('--branches-from-zero', action=argparse.BooleanOptionalAction, default=True,
                        help="the ResNet's residual branches start at 0, as by default in mmpretrain (default: yes)")
    parser.add_argument('--strategy', choices=['Naive', 'Replay'], default='Naive',
                        help='Replay has a memory of 24 digits, which the batches bring along (default: Naive)')
    parser.add_argument('--net', choices=['resnet', 'lenet'], default='resnet', help='lenet has no BatchNorm')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    from clear.datasets.make.demo import write_demo

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        write_demo(root, limit=args.limit)
        found = compare(args, root, getattr(torch, args.dtype))
    for name, values in found.items():
        print(f'{name:8} {values}')
    print(json.dumps(dict(benchmark='resnet_rounding', **vars(args), **found)))
    return 0


def model_config(args) -> dict:
    if args.net == 'lenet':
        return LENET
    return dict(backbone=dict(type='ResNet', depth=18, stem_channels=args.width, base_channels=args.width,
                              zero_init_residual=args.branches_from_zero),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=8 * args.width))


def compare(args, root, dtype) -> dict:
    """Distances from the plain loop: of the product and of the nudged loop."""

    start, batches, product, tests = run_product(args, root, dtype)
    plain = run_plain(args, start, batches, tests)
    nudged = {key: next_numbers(value) if value.is_floating_point() else value for key, value in start.items()}
    return dict(product=distances(product, plain, start),
                nudged=distances(run_plain(args, nudged, batches, tests), plain, start))


def next_numbers(value):
    import torch

    # Zeros stay: a residual branch begins at exactly 0, where the gradient of ReLU jumps, which is no rounding.
    return torch.where(value == 0, value, torch.nextafter(value, torch.full_like(value, torch.inf)))


def run_product(args, root, dtype):
    """First weights, batches as (experience, inputs, targets), {step: weights, 'accuracies': ...}, test tensors."""
    from unittest import mock

    import torch

    from clear.engine.continual.record import RunRecord
    from clear.engine.continual.runner import ContinualRunner

    transform = [dict(type='ToTensor')] if args.net == 'resnet' else [dict(type='Grayscale'), dict(type='ToTensor')]
    scenario = dict(type='CLEAR', data_root=root, data_name='demo', evaluation_protocol='iid', seed=0,
                    train_transform=transform, eval_transform=transform)
    memory = dict(mem_size=24) if args.strategy == 'Replay' else {}
    runner = ContinualRunner(dict(
        scenario=scenario, model=model_config(args), loggers=[], metrics=[],
        cl_strategy=dict(type=args.strategy, **memory, train_mb_size=24, eval_mb_size=100, train_epochs=args.epochs,
                         optimizer=dict(type='SGD', lr=args.lr, momentum=0.9))))
    runner.build()
    runner.model.to(dtype).register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))
    start = copied(runner.model)
    batches, weights = [], {}
    before = type(runner.strategy)._before_forward

    def note(self, **kwargs):
        if len(batches) in STEPS:
            weights[len(batches)] = copied(self.model)
        batches.append((self.clock.train_exp_counter, self.mb_x.clone().to(dtype), self.mb_y.clone()))
        before(self, **kwargs)

    type(runner.strategy)._before_forward = note
    try:
        with mock.patch.object(RunRecord, 'total', BUCKETS):  # the first ones alone
            runner.train()
    finally:
        type(runner.strategy)._before_forward = before
    weights['end'] = copied(runner.model)
    weights['accuracies'] = runner.record.acc_matrix[BUCKETS - 1]
    tests = [(torch.stack([row[0] for row in test]).to(dtype), torch.tensor([int(row[1]) for row in test]))
             for test in runner.info.test]
    return start, batches, weights, tests


def run_plain(args, start, batches, tests) -> dict:
    """The same in a loop: SGD anew for each bucket, cross-entropy, model in train mode."""
    import torch

    from clear.models import build_classifier

    model = build_classifier(model_config(args)).to(next(iter(start.values())).dtype)
    model.load_state_dict(start)
    model.train()
    weights, bucket = {}, None
    for step, (experience, inputs, targets) in enumerate(batches):
        if step in STEPS:
            weights[step] = copied(model)
        if experience != bucket:
            bucket, optimizer = experience, torch.optim.SGD(model.parameters(), args.lr, momentum=0.9)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    weights['end'] = copied(model)
    model.eval()
    with torch.no_grad():
        weights['accuracies'] = [(model(inputs).argmax(1) == targets).double().mean().item()
                                 for inputs, targets in tests]
    return weights


def copied(model) -> dict:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def distances(found, wanted, start) -> dict:
    """By step: how far weights are apart, relative to how far they moved; the largest difference in accuracy."""
    import torch

    def flat(state):
        return torch.cat([state[key].double().flatten() for key in start if start[key].is_floating_point()])

    steps = {}
    for step in (each for each in (*STEPS, 'end') if each in wanted):
        apart, moved = flat(found[step]) - flat(wanted[step]), flat(wanted[step]) - flat(start)
        steps[str(step)] = float(f'{(apart.norm() / moved.norm()).item():.1e}')
    apart = [abs(one - other) for one, other in zip(found['accuracies'], wanted['accuracies'])]
    return dict(weights=steps, accuracy=round(max(apart), 4))


if __name__ == '__main__':
    sys.exit(main())
