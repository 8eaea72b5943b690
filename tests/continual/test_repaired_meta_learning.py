"""What was wrong in Avalanche 0.6's La-MAML and generative replay and is not any more; and that nothing is printed."""

import copy

import pytest
import torch
from toy_streams import (
    DOMAIN,
    built,
    domain_stream,
    model,
    plugin_of,
    train,
)

from clear.continual.strategies import quiet_avalanche


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
