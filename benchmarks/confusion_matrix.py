"""Counting pixels by target and prediction: the whole of `ConfusionMatrix.update` against its limit, one thread.

project: predictions as `argmax` gives them (int64) and masks as they are decoded (uint8, 255 = void); limit:
`torch.bincount` of an index that is ready, void pixels in a cell of their own; peer: torchmetrics'
`MulticlassJaccardIndex.update` on the same tensors. Counts are compared.
"""

import argparse
import json
import statistics
import sys
import time

EXAMPLE = """example:
  python benchmarks/confusion_matrix.py --rounds 9
"""
CLAIM = 1.8
CLASSES, VOID = 21, 255


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=9, help='of all three in turn (default: %(default)s)')
    parser.add_argument('--images', type=int, default=8, help='of 512 x 512 pixels (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    from clear.evaluation.metrics.pixels.segmentation import ConfusionMatrix

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shape = (args.images, 512, 512)
    predictions = torch.randint(CLASSES, shape, generator=generator)
    targets = torch.randint(CLASSES, shape, generator=generator)
    targets[:, :9] = VOID
    masks = targets.to(torch.uint8)
    index = (targets.masked_fill(targets == VOID, CLASSES) * CLASSES + predictions).flatten()
    ours, peer = ConfusionMatrix(CLASSES, VOID), MulticlassJaccardIndex(CLASSES, ignore_index=VOID)
    ways = {'project': lambda: ours.update(predictions, masks), 'peer': lambda: peer.update(predictions, targets),
            'limit': lambda: torch.bincount(index, minlength=CLASSES * (CLASSES + 1))}
    expected = ways['limit']()[:CLASSES**2].view(CLASSES, CLASSES)
    ours.update(predictions, masks)
    if not torch.equal(ours.counts, expected):
        raise SystemExit('the counts differ')
    rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(args.rounds)]
    over_limit = [each['project'] / each['limit'] for each in rounds]
    over_project = [each['peer'] / each['project'] for each in rounds]
    print(f'{statistics.median(over_limit):.2f} x bincount of a ready index ({min(over_limit):.2f} to '
          f'{max(over_limit):.2f}; claimed: {CLAIM}); torchmetrics takes {statistics.median(over_project):.1f} x ours')
    print(json.dumps(dict(benchmark='confusion_matrix', rounds=args.rounds,
                          project_over_limit=round(statistics.median(over_limit), 3),
                          peer_over_project=round(statistics.median(over_project), 3))))
    return 0


def seconds(way, repeats: int = 5) -> float:
    started = time.process_time()
    for _ in range(repeats):
        way()
    return time.process_time() - started


if __name__ == '__main__':
    sys.exit(main())
