"""Pairs in tar shards: what is found in them, what is refused, and the samples that are made of them."""

import json
import os
import pickle
import tarfile

import pytest
from pair_shards import TO_TENSOR, member, picture, write_numbered, written

from clear.core.errors import ConfigError, DataError, WriteError
from clear.datasets import ImageTextPairs, WebDatasetPairs, read_images
from clear.datasets.images.decode import decode_image
from clear.datasets.shards import index
from clear.datasets.shards.index import Fields, make_index, open_index

webdataset = pytest.importorskip('webdataset')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp('shards'))


def red(sample):
    return round(float(sample['inputs'][0].mean()) * 255)


def test_pairs_are_those_that_webdataset_reads(folder):
    images = read_images(dict(type='ImageTextShards', shards=str(folder)))
    peers = list(webdataset.WebDataset([str(folder / f'{shard}.tar') for shard in range(6)], shardshuffle=False))
    assert images.texts('id') == [f'{peer["__url__"].rpartition("/")[2][0]}/{peer["__key__"]}' for peer in peers]
    assert [images.captions(row) for row in range(29)] == [[peer['txt'].decode()] for peer in peers]
    assert images.label_array().tolist() == [int(peer['cls']) for peer in peers] and images.class_names == ['0', '1',
                                                                                                            '2']
    for row, peer in enumerate(peers):
        assert images.content(row) == peer['png']
        assert images.open_image(row).tobytes() == decode_image(peer['png']).tobytes()
    assert [time.day for time in images.times()] == list(range(1, 30))


def test_shards_are_named_by_folder_braces_or_list(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    whole = read_images(dict(type='ImageTextShards', shards=str(folder)))
    for shards in (f'{folder.name}/{{0..5}}.tar', [str(folder / '0.tar'), f'{folder}/{{1..5}}.tar']):
        assert read_images(dict(type='ImageTextShards', shards=shards)).fingerprint() == whole.fingerprint()
    some = read_images(dict(type='ImageTextShards', shards=[f'{folder}/{{2..1}}.tar'], names=['a', 'b', 'c']))
    assert some.texts('id')[0].startswith('2/part/') and len(some) == 12 and some.class_names == ['a', 'b', 'c']
    assert some.fingerprint() != whole.fingerprint()


@pytest.mark.parametrize('shards, error, message', [
    ('{folder}/{{0..6}}.tar', DataError, '6.tar does not exist; 1 of 7 shards are missing'),
    ('https://host/{{0..6}}.tar', ConfigError, 'is no local file'), ('pipe:cat x', ConfigError, 'is no local file'),
    ('{folder}/{{0..6.tar', ConfigError, 'braces'), ('', ConfigError, 'expected a folder'),
    ('{folder}/empty', DataError, 'no .tar file'), ('{folder}/0.tar', ConfigError, "image is ';'")])
def test_other_names_are_refused(folder, shards, error, message):
    (folder / 'empty').mkdir(exist_ok=True)
    more = dict(image=';') if message.startswith('image') else {}
    with pytest.raises(error, match=message):
        read_images(dict(type='ImageTextShards', shards=shards.format(folder=folder), **more))


PAIR = [('a.jpg', picture(1, 'JPEG')), ('a.txt', b'one')]


@pytest.mark.parametrize('files, message', [
    ([*PAIR, ('b.jpg', b'x'), ('c.txt', b'two')], "'b' has an image but no caption; 2 of 3 keys are no pairs"),
    ([('c.txt', b'two'), *PAIR], "'c' has a caption but no image; 1 of 2 keys"),
    ([('c.json', b'{}'), *PAIR], "'c' has neither"),
    ([*PAIR, ('b.jpg', b'x'), ('b.txt', b'y'), ('a.json', b'{}')], "the files of 'a' do not lie together"),
    ([*PAIR, ('a.jpg', b'x')], "'a.jpg' is there twice"), ([*PAIR, ('a.JPG', b'x')], "'a.JPG' is there twice"),
    ([('a.jpg', b''), ('a.txt', b'one')], "'a.jpg' is empty"),
    ([('a.jpg', b'x'), ('a.txt', b' \n')], "'a.txt' holds an empty caption"),
    ([('a.jpg', b'x'), ('a.txt', b'\xff')], "'a.txt' is no text in UTF-8"),
    ([('a.jpg', b'x'), ('a.captions.json', b'[]')], 'empty caption, or none'),
    ([('a.jpg', b'x'), ('a.captions.json', b'{"a": 1}')], 'holds dict, expected a text or a list'),
    ([('a.jpg', b'x'), ('a.captions.json', b'[')], 'no valid JSON'),
    ([*PAIR, ('a.cls', b'cat')], "'a.cls' is b'cat'; expected the number"),
    ([*PAIR, ('a.time', b'05/02/2010')], "'a.time'"),
    ([('a.jpg', b'x'), ('a.txt', b'y' * (1 << 21))], 'more than 1,048,576')])
def test_what_is_no_pair_is_named_by_shard_and_key(tmp_path, files, message):
    written(tmp_path / 'x.tar', files)
    with pytest.raises(DataError, match='x.tar') as caught:
        read_images(dict(type='ImageTextShards', shards=str(tmp_path)))
    assert message in str(caught.value)
    assert not (tmp_path / 'x.tar.index').exists()


def test_extensions_folders_metadata_and_long_names(tmp_path):
    files = [('__meta__', b'x'), ('d.1/k.v1.JPG', b'x'), ('d.1/k.seg.png', b'y'), ('d.1/k.TXT', b'one'),
             ('n' * 300 + '.jpg', picture(3)), ('n' * 300 + '.txt', b' two\n'), ('m.jpg', b'z'), ('m.txt', b'a' * 9999),
             ('m.captions.json', json.dumps(['x', 'y']).encode())]
    with tarfile.open(tmp_path / 'x.tar', 'w', format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo('d.1')
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        for name, content in files:
            member(tar, name, content)
    images = read_images(dict(type='ImageTextShards', shards=str(tmp_path), image='v1.jpg;jpg'))
    assert images.texts('id') == ['x/d.1/k', 'x/' + 'n' * 300, 'x/m']
    assert [images.captions(row) for row in range(3)] == [['one'], [' two\n'], ['a' * 9999]]
    assert images.content(0) == b'x' and images.open_image(1).getpixel((0, 0)) == (3, 7, 200)
    lists = read_images(dict(type='ImageTextShards', shards=str(written(tmp_path / 'y.tar', files[-3::2])),
                             caption='captions.json'))
    assert lists.captions(0) == ['x', 'y']


@pytest.mark.parametrize('cut', ['inside', 'boundary', 'header', 'closing', 'garbage', 'gzip', 'text'])
def test_a_shard_that_is_cut_short_is_refused_wherever_the_cut_is(tmp_path, cut):
    path = tmp_path / 'x.tar'
    with tarfile.open(path, 'w') as tar:
        for row in range(10):
            member(tar, f'{row}.jpg', bytes([row + 1]) * 3000)
            member(tar, f'{row}.txt', b'c' * 20)
    content, one = path.read_bytes(), 512 + 3072 + 512 + 512
    ends = dict(inside=7 * one + 2000, boundary=7 * one + 512 + 3072, header=7 * one + 512 + 3072 + 100,
                closing=10 * one)
    if cut == 'gzip':
        import gzip
        path.write_bytes(gzip.compress(content))
    elif cut == 'garbage':
        path.write_bytes(content[:5 * one] + b'garbage' * 100 + content[5 * one + 700:])
    elif cut == 'text':
        path.write_bytes(b'no tar at all')
    else:
        path.write_bytes(content[:ends[cut]])
    with pytest.raises(DataError, match='no tar file' if cut in ('gzip', 'text') else 'cut short or damaged') as caught:
        read_images(dict(type='ImageTextShards', shards=str(path)))
    place = dict(inside='7.jpg', boundary='7.jpg', header='7.jpg', closing='9.txt', garbage='4.txt')
    assert 'x.tar' in str(caught.value) and place.get(cut, '') in str(caught.value)


def test_the_index_is_made_once_and_again_when_the_shard_changes(tmp_path, monkeypatch):
    scanned = []
    scan = index.scan
    monkeypatch.setattr(index, 'scan', lambda shard, fields: scanned.append(shard.name) or scan(shard, fields))
    path = written(tmp_path / 'x.tar', PAIR)

    def read(**options):
        scanned.clear()
        images = read_images(dict(type='ImageTextShards', shards=str(tmp_path), **options))
        return images.texts('caption'), list(scanned)

    captions, times = [['one']], path.stat().st_mtime_ns
    assert read() == (captions, ['x.tar']) and read() == (captions, [])
    written(path, [('a.jpg', b'y'), ('a.txt', b'two')])
    os.utime(path, ns=(times + 10**9, times + 10**9))
    assert read() == ([['two']], ['x.tar']) and read() == ([['two']], [])
    assert read(label='class') == ([['two']], ['x.tar'])
    (tmp_path / 'x.tar.index').write_bytes(b'damaged')
    assert read() == ([['two']], ['x.tar'])
    assert read(index_dir=str(tmp_path / 'else')) == ([['two']], ['x.tar'])
    assert [file.name[:6] for file in (tmp_path / 'else').iterdir()] == ['x.tar.']
    # One of another file, under this one's name and time.
    make_index(path, Fields())
    other = open_index(path, Fields())
    assert other is not None and open_index(path, Fields(image=('png',))) is None


def test_shards_of_equal_name_share_a_folder_of_indices(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        os.utime(written(tmp_path / name / '0.tar', [('k.png', picture(1)), ('k.txt', name.encode())]), (10**9, 10**9))
    shards = [str(tmp_path / name) for name in ('a', 'b')]
    for _ in range(2):
        images = read_images(dict(type='ImageTextShards', shards=shards, index_dir=str(tmp_path / 'indices')))
        assert images.texts('caption') == [['a'], ['b']]


def test_folders_of_other_classes_are_no_one_list(tmp_path):
    def folder(name, label, classes=None):
        (tmp_path / name).mkdir()
        files = [('k.png', picture(1)), ('k.txt', b'x')] + ([] if label is None else [('k.cls', b'%d' % label)])
        written(tmp_path / name / '0.tar', files)
        if classes is not None:
            manifest = dict(complete=True, class_names=classes, shards=[dict(name='0.tar')])
            (tmp_path / name / 'shards.json').write_text(json.dumps(manifest))
        return str(tmp_path / name)

    pets, ships, same, numbers, bare = (folder('a', 1, ['cat', 'dog']), folder('b', 0, ['dog', 'ship']),
                                        folder('c', 0, ['cat', 'dog']), folder('d', 1), folder('e', None))
    for other, said in ((ships, 'cat, dog; dog, ship'), (numbers, 'cat, dog; none')):
        with pytest.raises(DataError, match=f'have other classes.*{said}.*ConcatPairs.*names='):
            read_images(dict(type='ImageTextShards', shards=[pets, other]))
    for order in ([pets, bare, same], [bare, pets]):
        assert read_images(dict(type='ImageTextShards', shards=order)).class_names == ['cat', 'dog']
    told = read_images(dict(type='ImageTextShards', shards=[pets, ships], names=['x', 'y']))
    assert told.class_names == ['x', 'y'] and told.label_array().tolist() == [1, 0]


def test_no_place_for_an_index_is_said_with_what_to_do(tmp_path):
    written(tmp_path / 'x.tar', PAIR)
    (tmp_path / 'file').write_text('')
    with pytest.raises(WriteError, match='index_dir names another folder'):
        read_images(dict(type='ImageTextShards', shards=str(tmp_path), index_dir=str(tmp_path / 'file')))


def test_parts_and_copies_read_the_same_images(folder):
    images = read_images(dict(type='ImageTextShards', shards=str(folder)))
    part = images.select(slice(3, 27, 5))
    copy = pickle.loads(pickle.dumps(part))
    for row, place in enumerate(range(3, 27, 5)):
        assert part.open_image(row).getpixel((0, 0)) == copy.open_image(row).getpixel((0, 0)) == (place, 7, 200)
    every = read_images(dict(type='ConcatPairs', parts=[
        dict(type='ImageTextShards', shards=str(folder / '0.tar')),
        dict(type='Subset', every=2, images=dict(type='ImageTextShards', shards=str(folder / '2.tar')))]))
    assert [every.open_image(row).getpixel((0, 0))[0] for row in range(len(every))] == [*range(5), *range(8, 17, 2)]
    assert every.content(6) == images.content(10)


# The data set


def test_samples_are_those_of_the_reader_and_every_caption_counts(folder, tmp_path):
    files = [(f'{row}.{name}', content) for row in range(4) for name, content in (
        ('jpg', picture(row)), ('captions.json', json.dumps([f'{row} a', f'{row} b', f'{row} c']).encode()))]
    written(tmp_path / 'x.tar', files)
    drawn = WebDatasetPairs(str(tmp_path), TO_TENSOR)
    same = ImageTextPairs(dict(type='ImageTextShards', shards=str(tmp_path)), TO_TENSOR)
    assert all(drawn[epoch, row]['captions'] == same[epoch, row]['captions'] for epoch in range(3) for row in range(4))
    assert len({drawn[epoch, 1]['captions'] for epoch in range(20)}) == 3
    every = WebDatasetPairs(str(tmp_path), TO_TENSOR, every_caption=True)
    assert [every[0, row]['captions'] for row in range(12)] == [f'{row} {name}' for row in range(4) for name in 'abc']
    assert every.shard_counts().tolist() == [12]
    with pytest.raises(TypeError, match='an index alone'):
        drawn.__getitems__([0, 1])
    assert drawn.fingerprint() == same.fingerprint() != WebDatasetPairs(str(folder), TO_TENSOR).fingerprint()
    files[1] = ('0.captions.json', json.dumps(['0 a', '0 b', '0 d']).encode())
    written(tmp_path / 'x.tar', files)
    assert WebDatasetPairs(str(tmp_path), TO_TENSOR).fingerprint() != drawn.fingerprint()


def test_a_bad_image_is_reported_and_another_of_its_class_stands_in(tmp_path):
    files = [(f'{row}.{name}', content) for row in range(6) for name, content in (
        ('jpg', b'damaged' if row == 2 else picture(row)), ('txt', b'pair %d' % row), ('cls', b'%d' % (row % 2)))]
    written(tmp_path / 'x.tar', files)
    dataset = WebDatasetPairs(str(tmp_path), TO_TENSOR, max_bad_fraction=0.2)
    dataset.report_to(tmp_path / 'bad.jsonl')
    for epoch in range(3):
        sample = dataset[epoch, 2]
        assert sample['rows'] in (0, 4) and sample['captions'] == f'pair {sample["rows"]}' and sample['labels'] == 0
        assert red(sample) == sample['rows']
    record, = dataset.bad_samples.records()
    assert record['id'] == 'x/2' and record['reason'] == 'not an image'
    strict = WebDatasetPairs(str(tmp_path), TO_TENSOR)
    with pytest.raises(DataError, match='1 of 6 train images cannot be read'):
        strict[0, 2]


def test_a_shard_that_shrinks_or_vanishes_after_its_index_gives_bad_samples(tmp_path):
    files = [(f'{row}.{name}', content) for row in range(6) for name, content in (
        ('jpg', picture(row)), ('txt', b'pair'))]
    path = written(tmp_path / 'x.tar', files)
    dataset = WebDatasetPairs(str(tmp_path), TO_TENSOR, max_bad_fraction=1)
    os.truncate(path, 2000)
    assert red(dataset[0, 5]) == dataset[0, 5]['rows'] < 2
    assert 'x.tar is shorter than its index says' in str(dataset.bad_samples.records())
    path.unlink()
    gone = pickle.loads(pickle.dumps(dataset.images))
    with pytest.raises(Exception, match='No such file'):
        gone.open_image(0)
    gone.expect([0, 1])
