"""A plain Avalanche script that is given our order of samples trains the same model as `ContinualRunner`."""

import json

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin, LRSchedulerPlugin
from avalanche.training.supervised import Naive, Replay
from tiny_runs import train

from clear.continual.scenarios import clear_benchmark
from clear.core.config import configs_folder, load_config
from clear.core.seeding import derive_seed, seed_everything
from clear.datasets.make.demo import write_demo
from clear.models import build_classifier

STRATEGIES = {'naive': Naive, 'replay': Replay}
# Avalanche warns about its own calls; outside our runner nobody hides that.
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning', 'ignore:Call to deprecated function')


class EpochSeeds(SupervisedPlugin):
    """Seeds every epoch from (seed, experience, epoch)."""

    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def before_training_epoch(self, strategy, **kwargs):
        clock = strategy.clock
        seed_everything(derive_seed(self.seed, 'epoch', clock.train_exp_counter, clock.train_exp_epochs))


def stock_run(strategy, root, model, *, seed, epochs, options):
    """Avalanche as its own examples use it; returns the accuracy matrix and the trained model."""
    scenario = {key: value for key, value in options['scenario'].items() if key not in ('type', 'data_root')}
    benchmark = clear_benchmark(str(root), **scenario)
    seed_everything(derive_seed(seed, 'model'))
    model = build_classifier(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=options['lr'], momentum=0.9, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=options['step_size'], gamma=0.1)
    memory = dict(mem_size=options['mem_size']) if strategy == 'replay' else {}
    learner = STRATEGIES[strategy](
        model=model, optimizer=optimizer, criterion=torch.nn.CrossEntropyLoss(), train_mb_size=options['train_mb_size'],
        train_epochs=epochs, eval_mb_size=100, plugins=[LRSchedulerPlugin(scheduler), EpochSeeds(seed)],
        evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]), **memory)
    matrix, size = [], len(benchmark.train_stream)
    for number, experience in enumerate(benchmark.train_stream):
        seed_everything(derive_seed(seed, 'experience', number))
        learner.train(experience, eval_streams=[], reset_optimizer_state=True)
        last = learner.eval(benchmark.test_stream)
        matrix.append([last[f'Top1_Acc_Exp/eval_phase/test_stream/Task{j:03}/Exp{j:03}'] for j in range(size)])
    return matrix, learner.model


def compare(strategy, root, *, seed, overrides):
    """Our run and the stock one on the shipped demo config of a strategy."""
    path = configs_folder() / 'demo' / f'{strategy}_lenet5_demo.py'
    cfg = load_config(path, {'scenario.data_root': str(root), 'seed': seed, **overrides})[0].to_dict()
    cfg['loggers'] = []
    ours = train(cfg)
    learning = cfg['cl_strategy']
    options = dict(lr=learning['optimizer']['lr'], step_size=learning['scheduler']['step_size'],
                   mem_size=learning.get('mem_size'), train_mb_size=learning['train_mb_size'], scenario=cfg['scenario'])
    matrix, model = stock_run(strategy, root, cfg['model'], seed=seed, epochs=learning['train_epochs'], options=options)
    assert ours.strategy.optimizer.param_groups[0]['momentum'] == 0.9
    torch.testing.assert_close(torch.tensor(ours.record.acc_matrix), torch.tensor(matrix), rtol=0, atol=1e-6)
    # Bit for bit: same operations, same order.
    for name, value in model.state_dict().items():
        assert torch.equal(value, ours.model.state_dict()[name]), name
    return ours


@pytest.fixture(scope='module')
def small_demo(tmp_path_factory):
    """Three buckets of 150 digits of the demo data."""
    root = tmp_path_factory.mktemp('demo') / 'data'
    write_demo(root, seeds=[0], limit=150)
    (root / 'training_folder' / 'bucket_indices.json').write_text(json.dumps(['1', '5', '10']))
    return root


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_stock_avalanche_trains_the_same_model(strategy, small_demo):
    ours = compare(strategy, small_demo, seed=5, overrides={
        'cl_strategy.train_epochs': 3, 'cl_strategy.scheduler.step_size': 2, 'cl_strategy.train_mb_size': 16,
        **({'cl_strategy.mem_size': 40} if strategy == 'replay' else {})})
    values = {value for row in ours.record.acc_matrix for value in row}
    assert len(ours.record.acc_matrix) == 3 and len(values) > 4 and max(values) > 0.3  # the model did learn something


@pytest.fixture(scope='module')
def full_demo(tmp_path_factory):
    root = tmp_path_factory.mktemp('full') / 'demo'
    write_demo(root, seeds=[0])
    return root


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize('strategy', STRATEGIES)
def test_stock_avalanche_trains_the_same_model_on_the_full_demo(strategy, full_demo):
    ours = compare(strategy, full_demo, seed=0, overrides={'cl_strategy.train_epochs': 1})
    assert len(ours.record.acc_matrix) == 10
