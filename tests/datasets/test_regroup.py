"""A new CLEAR tree from the metadata of another."""

import json
from pathlib import Path

import numpy as np
import pytest
from clear_trees import write_clear_tree

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_clear
from clear.datasets.make.check import check_tree
from clear.datasets.make.demo import write_demo
from clear.datasets.make.regroup import regroup

CLASSES = ('boat', 'car')


def write_tree(root, dates, part=''):
    """Two buckets of two classes, one image per entry of `dates`: (bucket, class, id, date or None)."""
    root = Path(root) / part
    root.mkdir(parents=True, exist_ok=True)
    (root / 'class_names.txt').write_text('\n'.join(CLASSES))
    index = {}
    for bucket, name, image_id, taken in dates:
        place = root / f'labeled_metadata/{bucket}/{name}.json'
        place.parent.mkdir(parents=True, exist_ok=True)
        records = json.loads(place.read_text()) if place.exists() else {}
        path = f'labeled_images/{bucket}/{name}/{image_id}.jpg'
        records[image_id] = {'ID': image_id, 'IMG_PATH': path, **({'DATE_TAKEN': taken} if taken is not None else {})}
        place.write_text(json.dumps(records))
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f'picture {image_id}')
        index.setdefault(bucket, {})[name] = f'labeled_metadata/{bucket}/{name}.json'
    (root / 'labeled_metadata.json').write_text(json.dumps(index))
    return root


# The order of the numbers in the ids is the order in time; as text '2010:...' comes after '2010-12...'.
DATES = [('1', 'boat', '3', '2010-12-01 10:00:00.0'), ('1', 'boat', '1', '2010:01:01 10:00:00'),
         ('2', 'boat', '2', '2010/5/9'), ('2', 'boat', '5', '1325376000'), ('1', 'boat', '4', '2011-06'),
         ('2', 'car', '12', '2009-03-01'), ('2', 'car', '11', '2009-02-28T23:59:59Z'), ('1', 'car', '13', '2010'),
         ('1', 'car', '14', '2012'), ('2', 'car', '15', '2013')]


def ids(root, bucket):
    rows = (root / f'training_folder/filelists/{bucket}/all.txt').read_text().split('\n')
    return [(Path(row.rsplit(' ', 1)[0]).stem, int(row.rsplit(' ', 1)[1])) for row in rows]


@pytest.mark.parametrize('link', ['symlink', 'hard', 'copy'])
def test_dates_are_sorted_as_dates_and_nothing_is_dropped(tmp_path, link):
    root = write_tree(tmp_path / 'in', DATES)
    summary = regroup(root, tmp_path / 'out', num_buckets=2, link=link, seeds=[0])
    out = tmp_path / 'out'
    # Five images of each class in two runs: 3 and 2.
    assert ids(out, '1') == [('1', 0), ('2', 0), ('3', 0), ('11', 1), ('12', 1), ('13', 1)]
    assert ids(out, '2') == [('4', 0), ('5', 0), ('14', 1), ('15', 1)]
    assert summary.counts == {'1': 6, '2': 4} and summary.without_value == []
    assert summary.ranges == {'1': ('2009-02-28T23:59:59Z', '2010-12-01 10:00:00.0'), '2': ('2011-06', '2013')}
    picture = out / 'labeled_images/1/boat/2.jpg'
    assert picture.read_text() == 'picture 2' and picture.is_symlink() == (link == 'symlink')
    assert picture.samefile(root / 'labeled_images/2/boat/2.jpg') == (link != 'copy')
    record = json.loads((out / 'labeled_metadata/1/boat.json').read_text())['2']
    assert (record['IMG_PATH'], record['ORIGINAL_BUCKET'], record['DATE_TAKEN']) == (
        'labeled_images/1/boat/2.jpg', '2', '2010/5/9')
    assert (out / 'class_names.txt').read_text() == 'boat\ncar'
    assert json.loads((out / 'training_folder/bucket_indices.json').read_text()) == ['1', '2']


@pytest.mark.parametrize('missing, first, last', [('drop', '1', '5'), ('first', '0', '5'), ('last', '1', '9')])
def test_images_without_a_date(tmp_path, missing, first, last):
    extra = [('1', 'boat', '0', None)] if missing == 'first' else \
        [('1', 'boat', '9', 'some day')] if missing == 'last' else [('1', 'boat', '0', ''), ('2', 'boat', '9', 'x')]
    root = write_tree(tmp_path / 'in', DATES + extra)
    summary = regroup(root, tmp_path / 'out', num_buckets=1, missing=missing, seeds=[])
    boats = [name for name, label in ids(tmp_path / 'out', '1') if label == 0]
    assert (boats[0], boats[-1], len(boats)) == (first, last, 5 if missing == 'drop' else 6)
    listed = json.loads((tmp_path / 'out/regroup.json').read_text())['without_value']
    assert listed == summary.without_value and [each['id'] for each in listed] == [each[2] for each in extra]
    if missing != 'first':
        assert 'is no date' in listed[-1]['reason']


def test_a_regrouped_demo_is_clean_and_read_by_the_scenario(tmp_path):
    write_demo(tmp_path / 'demo', seeds=[0], limit=100)
    regroup(tmp_path / 'demo', tmp_path / 'out', by='date_taken', num_buckets=7, seeds=[0, 3])
    data = read_clear(tmp_path / 'out', seed=3)
    assert len(data.train) == 7 and data.class_names == read_clear(tmp_path / 'demo').class_names
    report = check_tree(tmp_path / 'out', decode=False)
    assert [problem for problem in report.problems if problem.kind != 'identical'] == [] and report.num_images == 1000
    counts = np.array(list(report.counts.values()))
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()  # per class
    # All of a bucket before all of the next, in each class.
    for name in data.class_names:
        taken = [[record['DATE_TAKEN'] for record in
                  json.loads((tmp_path / f'out/labeled_metadata/{bucket}/{name}.json').read_text()).values()]
                 for bucket in range(1, 8)]
        assert all(max(one) <= min(two) for one, two in zip(taken, taken[1:]))


def test_both_parts_of_the_new_layout_are_pooled(tmp_path):
    write_tree(tmp_path / 'in', DATES[:5] + DATES[5:7], 'train')
    write_tree(tmp_path / 'in', DATES[7:], 'test')
    summary = regroup(tmp_path / 'in', tmp_path / 'out', num_buckets=1, seeds=[])
    assert summary.counts == {'1': 10}
    assert (tmp_path / 'out/labeled_images/1/car/13.jpg').read_text() == 'picture 13'


def test_numbers_and_text_as_keys(tmp_path):
    root = write_tree(tmp_path / 'in', DATES)
    regroup(root, tmp_path / 'a', by='id', num_buckets=1, seeds=[])  # numbers: 2 before 11
    assert [name for name, _ in ids(tmp_path / 'a', '1')] == ['1', '2', '3', '4', '5', '11', '12', '13', '14', '15']
    regroup(root, tmp_path / 'b', by='img_path', num_buckets=1, seeds=[])
    assert [name for name, label in ids(tmp_path / 'b', '1') if label == 0] == ['1', '3', '4', '2', '5']


def test_what_cannot_be_done_leaves_nothing(tmp_path):
    root = write_tree(tmp_path / 'in', DATES)
    bare = write_clear_tree(tmp_path / 'bare', images=False)
    twice = write_tree(tmp_path / 'twice', [*DATES, ('2', 'boat', '1', '2012')])
    lost = write_tree(tmp_path / 'lost', DATES)
    (lost / 'labeled_images/1/boat/3.jpg').unlink()
    cases = [(root, dict(by='date_takn'), ConfigError, "no record has the key 'date_takn', nearest: 'date_taken'"),
             (root, dict(num_buckets=6), DataError, "class 'boat' has 5 images with a date_taken, too few for 6"),
             (root, dict(num_buckets=0), ConfigError, 'num_buckets is 0'),
             (root, dict(link='move'), ConfigError, "link is 'move'"),
             (bare, dict(), DataError, 'no labeled_metadata.json'),
             (twice, dict(num_buckets=2), DataError, 'image 1 of class .boat. occurs twice'),
             (lost, dict(num_buckets=2), DataError, 'does not exist'),
             (tmp_path / 'none', dict(), DataError, 'does not exist')]
    for place, options, error, message in cases:
        with pytest.raises(error, match=message):
            regroup(place, tmp_path / 'out', **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == ['bare', 'in', 'lost', 'twice']
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/mine.txt').write_text('')
    with pytest.raises(DataError, match='other content'):
        regroup(root, tmp_path / 'out', num_buckets=2)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['mine.txt']


@pytest.mark.parametrize('file, text, message', [
    ('labeled_metadata.json', '[1]', r'expected \{bucket: \{class: path\}\}'),
    ('labeled_metadata.json', '{"1": ["boat"]}', r'expected \{bucket: \{class: path\}\}'),
    ('labeled_metadata/1/boat.json', '["1"]', r'expected \{id: '),
    ('labeled_metadata/1/boat.json', '{"1": null}', 'image 1 has no IMG_PATH'),
    ('labeled_metadata/1/boat.json', '{"1": {"IMG_PATH": "../1.jpg", "DATE_TAKEN": "2010"}}', 'lies outside'),
    ('labeled_metadata.json', '{"one": {"boat": "labeled_metadata/1/boat.json"}}', "a bucket 'one'"),
    ('class_names.txt', 'car', 'disagree about boat')])
def test_metadata_of_another_form_is_refused(tmp_path, file, text, message):
    root = write_tree(tmp_path / 'in', DATES)
    (root / file).write_text(text)
    with pytest.raises(DataError, match=message):
        regroup(root, tmp_path / 'out', num_buckets=1)
