"""Pairs of any reader as shards: read back equal, the same bytes twice, and continued after a kill."""

import json
import signal
import tarfile

import numpy as np
import pyarrow
import pytest
from killed_runs import die_before, run_in_fork
from PIL import Image
from short_runs import run

from clear.core.errors import DataError
from clear.datasets import WebDatasetPairs, read_images
from clear.datasets.make.shards import write_shards

webdataset = pytest.importorskip('webdataset')
TOOL = 'dataset_converters/make_shards'
KINDS = ('JPEG', 'PNG', 'WEBP', 'BMP')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Ten images of four formats, half of them in two rows of `pairs.csv`; and two class folders."""
    folder, draws = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    rows = []
    for row in range(10):
        image = Image.fromarray(draws.integers(0, 255, (12, 9, 3), np.uint8))
        place = folder / ('cat' if row % 2 else 'dog') / f'{row}.{KINDS[row % 4].lower()}'
        place.parent.mkdir(exist_ok=True)
        image.save(place, KINDS[row % 4])
        rows += [f'{place.relative_to(folder)},pair {row} ß {each},2012-0{each + 1}-{row + 10}' for each in
                 range(1 + row % 2)]
    (folder / 'pairs.csv').write_text('filepath,title,day\n' + '\n'.join(rows) + '\n')
    return folder


def sources(root):
    table = dict(type='ImageTextTable', path=str(root / 'pairs.csv'))
    return dict(
        table=table, merged=dict(table, merge=True), dated=dict(table, time_key='day', freq='month'),
        classes=dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(root))),
        joined=dict(type='ConcatPairs', parts=[table, dict(type='Subset', images=table, max_rows=3)]))


def same_pixels(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize('kind', ['table', 'merged', 'dated', 'classes', 'joined'])
@pytest.mark.parametrize('shuffle', [None, 5])
def test_pairs_come_back_as_they_were(root, tmp_path, kind, shuffle):
    images = read_images(sources(root)[kind])
    done = write_shards(images, tmp_path, shard_size=4, shuffle=shuffle)
    assert done.counts == [*[4] * (len(images) // 4), *([len(images) % 4] if len(images) % 4 else [])]
    found = read_images(dict(type='ImageTextShards', shards=str(tmp_path)))
    rows = [int(name.rpartition('/')[2]) for name in found.texts('id')]
    assert sorted(rows) == list(range(len(images))) and (rows == sorted(rows)) == (shuffle is None)
    assert found.class_names == list(images.class_names)
    times = images.times()
    for place, row in enumerate(rows):
        assert found.captions(place) == images.captions(row)
        assert same_pixels(found.open_image(place), images.open_image(row))
        assert found.label_array()[place] == images.label_array()[row] and found.times()[place] == times[row]
        if (content := images.content(row)).startswith((b'\xff\xd8', b'\x89PNG', b'RIFF')):
            assert found.content(place) == content
    peers = list(webdataset.WebDataset([str(tmp_path / name) for name in done.names], shardshuffle=False).decode('pil'))
    assert [peer.get('txt', peer.get('captions.json')) for peer in peers] == [
        texts[0] if len(texts) == 1 else texts for texts in map(found.captions, range(len(found)))]


@pytest.mark.parametrize('periods', [dict(freq='month'), dict(num_buckets=3), dict(edges=['2012-01-15'])])
def test_times_cut_shards_into_the_buckets_of_the_table(root, tmp_path, periods):
    table = sources(root)['table']
    write_shards(read_images(dict(table, time_key='day', freq='year')), tmp_path, shard_size=4, shuffle=3)
    images = read_images(dict(table, time_key='day', **periods))
    found = read_images(dict(type='ImageTextShards', shards=str(tmp_path), **periods))
    assert found.bucket_names() == images.bucket_names()
    for bucket in images.bucket_names():
        part, expected = (each.select(bucket=bucket) for each in (found, images))
        places = list(zip(part['shard'].to_pylist(), part['offset'].to_pylist()))
        assert places == sorted(places)
        assert sorted(map(part.captions, range(len(part)))) == sorted(map(expected.captions, range(len(expected))))
    mixed = tmp_path / 'mixed'
    write_shards(read_images(table), mixed)
    with pytest.raises(DataError, match="'shards-00000/000000000' has no time"):
        read_images(dict(type='ImageTextShards', shards=str(mixed), **periods))


def test_twice_gives_the_same_bytes_and_a_whole_folder_is_left_alone(root, tmp_path):
    images = read_images(sources(root)['table'])
    one, other = tmp_path / 'one', tmp_path / 'other'
    write_shards(images, one, shard_size=4, shuffle=1)
    write_shards(images, other, shard_size=4, shuffle=1)
    for file in (*one.glob('*.tar'), one / 'shards.json'):
        assert file.read_bytes() == (other / file.name).read_bytes()
    times = {file: file.stat().st_mtime_ns for file in one.glob('*.tar*')}
    assert write_shards(images, one, shard_size=4, shuffle=1).kept == 4
    assert times == {file: file.stat().st_mtime_ns for file in one.glob('*.tar*')}
    for name, options in dict(shard_size=dict(shard_size=5, shuffle=1), shuffle=dict(shard_size=4)).items():
        with pytest.raises(DataError, match=f'other {name}'):
            write_shards(images, one, **options)
    assert len(write_shards(images, one, shard_size=8, overwrite=True).names) == 2
    assert len(read_images(dict(type='ImageTextShards', shards=str(one)))) == 15


def _write_and_die(root, out):
    die_before(tarfile.TarFile, 'addfile', lambda _, info, *__: info.name.startswith('000000009.'))
    write_shards(read_images(sources(root)['table']), out, shard_size=4)


def test_killed_inside_a_shard_goes_on_with_it(root, tmp_path):
    out = tmp_path / 'out'
    run_in_fork(_write_and_die, root, out, code=-signal.SIGKILL)
    assert sorted(file.name for file in out.glob('*.tar')) == ['shards-00000.tar', 'shards-00001.tar']
    assert list(out.glob('.shards-00002.tar.*.tmp'))
    with pytest.raises(DataError, match='not all written'):
        read_images(dict(type='ImageTextShards', shards=str(out)))
    times = {file: file.stat().st_mtime_ns for file in out.glob('*.tar')}
    images = read_images(sources(root)['table'])
    done = write_shards(images, out, shard_size=4)
    assert done.kept == 2 and all(file.stat().st_mtime_ns == time for file, time in times.items())
    assert not list(out.glob('.*.tmp'))
    write_shards(images, tmp_path / 'whole', shard_size=4)
    for name in (*done.names, 'shards.json'):
        assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_a_shard_without_its_index_or_with_another_is_written_again(root, tmp_path):
    images = read_images(sources(root)['table'])
    write_shards(images, tmp_path, shard_size=4)
    content = (tmp_path / 'shards-00001.tar').read_bytes()
    (tmp_path / 'shards-00000.tar.index').unlink()
    (tmp_path / 'shards-00001.tar').write_bytes(content[:5000])
    assert write_shards(images, tmp_path, shard_size=4).kept == 2
    assert (tmp_path / 'shards-00001.tar').read_bytes() == content
    (tmp_path / 'shards-00002.tar').unlink()
    with pytest.raises(DataError, match='other ones than the 4 in its shards.json'):
        WebDatasetPairs(str(tmp_path), [dict(type='ToTensor')])


def test_missing_images_are_left_out_up_to_a_share(root, tmp_path):
    for row in range(4):
        Image.new('RGB', (4, 4), (row,) * 3).save(tmp_path / f'{row}.png')
    images = read_images(dict(type='ImageTextTable', path=str(root / 'pairs.csv'), max_rows=1))
    (tmp_path / 'p.csv').write_text('filepath,title\n' + ''.join(f'{row}.png,t{row}\n' for row in range(4)))
    images = read_images(dict(type='ImageTextTable', path=str(tmp_path / 'p.csv')))
    (tmp_path / '2.png').unlink()
    with pytest.raises(DataError, match="1 of 4 images cannot be read.*'2.png'"):
        write_shards(images, tmp_path / 'strict', shard_size=2)
    done = write_shards(images, tmp_path / 'out', shard_size=2, max_bad_fraction=0.3)
    assert done.counts == [2, 1] and done.bad == {2: 'missing'}
    assert write_shards(images, tmp_path / 'out', shard_size=2, max_bad_fraction=0.3).kept == 2


def test_overwrite_takes_no_shard_for_the_right_one(tmp_path):
    (tmp_path / 'p.csv').write_text('filepath,title\n' + ''.join(f'{row}.bmp,t{row}\n' for row in range(3)))
    for shift in (0, 100):  # at equal size
        for row in range(3):
            Image.new('RGB', (8, 8), (shift + row, 0, 0)).save(tmp_path / f'{row}.bmp')
        images = read_images(dict(type='ImageTextTable', path=str(tmp_path / 'p.csv')))
        assert write_shards(images, tmp_path / 'out', shard_size=2, overwrite=shift > 0).kept == 0
    found = read_images(dict(type='ImageTextShards', shards=str(tmp_path / 'out')))
    assert [found.open_image(row).getpixel((0, 0))[0] for row in range(3)] == [100, 101, 102]


def test_shards_are_not_written_over_what_they_are_made_of(tmp_path):
    (tmp_path / 'p.csv').write_text('filepath,title\n0.bmp,t\n')
    Image.new('RGB', (8, 8)).save(tmp_path / '0.bmp')
    write_shards(read_images(dict(type='ImageTextTable', path=str(tmp_path / 'p.csv'))), tmp_path / 'out')
    found = read_images(dict(type='ImageTextShards', shards=str(tmp_path / 'out')))
    with pytest.raises(DataError, match='is where the pairs are read from'):
        write_shards(found, tmp_path / 'out', shard_size=7, overwrite=True)
    assert found.open_image(0).size == (8, 8)


def test_weights_are_refused_and_lost_buckets_said(root, tmp_path, caplog):
    table, dated = (read_images(sources(root)[name]) for name in ('table', 'dated'))
    joined = read_images(dict(type='ConcatPairs', parts=[sources(root)['table']], weights=[2]))
    with pytest.raises(DataError, match=r'weights, for which shards have no place.*without weights='):
        write_shards(joined, tmp_path / 'weights')
    assert not (tmp_path / 'weights').exists()
    for name, images, count in (('plain', table, 0), ('dated', dated, 0), ('buckets', table.with_column(
            'bucket', pyarrow.array(['x'] * len(table))), 1)):
        caplog.clear()
        write_shards(images, tmp_path / name)
        assert [record.message for record in caplog.records].count(
            f'{root}: the shards will have no buckets: they hold times alone, of which these pairs lack some or all.'
        ) == count


def test_the_program(root, tmp_path):
    (tmp_path / 'images.py').write_text(f'images = {sources(root)["classes"]!r}\n')
    (tmp_path / 'train.py').write_text(f'train_dataloader = dict(dataset=dict(images={sources(root)["table"]!r}))\n')
    plan = run(TOOL, tmp_path / 'train.py', tmp_path / 'out', '--shard-size', '4', '--dry-run')
    assert plan.code == 0 and '15 images' in plan.out and 'into 4 shards' in plan.out
    assert not (tmp_path / 'out').exists()
    done = run(TOOL, tmp_path / 'train.py', tmp_path / 'out', '--shard-size', '4')
    assert done.code == 0 and '4 shards, 15 pairs' in done.out and 'write: 100%' in done.err
    again = run(TOOL, tmp_path / 'train.py', tmp_path / 'out', '--shard-size', '4')
    assert again.code == 0 and '4 shards were there already' in again.out
    manifest = json.loads((tmp_path / 'out' / 'shards.json').read_text())
    assert manifest['complete'] and [shard['count'] for shard in manifest['shards']] == [4, 4, 4, 3]
    assert manifest['shards'][0]['bytes'] == (tmp_path / 'out' / 'shards-00000.tar').stat().st_size
    other = run(TOOL, tmp_path / 'images.py', tmp_path / 'out')
    assert other.code == 2 and 'holds shards with other class_names, pairs, shard_size' in other.err
    few = run(TOOL, tmp_path / 'train.py', tmp_path / 'few', '--cfg-options',
              'train_dataloader.dataset.images.max_rows=3')
    assert few.code == 0 and '1 shards, 3 pairs' in few.out
    (tmp_path / 'none.py').write_text('model = dict()\n')
    none = run(TOOL, tmp_path / 'none.py', tmp_path / 'out')
    assert none.code == 2 and 'neither images=dict(type=...)' in none.err
    bare = run(TOOL, tmp_path / 'images.py', tmp_path / 'bare', '--cfg-options', 'images.type=ImageFolder')
    assert bare.code == 2 and 'error' in bare.err
