"""The lists of a CLEAR tree, parsed with a split of our own."""

import json
from pathlib import Path

import numpy as np


def listed(path):
    """(paths, targets) of a file list, parsed with a split of our own."""
    pairs = [line.rpartition(' ') for line in Path(path).read_text().splitlines()]
    return [path for path, _, _ in pairs], [int(target) for _, _, target in pairs]


def official(root, part, bucket):
    """(paths, targets) of a part of the new layout."""
    index = json.loads((root / part / 'labeled_metadata.json').read_text())[bucket]
    paths, targets = [], []
    for label, name in enumerate((root / part / 'class_names.txt').read_text().split('\n')[:-1]):
        for record in json.loads((root / part / index[name]).read_text()).values():
            paths.append(f'{part}/{record["IMG_PATH"]}')
            targets.append(label)
    return paths, targets


def as_lists(bucket):
    assert bucket.ids == bucket.paths and bucket.features is None
    assert bucket.targets.dtype == np.int64
    return bucket.paths, bucket.targets.tolist()
