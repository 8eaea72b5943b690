"""Schedules, optimisers, precision, processes and files of an ordinary run."""

import json
import math
from pathlib import Path

import pytest
import torch
from ranks import run_ranks
from toy_runs import assert_same, outcome, toy_config, toy_run, toy_runner

from clear.core.errors import CheckpointError, ConfigError
from clear.core.results import read_results
from clear.engine.training.keys import check_runner_config
from clear.engine.training.optimisation import AmpOptimWrapper, clip_each_grad_norm_
from clear.registry import OPTIMIZERS

pytest.importorskip('mmpretrain')


def rates(tmp_path, group=0, **changes):
    """The learning rate of every iteration."""
    from mmengine.hooks import Hook

    seen = []

    class Note(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.optim_wrapper.optimizer.param_groups[group]['lr'])

    toy_run(tmp_path, hooks=[Note()], **changes)
    return seen


def test_cosine_per_epoch(tmp_path):
    seen = rates(tmp_path, param_scheduler=dict(type='CosineAnnealingLR', T_max=3))
    assert seen[::6] == pytest.approx([0.05 * (1 + math.cos(math.pi * e / 3)) / 2 for e in range(3)], rel=1e-12)
    assert len(set(seen)) == 3


def test_cosine_per_iteration_after_warm_up(tmp_path):
    seen = rates(tmp_path, param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', T_max=2, by_epoch=True, begin=1, end=3, convert_to_iter_based=True)])
    warm = [0.05 * (0.1 + 0.9 * step / 5) for step in range(6)]
    cosine = [0.05 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    assert seen == pytest.approx(warm + cosine, rel=1e-9)


def test_quarter_cosine(tmp_path):
    by_epoch = rates(tmp_path / 'a', param_scheduler=dict(type='QuarterCosineLR', T_max=3))
    assert by_epoch[::6] == pytest.approx([0.05 * math.cos(math.pi * e / 6) for e in range(3)], rel=1e-12)
    by_iteration = rates(tmp_path / 'b', param_scheduler=dict(type='QuarterCosineLR', T_max=3,
                                                             convert_to_iter_based=True))
    assert by_iteration == pytest.approx([0.05 * math.cos(math.pi * i / 36) for i in range(18)], rel=1e-12)


def test_constant_rate(tmp_path):
    assert set(rates(tmp_path, param_scheduler=None)) == {0.05}


def test_fixed_group_keeps_its_rate(tmp_path):
    changes = dict(
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=6),
                         dict(type='CosineAnnealingLR', T_max=3)],
        optim_wrapper__paramwise_cfg=dict(custom_keys={'predictor': dict(fix_lr=True)}),
        auto_scale_lr=dict(enable=True, base_batch_size=8))
    # One group per parameter: those of the encoder's convolution and norm, then those of the predictor.
    seen = rates(tmp_path / 'a', group=0, **changes)
    fixed = rates(tmp_path / 'b', group=-1, **changes)
    assert seen[0] == pytest.approx(0.0025) and len(set(seen)) > 6
    assert set(fixed) == {0.025}  # a batch of 4 where the rate is meant for 8


def test_scaled_rate_counts_accumulated_parts(tmp_path):
    scale = dict(enable=True, base_batch_size=8)
    runner = toy_runner(tmp_path, auto_scale_lr=scale, optim_wrapper__accumulative_counts=4)
    assert runner.optim_wrapper.get_lr()['lr'] == [pytest.approx(0.05 * 4 * 4 / 8)]


def test_a_schedule_of_the_weight_decay_leaves_zeros(tmp_path):
    runner = toy_run(tmp_path, optim_wrapper__paramwise_cfg=dict(custom_keys={'predictor': dict(decay_mult=0.0)}),
                     param_scheduler=[dict(type='CosineAnnealingParamScheduler', param_name='weight_decay',
                                           eta_min=0.4, T_max=3)])
    groups = runner.optim_wrapper.optimizer.param_groups
    # In the last of three epochs: two thirds of the half cosine, a quarter of the way is left.
    assert groups[0]['weight_decay'] == pytest.approx(0.4 + (1e-4 - 0.4) / 4) and groups[-1]['weight_decay'] == 0


def test_the_optimiser_skips_what_the_model_holds(tmp_path):
    model = toy_runner(tmp_path / 'plain').bare_model
    assert not hasattr(model, 'held_parameters')
    with pytest.MonkeyPatch.context() as patch:
        held = []
        patch.setattr(type(model), 'held_parameters', lambda self: held, raising=False)
        runner = toy_runner(tmp_path / 'held')
        held += list(runner.bare_model.parameters())[-1:]
        runner.train()
    steps = runner.optim_wrapper.optimizer.state
    assert held[0] not in steps and len(steps) == len(list(runner.bare_model.parameters())) - 1


@pytest.mark.parametrize('excluded', [False, True])
def test_lars_step(excluded):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(weight.clone())
    group = dict(params=[parameter], lars_exclude=excluded)
    lars = OPTIMIZERS.require('LARS')([group], lr=0.3, momentum=0.9, weight_decay=1e-2, eta=1e-3)
    momentum = torch.zeros_like(weight)
    for _step in range(3):
        gradient = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        parameter.grad = gradient.clone()
        lars.step()
        norm, size = weight.square().sum().sqrt(), gradient.square().sum().sqrt()
        local = 1.0 if excluded else 1e-3 * norm / (size + 1e-2 * norm + 1e-8)
        momentum = 0.9 * momentum + 0.3 * local * (gradient + 1e-2 * weight)
        weight = weight - momentum
    torch.testing.assert_close(parameter.detach(), weight, rtol=1e-12, atol=1e-14)


def test_accumulated_micro_batches_are_one_batch(tmp_path):
    """Two micro-batches of 4 give the step of one batch of 8, where nothing depends on the batch."""
    options = dict(model=dict(type='ToyPairs', noise=0.0, has_bn=False, keeps_average=False), param_scheduler=None)
    one = toy_run(tmp_path / 'one', train_dataloader__batch_size=8, **options)
    two = toy_run(tmp_path / 'two', optim_wrapper__accumulative_counts=2, **options)
    torch.testing.assert_close(one.bare_model.state_dict(), two.bare_model.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('train_cfg', 'steps', 'iterations'), [
    (dict(by_epoch=True, max_epochs=2), [3, 5, 9, 11], 12), (dict(by_epoch=False, max_iters=10), [3, 7, 9], 10)])
def test_iterations_and_schedules_count_micro_batches(tmp_path, train_cfg, steps, iterations):
    """Six micro-batches an epoch in steps of four: an epoch, or the run, ends with a whole step of what is left."""
    from mmengine.hooks import Hook

    class Count(Hook):
        def before_train(self, runner):
            self.at, self.rates = [], []
            runner.optim_wrapper.optimizer.register_step_post_hook(lambda *_: self.at.append(runner.iter))

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.rates.append(runner.optim_wrapper.optimizer.param_groups[0]['lr'])

    count = Count()
    runner = toy_run(tmp_path, hooks=[count], optim_wrapper__accumulative_counts=4, train_cfg=train_cfg,
                     param_scheduler=[dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=5)])
    assert (count.at, runner.iter, len(count.rates)) == (steps, iterations, iterations)
    ramp = [0.05 * (0.5 + 0.5 * step / 4) for step in range(5)]  # moves with every micro-batch
    assert count.rates == pytest.approx(ramp + [0.05] * (iterations - 5))


def test_bf16_runs_the_forward_pass_in_bf16(tmp_path):
    runner = toy_run(tmp_path, optim_wrapper__type='AmpOptimWrapper')
    assert isinstance(runner.optim_wrapper, AmpOptimWrapper) and runner.optim_wrapper.loss_scaler is None
    assert runner.bare_model.dtypes == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in runner.bare_model.parameters())


def test_fp16_scales_losses_and_saves_the_scale(tmp_path):
    wrapper = dict(type='AmpOptimWrapper', dtype='float16', loss_scale=dict(init_scale=64.0, growth_interval=3),
                   optimizer=dict(type='SGD', lr=0.01))
    runner = toy_run(tmp_path, optim_wrapper=wrapper, train_cfg__max_epochs=1)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 64.0 * 4  # doubled after 3 and 6 good steps
    checkpoint = torch.load(tmp_path / 'latest.pth', weights_only=True)
    assert checkpoint['optimizer']['loss_scaler']['scale'] == 256.0
    resumed = toy_runner(tmp_path, optim_wrapper=wrapper, train_cfg__max_epochs=1)
    resumed.train(resume=True)
    assert resumed.optim_wrapper.loss_scaler.get_scale() == 256.0


def clipped_by_loops(grads, max_norm):
    """`clip_gradients` of DINO's code, number by number."""
    clipped = []
    for grad in grads:
        factor = max_norm / (math.sqrt(sum(value * value for value in grad.flatten().tolist())) + 1e-6)
        clipped.append(grad * factor if factor < 1 else grad.clone())
    return clipped


@pytest.mark.parametrize('max_norm', [0.5, 3.0, 100.0])
def test_each_gradient_is_clipped_by_itself(max_norm):
    generator = torch.Generator().manual_seed(0)
    grads = [scale * torch.randn(shape, generator=generator, dtype=torch.float64)
             for scale, shape in ((1, (4, 3)), (9, (7,)), (1e-3, (2, 2, 2)), (0, (3,)), (5, ()))]
    parameters = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for parameter, grad in zip(parameters, grads):
        parameter.grad = grad.clone()
    without = torch.nn.Parameter(torch.zeros(2))
    clip_each_grad_norm_([*parameters, without], max_norm)
    torch.testing.assert_close([parameter.grad for parameter in parameters], clipped_by_loops(grads, max_norm),
                               rtol=1e-13, atol=0)
    assert without.grad is None
    clip_each_grad_norm_([without], max_norm)  # nothing to do


def seen_and_left(tmp_path, **changes):
    """Gradients of every micro-batch, and those that each optimiser step got; SGD of rate 0 keeps the weights."""
    parts, steps = [], []
    runner = toy_runner(tmp_path, train_cfg__max_epochs=1, param_scheduler=None, model__keeps_average=False, **changes)
    parameters, wrapper = list(runner.bare_model.parameters()), runner.optim_wrapper
    backward = wrapper.backward

    def noted(loss, **kwargs):
        before = [torch.zeros_like(item) if item.grad is None else item.grad.clone() for item in parameters]
        backward(loss, **kwargs)
        parts.append([item.grad - old for item, old in zip(parameters, before)])

    wrapper.backward = noted
    wrapper.optimizer.register_step_pre_hook(lambda *_: steps.append([item.grad.clone() for item in parameters]))
    runner.train()
    return parts, steps


CLIP = dict(type='norm_per_parameter', max_norm=0.02)


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'AmpOptimWrapper'])
def test_clipping_waits_for_all_parts_of_a_step(tmp_path, wrapper):
    """Epochs of 6 micro-batches have steps of 4 and 2: their sum is clipped, not each of them."""
    parts, steps = seen_and_left(tmp_path, optim_wrapper=dict(
        type=wrapper, optimizer=dict(type='SGD', lr=0.0), accumulative_counts=4, clip_grad=CLIP))
    assert len(parts) == 6 and len(steps) == 2
    for found, group in zip(steps, (parts[:4], parts[4:])):
        whole = [sum(grads) for grads in zip(*group)]
        expected = clipped_by_loops(whole, 0.02)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)
        changed = [not torch.equal(one, other) for one, other in zip(expected, whole)]
        assert any(changed) and not all(changed)


def test_clipping_comes_after_the_loss_scale_is_taken_out(tmp_path):
    parts, steps = seen_and_left(tmp_path, optim_wrapper=dict(
        type='AmpOptimWrapper', dtype='float16', loss_scale=1024.0, optimizer=dict(type='SGD', lr=0.0),
        clip_grad=CLIP))
    assert len(parts) == len(steps) == 6
    for found, scaled in zip(steps, parts):
        torch.testing.assert_close(found, clipped_by_loops([grad / 1024 for grad in scaled], 0.02), rtol=1e-4,
                                   atol=1e-8)


def test_a_step_with_infinite_gradients_is_skipped_though_clipped(tmp_path):
    wrapper = dict(type='AmpOptimWrapper', dtype='float16', loss_scale=dict(init_scale=1e38),
                   optimizer=dict(type='SGD', lr=0.01), clip_grad=CLIP)
    runner = toy_run(tmp_path, optim_wrapper=wrapper, train_cfg__max_epochs=1)
    assert runner.optim_wrapper.loss_scaler.get_scale() < 1e38
    assert all(parameter.isfinite().all() for parameter in runner.bare_model.parameters())


def test_published_dino_recipes_clip_each_parameter():
    from mmengine.config import Config

    root = Path(__file__).parents[3] / 'configs/selfsup'
    recipes = sorted(root.glob('dino_*_imagenet.py'))
    assert len(recipes) == 2
    for recipe in recipes:
        assert Config.fromfile(recipe).optim_wrapper.clip_grad == dict(type='norm_per_parameter', max_norm=3.0)


@pytest.mark.parametrize(('clip', 'message'), [
    (dict(type='norm_per_layer', max_norm=3.0), "'norm', 'value', 'norm_per_parameter'"),
    (dict(type='norm_per_parameter', max_nrom=3.0), "no key 'max_nrom'. Did you mean 'max_norm'"),
    (dict(type='norm_per_parameter', max_norm=0), 'max_norm is 0'),
    (dict(type='value', max_norm=1.0), "no key 'max_norm'"), (dict(norm_type=2), 'max_norm is None'), (3.0, 'a dict'),
])
def test_wrong_clipping_is_refused_before_anything_is_built(tmp_path, clip, message):
    cfg = toy_config(tmp_path, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=clip))
    with pytest.raises(ConfigError, match=message):
        check_runner_config(cfg)
    cfg.optim_wrapper.clip_grad = dict(CLIP)
    check_runner_config(cfg)


@pytest.mark.parametrize(('optim_wrapper', 'message'), [
    (dict(optimizer=dict(type='SGD', lr=-1)), r'optim_wrapper\.optimizer\.lr is -1; expected a number of at least 0'),
    (dict(optimizer=dict(type='AdamW', lr='fast')), r"optim_wrapper\.optimizer\.lr is 'fast'"),
    (dict(optimizer=dict(type='LARS', lr=float('nan'))), r'optim_wrapper\.optimizer\.lr is nan'),
    (dict(constructor='Two', encoder=dict(optimizer=dict(type='SGD', lr=-0.1))),
     r'optim_wrapper\.encoder\.optimizer\.lr is -0\.1'),
    (dict(optimizer=dict(type='SGD', lr=0.1, momentum=-1)), 'optim_wrapper cannot be built: SGD: Invalid momentum')])
def test_what_the_optimiser_refuses_is_an_error_of_the_config(optim_wrapper, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        toy_runner(tmp_path, optim_wrapper=dict(optim_wrapper, _delete_=True))


def train_on_rank(rank, folder, options):
    runner = toy_run(folder, **options)
    return dict(runner.bare_model.state_dict()), json.dumps(runner.train_log)


@pytest.mark.parametrize('has_bn', [False, True])
def test_two_processes_are_one(tmp_path, has_bn):
    options = dict(model=dict(type='ToyPairs', noise=0.0, has_bn=has_bn, keeps_average=False), param_scheduler=None,
                   log_processor=dict(window_size=6))  # an epoch
    one = toy_run(tmp_path / 'one', **options)
    options.update(train_dataloader__batch_size=2, sync_bn=has_bn)
    (tmp_path / 'meeting').mkdir()
    ranks = run_ranks(train_on_rank, 2, tmp_path / 'meeting', tmp_path / 'two', options)
    torch.testing.assert_close(ranks[0][0], ranks[1][0], rtol=0, atol=0)
    torch.testing.assert_close(dict(one.bare_model.state_dict()), ranks[0][0], rtol=1e-5, atol=1e-6)
    for entry, other in zip(one.train_log, json.loads(ranks[0][1]), strict=True):
        assert entry == pytest.approx(other, rel=1e-5)
    # What is logged in training is the mean of both, not what the first process saw.
    scalars = list(map(json.loads, (tmp_path / 'two/vis_data/scalars.json').read_text().splitlines()))
    for entry, scalar in zip(json.loads(ranks[0][1]), scalars, strict=True):
        names = ('epoch', 'loss', 'loss_pair', 'loss_size')
        assert [scalar[name] for name in names] == pytest.approx([entry[name] for name in names], rel=1e-6)
    # The batch of all processes names the config, so both are repeats of one experiment.
    assert read_results(tmp_path / 'two/results.json').world_size == 2


def resume_on_rank(rank, folder, options):
    from toy_runs import StopAt

    from clear.core.errors import Interrupted

    try:
        toy_run(folder, hooks=[StopAt(9)] if rank == 1 else [], **options)
        return None
    except Interrupted:
        return torch.load(folder / 'latest.pth', weights_only=True)['progress']['iter']


def test_processes_stop_together_and_one_continues(tmp_path):
    """One process of two is told to stop; both do. Then one process with the whole batch goes on."""
    options = dict(model=dict(type='ToyPairs', noise=0.0, has_bn=False, keeps_average=False), param_scheduler=None)
    one = toy_run(tmp_path / 'one', **options)
    (tmp_path / 'meeting').mkdir()
    stopped = run_ranks(resume_on_rank, 2, tmp_path / 'meeting', tmp_path / 'two',
                        dict(options, train_dataloader__batch_size=2))
    assert stopped == [9, 9]
    with pytest.raises(CheckpointError, match='global_batch_size: 4 -> 2'):
        toy_run(tmp_path / 'two', resume=True, train_dataloader__batch_size=2, **options)
    continued = toy_run(tmp_path / 'two', resume=True, **options)
    torch.testing.assert_close(one.bare_model.state_dict(), continued.bare_model.state_dict(), rtol=1e-5, atol=1e-6)
    assert [entry['loss'] for entry in one.train_log] == pytest.approx(
        [entry['loss'] for entry in continued.train_log], rel=1e-5)


def test_load_from_takes_weights_alone(tmp_path):
    first = toy_run(tmp_path / 'first')
    second = toy_runner(tmp_path / 'second', load_from=str(tmp_path / 'first/latest.pth'), seed=8)
    torch.testing.assert_close(first.bare_model.state_dict(), second.bare_model.state_dict(), rtol=0, atol=0)
    assert second.iter == 0 and not second.optim_wrapper.state_dict()['state']
    torch.save(dict(other=torch.zeros(3)), tmp_path / 'foreign.pth')
    with pytest.raises(CheckpointError):
        toy_runner(tmp_path / 'third', load_from=str(tmp_path / 'foreign.pth'))


def test_same_seed_same_run_other_seed_another(tmp_path):
    runs = [toy_run(tmp_path / name, seed=seed, train_cfg__max_epochs=1)
            for name, seed in (('a', 1), ('b', 1), ('c', 2))]
    assert_same(outcome(runs[0]), outcome(runs[1]))
    with pytest.raises(AssertionError):
        assert_same(outcome(runs[0]), outcome(runs[2]))


def test_results_name_what_was_measured(tmp_path, drawn_figures):
    runner = toy_run(tmp_path, default_hooks=dict())
    results = read_results(tmp_path / 'results.json')
    assert results.runner == 'Runner' and results.seeds == dict(train=3) and results.config_hash
    log = results.extras['train_log']
    assert [entry['epoch'] for entry in log] == [1, 2, 3] and [entry['iteration'] for entry in log] == [6, 12, 18]
    assert results.metrics['loss'] == log[-1]['loss'] == runner.train_log[-1]['loss']
    assert log[0]['loss'] == pytest.approx(log[0]['loss_pair'] + log[0]['loss_size'], rel=1e-6)
    assert (tmp_path / 'figures/loss.png').read_bytes()[:4] == b'\x89PNG'


def test_tensorboard_and_scalars(tmp_path):
    toy_run(tmp_path, visualizer=dict(type='Visualizer', vis_backends=[
        dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]))
    assert list((tmp_path / 'vis_data').glob('events.out.tfevents*'))
    last = json.loads((tmp_path / 'vis_data/scalars.json').read_text().splitlines()[-1])
    assert last['epoch'] == 3 and last['iter'] == 18


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(train_cfg=dict(max_epochs=0)), 'max_epochs is 0'),
    (dict(train_dataloader__batch_size=25), 'batch_size'),
    (dict(optim_wrapper__dtype='int8', optim_wrapper__type='AmpOptimWrapper'), 'int8'),
])
def test_what_cannot_be_run(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        toy_runner(tmp_path, **changes)
