"""A head for each task: trained as stock Avalanche trains it, tested by the head of the sample's task, and resumed."""

import json

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import MTSimpleMLP, MultiTaskModule
from avalanche.models import MultiHeadClassifier as StockHeads
from avalanche.training import supervised
from avalanche.training.plugins import EvaluationPlugin
from many_strategies import assert_same_run, settings, stopped, trained
from tiny_runs import write_stream
from torch import nn

from clear.continual.evaluate import count_correct
from clear.continual.journal import read_run
from clear.continual.metrics import clear_metrics
from clear.continual.multitask import known_tasks, with_task_labels
from clear.continual.repairs.architectural import MultiHeadClassifier
from clear.continual.scenarios import TensorBucket, build_scenario
from clear.core.errors import ConfigError
from clear.core.results import read_results
from clear.core.seeding import derive_seed, seed_everything
from clear.engine.checkpoint import load_model_weights
from clear.engine.continual.runner import ContinualRunner
from clear.models import build_classifier

HIDDEN = 6
MODEL = dict(neck=dict(type='LinearNeck', in_channels=8, out_channels=HIDDEN, gap_dim=0, norm_cfg=None,
                       act_cfg=dict(type='ReLU')), head=dict(type='MultiHeadClassifier', in_features=HIDDEN))
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning', 'ignore:Call to deprecated function')


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def built(stream, name, work_dir=None, **options):
    cfg = settings(stream, name, **options)
    cfg['scenario']['task_labels'] = True
    cfg['model'] = MODEL
    runner = ContinualRunner(cfg, work_dir)
    runner.build()
    return runner


class Net(MultiTaskModule):
    """The same network, made by hand of Avalanche's own parts."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, HIDDEN)
        self.heads = StockHeads(HIDDEN)

    def forward(self, x, task_labels):
        return self.heads(self.fc(x).relu(), task_labels)


class Seeds(SupervisedPlugin):
    def before_training_epoch(self, strategy, **kwargs):
        seed_everything(derive_seed(3, 'epoch', strategy.clock.train_exp_counter, strategy.clock.train_exp_epochs))


def stock_matrix(runner, kind, **options):
    """The accuracy matrix of a plain Avalanche script on the same stream, with the weights that the runner has."""
    net, own = Net(), runner.strategy.model
    net.fc.load_state_dict(own.neck.fc.state_dict() if hasattr(own.neck, 'fc') else
                           next(part for part in own.neck.modules() if isinstance(part, nn.Linear)).state_dict())
    net.heads.load_state_dict(own.head.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    learner = getattr(supervised, kind)(
        model=net, optimizer=optimizer, criterion=nn.CrossEntropyLoss(), train_mb_size=8, train_epochs=2,
        eval_mb_size=5, plugins=[Seeds()], **options,
        evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]))
    matrix, experiences = [], list(runner.benchmark.train_stream)
    for number, experience in enumerate(experiences):
        seed_everything(derive_seed(3, 'experience', number))
        learner.train(experience, eval_streams=[], reset_optimizer_state=True)
        seen = learner.eval(list(runner.benchmark.test_stream)[:number + 1])
        matrix.append([seen[f'Top1_Acc_Exp/eval_phase/test_stream/Task{j:03}/Exp{j:03}'] for j in range(number + 1)])
    return matrix


STOCK = {'Naive': {}, 'Cumulative': {}, 'Replay': dict(mem_size=11), 'GEM': dict(patterns_per_exp=9),
         'EWC': dict(ewc_lambda=0.4, mode='online', decay_factor=0.1), 'LwF': dict(alpha=1.0, temperature=2.0)}


@pytest.mark.parametrize('kind', STOCK)
def test_stock_avalanche_measures_the_same(kind, stream):
    options = {**STOCK[kind], **(dict(fisher='batch') if kind == 'EWC' else {})}
    runner = built(stream, kind, scheduler=None, optimizer=dict(type='SGD', lr=0.1, momentum=0.9), **options)
    stock = stock_matrix(runner, kind, **STOCK[kind])
    runner = trained(built(stream, kind, scheduler=None, optimizer=dict(type='SGD', lr=0.1, momentum=0.9), **options))
    matrix = runner.record.acc_matrix
    assert [row[:i + 1] for i, row in enumerate(matrix)] == [pytest.approx(row, abs=1e-6) for row in stock]
    assert all(value is None for i, row in enumerate(matrix) for value in row[i + 1:])
    assert len({value for row in stock for value in row}) > 1


NAMES = ('Naive', 'Cumulative', 'Replay', 'GDumb', 'EWC', 'EWC by sample', 'LwF', 'AGEM', 'GEM', 'MAS', 'MIR', 'DERpp',
         'SynapticIntelligence', 'Replay with LwF', 'Naive with LoadBest', 'FromScratchTraining')
QUICK = ('LwF', 'Replay')


@pytest.mark.parametrize('name', [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in NAMES])
def test_heads_resume_exactly(name, stream, tmp_path):
    whole = trained(built(stream, name, tmp_path / 'whole'))
    stopped(built(stream, name, tmp_path / 'parts'), 1, 3)
    seed_everything(987654321)
    assert_same_run(whole, trained(built(stream, name, tmp_path / 'parts'), resume=True))


@pytest.mark.parametrize('name', ['PackNet', pytest.param('PNNStrategy', marks=pytest.mark.slow)])
def test_networks_with_a_part_for_each_task_are_told_it(name, stream, tmp_path):
    def make(work_dir=None, **scenario):
        cfg = settings(stream, name)
        cfg['scenario'].update(scenario)
        runner = ContinualRunner(cfg, work_dir)
        runner.build()
        return runner

    whole = trained(make(tmp_path / 'whole', task_labels=True))
    stopped(make(tmp_path / 'parts', task_labels=True), 1, 3)
    seed_everything(987654321)
    assert_same_run(whole, trained(make(tmp_path / 'parts', task_labels=True), resume=True))
    untold = trained(make())  # the newest part answers for all
    assert (whole.info.protocol, untold.info.protocol) == ('task-incremental', 'iid')
    assert whole.record.acc_matrix[-1][-1] == untold.record.acc_matrix[-1][-1]
    assert whole.record.acc_matrix[-1] != untold.record.acc_matrix[-1]


def test_results_name_tasks_and_weights_find_their_heads(stream, tmp_path):
    runner = trained(built(stream, 'Naive', tmp_path))
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['protocol'] == 'clear/task-incremental/v1' and results['extras']['task_labels'] == [0, 1, 2]
    row = results['acc_matrix'][-1]
    assert results['extras']['task_accuracy'] == dict(zip('012', row))
    # As a kill behind the second experience leaves it, with the third row in the journal alone.
    second, third = (results['acc_matrix'][row] for row in (1, 2))
    extras = dict(results['extras'], train_log=results['extras']['train_log'][:2],
                  task_accuracy=dict(zip('012', second)))
    early = dict(results, acc_matrix=[*results['acc_matrix'][:2], [None] * 3], extras=extras)
    (tmp_path / 'results.json').write_text(json.dumps(early))
    assert second != third and read_run(tmp_path).extras['task_accuracy'] == dict(zip('012', third))
    assert results['metrics']['final_accuracy'] == pytest.approx(sum(row) / 3)
    assert read_results(tmp_path / 'results.json').progress == (3, 3)
    fresh = built(stream, 'Naive')
    assert known_tasks(fresh.model) == set() and fresh._choose_mode() == 'replicate'
    assert fresh.test(tmp_path / 'latest.pth') == row
    branch = built(stream, 'Naive', tmp_path / 'branch')
    branch.cfg['checkpoint_config']['interval'] = 1
    trained(branch)
    other = built(stream, 'Replay', tmp_path / 'other')
    with pytest.raises(Exception, match='asks for Replay'):
        other.train(branch=str(tmp_path / 'branch' / 'exp_0.pth'))
    again = built(stream, 'Naive', tmp_path / 'again', train_epochs=1)
    again.train(branch=str(tmp_path / 'branch' / 'exp_0.pth'))
    assert again.record.acc_matrix[0] == runner.record.acc_matrix[0]
    assert sorted(known_tasks(again.model)) == [0, 1, 2]


def test_each_sample_is_tested_by_the_head_of_its_task(stream):
    runner = trained(built(stream, 'Naive'))
    for task, bucket in enumerate(runner.info.test):
        right = sum(int(runner.model(bucket[row][0][None], torch.tensor([task])).argmax()) == bucket[row][1]
                    for row in range(len(bucket)))
        assert runner.record.acc_matrix[-1][task] == pytest.approx(right / len(bucket))


class Experience:
    def __init__(self, task, classes):
        self.task_labels, self.classes_in_this_experience = [task], classes


def test_a_narrow_head_is_not_answered_by_units_that_it_lacks():
    """Of two heads, of 2 and of 4 units; the first one's logits are negative."""
    def heads(**options):
        made = MultiHeadClassifier(1, **options)
        for task, classes in ((0, [0, 1]), (1, [2, 3])):
            made.adaptation(Experience(task, classes))
        with torch.no_grad():
            made.classifiers['0'].classifier.weight.copy_(torch.tensor([[-1.0], [-2.0]]))
            made.classifiers['0'].classifier.bias.zero_()
        return made

    x, tasks = torch.ones(2, 1), torch.tensor([0, 0])
    assert heads()(x, tasks).tolist() == [[-1, -2, -1000, -1000]] * 2
    assert heads(legacy=True)(x, tasks).argmax(1).tolist() == [2, 2]  # a class of the other task
    mixed = heads()(x, torch.tensor([1, 0]))
    assert mixed[1].tolist() == [-1, -2, -1000, -1000] and mixed[0, :2].tolist() == [-1000, -1000]


def test_a_state_gives_heads_and_takes_them():
    """A model of three tasks loaded into a fresh one, and back: a teacher has fewer heads than the live model."""
    def model():
        return with_task_labels(build_classifier(MODEL))

    grown, fresh = model(), model()
    for task, classes in ((0, [0, 1]), (3, [0, 1, 2])):
        grown.head.adaptation(Experience(task, classes))
    old = fresh.state_dict()
    fresh.load_state_dict(grown.state_dict())
    x = torch.randn(4, 8)
    assert known_tasks(fresh) == {0, 3}
    assert torch.equal(fresh(x, 3), grown(x, 3)) and fresh(x, torch.tensor([0, 3, 3, 0])).shape == (4, 3)
    grown.load_state_dict(old)
    assert list(grown.head.classifiers) == ['0'] and known_tasks(grown) == set()
    with pytest.raises(ConfigError, match='called without task labels'):
        grown(x)


def test_avalanches_own_multi_task_network_is_a_backbone(stream, tmp_path):
    def make(work_dir):
        cfg = settings(stream, 'Naive')
        cfg['scenario']['task_labels'] = [0, 1, 0]
        cfg['model'] = dict(backbone=dict(type='avalanche.models.MTSimpleMLP', input_size=8, hidden_size=5))
        runner = ContinualRunner(cfg, work_dir)
        runner.build()
        return runner

    whole = trained(make(tmp_path / 'whole'))
    assert isinstance(whole.model.backbone, MTSimpleMLP) and known_tasks(whole.model) == {0, 1}
    assert [value is None for value in whole.record.acc_matrix[0]] == [False, True, False]
    stopped(make(tmp_path / 'parts'), 2, 3)
    seed_everything(987654321)
    assert_same_run(whole, trained(make(tmp_path / 'parts'), resume=True))


def test_a_head_that_grows_with_the_classes(tmp_path):
    """IncrementalClassifier on digits two by two: one head, which has as many units as classes have come."""
    cfg = dict(scenario=dict(type='SplitDigits', limit=150, class_ids_from_zero_in_each_exp=False),
               model=dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                          head=dict(type='IncrementalClassifier', in_features=120)),
               cl_strategy=dict(type='Naive', train_mb_size=32, optimizer=dict(type='SGD', lr=0.05)), loggers=[],
               metrics=[], device='cpu', report=False)
    runner = ContinualRunner(cfg, tmp_path)
    runner.build()
    trained(runner)
    assert runner.info.protocol == 'class-incremental' and runner.model.head.classifier.out_features == 10
    fresh = ContinualRunner(cfg)
    fresh.build_model()
    load_model_weights(fresh.model, tmp_path / 'latest.pth')
    assert fresh.model.head.active_units.sum() == 10


def test_tasks_of_digits_and_their_class_ids():
    info = build_scenario(dict(type='SplitDigits', limit=150, class_order=[9, 0, 1, 2, 3, 4, 5, 6, 7, 8],
                               class_ids_from_zero_in_each_exp=True, task_labels=True)).info
    plain = build_scenario(dict(type='SplitDigits', limit=150, class_order=[9, 0, 1, 2, 3, 4, 5, 6, 7, 8])).info
    assert info.bucket_names == plain.bucket_names and info.task_labels == [0, 1, 2, 3, 4] and info.num_classes == 2
    assert info.train[0].targets == [{9: 0, 0: 1}[label] for label in plain.train[0].targets]
    assert torch.equal(info.train[3].inputs, plain.train[3].inputs)


def test_metrics_leave_out_tasks_to_come():
    metrics = clear_metrics([[.9, None, None], [.7, .8, None], [.6, .5, 1.0]], 'task-incremental')
    mean = pytest.approx((.9 + .75 + .7) / 3)
    assert metrics == dict(final_accuracy=pytest.approx(.7), average_incremental_accuracy=mean,
                           learning_accuracy=pytest.approx(.9), forgetting=pytest.approx(.3), train_overlap={})


RAR = dict(type='RARPlugin', batch_size_mem=4, opt_lr=.1, name_ext_layer='neck', epsilon_fgsm=.1,
           iter_fgsm=1, mem_size=9)


@pytest.mark.parametrize('change, message', [
    (dict(scenario=dict(task_labels=None)), 'the scenario names no tasks. Set scenario.task_labels=True'),
    (dict(scenario=dict(task_labels=[0, 1])), 'expected True or a list of 3 whole numbers'),
    (dict(scenario=dict(task_labels=[0, 1, -1])), r'task_labels\[2\]'),
    (dict(cl_strategy=dict(type='MER', mem_size=5)), 'cl_strategy.type MER is for models with one head'),
    (dict(cl_strategy=dict(plugins=[dict(RAR)])), 'RARPlugin is for models with one head')])
def test_what_does_not_fit_is_refused(change, message, stream):
    cfg = settings(stream, 'Naive')
    cfg['scenario']['task_labels'] = True
    cfg['model'] = MODEL
    for part, values in change.items():
        cfg[part].update(values)
    with pytest.raises(ConfigError, match=message):
        ContinualRunner(cfg).build()


def test_counts_by_one_head():
    class Two(MultiTaskModule):
        def forward_single_task(self, x, task_label):
            return x if task_label == 0 else -x

    bucket = TensorBucket(torch.tensor([[2., 1.], [1., 2.]]), torch.tensor([0, 1]))
    assert [count_correct(Two(), bucket, batch_size=1, device='cpu', task=task).correct for task in (0, 1)] == [2, 0]
