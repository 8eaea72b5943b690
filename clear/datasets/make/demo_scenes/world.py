"""All layouts in one folder, whole or absent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.core.logs import Report
from clear.core.seeding import derive_seed
from clear.datasets.make.demo_scenes import counting, depths, masks, motion, objects, places
from clear.datasets.make.demo_scenes.layouts import Layout, Sample
from clear.datasets.make.demo_scenes.photographs import tile
from clear.datasets.make.writing import new_folder, write_plain_json

LAYOUTS: dict[str, Layout] = {layout.folder: layout for module in (objects, places, motion, counting, depths, masks)
                              for layout in module.LAYOUTS}
MARKER = 'demo_scenes.json'
FORMAT_VERSION = 1  # raise it when the files of scenes with the same parameters change
_LEAST_EDGE = 16


def write_demo_scenes(out: str | Path, *, only: Sequence[str] | None = None, train: int = 240, test: int = 120,
                      edge: int = 64, seed: int = 0, overwrite: bool = False, progress: Report | None = None) -> Path:
    """Write rendered scenes in the folder layouts of the probing suite's data sets: what lies below `data/`.

    A file depends on the seed, the size and its own number alone: more samples, or fewer layouts, leave it as it is.

    Args:
        out: the folder, which appears complete or not at all.
        only: folders of `LAYOUTS`; all by default.
        train, test: samples in each part of a layout, at least one of each class. A layout without parts
            (EgoHands, KITTI) holds both together.
        edge: height of the pictures in pixels; streets and tables are wider than high, CIFAR's stay 32.
        progress: gets (samples written, all samples).

    Raises:
        ConfigError: if a number is out of range, a layout is unknown or scikit-image is not there.
        DataError: if `out` holds something else and `overwrite` is False, or cannot be written.
    """
    for name, value, least in (('train', train, 1), ('test', test, 1), ('edge (--size)', edge, _LEAST_EDGE),
                               ('seed', seed, 0)):
        check_whole(name, value, least)
    names = list(LAYOUTS) if only is None else list(only)
    unknown = [name for name in names if name not in LAYOUTS]
    if unknown or not names or len(set(names)) < len(names):
        raise ConfigError(f'only is {names}, expected some of {", ".join(LAYOUTS)}, each once.')
    tile('grass')  # a missing package is told before anything is written
    todo = [(LAYOUTS[name], split, count) for name in LAYOUTS if name in names
            for split, count in _parts(LAYOUTS[name], train, test)]
    total, done = sum(count for *_, count in todo), 0
    with new_folder(out, replace=overwrite) as root:
        for layout, split, count in todo:
            records = []
            for number in range(count):
                records.append(write_sample(layout, root, split, number, edge=edge, seed=seed))
                done += 1
                if progress is not None:
                    progress(done, total)
            if layout.finish is not None:
                layout.finish(root / layout.folder, split, records)
        write_plain_json(root / MARKER, dict(version=FORMAT_VERSION, layouts=sorted(names), train=train, test=test,
                                             edge=edge, seed=seed))
    return Path(out)


def write_sample(layout: Layout, root: Path, split: str, number: int, *, edge: int, seed: int) -> object:
    """Write the files of one sample below `root`; what it returns is for the layout's `finish`."""
    rng = np.random.default_rng(derive_seed('demo scenes', seed, layout.folder, split, number))
    return layout.write(Sample(root / layout.folder, split, number, edge, rng))


def _parts(layout: Layout, train: int, test: int) -> list[tuple[str, int]]:
    """(split, samples) of the parts of a layout."""
    if layout.train is not None and layout.test is not None:
        return [(layout.train, max(train, layout.least)), (layout.test, max(test, layout.least))]
    if layout.train is not None:
        return [(layout.train, max(train + test, layout.least))]
    return [(layout.test or '', max(test, layout.least))]
