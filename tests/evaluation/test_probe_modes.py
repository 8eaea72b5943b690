"""The probes of other code bases as settings of ours, each against a plain loop or another library."""

from pathlib import Path

import numpy as np
import pytest
import torch
from banks import blob_data, digit_banks, digits
from torch.nn import functional

from clear.core.config import load_config
from clear.core.errors import ConfigError, DataError, TrainingError
from clear.evaluation import LabelledRows, LinearProbe, LogisticProbe, ProbeData
from clear.evaluation.image.grid.points import drawn_pairs
from clear.evaluation.image.grid.stacked import initial_head
from clear.evaluation.image.grid.training import batch_order
from clear.evaluation.image.sweep import peak_search, spaced_values
from clear.evaluation.task import TaskData
from clear.registry import TASKS


def digit_data(num_train=300, num_val=100):
    features, labels = digits()
    ends = [0, num_train, num_train + num_val, 700]
    parts = [LabelledRows(features[start:end], labels[start:end]) for start, end in zip(ends, ends[1:])]
    return ProbeData(train=parts[0], val=parts[1], test=parts[2], class_names=[str(digit) for digit in range(10)])


def adamw_by_hand(rows, decay, *, lr, epochs, batch_size):
    """CLIP_benchmark's training: AdamW, cosine by iteration without warm-up."""
    features = functional.normalize(rows.features, dim=1)
    head = torch.nn.Linear(features.shape[1], 10)
    with torch.no_grad():
        for parameter, value in zip((head.weight, head.bias), initial_head(10, features.shape[1], 0)):
            parameter.copy_(value)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=decay)
    total, step = epochs * -(-len(rows) // batch_size), 0
    for epoch in range(epochs):
        for batch in batch_order(len(rows), batch_size, epoch, 0):
            for group in optimizer.param_groups:
                group['lr'] = 0.5 * (1 + np.cos(np.pi * step / total)) * lr
            optimizer.zero_grad()
            functional.cross_entropy(head(features[batch]), rows.labels[batch]).backward()
            optimizer.step()
            step += 1
    return head


def accuracy(head, rows):
    scores = head(functional.normalize(rows.features, dim=1))
    return (scores.argmax(1) == rows.labels).double().mean().item()


CLIP_BENCHMARK = dict(lrs=[0.1], weight_decays=dict(lowest=1e-6, highest=1e2, count=97), optimizers=['adamw'],
                      search='peak', scale='l2', epochs=2, batch_size=64, seeds=1)


def test_the_sweep_of_clip_benchmark_equals_its_search_over_plain_loops():
    data = digit_data()
    decays = np.logspace(-6, 2, num=97).tolist()
    scores = {}

    def score(place):
        if place not in scores:
            head = adamw_by_hand(data.train, decays[place], lr=0.1, epochs=2, batch_size=64)
            scores[place] = accuracy(head, data.val)
        return scores[place]

    expected = peak_search(score)
    both = LabelledRows(torch.cat([data.train.features, data.val.features]),
                        torch.cat([data.train.labels, data.val.labels]))
    final = adamw_by_hand(both, decays[expected.index], lr=0.1, epochs=2, batch_size=64)
    fitted = LinearProbe(refit=True, **CLIP_BENCHMARK).fit(data)
    extras = fitted.result.extras
    assert extras['visited'] == list(expected.visited)
    assert len(extras['grid']) == len(set(expected.visited)) <= 15
    assert extras['selected']['weight_decay'] == pytest.approx(decays[expected.index])
    assert extras['n_train'] == 400 and extras['n_val'] == 0
    torch.testing.assert_close(fitted.weight[0], final.weight.detach(), rtol=1e-4, atol=1e-5)
    assert fitted.result.value == pytest.approx(accuracy(final, data.test), abs=1e-9)


def test_few_shots_are_drawn_from_what_validation_leaves_and_never_trained_with_it():
    fitted = LinearProbe(shots=3, **CLIP_BENCHMARK).fit(digit_data())
    assert (fitted.result.extras['n_train'], fitted.result.extras['n_val']) == (30, 100)
    with pytest.raises(ConfigError, match='shots'):
        LinearProbe(shots=3, refit=True, **CLIP_BENCHMARK)
    with pytest.raises(DataError, match='200 shots were asked for'):
        LinearProbe(shots=200, **CLIP_BENCHMARK).fit(digit_data())


def itra_by_hand(data, *, lr, weight_decay, epochs, batch_size):
    """ITRA's and ProtoCLIP's loop: unshuffled, cosine by epoch, the accuracy after each epoch."""
    weight, bias = initial_head(10, data.dim, 0, init='normal')
    head = torch.nn.Linear(data.dim, 10)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    reached = []
    for _ in range(epochs):
        for features, labels in zip(data.train.features.split(batch_size), data.train.labels.split(batch_size)):
            optimizer.zero_grad()
            functional.cross_entropy(head(features), labels).backward()
            optimizer.step()
        scheduler.step()
        reached.append((head(data.test.features).argmax(1) == data.test.labels).double().mean().item())
    return reached


@pytest.mark.parametrize('lr, weight_decay', [(0.004, 0.0), (0.1, 1e-6)])
def test_the_legacy_mode_reports_the_best_test_accuracy_over_epochs(lr, weight_decay):
    data = digit_data()
    probe = LinearProbe(lrs=[lr], weight_decays=[weight_decay], schedules=['epoch_cosine'], epochs=8, batch_size=100,
                        scale='none', init='normal', shuffle=False, seeds=1, choose_epoch=True, select='test',
                        legacy=True)
    result = probe.fit(data).result
    reached = itra_by_hand(data, lr=lr, weight_decay=weight_decay, epochs=8, batch_size=100)
    assert result.value == pytest.approx(max(reached), abs=1e-9)
    assert result.extras['best_epochs'] == [1 + reached.index(max(reached))]


def test_the_epoch_is_chosen_on_validation():
    data = digit_data()
    probe = LinearProbe(lrs=[3.0], epochs=6, batch_size=50, scale='none', seeds=2, choose_epoch=True)
    result = probe.fit(data).result
    assert (result.extras['n_train'], result.extras['n_val']) == (300, 100)
    wrong = LabelledRows(data.test.features, (data.test.labels + 1) % 10)
    upset = ProbeData(data.train, wrong, data.class_names, data.val)
    assert probe.fit(upset).result.extras['best_epochs'] == result.extras['best_epochs']
    alone = ProbeData(data.train, data.test, data.class_names)
    extras = probe.fit(alone).result.extras  # the epoch of a single setting needs rows, too
    assert extras['n_val'] > 20 and extras['n_train'] + extras['n_val'] == 300


def test_a_column_that_diverges_later_keeps_its_best_epoch():
    data = blob_data()
    with pytest.raises(TrainingError, match='diverged'):
        LinearProbe(lrs=[1e38], epochs=2, scale='none', seeds=1, choose_epoch=True).fit(data)


def test_draws_are_seeded_pairs_in_their_ranges():
    pairs = drawn_pairs(5, seed=3)
    assert pairs == drawn_pairs(5, seed=3) != drawn_pairs(5, seed=4)
    assert len(set(drawn_pairs(100, seed=0))) == 100
    rates, decays = zip(*drawn_pairs(100, seed=0))
    assert set(rates) <= {float(f'{a}e-{b}') for a in range(1, 9) for b in (1, 2)}
    assert set(decays) <= {float(f'{a}e-{b}') for a in range(1, 9) for b in range(5, 10)}
    result = LinearProbe(draws=4, seeds=1, epochs=2, seed=3).fit(blob_data()).result
    assert [(entry['lr'], entry['weight_decay']) for entry in result.extras['grid']] == drawn_pairs(4, seed=3)


def test_the_sweep_of_clip_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    data = digit_data(150, 100)
    penalties = np.logspace(-6, 6, num=97)

    def score(place):
        peer = LogisticRegression(C=1 / penalties[place], max_iter=3000, tol=1e-6)
        peer.fit(data.train.features.numpy(), data.train.labels.numpy())
        return peer.score(data.val.features.numpy(), data.val.labels.numpy())

    sweep = LogisticProbe(cs=dict(lowest=1e-6, highest=1e6, count=97), search='peak', scale='none', max_iterations=300)
    result = sweep.fit(data)
    chosen = int(np.abs(np.log(penalties * result.extras['selected']['c'])).argmin())
    assert result.extras['selected']['c'] == pytest.approx(1 / penalties[chosen])
    assert len(result.extras['candidates']) <= 7 + 4 * 2
    best = max(entry['val_top1'] for entry in result.extras['candidates'])
    assert next(entry['val_top1'] for entry in result.extras['candidates']
                if entry['c'] == result.extras['selected']['c']) == best
    assert score(chosen) == pytest.approx(best, abs=0.011)  # one of the 100 rows may stand on the border


def test_refit_trains_the_chosen_c_on_all_rows():
    from sklearn.linear_model import LogisticRegression

    data = digit_data()
    result = LogisticProbe(cs=[0.01, 1.0], scale='none', refit=True, max_iterations=2000).fit(data)
    features = torch.cat([data.train.features, data.val.features]).numpy()
    labels = torch.cat([data.train.labels, data.val.labels]).numpy()
    peer = LogisticRegression(C=result.extras['selected']['c'], max_iter=3000, tol=1e-6).fit(features, labels)
    assert result.value == pytest.approx(peer.score(data.test.features.numpy(), data.test.labels.numpy()), abs=1e-9)
    assert result.extras['n_train'] == 400


@pytest.mark.parametrize('task', [LinearProbe, LogisticProbe])
def test_choosing_on_test_needs_a_word(task):
    with pytest.raises(ConfigError, match='legacy=True'):
        task(select='test')
    with pytest.raises(ConfigError, match='not asked for'):
        task(legacy=True)
    with pytest.raises(ConfigError, match='refit'):
        task(select='test', legacy=True, refit=True)
    with pytest.raises(ConfigError, match='select'):
        task(select='train')
    result = task(select='test', legacy=True).fit(blob_data(60, 40))
    extras = (result if task is LogisticProbe else result.result).extras
    assert (extras['n_train'], extras['n_val'], extras['n_test']) == (60, 40, 40)


def test_settings_that_contradict_each_other():
    for wrong, message in ((dict(search='peak'), 'ascending'), (dict(search='hill'), "'hill'"),
                           (dict(refit=True, choose_epoch=True), 'choose_epoch'), (dict(draws=0), 'draws'),
                           (dict(init='zeros'), "'zeros'"), (dict(weight_decays=dict(lowest=1)), 'lowest=')):
        with pytest.raises(ConfigError, match=message):
            LinearProbe(**wrong)
    with pytest.raises(ConfigError, match='highest'):
        spaced_values('cs', dict(lowest=1.0, highest=0.1, count=3))


PRESETS = load_config(Path(__file__).parents[2] / 'configs/_base_/tasks/itra.py')[0]['tasks']


@pytest.mark.parametrize('cfg', PRESETS, ids=lambda cfg: cfg['name'])
def test_every_preset_reads_digits(cfg):
    options = {key: value for key, value in cfg.items() if key not in ('type', 'name')}
    result = TASKS.build(dict(type=cfg['type'], **options)).run(None, TaskData(bank=digit_banks(500)))
    floor = dict(clusters=0.6, linear_itra=0.6).get(cfg['name'], 0.88)
    assert floor < result.value < 0.99
    assert result.extras['n_test'] == 1297
    assert result.extras['n_train'] + result.extras['n_val'] in (500, 1297)
