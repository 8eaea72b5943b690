"""What users write of Avalanche's classes gives the numbers of its own loop, on batches that are whole buckets."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_classification_dataset
from avalanche.training.supervised import Naive
from many_strategies import settings, trained
from tiny_runs import weights, write_stream
from torch.utils.data import TensorDataset

from clear.engine.continual.runner import ContinualRunner

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
PLUGINS = ('SlowWeights', 'SecondOptimizer', 'SoftTargets', 'ChangesMidway', 'PatchedMethods', 'ReadsTheLoss')
STRATEGIES = ('OwnCumulative', 'TwoPasses', 'TwoRates')
OPTIMIZER = dict(lr=0.1, momentum=0.9)


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


@pytest.fixture(autouse=True)
def users(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / 'fixtures'))
    import avalanche_user

    return avalanche_user


def by_hand(runner, model, kind, plugins):
    """Weights and accuracies of Avalanche's loop over the data of a runner."""
    experiences = benchmark_from_datasets(train=[labelled(bucket) for bucket in runner.info.train]).train_stream
    strategy = kind(model=model, optimizer=torch.optim.SGD(model.parameters(), **OPTIMIZER), train_mb_size=100,
                    criterion=torch.nn.CrossEntropyLoss(), train_epochs=2, plugins=plugins, evaluator=None)
    rows = []
    for experience in experiences:
        strategy.train(experience, eval_streams=[], reset_optimizer_state=True)
        model.eval()
        rows.append([(model(test.inputs).argmax(1) == test.labels).float().mean().item() for test in runner.info.test])
    return dict(strategy.model.state_dict()), rows


def labelled(bucket):
    dataset = TensorDataset(bucket.inputs, bucket.labels)
    dataset.targets = bucket.labels.tolist()
    return _make_taskaware_classification_dataset(dataset, task_labels=0)


@pytest.mark.parametrize('head', ['linear', 'hidden'])
@pytest.mark.parametrize('name', (*PLUGINS, *STRATEGIES))
def test_a_run_is_that_of_avalanche(name, head, stream, users):
    options = dict(plugins=[dict(type=f'avalanche_user.{name}')]) if name in PLUGINS else \
        dict(type=f'avalanche_user.{name}')
    runner = ContinualRunner(settings(stream, 'Naive', head=head, train_mb_size=100, scheduler=None,
                                      optimizer=dict(type='SGD', **OPTIMIZER), **options))
    runner.build()
    model = copy.deepcopy(runner.model)
    trained(runner)
    made = getattr(sys.modules['avalanche_user'], name)
    expected, rows = by_hand(runner, model, *((Naive, [made()]) if name in PLUGINS else (made, [])))
    torch.testing.assert_close(weights(runner), expected, rtol=1e-5, atol=1e-6)
    assert runner.record.state()['acc_matrix'] == [pytest.approx(row) for row in rows]
