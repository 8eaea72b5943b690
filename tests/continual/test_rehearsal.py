"""DER, ER_ACE and ER_AML replay what their memory holds, and DER's loss is the one of its paper."""

import pytest
import torch
from toy_streams import built, domain_stream, model, train, uneven_stream

KINDS = ('DER', 'ER_ACE', 'ER_AML')


def memory_rows(strategy):
    """Memories in the iteration that is over; None if nothing was replayed."""
    if strategy.replay_loader is None:
        return None
    return len(strategy.batch_logits) if hasattr(strategy, 'batch_logits') else len(strategy.mb_buffer_y)


def replayed(kind, sizes, **options):
    """Memories in every iteration, by experience, on buckets of these sizes."""
    strategy, rows = built(kind, options), {}
    train(strategy, uneven_stream(sizes).train_stream,
          lambda running: rows.setdefault(running.clock.train_exp_counter, []).append(memory_rows(running)))
    return rows


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('mem_size, batch', [(6, 9), (8, 8), (24, 5)])
def test_every_iteration_after_the_first_bucket_replays(kind, mem_size, batch):
    rows = replayed(kind, [24, 24, 24], mem_size=mem_size, batch_size_mem=batch)
    assert set(rows[0]) == {None}
    assert rows[1] and set(rows[1] + rows[2]) == {min(mem_size, batch)}


@pytest.mark.parametrize('kind', KINDS)
def test_a_small_first_bucket_is_replayed_whole(kind):
    rows = replayed(kind, [4, 24, 24], mem_size=20, batch_size_mem=16)
    # ER_ACE and ER_AML take a bucket in before they train on it.
    assert set(rows[1]) == {4 if kind == 'DER' else 16} and set(rows[2]) == {16}


def test_ders_own_defaults_train_and_replay():
    rows = replayed('DER', [24, 24], train_mb_size=256)
    assert rows == {0: [None, None], 1: [24, 24]}


@pytest.mark.parametrize('weight', [1.0, 3.0])
def test_der_is_its_loss_in_plain_pytorch(weight):
    options = dict(mem_size=8, batch_size_mem=4, alpha=0.3, beta=0.7,
                   loss=dict(type='CrossEntropyLoss', loss_weight=weight))
    strategy, expected = built('DER', options), []
    after_forward = strategy._after_forward

    def note(**kwargs):
        after_forward(**kwargs)
        x, y = strategy.mb_x, strategy.mb_y
        count = 4 if strategy.clock.train_exp_counter else 0
        logits = strategy.model(x)
        loss = weight * torch.nn.functional.cross_entropy(logits[count:], y[count:])
        if count:
            loss = loss + 0.3 * (logits[:4] - strategy.batch_logits).square().mean()
            loss = loss + 0.7 * weight * torch.nn.functional.cross_entropy(logits[:4], y[:4])
        expected.append(loss.item())

    strategy._after_forward = note
    losses = train(strategy, domain_stream(3).train_stream)
    assert losses == pytest.approx(expected, rel=1e-5)


def test_der_with_alpha_0_takes_every_factor_of_the_loss():
    first = {}
    for weight in (1.0, 3.0):
        strategy = built('DER', dict(mem_size=8, batch_size_mem=4, alpha=0.0, optimizer=dict(type='SGD', lr=0.0),
                                     loss=dict(type='CrossEntropyLoss', loss_weight=weight)))
        first[weight] = train(strategy, domain_stream(3).train_stream)
    assert first[3.0] == pytest.approx([3 * value for value in first[1.0]], rel=1e-5)


def test_der_keeps_the_logits_of_the_end_of_the_experience():
    net = model()
    strategy = built('DER', dict(mem_size=8, batch_size_mem=4), net)
    train(strategy, list(domain_stream(2).train_stream)[:1])
    net.eval()
    for row in range(8):
        x, _, _, logits = strategy.storage_policy.buffer[row]
        assert torch.allclose(net(x[None])[0], logits, atol=1e-6)
