"""Confusions against a loop over the samples."""

import csv
import logging

import pytest
import torch
from mmengine.config import Config
from tiny_runs import DIM, NUM_CLASSES, config, train, write_stream

from clear.continual.evaluate import count_confusions
from clear.continual.scenarios import TensorBucket
from clear.core.errors import ConfigError
from clear.engine.inspection.confusions import (
    confusion_figure,
    confusion_lines,
    read_confusions,
    write_confusions,
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp('confusions')
    cfg = config(write_stream(root / 'data'))
    return cfg, train(cfg, root / 'run')


def test_counts_are_those_of_a_loop(run):
    cfg, runner = run

    def read(bucket):
        return read_confusions(Config({**cfg, 'name': 'a', 'work_dir': 'b'}), runner.work_dir / 'latest.pth', bucket)

    by_hand = torch.zeros(3, NUM_CLASSES, NUM_CLASSES, dtype=torch.int64)
    runner.model.eval()
    for number, dataset in enumerate(runner.info.test):
        for row in range(len(dataset)):
            features, target = dataset[row]
            by_hand[number, target, int(runner.model(features[None]).argmax())] += 1
    matrix, names = read(None)
    assert torch.equal(matrix, by_hand.sum(0)) and names == runner.info.class_names
    assert torch.equal(read('2')[0], by_hand[1])
    accuracy = float(by_hand[1].diagonal().sum() / by_hand[1].sum())
    assert accuracy == pytest.approx(runner.results().acc_matrix[-1][1])
    with pytest.raises(ConfigError, match="--bucket is '7'; expected '1', '2' or '3'"):
        read('7')


@pytest.fixture
def heard(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger('clear'), 'handlers', [])
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    return caplog


@pytest.mark.parametrize('protocol, seed, is_told', [('iid', 0, False), ('streaming', None, True)])
def test_training_data_are_no_test(run, heard, protocol, seed, is_told):
    cfg, runner = run
    scenario = dict(cfg['scenario'], evaluation_protocol=protocol, seed=seed)
    read_confusions(Config({**cfg, 'scenario': scenario, 'name': 'a', 'work_dir': 'b'}),
                    runner.work_dir / 'latest.pth')
    assert ('no test accuracies' in heard.text) is is_told


def test_each_task_is_asked_by_its_head(tmp_path, heard):
    cfg = config(write_stream(tmp_path / 'data'))
    cfg['scenario']['task_labels'], cfg['checkpoint_config'] = True, dict(interval=1)
    cfg['model'] = dict(head=dict(type='MultiHeadClassifier', in_features=DIM))
    runner = train(cfg, tmp_path / 'run')
    for bucket, accuracy in zip(runner.info.column_names, runner.results().acc_matrix[-1], strict=True):
        matrix, _ = read_confusions(Config({**cfg, 'name': 'a', 'work_dir': 'b'}), runner.work_dir / 'latest.pth',
                                    bucket)
        assert int(matrix.diagonal().sum()) / int(matrix.sum()) == pytest.approx(accuracy)
    early = Config({**cfg, 'name': 'a', 'work_dir': 'b'}), runner.work_dir / 'exp_0.pth'
    first, everything = read_confusions(*early, '1')[0], read_confusions(*early)[0]
    assert torch.equal(first, everything) and '2, 3 left out' in heard.text
    with pytest.raises(ConfigError, match='exp_0.pth was not trained on the task of 3'):
        read_confusions(*early, '3')


def test_answers_without_a_column_are_refused():
    data = TensorBucket(torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))
    with pytest.raises(ValueError, match='5 outputs for 2 classes'):
        count_confusions(torch.nn.Linear(3, 5), data, 2, batch_size=2, device='cpu')


def test_lines_table_and_figure(tmp_path):
    matrix, names = torch.tensor([[3, 1, 0], [0, 2, 2], [0, 0, 0]]), ['a', 'b', 'c,d']
    assert confusion_lines(matrix, names) == [
        'accuracy 0.6250 (5 of 8)', 'lowest recall', '  b  0.5000 of 4', '  a  0.7500 of 4', 'most confused',
        '  b taken for c,d  2 of 4', '  a taken for b  1 of 4']
    with write_confusions(matrix, names, tmp_path / 'a.csv').open() as file:
        rows = list(csv.reader(file))
    assert rows == [['true \\ predicted', 'a', 'b', 'c,d'], ['a', '3', '1', '0'], ['b', '0', '2', '2'],
                    ['c,d', '0', '0', '0']]
    assert [text.get_text() for text in confusion_figure(matrix, names, 'x').axes[0].texts] == ['3', '1', '2', '2']
    assert confusion_lines(torch.zeros(2, 2, dtype=torch.int64), ['a', 'b'])[0] == 'no sample'
