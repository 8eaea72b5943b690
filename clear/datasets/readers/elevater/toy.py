"""Two small sets in ELEVATER's storage, drawn: index files, class names, zip archives."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SINGLE, MULTI = 'toy-colours', 'toy-corners'
COLOURS = {'red': (220, 40, 40), 'green': (40, 200, 40), 'blue': (40, 40, 220)}
CORNERS = ('top left', 'top right', 'bottom left', 'bottom right')
SIZE = 16


def write_toy_sets(root: str | Path, coco: bool = False, seed: int = 0) -> Path:
    """`root/classification/` with both sets, of which each is the same drawing for one seed; returns `root`.

    `SINGLE`: one of three colours; 30 images in train, 30 in test, ten of each class. `MULTI`: any of four bright
    corners, about 30 images of each class in train and in test, a few images without any.

    Args:
        coco: write COCO JSON as the index in place of lines.
    """
    root, rng = Path(root), random.Random(seed)
    for split in ('train', 'test'):
        labels = [[row % 3] for row in range(30)]
        rng.shuffle(labels)
        write_split(root / 'classification' / SINGLE, split, [colour_of(own[0], rng) for own in labels], labels,
                    list(COLOURS), coco=coco)
        labels = [[label for label in range(4) if rng.random() < 0.45] for _ in range(66)]
        write_split(root / 'classification' / MULTI, split, [corners_of(own, rng) for own in labels], labels,
                    list(CORNERS), coco=coco)
    return root


def write_split(folder: Path, split: str, pixels: list[np.ndarray], labels: list[list[int]], names: list[str], *,
                coco: bool = False, method: int = zipfile.ZIP_STORED) -> None:
    """One split of a set: its archive, its index and the class names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [f'{split}.zip@{split} images/{row:03}.png' for row in range(len(pixels))]
    with zipfile.ZipFile(folder / f'{split}.zip', 'w', method) as archive:
        for path, each in zip(paths, pixels):
            archive.writestr(path.partition('@')[2], png_of(each))
    if coco:
        notes = [(row, label) for row, own in enumerate(labels) for label in own]
        (folder / f'{split}.json').write_text(json.dumps(dict(
            images=[dict(id=row + 1, file_name=path, width=SIZE, height=SIZE) for row, path in enumerate(paths)],
            annotations=[dict(id=number, image_id=row + 1, category_id=label + 1)
                         for number, (row, label) in enumerate(notes)],
            categories=[dict(id=label + 1, name=name) for label, name in enumerate(names)])))
    else:
        (folder / f'{split}.txt').write_text(''.join(
            f'{path} {",".join(map(str, own))}'.strip() + '\n' for path, own in zip(paths, labels)))
        (folder / 'labels.txt').write_text('\n'.join(names) + '\n')


def colour_of(label: int, rng: random.Random) -> np.ndarray:
    """(H, W, 3) uint8 about the colour of a class."""
    return noisy(np.full((SIZE, SIZE, 3), list(COLOURS.values())[label]), rng)


def corners_of(labels: list[int], rng: random.Random) -> np.ndarray:
    """(H, W, 3) uint8, dark but for the corners of its classes."""
    pixels = np.full((SIZE, SIZE, 3), 30)
    half = SIZE // 2
    for label in labels:
        row, column = divmod(label, 2)
        pixels[row * half:(row + 1) * half, column * half:(column + 1) * half] = 220
    return noisy(pixels, rng)


def noisy(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """The pixels within 20 of what they were."""
    noise = np.random.default_rng(rng.randrange(2**32)).integers(-20, 21, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def png_of(pixels: np.ndarray) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()
