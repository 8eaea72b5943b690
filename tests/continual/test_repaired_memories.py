"""What was wrong in Avalanche 0.6's memories and replay and is not any more, one test for each defect."""

import copy
import importlib.util
import math

import numpy as np
import pytest
import torch
from avalanche.training import AMLCriterion as AvalancheAMLCriterion
from toy_streams import (
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

from clear.continual.repairs.losses import AMLCriterion
from clear.continual.repairs.rehearsal.feature_replay import FeatureMemory
from clear.continual.repairs.split_model import split
from clear.core.errors import ConfigError


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
