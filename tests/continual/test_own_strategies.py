"""Our strategies that train: any memory, the terms of their losses by hand, and what their earlier forms did."""

import pytest
import torch
from avalanche.training.storage_policy import ExemplarsBuffer
from own_strategies import HEAD, best, derpp, gdumb, places, plugin, run, spy
from tiny_runs import built, config, same_weights, stop_in, train, weights, write_stream

from clear.core.errors import ConfigError, Interrupted
from clear.registry import BUFFERS


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


# Memories


@pytest.mark.parametrize('policy', [
    dict(type='ReservoirSamplingBuffer', max_size=11), dict(type='ClassBalancedBuffer', max_size=11),
    dict(type='BiasedReservoirSamplingBuffer', max_size=11, alpha_mode='Dynamic', alpha_value=0.2)],
    ids=lambda policy: policy['type'])
def test_replay_trains_on_what_its_memory_holds(policy, stream):
    cfg = config(stream, 'Replay', storage_policy=policy)
    del cfg['cl_strategy']['mem_size']
    runner, seen = built(cfg), {}

    def look(strategy):
        if strategy.clock.train_exp_counter == 2:
            seen.setdefault(2, [places(runner, dataset) for dataset in strategy.dataloader.datasets])

    spy(runner, 'training_epoch', look)
    run(runner)
    memory = [place for group in seen[2][1:] for place in group]
    assert len(memory) == 11 and {experience for experience, _ in memory} == {0, 1}
    kept = places(runner, plugin(runner, 'ReplayPlugin').storage_policy.buffer)
    assert len(kept) == 11 and {0, 2} <= {experience for experience, _ in kept}


def test_replay_without_a_policy_is_avalanches(stream):
    memory = plugin(built(config(stream, 'Replay')), 'ReplayPlugin').storage_policy
    assert type(memory).__name__ == 'ExperienceBalancedBuffer' and memory.max_size == 11


@pytest.mark.parametrize('legacy', [False, True])
def test_biased_memory_of_one_bucket_with_alpha_one_is_fine_tuning(legacy, stream):
    """K = 28 samples = one bucket: training on the memory is training on the current bucket, in another order."""
    runner, seen = built(gdumb(stream, alpha_mode='Dynamic', alpha_value=1.0, legacy=legacy)), []
    spy(runner, 'training_epoch', lambda strategy: seen.append(
        (strategy.clock.train_exp_counter, sorted(places(runner, strategy.adapted_dataset)))))
    run(runner)
    assert seen[::2] == [(number, [(number, row) for row in range(28)]) for number in range(3)]
    full_batches = dict(train_mb_size=28, train_epochs=3)
    one, other = gdumb(stream, alpha_mode='Dynamic', alpha_value=1.0, legacy=legacy), config(stream, 'Naive')
    for cfg in (one, other):
        cfg['cl_strategy'].update(full_batches)
    tuned, naive = weights(train(one)), weights(train(other))
    for name, value in naive.items():
        torch.testing.assert_close(tuned[name], value)  # order changes the rounding only


@pytest.mark.parametrize('reset', [False, True])
def test_gdumb_begins_anew_or_goes_on(reset, stream):
    runner, starts = built(gdumb(stream, 'ReservoirSamplingBuffer', reset=reset, max_size=11)), []
    first = weights(runner)
    spy(runner, '_before_training_epoch', lambda strategy: starts.append(
        {name: value.detach().clone() for name, value in strategy.model.state_dict().items()}))
    run(runner)
    assert same_weights(starts[2], first) == reset  # two epochs per experience
    assert len(plugin(runner, 'GDumbPlugin' if reset else 'KeepWeightsPlugin').storage_policy.buffer) == 11


@pytest.mark.parametrize('cfg, expected', [
    (dict(type='GDumb', mem_size=3), r'buffer .* holds 3 samples .*there are 4 classes'),
    (dict(type='GDumb', mem_size=9, buffer=dict(type='ReservoirSamplingBuffer', max_size=8)),
     r'mem_size is 9, but buffer \(ReservoirSamplingBuffer\) has max_size=8'),
    (dict(type='Replay', storage_policy=dict(type='ClassBalancedBuffer', max_size=2)), 'holds 2 samples'),
    (dict(type='Replay', storage_policy=dict(type='ReservoirSamplingBuffer', max_size=0)), 'max_size is 0'),
    (dict(type='DERpp', alpha=-1.0), 'alpha is -1.0; expected a number of at least 0'),
    (dict(type='EWC', ewc_lambda=1.0, fisher='samples'), "fisher is 'samples'; expected 'sample' or 'batch'"),
    (dict(type='AGEM', patterns_per_exp=5, legacy=True), 'legacy is about the reservoir'),
    (dict(type='Naive', plugins=[dict(type='LoadBest', metric='acc')]), "metric is 'acc'; expected 'accuracy' or"),
    (dict(type='Naive', plugins=[dict(type='LoadBest', val_ratio=1.0)]), 'val_ratio is 1.0; .* above 0, below 1')])
def test_settings_that_cannot_work_are_refused(cfg, expected, stream):
    settings = config(stream)
    settings['cl_strategy'].update(cfg)
    with pytest.raises(ConfigError, match=expected):
        built(settings)


# A-GEM


def agem_memories(root, **options):
    """The samples of the reference memory during each experience after the first."""
    cfg = config(root, 'AGEM', reservoir=True, **options)
    cfg['cl_strategy'].update(patterns_per_exp=9, sample_size=6)
    runner, seen = built(cfg), {}
    agem = plugin(runner, 'AGEMPlugin')
    spy(runner, 'training_epoch', lambda strategy: seen.update(
        {strategy.clock.train_exp_counter: [places(runner, dataset) for dataset in agem.buffers]}))
    run(runner)
    return seen


def test_agem_with_a_reservoir_remembers_the_first_bucket(stream):
    seen = agem_memories(stream)
    assert seen[0] == [] and [len(group) for group in seen[1] + seen[2]] == [9, 9]
    assert {experience for experience, _ in seen[1][0]} == {0}
    assert {experience for experience, _ in seen[2][0]} == {0, 1}


def test_legacy_agem_forgets_the_first_bucket(stream):
    seen = agem_memories(stream, legacy=True)
    assert [len(seen[1][0]), len(seen[2][0])] == [9, 6]
    assert {experience for experience, _ in seen[1][0]} == {0}
    assert {experience for experience, _ in seen[2][0]} == {1}


def test_agem_projects_onto_the_reference_gradient_of_the_reservoir(stream):
    runner = built(config(stream, 'AGEM', reservoir=True))
    agem, angles = plugin(runner, 'AGEMPlugin'), []

    def look(strategy):
        if len(agem.buffers):
            gradient = torch.cat([value.grad.reshape(-1) for value in strategy.model.parameters()])
            angles.append(float(gradient @ agem.reference_gradients))

    spy(runner, '_before_update', look)
    run(runner)
    assert len(angles) == 2 * 2 * 4 and min(angles) > -1e-4


# DER++


def test_derpp_terms_by_hand(stream):
    runner = built(derpp(stream))
    strategy, checked = runner.strategy, []
    teacher = {}

    def after_exp(strategy):
        if strategy.clock.train_exp_counter == 0:
            teacher.update(weights(runner))

    inner = strategy.memory_loss

    def memory_loss(logit_batch, label_batch):
        found = inner(logit_batch, label_batch)
        if strategy.clock.train_exp_counter == 1:
            x, _, tasks, logits = logit_batch
            old = x @ teacher['head.fc.weight'].T + teacher['head.fc.bias']
            torch.testing.assert_close(logits, old)  # what the model said when the first experience ended
            fc = strategy.model.head.fc
            distillation = 0.3 * ((x @ fc.weight.T + fc.bias - old)**2).mean()
            x, y, *_ = label_batch
            picked = (x @ fc.weight.T + fc.bias).log_softmax(1)[range(len(y)), y]
            torch.testing.assert_close(found, distillation + 0.7 * -picked.mean())
            checked.append((float(distillation.detach()), len(x), set(tasks.tolist())))
        return found

    strategy.memory_loss = memory_loss
    losses = []
    spy(runner, '_after_training_exp', after_exp)
    spy(runner, 'backward', lambda strategy: losses.append(
        float((strategy.loss - torch.nn.functional.cross_entropy(strategy.mb_output, strategy.mb_y)).detach())))
    run(runner)
    assert len(checked) == 8 and checked[0][0] == pytest.approx(0, abs=1e-9)
    assert all(value > 0 and size == 5 and tasks == {0} for value, size, tasks in checked[1:])
    assert losses[:8] == pytest.approx([0.0] * 8, abs=1e-6) and all(loss > 1e-3 for loss in losses[8:])


def test_derpp_memory_keeps_logits_beside_their_samples(stream):
    runner = run(built(derpp(stream)))
    memory = runner.strategy.memory.buffer
    assert len(memory) == 11 and len({experience for experience, _ in places(runner, memory)}) > 1
    row = next(row for row, (experience, _) in enumerate(places(runner, memory)) if experience == 2)
    inputs, _, _, logits = memory[row]
    torch.testing.assert_close(logits, runner.model.eval()(inputs[None])[0].detach())


# Resume


def resumable(root):
    cumulative = best(root, head=HEAD, strategy='Cumulative')
    return {
        'DERpp': derpp(root, head=HEAD), 'GDumb': gdumb(root, max_size=11, alpha_value=2.0),
        'Replay': config(root, 'Replay', head=HEAD, storage_policy=dict(type='ReservoirSamplingBuffer', max_size=11)),
        'AGEM': config(root, 'AGEM', head=HEAD, reservoir=True),
        'EWC': config(root, 'EWC', head=HEAD, fisher='sample'), 'LoadBest': cumulative,
        'LoadBest-legacy': best(root, head=HEAD, legacy=True)}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['DERpp', 'GDumb', 'Replay', 'AGEM', 'EWC', 'LoadBest', 'LoadBest-legacy'])
def test_a_resumed_run_equals_an_uninterrupted_one(name, stream, tmp_path):
    cfg = resumable(stream)[name]
    whole = train(cfg)
    for experience in (1, 2):
        runner = built(cfg, tmp_path)
        stop_in(runner, experience)
        with pytest.raises(Interrupted):
            runner.train(experience > 1)
        torch.manual_seed(77)
    parts = train(cfg, tmp_path, resume=True)
    assert same_weights(weights(whole), weights(parts)) and whole.record.acc_matrix == parts.record.acc_matrix


# A memory of the user's


class NewestBuffer(ExemplarsBuffer):
    """The newest samples, whatever they are; and how often it was asked."""

    def __init__(self, max_size):
        super().__init__(max_size)
        self.history = Counter()

    def post_adapt(self, agent, exp):
        size = min(len(exp.dataset), self.max_size)
        self.buffer = exp.dataset.subset(list(range(len(exp.dataset) - size, len(exp.dataset))))
        self.history.count += 1

    def resize(self, strategy, new_size):
        self.max_size = new_size


class Counter:
    """A part of it that derives from nothing."""

    def __init__(self):
        self.count = 0


def test_a_memory_and_its_parts_of_the_user_are_saved(stream, tmp_path, monkeypatch):
    for cls in (NewestBuffer, Counter):
        monkeypatch.setitem(BUFFERS.module_dict, cls.__name__, cls)
    cfg = config(stream, 'Replay', storage_policy=dict(type='NewestBuffer', max_size=9))
    cfg['cl_strategy'].pop('mem_size', None)
    whole = train(cfg, tmp_path / 'whole')
    stopped = built(cfg, tmp_path / 'run')
    stop_in(stopped, 1)
    with pytest.raises(Interrupted):
        run(stopped)
    resumed = train(cfg, tmp_path / 'run', resume=True)
    assert same_weights(weights(whole), weights(resumed))
    memories = [plugin(runner, 'ReplayPlugin').storage_policy for runner in (whole, resumed)]
    assert memories[0].history.count == memories[1].history.count > 1
    assert places(whole, memories[0].buffer) == places(resumed, memories[1].buffer)
