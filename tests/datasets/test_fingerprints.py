"""Values that banks and runs of earlier versions hold: they must come out the same for ever."""

from pathlib import Path

import numpy as np
import pytest

from clear.datasets import SelfSupervisedImages, read_clear, read_images
from clear.datasets.fingerprints import bank_source_fingerprint, file_sizes, image_list_fingerprint
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.datasets.readers.by_time import SplitOptions, read_folder_by_time
from clear.datasets.readers.folder import read_folder

TREE = Path(__file__).parents[1] / 'fixtures' / 'v1' / 'tree'
IMAGES = TREE / 'labeled_images'


@pytest.mark.parametrize('cfg, expected', [
    (dict(type='CLEAR', data_root=str(TREE)), 'fbdb6b3e2c7be72f4cf1eb303695ad93a2b532e989a834d1e2d9e5b0890a6c3e'),
    (dict(type='ImageFolder', root=str(IMAGES / '1')),
     '84530871a3192df90624bc8a7aa711d73c4a930f2ed36dc5ea682b376bab9358'),
    (dict(type='FileList', path=str(TREE / 'training_folder/filelists/1/all.txt'), root=str(TREE)),
     '65f01eb81243b97430c031685628f757f7720fbd9cd2af7039577d07a9331a02')], ids=lambda each: '')
def test_banks_of_earlier_versions_are_found(cfg, expected):
    assert read_images(cfg).fingerprint() == expected


@pytest.mark.parametrize('read, expected', [
    (lambda: read_folder(IMAGES), 'c147177125bdeeca93537ec481dcd4ade5f925f6c027de49f748fe4b1e115bcc'),
    (lambda: read_buckets(TREE, BucketChoice(None, 'all')),
     'a6c2c0d1d8093a5823b8cc020551fe57de836e18a81c1a3ec3527f3400f3f07e'),
    (lambda: read_buckets(TREE), '2ea4c61c2d03a49bf48d70ac2bca8ab1bde634e31fae1fed7abbe0d3991d301c'),
    (lambda: read_buckets(IMAGES, BucketChoice(None, 'all')),
     '7ed5d0c8db94ea607adfba148ca49016301ecf82e96ddc8dd487cf6fa61ab89c')], ids=['folder', 'tree', 'bucket', 'by time'])
def test_pretraining_of_earlier_versions_is_resumed(read, expected):
    assert SelfSupervisedImages(read(), image_size=8).fingerprint() == expected


@pytest.mark.parametrize('read, expected', [
    (lambda: read_clear(TREE, seed=0), '9466c1d49b6d349508abcafae5afd390e9f5a58c2a6193218736f8c307e758f4'),
    (lambda: read_clear(TREE, seed=None, evaluation_protocol='streaming'),
     'cf116065e57750e1d0c87e8ec621f30a226845b43a275903eb7bd4f430a88d99'),
    (lambda: read_folder_by_time(IMAGES, SplitOptions()),
     '60d323782f7553055a31c85b698427b129abb4e0dc059656ced9c6e19d7e5d32')], ids=['iid', 'streaming', 'by time'])
def test_streams_of_earlier_versions_are_resumed(read, expected):
    assert read().fingerprint == expected


def test_everything_counts_in_a_bank_s_source():
    base = dict(ids=['a', 'b'], labels=np.array([0, 1]), buckets=['1', None], class_names=['x', 'y'], sizes=[1, 2])
    others = [dict(ids=['a', 'c']), dict(labels=np.array([1, 1])), dict(buckets=['1', '1']),
              dict(class_names=['x', 'z']), dict(sizes=[1, -1]), dict(sizes=None)]
    values = {bank_source_fingerprint(**{**base, **other}) for other in [{}, *others]}
    assert len(values) == 1 + len(others)


def test_size_and_place_of_an_image_count_and_the_root_does_not(tmp_path):
    for name in ('one', 'other'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a.png').write_bytes(b'123')
    assert file_sizes(tmp_path / 'one', ['a.png', 'gone.png', 'no\0name']) == [3, -1, -1]
    first = image_list_fingerprint(tmp_path / 'one', ['a.png'], [('all', 0, 1)])
    assert image_list_fingerprint(tmp_path / 'other', ['a.png'], [('all', 0, 1)]) == first
    assert image_list_fingerprint(tmp_path / 'one', ['a.png'], [('1', 0, 1)]) != first
    (tmp_path / 'other/a.png').write_bytes(b'1234')
    assert image_list_fingerprint(tmp_path / 'other', ['a.png'], [('all', 0, 1)]) != first
