"""Zero-shot accuracies of 50,000 images against 1,000 classes of 80 prompts, all embeddings given.

project: class vectors of the prompts and `ZeroShot.classify`, which is top-1, top-5 and mean per class; limit: both
sides normalised, prompts averaged, one matrix product in blocks of images, and the five best of each row.
"""

import argparse
import json
import statistics
import sys
import time

EXAMPLE = """example:
  python benchmarks/zero_shot.py --rounds 5
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5, help='rounds of project and limit in turn (default: 5)')
    parser.add_argument('--small', action='store_true', help='500 images of 32 numbers, 10 classes of 4 prompts')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1)
    num_images, num_classes, num_prompts, dim = (500, 10, 4, 32) if args.small else (50000, 1000, 80, 512)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(num_classes, dim, generator=generator)
    prompts = centres.repeat_interleave(num_prompts, 0)
    prompts = prompts + torch.randn(prompts.shape, generator=generator)
    labels = torch.arange(num_images) % num_classes
    images = centres[labels] + 6 * torch.randn(num_images, dim, generator=generator)
    print(f'{num_images:,} x {dim} images, {num_classes:,} classes x {num_prompts} prompts, 1 thread, '
          f'torch {torch.__version__}')
    project(images[:10], prompts, labels[:10], num_classes)  # imports are no part of it
    rounds = []
    for number in range(args.rounds):
        times = {}
        for name, work in (('project', project), ('limit', limit)):
            started = time.process_time()
            times[f'{name}_values'] = work(images, prompts, labels, num_classes)
            times[name] = time.process_time() - started
        rounds.append(times)
        print(f"round {number + 1}: project {times['project']:.3f} cpu-s  limit {times['limit']:.3f} cpu-s")
    found, expected = rounds[-1]['project_values'], rounds[-1]['limit_values']
    ratio = statistics.median(times['project'] / times['limit'] for times in rounds)
    print(json.dumps(dict(
        benchmark='zero_shot', rounds=args.rounds, project_over_limit=round(ratio, 3), top1=found['top1'],
        largest_difference=max(abs(found[name] - value) for name, value in expected.items()))))
    return 0


def project(images, prompts, labels, num_classes) -> dict[str, float]:
    from clear.evaluation import ZeroShot
    from clear.evaluation.language.prompts import prompt_vectors

    rows = list(range(len(prompts)))
    groups = [rows[start:start + len(rows) // num_classes] for start in range(0, len(rows), len(rows) // num_classes)]
    return ZeroShot.classify(images, prompt_vectors(lambda places: prompts[places], groups), labels)


def limit(images, prompts, labels, num_classes) -> dict[str, float]:
    import torch
    from torch.nn import functional

    vectors = functional.normalize(prompts, dim=1).reshape(num_classes, -1, prompts.shape[1]).mean(1)
    vectors, images = functional.normalize(vectors, dim=1).T, functional.normalize(images, dim=1)
    best = torch.cat([(block @ vectors).topk(5, dim=1).indices for block in images.split(2048)])
    is_right = best == labels[:, None]
    return dict(top1=is_right[:, 0].double().mean().item(), top5=is_right.any(1).double().mean().item())


if __name__ == '__main__':
    sys.exit(main())
