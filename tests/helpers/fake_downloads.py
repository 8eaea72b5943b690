"""Data sets of Avalanche's classics as files on disk, small and random, so that its own readers run on them."""

import csv
import json
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def write_mnist(root, per_class=6, folder='MNIST'):
    """The four IDX files below `root/<folder>/raw`; dim noise, and in class c a bright band from row 2 c + 3."""
    rng = np.random.default_rng(0)
    raw = Path(root) / folder / 'raw'
    raw.mkdir(parents=True, exist_ok=True)
    for part, count in (('train', per_class), ('t10k', 2)):
        labels = np.repeat(np.arange(10, dtype=np.uint8), count)
        labels = labels[rng.permutation(len(labels))]
        pixels = rng.integers(0, 40, (len(labels), 28, 28), dtype=np.uint8)
        for picture, label in zip(pixels, labels):
            picture[2 * label + 3:2 * label + 7] += 200
        header = struct.pack('>4B', 0, 0, 8, 3) + struct.pack('>3I', *pixels.shape)
        (raw / f'{part}-images-idx3-ubyte').write_bytes(header + pixels.tobytes())
        header = struct.pack('>4B', 0, 0, 8, 1) + struct.pack('>I', len(labels))
        (raw / f'{part}-labels-idx1-ubyte').write_bytes(header + labels.tobytes())
    return Path(root)


def write_cifar(root, monkeypatch, num_classes=10, per_class=3):
    """CIFAR-10 or -100 in torchvision's pickled batches; their checksums are not looked at."""
    from torchvision.datasets import CIFAR10, CIFAR100

    cls = CIFAR10 if num_classes == 10 else CIFAR100
    monkeypatch.setattr(CIFAR10, '_check_integrity', lambda self: (Path(self.root) / self.base_folder).is_dir())
    monkeypatch.setattr('torchvision.datasets.cifar.check_integrity', lambda path, md5=None: Path(path).is_file())
    rng = np.random.default_rng(1)
    folder = Path(root) / cls.base_folder
    folder.mkdir(parents=True)
    for files, count in ((cls.train_list, per_class), (cls.test_list, 1)):
        for name, _ in files:
            labels = np.repeat(np.arange(num_classes), count).tolist()
            batch = {'data': rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
                     'labels' if num_classes == 10 else 'fine_labels': labels}
            (folder / name).write_bytes(pickle.dumps(batch))
    names = [f'thing {label}' for label in range(num_classes)]
    (folder / cls.meta['filename']).write_bytes(pickle.dumps({cls.meta['key']: names}))
    return Path(root)


def _image(path, rng, size=32, mode='RGB'):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size, size, 3) if mode == 'RGB' else (size, size)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)


def write_tiny_imagenet(root, num_classes=200):
    rng = np.random.default_rng(2)
    folder = Path(root) / 'tiny-imagenet-200'
    names = [f'n{number:08}' for number in range(num_classes)]
    rows = []
    for name in names:
        for number in (1, 0):  # written in the wrong order
            _image(folder / 'train' / name / 'images' / f'{name}_{number}.JPEG', rng, 8)
        _image(folder / 'val' / 'images' / f'val_{name}.JPEG', rng, 8)
        rows.append([f'val_{name}.JPEG', name, 0, 0, 8, 8])
    (folder / 'wnids.txt').write_text('\n'.join(names))
    with (folder / 'val' / 'val_annotations.txt').open('w') as file:
        csv.writer(file, dialect='excel-tab').writerows(rows)
    return Path(root)


def write_cub200(root, num_classes=200):
    rng = np.random.default_rng(3)
    folder = Path(root) / 'CUB_200_2011'
    lists = {name: [] for name in ('train_test_split', 'images', 'image_class_labels', 'bounding_boxes')}
    number = 0
    for label in range(num_classes):
        for is_train in (1, 0):
            number += 1
            path = f'{label + 1:03}.Bird/{number}.jpg'
            _image(folder / 'images' / path, rng, 16)
            lists['train_test_split'].append(f'{number} {is_train}')
            lists['images'].append(f'{number} {path}')
            lists['image_class_labels'].append(f'{number} {label + 1}')
            lists['bounding_boxes'].append(f'{number} 2.0 2.0 10.0 10.0')
    for name, lines in lists.items():
        (folder / f'{name}.txt').write_text('\n'.join(lines))
    return Path(root)


def write_core50(root, scenario_folder, num_batches, classes_of_batch, num_classes=50, run=0):
    """CORe50 at 32 pixels: file lists of one scenario, and the four pickles that its reader opens."""
    rng = np.random.default_rng(4)
    root = Path(root)
    pictures = {label: f's1/o{label + 1}/C_{label}.png' for label in range(num_classes)}
    for path in pictures.values():
        _image(root / 'core50_32x32' / path, rng)
    lists = root / scenario_folder / f'run{run}'
    lists.mkdir(parents=True)
    for batch in range(num_batches):
        lines = [f'{pictures[label]} {label}' for label in classes_of_batch(batch)]
        (lists / f'train_batch_{batch:02}_filelist.txt').write_text('\n'.join(lines) + '\n')
    lines = [f'{pictures[label]} {label}' for label in range(num_classes)]
    (lists / 'test_filelist.txt').write_text('\n'.join(lines) + '\n')
    (root / 'batches_filelists').mkdir(exist_ok=True)
    (root / 'NIC_v2_79_cat').mkdir()
    every = list(range(num_classes))
    for name, value in (('paths', list(pictures.values())), ('labels2names', {}),
                        ('labels', {'ni': {0: dict.fromkeys(range(9), every)}}),
                        ('LUP', {'ni': {0: dict.fromkeys([*range(8), -1], every)}})):
        (root / f'{name}.pkl').write_bytes(pickle.dumps(value))
    return root


def write_openloris(root, num_batches=9, num_classes=4):
    from avalanche.benchmarks.datasets.openloris import openloris_data

    rng = np.random.default_rng(5)
    root = Path(root)
    pictures = [f'train/{label}.jpg' for label in range(num_classes)]
    for path in pictures:
        _image(root / path, rng, 16)
    every = list(range(num_classes))
    domain = {factor: dict.fromkeys([*range(10), -1], every) for factor in range(4)}
    for name, value in (('Paths', pictures * 40), ('Labels', {'domain': domain}), ('LUP', {'domain': domain})):
        (root / f'{name}.pkl').write_bytes(pickle.dumps(value))
    for name, *_ in openloris_data.avl_vps_data:
        if not (root / name).exists():
            (root / name).write_bytes(b'')
    lists = root / 'batches_filelists' / 'domain' / 'clutter'
    lists.mkdir(parents=True)
    lines = '\n'.join(f'{path} {label}' for label, path in enumerate(pictures)) + '\n'
    for batch in range(num_batches):
        (lists / f'train_batch_{batch:02}.txt').write_text(lines)
    (lists / 'test.txt').write_text(lines)
    return root


def write_omniglot(root, monkeypatch, alphabets=2, characters=2):
    """Background alphabets with 20 drawings of each character."""
    from torchvision.datasets import Omniglot

    monkeypatch.setattr(Omniglot, '_check_integrity',
                        lambda self: (Path(self.root) / self._get_target_folder()).is_dir())
    rng = np.random.default_rng(6)
    folder = Path(root) / Omniglot.folder / Omniglot.folder / 'images_background'
    for alphabet in range(alphabets):
        for character in range(characters):
            for drawing in range(20):
                _image(folder / f'alphabet{alphabet}' / f'character{character:02}' / f'{drawing:04}.png', rng, 28, 'L')
    return Path(root)


def write_stream51(root, num_classes=51):
    rng = np.random.default_rng(7)
    root = Path(root)
    for part, frames in (('train', 2), ('test', 1)):
        samples = []
        for label in range(num_classes):
            for frame in range(frames):
                path = f'{part}/{label}/{frame}.jpg'
                _image(root / path, rng, 16)
                # class, class instance, video, frame, shape, box (right, left, bottom, top), file
                samples.append([label, 0, label, frame, [16, 16], [12, 2, 12, 2], path])
        (root / f'Stream-51_meta_{part}.json').write_text(json.dumps(samples))
    return root


def write_endless(root, num_sequences=2):
    from avalanche.benchmarks.datasets.endless_cl_sim import endless_cl_sim_data

    rng = np.random.default_rng(8)
    folder = Path(root) / endless_cl_sim_data.data[1][0].split('.')[0]  # the data of the scenario 'Illumination'
    names = list(endless_cl_sim_data.default_classification_labelmap)[:3]
    for part in ('Train', 'Test'):
        for sequence in range(num_sequences):
            for name in names:
                for number in range(2):
                    _image(folder / part / f'Seq_{sequence}' / name / f'{number}.png', rng, 16)
    return Path(root)
