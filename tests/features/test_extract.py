"""A bank equals a loop over images; what is refused, masked, or listed on the way."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets.test_hard_images import READABLE, UNREADABLE
from PIL import Image
from tiny_encoder import TinyEncoder, content, write_images

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.features import extract


@pytest.fixture
def images(tmp_path):
    return dict(type='ImageFolder', root=str(write_images(tmp_path / 'images')))


def by_hand(encoder, source):
    """Features image by image, with the encoder's own transform."""
    transform = encoder.preprocess.build()
    return torch.stack([encoder(transform(source.open_image(row))[None])[0] for row in range(len(source))])


@pytest.mark.parametrize('batch_size, block_size, num_workers', [(1, None, 0), (3, 6, 0), (4, None, 2), (64, None, 0)])
def test_features_equal_a_loop_over_images(tmp_path, images, batch_size, block_size, num_workers):
    source = read_images(images)
    bank = extract(TinyEncoder(), source, tmp_path / 'bank', batch_size=batch_size, block_size=block_size,
                   dtype='float32', num_workers=num_workers)
    assert np.allclose(bank.features, by_hand(TinyEncoder(), source), rtol=1e-5, atol=1e-6)
    assert bank.labels.tolist() == source.label_array().tolist() == [0] * 10 + [1] * 10
    assert bank.index['id'].to_pylist() == source.texts('id') and bank.valid.all()
    assert not (tmp_path / 'bank.partial').exists()


def test_float16_is_the_rounded_float32(tmp_path, images):
    half = extract(TinyEncoder(), images, tmp_path / 'half')
    full = extract(TinyEncoder(), images, tmp_path / 'full', dtype='float32')
    assert half.features.dtype == np.float16
    assert np.array_equal(half.features, np.asarray(full.features).astype(np.float16))
    assert half.fingerprint != full.fingerprint


def test_maps_per_level(tmp_path, images):
    bank = extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=3, dtype='float32', maps=[2, 0])
    encoder, source = TinyEncoder(), read_images(images)
    batch = torch.stack([encoder.preprocess.build()(source.open_image(row)) for row in range(20)])
    for level in (0, 2):
        assert np.allclose(bank.maps(level), encoder.feature_maps(batch)[level], rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match='no maps of level 1; it has levels 0, 2'):
        bank.maps(1)


def test_second_call_makes_no_forward_pass(tmp_path, images):
    extract(TinyEncoder(), images, tmp_path / 'bank')
    encoder = TinyEncoder()
    extract(encoder, images, tmp_path / 'bank')
    assert encoder.num_forwards == 0


@pytest.mark.parametrize('other, part', [(dict(seed=1), 'encoder'), (dict(mean=0.25), 'preprocess.mean')])
def test_other_weights_or_transform_are_refused(tmp_path, images, other, part):
    bank = extract(TinyEncoder(), images, tmp_path / 'bank')
    before = content(tmp_path / 'bank')
    with pytest.raises(DataError, match=part) as error:
        extract(TinyEncoder(**other), images, tmp_path / 'bank')
    assert bank.fingerprint in str(error.value) and content(tmp_path / 'bank') == before
    replaced = extract(TinyEncoder(**other), images, tmp_path / 'bank', overwrite=True)
    assert replaced.fingerprint in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bank', 'images']


def test_changed_data_are_refused(tmp_path, images):
    extract(TinyEncoder(), images, tmp_path / 'bank')
    Image.new('RGB', (50, 50)).save(tmp_path / 'images' / 'bus' / '000.png')
    with pytest.raises(DataError, match='Different: data'):
        extract(TinyEncoder(), images, tmp_path / 'bank')


def test_folder_that_is_no_bank_is_left_alone(tmp_path, images):
    (tmp_path / 'bank').mkdir()
    (tmp_path / 'bank' / 'thesis.tex').write_text('years of work')
    with pytest.raises(DataError, match='no feature bank'):
        extract(TinyEncoder(), images, tmp_path / 'bank', overwrite=True)
    (tmp_path / 'bank').rename(tmp_path / 'other.partial')
    with pytest.raises(DataError, match='Move it away'):
        extract(TinyEncoder(), images, tmp_path / 'other')
    assert (tmp_path / 'other.partial' / 'thesis.tex').exists()


# Unreadable images


def test_unreadable_images_are_masked_and_listed(tmp_path, images):
    folder = tmp_path / 'images' / 'bus'
    whole = (folder / '002.png').read_bytes()
    (folder / '002.png').write_bytes(whole[:len(whole) // 2])
    (folder / '004.png').write_text('not an image')
    Image.new('RGB', (1, 60000)).save(folder / '006.png')  # would be enormous once its shorter side is 224
    encoder = TinyEncoder(crop=224)
    bank = extract(encoder, images, tmp_path / 'bank', batch_size=2, dtype='float32', max_bad_fraction=0.15)
    assert np.flatnonzero(~bank.valid).tolist() == [1, 2, 3]
    assert not np.asarray(bank.features[1:4]).any() and np.asarray(bank.features[4:]).all()
    records = bank.bad_samples()
    assert [(record['row'], record['id']) for record in records] == [
        (1, 'bus/002.png'), (2, 'bus/004.png'), (3, 'bus/006.png')]
    assert records[1]['reason'] == 'not an image' and '1 x 60000' in records[2]['reason']
    assert bank.meta['num_valid'] == 17


@pytest.mark.parametrize('mode, size', [('CMYK', (9, 9)), ('P', (9, 9)), ('RGB', (1, 1)), ('L', (30, 2))])
def test_unusual_images_are_encoded(tmp_path, mode, size):
    (tmp_path / 'images').mkdir()
    Image.new(mode, size).save(tmp_path / 'images' / 'a.tif')
    frames = [Image.new('RGB', (9, 9), color) for color in ('red', 'blue')]
    frames[0].save(tmp_path / 'images' / 'b.gif', save_all=True, append_images=frames[1:])
    bank = extract(TinyEncoder(), dict(type='ImageFolder', root=str(tmp_path / 'images')), tmp_path / 'bank')
    assert bank.valid.all() and bank.labels.tolist() == [-1, -1]


def test_every_hard_file_is_encoded_or_masked_and_listed(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name, (data, _) in (READABLE | UNREADABLE).items():
        (folder / f'{name}.png').write_bytes(data)
    bank = extract(TinyEncoder(), dict(type='ImageFolder', root=str(folder)), tmp_path / 'bank', max_bad_fraction=1.0)
    names = [name.removesuffix('.png') for name in bank.index['id'].to_pylist()]
    assert {name for name, is_valid in zip(names, bank.valid) if is_valid} == set(READABLE)
    reasons = {record['id'].removesuffix('.png'): record['reason'] for record in bank.bad_samples()}
    assert set(reasons) == set(UNREADABLE)
    assert all(re.search(UNREADABLE[name][1], reason) for name, reason in reasons.items())
    assert not np.asarray(bank.features)[~bank.valid].any()


def test_too_many_unreadable_images_stop(tmp_path, images):
    for name in ('000', '002'):
        (tmp_path / 'images' / 'bus' / f'{name}.png').write_bytes(b'')
    with pytest.raises(DataError, match=r'2 of 20 images cannot be read \(10.0%\)'):
        extract(TinyEncoder(), images, tmp_path / 'bank', max_bad_fraction=0.05)
    assert not (tmp_path / 'bank').exists()


def test_features_that_are_not_finite_name_the_image(tmp_path, images):
    with pytest.raises(DataError, match="'bus/000.png' .* use dtype='float32'"):
        extract(TinyEncoder(scale=1e6), images, tmp_path / 'bank')
    with pytest.raises(DataError, match="'bus/000.png' are not finite. They are NaN") as error:
        extract(TinyEncoder(scale=float('nan')), images, tmp_path / 'other')
    assert 'float32' not in str(error.value)


def test_file_names_that_are_not_utf8(tmp_path, images):
    root = Path(images['root'])
    odd = os.fsdecode(b'caf\xe9.png')
    next(root.rglob('*.png')).rename(root / 'bus' / odd)
    bank = extract(TinyEncoder(), images, tmp_path / 'bank')
    assert len(bank) == 20 and bank.valid.all() and f'bus/{odd}' in bank.column('id')
    assert bank.rows_of([f'bus/{odd}']).tolist() == [bank.column('path').index(f'bus/{odd}')]
    (root / os.fsdecode(b'\xe9t\xe9')).mkdir()
    (root / os.fsdecode(b'\xe9t\xe9') / '1.png').touch()
    with pytest.raises(DataError, match=r"the name of class '\\udce9t\\udce9' is not UTF-8. Rename it"):
        read_images(images)


# Options


@pytest.mark.parametrize('options, message', [
    (dict(dtype='float64'), 'float64'), (dict(maps=[5]), r'maps is \[5\]'), (dict(batch_size=0), 'batch_size is 0'),
    (dict(batch_size=4, block_size=6), 'multiple of batch_size'), (dict(max_bad_fraction=2), 'max_bad_fraction'),
    (dict(device='abacus'), 'abacus')])
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, images, options, message):
    with pytest.raises(ConfigError, match=message):
        extract(TinyEncoder(), images, tmp_path / 'bank', **options)
    assert not list(tmp_path.glob('bank*'))


def test_progress_and_meta(tmp_path, images):
    reports = []
    extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=8, progress=lambda *args: reports.append(args))
    assert reports == [(8, 20), (16, 20), (20, 20)]
    meta = json.loads((tmp_path / 'bank' / 'meta.json').read_text())
    assert meta['identity']['preprocess'] == TinyEncoder().preprocess.to_dict()
    assert meta['identity']['encoder'] == TinyEncoder().fingerprint()
    assert str(tmp_path) not in json.dumps(meta)
