"""ELEVATER's storage: indexes, class names, and images that are read inside their archives."""

import json
import multiprocessing
import os
import pickle
import zipfile
import zlib

import numpy as np
import pytest
from elevater_sets import COLOURS, CORNERS, MULTI, SINGLE, colour_of, png_of, write_split, write_toy_sets
from tiny_encoder import TinyEncoder

from clear.core.errors import ConfigError, DataError
from clear.datasets import UnreadableImage, read_images
from clear.datasets.images.zip_members import split_member
from clear.datasets.readers.elevater.reader import elevater_set
from clear.datasets.readers.elevater.sets import STORED_SETS, require_set
from clear.features import extract


@pytest.fixture
def root(tmp_path):
    return write_toy_sets(tmp_path)


def read(root, name=SINGLE, split='train', **options):
    return read_images(dict(type='ElevaterSet', root=str(root), set=name, split=split, **options))


def pixels_by_zipfile(folder, path):
    """An image by Python's own reader of archives."""
    from PIL import Image

    archive, _, name = path.partition('@')
    with zipfile.ZipFile(folder / archive) as file, file.open(name) as member:
        return np.asarray(Image.open(member).convert('RGB'))


@pytest.mark.parametrize('coco', [False, True])
@pytest.mark.parametrize('name, classes', [(SINGLE, list(COLOURS)), (MULTI, list(CORNERS))])
def test_images_and_labels_are_those_of_index_and_archive(tmp_path, coco, name, classes):
    images = read(write_toy_sets(tmp_path, coco), name, 'test')
    lines = (write_toy_sets(tmp_path / 'text') / 'classification' / name / 'test.txt').read_text().splitlines()
    labels = [[int(each) for each in line[len(path) + 1:].split(',') if each]
              for line, path in zip(lines, images.texts('path'))]
    assert images.class_names == classes and images.name == f'{name}_test' and images.kind == 'ElevaterSet'
    if name == MULTI:
        assert images['labels'].to_pylist() == labels and 'label' not in images
        assert any(len(own) > 1 for own in labels) and any(not own for own in labels)
    else:
        assert images.label_array().tolist() == [own for own, in labels]
        assert np.bincount(images.label_array()).tolist() == [10, 10, 10]
    for row in (0, 7, len(images) - 1):
        assert (np.asarray(images.open_image(row)) == pixels_by_zipfile(images.root, images.text('path', row))).all()
        assert images.content(row).startswith(b'\x89PNG')


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_stored_and_deflated_members_in_any_folder_of_files_too(tmp_path, method):
    import random

    pixels = [colour_of(row % 3, random.Random(row)) for row in range(6)]
    folder = tmp_path / 'classification' / 'mine'
    write_split(folder, 'train', pixels, [[row % 3] for row in range(6)], ['a', 'b', 'c'], method=method)
    (folder / 'loose file.png').write_bytes(png_of(pixels[0]))
    with (folder / 'train.txt').open('a') as file:
        file.write('loose file.png 2\n')
    images = read(tmp_path / 'classification', 'mine')  # the root may be the folder itself
    assert all((np.asarray(images.open_image(row)) == pixels[row % 6]).all() for row in range(7))
    assert images.label_array().tolist() == [0, 1, 2, 0, 1, 2, 2]
    sizes = images.contents.sizes(images.texts('path'))
    assert sizes[:6].tolist() == [len(png_of(each)) for each in pixels] and sizes[6] == len(png_of(pixels[0]))
    with zipfile.ZipFile(folder / 'train.zip') as archive:
        assert {member.compress_type for member in archive.infolist()} == {method}


def test_a_part_of_the_images_travels_and_keeps_its_rows(root):
    part = pickle.loads(pickle.dumps(read(root).select([5, 3])))
    whole = read(root)
    assert (np.asarray(part.open_image(1)) == np.asarray(whole.open_image(3))).all()
    part.expect([0, 1])
    assert part.texts('id') == [whole.text('id', 5), whole.text('id', 3)]


def test_banks_are_the_same_with_workers(root, tmp_path):
    images = read(root)
    banks = [extract(TinyEncoder(), images, tmp_path / f'bank_{workers}', num_workers=workers)
             for workers in (0, 2)]
    features = [bank.tensors()[0] for bank in banks]
    assert features[0].equal(features[1]) and len(features[0]) == 30
    assert banks[0].tensors()[1].tolist() == images.label_array().tolist()


def _reads_all(images, rows, queue):
    queue.put([zlib.crc32(images.content(row)) for row in rows])


def test_an_open_archive_is_safe_in_forked_processes(root):
    images = read(root, MULTI)
    expected = [zlib.crc32(images.content(row)) for row in range(len(images))]  # the archive is open now
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    workers = [context.Process(target=_reads_all, args=(images, range(len(images)), queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert found == [expected] * 3


def test_the_fingerprint_follows_labels_and_sizes(root):
    first = read(root, MULTI).fingerprint()
    index = root / 'classification' / MULTI / 'train.txt'
    lines = index.read_text().splitlines()
    assert read(root, MULTI).fingerprint() == first
    index.write_text('\n'.join([lines[0].rsplit(' ', 1)[0] + ' 3', *lines[1:]]))
    assert read(root, MULTI).fingerprint() != first
    assert len({read(root, name, split).fingerprint() for name in (SINGLE, MULTI) for split in ('train', 'test')}) == 4


def test_folders_of_classes_without_an_index(tmp_path):
    for split in ('train', 'test'):
        for name in ('ant', 'bee'):
            folder = tmp_path / 'classification' / 'insects' / split / name
            folder.mkdir(parents=True)
            (folder / '1.png').write_bytes(png_of(np.zeros((4, 4, 3), np.uint8)))
    images = read(tmp_path, 'insects', 'test')
    assert images.class_names == ['ant', 'bee'] and images.label_array().tolist() == [0, 1]
    with pytest.raises(DataError, match=r'no index for val \(val.txt or val.json\) and no folder val/'):
        read(tmp_path, 'insects', 'val')


def test_elevaters_own_sets_are_read_by_their_published_names(tmp_path):
    folder = tmp_path / 'classification' / 'kitti_distance_20210923'
    write_split(folder, 'validation', [np.zeros((4, 4, 3), np.uint8)] * 4, [[0], [1], [2], [3]],
                ['a car', 'b', 'c', 'c'], coco=True)
    (folder / 'validation.json').rename(folder / 'validation_meta.json')
    images = read(tmp_path, 'kitti-distance', 'val')
    assert images.class_names == ['a car', 'b', 'c', 'c #3'] and images.name == 'kitti-distance_val'
    with pytest.raises(DataError, match='has no test_meta.json, the index'):
        read(tmp_path, 'kitti-distance', 'test')
    with pytest.raises(DataError, match="'mnist' lies in classification/mnist_20211008"):
        read(tmp_path, 'mnist')
    with pytest.raises(ConfigError, match="'mnist' has no images for val; there are train and test"):
        (tmp_path / 'classification' / 'mnist_20211008').mkdir()
        read(tmp_path, 'mnist', 'val')


def test_the_table_of_sets():
    assert len(STORED_SETS) == 21 and sum(each.num_classes for each in STORED_SETS) == 2151
    # What table 1 of the paper gives in its last row; it has no column for validation.
    sums = [sum(each.sizes.get(split, 0) for each in STORED_SETS[:20]) for split in ('train', 'val', 'test')]
    assert sums == [638429, 77619, 192677]
    assert require_set('flower102') is require_set('oxford-flower-102')
    with pytest.raises(ConfigError, match=r"'oxford-flower', .*nearest: 'oxford-flower-102'"):
        require_set('oxford-flower')


def test_paths_of_members():
    assert split_member('a.zip@b/c.png') == ('a.zip', 'b/c.png') and split_member('x@y.png') == (None, 'x@y.png')
    assert split_member('f@1/a.ZIP@b@2.png') == ('f@1/a.ZIP', 'b@2.png') and split_member('a.zip') == (None, 'a.zip')


# What may be wrong


def rewrite(folder, members, lines, archive='train.zip'):
    with zipfile.ZipFile(folder / archive, 'w') as file:
        for member, content in members:
            file.writestr(member, content)
    (folder / 'train.txt').write_text(''.join(f'{line}\n' for line in lines))


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize('member, line, message', [
    ('ok.png', 'train.zip@../../../etc/passwd 0', "train.zip: member '../../../etc/passwd' leads out of the folder"),
    ('ok.png', 'train.zip@/etc/passwd 0', "member '/etc/passwd' leads out"),
    ('../evil.png', 'train.zip@ok.png 0', "train.zip: member '../evil.png' leads out of the folder; nothing was read"),
    ('/evil.png', 'train.zip@ok.png 0', "member '/evil.png' leads out of the folder"),
    ('c:/evil.png', 'train.zip@ok.png 0', "member 'c:/evil.png' has a path of another system"),
    (link('ok.png'), 'train.zip@ok.png 0', "member 'ok.png' is a link or a special file"),
    ('ok.png', '../train.zip@ok.png 0', 'lies outside'),
    ('ok.png', '../ok.png 0', 'lies outside'),
    ('ok.png', 'other.zip@ok.png 0', 'other.zip does not exist'),
    ('ok.png', 'train.zip@ok.png 0\nx.png 3', r"image 2 \('x.png'\): label 3, but there are only 3 class names"),
    ('ok.png', 'train.zip@ok.png -1', r"image 1 \('train.zip@ok.png'\): label -1, expected class indices from 0")])
def test_indexes_and_archives_that_are_refused(root, member, line, message):
    rewrite(root / 'classification' / SINGLE, [(member, b'x')], [line])
    with pytest.raises(DataError, match=message):
        read(root)


def test_a_corrupt_archive_is_one_message(root):
    archive = root / 'classification' / SINGLE / 'train.zip'
    content = archive.read_bytes()
    for broken in (content[:-60], b'no archive at all', b''):
        archive.write_bytes(broken)
        with pytest.raises(DataError, match='train.zip is damaged or no zip archive: .* Get it again'):
            read(root)


def test_bad_members_are_unreadable_images_and_the_others_are_read(root, tmp_path):
    folder = root / 'classification' / SINGLE
    with zipfile.ZipFile(folder / 'train.zip') as archive:
        places = [archive.infolist()[row].header_offset for row in range(4)]
    content = bytearray((folder / 'train.zip').read_bytes())
    content[places[0] + 100] ^= 255  # in the image's bytes
    content[places[1]] ^= 255  # in the local header's signature
    (folder / 'train.zip').write_bytes(content)
    with (folder / 'train.txt').open('a') as file:
        file.write('train.zip@not there.png 0\nnot there.png 1\n')
    images = read(root)
    for row, reason in ((0, 'checksum'), (1, 'no member where'), (30, 'no such member'), (31, 'missing')):
        with pytest.raises(UnreadableImage, match=reason):
            images.open_image(row)
    bank = extract(TinyEncoder(), images, tmp_path / 'bank', max_bad_fraction=0.2)
    assert len(bank.tensors()[0]) == 28
    bad = [json.loads(line)['row'] for line in (tmp_path / 'bank' / 'bad_samples.jsonl').read_text().splitlines()]
    assert bad == [0, 1, 30, 31]


def test_a_deflated_member_that_unpacks_to_more_than_it_says_is_refused(root):
    folder = root / 'classification' / SINGLE
    with zipfile.ZipFile(folder / 'train.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.png', bytes(100_000))
    (folder / 'train.txt').write_text('train.zip@a.png 0\n')
    content = (folder / 'train.zip').read_bytes()
    content = content.replace((100_000).to_bytes(4, 'little'), (500).to_bytes(4, 'little'))
    (folder / 'train.zip').write_bytes(content)
    with pytest.raises(UnreadableImage, match='checksum or size'):
        read(root).open_image(0)


def test_encrypted_and_unknown_methods_say_so(root):
    folder = root / 'classification' / SINGLE
    for method, reason in ((zipfile.ZIP_BZIP2, 'packed by method 12'), (zipfile.ZIP_STORED, 'encrypted')):
        with zipfile.ZipFile(folder / 'train.zip', 'w', method) as archive:
            archive.writestr('a.png', b'1')
        (folder / 'train.txt').write_text('train.zip@a.png 0\n')
        if method == zipfile.ZIP_STORED:
            content = bytearray((folder / 'train.zip').read_bytes())
            content[content.index(b'PK\x01\x02') + 8] |= 1
            (folder / 'train.zip').write_bytes(content)
        with pytest.raises(UnreadableImage, match=reason):
            read(root).open_image(0)


def test_an_image_that_is_named_again_counts_each_time(root):
    rewrite(root / 'classification' / SINGLE, [('a.png', png_of(np.zeros((4, 4, 3), np.uint8)))],
            ['train.zip@a.png 0', 'train.zip@a.png 1'])
    assert read(root).texts('id') == ['train.zip@a.png', 'train.zip@a.png#1']


def test_names_that_an_archive_does_not_mark_as_utf8(root):
    member = zipfile.ZipInfo('é.png'.encode().decode('cp437'))
    rewrite(root / 'classification' / SINGLE, [(member, png_of(np.zeros((4, 4, 3), np.uint8)))], ['train.zip@é.png 0'])
    content = (root / 'classification' / SINGLE / 'train.zip').read_bytes()
    encoded = member.filename.encode()
    assert content.count(encoded) == 2
    images = read(root)
    assert images.open_image(0).size == (4, 4)


@pytest.mark.parametrize('options, error, message', [
    (dict(name='toy-colors'), ConfigError, "none of ELEVATER's and no folder .*; nearest: 'toy-colours'"),
    (dict(name='..'), DataError, 'lies outside'), (dict(name='.'), ConfigError, "set is '.'"),
    (dict(split='dev'), ConfigError, "split is 'dev'"), (dict(multi_label=1), ConfigError, 'multi_label is 1'),
    (dict(name=MULTI, multi_label=False), DataError, 'has . labels, in a set of one per image')])
def test_wrong_options(root, options, error, message):
    with pytest.raises(error, match=message):
        read(root, **options)


@pytest.mark.parametrize('change', [
    dict(images=3), dict(categories=[dict(id=1)]), dict(annotations=[dict(image_id=99, category_id=1)]),
    dict(annotations=[dict(image_id=1, category_id=9)]), dict(images=[dict(id=1, file_name=2)]),
    dict(images=[dict(id=1, file_name='a.zip@\ud800.png')], annotations=[])])
def test_a_coco_index_of_something_else(tmp_path, change):
    write_toy_sets(tmp_path, coco=True)
    file = tmp_path / 'classification' / SINGLE / 'train.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=r'train.json is no index of classified images'):
        read(tmp_path)


def test_without_names_the_largest_label_of_any_split_says_how_many_classes_there_are(tmp_path):
    folder = tmp_path / 'classification' / 'own'
    folder.mkdir(parents=True)
    for split, labels in (('train', '2\n1'), ('test', '0\n1')):
        (folder / f'{split}.txt').write_text(''.join(f'{split}.png {label}\n' for label in labels.split()))
    for split in ('train', 'test'):
        assert elevater_set(str(tmp_path), 'own', split).class_names == ['0', '1', '2']


def test_images_may_name_their_archive_in_a_field_of_its_own(tmp_path):
    write_toy_sets(tmp_path, coco=True)
    file = tmp_path / 'classification' / SINGLE / 'train.json'
    content = json.loads(file.read_text())
    expected = read(tmp_path).texts('path')
    for image in content['images']:
        image['zip_file'], _, image['file_name'] = image['file_name'].partition('@')
    file.write_text(json.dumps(content))
    assert read(tmp_path).texts('path') == expected
    assert os.fspath(read(tmp_path).root).endswith(SINGLE)


def test_numbers_that_no_column_holds_are_an_unreadable_image(root, monkeypatch):
    folder = root / 'classification' / SINGLE
    rewrite(folder, [('a.png', b'1')], ['train.zip@a.png 0'])
    real = zipfile.ZipFile.infolist

    def huge(archive):
        members = real(archive)
        for member in members:
            member.file_size = member.compress_size = member.header_offset = 2**64 - 1
        return members

    monkeypatch.setattr(zipfile.ZipFile, 'infolist', huge)
    with pytest.raises(UnreadableImage, match='more than'):
        read(root).open_image(0)
