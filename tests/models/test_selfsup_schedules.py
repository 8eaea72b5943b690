"""What follows the progress of a training: momenta, temperatures, layers that are held, queues that start late."""

import math

import pytest
import torch
from selfsup_cases import CASES, build, make_views, total

from clear.core.errors import ConfigError
from clear.models.selfsup.parts.momentum import cosine_momentum, follow


def step(model, iteration, max_iterations=100, per_epoch=5, name='SwAV', **options):
    """One iteration with its backward pass; the loss."""
    model.zero_grad()
    model.set_progress(iteration, max_iterations, per_epoch, **options)
    loss = total(model(make_views(name, iteration), mode='loss'))
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize('name, base', [('BYOL', 0.9), ('DINO', 0.9)])
def test_momentum_rises_to_one_along_a_cosine(name, base):
    model = build(name)
    assert model.current_momentum() == pytest.approx(base)
    found = []
    for iteration in (0, 25, 50, 100):
        model.set_progress(iteration, 100, 10)
        found.append(model.current_momentum())
    by_hand = [base, 1 - 0.1 * (1 + math.sqrt(0.5)) / 2, (1 + base) / 2, 1.0]
    assert found == pytest.approx(by_hand)
    assert cosine_momentum(0.996, 0.5) == pytest.approx(0.998)


@pytest.mark.parametrize('name', ['MoCo', 'CLSA'])
def test_momentum_of_contrast_is_constant(name):
    model = build(name)
    model.set_progress(70, 100, 10)
    assert model.current_momentum() == 0.9


def test_following_touches_parameters_only():
    target, source = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        source.weight.fill_(3)
        source.running_mean.fill_(7)
    follow(target, source, 0.75)
    assert target.weight.tolist() == [1.5, 1.5] and target.running_mean.tolist() == [0, 0]


# DINO


def test_teacher_temperature_warms_up_epoch_by_epoch():
    model = build('DINO', warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=4)
    assert model.current_teacher_temp() == 0.07
    found = []
    for epoch in range(6):
        model.set_progress(5 * epoch + 4, 100, 5)
        found.append(model.current_teacher_temp())
    assert found == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])


def test_the_teacher_temperature_reaches_the_loss():
    views = make_views('DINO')
    warm, cold = (build('DINO', warmup_teacher_temp=value, warmup_teacher_temp_epochs=1) for value in (0.04, 0.5))
    losses = []
    for model in (warm, cold):
        with torch.no_grad():
            model.criterion.center.copy_(torch.linspace(-1, 1, 8))
        model.set_progress(0, 100, 5)
        losses.append(total(model(views, mode='loss')).item())
    assert losses[0] != losses[1]


def test_dinos_last_layer_is_held_in_the_first_epoch():
    model = build('DINO')
    layer = model.student.neck.last_layer
    for iteration, is_held in ((0, True), (4, True), (5, False)):
        step(model, iteration, name='DINO')
        assert layer.requires_grad and (layer.grad.abs().sum() == 0) == is_held
        assert model.student.neck.mlp.layers[0].weight.grad.abs().sum() > 0


def test_holding_does_not_change_the_loss():
    held, free = (build('DINO', freeze_last_layer_epochs=epochs) for epochs in (1, 0))
    assert step(held, 0, name='DINO') == step(free, 0, name='DINO')


@pytest.mark.parametrize('change, message', [
    (dict(num_global=0), 'num_global is 0'), (dict(momentum=-0.1), 'momentum is -0.1'),
    (dict(warmup_teacher_temp=0), 'warmup_teacher_temp is 0'), (dict(neck=CASES['SwAV'][0]['neck']), 'a DINOHead')])
def test_wrong_arguments_of_dino_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        build('DINO', **change)


def test_the_student_needs_the_teachers_views():
    with pytest.raises(ConfigError, match='num_global is 4'):
        build('DINO', num_global=4)(make_views('DINO'), mode='loss')


# SwAV


@pytest.mark.parametrize('freeze_iterations, until', [(None, 5), (2, 2), (0, 0)])
def test_prototypes_are_held_at_the_start(freeze_iterations, until):
    model = build('SwAV', freeze_iterations=freeze_iterations)
    for iteration in range(7):
        step(model, iteration)
        grad = model.prototypes.weight.grad
        assert model.prototypes.weight.requires_grad and (grad.abs().sum() == 0) == (iteration < until)
        assert model.encoder.neck.layers[0].weight.grad.abs().sum() > 0


def test_prototypes_have_unit_length_in_every_step():
    model = build('SwAV')
    with torch.no_grad():
        model.prototypes.weight.mul_(3)
    step(model, 0)
    torch.testing.assert_close(model.prototypes.weight.norm(dim=1), torch.ones(3, dtype=torch.float64))
    with torch.no_grad():
        model.prototypes.weight.mul_(3)
    step(model, 1, is_step_start=False)
    torch.testing.assert_close(model.prototypes.weight.norm(dim=1), 3 * torch.ones(3, dtype=torch.float64))


def test_swavs_queue_fills_from_its_epoch_on_and_counts_once_full():
    """Beside a model without a queue: the losses part in the iteration after the queue has filled."""
    model, without = build('SwAV', queue_start_epoch=1), build('SwAV', queue_size=0)
    without.load_state_dict({**without.state_dict(), **{key: value for key, value in model.state_dict().items()
                                                        if 'queue' not in key}})
    counts, same = [], []
    for iteration in range(9):
        same.append(torch.isclose(step(model, iteration), step(without, iteration), rtol=1e-12).item())
        counts.append(int(model.queue_count))
    assert counts == [0] * 5 + [4, 8, 12, 16]
    # Six columns, four rows a step: full after two steps.
    assert same == [True] * 7 + [False] * 2


def test_swav_queue_remembers_the_latest_embeddings_of_each_assigning_view():
    model, seen = build('SwAV', queue_start_epoch=0), []
    model.prototypes.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    step(model, 0)
    step(model, 1)
    for view in range(2):
        rows = torch.cat([seen[view], seen[3 + view]])  # Three views a step.
        torch.testing.assert_close(model.queue[view][:, [2, 3, 4, 5, 0, 1]], rows[2:].T)


@pytest.mark.parametrize('change, message', [
    (dict(assign_views=()), 'assign_views is'), (dict(assign_views=(0, 0)), 'different indices'),
    (dict(queue_size=-1), 'queue_size is -1'), (dict(freeze_iterations=-5), 'freeze_iterations is -5')])
def test_wrong_arguments_of_swav_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        build('SwAV', **change)


def test_views_and_batches_that_swav_cannot_take_are_refused():
    with pytest.raises(ConfigError, match='assign_views has 5, but the batch has 3 views'):
        build('SwAV', assign_views=(0, 5))(make_views('SwAV'), mode='loss')
    with pytest.raises(ConfigError, match='Use at least 4'):
        build('SwAV', queue_size=3)(make_views('SwAV'), mode='loss')
