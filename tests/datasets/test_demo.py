import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from clear.core.errors import ConfigError, DataError
from clear.datasets.make import demo
from clear.datasets.make.writing import new_folder, write_training_folder

ROOT = Path(__file__).parents[2]
LIMIT = 120
BUCKETS = [str(bucket) for bucket in range(1, 11)]


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    out = tmp_path_factory.mktemp('demo') / 'old'
    assert demo.write_demo(out, limit=LIMIT)
    return out


@pytest.fixture(scope='module')
def new(tmp_path_factory):
    out = tmp_path_factory.mktemp('demo') / 'new'
    assert demo.write_demo(out, 'new', limit=LIMIT)
    return out


def rows_of(path):
    """Lines of a file list as (path, class index), read independently of the package."""
    text = path.read_text()
    assert not text.endswith('\n')
    return [(line.rsplit(' ', 1)[0], int(line.rsplit(' ', 1)[1])) for line in text.split('\n')]


def identity(path):
    """The digit behind an image: the name without the bucket."""
    bucket, stem = path.split('/')[1], Path(path).stem
    return int(stem) - int(bucket) * 10000


def files_below(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()}


def test_old_tree_has_exactly_the_files_of_clear(old):
    expected = {'class_names.txt', 'labeled_metadata.json', 'demo.json', 'training_folder/bucket_indices.json'}
    names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
    targets = load_digits().target[:LIMIT]
    for bucket in BUCKETS:
        expected.add(f'training_folder/filelists/{bucket}/all.txt')
        for seed in range(5):
            folder = f'training_folder/testset_ratio_0.3/split_{seed}/{bucket}'
            expected |= {f'{folder}/{name}' for name in
                         ('train.txt', 'test.txt', 'train_indices.json', 'test_indices.json')}
        expected |= {f'labeled_metadata/{bucket}/{name}.json' for name in names}
        expected |= {f'labeled_images/{bucket}/{names[target]}/{int(bucket) * 10000 + digit}.jpg'
                     for digit, target in enumerate(targets)}
    assert set(files_below(old)) == expected
    assert (old / 'class_names.txt').read_text() == '\n'.join(names)
    assert json.loads((old / 'training_folder/bucket_indices.json').read_text()) == BUCKETS


def test_all_digits_are_split_by_identity_alike_in_every_bucket_and_stratified():
    targets = load_digits().target
    assert len(targets) == 1797
    tests = []
    for seed in range(5):
        train, test = demo.split_digits(targets, seed)
        assert not set(train) & set(test) and sorted(train + test) == list(range(1797))
        assert [sum(targets[test] == c) for c in range(10)] == [int(sum(targets == c) * 0.3) for c in range(10)]
        tests.append(set(test))
    for first in range(5):
        for second in range(first):
            # Two independent draws of 30 % share 9 % of all digits, not more than a third of themselves.
            assert len(tests[first] & tests[second]) < 0.4 * len(tests[first])


def test_no_test_digit_of_any_bucket_is_trained_on_in_another(old):
    splits = old / 'training_folder/testset_ratio_0.3'
    tested_by_seed = []
    for seed in range(5):
        parts = {part: [rows_of(splits / f'split_{seed}/{bucket}/{part}.txt') for bucket in BUCKETS]
                 for part in ('train', 'test')}
        trained = {identity(path) for rows in parts['train'] for path, _ in rows}
        tested = {identity(path) for rows in parts['test'] for path, _ in rows}
        assert not trained & tested and len(trained | tested) == LIMIT
        for part, expected in (('train', trained), ('test', tested)):
            assert all({identity(path) for path, _ in rows} == expected for rows in parts[part])
        tested_by_seed.append(frozenset(tested))
    assert len(set(tested_by_seed)) == 5


def test_indices_are_rows_of_the_file_list(old):
    for bucket in ('1', '10'):
        rows = rows_of(old / f'training_folder/filelists/{bucket}/all.txt')
        assert len(rows) == LIMIT
        for part in ('train', 'test'):
            folder = old / f'training_folder/testset_ratio_0.3/split_3/{bucket}'
            indices = json.loads((folder / f'{part}_indices.json').read_text())
            assert [rows[index] for index in indices] == rows_of(folder / f'{part}.txt')


def test_labels_are_those_of_the_digits(old):
    names = (old / 'class_names.txt').read_text().split('\n')
    truth = load_digits().target
    for bucket in BUCKETS:
        for path, target in rows_of(old / f'training_folder/filelists/{bucket}/all.txt'):
            assert target == truth[identity(path)] and path.split('/')[2] == names[target]


def test_metadata_lies_in_the_year_of_its_bucket_and_rises(old):
    index = json.loads((old / 'labeled_metadata.json').read_text())
    assert list(index) == BUCKETS
    ends = []
    for bucket in BUCKETS:
        taken, uploaded = [], []
        for name in (old / 'class_names.txt').read_text().split('\n'):
            for image_id, record in json.loads((old / index[bucket][name]).read_text()).items():
                assert record['ID'] == image_id and (old / record['IMG_PATH']).is_file()
                assert re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.0', record['DATE_TAKEN'])
                assert record['DATE_UPLOADED'].isdigit()
                taken.append(datetime.strptime(record['DATE_TAKEN'], '%Y-%m-%d %H:%M:%S.0').replace(tzinfo=UTC))
                uploaded.append(datetime.fromtimestamp(int(record['DATE_UPLOADED']), UTC))
        assert len(taken) == LIMIT
        assert {moment.year for moment in taken + uploaded} == {2004 + int(bucket)}
        assert all(early < late for early, late in zip(taken, uploaded))
        ends.append((min(taken), max(uploaded)))
    assert all(earlier[1] < later[0] for earlier, later in zip(ends, ends[1:]))


def test_last_digit_of_all_is_still_uploaded_in_its_year():
    record = demo.metadata_record('10', 1796, 'x.jpg')
    assert datetime.fromtimestamp(int(record['DATE_UPLOADED']), UTC).year == 2014


def test_new_layout_is_the_split_of_seed_0(old, new):
    for part in ('train', 'test'):
        expected = [(path, target) for bucket in BUCKETS for path, target in
                    rows_of(old / f'training_folder/testset_ratio_0.3/split_0/{bucket}/{part}.txt')]
        names = (new / part / 'class_names.txt').read_text().split('\n')
        found = []
        for files in json.loads((new / part / 'labeled_metadata.json').read_text()).values():
            for index, name in enumerate(names):
                records = json.loads((new / part / files[name]).read_text())
                found += [(record['IMG_PATH'], index) for record in records.values()]
        assert found == expected
        assert {path.relative_to(new / part).as_posix() for path in (new / part).rglob('*.jpg')} == dict(found).keys()
        assert all((new / part / path).read_bytes() == (old / path).read_bytes() for path, _ in found)


def test_two_runs_are_byte_identical_even_with_another_hash_seed(old, tmp_path):
    code = f'from clear.datasets.make.demo import write_demo; write_demo({str(tmp_path / "again")!r}, limit={LIMIT})'
    subprocess.run([sys.executable, '-c', code], check=True, cwd=tmp_path,
                   env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONHASHSEED': '77', 'OMP_NUM_THREADS': '2'})
    assert files_below(tmp_path / 'again') == files_below(old)


def test_images_are_32_pixels_and_close_to_what_was_drawn(old):
    images, _ = demo.load_digits(LIMIT)
    for bucket in ('1', '6', '10'):
        for path, _ in rows_of(old / f'training_folder/filelists/{bucket}/all.txt')[::17]:
            with Image.open(old / path) as image:
                assert image.format == 'JPEG' and image.size == (32, 32)
                found = np.asarray(image.convert('L'), dtype=float)
            drawn = demo.render_digit(images[identity(path)], demo.bucket_look(bucket))
            assert np.abs(found - drawn).mean() < 4


def test_drift_is_monotone():
    images, _ = demo.load_digits(100)
    looks = [demo.bucket_look(bucket) for bucket in BUCKETS]
    drawn = np.stack([[demo.render_digit(image, look) for image in images] for look in looks]).astype(float)
    corners, brightest = drawn[:, :, 0, 0].mean(1), drawn.max(axis=(2, 3)).mean(1)
    assert (np.diff(corners) > 0).all() and (np.diff(brightest) < 0).all()
    distance = np.abs(drawn - drawn[0]).mean(axis=(1, 2, 3))
    assert (np.diff(distance) > 0).all()
    steps = np.diff([[look.angle_deg, look.background, look.ink] for look in looks], axis=0)
    assert np.allclose(steps, steps[0])


def test_rotation_is_counter_clockwise_by_the_angle():
    bar = np.zeros((8, 8), np.float32)
    bar[:, 3:5] = 1  # an upright bar
    for angle_deg in (-25.0, 0.0, 10.0, 25.0):
        drawn = demo.render_digit(bar, demo.Look(angle_deg, 0.0, 1.0)) / 255
        down, right = np.mgrid[:32, :32] - 15.5
        # Orientation by second moments; y up, measured from the vertical, counter-clockwise positive.
        xx, yy, xy = ((drawn * a * b).sum() for a, b in ((right, right), (down, down), (right, -down)))
        assert np.rad2deg(0.5 * np.arctan2(-2 * xy, yy - xx)) == pytest.approx(angle_deg, abs=0.5)
        assert abs((drawn * right).sum()) / drawn.sum() < 0.05 and abs((drawn * down).sum()) / drawn.sum() < 0.05


def test_complete_folder_is_left_alone(old):
    before = {path: path.stat().st_mtime_ns for path in old.rglob('*')}
    assert demo.write_demo(old, limit=LIMIT) is False
    assert {path: path.stat().st_mtime_ns for path in old.rglob('*')} == before


def test_other_content_is_refused_or_overwritten(tmp_path):
    out = tmp_path / 'demo'
    out.mkdir()
    (out / 'mine.txt').write_text('mine')
    with pytest.raises(DataError, match='other content'):
        demo.write_demo(out, limit=100, seeds=[0])
    assert (out / 'mine.txt').read_text() == 'mine' and list(tmp_path.iterdir()) == [out]
    assert demo.write_demo(out, limit=100, seeds=[0], overwrite=True)
    assert not (out / 'mine.txt').exists() and list(tmp_path.iterdir()) == [out]
    with pytest.raises(DataError, match='seeds'):
        demo.write_demo(out, limit=100, seeds=[0, 1])
    (out / 'labeled_images/3/zero/30000.jpg').unlink()
    with pytest.raises(DataError, match='images are missing'):
        demo.write_demo(out, limit=100, seeds=[0])


@pytest.mark.parametrize('options', [{'layout': 'newest'}, {'seeds': []}, {'seeds': [1, 1]}, {'seeds': [-1]},
                                     {'layout': 'new', 'seeds': [1]}, {'limit': 99}, {'limit': 1798}])
def test_bad_options_are_refused_before_anything_is_written(tmp_path, options):
    with pytest.raises(ConfigError):
        demo.write_demo(tmp_path / 'demo', **options)
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_nothing(tmp_path):
    def stop(done, total):
        if done == 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.write_demo(tmp_path / 'demo', limit=100, progress=stop)
    assert not list(tmp_path.iterdir())


def test_failed_overwrite_keeps_the_old_folder(tmp_path):
    out = tmp_path / 'data'
    out.mkdir()
    (out / 'kept').write_text('1')
    with pytest.raises(RuntimeError), new_folder(out, replace=True) as folder:
        (folder / 'half').write_text('2')
        raise RuntimeError
    assert files_below(tmp_path) == {'data/kept': b'1'}


def _killed_at_replace(out, count):
    """Overwrite a folder in a process that is killed before it renames for the `count`-th time."""
    renames, replace = [0], Path.replace

    def counting(path, target):
        renames[0] += 1
        if renames[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = counting
    with new_folder(out, replace=True, owner='me') as folder:
        (folder / 'new').write_text('2')


@pytest.mark.parametrize('count', [1, 2])
def test_what_a_killed_overwrite_moved_away_comes_back(tmp_path, count):
    out = tmp_path / 'data'
    out.mkdir()
    (out / 'kept').write_text('1')
    process = multiprocessing.get_context('fork').Process(target=_killed_at_replace, args=(out, count))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and out.exists() == (count == 1)
    with pytest.raises(DataError, match='other content'), new_folder(out, owner='me'):
        pass
    assert files_below(tmp_path) == {'data/kept': b'1'} and [path.name for path in tmp_path.iterdir()] == ['data']
    with new_folder(out, replace=True, owner='me') as folder:
        (folder / 'new').write_text('2')
    assert files_below(tmp_path) == {'data/new': b'2'} and [path.name for path in tmp_path.iterdir()] == ['data']


def test_working_directory_is_never_overwritten(tmp_path, monkeypatch):
    (tmp_path / 'a/b').mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'a/b')
    with pytest.raises(DataError, match='working directory'), new_folder(tmp_path / 'a', replace=True):
        pass
    assert (tmp_path / 'a/b').is_dir()


def test_splits_that_overlap_or_leave_rows_out_are_refused(tmp_path):
    rows = {'1': [('a.jpg', 0), ('b.jpg', 0)]}
    for train, test in (([0, 1], [1]), ([0], [])):
        with pytest.raises(ValueError, match='rows'):
            write_training_folder(tmp_path, rows, {0: {'1': (train, test)}})


def test_tool_writes_says_so_and_reports_errors(tmp_path, capsys):
    sys.path.insert(0, str(ROOT / 'tools/dataset_converters'))
    try:
        import make_demo_clear
    finally:
        sys.path.pop(0)
    out = tmp_path / 'demo'
    assert make_demo_clear.main([str(out), '--limit', '100', '--seeds', '2']) == 0
    assert str(out) in capsys.readouterr().out
    assert make_demo_clear.main([str(out), '--limit', '100', '--seeds', '2']) == 0
    assert 'already complete' in capsys.readouterr().out
    assert make_demo_clear.main([str(out)]) == 2
    assert capsys.readouterr().err.startswith('error: ')


def test_reader_reads_both_layouts(old, new):
    from clear.datasets.readers.clear.clear import read_clear

    from_old = read_clear(old, data_name='demo', seed=0)
    from_new = read_clear(new, data_name='demo', seed=0)
    assert (from_old.layout, from_new.layout) == ('old', 'new') and from_old.num_classes == 10
    for part in ('train', 'test'):
        for first, second in zip(getattr(from_old, part), getattr(from_new, part), strict=True):
            assert [f'{part}/{path}' for path in first.paths] == second.paths
            assert first.targets.tolist() == second.targets.tolist()
