"""Learners side by side equal learners alone: weights, optimisers, memories, random numbers, what is counted."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from lane_rows import HEADS, OPTIONS, checkpoint_of, lane_config, run_alone, run_together, tensors_of

from clear.continual.lane.loop import Sources, _plan
from clear.continual.lane.objectives import DERppObjective, _loss_and_hits
from clear.continual.lane.pool import SamplePool
from clear.continual.lane.stack import Stack, linear_layers
from clear.continual.lane.support import differing_keys, obstacle
from clear.continual.lane.updates import StackedSGD
from clear.continual.training.loaders import IndexLoader, endless_batches
from clear.engine.continual.keys import with_defaults
from clear.models import build_classifier

MORE = dict(
    adam=dict(optimizer=dict(type='Adam', lr=0.01, weight_decay=0.1)),
    adamw=dict(optimizer=dict(type='AdamW', lr=0.01)),
    nesterov=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
                  optimizer_policy='continue'),
    by_iteration=dict(scheduler=dict(type='OneCycleLR', max_lr=0.1, total_steps=12, by_epoch=False)),
    plateau=dict(scheduler=dict(type='ReduceLROnPlateau', patience=0)))
# Quick: every strategy and every head once, and the optimisers.
CASES = [*((kind, 'linear', {}) for kind in OPTIONS), ('Replay', 'mlp', {}),
         *(pytest.param(kind, 'mlp', {}, marks=pytest.mark.slow) for kind in OPTIONS if kind != 'Replay'),
         *(('Naive', 'linear', MORE[name]) for name in MORE),
         ('EWC', 'linear', dict(mode='online', decay_factor=0.3, fisher='batch')),
         ('Replay', 'linear', dict(storage_policy=dict(type='BiasedReservoirSamplingBuffer', max_size=17)))]


@pytest.fixture
def in_float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize('kind, head, options', CASES)
def test_a_run_of_a_lane_equals_a_run_alone(kind, head, options, tmp_path, in_float64):
    cfg = lane_config(kind, head, **options)
    for seed, folder in zip((3, 1), run_together(cfg, tmp_path, (3, 1))):
        one, alone = checkpoint_of(folder), checkpoint_of(run_alone(cfg, tmp_path, seed))
        mine, other = tensors_of(one), tensors_of(alone)
        assert list(mine) == list(other)
        for name, value in mine.items():
            if not value.is_floating_point():  # rows of memories, counters, the states of the generators
                assert torch.equal(value, other[name]), name
            else:
                torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6 if kind == 'EWC' else 1e-10, msg=name)
        assert one['acc_matrix'] == alone['acc_matrix']
        for name in ('last_epoch', '_last_lr', 'best', 'num_bad_epochs'):
            if name in one['scheduler']['scheduler']:
                assert one['scheduler']['scheduler'][name] == pytest.approx(alone['scheduler']['scheduler'][name])
        for entry, expected in zip(one['progress']['train_log'], alone['progress']['train_log'], strict=True):
            assert entry == pytest.approx(expected, rel=1e-6)
        assert one.keys() == alone.keys() and one['config_hash'] == alone['config_hash']


def test_no_dampening_where_there_is_no_momentum():
    """As in torch's SGD, also beside learners that have momentum."""
    torch.manual_seed(0)
    models = [build_classifier(dict(head=HEADS['linear'])).double() for _ in range(3)]
    alone = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, dampening=0.5)
             for model, momentum in zip(models, (0.9, 0.0, 0.3))]
    stack = Stack(models[0], 3)
    stack.load(models)
    together = StackedSGD(stack)
    together.load(alone)
    for _ in range(3):
        for position, gradient in enumerate(stack.gradients):
            gradient.normal_()
            for place, model in enumerate(models):
                parameter = list(model.parameters())[position]
                parameter.grad = gradient[place].view_as(parameter).clone()
        together.step()
        for place, (model, optimizer) in enumerate(zip(models, alone)):
            optimizer.step()
            for mine, parameter in zip(stack.parameters, model.parameters()):
                torch.testing.assert_close(mine[place].view_as(parameter), parameter.detach())


def test_of_equal_logits_the_first_is_the_answer():
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)[:, :, None].expand(2, 3, 4)
    targets = torch.tensor([0, 1, 2, 1])
    _, hits = _loss_and_hits(torch.zeros_like(logits), targets)
    assert hits.tolist() == [1, 1] and _loss_and_hits(logits, targets)[1].tolist() == [2, 2]


@pytest.mark.parametrize('kind', ['Naive', 'Replay', 'EWC'])
def test_in_float32_a_cell_differs_by_two_test_samples_at_most(kind, tmp_path):
    cfg, seeds, tested = lane_config(kind), (0, 1, 2, 3, 4), 200
    cfg['model']['head']['in_channels'] = 64
    cfg['scenario'] |= dict(features=64, tested=tested)
    for seed, folder in zip(seeds, run_together(cfg, tmp_path, seeds)):
        cells = [torch.tensor(checkpoint_of(each)['acc_matrix'], dtype=torch.float64)
                 for each in (folder, run_alone(cfg, tmp_path, seed))]
        assert cells[0].isfinite().all() and ((cells[0] - cells[1]).abs() * tested).max() < 2.5


@pytest.mark.parametrize('weights', [[(0.3, 0.6)] * 3, [(0.3, 0.6), (0.0, 1.5), (2.0, 0.0)]])
@pytest.mark.parametrize('is_shared', [True, False])
def test_the_gradient_of_derpp_is_autograds(weights, is_shared, in_float64):
    torch.manual_seed(0)
    remembered = torch.randn(3, 9, 4)
    members = [SimpleNamespace(alpha=alpha, beta=beta, logit_batches=[], label_batches=[], memory=SimpleNamespace(
        buffer=SimpleNamespace(_data_attributes=dict(logits=DataAttribute(FlatData([own]), 'logits')))))
        for (alpha, beta), own in zip(weights, remembered)]
    objective = DERppObjective(Stack(build_classifier(dict(head=HEADS['linear'])), 3), members)
    for own_rows in (1, 5, 2):
        rows = own_rows + 4
        targets = torch.randint(4, (rows,) if is_shared else (3, rows))
        places = [torch.randint(9, (2,) if is_shared else (3, 2)) for _ in range(2)]
        logits = torch.randn(3, 4, rows)
        gradient, losses, hits = objective.errors(logits.clone(), targets, places)
        for place, (alpha, beta) in enumerate(weights):
            own, chosen = logits[place].t().clone().requires_grad_(), places[0] if is_shared else places[0][place]
            labels = targets if is_shared else targets[place]
            loss = F.cross_entropy(own[:own_rows], labels[:own_rows]) + beta * F.cross_entropy(own[-2:], labels[-2:]) \
                + alpha * F.mse_loss(own[own_rows:-2], remembered[place][chosen])
            loss.backward()
            torch.testing.assert_close(losses[place], loss.detach())
            torch.testing.assert_close(gradient[place].t(), own.grad)
            assert hits[place] == (own[:own_rows].argmax(1) == labels[:own_rows]).sum()


def test_a_plan_holds_the_rows_that_the_loaders_read():
    """Of two data sets balanced in a batch, the smaller one used up first, and two memories."""
    from lane_rows import lane_rows

    first, second, third = (item.dataset for item in lane_rows().train_stream)
    pool = SamplePool([first, second, third])
    memory = second.subset([7, 3, 11, 0, 5])

    def passes():
        torch.manual_seed(3)
        return [iter(IndexLoader([third, first], [4, 2], shuffle=True, terminating=1)), endless_batches(memory, 2),
                endless_batches(memory, 3)]

    read = [torch.cat([batch[0] for batch in batches]) for batches in zip(*passes())]
    held = [pool.rows_of(dataset) for dataset in (third, first, memory, memory)]
    plan = _plan(passes(), Sources(torch.cat(held), [[0, 29], [66], [71]]))
    assert len(plan.sizes) == len(read) == 19 and plan.sizes[0] == (11, 6) and plan.sizes[-1] == (6, 1)
    assert torch.equal(pool.inputs[plan.rows], torch.cat(read))
    assert [len(places) for places in plan.places] == [38, 57]
    assert torch.equal(pool.rows_of(memory)[plan.places[1][-3:]], plan.rows[-3:])


@pytest.mark.parametrize('rows', [1, 2, 7])
@pytest.mark.parametrize('is_shared', [True, False])
def test_stacked_gradients_are_autograds(rows, is_shared):
    torch.manual_seed(0)
    models = [build_classifier(dict(head=HEADS['mlp'])).double() for _ in range(3)]
    stack = Stack(models[0], 3)
    stack.load(models)
    inputs = torch.randn(rows, 6, dtype=torch.float64) if is_shared else torch.randn(3, rows, 6, dtype=torch.float64)
    errors = torch.randn(3, 4, rows, dtype=torch.float64)
    logits = stack.forward(inputs)
    stack.backward(errors.clone())
    for place, model in enumerate(models):
        own = model(inputs if is_shared else inputs[place])
        torch.testing.assert_close(logits[place].t(), own)
        own.backward(errors[place].t())
        for gradient, parameter in zip(stack.gradients, model.parameters()):
            torch.testing.assert_close(gradient[place].view_as(parameter), parameter.grad)


def test_the_stream_is_in_memory_once():
    from lane_rows import lane_rows

    benchmark = lane_rows()
    before = [bucket.inputs.clone() for bucket in benchmark.info.train]
    experiences = [item.dataset for item in benchmark.train_stream]
    pool = SamplePool(experiences)
    assert torch.equal(pool.inputs, torch.cat(before)) and len(pool.targets) == 107
    for bucket, old in zip(benchmark.info.train, before):
        assert torch.equal(bucket.inputs, old)
        assert bucket.inputs.untyped_storage().data_ptr() == pool.inputs.untyped_storage().data_ptr()
    assert pool.rows_of(experiences[1].subset([5, 0])).tolist() == [42, 37]


@pytest.mark.parametrize('changes, says', [
    (dict(lane=False), 'lane=False'), (dict(amp='bf16'), 'it has amp'),
    (dict(max_iters_per_experience=3), 'it has max_iters_per_experience'),
    (dict(checkpoint_config=dict(iter_interval=3)), 'checkpoint_config.iter_interval'),
    (dict(metrics=[dict(type='forgetting_metrics', experience=True)]), 'the metric forgetting_metrics'),
    (dict(metrics=[dict(type='accuracy_metrics', minibatch=True)]), 'the metric accuracy_metrics'),
    (dict(loggers=[dict(type='WandBLogger')]), 'the logger WandBLogger'),
    (dict(model=dict(backbone=dict(type='LeNet5'), head=HEADS['linear'])), 'more than a head on features'),
    (dict(model=dict(head={**HEADS['mlp'], 'dropout_rate': 0.1})), 'the head has dropout'),
    (dict(model=dict(head=dict(type='ArcFaceClsHead', num_classes=4, in_channels=6))), 'the head is ArcFaceClsHead')])
def test_why_a_config_is_trained_alone(changes, says):
    assert obstacle(with_defaults(lane_config())) is None
    assert says in obstacle(with_defaults({**lane_config().to_dict(), **changes}))


@pytest.mark.parametrize('options, says', [
    (dict(type='AGEM'), 'the strategy is AGEM'), (dict(plugins=[dict(type='LoadBest')]), 'cl_strategy.plugins'),
    (dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)), 'the loss is LabelSmoothLoss'),
    (dict(optimizer=dict(type='RMSprop', lr=0.1)), 'the optimiser is RMSprop'),
    (dict(optimizer=dict(type='Adam', lr=0.1, amsgrad=True)), 'the optimiser has amsgrad'),
    (dict(type='Replay', task_balanced_dataloader=True), 'task_balanced_dataloader'),
    (dict(type='Replay', storage_policy=dict(type='ParametricBuffer', max_size=9)), 'the memory is ParametricBuffer')])
def test_why_a_strategy_is_trained_alone(options, says):
    assert says in obstacle(with_defaults(lane_config(**options) if 'type' not in options else {
        **lane_config().to_dict(), 'cl_strategy': {**lane_config()['cl_strategy'].to_dict(), **options}}))


def test_what_may_differ_in_a_lane():
    assert 'cl_strategy.ewc_lambda' in differing_keys(with_defaults(lane_config('EWC')))
    adam = differing_keys(with_defaults(lane_config(optimizer=dict(type='Adam', lr=0.1))))
    assert adam == {'cl_strategy.optimizer.lr', 'cl_strategy.optimizer.weight_decay'}
    assert linear_layers(build_classifier(dict(head=HEADS['mlp'])))[0][1]
