"""Sets of torchvision as they lie on disk, which our table reads without decoding an image."""

import json

import numpy as np
import pytest
from pair_shards import picture

from clear.core.errors import ConfigError
from clear.datasets import read_images


def write(root, **files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def images(root, paths):
    write(root, **{path: picture(number, 'JPEG' if path.endswith('jpg') else 'PPM' if path.endswith('ppm') else 'PNG')
                   for number, path in enumerate(paths)})


def dtd(root):
    images(root, ['dtd/dtd/images/dotted/a.jpg', 'dtd/dtd/images/banded/b.jpg'])
    write(root, **{'dtd/dtd/labels/test1.txt': 'dotted/a.jpg\nbanded/b.jpg\n'})
    return dict(split='test'), ['banded', 'dotted'], [1, 0]


def food(root):
    images(root, ['food-101/images/pho/1.jpg', 'food-101/images/ramen/2.jpg', 'food-101/images/ramen/3.jpg'])
    write(root, **{'food-101/meta/test.json': json.dumps(dict(pho=['pho/1'], ramen=['ramen/2', 'ramen/3']))})
    return dict(split='test'), ['pho', 'ramen'], [0, 1, 1]


def aircraft(root):
    base = 'fgvc-aircraft-2013b/data'
    images(root, [f'{base}/images/007.jpg', f'{base}/images/010.jpg'])
    write(root, **{f'{base}/variants.txt': '707-320\nA 300\nTu-154\n',
                   f'{base}/images_variant_test.txt': '010 Tu-154\n007 A 300\n'})
    return dict(split='test'), ['707-320', 'A 300', 'Tu-154'], [2, 1]


def gtsrb(root):
    base = 'gtsrb/GTSRB/Final_Test/Images'
    images(root, [f'{base}/0.ppm', f'{base}/1.ppm'])
    write(root, **{'gtsrb/GT-final_test.csv': 'Filename;Width;ClassId\n0.ppm;9;16\n1.ppm;9;1\n'})
    return dict(split='test'), ['1', '16'], [1, 0]  # torchvision says no names


def pets(root):
    base = 'oxford-iiit-pet'
    images(root, [f'{base}/images/great_pyrenees_1.jpg', f'{base}/images/Bengal_2.jpg'])
    write(root, **{f'{base}/annotations/test.txt': 'great_pyrenees_1 2 2 1\nBengal_2 1 1 1\n'})
    return dict(split='test'), ['Bengal', 'Great Pyrenees'], [1, 0]


def sst2(root):
    images(root, ['rendered-sst2/test/negative/1.png', 'rendered-sst2/test/positive/0.png'])
    return dict(split='test'), ['negative', 'positive'], [0, 1]


def caltech(root):
    base = 'caltech101/101_ObjectCategories'
    images(root, [f'{base}/ant/image_0001.jpg', f'{base}/crab/image_0001.jpg', f'{base}/BACKGROUND_Google/x.jpg'])
    write(root, **{'caltech101/Annotations/x': b''})
    return {}, ['ant', 'crab'], [0, 1]


def clevr(root):
    base = 'clevr/CLEVR_v1.0'
    images(root, [f'{base}/images/val/CLEVR_val_0.png', f'{base}/images/val/CLEVR_val_1.png',
                  f'{base}/images/test/CLEVR_test_0.png'])
    scenes = [dict(image_filename=f'CLEVR_val_{row}.png', objects=[{}] * (4 - row)) for row in range(2)]
    write(root, **{f'{base}/scenes/CLEVR_val_scenes.json': json.dumps(dict(scenes=scenes))})
    return dict(split='val'), ['3', '4'], [1, 0]


SETS = dict(DTD=dtd, Food101=food, FGVCAircraft=aircraft, GTSRB=gtsrb, OxfordIIITPet=pets, RenderedSST2=sst2,
            Caltech101=caltech, CLEVRClassification=clevr)


@pytest.mark.parametrize('name', SETS)
def test_a_set_is_read_from_its_files(tmp_path, name):
    options, names, labels = SETS[name](tmp_path)
    cfg = dict(type='TorchVision', dataset=name, root=str(tmp_path), **options)
    found = read_images(cfg)
    assert list(found.class_names) == names and found.label_array().tolist() == labels
    for row in range(len(found)):
        image, label = found.dataset[row]
        assert label == (labels[row] if not names[0].isdigit() else int(names[labels[row]]))
        assert np.array_equal(np.asarray(found.open_image(row)), np.asarray(image.convert('RGB')))
    fingerprint = found.fingerprint()
    assert read_images(cfg).fingerprint() == fingerprint
    stored = next(path for path in sorted(tmp_path.rglob('*')) if path.suffix in ('.jpg', '.png', '.ppm')
                  and 'CLEVR_test' not in path.name)
    stored.write_bytes(stored.read_bytes() + b'longer')
    assert read_images(cfg).fingerprint() != fingerprint


def test_a_set_without_labels_is_refused_in_one_line(tmp_path):
    clevr(tmp_path)
    with pytest.raises(ConfigError, match='CLEVRClassification do not have one class each'):
        read_images(dict(type='TorchVision', dataset='CLEVRClassification', root=str(tmp_path), split='test'))
