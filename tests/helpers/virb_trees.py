"""Miniature copies of ViRB's image-level data sets, folder by folder as the real ones lie below `data/`."""

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16


def write_image(path, value=0, side=SIDE):
    """A plain image whose brightness is `value`, so that tests can tell which file was read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (side, side), (value % 256,) * 3).save(path)


def write_class_folders(root, classes, counts):
    """`root/<split>/<class>/<number>.jpg`, classes told apart by brightness."""
    for split, count in counts.items():
        for label, name in enumerate(classes):
            for number in range(count):
                write_image(root / split / name / f'{number:03}.jpg', 20 + 60 * label + number)
    return root


def write_imagenet_v2(root, folders, count=1):
    for folder in folders:
        for number in range(count):
            write_image(root / str(folder) / f'{number}.jpeg', 20 + 60 * int(folder) + number)
    return root


def write_caltech(root, counts, lists=None):
    for label, (category, count) in enumerate(counts.items()):
        for number in range(1, count + 1):
            write_image(root / category / f'image_{number:04}.jpg', 20 + 60 * label)
    for split, paths in (lists or {}).items():
        write_json(root / f'caltech101_{split}.json', paths)
    return root


def cifar_content(labels, seed=0):
    """What a file of cifar-100-python holds, and its images (N, 32, 32, 3)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 30, (len(labels), 32, 32, 3)) + 40 * np.array(labels)[:, None, None, None] % 220
    images = images.astype(np.uint8)
    data = np.stack([np.concatenate([image[..., channel].ravel() for channel in range(3)]) for image in images])
    return {'filenames': [f'{row}.png' for row in range(len(labels))], 'batch_label': 'batch 1 of 1',
            'fine_labels': list(labels), 'coarse_labels': [0] * len(labels), 'data': data}, images


def write_cifar100(root, labels, meta=True, protocol=2):
    """`labels` is split -> fine labels."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, (split, own) in enumerate(labels.items()):
        (root / split).write_bytes(pickle.dumps(cifar_content(own, seed)[0], protocol))
    if meta:
        names = [f'class {number}' for number in range(100)]
        (root / 'meta').write_bytes(pickle.dumps({'fine_label_names': names}, protocol))
    return root


def write_kinetics(root, videos):
    """`videos` is split -> id -> (label, number of frames)."""
    for split, content in videos.items():
        write_json(root / 'annotations' / f'{split}.json',
                   {video: {'annotations': {'label': label, 'segment': [0.0, 10.0]}, 'duration': 10.0, 'subset': split}
                    for video, (label, _) in content.items()})
        (root / split).mkdir(parents=True, exist_ok=True)
        for video, (_, count) in content.items():
            for frame in range(count):
                write_image(root / split / video[:2] / f'{video}_{frame}.jpg', frame)
    return root


def write_nuscenes(root, pairs):
    """`pairs` is split -> list of (first, second, label)."""
    for split, content in pairs.items():
        write_json(root / f'nuScenes_{split}.json',
                   [dict(img_a=first, img_b=second, label=label) for first, second, label in content])
        for number, path in enumerate(sorted({path for first, second, _ in content for path in (first, second)})):
            write_image(root / path, number)
    return root


def write_thor_egomotion(root, pairs):
    """`pairs` is split -> list of (stem, action)."""
    for split, content in pairs.items():
        write_lines(root / f'{split}_labels.txt', (f'{stem} {action}' for stem, action in content))
        for stem, _ in content:
            for number, view in enumerate('ab'):
                write_image(root / f'{stem}_rgb_{view}.jpg', 100 * number)
    return root


def write_thor_num_steps(root, steps):
    """`steps` is split -> list of (path without _rgb.jpg, number)."""
    for split, content in steps.items():
        write_lines(root / f'{split}_labels.txt', (f'{stem} {number}' for stem, number in content))
        for stem, number in content:
            write_image(root / f'{stem}_rgb.jpg', 20 * number)
    return root


def write_clevr(root, scenes):
    """`scenes` is split -> list of (file name, coordinates of its objects)."""
    for split, content in scenes.items():
        write_json(root / 'scenes' / f'CLEVR_{split}_scenes.json', {'info': {'split': split}, 'scenes': [
            {'image_filename': name, 'image_index': index, 'objects': [{'3d_coords': list(place)} for place in places]}
            for index, (name, places) in enumerate(content)]})
        for name, places in content:
            write_image(root / 'images' / split / name, 20 * len(places))
    return root


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines))


def brightness(images, row):
    """The value that `write_image` wrote into the image of a row."""
    return int(np.asarray(images.open_image(row)).mean().round())


def files_below(root):
    return sorted(path.relative_to(root).as_posix() for path in Path(root).rglob('*') if not path.is_dir())
