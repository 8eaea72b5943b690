"""What was wrong in Avalanche 0.6's strategies and is not any more, one test for each defect."""

import copy
import importlib.util
import math

import numpy as np
import pytest
import torch
from avalanche.training import AMLCriterion as AvalancheAMLCriterion
from avalanche.training.plugins import CWRStarPlugin as AvalancheCWRStarPlugin
from avalanche.training.supervised import Naive
from toy_streams import (
    CLASS_INCREMENTAL,
    DOMAIN,
    MEMORY,
    built,
    class_stream,
    domain_stream,
    labelled_stream,
    model,
    plugin_of,
    tensors_of,
    train,
)

from clear.continual.repairs.architectural.networks import Autoencoder
from clear.continual.repairs.losses import AMLCriterion
from clear.continual.repairs.rehearsal.class_incremental import BiasCorrection, ScoreRectification
from clear.continual.repairs.rehearsal.feature_replay import FeatureMemory
from clear.continual.repairs.split_model import SeenNCM, split
from clear.continual.strategies import quiet_avalanche
from clear.core.errors import ConfigError, TrainingError


def test_the_features_and_the_last_layer_are_the_model():
    net, x = model(), torch.randn(5, 8)
    names, logits = list(net.state_dict()), net(x)
    same = split(net, 'test')
    assert same is net and list(net.state_dict()) == names
    assert torch.equal(net(x), logits) and torch.equal(net.train_classifier(net.feature_extractor(x)), logits)
    teacher = copy.deepcopy(net)  # of a model that has features with a graph
    assert teacher.features is None and torch.equal(teacher(x), logits)


# Memories


def test_gem_looks_for_its_solver_first(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'quadprog' else find(name))
    with pytest.raises(ConfigError, match="GEM needs quadprog.*pip install 'qpsolvers' 'quadprog'"):
        built('GEM', DOMAIN['GEM'])


def test_gss_adds_nothing_to_the_gradient_of_the_batch():
    strategy = built('GSS_greedy', dict(mem_size=10))
    after, slopes = strategy._after_backward, []

    def note(**kwargs):
        expected = torch.autograd.grad(strategy._criterion(strategy.model(strategy.mb_x), strategy.mb_y),
                                       list(strategy.model.parameters()))
        slopes.extend(torch.allclose(one, parameter.grad, atol=1e-6)
                      for one, parameter in zip(expected, strategy.model.parameters()))
        after(**kwargs)

    strategy._after_backward = note
    stream = domain_stream(2)
    train(strategy, stream.train_stream)
    assert slopes and all(slopes)
    plugin = plugin_of(strategy, 'GSS_greedyPlugin')
    seen = {tuple(row.tolist()) for experience in stream.train_stream for row in tensors_of(experience)[0]}
    assert plugin.ext_mem_list_current_index == 10
    assert {tuple(row.tolist()) for row in plugin.ext_mem_list_x} <= seen


def test_legacy_gss_still_fails_on_a_small_memory():
    strategy = built('GSS_greedy', dict(mem_size=4, input_size=[8], legacy=True))
    with pytest.raises(ValueError, match='max'):
        train(strategy, domain_stream(1).train_stream)


@pytest.mark.parametrize('batch', [3, 8, 10, 24])
@pytest.mark.parametrize('stream', [domain_stream, class_stream])
def test_mir_replays_in_every_iteration_after_the_first_bucket(stream, batch):
    """Whatever classes the last batch of a bucket held."""
    strategy = built('MIR', dict(mem_size=12, batch_size_mem=4, subsample=6, train_mb_size=batch))
    plugin, replayed = plugin_of(strategy, 'MIRPlugin'), []
    before_backward = plugin.before_backward

    def note(running, **kwargs):
        plain = running.loss.detach().clone()
        before_backward(running, **kwargs)
        replayed.append((running.clock.train_exp_counter, running.loss.item() > plain.item()))

    plugin.before_backward = note
    train(strategy, stream(2).train_stream)
    assert set(replayed) == {(0, False), (1, True)}


def test_mir_refuses_a_loss_of_which_it_cannot_have_each_sample_s():
    strategy = built('MIR', dict(mem_size=12, batch_size_mem=4, subsample=6))
    strategy._criterion = lambda logits, targets: torch.nn.functional.cross_entropy(logits, targets)
    before = copy.deepcopy(strategy.model.state_dict())
    with pytest.raises(ConfigError, match='MIR ranks memories by the loss of each'):
        train(strategy, domain_stream(2).train_stream)
    assert all(torch.equal(value, before[name]) for name, value in strategy.model.state_dict().items())


def test_replay_of_every_experience_needs_a_place_for_each_and_says_so_before_training():
    options = dict(mem_size=12, task_balanced_dataloader=True)
    strategy = built('Replay', dict(options, batch_size_mem=2), model(num_classes=8))
    before = copy.deepcopy(strategy.model.state_dict())
    with pytest.raises(ConfigError, match='a memory sample of each of 3 earlier experiences.*batch_size_mem is 2'):
        train(strategy, labelled_stream(4).train_stream)
    assert all(torch.equal(value, before[name]) for name, value in strategy.model.state_dict().items())
    train(built('Replay', dict(options, batch_size_mem=3), model(num_classes=8)), labelled_stream(4).train_stream)


@pytest.mark.parametrize('batch_size_mem, subsample', [(3, 7), (4, 99), (9, 5)])
def test_mir_replays_the_candidates_whose_loss_grows_most(batch_size_mem, subsample):
    strategy = built('MIR', dict(mem_size=12, batch_size_mem=batch_size_mem, subsample=subsample,
                                 optimizer=dict(type='SGD', lr=0.2)))
    plugin, pairs = plugin_of(strategy, 'MIRPlugin'), []
    before_backward = plugin.before_backward

    def note(running, **kwargs):
        if plugin.replay_loader is None:
            return
        loader = plugin.replay_loader
        candidates = next(loader)
        plugin.replay_loader = type('Once', (), dict(loader=loader.loader, __next__=lambda _: candidates))()
        after = copy.deepcopy(running.model)
        loss = torch.nn.functional.cross_entropy(after(running.mb_x), running.mb_y)
        slopes = torch.autograd.grad(loss, list(after.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(after.parameters(), slopes):
                parameter -= 0.2 * slope
            x, y, _ = candidates
            each = torch.nn.functional.cross_entropy(running.model(x), y, reduction='none')
            growth = torch.nn.functional.cross_entropy(after(x), y, reduction='none') - each
        chosen = sorted(range(len(y)), key=lambda row: -growth[row].item())[:batch_size_mem]
        plain = running.loss.item()
        before_backward(running, **kwargs)
        plugin.replay_loader = loader
        pairs.append((running.loss.item() - plain, each[chosen].mean().item()))

    plugin.before_backward = note
    train(strategy, domain_stream(2).train_stream)
    assert pairs and all(added == pytest.approx(expected, rel=1e-4, abs=1e-6) for added, expected in pairs)


def test_legacy_mir_leaves_the_classes_of_the_last_batch_out():
    strategy = built('MIR', dict(mem_size=12, batch_size_mem=2, subsample=6, train_mb_size=22, legacy=True))
    stream = domain_stream(2).train_stream
    plugin, last = plugin_of(strategy, 'MIRPlugin'), []
    train(strategy, list(stream)[:1], lambda running: last.append(set(running.mb_y.tolist())))
    last = last[-1]  # of the 2 samples that are left of 24
    assert {int(row[1]) for row in plugin.replay_loader.loader.datasets[0]} == {0, 1, 2, 3} - last


def test_rar_moves_a_memory_towards_the_nearest_sample_of_another_class():
    strategy = built('Naive', dict(plugins=[dict(type='RARPlugin', batch_size_mem=1, mem_size=8, opt_lr=0.0,
                                                 epsilon_fgsm=0.1, iter_fgsm=5)]))
    plugin = plugin_of(strategy, 'RARPlugin')
    net = split(strategy.model, 'test')
    x, y = torch.randn(6, 8, generator=torch.Generator().manual_seed(1)) * 3, torch.tensor([0, 1, 1, 2, 2, 3])
    strategy.mbatch = [x, y, torch.zeros(6)]
    memory, label = torch.randn(1, 8) * 3, torch.tensor([0])
    moved = plugin._perturb(strategy, memory, label)
    distances = [(net.get_features(memory) - net.get_features(row[None])).norm().item() for row in x]
    aim = min((row for row in range(6) if y[row] != 0), key=distances.__getitem__)
    variable = memory.clone().requires_grad_(True)
    slope, = torch.autograd.grad(torch.nn.functional.cross_entropy(net(variable), y[aim:aim + 1]), variable)
    inside = (memory - 0.08 * slope.sign()).clamp(memory.min().item(), memory.max().item())
    assert torch.allclose(moved, inside, atol=1e-6)


def test_legacy_rar_refuses_a_model_that_cannot_be_traced():
    strategy = built('Naive', dict(plugins=[dict(type='RARPlugin', batch_size_mem=4, mem_size=8, legacy=True)]))
    with pytest.raises(ConfigError, match='legacy=True traces the model'):
        train(strategy, domain_stream(1).train_stream)


def test_legacy_er_aml_refuses_to_wait_for_ever():
    strategy = built('ER_AML', dict(**MEMORY, legacy=True))
    with pytest.raises(ConfigError, match=r'train_mb_size \(8\) memories of every class; one has 2'):
        train(strategy, domain_stream(2).train_stream)


def test_rar_trains_on_whole_batches_of_new_samples():
    plugin = dict(type='RARPlugin', batch_size_mem=3, mem_size=8, opt_lr=0.0)
    strategy, sizes = built('Naive', dict(plugins=[plugin])), set()
    train(strategy, domain_stream(2).train_stream, lambda running: sizes.add(
        (running.clock.train_exp_counter, tuple(torch.bincount(running.mb_task_id, minlength=2).tolist()))))
    assert sizes == {(0, (8, 0)), (1, (3, 8)), (1, (2, 8))}  # 8 memories in batches of 3, 3 and 2


def test_metric_learning_loss_of_er_aml_is_that_of_loops():
    torch.manual_seed(0)
    x, y, tasks = torch.randn(3, 4), torch.tensor([0, 1, 0]), torch.zeros(3)
    pool = torch.randn(8, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), torch.zeros(8)
    output, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    criterion = AMLCriterion(lambda inputs: inputs, temp=0.3, base_temp=0.07)
    torch.manual_seed(1)
    found = criterion(x, y, tasks, output, labels, pool).item()
    torch.manual_seed(1)  # the positive and the negative of each new sample are drawn
    same = y[None] == pool[1][:, None]
    chosen = [torch.multinomial(columns.float().T, 1).squeeze(1) for columns in (same, ~same)]
    rows = [int(row) for part in chosen for row in part]

    def unit(row):
        return (row / (row.norm() + 1e-5)).tolist()

    others = [(unit(pool[0][row]), int(pool[1][row])) for row in rows]
    losses = []
    for anchor, label in zip(map(unit, x), y.tolist()):
        scores = [sum(a * b for a, b in zip(anchor, other)) / 0.3 for other, _ in others]
        total = sum(math.exp(score) for score in scores)
        positive = [math.log(math.exp(score) / total) for score, (_, of) in zip(scores, others) if of == label]
        losses.append(-0.3 / 0.07 * sum(positive) / len(positive))
    expected = sum(losses) / 3 + torch.nn.functional.cross_entropy(output, labels).item()
    assert found == pytest.approx(expected, rel=1e-4)
    torch.manual_seed(1)
    stock = AvalancheAMLCriterion(lambda inputs: inputs, temp=0.3, base_temp=0.07)
    assert stock(x, y, tasks, output, labels, pool).item() != pytest.approx(expected, rel=0.01)


def test_feature_memory_is_balanced_and_uniform():
    torch.manual_seed(0)
    counts = np.zeros(40)
    for _ in range(300):
        memory = FeatureMemory(10)
        rows = torch.arange(40.0)[:, None]
        for part in range(2):
            memory.add(rows[20 * part:20 * part + 20], torch.arange(20) % 2)
        assert {label: len(keys) for label, keys in memory.keys.items()} == {0: 5, 1: 5}
        drawn, labels = memory.draw(99)
        assert len(drawn) == 10 and ((drawn[:, 0].long() % 2) == labels).all()
        counts[drawn[:, 0].long().numpy()] += 1
    # 75 of 300 expected for each of the 40, with a deviation of 7.5.
    assert counts.min() > 75 - 5 * 7.5 and counts.max() < 75 + 5 * 7.5


@pytest.mark.parametrize('legacy, sizes', [(False, {0: 2, 1: 4, 2: 4}), (True, {0: 2, 1: 3, 2: 3})])
def test_feature_memory_gives_places_of_a_rare_class_to_the_others(legacy, sizes):
    memory = FeatureMemory(10, legacy=legacy)
    memory.add(torch.randn(22, 3), torch.tensor([0] * 2 + [1] * 20))
    memory.add(torch.randn(20, 3), torch.tensor([2] * 20))
    assert {label: len(keys) for label, keys in memory.keys.items()} == sizes


def test_feature_replay_refuses_a_memory_smaller_than_the_classes():
    strategy = built('FeatureReplay', dict(mem_size=3, batch_size_mem=2))
    with pytest.raises(ConfigError, match=r'mem_size \(3\) is smaller than the number of classes \(4\)'):
        train(strategy, domain_stream(1).train_stream)


# Classes


def test_nearest_mean_never_answers_with_a_class_it_has_not_seen():
    means = {1: torch.tensor([1.0, 0.0]), 3: torch.tensor([-1.0, 0.0])}
    query = torch.tensor([[0.1, 1.0], [-0.1, 1.0]])  # more than 60 degrees from both: the zero vector is nearer
    for legacy in (False, True):
        classifier = SeenNCM(legacy=legacy)
        classifier.replace_class_means_dict(means)
        assert classifier(query).argmax(1).tolist() == ([0, 0] if legacy else [1, 3])
    with pytest.raises(TrainingError, match='mean of class 2 is NaN'):
        SeenNCM().replace_class_means_dict({2: torch.tensor([float('nan'), 0.0])})
    assert not torch.isnan(classifier(torch.zeros(1, 2))).all() or classifier.legacy


def test_icarl_saves_its_means_in_the_state_dict():
    stream = class_stream()
    strategy = built('ICaRL', CLASS_INCREMENTAL['ICaRL'])
    train(strategy, stream.train_stream)
    other = built('ICaRL', CLASS_INCREMENTAL['ICaRL'], seed=2)
    other.model.load_state_dict(strategy.model.state_dict())
    x, _ = tensors_of(next(iter(stream.test_stream)))
    assert torch.equal(other.model.eval()(x), strategy.model.eval()(x))


def test_bias_correction_is_linear_on_the_new_classes():
    layer, logits = BiasCorrection(4), torch.randn(3, 4)
    layer.restart([1, 3])
    layer.alpha.data.fill_(2.0)
    layer.beta.data.fill_(0.5)
    expected = [[value * 2 + 0.5 if column in (1, 3) else value for column, value in enumerate(row)]
                for row in logits.tolist()]
    assert torch.allclose(layer(logits), torch.tensor(expected)) and layer.clss.tolist() == [1, 3]


def test_bic_corrects_evaluation_only_and_leaves_the_experience_whole():
    stream = class_stream()
    strategy = built('BiC', dict(mem_size=40, stage_2_epochs=20, val_percentage=0.2, lr=0.05))
    train(strategy, stream.train_stream)
    net = strategy.model
    assert [len(experience.dataset) for experience in stream.train_stream] == [24, 24]
    assert net.output_correction.clss.tolist() == [2, 3] and net.output_correction.alpha.item() != 1
    x, _ = tensors_of(list(stream.test_stream)[1])
    raw, corrected = net.train()(x), net.eval()(x)
    assert torch.equal(raw[:, :2], corrected[:, :2]) and not torch.allclose(raw[:, 2:], corrected[:, 2:])
    teacher = plugin_of(strategy, 'BiCPlugin').model_old
    assert torch.equal(teacher(x), raw), 'the teacher gives outputs that are not corrected'


class Bare(torch.nn.Module):
    """A classifier that shows nothing but its logits."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize('kind', [
    'BiC', 'IL2M', 'ICaRL', 'SCR', 'CoPE', 'LFL', 'ER_AML', 'FeatureReplay', 'CWRStar', 'AR1', 'PackNet',
    'PNNStrategy', 'ExpertGateStrategy', 'LearningToPrompt', 'StreamingLDA'])
def test_a_bare_module_works_or_is_refused_by_name(kind):
    options = {**DOMAIN, **CLASS_INCREMENTAL}[kind]
    try:
        built(kind, options, Bare())
    except ConfigError as error:
        assert 'Bare' in str(error) or 'head' in str(error)


@pytest.mark.parametrize('kind', ['BiCPlugin', 'CoPEPlugin', 'IL2MPlugin'])
def test_a_plugin_that_reads_features_refuses_a_bare_module(kind):
    with pytest.raises(ConfigError, match='reads the features of the model, which a Bare does not show'):
        built('Naive', dict(plugins=[dict(type=kind, mem_size=8)]), Bare())


def test_rwalk_gives_no_penalty_to_parameters_that_came_later():
    class Grows(torch.nn.Module):
        """Gets a second layer when the first experience is over."""

        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 4)])

        def forward(self, x):
            return sum(layer(x) for layer in self.layers)

    net = Grows()
    strategy = built('Naive', dict(plugins=[dict(type='RWalkPlugin', delta_t=2)]), net)
    plugin = plugin_of(strategy, 'RWalkPlugin')
    first, second, third = domain_stream(3).train_stream
    train(strategy, [first])
    known = {f'layers.0.{name}' for name in ('weight', 'bias')}
    assert set(plugin.exp_penalties) == known
    net.layers.append(torch.nn.Linear(8, 4))
    losses = train(strategy, [second, third])
    assert set(plugin.exp_penalties) == known and all(map(np.isfinite, losses))


def test_il2m_raises_past_classes_where_a_new_one_is_predicted():
    part = ScoreRectification(3)
    part.factors[:] = torch.tensor([4.0, 1.0, 1.0])
    part.is_new[2] = True
    logits = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
    scores = logits.softmax(1)
    scores[0, 0] *= 4  # only in the first row is the new class on top
    assert torch.allclose(part(logits), scores.log(), atol=1e-6)
    assert part(logits).argmax(1).tolist() == [0, 0]


def test_il2m_factors_are_ratios_of_mean_scores_and_confidences():
    stream = class_stream()
    strategy = built('IL2M', dict(mem_size=48, batch_size_mem=4))
    kept = {}
    strategy.on_epoch = lambda running: kept.update({running.clock.train_exp_counter: copy.deepcopy(running.model)})
    train(strategy, stream.train_stream)
    (x0, y0), (x1, _) = (tensors_of(experience) for experience in stream.train_stream)
    for net in kept.values():
        net.output_correction = torch.nn.Identity()
    first, second = kept[0].eval()(x0).softmax(1), kept[1].eval()(x0).softmax(1)
    confidence = kept[1].eval()(x1).softmax(1).max(1).values.mean() / first.max(1).values.mean()
    for label in (0, 1):
        own = y0 == label  # the memory holds all of the first experience
        expected = first[own, label].mean() / second[own, label].mean() * confidence
        assert strategy.model.output_correction.factors[label].item() == pytest.approx(expected.item(), rel=1e-4)
    assert strategy.model.output_correction.is_new.tolist() == [False, False, True, True]


# Networks


def test_cwr_star_equals_avalanches_plugin_bit_for_bit():
    stream, nets = domain_stream(3), []
    for kind in ('ours', 'theirs'):
        net = model('linear')
        torch.manual_seed(3)
        torch.nn.init.normal_(net.head.fc.weight)
        if kind == 'ours':
            strategy = built('CWRStar', {}, net)
        else:
            strategy = built('Naive', {}, net)
            strategy.plugins.insert(1, AvalancheCWRStarPlugin(net, freeze_remaining_model=True))
        train(strategy, stream.train_stream)
        nets.append(net)
    assert all(torch.equal(*pair) for pair in zip(nets[0].parameters(), nets[1].parameters()))
    assert isinstance(strategy, Naive)


def test_ar1_keeps_labels_with_their_latents():
    stream = domain_stream(3)
    strategy = built('AR1', dict(rm_sz=10))
    known = {tuple(x.tolist()): int(y) for experience in stream.train_stream
             for x, y in zip(*tensors_of(experience))}
    for number, experience in enumerate(stream.train_stream):
        train(strategy, [experience])
        assert len(strategy.latents) == 10
        # Without backbone a latent is the sample itself.
        assert [known[tuple(row.tolist())] for row in strategy.latents] == strategy.latent_labels.tolist()
        share = sum(tuple(row.tolist()) in {tuple(x.tolist()) for x in tensors_of(experience)[0]}
                    for row in strategy.latents)
        assert share == 10 // (number + 1)


def test_progressive_network_answers_with_its_newest_column_and_can_be_loaded():
    stream = domain_stream(3)
    strategy = built('PNNStrategy', dict(hidden_features_per_column=5))
    train(strategy, stream.train_stream)
    x, _ = tensors_of(list(stream.test_stream)[2])
    net = strategy.model.eval()
    assert torch.equal(net(x), net(x, torch.full((len(x),), 2)))
    assert net.layers[0].num_columns == 3
    fresh = built('PNNStrategy', dict(hidden_features_per_column=5), seed=2).model
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh.eval()(x), net(x))


def test_packnet_calls_other_plugins_and_never_moves_frozen_weights():
    strategy = built('PackNet', dict(post_prune_epochs=1, prune_proportion=[0.5, 0.5, 0.5],
                                     plugins=[dict(type='EarlyStoppingPlugin', patience=9)]))
    layer = next(module for module in strategy.model.modules() if hasattr(module, 'task_index'))
    for experience in domain_stream(3).train_stream:
        owner, before = layer.task_index.clone(), layer.wrappee.weight.detach().clone()
        tasks = strategy.model.task_count
        train(strategy, [experience])
        frozen = owner < tasks
        assert torch.equal(layer.wrappee.weight[frozen], before[frozen])
        assert bool(frozen.any()) == (tasks > 0)
    assert plugin_of(strategy, 'EarlyStoppingPlugin').best_val is not None


def test_packnet_refuses_weight_decay():
    strategy = built('PackNet', dict(post_prune_epochs=1, optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-4)))
    with pytest.raises(ConfigError, match='which weight decay gets round'):
        train(strategy, domain_stream(1).train_stream)


def moved_by_momentum(prototypes, vectors, labels):
    """Each prototype 0.9 times itself and 0.1 times the direction of the mean of its class, on the unit sphere."""
    result = prototypes.clone()
    for label in set(labels.tolist()):
        mean = vectors[labels == label].mean(0)
        moved = 0.9 * prototypes[label] + 0.1 * mean / mean.norm()
        result[label] = moved / moved.norm()
    return result


@pytest.mark.parametrize('options', [{}, dict(legacy=True), dict(max_it_cnt=2)])
def test_cope_prototypes_move_by_momentum_and_classify(options):
    """After every batch; with `legacy`, or where the experience is the batch, once at the end of the experience."""
    strategy = built('CoPE', dict(mem_size=8, p_size=5, alpha=0.9, **options))
    classifier, batches, start = strategy.model.eval_classifier, [], []
    begin = strategy._before_training_iteration

    def note_start(**kwargs):
        if not start:
            start.append(classifier.prototypes.clone())
        begin(**kwargs)

    strategy._before_training_iteration = note_start
    train(strategy, domain_stream(1).train_stream, lambda running: batches.append(
        (running.mb_output.detach().clone(), running.mb_y.clone(), classifier.prototypes.clone())))
    expected = start[0]
    assert len(batches) == (2 if 'max_it_cnt' in options else 6)
    for vectors, labels, prototypes in batches:
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)
        if not options:
            expected = moved_by_momentum(expected, vectors, labels)
        assert torch.allclose(prototypes, expected, atol=1e-5)
    if options:
        expected = moved_by_momentum(expected, *(torch.cat(parts) for parts in list(zip(*batches))[:2]))
    assert torch.allclose(classifier.prototypes, expected, atol=1e-5)


def test_cope_prototypes_leave_their_random_start():
    cosines = {}
    for legacy in (False, True):
        strategy = built('CoPE', dict(mem_size=8, p_size=5, alpha=0.9, train_epochs=9, legacy=legacy))
        starts, begin = [], strategy._before_training_exp

        def note(begin=begin, strategy=strategy, starts=starts, **kwargs):
            begin(**kwargs)
            starts.append(strategy.model.eval_classifier.prototypes.clone())

        strategy._before_training_exp = note
        train(strategy, domain_stream(2).train_stream)
        cosines[legacy] = (starts[0] * strategy.model.eval_classifier.prototypes).sum(1).mean()
    assert cosines[False] < 0.9 and cosines[True] > 0.95


@pytest.mark.parametrize('legacy', [False, True])
def test_scr_means_are_those_of_the_memory_by_the_present_encoder(legacy):
    strategy = built('SCR', dict(**MEMORY, projection_dim=5, legacy=legacy))
    for experience in domain_stream(3).train_stream:
        train(strategy, [experience])
        memory = plugin_of(strategy, 'ReplayPlugin').storage_policy.buffer
        rows = [memory[row] for row in range(len(memory))]
        x, y = torch.stack([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
        features = strategy.model.eval().get_features(x)
        features = features / features.norm(dim=1, keepdim=True)
        means = torch.stack([features[y == label].mean(0) for label in range(4)])
        means = means / means.norm(dim=1, keepdim=True)
        difference = (strategy.model.eval_classifier.class_means - means).abs().max()
        assert (difference < 1e-5) == (not legacy or experience.current_experience == 0)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('kind', ['MemoryFeCAMUpdate', 'FeCAMOracle'])
def test_fecam_means_and_covariances_are_those_of_the_present_encoder(kind, legacy):
    memory = dict(mem_size=60) if kind == 'MemoryFeCAMUpdate' else {}
    plugin = dict(type=kind, legacy=legacy, classifier=dict(tukey=False, shrinkage=False, covnorm=False), **memory)
    strategy, seen = built('Naive', dict(plugins=[plugin])), []
    for experience in domain_stream(2).train_stream:
        train(strategy, [experience])
        seen.append(tensors_of(experience))
        x, y = (torch.cat(parts) for parts in zip(*seen))  # the memory holds all of them
        features = strategy.model.eval().get_features(x).detach()
        found = strategy.model.eval_classifier
        for label in range(4):
            own = features[y == label]
            equal = [torch.allclose(found.class_means_dict[label], own.mean(0), atol=1e-5),
                     torch.allclose(found.class_cov_dict[label], own.T.cov(), atol=1e-5)]
            assert equal == [not legacy or len(seen) == 1] * 2


def test_agem_takes_one_sample_of_each_experience_where_there_are_more_than_it_draws():
    strategy = built('AGEM', dict(patterns_per_exp=8, sample_size=2))
    stream, sizes = domain_stream(2), []
    plugin = plugin_of(strategy, 'AGEMPlugin')
    sample = plugin.sample_from_memory

    def note():
        batch = sample()
        sizes.append(len(batch[1]))
        return batch

    plugin.sample_from_memory = note
    for _ in range(2):
        train(strategy, stream.train_stream)
    assert sizes == [2] * 12 + [3] * 6


@pytest.mark.parametrize('legacy', [False, True])
def test_scr_contrasts_projections_of_norm_1(legacy):
    strategy = built('SCR', dict(**MEMORY, projection_dim=5, legacy=legacy))
    norms = []
    train(strategy, domain_stream(1).train_stream,
          lambda running: norms.append(running.mb_output.detach().norm(dim=2).flatten()))
    norms = torch.cat(norms)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5) == (not legacy)


def test_scr_augments_every_sample_by_itself():
    flips = [dict(type='RandomHorizontalFlip', p=0.5)]
    strategy = built('SCR', dict(**MEMORY, augmentations=flips))
    torch.manual_seed(0)
    batch = torch.arange(40 * 3 * 4 * 4.0).view(40, 3, 4, 4)
    views = strategy.augmentations(batch)
    flipped = [torch.equal(view, sample.flip(-1)) for view, sample in zip(views, batch)]
    assert 5 < sum(flipped) < 35
    assert all(torch.equal(view, sample) for view, sample, was in zip(views, batch, flipped) if not was)


def test_learning_to_prompt_trains_prompts_and_head_only():
    strategy = built('LearningToPrompt', DOMAIN['LearningToPrompt'])
    before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
    train(strategy, domain_stream(2, shape=(1, 8, 8)).train_stream)
    moved = {name.split('.')[1] for name, value in strategy.model.state_dict().items()
             if not torch.equal(value, before[name])}
    assert moved == {'prompt', 'head'}


@pytest.mark.slow
def test_experts_get_the_samples_that_their_gate_reconstructs_best():
    stream = class_stream()
    strategy = built('ExpertGateStrategy', dict(ae_train_mb_size=4, ae_train_epochs=60, ae_lr=0.05, ae_latent_dim=6))
    train(strategy, stream.train_stream)
    net = strategy.model.eval()
    for number, experience in enumerate(stream.test_stream):
        x, _ = tensors_of(experience)
        errors = [gate.error(net.gate_input(x)) for gate in net.gates.values()]
        rows = [min((0, 1), key=lambda expert: float(errors[expert][row])) for row in range(len(x))]
        expected = torch.stack([net.experts[str(expert)](x)[row] for row, expert in enumerate(rows)])
        assert torch.allclose(net(x), expected, atol=1e-6)
        assert rows.count(number) > len(x) / 2
    gate = Autoencoder([8], 3)
    row = torch.randn(2, 8)
    assert torch.allclose(gate.error(row), ((gate(row) - row.sigmoid()) ** 2).sum(1))


# Meta-learning and generators


def test_la_maml_keeps_the_weights_it_is_given():
    for legacy in (False, True):
        net = model()
        before = copy.deepcopy(net.state_dict())
        built('LaMAML', dict(**DOMAIN['LaMAML'], legacy=legacy), net)
        kept = all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
        assert kept != legacy


def test_la_maml_skips_empty_parts_of_a_batch():
    strategy = built('LaMAML', dict(**DOMAIN['LaMAML'], n_inner_updates=5))  # 8 samples in parts of 2
    train(strategy, domain_stream(2).train_stream)
    assert all(torch.isfinite(value).all() for value in strategy.model.state_dict().values())


@pytest.mark.parametrize('legacy', [False, True])
def test_la_maml_trains_on_the_last_batch_too(legacy):
    """24 samples are two batches of 10 and one of 4, or less than one of 32."""
    for batch, iterations in ((10, 2 if legacy else 3), (32, 0 if legacy else 1)):
        strategy, seen = built('LaMAML', dict(**DOMAIN['LaMAML'], legacy=legacy, train_mb_size=batch,
                                              train_epochs=1)), []
        train(strategy, domain_stream(1).train_stream, seen.append)
        assert len(seen) == iterations


@pytest.mark.parametrize('has_norm', [False, True])
def test_la_maml_makes_no_inner_step_of_one_sample_where_batch_norm_cannot(has_norm):
    """24 samples are two batches of 10 and one of 4, in parts of one sample."""
    options = dict(**DOMAIN['LaMAML'], n_inner_updates=4, train_mb_size=10, train_epochs=1)
    strategy, moved = built('LaMAML', options, model('noisy' if has_norm else 'hidden')), []
    step = strategy.inner_update_step

    def note(params, x, y, t):
        after = step(params, x, y, t)
        moved.append((len(x), any(not torch.equal(after[name], value) for name, value in params.items())))
        return after

    strategy.inner_update_step = note
    train(strategy, domain_stream(1).train_stream)
    assert [rows for rows, _ in moved] == [3, 3, 3, 1] * 2 + [1] * 4
    assert all(was_moved == (rows > 1 or not has_norm) for rows, was_moved in moved)


def test_la_maml_without_a_memory_is_la_maml_until_there_is_one():
    first, second = domain_stream(2).train_stream
    weights = {}
    for kind in ('LaMAML', 'LaMAMLHigher'):
        strategy = built(kind, dict(n_inner_updates=3))
        train(strategy, [first])
        weights[kind] = copy.deepcopy(strategy.model.state_dict())
    torch.testing.assert_close(weights['LaMAML'], weights['LaMAMLHigher'], rtol=0, atol=0)
    train(strategy, [second])
    assert strategy.buffer is None and any(
        not torch.equal(value, weights['LaMAMLHigher'][name]) for name, value in strategy.model.state_dict().items())


def test_la_maml_without_a_memory_counts_replayed_rows_for_the_meta_loss_alone():
    plugins = [dict(type='ReplayPlugin', mem_size=8)]
    strategy = built('LaMAMLHigher', dict(n_inner_updates=2, plugins=plugins))
    inner, step = [], strategy.inner_update_step

    def note(params, x, y, t):
        inner.append((strategy.clock.train_exp_counter, len(x), len(strategy.mb_x)))
        return step(params, x, y, t)

    strategy.inner_update_step = note
    train(strategy, domain_stream(2).train_stream)
    outer = [whole for experience, _, whole in inner if experience == 1]
    parts = [rows for experience, rows, _ in inner if experience == 1]
    assert max(outer) > strategy.train_mb_size and max(parts) <= strategy.train_mb_size // 2


def test_generative_replay_doubles_the_batch_with_labels_of_the_old_model():
    strategy = built('GenerativeReplay', DOMAIN['GenerativeReplay'])
    sizes, plugin = [], plugin_of(strategy, 'GenerativeReplayPlugin')

    def note(running):
        sizes.append((running.clock.train_exp_counter, len(running.mb_x)))
        if running.clock.train_exp_counter:
            expected = plugin.old_model(running.mb_x[8:]).argmax(1)
            assert torch.equal(running.mb_y[8:].long(), expected)

    train(strategy, domain_stream(2).train_stream, note)
    assert set(sizes) == {(0, 8), (1, 16)}


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['GenerativeReplay', 'ExpertGateStrategy', 'CoPE', 'AETraining', 'VAETraining'])
def test_nothing_is_printed(kind, capsys):
    from toy_streams import GENERATIVE

    train(built(kind, {**DOMAIN, **GENERATIVE}[kind]), domain_stream(2).train_stream)
    assert capsys.readouterr().out == ''


def test_avalanches_own_warnings_stay_hidden(recwarn):
    with quiet_avalanche():
        built('MER', DOMAIN['MER'])
    assert not [item for item in recwarn.list if 'keyword' in str(item.message)]
