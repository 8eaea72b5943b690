"""Images per second of CPU: `ImagePipeline` against PIL, with and without decoded images, at 224 px.

    python benchmarks/image_pipeline.py --rounds 7

Peers: PIL open + torchvision's RandomResizedCrop, flip, ToTensor and Normalize per image (train); PIL open +
Resize(256), CenterCrop(224), ToTensor and Normalize (eval). Limits: OpenCV's bare decoding, and bare resized crops of
decoded images. Files are JPEG of 500 x 375 pixels cut from scikit-learn's two photographs. Every candidate runs once
per round, on one thread; a ratio is the median over rounds of the CPU time of the peer divided by the candidate's.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--images', type=int, default=128, help='images per round')
    parser.add_argument('--small', action='store_true', help='two rounds of 32 images: checks that the script runs')
    args = parser.parse_args(argv)
    if args.small:
        args.rounds, args.images = 2, 32
    os.environ['OMP_NUM_THREADS'] = '1'
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        names = write_photos(Path(folder), args.images)
        mean_kb = sum((Path(folder) / name).stat().st_size for name in names) / len(names) / 1000
        print(f'{len(names)} JPEG files of 500 x 375 pixels, {mean_kb:.0f} kB on average; {args.rounds} rounds')
        seconds = measure(candidates(Path(folder), names), args.rounds, len(names))
    for name, values in seconds.items():
        spread = f'{min(values) * 1e3:.2f} ... {max(values) * 1e3:.2f}'
        print(f'{name:22} {statistics.median(values) * 1e3:6.2f} ms per image ({spread})')
    print(json.dumps(ratios(seconds)))
    return 0


def write_photos(folder: Path, count: int) -> list[str]:
    """`count` different parts of the two photographs, enlarged by half; about 70 kB each, as photos on the web are."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo).resize((960, 640), Image.Resampling.BICUBIC)
              for photo in load_sample_images().images]
    names = []
    for index in range(count):
        left, top = int(rng.integers(0, 461)), int(rng.integers(0, 266))
        names.append(f'{index}.jpg')
        photos[index % 2].crop((left, top, left + 500, top + 375)).save(folder / names[-1], quality=95)
    return names


def candidates(folder: Path, names: list[str]) -> dict:
    """Name -> function that reads every image once."""
    import cv2
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import transforms

    from clear.datasets.images.pipeline import ImagePipeline, random_box

    end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    train = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *end])
    evaluate = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *end])

    def peer(transform):
        def run():
            for start in range(0, len(names), BATCH):
                images = []
                for name in names[start:start + BATCH]:
                    with Image.open(folder / name) as image:
                        images.append(transform(image.convert('RGB')))
                torch.stack(images)
        return run

    def ours(**options):
        pipeline = ImagePipeline(folder, names, resize=256, crop=224, mean=MEAN, std=STD, **options)

        def run():
            for start in range(0, len(names), BATCH):
                pipeline.batch(range(start, min(start + BATCH, len(names))))
        return run

    # The limit of a cached pipeline: a bare resize of a random part, then nothing.
    decoded = [cv2.resize(cv2.imread(str(folder / name)), (341, 256)) for name in names]
    boxes = [random_box(256, 341, random.Random(index)) for index in range(len(names))]
    out = np.empty((224, 224, 3), np.uint8)
    return {
        'peer_train': peer(train), 'peer_eval': peer(evaluate),
        'jpeg_train': ours(augment='crop_flip'), 'jpeg_eval': ours(),
        'ram_train': ours(augment='crop_flip', cache='ram'), 'ram_eval': ours(cache='ram'),
        'disk_train': ours(augment='crop_flip', cache='disk', cache_dir=folder / 'cache'),
        'disk_eval': ours(cache='disk', cache_dir=folder / 'cache'),
        'limit_decode': lambda: [cv2.imread(str(folder / name)) for name in names],
        'limit_crop': lambda: [cv2.resize(image[top:top + height, left:left + width], (224, 224), dst=out)
                               for image, (top, left, height, width) in zip(decoded, boxes)],
    }


def measure(functions: dict, rounds: int, num_images: int) -> dict[str, list[float]]:
    """CPU seconds per image of each; one call of each first, unmeasured, fills caches and imports."""
    for run in functions.values():
        run()
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            start = time.process_time()
            run()
            seconds[name].append((time.process_time() - start) / num_images)
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Speed of each candidate as a multiple of its peer's; limits against the training peer."""
    result = {}
    for name, values in seconds.items():
        if name.startswith('peer'):
            continue
        peer = seconds['peer_eval' if name.endswith('eval') else 'peer_train']
        result[name] = round(statistics.median(p / v for p, v in zip(peer, values)), 2)
    return result


if __name__ == '__main__':
    sys.exit(main())
