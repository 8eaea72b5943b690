"""Tiny CLEAR trees for tests: random but seeded images and features, in either layout.

Written without the library, so that tests of the reader compare against something independent.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# A name with a space, because paths may hold them.
CLASS_NAMES = ['BACKGROUND', 'field hockey', 'bus', 'camera', 'cosplay', 'dress', 'laptop', 'racing', 'soccer',
               'sweater', 'baseball']
FEATURE_TYPE = 'moco_b0'


def write_clear_tree(root, *, layout='old', num_buckets=3, num_classes=3, per_class=4, first_bucket=1, features=None,
                     seeds=(0,), image_size=16, shots=(), images=True):
    """Write a tree below `root` and return `root` as a Path.

    Args:
        layout: 'old' or 'new'. In the new one 30 % of every class (at least one) is the test part.
        per_class: images per bucket and class, >= 2.
        features: width of the features of type 'moco_b0', or None for none.
        seeds, shots: splits and few-shot lists of the old layout.
        images: False writes the lists without image files (for tests of features).
    """
    root = Path(root)
    names = CLASS_NAMES[:num_classes] + [f'class_{i}' for i in range(len(CLASS_NAMES), num_classes)]
    buckets = [str(first_bucket + i) for i in range(num_buckets)]
    rng = np.random.default_rng(0)
    # samples[bucket]: (class index, image id, relative path), classes in order
    samples = {bucket: [(label, f'{bucket}{label:02}{i:03}', f'labeled_images/{bucket}/{name}/'
                         f'{bucket}{label:02}{i:03}.jpg') for label, name in enumerate(names) for i in range(per_class)]
               for bucket in buckets}
    rows = {bucket: _feature_rows(rng, samples[bucket], features) for bucket in buckets} if features else {}
    if layout == 'old':
        _write_old(root, names, samples, rows, seeds, shots)
        parts = {path: root for bucket in buckets for _, _, path in samples[bucket]}
    else:
        parts = _write_new(root, names, samples, rows)
    if images:
        for path, folder in parts.items():
            _write_image(folder / path, rng, image_size)
    return root


def _feature_rows(rng, samples, dim):
    """(N, dim) float32 around one random centre per class, so that a linear model can learn them."""
    centres = np.random.default_rng(1).normal(size=(1 + max(label for label, _, _ in samples), dim)) * 2
    labels = np.array([label for label, _, _ in samples])
    return torch.from_numpy((centres[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32))


def _write_image(path, rng, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def _write_old(root, names, samples, rows, seeds, shots):
    folder = root / 'training_folder'
    _write(root / 'class_names.txt', '\n'.join(names) + '\n')
    _write(folder / 'bucket_indices.json', json.dumps(list(samples)))
    for bucket, entries in samples.items():
        lines = [f'{path} {label}' for label, _, path in entries]
        _write(folder / 'filelists' / bucket / 'all.txt', '\n'.join(lines))
        if bucket in rows:
            _save(folder / 'features' / FEATURE_TYPE / bucket / 'all.pth', (rows[bucket], [e[0] for e in entries]))
        for seed in seeds:
            order = np.random.default_rng([seed, int(bucket)]).permutation(len(lines)).tolist()
            num_test = max(1, int(len(lines) * 0.3))
            place = folder / 'testset_ratio_0.3' / f'split_{seed}' / bucket
            _write_split(place, lines, order[num_test:], order[:num_test])
            for shot in shots:
                chosen = [row for label in range(len(names))
                          for row in [r for r in order if entries[r][0] == label][:shot]]
                rest = [row for row in order if row not in chosen]
                _write_split(folder / f'{shot}_shot' / f'split_{seed}' / bucket, lines, chosen, rest)


def _write_split(folder, lines, train, test):
    for part, indices in (('train', train), ('test', test)):
        _write(folder / f'{part}.txt', '\n'.join(lines[i] for i in indices))
        _write(folder / f'{part}_indices.json', json.dumps(indices))


def _write_new(root, names, samples, rows):
    """Returns {path in the part: folder of the part}."""
    folders = {}
    for part in ('train', 'test'):
        _write(root / part / 'class_names.txt', '\n'.join(names) + '\n')
        index, feature_index = {}, {}
        for bucket, entries in samples.items():
            for label, name in enumerate(names):
                of_class = [row for row, entry in enumerate(entries) if entry[0] == label]
                num_test = max(1, int(len(of_class) * 0.3))
                chosen = of_class[:num_test] if part == 'test' else of_class[num_test:]
                place = f'labeled_metadata/{bucket}/{name}.json'
                records = {entries[row][1]: {'ID': entries[row][1], 'IMG_PATH': entries[row][2]} for row in chosen}
                _write(root / part / place, json.dumps(records))
                index.setdefault(bucket, {})[name] = place
                folders |= {entries[row][2]: root / part for row in chosen}
                if bucket in rows:
                    place = f'features/{FEATURE_TYPE}/{bucket}/{name}.pth'
                    _save(root / part / place, {entries[row][1]: rows[bucket][row].clone() for row in chosen})
                    feature_index.setdefault(bucket, {})[name] = place
        # Shuffled keys: the order of buckets must come from their numbers.
        _write(root / part / 'labeled_metadata.json', json.dumps(dict(sorted(index.items(), reverse=True))))
        if rows:
            _write(root / part / 'features' / FEATURE_TYPE / 'features.json', json.dumps(feature_index))
    return folders
