"""MoCo v2's two views of a batch of images: the batched form against PIL and torchvision, one thread.

project: `BatchedMultiCrop` on uint8 tensors, with the seeds of every sample derived; peer: `MultiCrop`, whose work is
PIL's and torchvision's, on PIL images in memory, stacked into batches, without any seeding. Equal work: images of twice
the size of the views, the same crops with antialias, all four colour adjustments, grey, blur, flip, normalised floats.
"""

import argparse
import json
import statistics
import sys

from timing import cpu_s

EXAMPLE = """example:
  python benchmarks/batched_views.py --rounds 7
"""
# PIL's time over ours that is claimed, by side of the view in pixels.
CLAIMS = {32: 4.0, 64: 2.5}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7, help='rounds of project and peer in turn (default: 7)')
    parser.add_argument('--recipe', default='moco_v2', choices=['moco_v2', 'simclr', 'clsa'],
                        help='views to draw; the claims are for moco_v2 (default)')
    parser.add_argument('--small', action='store_true', help='16 images in place of 128')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import PIL
    import torch

    torch.set_num_threads(1)
    num_images = 16 if args.small else 128
    print(f'{num_images} images, recipe {args.recipe}, 1 thread, torch {torch.__version__}, Pillow {PIL.__version__}')
    result = dict(benchmark='batched_views', rounds=args.rounds, recipe=args.recipe)
    for size in CLAIMS:
        ratios = measure(args.recipe, size, num_images, args.rounds)
        median = statistics.median(ratios)
        print(f'{size} px: PIL takes {median:.2f} x the CPU time of the batched form '
              f'({min(ratios):.2f} to {max(ratios):.2f}); claimed for moco_v2: {CLAIMS[size]}')
        result[f'peer_over_project_{size}'] = round(median, 3)
        result[f'spread_{size}'] = [round(min(ratios), 3), round(max(ratios), 3)]
    print(json.dumps(result))
    return 0


def measure(recipe, size, num_images, rounds):
    """PIL's CPU time over ours, per round."""
    import torch
    from PIL import Image

    from clear.datasets import SampleContext
    from clear.datasets.transforms import BatchedMultiCrop, MultiCrop, sample_seeds

    images = smooth_images(num_images, 2 * size)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    options = dict(size=size) if recipe != 'clsa' else dict(size_crops=[size, size], key_size=size)
    single, batched = MultiCrop(recipe, options), BatchedMultiCrop(recipe, options)
    context, names = SampleContext(), [f'{index}.jpg' for index in range(num_images)]

    def project(step):
        context.epoch = step
        out = []
        for start in range(0, num_images, 64):
            part = slice(start, start + 64)
            out += batched(images[part], sample_seeds(context, names[part]))
        return out

    def peer():
        out = []
        for start in range(0, num_images, 64):
            views = [single(picture) for picture in pictures[start:start + 64]]
            out += [torch.stack(each) for each in zip(*views)]
        return out

    assert [view.shape for view in project(0)] == [view.shape for view in peer()]
    ratios = []
    for number in range(rounds):
        ours = cpu_s(lambda number=number: project(number))
        theirs = cpu_s(peer)
        ratios.append(theirs / ours)
        views = num_images * len(single.views)
        print(f'{size} px, round {number + 1}: batched {ours / views * 1e6:.0f}, PIL {theirs / views * 1e6:.0f} '
              'CPU microseconds per view')
    return ratios


def smooth_images(num_images, size):
    """uint8 images that are neither flat nor noise, as photographs are."""
    import torch
    import torch.nn.functional as F

    coarse = torch.rand(num_images, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size, mode='bicubic').clamp(0, 1).mul(255).to(torch.uint8)


if __name__ == '__main__':
    sys.exit(main())
