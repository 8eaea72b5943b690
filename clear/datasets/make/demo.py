"""A small CLEAR data set of real images, made without a download: handwritten digits that drift over ten buckets.

The images are the 1,797 digits of scikit-learn's `load_digits` (8 x 8, values 0 ... 16; the test part of the UCI set
"Optical Recognition of Handwritten Digits", Alpaydin and Kaynak 1998). Every bucket shows all of them; what changes
from bucket to bucket is the look: the digits turn, the strokes pale and the background brightens, evenly in time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json, write_json
from clear.core.logs import Report
from clear.datasets.make.writing import (
    TEST_RATIO,
    new_folder,
    write_class_names,
    write_labeled_metadata,
    write_training_folder,
)

FORMAT_VERSION = 1  # raise it when the pixels, names or lists of a demo with the same parameters change
MARKER = 'demo.json'
CLASS_NAMES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
BUCKETS = tuple(str(bucket) for bucket in range(1, 11))
NUM_DIGITS = 1797
MIN_DIGITS = 100  # fewer would leave classes without test images
IMAGE_SIZE = 32
DEFAULT_SEEDS = (0, 1, 2, 3, 4)
FIRST_YEAR = 2005  # bucket "1"; CLEAR's buckets run over 2004 ... 2014

_PIXELS_PER_CELL = 3  # a digit of 8 x 8 cells fills 24 of the 32 pixels and keeps a margin for the rotation
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Look:
    """How a bucket shows its digits: `angle_deg` counter-clockwise; `background` and `ink` are grey levels, 0 ... 1."""

    angle_deg: float
    background: float
    ink: float


# Ours, found by training LeNet5 (SGD, lr 0.1, 4 epochs per bucket): fine-tuning reaches 0.97 on each bucket as it
# comes, but first and last are so far apart that it ends 0.15 below replay of 600 images on past ones (three seeds).
FIRST_LOOK = Look(angle_deg=-25.0, background=0.0, ink=1.0)
LAST_LOOK = Look(angle_deg=25.0, background=0.3, ink=0.7)


def bucket_look(bucket: str) -> Look:
    """The look of a bucket, "1" ... "10": linear between the first and the last."""
    share = BUCKETS.index(bucket) / (len(BUCKETS) - 1)
    first, last = asdict(FIRST_LOOK), asdict(LAST_LOOK)
    return Look(**{name: first[name] + (last[name] - first[name]) * share for name in first})


def load_digits(limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The digits: images (N, 8, 8) float32 in 0 ... 1, stroke white on black, and targets (N,) int64.

    Args:
        limit: keep only the first `limit` digits (at least 100).

    Raises:
        ConfigError: if `limit` is out of range.
    """
    from sklearn import datasets

    if limit is not None and not MIN_DIGITS <= limit <= NUM_DIGITS:
        raise ConfigError(f'limit is {limit}, expected {MIN_DIGITS} ... {NUM_DIGITS} digits.')
    digits = datasets.load_digits()
    return (digits.images[:limit] / 16).astype(np.float32), digits.target[:limit].astype(np.int64)


def render_digit(image: np.ndarray, look: Look) -> np.ndarray:
    """Draw one digit: (8, 8) in 0 ... 1 -> (32, 32) uint8, turned about its centre with cubic interpolation."""
    from PIL import Image

    pad = 4  # black cells around the digit, so that the interpolation never meets the border
    centre_in = image.shape[0] / 2 + pad
    centre_out = IMAGE_SIZE / 2
    angle = np.deg2rad(look.angle_deg)
    cos, sin = np.cos(angle) / _PIXELS_PER_CELL, np.sin(angle) / _PIXELS_PER_CELL
    # PIL asks for the map from output to input coordinates; its y axis points down.
    matrix = (cos, -sin, centre_in - cos * centre_out + sin * centre_out,
              sin, cos, centre_in - sin * centre_out - cos * centre_out)
    cells = np.zeros((image.shape[0] + 2 * pad, image.shape[1] + 2 * pad), np.float32)
    cells[pad:-pad, pad:-pad] = image
    turned = Image.fromarray(cells).transform((IMAGE_SIZE, IMAGE_SIZE), Image.Transform.AFFINE, matrix,
                                              Image.Resampling.BICUBIC)
    stroke = np.asarray(turned).clip(0, 1)  # the cubic overshoots a little
    return np.rint((look.background + (look.ink - look.background) * stroke) * 255).astype(np.uint8)


def image_id(bucket: str, digit: int) -> str:
    """The id of a digit's image in a bucket: a number as in CLEAR, unique over buckets; `id % 10000` is the digit."""
    return str(int(bucket) * 10000 + digit)


def split_digits(targets: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Split digits 70/30 within each class: ascending positions (train, test), 30 % of a class rounded down to test.

    The split is of digits, not of images: with it, a digit that is tested in one bucket is trained on in none.
    """
    train, test = [], []
    generator = random.Random(seed)
    for target in sorted({int(target) for target in targets}):
        positions = [position for position, other in enumerate(targets) if other == target]
        generator.shuffle(positions)
        num_test = int(len(positions) * TEST_RATIO)
        test += positions[:num_test]
        train += positions[num_test:]
    return sorted(train), sorted(test)


def metadata_record(bucket: str, digit: int, relative: str) -> dict[str, str]:
    """A record with the YFCC100M columns that matter here; taken and uploaded within the bucket's year (UTC).

    Later digits were taken later, and all of a bucket before all of the next.
    """
    year = FIRST_YEAR + BUCKETS.index(bucket)
    start = datetime(year, 1, 1, tzinfo=UTC)
    span_s = 350 * 24 * 3600  # leaves two weeks for the uploads
    taken_at = start + timedelta(seconds=span_s * digit // NUM_DIGITS)
    uploaded_at = taken_at + timedelta(hours=2, days=digit % 10)
    return {'ID': image_id(bucket, digit), 'DATE_TAKEN': f'{taken_at:%Y-%m-%d %H:%M:%S}.0',
            'DATE_UPLOADED': str(int(uploaded_at.timestamp())), 'IMG_PATH': relative}


def write_demo(out: str | Path, layout: str = 'old', *, seeds: Sequence[int] | None = None, limit: int | None = None,
               overwrite: bool = False, progress: Report | None = None) -> bool:
    """Write the demo data set to the folder `out`, which appears complete or not at all.

    Args:
        layout: 'old' (`training_folder/` with one split per seed) or 'new' (`train/` and `test/`, the split of seed 0).
        seeds: seeds of the splits, 0 ... 4 by default; the new layout has room for seed 0 only.
        limit: use only the first `limit` digits, for quick trials.
        overwrite: replace whatever `out` holds.
        progress: called as `progress(done, total)` with image counts.

    Returns:
        True if it was written, False if `out` already held exactly this data set, which is then left alone.

    Raises:
        ConfigError: if an argument cannot be met.
        DataError: if `out` has other content and `overwrite` is False.
    """
    parameters = _parameters(layout, seeds, limit)
    if _is_complete(Path(out), parameters):
        return False
    _refuse_other_content(Path(out), parameters, overwrite)
    images, targets = load_digits(limit)
    with new_folder(out, replace=overwrite) as root:
        report = _counter(progress, parameters['num_images'])
        if layout == 'old':
            _write_old(root, images, targets, parameters['seeds'], report)
        else:
            for name, digits in zip(('train', 'test'), split_digits(targets, 0)):
                _write_images_and_metadata(root / name, images, targets, digits, report)
        write_json(root / MARKER, parameters)
    return True


def _parameters(layout: str, seeds: Sequence[int] | None, limit: int | None) -> dict:
    """All that decides the content, as stored in the marker file."""
    check_choice('layout', layout, ('old', 'new'))
    chosen = list(seeds) if seeds is not None else (list(DEFAULT_SEEDS) if layout == 'old' else [0])
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise ConfigError(f'seeds are {chosen}, expected at least one, all different and none negative.')
    if layout == 'new' and chosen != [0]:
        raise ConfigError(f'seeds are {chosen}, but the new layout holds one split, that of seed 0.')
    num_images = len(BUCKETS) * (NUM_DIGITS if limit is None else limit)
    return {'name': 'clear-demo', 'version': FORMAT_VERSION, 'layout': layout, 'seeds': chosen, 'limit': limit,
            'num_images': num_images, 'first_look': asdict(FIRST_LOOK), 'last_look': asdict(LAST_LOOK)}


def _is_complete(out: Path, parameters: dict) -> bool:
    if not (out / MARKER).is_file() or read_json(out / MARKER) != parameters:
        return False
    return sum(1 for _ in out.rglob('*.jpg')) == parameters['num_images']


def _refuse_other_content(out: Path, parameters: dict, overwrite: bool) -> None:
    if overwrite or not (out / MARKER).is_file():
        return
    found = read_json(out / MARKER)
    different = sorted(key for key in parameters if not isinstance(found, dict) or found.get(key) != parameters[key])
    reason = f"a demo with other {', '.join(different)}" if different else 'this demo, but images are missing'
    raise DataError(f'{out} holds {reason}. Write to another folder, or use --overwrite.')


def _counter(progress: Report | None, total: int) -> Callable[[], None]:
    """A function to call after each image, which reports to `progress`."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return count


def _write_old(root: Path, images: np.ndarray, targets: np.ndarray, seeds: Sequence[int],
               report: Callable[[], None]) -> None:
    rows = _write_images_and_metadata(root, images, targets, range(len(targets)), report)
    # Rows of all.txt run class by class, digits ascending, the same in every bucket.
    digit_of_row = [digit for index in range(len(CLASS_NAMES)) for digit in np.flatnonzero(targets == index).tolist()]
    row_of_digit = {digit: row for row, digit in enumerate(digit_of_row)}
    splits = {}
    for seed in seeds:
        train, test = (sorted(row_of_digit[digit] for digit in part) for part in split_digits(targets, seed))
        splits[seed] = dict.fromkeys(rows, (train, test))
    write_training_folder(root, rows, splits)


def _write_images_and_metadata(root: Path, images: np.ndarray, targets: np.ndarray, digits: Sequence[int],
                               report: Callable[[], None]) -> dict[str, list[tuple[str, int]]]:
    """Write class names, images and metadata of the given digits in every bucket; the rows written, per bucket."""
    from PIL import Image

    write_class_names(root, CLASS_NAMES)
    rows: dict[str, list[tuple[str, int]]] = {}
    records: dict[str, dict[str, dict]] = {}
    for bucket in BUCKETS:
        look = bucket_look(bucket)
        rows[bucket], records[bucket] = [], {name: {} for name in CLASS_NAMES}
        for index, name in enumerate(CLASS_NAMES):
            folder = f'labeled_images/{bucket}/{name}'
            (root / folder).mkdir(parents=True)
            for digit in (digit for digit in digits if targets[digit] == index):
                relative = f'{folder}/{image_id(bucket, digit)}.jpg'
                Image.fromarray(render_digit(images[digit], look)).save(root / relative, quality=_JPEG_QUALITY)
                rows[bucket].append((relative, index))
                records[bucket][name][image_id(bucket, digit)] = metadata_record(bucket, digit, relative)
                report()
    write_labeled_metadata(root, records)
    return rows
