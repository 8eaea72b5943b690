"""Extraction of a bank against the bare forward passes of the same encoder on the same batches.

In turn: `extract` from JPEG files (decode, resize, crop, forward, float16, blocks synced to disk), and the limit, the
encoder over the same images already in memory as batches. Images are 500 x 375 JPEGs, the encoder ResNet-50 at 224
pixels; `extract` decodes in the same process, so nothing is hidden in workers. Process CPU time, one thread.

Claim: extract / forward - 1 <= 0.10.

    python benchmarks/extraction_overhead.py --rounds 3
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clear.datasets import read_images
from clear.features import extract
from clear.features.build import make_encoder

BATCH_SIZE = 8


def write_photos(folder: Path, count: int) -> None:
    """JPEGs of 500 x 375 pixels with the smooth structure and file size of photographs, not pure noise."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        grain = generator.normal(0, 8, (375, 500, 3))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f'{number:04}.jpg', quality=90)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--small', action='store_true', help='a small encoder and few images, to see that it runs')
    parser.add_argument('--arch', default='resnet50', help='of torchvision (default: resnet50)')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    count = 16 if args.small else 64
    cfg = dict(type='TorchvisionEncoder', arch='squeezenet1_1' if args.small else args.arch)
    if args.small:
        cfg['preprocess'] = dict(resize=64, crop=64)
    encoder = make_encoder(cfg)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / 'photos'
        photos.mkdir()
        write_photos(photos, count)
        source = read_images(dict(type='ImageFolder', root=str(photos)))
        transform = encoder.preprocess.build()
        batches = torch.stack([transform(source.open_image(row)) for row in range(count)]).split(BATCH_SIZE)
        times = {'extract': [], 'forward': []}
        with torch.no_grad():
            encoder(batches[0])  # warms up
            for index in range(args.rounds):
                started = time.process_time()
                for batch in batches:
                    encoder(batch)
                times['forward'].append(time.process_time() - started)
                started = time.process_time()
                extract(encoder, source, Path(folder) / f'bank_{index}', batch_size=BATCH_SIZE)
                times['extract'].append(time.process_time() - started)
        size_kb = statistics.mean(path.stat().st_size for path in photos.iterdir()) / 1024
    ratio = statistics.median(one / other for one, other in zip(times['extract'], times['forward']))
    for name, values in times.items():
        print(f'{name:8} {count / statistics.median(values):7.1f} images per CPU second')
    print(json.dumps(dict(benchmark='extraction_overhead', arch=cfg['arch'], crop=encoder.preprocess.crop,
                          images=count, jpeg_kb=round(size_kb, 1), rounds=args.rounds, extract_over_forward=ratio,
                          overhead=ratio - 1)))


if __name__ == '__main__':
    main()
