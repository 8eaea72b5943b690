"""The programs that regroup a CLEAR folder, write splits, and train on what they wrote."""

import json

import pytest
from clear_trees import write_clear_tree
from short_runs import IMAGE_CONFIG, read_results, run, train, write_config

from clear.datasets import read_clear


@pytest.fixture
def dated(tmp_path):
    """A CLEAR folder in the new layout, whose metadata have dates; one image has none."""
    root = write_clear_tree(tmp_path / 'in', layout='new', num_buckets=2, per_class=6, image_size=32)
    day = 0
    for path in sorted(root.rglob('labeled_metadata/*/*.json')):
        records = json.loads(path.read_text())
        for record in records.values():
            day += 1
            record['DATE_TAKEN'] = f'2010-{1 + day % 12:02}-{1 + day % 28:02} 10:00:00.0'
        path.write_text(json.dumps(records))
    record['DATE_TAKEN'] = 'null'
    path.write_text(json.dumps(records))
    return root


def test_a_new_data_set_is_made_and_trained_on(dated, tmp_path):
    out = tmp_path / 'out'
    made = run('dataset_converters/create_dataset', dated, out, '--by', 'date_taken', '--num-buckets', '3',
               '--seeds', '0')
    assert made.code == 0, made.err
    assert 'old layout, 3 buckets, 35 images' in made.out
    assert f'1 images without date_taken were left out: {out / "regroup.json"} lists them' in made.out
    assert made.out.splitlines()[0].split()[:4] == ['bucket', '1', '12', 'images']
    split = run('dataset_converters/make_splits', out, '--seeds', '1', '--shots', '2')
    assert split.code == 0 and split.out.strip() == str(out / 'training_folder' / '2_shot' / 'split_1')
    assert len(read_clear(out, seed=1, shot=2).train[0]) == 6
    train(write_config(tmp_path / 'images.py', IMAGE_CONFIG, out), '--work-dir', tmp_path / 'run')
    assert len(read_results(tmp_path / 'run')['acc_matrix']) == 3


@pytest.mark.parametrize('program, arguments, says', [
    ('create_dataset', ['--by', 'date_takn'], "nearest: 'date_taken'"),
    ('create_dataset', ['--num-buckets', '99'], 'too few for 99 buckets'),
    ('create_dataset', ['--test-ratio', '2'], 'test_ratio is 2.0')])
def test_user_errors_are_one_line(dated, tmp_path, program, arguments, says):
    failed = run(f'dataset_converters/{program}', dated, tmp_path / 'out', *arguments)
    last = failed.err.strip().splitlines()[-1]
    assert failed.code == 2 and last.startswith('error: ') and says in last
    assert not (tmp_path / 'out').exists()


def test_splits_of_the_new_layout_are_refused(dated):
    failed = run('dataset_converters/make_splits', dated)
    assert failed.code == 2 and 'official split' in failed.err and len(failed.err.strip().splitlines()) == 1
