"""Which captions fit which images of COCO, of the data files of the package eccv-caption; none of its code is run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json

PARTS = ('image_to_caption', 'caption_to_image')
# Name of ours -> beginning of the names of the package's files.
SETS = {'eccv_caption': 'eccv', 'cxc': 'cxc', 'coco_5k': 'original'}


def eccv_caption_folder() -> Path:
    """The data of the installed package.

    Raises:
        ConfigError: if it is not installed.
    """
    found = find_spec('eccv_caption')
    if found is None or not found.submodule_search_locations:
        raise ConfigError("eccv-caption is not installed: pip install eccv-caption, or name its folder 'data' by "
                              '--data.')
    return Path(found.submodule_search_locations[0]) / 'data'


def read_caption_positives(folder: Path) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Set -> `image_to_captions` and `caption_to_images`, id -> ids.

    `coco_5k` are the captions that belong to the 5,000 test images of Karpathy's split, the images in its order, of
    which every 1,000 are a fold of COCO-1K. `eccv_caption` and `cxc` are more that fit, of some images and captions.

    Raises:
        DataError: if a file is missing or not what it should be.
    """
    found = {}
    for name, prefix in SETS.items():
        parts = [read_json(folder / f'{prefix}_{part}.json') for part in PARTS]
        for part, content in zip(PARTS, parts):
            if not isinstance(content, dict) or not all(isinstance(ids, list) for ids in content.values()):
                raise DataError(f'{folder / f"{prefix}_{part}.json"} holds no lists of ids.')
        found[name] = dict(image_to_captions=parts[0], caption_to_images=parts[1])
    owners = found['coco_5k']['caption_to_images']
    try:
        order = np.load(folder / 'coco_test_ids.npy', allow_pickle=False).tolist()
        images = dict.fromkeys(str(owners[str(caption)][0]) for caption in order)
        found['coco_5k']['image_to_captions'] = {each: found['coco_5k']['image_to_captions'][each] for each in images}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f'{folder / "coco_test_ids.npy"} cannot be read: {type(error).__name__}: {error}') from error
    return found
