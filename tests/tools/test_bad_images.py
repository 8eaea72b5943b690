"""Images that cannot be read: listed, counted, replaced in training, left out in evaluation; too many stop the run."""

import json
import shutil
from pathlib import Path

import pytest
from clear_trees import write_clear_tree
from short_runs import IMAGE_CONFIG, listed, read_results, run, train, truncate, write_config

EVAL_METRICS = "metrics = [dict(type='accuracy_metrics', epoch=True, experience=True, stream=True)]\n"
# 3 classes x 60 images x 2 buckets; 30 % of them are tested, of which one is less than 1 %.
NUM_TRAIN, NUM_TEST = 252, 108


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'images', per_class=60, num_buckets=2, image_size=32)


@pytest.fixture
def damaged(tree, tmp_path, monkeypatch):
    """A function that copies the tree and cuts the first `count` images of a list of bucket 1 short."""
    monkeypatch.chdir(tmp_path)

    def damage(part, count):
        root = tmp_path / 'images'
        # Links keep it fast; a damaged file is written anew, which leaves the original alone.
        shutil.copytree(tree, root, copy_function=lambda source, target: Path(target).hardlink_to(source))
        paths = listed(root, '1', part)[:count]
        for path in paths:
            content = (root / path).read_bytes()
            (root / path).unlink()
            (root / path).write_bytes(content)
            truncate(root / path)
        write_config('config.py', IMAGE_CONFIG, root)
        write_config('with_metrics.py', IMAGE_CONFIG, root, more=EVAL_METRICS)
        return paths

    return damage


def bad_samples(work_dir):
    return [json.loads(line) for line in (Path(work_dir) / 'bad_samples.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_training_image_is_replaced_listed_and_counted(damaged, num_workers):
    [path] = damaged('train', 1)
    train('config.py', '--work-dir', 'run', '--cfg-options', f'num_workers={num_workers}')
    assert [(each['split'], each['bucket'], each['id']) for each in bad_samples('run')] == [('train', '1', path)]
    results = read_results('run')
    assert results['extras']['bad_samples'] == {'train': 1, 'test': 0}
    # The matrix is full, and every test image is counted.
    for row in results['acc_matrix']:
        for value in row:
            assert value * (NUM_TEST // 2) == pytest.approx(round(value * (NUM_TEST // 2)), abs=1e-9)


def test_stand_ins_do_not_depend_on_the_workers(damaged):
    damaged('train', 2)
    for num_workers in (0, 2):
        train('config.py', '--work-dir', f'run_{num_workers}', '--cfg-options', f'num_workers={num_workers}')
    first, second = read_results('run_0'), read_results('run_2')
    assert first['acc_matrix'] == second['acc_matrix']
    assert first['extras']['train_log'] == second['extras']['train_log']


@pytest.mark.parametrize('config, options', [
    ('config.py', ['num_workers=0']), ('config.py', ['num_workers=2']), ('config.py', ['scenario.cache=ram']),
    ('with_metrics.py', ['num_workers=0']), ('with_metrics.py', ['scenario.cache=ram']),
], ids=['alone', 'workers', 'cached', 'metrics', 'metrics, cached'])
def test_test_image_is_left_out_and_counted(damaged, config, options):
    [path] = damaged('test', 1)
    train(config, '--work-dir', 'run', '--cfg-options', *options)
    assert [(each['split'], each['id']) for each in bad_samples('run')] == [('test', path)]
    results = read_results('run')
    assert results['extras']['bad_samples'] == {'train': 0, 'test': 1}
    # Column 0 measures one image less than column 1.
    for row in results['acc_matrix']:
        for value, count in zip(row, (NUM_TEST // 2 - 1, NUM_TEST // 2)):
            assert value * count == pytest.approx(round(value * count), abs=1e-9)


@pytest.mark.parametrize('part, count, total', [('train', 3, NUM_TRAIN), ('test', 2, NUM_TEST)])
@pytest.mark.parametrize('num_workers', [0, 2])
def test_more_than_one_percent_stops_the_run(damaged, part, count, total, num_workers):
    damaged(part, count)
    finished = run('train', 'config.py', '--work-dir', 'run', '--cfg-options', f'num_workers={num_workers}')
    assert finished.code == 2
    [line] = finished.err.splitlines()
    assert line.startswith('error: ') and f'of {total} {part} images cannot be read' in line
    assert 'run/bad_samples.jsonl' in line and 'max_bad_fraction' in line
    assert not list(Path('run').glob('*.pth'))
    assert len(bad_samples('run')) == count  # the least number that is more than 1 %


def test_the_limit_is_a_setting(damaged):
    damaged('train', 9)
    train('config.py', '--work-dir', 'run', '--cfg-options', 'scenario.max_bad_fraction=0.05')
    assert read_results('run')['extras']['bad_samples'] == {'train': 9, 'test': 0}


def test_class_without_a_readable_image_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_clear_tree('images', per_class=4, num_buckets=2, image_size=32)
    for path in listed(root, '1', 'train'):
        if '/bus/' in path:
            truncate(root / path)
    write_config('config.py', IMAGE_CONFIG, root)
    finished = run('train', 'config.py', '--work-dir', 'run', '--cfg-options', 'scenario.max_bad_fraction=1.0')
    assert finished.code == 2 and 'no other image of class 2 can stand in' in finished.err
