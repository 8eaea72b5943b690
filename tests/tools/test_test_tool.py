"""`tools/test.py`: a checkpoint of a run measures what the run measured."""

from pathlib import Path

import pytest
import torch
from clear_trees import write_clear_tree
from short_runs import FEATURE_CONFIG, IMAGE_CONFIG, read_results, run, train, write_config

from clear.core.files import read_json


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'features', features=8, per_class=10, images=False)


@pytest.fixture
def config(features, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config('config.py', FEATURE_CONFIG, features)


def accuracies(*arguments):
    finished = run('test', *arguments, '--out', 'accuracy.json')
    assert finished.code == 0, finished.err
    return finished.out, read_json('accuracy.json')


def test_rows_of_the_matrix_come_back(config):
    train(config, '--work-dir', 'run', '--cfg-options', 'checkpoint_config.interval=1')
    matrix = read_results('run')['acc_matrix']
    before = sorted(Path('run').rglob('*'))
    for experience, row in enumerate(matrix):
        out, written = accuracies(config, f'run/exp_{experience}.pth')
        assert list(written['accuracy'].values()) == row
        assert written['mean'] == pytest.approx(sum(row) / 3, abs=1e-12)
        assert f'bucket 1      {row[0]:.3f}' in out and f'mean {sum(row) / 3:.3f}' in out
    assert accuracies(config, 'run/latest.pth')[1]['accuracy'] == dict(zip('123', matrix[-1]))
    # Testing adds nothing to the run.
    assert sorted(Path('run').rglob('*')) == before


def test_rows_of_an_image_run_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config('config.py', IMAGE_CONFIG, write_clear_tree('images', per_class=10, image_size=32))
    train(config, '--work-dir', 'run', '--cfg-options', 'cl_strategy.train_epochs=2')
    assert list(accuracies(config, 'run/latest.pth')[1]['accuracy'].values()) == read_results('run')['acc_matrix'][-1]


def test_bare_weights_by_hand(config, features):
    """Weights that name one class always: its share of each test list is the accuracy."""
    torch.save({'head.fc.weight': torch.zeros(3, 8), 'head.fc.bias': torch.tensor([0.0, 1.0, 0.0])}, 'weights.pth')
    _, written = accuracies(config, 'weights.pth')
    for bucket, value in written['accuracy'].items():
        lines = (features / f'training_folder/testset_ratio_0.3/split_0/{bucket}/test.txt').read_text().splitlines()
        assert value == sum(line.endswith(' 1') for line in lines) / len(lines)


def test_load_from_of_the_config_is_not_read(config):
    train(config, '--work-dir', 'run')
    _, written = accuracies(config, 'run/latest.pth', '--cfg-options', 'load_from=gone.pth')
    assert list(written['accuracy'].values()) == read_results('run')['acc_matrix'][-1]


@pytest.mark.parametrize('text, says', [
    ("runner_type = 'ProbeRunner'\nencoders, tasks, data = {}, [], {}\n", 'run a probing config with tools/train.py'),
    ("model = dict(type='MoCo')\n", 'neither test_dataloader nor val_dataloader')])
def test_configs_without_a_test_are_refused(text, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('other.py').write_text(text)
    finished = run('test', 'other.py', 'x.pth')
    assert finished.code == 2 and says in finished.err
