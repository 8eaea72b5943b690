"""What each strategy adds to fine-tuning, against loops written from the formulas; and what was repaired."""

import copy
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from tiny_runs import built, config, same_weights, train, weights, write_stream

from clear.continual.repairs.regularisation.synaptic_intelligence import RepairedSynapticIntelligencePlugin
from clear.continual.strategies import quiet_avalanche
from clear.registry import STRATEGIES

WEIGHT, BIAS = 'head.fc.weight', 'head.fc.bias'


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def plugin_of(runner, name):
    return next(plugin for plugin in runner.strategy.plugins if type(plugin).__name__ == name)


def watch(runner, *, keep_going=lambda strategy: None):
    """Train; for every iteration the batch, the weights, the plain loss and what plugins add to it."""
    strategy, seen = runner.strategy, []
    before_backward = strategy._before_backward

    def note(**kwargs):
        plain = strategy.loss.detach().clone()
        before_backward(**kwargs)
        seen.append(dict(experience=strategy.clock.train_exp_counter, x=strategy.mb_x.clone(), y=strategy.mb_y.clone(),
                         tasks=strategy.mb_task_id.clone(), weights=weights(runner), plain=plain.double().item(),
                         penalty=(strategy.loss.detach() - plain).double().item()))
        keep_going(strategy)

    strategy._before_backward = note
    runner.train()
    return seen


def rows_of(runner, experience):
    """Features and targets of a training bucket, as NumPy arrays."""
    bucket = runner.info.train[experience]
    return bucket.inputs.numpy().astype(np.float64), np.array(bucket.targets)


def numbers(state):
    return state[WEIGHT].double().numpy(), state[BIAS].double().numpy()


def softmax(logits):
    exponentials = [np.exp(value - max(logits)) for value in logits]
    return np.array(exponentials) / sum(exponentials)


def gradient(state, inputs, targets):
    """Of the mean cross-entropy of a linear classifier, row by row: (dW (C, D), db (C,))."""
    weight, bias = numbers(state)
    d_weight, d_bias = np.zeros_like(weight), np.zeros_like(bias)
    for x, y in zip(inputs, targets):
        error = softmax(weight @ x + bias)
        error[y] -= 1
        d_weight += np.outer(error, x) / len(inputs)
        d_bias += error / len(inputs)
    return d_weight, d_bias


# EWC


def fisher(state, inputs, targets, batch):
    """Mean over batches, in the order of the data, of the squared batch gradient."""
    starts = range(0, len(inputs), batch)
    squares = [[part**2 for part in gradient(state, inputs[at:at + batch], targets[at:at + batch])] for at in starts]
    return [sum(parts) / len(starts) for parts in zip(*squares)]


def test_ewc_penalty_is_lambda_times_fisher_times_squared_distance(stream):
    runner = built(config(stream, 'EWC', ewc_lambda=5.0, mode='online', decay_factor=0.5))
    seen = watch(runner)
    assert all(step['penalty'] == 0 for step in seen if step['experience'] == 0)
    anchors = {step['experience']: step['weights'] for step in reversed(seen)}  # the first step starts from the anchor
    importance = [np.zeros((4, 8)), np.zeros(4)]
    for experience in (1, 2):
        new = fisher(anchors[experience], *rows_of(runner, experience - 1), batch=8)
        importance = [0.5 * old + part for old, part in zip(importance, new)] if experience > 1 else new
        steps = [step for step in seen if step['experience'] == experience]
        for step in steps:
            distance = [(now - then)**2 for now, then in zip(numbers(step['weights']), numbers(anchors[experience]))]
            expected = 5.0 * sum((part * far).sum() for part, far in zip(importance, distance))
            assert step['penalty'] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert steps[0]['penalty'] == 0 and min(step['penalty'] for step in steps[1:]) > 0


# LwF


def test_lwf_penalty_is_alpha_times_divergence_from_the_previous_model(stream):
    runner = built(config(stream, 'LwF', alpha=[0.0, 2.0, 3.0], temperature=2.0))
    seen = watch(runner)
    assert all(step['penalty'] == 0 for step in seen if step['experience'] == 0)
    for experience, alpha in ((1, 2.0), (2, 3.0)):
        steps = [step for step in seen if step['experience'] == experience]
        teacher = numbers(steps[0]['weights'])
        for step in steps:
            student, divergence = numbers(step['weights']), 0.0
            for x in step['x'].double().numpy():
                p = softmax((teacher[0] @ x + teacher[1]) / 2.0)
                q = softmax((student[0] @ x + student[1]) / 2.0)
                divergence += sum(p * np.log(p / q)) / len(step['x'])
            assert step['penalty'] == pytest.approx(alpha * divergence, rel=1e-3, abs=1e-6)
        assert min(step['penalty'] for step in steps[1:]) > 0


@pytest.mark.parametrize('legacy', [False, True])
def test_lwf_teacher_is_the_model_that_was(legacy, stream):
    """In train mode, as Avalanche leaves it, dropout draws and its statistics follow the new bucket."""
    runner = built(config(stream, 'LwF', head='StackedLinearClsHead', legacy=legacy))
    teachers, after = {}, runner._on_iteration

    def note(strategy):
        after(strategy)
        teacher = next(plugin for plugin in strategy.plugins if hasattr(plugin, 'lwf')).lwf.prev_model
        if teacher is not None:
            teachers.setdefault(strategy.clock.train_exp_counter, []).append(
                (teacher.training, copy.deepcopy(teacher.state_dict())))

    runner._on_iteration = note
    runner.train()
    for states in teachers.values():
        assert len(states) == 8 and {training for training, _ in states} == {legacy}
        moved = [name for name, value in states[-1][1].items() if not torch.equal(value, states[0][1][name])]
        assert bool(moved) == legacy and all('running' in name or 'num_batches' in name for name in moved)


# Synaptic Intelligence


def test_si_penalty_follows_the_path_integral(stream):
    strength = 2.0
    runner = built(config(stream, 'SynapticIntelligence', si_lambda=strength, optimizer=dict(type='SGD', lr=1e-2)))
    seen = watch(runner)
    assert all(step['penalty'] == 0 for step in seen if step['experience'] == 0)
    first = [step for step in seen if step['experience'] == 0]
    steps = [step for step in seen if step['experience'] == 1]
    anchor = numbers(steps[0]['weights'])
    path = [np.zeros_like(part) for part in anchor]
    for step, following in zip(first, [*first[1:], steps[0]]):
        moved = [after - before for before, after in zip(numbers(step['weights']), numbers(following['weights']))]
        for total, slope, change in zip(path, gradient(step['weights'], step['x'].double().numpy(), step['y'].numpy()),
                                        moved):
            total += slope * change
    start = numbers(first[0]['weights'])
    importance = [np.clip(-total / ((end - begin)**2 + 0.1), 0, None)
                  for total, begin, end in zip(path, start, anchor)]
    assert all((part >= 0).all() for part in importance) and max(part.max() for part in importance) > 0.001
    for step in steps:
        distance = [(now - then)**2 for now, then in zip(numbers(step['weights']), anchor)]
        expected = strength * sum((part * far).sum() for part, far in zip(importance, distance))
        assert step['penalty'] == pytest.approx(expected, rel=1e-2, abs=1e-7)
    assert steps[0]['penalty'] == 0 and min(step['penalty'] for step in steps[1:]) > 0


def test_si_differs_from_naive_and_its_importances_are_never_negative(stream):
    runner = train(config(stream, 'SynapticIntelligence', si_lambda=1000.0))
    naive = train(config(stream))
    assert not same_weights(weights(runner), weights(naive))
    importances = [item.data for item in plugin_of(runner, 'RepairedSynapticIntelligencePlugin').ewc_data[1].values()]
    assert all((value >= 0).all() for value in importances) and any((value > 0).any() for value in importances)


@pytest.mark.parametrize('si_lambda', [1.0, 1000.0])
def test_legacy_si_on_a_cpu_equals_naive(si_lambda, stream):
    """The defect that the repair is for; if Avalanche mends it, this test says so."""
    runner = train(config(stream, 'SynapticIntelligence', si_lambda=si_lambda, legacy=True))
    assert not any(isinstance(plugin, RepairedSynapticIntelligencePlugin) for plugin in runner.strategy.plugins)
    assert same_weights(weights(runner), weights(train(config(stream))))


def test_repaired_si_keeps_the_arguments_and_the_place_of_the_plugin(stream):
    options = dict(si_lambda=[1.0, 2.0], eps=1e-3)
    old, new = (built(config(stream, 'SynapticIntelligence', **options, legacy=legacy)) for legacy in (True, False))
    names = [[type(plugin).__name__.removeprefix('Repaired') for plugin in runner.strategy.plugins]
             for runner in (old, new)]
    assert names[0] == names[1] and names[1].count('SynapticIntelligencePlugin') == 1 and names[1][-1] == 'Clock'
    plugin = plugin_of(new, 'RepairedSynapticIntelligencePlugin')
    assert (plugin.si_lambda, plugin.eps) == ([1.0, 2.0], 1e-3)
    assert plugin.device(new.strategy) == new.device
    assert STRATEGIES.get('SynapticIntelligence').__module__.startswith('clear.continual.repairs.regularisation.')


# AGEM


def test_agem_projects_a_gradient_that_opposes_the_memory(stream):
    runner = built(config(stream, 'AGEM', optimizer=dict(type='SGD', lr=0.5)))
    strategy, plugin = runner.strategy, plugin_of(runner, 'AGEMPlugin')
    sample, after_backward = plugin.sample_from_memory, strategy._after_backward
    memory, cases = [], []

    def remember():
        memory.append(sample())
        return memory[-1]

    def flat():
        return np.concatenate([value.grad.double().numpy().ravel() for value in strategy.model.parameters()])

    def project(**kwargs):
        before = flat()
        after_backward(**kwargs)
        if plugin.buffers:
            x, y, tasks = memory[-1]
            reference = gradient(weights(runner), x.double().numpy(), y.numpy())
            cases.append((before, np.concatenate([part.ravel() for part in reference]), flat(), tasks.tolist()))

    plugin.sample_from_memory, strategy._after_backward = remember, project
    runner.train()
    opposed = 0
    for before, reference, after, _ in cases:
        product = sum(a * b for a, b in zip(before, reference))
        expected = before - product / sum(b * b for b in reference) * reference if product < 0 else before
        np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-6)
        if product < 0:
            opposed += 1
            assert abs(after @ reference) < 1e-5 < abs(product)
    assert 0 < opposed < len(cases) == 2 * 8
    # The memory is shared out over the experiences that are over: one, then two.
    assert [sorted(set(tasks)) for *_, tasks in cases] == [[0]] * 8 + [[0, 1]] * 8
    assert [len(buffer) for buffer in plugin.buffers] == [9, 9, 9]


# Replay and GDumb


def test_replay_shares_its_memory_over_experiences_and_doubles_the_batch(stream):
    runner = built(config(stream, 'Replay', mem_size=11))
    storage = plugin_of(runner, 'ReplayPlugin').storage_policy
    sizes, measure = [], runner._measure

    def note(experience):
        sizes.append([len(group.buffer) for group in storage.buffer_groups.values()])
        return measure(experience)

    runner._measure = note
    seen = watch(runner)
    assert sizes == [[11], [6, 5], [4, 4, 3]]
    for experience, group in enumerate(storage.buffer_groups.values()):
        assert set(group.buffer.targets_task_labels) == {experience}
    for step in seen:
        counts = np.bincount(step['tasks'], minlength=3)
        experience = step['experience']
        assert counts[experience] in (8, 4) and counts[experience + 1:].sum() == 0  # 28 = 3 x 8 + 4 new rows
        # From memory, which is smaller and drawn again when used up: 8 rows, or the rest of it.
        assert counts[:experience].sum() in ((0,) if experience == 0 else (8, 3))
    memory = {tuple(x.tolist()) for group in storage.buffer_groups.values() for x, *_ in group.buffer}
    stream_rows = {tuple(x.tolist()) for bucket in runner.info.train for x in bucket.inputs}
    assert len(memory) == 11 and memory < stream_rows


def test_gdumb_trains_from_scratch_on_the_balanced_memory_alone(stream):
    runner = built(config(stream, 'GDumb', mem_size=11))
    start = weights(runner)
    storage = plugin_of(runner, 'GDumbPlugin').storage_policy
    memories = []

    def note(strategy):
        memories.append({tuple(x.tolist()): int(y) for x, y, *_ in storage.buffer})

    seen = watch(runner, keep_going=note)
    for experience in range(3):
        chosen = [(step, memory) for step, memory in zip(seen, memories) if step['experience'] == experience]
        memory = chosen[0][1]
        assert sorted(np.bincount(list(memory.values())).tolist()) == [2, 3, 3, 3]
        assert same_weights(chosen[0][0]['weights'], start)
        rows = [(tuple(x.tolist()), int(y)) for step, _ in chosen for x, y in zip(step['x'], step['y'])]
        # Each of two epochs shows every remembered sample, some again to balance the buckets, and nothing else.
        assert Counter(rows) >= Counter([*memory.items()] * 2) and set(rows) == set(memory.items())
    assert len({task for step in seen if step['experience'] == 2 for task in step['tasks'].tolist()}) > 1


def test_cumulative_and_joint_training_see_every_bucket_so_far(stream):
    cumulative, joint = (built(config(stream, strategy)) for strategy in ('Cumulative', 'JointTraining'))
    for step in watch(cumulative):
        assert set(step['tasks'].tolist()) <= set(range(step['experience'] + 1))
    rows = [tuple(x.tolist()) for step in watch(joint) for x in step['x']]
    everything = [tuple(x.tolist()) for bucket in joint.info.train for x in bucket.inputs]
    # Each epoch shows every sample; the balanced batches draw from a bucket again when it is used up first.
    assert Counter(rows) >= Counter(everything * 2) and set(rows) == set(everything)
    assert joint.record.acc_matrix[0] == joint.record.acc_matrix[1] == joint.record.acc_matrix[2]
    assert joint.results().joint


# Quiet


def test_only_avalanches_own_noise_is_hidden(recwarn):
    with quiet_avalanche():
        warnings.warn_explicit('No loggers specified, metrics', UserWarning, '/x/avalanche/training/evaluation.py', 1)
        warnings.warn_explicit('update is deprecated', DeprecationWarning, '/x/avalanche/training/y.py', 2)
        warnings.warn_explicit('your loss is odd', UserWarning, '/x/avalanche/training/z.py', 3)
        warnings.warn_explicit('No loggers specified', UserWarning, '/x/mine/module.py', 4)
    assert [str(item.message) for item in recwarn.list] == ['your loss is odd', 'No loggers specified']
    show = warnings.showwarning
    with quiet_avalanche():
        pass
    assert warnings.showwarning is show


def test_training_is_quiet(stream, recwarn, capsys):
    for strategy in ('SynapticIntelligence', 'GDumb', 'Replay'):
        train(config(stream, strategy))
    assert [str(item.message) for item in recwarn.list] == []
    assert capsys.readouterr().out == ''


def test_torch_tensors_of_the_importances_own_their_memory(stream):
    runner = train(config(stream, 'SynapticIntelligence'))
    live = {value.data_ptr() for value in runner.model.parameters()}
    plugin = plugin_of(runner, 'RepairedSynapticIntelligencePlugin')
    kept = [*plugin.ewc_data[0].values(), *plugin.syn_data['old_theta'].values()]
    assert kept and not live & {item.data.data_ptr() for item in kept}
    assert all(isinstance(item.data, torch.Tensor) for item in kept)
