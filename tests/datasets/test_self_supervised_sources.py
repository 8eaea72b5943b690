"""Which images pretraining reads: folders, lists, tables, and buckets of every layout; and labelled ones to measure."""

import ast
import inspect
import json
import logging

import numpy as np
import pyarrow
import pytest
import torch
from clear_trees import write_clear_tree
from doc_pages import ROOT, names_in, table
from PIL import Image
from pyarrow import parquet
from torchvision.transforms import v2

from clear.core.errors import ConfigError, DataError
from clear.datasets import BucketChoice, read_clear, read_evaluation_images
from clear.datasets.loaders.of_readers import dataset_of
from clear.datasets.readers.bucket_lists import bucket_images, read_buckets
from clear.datasets.readers.folder import read_folder
from clear.datasets.readers.listing import read_list
from clear.datasets.readers.table_file import read_table


def write_files(root, *paths):
    """Files that are looked for and not opened."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write_image(path, size=(9, 7), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def spans(images):
    return [(name, rows.start, rows.stop) for name, rows in images.in_buckets()[1].items()]


# Folders, lists, tables


def test_folder(tmp_path):
    root = write_files(tmp_path / 'data', 'b/2.JPG', 'b/10.png', 'b.x/1.jpg', 'a/deep/er/c.webp', 'z.jpeg', 'notes.txt',
                       '.hidden/1.jpg', '.thumb.jpg', 'b/.x.jpg')
    write_files(tmp_path / 'elsewhere', 'l.jpg')
    (root / 'link').symlink_to(tmp_path / 'elsewhere')
    (root / 'a' / 'loop').symlink_to(root)
    images = read_folder(root)
    assert images.texts('path') == ['a/deep/er/c.webp', 'b/10.png', 'b/2.JPG', 'b.x/1.jpg', 'link/l.jpg', 'z.jpeg']
    assert 'label' not in images and spans(images) == [('all', 0, 6)] and images.root == root


def test_folder_without_images(tmp_path):
    with pytest.raises(DataError, match='holds no images; looked for .jpg'):
        read_folder(tmp_path)
    with pytest.raises(DataError, match='folder .*none does not exist'):
        read_folder(tmp_path / 'none')


def test_list(tmp_path):
    write_files(tmp_path / 'data', 'b.jpg', 'a/with space.jpg')
    (tmp_path / 'list.txt').write_text('b.jpg\n\n  a/with space.jpg\n')
    assert read_list(tmp_path / 'list.txt', tmp_path / 'data').texts('path') == ['b.jpg', 'a/with space.jpg']
    (tmp_path / 'data' / 'list.txt').write_text('b.jpg')
    assert dataset_of('ListImages')(list_file=tmp_path / 'data' / 'list.txt', image_size=8).paths == ['b.jpg']


@pytest.mark.parametrize('lines, message', [
    (['a.jpg', 'none.jpg', 'gone.jpg'], "list.txt: image 2 of 3, 'none.jpg', is not in .*data. Is data_root right"),
    (['a.jpg', 'no/folder.jpg'], "image 2 of 2, 'no/folder.jpg'"), (['folder'], "image 1 of 1, 'folder', is not in"),
    (['a.jpg/x.jpg'], 'image 1 of 1'), (['a.jpg', 'a.jpg'], "'a.jpg' is listed twice"),
    (['a.jpg', 'folder/b.jpg', './a.jpg'], r"'./a.jpg' is listed twice, as images 1 and 3 \(the first as 'a.jpg'\)"),
    (['a\0.jpg'], 'image 1 of 1'), (['a\0/a.jpg'], 'image 1 of 1'), ([], 'names no images'),
    (['../secret.jpg'], 'lies outside'), (['/etc/passwd'], 'lies outside')])
def test_wrong_list(tmp_path, lines, message):
    root = write_files(tmp_path / 'data', 'a.jpg', 'folder/b.jpg')
    write_files(tmp_path, 'secret.jpg')
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    with pytest.raises(DataError, match=message):
        read_list(tmp_path / 'list.txt', root)


def test_unreadable_list(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        read_list(tmp_path / 'none.txt', tmp_path)


@pytest.mark.parametrize('suffix', ['csv', 'parquet', 'jsonl'])
def test_table(tmp_path, suffix):
    write_files(tmp_path, '0012.jpg', 'b.jpg', '7')
    columns = {'id': [3, 1, 2], 'file': ['b.jpg', '0012.jpg', '7']}
    write_table(tmp_path / f'images.{suffix}', columns)
    assert read_table(tmp_path / f'images.{suffix}', path_column='file').texts('path') == columns['file']
    dataset = dataset_of('TableImages')(table=str(tmp_path / f'images.{suffix}'), data_root=str(tmp_path),
                                        path_column='file', image_size=8)
    assert dataset.ids == columns['file']
    with pytest.raises(DataError, match="no column 'fille', nearest: 'file'. Columns: id, file"):
        read_table(tmp_path / f'images.{suffix}', path_column='fille')
    write_table(tmp_path / f'empty.{suffix}', {'file': ['b.jpg', None]})
    with pytest.raises(DataError, match='1 rows have no file, first row 2'):
        read_table(tmp_path / f'empty.{suffix}', path_column='file')


def write_table(path, columns):
    if path.suffix == '.parquet':
        parquet.write_table(pyarrow.table(columns), path)
        return
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    lines = [json.dumps(row) for row in rows] if path.suffix == '.jsonl' else \
        [','.join(columns), *(','.join('""' if cell is None else str(cell) for cell in row.values()) for row in rows)]
    path.write_text('\n'.join(lines) + '\n')


def test_wrong_table(tmp_path):
    with pytest.raises(DataError, match='a table ends in .csv, .parquet or .jsonl'):
        read_table(tmp_path / 'images.xlsx')
    for suffix in ('csv', 'parquet', 'jsonl'):
        with pytest.raises(DataError, match='does not exist'):
            read_table(tmp_path / f'none.{suffix}')
        (tmp_path / f'folder.{suffix}').mkdir()
        with pytest.raises(DataError, match='not a regular file'):
            read_table(tmp_path / f'folder.{suffix}')


@pytest.mark.parametrize('text, says', [
    ('{"path": "a.jpg"}\n{"path": ', r'broken\.jsonl:2 is no valid JSON'), ('[1]', 'expected an object'),
    ('{"path": "a.jpg", "x": ' + '[' * 3000 + ']' * 3000 + '}', 'nested too deep'),
    ('{"file": "a.jpg"}', "no column 'path'")])
def test_wrong_json_lines(tmp_path, text, says):
    (tmp_path / 'broken.jsonl').write_text(text)
    with pytest.raises(DataError, match=says):
        read_table(tmp_path / 'broken.jsonl')


# CLEAR


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_buckets_of_clear(tmp_path, layout):
    root = write_clear_tree(tmp_path / layout, layout=layout, num_buckets=11, per_class=4)
    data = read_clear(root)
    for choice, places in ((BucketChoice(), [0]), (BucketChoice([2, 0]), [2, 0]), (BucketChoice(10), [10]),
                           (BucketChoice(['11', '1']), [10, 0]), (BucketChoice(None), range(11))):
        images = read_buckets(root, choice)
        expected = [data.train[place] for place in places]
        assert images.texts('path') == [path for bucket in expected for path in bucket.paths]
        assert images.label_array().tolist() == [label for bucket in expected for label in bucket.targets]
        assert [(name, len(rows)) for name, rows in images.in_buckets()[1].items()] == [
            (bucket.name, len(bucket)) for bucket in expected]
        assert images.class_names == data.class_names
    assert read_buckets(root, BucketChoice(3, 'test')).texts('path') == data.test[3].paths
    both = read_buckets(root, BucketChoice('4', 'all'))
    assert sorted(both.texts('path')) == sorted([*data.train[3].paths, *data.test[3].paths])
    assert images.text('bucket', data.train[0].targets.size) == '2'


def test_a_bucket_alone_is_enough(tmp_path):
    root = write_clear_tree(tmp_path, num_buckets=3)
    for path in (tmp_path / 'training_folder' / 'testset_ratio_0.3' / 'split_0' / '2').iterdir():
        path.unlink()
    assert len(read_buckets(root, BucketChoice([0, 2]))) == 18
    with pytest.raises(DataError, match='train.txt is missing'):
        read_buckets(root, BucketChoice(1))


@pytest.mark.parametrize('buckets, message', [
    (3, "has no bucket number 3. It has 0 = '1', 1 = '2', 2 = '3'"), (-1, 'no bucket number -1'),
    ('4', "no bucket named '4'"), ([0, True], 'no bucket'), ([0, '1'], 'one bucket twice'), ([], 'buckets is empty')])
def test_buckets_that_do_not_exist(tmp_path, buckets, message):
    root = write_clear_tree(tmp_path, images=False)
    with pytest.raises(ConfigError, match=message):
        read_buckets(root, BucketChoice(buckets))


def test_wrong_choices(tmp_path):
    root = write_clear_tree(tmp_path)
    with pytest.raises(ConfigError, match="split is 'val'"):
        read_buckets(root, BucketChoice(split='val'))
    with pytest.raises(ConfigError, match="layout is 'clear'"):
        read_buckets(root, BucketChoice(layout='clear'))
    with pytest.raises(ConfigError, match="layout must not be 'old'"):
        read_buckets(root, BucketChoice(layout='old', bucket_files='x.json'))
    with pytest.raises(DataError, match='does not exist'):
        read_buckets(root / 'none')
    first = read_buckets(root).texts('path')[0]
    (root / first).unlink()
    with pytest.raises(DataError, match=f"bucket 1: its first image '{first}'"):
        read_buckets(root)


# Folders by time


def test_time_folders_with_classes(tmp_path):
    root = write_files(tmp_path, *(f'{year}/{name}/{number}.jpg' for year in (2010, 999, 2009) for name in 'ab'
                                   for number in range(10)))
    train, test, everything = (read_buckets(root, BucketChoice([1], split)) for split in ('train', 'test', 'all'))
    assert spans(train) == [('2009', 0, 14)] and spans(test) == [('2009', 0, 6)]
    assert sorted([*train.texts('path'), *test.texts('path')]) == everything.texts('path') and len(everything) == 20
    assert everything.label_array().tolist() == [0] * 10 + [1] * 10 and everything.class_names == ['a', 'b']
    assert read_buckets(root, BucketChoice([1], split_seed=1)).texts('path') != train.texts('path')


def test_time_folders_without_classes(tmp_path):
    root = write_files(tmp_path, '2010-02/b.jpg', '2010-02/a.jpg', '2009-12/z.jpg', '2009-12/more/y.png', '.git/x.jpg')
    images = read_buckets(root, BucketChoice(None))
    assert images.texts('path') == ['2009-12/more/y.png', '2009-12/z.jpg', '2010-02/a.jpg', '2010-02/b.jpg']
    assert spans(images) == [('2009-12', 0, 2), ('2010-02', 2, 4)] and 'label' not in images
    assert read_buckets(root, BucketChoice('2010-02')).texts('path') == images.texts('path')[2:]
    write_files(root, 'spring/s.jpg')
    with pytest.raises(ConfigError, match='spring'):
        read_buckets(root)
    ordered = BucketChoice([0], times=['spring', '2010-02'])
    assert read_buckets(root, ordered).texts('path') == ['spring/s.jpg']


def test_time_folders_without_images(tmp_path):
    with pytest.raises(DataError, match='has no buckets'):
        read_buckets(tmp_path)
    write_files(tmp_path, '1/a.jpg', '2/notes.txt')
    with pytest.raises(DataError, match="bucket '2' has no images"):
        read_buckets(tmp_path, BucketChoice(None))


# Bucket files


@pytest.fixture
def curated(tmp_path):
    root = write_files(tmp_path / 'data', *(f'chunk{bucket}/{number}.jpg' for bucket in (0, 1, 10)
                                            for number in range(3)))
    for bucket in (0, 1, 10):
        (root / f'bucket_{bucket}.json').write_text(json.dumps(record_file(root, bucket)))
    return root


def record_file(root, bucket, folder=None):
    folder = f'{root}/chunk{bucket}' if folder is None else folder
    records = [{'ID': str(number), 'IMG_DIR': folder, 'IMG_PATH': f'{number}.jpg'} for number in (2, 0, 1)]
    return {'indices': [0, 1, 2], 'all_metadata': records, 'min_date': 'x', 'folder_path': '/x'}


def test_bucket_files_below_the_root(curated):
    images = read_buckets(curated, BucketChoice([2, '0']))
    assert images.texts('path') == [f'chunk{bucket}/{number}.jpg' for bucket in (10, 0) for number in (2, 0, 1)]
    assert spans(images) == [('10', 0, 3), ('0', 3, 6)] and 'label' not in images
    (curated / 'bucket_1.json').write_text('[]')  # not asked for, not read
    assert read_buckets(curated).texts('path') == ['chunk0/2.jpg', 'chunk0/0.jpg', 'chunk0/1.jpg']
    for bucket in (0, 1, 10):
        (curated / str(bucket)).mkdir()
        (curated / f'bucket_{bucket}.json').rename(curated / str(bucket) / f'bucket_{bucket}.json')
    assert read_buckets(curated, BucketChoice('10')).texts('path')[0] == 'chunk10/2.jpg'


def test_one_file_of_all_buckets(curated, tmp_path):
    file = tmp_path / 'all.json'
    file.write_text(json.dumps({str(bucket): record_file(curated, bucket) for bucket in (10, 0, 1)}))
    dataset = dataset_of('BucketImages')(data_root=str(curated), buckets=[1, 2], bucket_files=str(file), image_size=8)
    assert spans(dataset.images) == [('1', 0, 3), ('10', 3, 6)] and dataset.ids[3] == 'chunk10/2.jpg'
    with pytest.raises(ConfigError, match="all.json has no bucket named '2'"):
        read_buckets(curated, BucketChoice('2', bucket_files=file))
    with pytest.raises(DataError, match='bucket_0.json holds 3 buckets. Give it alone'):
        read_buckets(curated, BucketChoice(0, bucket_files=[file.rename(tmp_path / 'bucket_0.json'),
                                                           curated / 'bucket_1.json']))


def test_records_by_id(curated, tmp_path):
    file = tmp_path / '7.json'
    file.write_text(json.dumps({'12': {'IMG_PATH': 'chunk1/1.jpg'}, '5': {'IMG_PATH': 'chunk1/0.jpg', 'IMG_DIR': ''}}))
    images = read_buckets(curated, BucketChoice('7', bucket_files=file))
    assert images.texts('path') == ['chunk1/1.jpg', 'chunk1/0.jpg'] and spans(images) == [('7', 0, 2)]


def test_places_of_records(curated, tmp_path):
    (tmp_path / 'link').symlink_to(curated)
    assert read_buckets(tmp_path / 'link').texts('path')[0] == 'chunk0/2.jpg'  # IMG_DIR is where the link leads
    file = curated / 'bucket_0.json'
    for folder in ('chunk0', './chunk0/', 'chunk1/../chunk0'):
        file.write_text(json.dumps(record_file(curated, 0, folder)))
        assert read_buckets(curated).texts('path')[0] == 'chunk0/2.jpg'
    for folder in ('/old/place', '..', f'{curated}/..', f'{curated}x'):
        file.write_text(json.dumps(record_file(curated, 0, folder)))
        with pytest.raises(DataError, match='bucket_0.json: record 1, .* lies outside .*image_dir'):
            read_buckets(curated)
        assert read_buckets(curated, BucketChoice(image_dir='chunk0')).texts('path')[0] == 'chunk0/2.jpg'
    with pytest.raises(DataError, match='lies outside'):
        read_buckets(curated, BucketChoice(image_dir='/old/place'))


@pytest.mark.parametrize('content, message', [
    ([], 'no bucket file.*found list'), ({}, 'no bucket file'), ({'a': 1}, r"keys \['a'\]"),
    ({'all_metadata': []}, 'names no images'), ({'all_metadata': [{'IMG_DIR': '.'}]}, 'record 1 has no IMG_PATH'),
    ({'all_metadata': [3]}, 'record 1 has no IMG_PATH'), ({'all_metadata': [{'IMG_PATH': '.'}]}, 'lies outside'),
    ({'all_metadata': [{'IMG_PATH': 'gone.jpg'}]}, "bucket_0.json: image 1 of 1, 'gone.jpg', is not in")])
def test_wrong_bucket_files(curated, content, message):
    (curated / 'bucket_0.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_buckets(curated)


def test_bucket_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match='holds no bucket_<name>.json'):
        read_buckets(tmp_path, BucketChoice(layout='json'))
    with pytest.raises(DataError, match='none.json does not exist'):
        read_buckets(tmp_path, BucketChoice(bucket_files=tmp_path / 'none.json'))
    with pytest.raises(ConfigError, match='bucket_files is empty'):
        read_buckets(tmp_path, BucketChoice(bucket_files=[]))
    with pytest.raises(ConfigError, match='the same bucket'):
        read_buckets(tmp_path, BucketChoice(bucket_files=['a/bucket_0.json', 'b/bucket_0.json']))


def test_the_page_has_every_key_with_its_default():
    rows = {names_in(row[0])[0]: ast.literal_eval(row[1].strip('`')) for row in
            table(ROOT / 'docs' / 'pretraining_data.md', 'key')}
    parameters = inspect.signature(bucket_images).parameters
    assert set(rows) == set(parameters) - {'data_root'}
    assert {**rows, 'buckets': tuple(rows['buckets'])} == {name: parameters[name].default for name in rows}


# Labelled images


def test_evaluation_images_of_class_folders(tmp_path, caplog):
    for label, name in enumerate(('b', 'a')):
        for number in range(5):
            write_image(tmp_path / name / 'sub' / f'{number}.png', (9 + number, 12 - number), 10 * label + number)
    write_image(tmp_path / 'unlabelled.png')
    found = read_evaluation_images(tmp_path, 6)
    assert found.class_names == ['a', 'b'] and found.labels.tolist() == [0] * 5 + [1] * 5 and len(found) == 10
    assert found.images.shape == (10, 3, 6, 6) and found.images.dtype == torch.uint8 and found.bad == {}
    reference = v2.Compose([v2.Resize(6), v2.CenterCrop(6), v2.PILToTensor()])
    assert found.ids[7] == 'b/sub/2.png'
    expected = [reference(Image.open(tmp_path / path)) for path in found.ids]
    assert torch.equal(found.images, torch.stack(expected))
    few = read_evaluation_images(tmp_path, 6, per_class=3)
    assert few.ids == [f'{name}/sub/{number}.png' for name in 'ab' for number in (0, 2, 4)]
    assert read_evaluation_images(tmp_path, 6, per_class=9).ids == found.ids

    (tmp_path / 'a' / 'sub' / '1.png').write_bytes(b'')
    with caplog.at_level(logging.WARNING, 'clear'):
        rest = read_evaluation_images(tmp_path, 6)
    assert '1 of 10 images cannot be read' in caplog.text and list(rest.bad) == ['a/sub/1.png']
    kept = [row for row in range(10) if row != 1]
    assert torch.equal(rest.images, found.images[kept]) and torch.equal(rest.labels, found.labels[kept])


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_evaluation_images_of_clear(tmp_path, layout):
    root = write_clear_tree(tmp_path, layout=layout)
    data = read_clear(root)
    found = read_evaluation_images(root, 8)
    assert found.ids == [path for bucket in data.test for path in bucket.paths]
    assert found.class_names == data.class_names
    assert found.labels.tolist() == [label for bucket in data.test for label in bucket.targets]
    assert read_evaluation_images(root, 8, choice=BucketChoice(1)).ids == data.train[1].paths


def test_evaluation_images_that_cannot_be_had(tmp_path):
    write_files(tmp_path, '1/a.jpg', '2/b.jpg')
    with pytest.raises(DataError, match='have no labels'):
        read_evaluation_images(tmp_path, 8, choice=BucketChoice(None))
    with pytest.raises(DataError, match='none of 2 images can be read'):
        read_evaluation_images(tmp_path, 8)
    with pytest.raises(DataError, match='at least two classes, found 1'):
        read_evaluation_images(write_files(tmp_path / 'one', 'c/1.jpg'), 8)
