"""Blocks of pairs of encoders, against CKA of the whole matrices."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from short_runs import run

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.engine.probing.blocks import BLOCKS, BlockComparison, pairs_of
from clear.features.build import make_encoder
from clear.features.loading import image_batches

RESNET = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
LITE = dict(type='TimmEncoder', arch='tf_efficientnet_lite0', preprocess=dict(resize=40, crop=40))


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(11):
        path = tmp_path / 'images' / 'ab'[number % 2] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (48, 48, 3), np.uint8)).save(path)
    return tmp_path / 'images'


def by_definition(x, y):
    x, y = (value.double().numpy() - value.double().numpy().mean(0) for value in (x, y))
    return np.linalg.norm(y.T @ x)**2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


@torch.no_grad()
def blocks(cfg, images):
    encoder = make_encoder(cfg)
    batch = next(iter(image_batches(images, encoder.preprocess, [range(len(images))]))).images
    return [*(each.double().mean((2, 3)) for each in encoder.feature_maps(batch)), encoder(batch)]


def test_each_encoder_sees_images_as_it_wants_and_batches_do_not_matter(folder):
    images = read_images(dict(type='ImageFolder', root=str(folder)))
    wanted = [[by_definition(x, y) for y in blocks(LITE, images)] for x in blocks(RESNET, images)]
    for size in (4, 11):
        found = BlockComparison(RESNET, LITE).run(images, batch_size=size)
        assert np.allclose(found.numpy(), wanted, atol=1e-6)
    own = BlockComparison(RESNET, RESNET).run(images)
    assert torch.allclose(own.diagonal(), torch.ones(6, dtype=torch.float64)) and torch.allclose(own, own.T)


def test_what_cannot_be_read_is_left_out(folder):
    images = read_images(dict(type='ImageFolder', root=str(folder)))
    wanted = BlockComparison(RESNET, LITE).run(images.select(np.array([0, 1, *range(3, 11)])), batch_size=4)
    (folder / images.text('path', 2)).write_bytes(b'no image')
    assert torch.allclose(BlockComparison(RESNET, LITE).run(images, batch_size=4), wanted, atol=1e-6)
    with pytest.raises(DataError, match='of 1 images that can be read: 1 images have no alignment'):
        BlockComparison(RESNET, LITE).run(images.select(slice(1, 3)))


def test_pairs():
    cfg = dict(encoders=dict(a=RESNET, b=LITE, c=RESNET, d=dict(bank='x')))
    assert pairs_of(cfg, ['a', 'b', 'c']) == [('a', 'b'), ('a', 'c'), ('b', 'c')]
    assert pairs_of(cfg, ['b']) == [('b', 'b')]
    for names, message in ((['aa'], "Nearest: 'a'"), (['a', 'a'], 'expected different ones'),
                           (None, 'encoders.d is a folder')):
        with pytest.raises(ConfigError, match=message):
            pairs_of(cfg, names)
    with pytest.raises(ConfigError, match="'x/../../y' is no name"):  # a file is called so
        pairs_of(dict(encoders={'a': RESNET, 'x/../../y': RESNET}))


def test_the_program(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config.py').write_text(f'encoders = dict(a={RESNET!r}, b={LITE!r})\ntasks = [dict(type="KNN")]\n'
                                        f'data = dict(test=dict(type="ImageFolder", root={str(folder)!r}))\n')
    done = run('analysis_tools/compare_encoders', 'config.py', '--out', 'out')
    assert done.code == 0, done.err
    rows = list(csv.reader((tmp_path / 'out/cka_a--b.csv').open()))
    assert rows[0] == ['a / b', *BLOCKS] and len(rows) == 7
    assert all(0 <= float(value) <= 1 for row in rows[1:] for value in row[1:])
    assert (tmp_path / 'out/cka_a--b.png').is_file()
    wrong = run('analysis_tools/compare_encoders', 'config.py', '--encoders', 'aa')
    assert wrong.code == 2 and wrong.err.count('\n') == 1 and "No encoder of the config is called 'aa'" in wrong.err
