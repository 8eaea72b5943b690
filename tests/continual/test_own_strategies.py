"""Our strategies that train: any memory, the terms of their losses by hand, and what their earlier forms did."""

import pytest
import torch
from avalanche.training.storage_policy import ExemplarsBuffer
from tiny_runs import built, config, same_weights, stop_in, train, weights, write_stream

from clear.continual.sample_gradients import sum_one_by_one, sum_vectorised
from clear.continual.samples import SampleIndex
from clear.core.errors import ConfigError, Interrupted
from clear.models import build_classifier
from clear.registry import BUFFERS

HEAD = 'StackedLinearClsHead'


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def places(runner, dataset):
    """(experience, row) of each sample of a data set."""
    experience, rows = SampleIndex([item.dataset for item in runner.experiences]).locate(dataset)
    return list(zip(experience.tolist(), rows.tolist()))


def plugin(runner, name):
    return next(item for item in runner.strategy.plugins if type(item).__name__ == name)


def spy(runner, hook, look):
    """Call `look(strategy)` before a method of the strategy's, in a runner that was built."""
    strategy, inner = runner.strategy, getattr(runner.strategy, hook)

    def wrapped(*args, **kwargs):
        look(strategy)
        return inner(*args, **kwargs)

    setattr(type(strategy), hook, lambda self, *args, **kwargs: wrapped(*args, **kwargs))


def run(runner):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('clear.visualization.draw_figures', lambda *args, **kwargs: [])
        patch.setattr('clear.visualization.write_report', lambda *args, **kwargs: None)
        runner.train()
    return runner


def derpp(root, **options):
    cfg = config(root, **options)
    cfg['cl_strategy'].update(type='DERpp', mem_size=11, alpha=0.3, beta=0.7, batch_size_mem=5)
    return cfg


def gdumb(root, buffer='BiasedReservoirSamplingBuffer', reset=False, max_size=28, **options):
    cfg = config(root, 'GDumb')
    del cfg['cl_strategy']['mem_size']
    cfg['cl_strategy'].update(buffer=dict(type=buffer, max_size=max_size, **options), reset=reset)
    return cfg


def best(root, head='LinearClsHead', strategy='Naive', epochs=4, **options):
    return config(root, strategy, head=head, train_epochs=epochs, plugins=[dict(type='LoadBest', **options)])


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


# EWC


@pytest.mark.parametrize('head', ['LinearClsHead', HEAD])
def test_per_sample_fisher_is_the_mean_of_squared_gradients_by_loops(head, stream):
    runner = built(config(stream, 'EWC', head=head, fisher=None))
    run(runner)
    inputs, targets = runner.info.train[-1].inputs, runner.info.train[-1].labels
    model = runner.strategy.model.eval()
    ewc = plugin(runner, 'PerSampleEWCPlugin')
    importances = ewc.compute_importances(model, runner.strategy._criterion, runner.strategy.optimizer,
                                          runner.experiences[-1].dataset, torch.device('cpu'), 8)
    for name, parameter in model.named_parameters():
        expected = torch.zeros_like(parameter)
        for x, y in zip(inputs, targets):
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(x[None]), y[None]).backward()
            expected += parameter.grad**2 / len(inputs)
        torch.testing.assert_close(importances[name].data, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('loss, measure', [(torch.nn.CrossEntropyLoss(), torch.square),
                                           (lambda output, _: output.pow(2).sum(), torch.abs)])
def test_both_ways_to_sample_gradients_agree_and_leave_gradients_alone(loss, measure):
    model = build_classifier(dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                                  head=dict(type='LinearClsHead', num_classes=10, in_channels=120)))
    model.head.fc.bias.requires_grad_(False)
    inputs, targets = torch.randn(3, 1, 32, 32), torch.tensor([1, 5, 5])
    one = sum_vectorised(model, loss, measure, inputs, targets)
    other = sum_one_by_one(model, loss, measure, inputs, targets, torch.zeros(3, dtype=torch.int64))
    assert one.keys() == other.keys() and 'head.fc.bias' not in one
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-9)
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize('mode', ['separate', 'online'])
@pytest.mark.parametrize('fisher', ['batch', 'sample'])
def test_ewc_penalty_of_the_second_experience(fisher, mode, stream):
    """lambda * sum F (theta - theta*)^2, with F and theta* taken by hand at the end of the first experience."""
    decay = dict(decay_factor=0.5) if mode == 'online' else dict(decay_factor=None)
    runner = built(config(stream, 'EWC', fisher=fisher, mode=mode, ewc_lambda=3.0, **decay))
    kept, penalties = {}, []

    def after_first(strategy):
        if strategy.clock.train_exp_counter == 0 and strategy.clock.train_exp_epochs == 2:
            kept['anchor'] = weights(runner)
            kept['fisher'] = {name: torch.zeros_like(value) for name, value in strategy.model.named_parameters()}
            size = 1 if fisher == 'sample' else strategy.train_mb_size
            batches = torch.arange(28).split(size)
            bucket = runner.info.train[0]
            for rows in batches:
                loss = torch.nn.functional.cross_entropy(strategy.model(bucket.inputs[rows]), bucket.labels[rows])
                gradients = torch.autograd.grad(loss, list(strategy.model.parameters()))
                for value, gradient in zip(kept['fisher'].values(), gradients):
                    value += gradient**2 / len(batches)

    def before_backward(strategy):
        if strategy.clock.train_exp_counter == 1:
            plain = torch.nn.functional.cross_entropy(strategy.mb_output, strategy.mb_y)
            expected = sum((kept['fisher'][name] * (value - kept['anchor'][name])**2).sum()
                           for name, value in strategy.model.named_parameters())
            penalties.append((float((strategy.loss - plain).detach()), 3.0 * float(expected.detach())))

    spy(runner, '_after_training_exp', after_first)
    spy(runner, 'backward', before_backward)
    run(runner)
    # The first iteration begins at the anchor.
    assert penalties[0] == (0.0, 0.0) and all(expected > 0 for _, expected in penalties[1:])
    for found, expected in penalties:
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


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


# LoadBest


@pytest.mark.parametrize('metric', ['accuracy', 'loss'])
@pytest.mark.parametrize('split', ['val', 'train'])
def test_the_best_epoch_is_restored_before_importances_are_computed(metric, split, stream):
    # A learning rate that makes later epochs worse, on and off.
    cfg = best(stream, strategy='EWC', epochs=5, metric=metric, split=split, val_ratio=0.25)
    cfg['cl_strategy']['optimizer']['lr'] = 3.0
    cfg['cl_strategy']['scheduler'] = None
    runner, epochs, after = built(cfg), [], []
    loader = plugin(runner, 'LoadBest')
    inner = loader.after_training_epoch

    def after_training_epoch(strategy, **kwargs):
        state = {name: value.detach().clone() for name, value in strategy.model.state_dict().items()}
        model = strategy.model.eval()
        if split == 'val':
            held = [loader.validation[row] for row in range(len(loader.validation))]
            logits, labels = model(torch.stack([item[0] for item in held])), torch.tensor([item[1] for item in held])
            value = (float((logits.argmax(1) == labels).float().mean()) if metric == 'accuracy'
                     else -float(torch.nn.functional.cross_entropy(logits, labels).detach()))
        else:
            value = strategy.epoch_accuracy if metric == 'accuracy' else -strategy.epoch_loss
        model.train()
        epochs.append((value, state))
        inner(strategy, **kwargs)

    loader.after_training_epoch = after_training_epoch
    ewc = plugin(runner, 'EWCPlugin')
    spy(runner, '_after_training_exp', lambda strategy: after.append(weights(runner)))
    run(runner)
    assert len(epochs) == 15
    chosen = []
    for number in range(3):
        of_exp = epochs[5 * number:5 * number + 5]
        values = [value for value, _ in of_exp]
        chosen.append(values.index(max(values)))
        assert same_weights(after[number], of_exp[chosen[-1]][1])
    assert any(epoch < 4 for epoch in chosen)  # the choice mattered
    anchor = ewc.saved_params[2]
    assert all(torch.equal(anchor[name].data, value) for name, value in after[2].items())


def test_held_out_samples_are_not_trained_on(stream):
    runner, seen = built(best(stream, val_ratio=0.25)), []
    loader = plugin(runner, 'LoadBest')
    spy(runner, 'training_epoch', lambda strategy: seen.append(
        (places(runner, strategy.dataloader.datasets[0]), places(runner, loader.validation))))
    run(runner)
    for trained, held_out in seen:
        labels = [runner.info.train[experience].targets[row] for experience, row in held_out]
        targets = runner.info.train[held_out[0][0]].targets
        assert [labels.count(label) for label in range(4)] == [round(targets.count(label) / 4) for label in range(4)]
        assert len(trained) + len(held_out) == 28 and not set(trained) & set(held_out)
        assert {experience for experience, _ in trained + held_out} == {held_out[0][0]}
    assert seen[0][1] == seen[3][1] and [row for _, row in seen[0][1]] != [row for _, row in seen[4][1]]


def test_legacy_reads_the_accuracy_of_the_epoch_before_and_restores_last(stream):
    cfg = best(stream, strategy='EWC', epochs=5, legacy=True)
    cfg['cl_strategy']['optimizer']['lr'] = 3.0
    cfg['cl_strategy']['scheduler'] = None
    runner, epochs = built(cfg), []
    spy(runner, '_after_training_epoch', lambda strategy: epochs.append([weights(runner), None]))
    inner = runner._measure

    def measure(experience):
        values = [value for _, value in epochs[5 * experience:]]
        judged = [None, *values[:-1]]  # the weights of epoch e by the accuracy of epoch e - 1
        pick = judged.index(max(judged[1:]))
        assert same_weights(weights(runner), epochs[5 * experience + pick][0])
        anchor = plugin(runner, 'EWCPlugin').saved_params[experience]
        assert all(torch.equal(anchor[name].data, value) for name, value in epochs[-1][0].items())
        return inner(experience)

    loader = plugin(runner, 'LoadBest')
    offered = loader.after_training_epoch

    def after_training_epoch(strategy, **kwargs):
        epochs[-1][1] = strategy.epoch_accuracy
        offered(strategy, **kwargs)

    loader.after_training_epoch = after_training_epoch
    runner._measure = measure
    run(runner)
    assert len(epochs) == 15


def test_nothing_can_be_held_out_of_a_memory(stream):
    cfg = config(stream, 'GDumb', plugins=[dict(type='LoadBest')])
    with pytest.raises(ConfigError, match="GDumb trains on data of its own.*Use split='train'"):
        built(cfg).train()


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
