"""ELEVATER's search for rate and weight decay on stored features: all candidates together, or one after another.

The twenty sets with their numbers of classes and images, blobs of 512 numbers as features; the same 90 candidates at
most for each set (`search_peaks`), the same batches, 10 epochs' worth. In turn, one thread, CPU time:

together: `Protocol` of `clear.evaluation.elevater`;
toolkit: a run for each candidate as in the published toolkit: `DataLoader`, `BatchNorm1d`, `Linear`, autograd,
    `torch.optim.SGD`, `loss.item()` each step, the metric on train and on validation after each epoch (scikit-learn's);
lean: the same without what is not needed: rows are indexed, no loss is read, only validation is scored;
products: of 90 candidates the two products of matrices of each step and nothing else: the limit of any form.

Each set is measured on up to `--rows` images for `--epochs` epochs, and its time is multiplied by what is left out:
every form takes as long for each batch, wherever in a run it is.

Seen on two busy AMD EPYC cores, 2 rounds of 700 images and 3 epochs: 6.8 x less than toolkit, 3.3 x less than lean,
1.39 x products, the same choice in all sets. Ten times less than the toolkit is not reached: products alone give 9.4.
"""

import argparse
import json
import sys
import time

from timing import ratio

EXAMPLE = """example:
  python benchmarks/elevater_search.py --rounds 3
"""
# Classes and training images of the twenty sets; of PatchCamelyon 20,000 are searched on.
SETS = {'caltech-101': (102, 3060), 'cifar-10': (10, 50000), 'cifar-100': (100, 50000), 'country211': (211, 31650),
        'dtd': (47, 1880), 'eurosat_clip': (10, 5000), 'fer-2013': (7, 28709), 'fgvc-aircraft': (100, 3334),
        'oxford-flower-102': (102, 1020), 'food-101': (101, 75750), 'gtsrb': (43, 26640), 'hateful-memes': (2, 8500),
        'kitti-distance': (4, 6347), 'mnist': (10, 60000), 'oxford-iiit-pets': (37, 3680),
        'patch-camelyon': (2, 20000), 'rendered-sst2': (2, 6920), 'resisc45_clip': (45, 3150),
        'stanford-cars': (196, 8144), 'voc-2007-classification': (20, 2501)}
DIM, BATCH, EPOCHS = 512, 64, 10


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='rounds of all forms in turn (default: 3)')
    parser.add_argument('--rows', type=int, default=1000, help='images of a set that are measured (default: 1000)')
    parser.add_argument('--epochs', type=int, default=2, help='epochs that are measured (default: 2)')
    parser.add_argument('--shots', type=int, default=-1, help='5, 20 or 50 of each class; -1: all (default)')
    parser.add_argument('--small', action='store_true', help='4 sets, 130 images, to see that it runs')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1)
    # Heads that diverge make subnormal numbers, of which the project takes care; the other forms would wait for them.
    torch.set_flush_denormal(True)
    names = ['dtd', 'eurosat_clip', 'hateful-memes', 'voc-2007-classification'] if args.small else list(SETS)
    rows = 130 if args.small else args.rows
    print(f'{len(names)} sets, {DIM} numbers, at most {rows} images measured for {args.epochs} epochs, 1 thread, torch '
          f'{torch.__version__}')
    forms = dict(together=together, lean=lean, toolkit=toolkit, products=products)
    rounds, same = [], 0
    for search in forms.values():  # imports are no part of it
        search(*make_set('dtd', 130), 47, 1)
    for number in range(args.rounds):
        total = dict.fromkeys(forms, 0.0)
        for name in names:
            num_classes, count = SETS[name]
            count = min(count, args.shots * num_classes) if args.shots > 0 else count
            data = make_set(name, min(count, max(rows, 2 * num_classes)))
            factor = count / len(data[0]) * EPOCHS / args.epochs
            chosen = {}
            for form, search in forms.items():
                started = time.process_time()
                chosen[form] = search(*data, num_classes, args.epochs)
                total[form] += (time.process_time() - started) * factor
            same += chosen['together'] == chosen['lean']
        rounds.append(total)
        print(f'round {number + 1}: ' + '  '.join(f'{form} {value:.1f} cpu-s' for form, value in total.items()),
              flush=True)
    print(json.dumps(dict(
        benchmark='elevater_search', sets=len(names), rounds=args.rounds, shots=args.shots,
        toolkit_over_together=ratio(rounds, 'toolkit', 'together'),
        lean_over_together=ratio(rounds, 'lean', 'together'),
        together_over_products=ratio(rounds, 'together', 'products'), same_choice=same / (args.rounds * len(names)))))
    return 0


def make_set(name, count):
    """Training and held-out features with their targets."""
    import torch

    num_classes = SETS[name][0]
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.arange(count) % num_classes
    centres = torch.randn(num_classes, DIM, generator=generator) * 0.1
    features = centres[labels] + torch.randn(count, DIM, generator=generator)
    targets = labels
    if name.startswith('voc'):
        targets = torch.nn.functional.one_hot(labels, num_classes).float()
    num_val = count // 5
    return features[num_val:], targets[num_val:], features[:num_val], targets[:num_val]


def start_of(num_classes):
    from clear.evaluation.elevater.heads.head import random_weights

    return random_weights(num_classes, DIM, 0)


def metric_of(targets, num_classes):
    return 'map_11point' if targets.ndim == 2 else 'roc_auc' if num_classes == 2 else 'top1'


def together(features, targets, val_features, val_targets, num_classes, epochs):
    """The project's search."""
    from clear.evaluation.elevater.heads.head_grid import HeadRule
    from clear.evaluation.elevater.heads.protocol import Part, Protocol
    from clear.evaluation.elevater.heads.search import search_peaks

    protocol, rule = Protocol(epochs=epochs), HeadRule(batch_size=BATCH, multi_label=targets.ndim == 2)
    train, val, start = Part(features, targets), Part(val_features, val_targets), start_of(num_classes)
    metric = metric_of(targets, num_classes)
    return search_peaks(lambda candidates: protocol.score_candidates(candidates, start, train, val, metric, rule)).best


def lean(*data):
    """One run after another, with nothing that is not needed."""
    return one_after_another(*data, is_toolkit=False)


def toolkit(*data):
    """One run after another, as the toolkit has it."""
    return one_after_another(*data, is_toolkit=True)


def one_after_another(features, targets, val_features, val_targets, num_classes, epochs, is_toolkit):
    from clear.evaluation.elevater.heads.search import search_peaks

    metric = metric_of(targets, num_classes)
    return search_peaks(lambda candidates: [
        train_alone(candidate, features, targets, val_features, val_targets, start_of(num_classes), epochs, metric,
                    is_toolkit) for candidate in candidates]).best


def train_alone(candidate, features, targets, val_features, val_targets, start, epochs, metric, is_toolkit):
    """The best score of one candidate."""
    import torch
    from torch import nn

    from clear.evaluation.elevater.heads.head import BatchNormHead
    from clear.evaluation.elevater.heads.head_grid import head_batches

    head = BatchNormHead(*start)
    loss_of = nn.BCEWithLogitsLoss() if targets.ndim == 2 else nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(head.linear.parameters(), candidate.lr, momentum=0.9, weight_decay=candidate.l2)
    best = 0.0
    for epoch in range(epochs):
        head.train()
        order, outputs, seen = head_batches(len(features), BATCH, 0, epoch), [], []
        for batch, target in loaded(features, targets, order, is_toolkit):
            optimizer.zero_grad()
            output = head(batch)
            loss = loss_of(output, target)
            loss.backward()
            optimizer.step()
            if is_toolkit:
                loss.item()
                outputs.append(output)
                seen.append(target)
        if is_toolkit:
            evaluate(torch.cat(outputs).detach(), torch.cat(seen), metric, True)
        head.eval()
        with torch.no_grad():
            batches = torch.arange(len(val_features)).split(BATCH)
            outputs = torch.cat([head(batch) for batch, _ in loaded(val_features, val_targets, batches, is_toolkit)])
        best = max(best, evaluate(outputs, val_targets, metric, is_toolkit))
    return best


def products(features, targets, val_features, val_targets, num_classes, epochs):
    """Logits and gradients of 90 heads, some at a time, so that they stay in the cache."""
    import torch

    from clear.evaluation.elevater.heads.head_grid import head_batches

    weight, gradient = torch.randn(512, DIM) / DIM, torch.zeros(512, DIM)
    for epoch in range(epochs):
        batches = [features[rows] for rows in head_batches(len(features), BATCH, 0, epoch)]
        for first in range(0, 90 * num_classes, 512):
            heads = slice(0, min(512, 90 * num_classes - first))
            for batch in batches:
                gradient[heads].addmm_(torch.mm(weight[heads], batch.T), batch)


def loaded(features, targets, batches, is_toolkit):
    """Batches by a data loader, or by indexing."""
    from torch.utils.data import DataLoader, TensorDataset

    if is_toolkit:
        return DataLoader(TensorDataset(features, targets), batch_sampler=[rows.tolist() for rows in batches])
    return ((features[rows], targets[rows]) for rows in batches)


def evaluate(logits, targets, metric, is_toolkit):
    """The metric; 0 where it fails."""
    from sklearn.metrics import accuracy_score, roc_auc_score

    from clear.evaluation.elevater.heads.scores import score_heads

    if not is_toolkit or metric == 'map_11point':
        return float(score_heads(metric, logits.T[None], targets))
    probabilities, labels = logits.softmax(1).numpy(), targets.numpy()
    try:
        if metric == 'roc_auc':
            return roc_auc_score(labels, probabilities[:, 1])
        return accuracy_score(labels, probabilities.argmax(1))
    except ValueError:
        return 0.0


if __name__ == '__main__':
    sys.exit(main())
