"""A grid of linear classifiers on stored features: all at once, against one after another with a data loader.

project: `clear.evaluation.train_grid`; peer: for each configuration a `DataLoader` over (row, label) samples,
`nn.Linear`, autograd, `torch.optim`; limit: the two matrix products of every iteration and nothing else.
All see the same batches. The weights of project and peer are compared in float64 on 2,000 rows.
"""

import argparse
import json
import math
import sys

from timing import cpu_s, ratio

EXAMPLE = """example:
  python benchmarks/linear_grid.py --rounds 3
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='rounds of project, peer and limit in turn (default: 3)')
    parser.add_argument('--epochs', type=int, default=2, help='epochs of every classifier (default: 2)')
    parser.add_argument('--small', action='store_true', help='1,000 x 32 features in place of 20,000 x 512')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    from clear.evaluation import expand_grid, train_grid

    torch.set_num_threads(1)
    num_rows, dim = (1000, 32) if args.small else (20000, 512)
    features, labels = make_features(num_rows, dim, 11)
    points = expand_grid([0.003, 0.01, 0.03, 0.1], [0.0, 1e-4], ['sgd', 'adam'], ['cosine'])
    options = dict(epochs=args.epochs, batch_size=256)
    print(f'{len(points)} configurations, {num_rows:,} x {dim} features, 11 classes, {args.epochs} epochs, batch 256, '
          f'1 thread, torch {torch.__version__}')
    rounds = []
    for number in range(args.rounds):
        times = dict(project=cpu_s(lambda: train_grid(features, labels, 11, points, **options)),
                     peer=cpu_s(lambda: [train_alone(point, features, labels, 11, **options) for point in points]),
                     limit=cpu_s(lambda: products_only(features, len(points) * 11, **options)))
        rounds.append(times)
        print(f'round {number + 1}: ' + '  '.join(f'{name} {value:.2f} cpu-s' for name, value in times.items()))
    difference = largest_difference(points, options, num_rows, dim)
    print(f'float64: largest difference of a weight {difference:.1e}')
    print(json.dumps(dict(benchmark='linear_grid', configurations=len(points), rounds=args.rounds,
                          peer_over_project=ratio(rounds, 'peer', 'project'),
                          project_over_limit=ratio(rounds, 'project', 'limit'), float64_difference=difference)))
    return 0


def make_features(num_rows, dim, num_classes):
    """Gaussian blobs: (N, D) float32 and (N,) int64."""
    import torch

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    centres = torch.randn(num_classes, dim, generator=generator) * 0.2
    return centres[labels] + torch.randn(num_rows, dim, generator=generator), labels


def train_alone(point, features, labels, num_classes, *, epochs, batch_size):
    """One head the usual way; returns its weight."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from clear.evaluation.image.grid.stacked import initial_head
    from clear.evaluation.image.grid.training import batch_order

    head = torch.nn.Linear(features.shape[1], num_classes, dtype=features.dtype)
    weight, bias = initial_head(num_classes, features.shape[1], point.seed, features.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    settings = dict(lr=point.lr, weight_decay=point.weight_decay)
    optimizer = (torch.optim.SGD(head.parameters(), momentum=0.9, **settings) if point.optimizer == 'sgd'
                 else torch.optim.Adam(head.parameters(), **settings))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(labels) / batch_size))
    dataset = TensorDataset(features, labels)
    for epoch in range(epochs):
        order = [rows.tolist() for rows in batch_order(len(labels), batch_size, epoch, 0)]
        for batch, targets in DataLoader(dataset, batch_sampler=order):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(batch), targets).backward()
            optimizer.step()
            scheduler.step()
    return head.weight.detach()


def products_only(features, num_outputs, *, epochs, batch_size):
    """The forward and the backward product of every iteration, into reused buffers."""
    import torch

    weight = torch.randn(num_outputs, features.shape[1])
    grad, out = torch.empty_like(weight), torch.empty(num_outputs, batch_size)
    for _ in range(epochs):
        for start in range(0, len(features), batch_size):
            batch = features[start:start + batch_size]
            logits = torch.mm(weight, batch.T, out=out if len(batch) == batch_size else None)
            torch.mm(logits, batch, out=grad)


def largest_difference(points, options, num_rows, dim):
    """Largest absolute difference of a weight between the grid and every head alone, in float64, on 2,000 rows."""
    from clear.evaluation import train_grid

    features, labels = make_features(min(num_rows, 2000), dim, 11)
    features = features.double()
    grid = train_grid(features, labels, 11, points, **options)
    return max((grid.weight[column] - train_alone(point, features, labels, 11, **options)).abs().max().item()
               for column, point in enumerate(points))


if __name__ == '__main__':
    sys.exit(main())
