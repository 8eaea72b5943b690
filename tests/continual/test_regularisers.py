"""What each regulariser adds to the loss in the second experience, against values computed by hand."""

import copy

import numpy as np
import pytest
import torch
from toy_streams import built, domain_stream, model, plugin_of, tensors_of, train, watched

from clear.core.errors import ConfigError


def parameters(net):
    return {name: value.detach().double().numpy().copy() for name, value in net.named_parameters()}


def check(seen, expected, tolerance=1e-4):
    """No penalty in the first experience; in the second it is positive somewhere and equal to `expected(step)`."""
    assert all(step['penalty'] == 0 for step in seen if step['experience'] == 0)
    second = [step for step in seen if step['experience'] == 1]
    assert second and max(step['penalty'] for step in second) > 1e-6
    for step in second:
        assert step['penalty'] == pytest.approx(expected(step), rel=tolerance, abs=1e-7)


def squared_norm_sensitivity(net, x, *, of_the_mean):
    """Of a single layer, by loops: |mean_n g_n| or mean_n |g_n|, where g_n is the gradient of |W x_n + b|^2."""
    weight, bias = (value.detach().double().numpy() for value in net.head.fc.parameters())
    slope_w, slope_b = np.zeros_like(weight), np.zeros_like(bias)
    for row in x.double().numpy():
        output = weight @ row + bias
        slopes = 2 * np.outer(output, row) / len(x), 2 * output / len(x)
        slope_w, slope_b = (total + (part if of_the_mean else abs(part)) for total, part in
                            zip((slope_w, slope_b), slopes))
    return abs(slope_w), abs(slope_b)


@pytest.mark.parametrize('options', [dict(), dict(importance='sample'), dict(importance='batch')])
def test_mas_penalty_is_lambda_times_sensitivity_times_squared_distance(options):
    stream, of_the_mean = domain_stream(2), options.get('importance') == 'batch'
    strategy = built('MAS', dict(lambda_reg=3.0, **options), model('linear'))
    kept = {}
    strategy.on_epoch = lambda running: kept.update(net=copy.deepcopy(running.model)) if (
        running.clock.train_exp_counter == 0) else None
    seen = watched(strategy, stream.train_stream)
    anchor = kept['net']
    x, _ = tensors_of(list(stream.train_stream)[0])
    batches = [squared_norm_sensitivity(anchor, part, of_the_mean=of_the_mean) for part in x.split(8)]
    importance = [sum(parts) / len(batches) for parts in zip(*batches)]

    def expected(step):
        distances = zip(importance, parameters(anchor).values(), parameters(step['net']).values())
        return 3.0 * sum((omega * (now - old) ** 2).sum() for omega, old, now in distances)

    check(seen, expected)


def test_mas_goes_on_where_the_loss_is_exactly_zero():
    strategy = built('MAS', dict(lambda_reg=3.0), model('linear'))
    first, second = domain_stream(2).train_stream
    strategy.train(first, eval_streams=[], num_workers=0)
    strategy.criterion = lambda: (strategy.mb_output * 0).sum()  # what is learned says nothing: only the penalty acts
    strategy.optimizer.state.clear()  # no momentum from the first experience
    before = {name: value.copy() for name, value in parameters(strategy.model).items()}
    strategy.train(second, eval_streams=[], num_workers=0)
    for name, value in parameters(strategy.model).items():
        np.testing.assert_array_equal(value, before[name])  # no distance, no penalty, no gradient


def features_by_hand(net, x):
    """ReLU(W x + b), the hidden layer of the head."""
    weight, bias = (value.detach().double().numpy() for value in net.head.layers[0].fc.parameters())
    return np.maximum(x.double().numpy() @ weight.T + bias, 0)


def first_teacher(strategy):
    """The model at the end of the first experience, filled in while it trains."""
    kept = {}
    strategy.on_epoch = lambda running: kept.update(net=copy.deepcopy(running.model)) if (
        running.clock.train_exp_counter == 0) else None
    return kept


def test_lfl_penalty_is_the_squared_distance_of_features():
    strategy = built('LFL', dict(lambda_e=2.0))
    kept = first_teacher(strategy)
    seen = watched(strategy, domain_stream(2).train_stream)
    check(seen, lambda step: 2.0 * np.mean(
        (features_by_hand(step['net'], step['x']) - features_by_hand(kept['net'], step['x'])) ** 2))


@pytest.mark.parametrize('mode', ['mse', 'cosine'])
def test_feature_distillation_is_the_distance_of_features(mode):
    plugin = dict(type='FeatureDistillationPlugin', alpha=2.0, mode=mode)
    strategy = built('Naive', dict(plugins=[plugin]))
    kept = first_teacher(strategy)
    seen = watched(strategy, domain_stream(2).train_stream)

    def expected(step):
        new, old = features_by_hand(step['net'], step['x']), features_by_hand(kept['net'], step['x'])
        if mode == 'mse':
            return 2.0 * np.mean((new - old) ** 2)
        cosines = [a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-8) for a, b in zip(new, old)]
        return 2.0 * (1 - np.mean(cosines))

    check(seen, expected, tolerance=1e-3)


def test_rwalk_penalty_is_the_weighted_squared_distance():
    strategy = built('Naive', dict(plugins=[dict(type='RWalkPlugin', ewc_lambda=2.0, ewc_alpha=0.5, delta_t=2)]))
    kept, slopes, path = first_teacher(strategy), [], []

    def note(running):
        if running.clock.train_exp_counter == 0:
            slopes.append({name: value.data.clone() for name, value in plugin.iter_grad.items()})
            path.append({name: value.detach().clone() for name, value in running.model.named_parameters()})

    plugin = plugin_of(strategy, 'RWalkPlugin')
    start = {name: value.detach().clone() for name, value in strategy.model.named_parameters()}
    after = strategy._after_training_iteration
    strategy._after_training_iteration = lambda **kwargs: (after(**kwargs), note(strategy))
    seen = watched(strategy, domain_stream(2).train_stream)
    penalties = rwalk_by_loops(start, slopes, path, alpha=0.5, delta_t=2)

    def expected(step):
        now, old = dict(step['net'].named_parameters()), dict(kept['net'].named_parameters())
        return 2.0 * sum((penalties[name] * (now[name] - old[name]).detach() ** 2).sum().item() for name in penalties)

    check(seen, expected, tolerance=2e-3)


def rwalk_by_loops(start, slopes, path, *, alpha, delta_t):
    """Importance and path score of every parameter after an experience: Chaudhry et al. 2018, equations 7 to 10."""
    tiny = torch.finfo(torch.float32).eps
    importance, scores = {}, {name: torch.zeros_like(value) for name, value in start.items()}
    fisher, drop = None, {name: torch.zeros_like(value) for name, value in start.items()}
    at_checkpoint, position = dict(start), dict(start)
    for step, (slope, weights) in enumerate(zip(slopes, path)):
        square = {name: value ** 2 for name, value in slope.items()}
        fisher = square if fisher is None else {name: alpha * square[name] + (1 - alpha) * fisher[name]
                                                for name in square}
        for name in start:
            drop[name] = drop[name] - slope[name] * (weights[name] - position[name])
        position = weights
        if (step + 1) % delta_t == 0:
            for name in start:
                moved = (weights[name] - at_checkpoint[name]) ** 2
                scores[name] = scores[name] + drop[name] / (0.5 * fisher[name] * moved + tiny)
            drop, at_checkpoint = {name: torch.zeros_like(value) for name, value in start.items()}, weights
    top = max(value.max() for value in fisher.values())
    best = max(value.clamp(min=0).max() for value in scores.values())
    for name in start:
        importance[name] = fisher[name] / top + scores[name].clamp(min=0) / best
    return importance


@pytest.mark.parametrize('legacy', [False, True])
def test_rwalk_is_finite_where_an_experience_is_shorter_than_its_interval(legacy):
    options = dict(plugins=[dict(type='RWalkPlugin', delta_t=1000, legacy=legacy)])
    strategy = built('Naive', options)
    train(strategy, list(domain_stream(1).train_stream))
    penalties = plugin_of(strategy, 'RWalkPlugin').exp_penalties
    finite = all(torch.isfinite(value.data).all() for value in penalties.values())
    assert finite != legacy
    assert legacy or max(value.data.max() for value in penalties.values()) == 1


@pytest.mark.parametrize('kind, options, legacy', [
    ('LFL', dict(lambda_e=1.0), False), ('LFL', dict(lambda_e=1.0, legacy=True), True),
    ('Naive', dict(plugins=[dict(type='RWalkPlugin')]), False),
    ('Naive', dict(plugins=[dict(type='RWalkPlugin', legacy=True)]), True)])
def test_penalties_leave_the_model_in_train_mode(kind, options, legacy):
    strategy = built(kind, options, model('noisy'))
    modes = []
    stream = domain_stream(2 if kind == 'LFL' else 1).train_stream
    train(strategy, stream, lambda running: modes.append(running.model.training))
    assert all(modes) != legacy


def test_distilled_teachers_do_not_move():
    strategy = built('Naive', dict(plugins=[dict(type='FeatureDistillationPlugin')]), model('noisy'))
    experiences = list(domain_stream(2).train_stream)
    train(strategy, experiences[:1])
    teacher = plugin_of(strategy, 'FeatureDistillationPlugin').prev_model
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    train(strategy, experiences[1:2], lambda running: check_same(teacher.state_dict(), before))


def check_same(state, before):
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_features_that_cannot_change_are_refused():
    with pytest.raises(ConfigError, match='FeatureDistillationPlugin .* nothing before the last layer is trained'):
        built('Naive', dict(plugins=[dict(type='FeatureDistillationPlugin')]), model('linear'))
