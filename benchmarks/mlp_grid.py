"""A grid of heads with a hidden layer of its own: all settings at once, against one after another.

project: `clear.evaluation.train_grid` with `hidden`; peer: for each setting `nn.Sequential`, autograd and `torch.optim`
on the same batches, indexed as tensors without a data loader; fused: the same with torch's fused optimisers. Three
sizes, inputs x hidden x 11 classes, batch 32; process CPU time. The weights are compared in float64 on 300 rows.
"""

import argparse
import json
import sys

from timing import cpu_s, ratio

EXAMPLE = """example:
  python benchmarks/mlp_grid.py --rounds 3
"""
NUM_CLASSES, BATCH = 11, 32
# Inputs and hidden width -> iterations of every setting.
SIZES = {(512, 512): 200, (64, 64): 400, (4096, 512): 40}
SMALL = {(32, 16): 20, (64, 64): 20, (128, 512): 5}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='rounds of project and peers in turn (default: 3)')
    parser.add_argument('--optimizers', nargs='+', default=['adam'], choices=['adam', 'sgd'],
                        help='of the settings (default: adam, the one of ViRB)')
    parser.add_argument('--small', action='store_true', help='few iterations on small heads')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    from clear.evaluation import expand_grid

    torch.set_num_threads(1)
    rates = [1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3][:8 // len(args.optimizers)]
    points = expand_grid(rates, [0.0, 1e-4], args.optimizers)
    print(f'{len(points)} settings, {NUM_CLASSES} classes, batch {BATCH}, 1 thread, torch {torch.__version__}')
    found = {}
    for (dim, hidden), iterations in (SMALL if args.small else SIZES).items():
        features, labels = make_features(BATCH * min(iterations, 50), dim)
        options = dict(epochs=max(1, iterations // 50), hidden=hidden)
        rounds = []
        for number in range(args.rounds):
            times = measured(points, features, labels, **options)
            rounds.append(times)
            print(f'{dim} x {hidden}, round {number + 1}: '
                  + '  '.join(f'{name} {value:.2f} cpu-s' for name, value in times.items()))
        found[f'{dim}x{hidden}'] = dict(peer_over_project=ratio(rounds, 'peer', 'project'),
                                        fused_over_project=ratio(rounds, 'fused', 'project'))
    difference = max(largest_difference(points, dim, hidden) for dim, hidden in ((33, 17), (96, 400)))
    print(f'float64: largest difference of a weight {difference:.1e}')
    print(json.dumps(dict(benchmark='mlp_grid', settings=len(points), rounds=args.rounds, sizes=found,
                          float64_difference=difference)))
    return 0


def measured(points, features, labels, **options):
    """CPU seconds of one round."""
    from clear.evaluation import train_grid

    return dict(project=cpu_s(lambda: train_grid(features, labels, NUM_CLASSES, points, batch_size=BATCH, **options)),
                peer=cpu_s(lambda: [train_alone(point, features, labels, **options) for point in points]),
                fused=cpu_s(lambda: [train_alone(point, features, labels, fused=True, **options) for point in points]))


def make_features(num_rows, dim):
    """Gaussian blobs: (N, D) float32 and (N,) int64."""
    import torch

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(NUM_CLASSES, (num_rows,), generator=generator)
    centres = torch.randn(NUM_CLASSES, dim, generator=generator) * 0.2
    return centres[labels] + torch.randn(num_rows, dim, generator=generator), labels


def train_alone(point, features, labels, *, epochs, hidden, fused=None):
    """One head the usual way; returns its parameters."""
    import torch

    from clear.evaluation.image.grid.stacked import initial_layers
    from clear.evaluation.image.grid.training import batch_order

    sizes = [features.shape[1], hidden, NUM_CLASSES]
    head = torch.nn.Sequential(torch.nn.Linear(*sizes[:2]), torch.nn.ReLU(), torch.nn.Linear(*sizes[1:]))
    head = head.to(features.dtype)
    with torch.no_grad():
        for layer, (weight, bias) in zip((head[0], head[2]), initial_layers(sizes, point.seed, features.dtype)):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    settings = dict(lr=point.lr, weight_decay=point.weight_decay, fused=fused)
    optimizer = (torch.optim.SGD(head.parameters(), momentum=0.9, **settings) if point.optimizer == 'sgd'
                 else torch.optim.Adam(head.parameters(), **settings))
    for epoch in range(epochs):
        for rows in batch_order(len(labels), BATCH, epoch, 0):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(features[rows]), labels[rows]).backward()
            optimizer.step()
    return [parameter.detach() for parameter in head.parameters()]


def largest_difference(points, dim, hidden):
    """Largest absolute difference of a parameter between the grid and every head alone, in float64, on 300 rows."""
    from clear.evaluation import train_grid

    features, labels = make_features(300, dim)
    features = features.double()
    heads = train_grid(features, labels, NUM_CLASSES, points, batch_size=BATCH, epochs=3, hidden=hidden).heads
    worst = 0.0
    for column, point in enumerate(points):
        alone = train_alone(point, features, labels, epochs=3, hidden=hidden)
        together = [tensor[column] for layer in zip(heads.weights, heads.biases) for tensor in layer]
        worst = max(worst, *((one - other).abs().max().item() for one, other in zip(alone, together)))
    return worst


if __name__ == '__main__':
    sys.exit(main())
