"""CLSA's views, picks and symmetric form; the queue that it shares with MoCo."""

import collections

import pytest
import torch
from selfsup_cases import BATCH, CASES, build, make_views, total

from clear.core.errors import ConfigError
from clear.models.queue import enqueue, retrieval_accuracy


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


# Views


def test_views_that_are_not_picked_do_not_count():
    views = make_views('CLSA')
    key, weak, strong = views[0], views[1:3], views[3:]
    picked = build('CLSA', pick_weak=[1], pick_strong=[0])
    changed = [key, torch.zeros_like(weak[0]), weak[1], strong[0], torch.zeros_like(strong[1])]
    first = total(picked(views, mode='loss'))
    alone = build('CLSA', num_weak=1, num_strong=1)
    close(first, total(alone([key, weak[1], strong[0]], mode='loss')))
    assert total(build('CLSA', pick_weak=[1], pick_strong=[0])(changed, mode='loss')) == first


@pytest.mark.parametrize('change, message', [
    (dict(pick_weak=[2]), 'pick_weak has 2, but there are 2 weak views: indices go from 0 to 1'),
    (dict(pick_strong=[-1]), 'pick_strong has -1'),
    (dict(pick_weak=[]), 'pick_weak is .*at least one'),
    (dict(pick_strong=[1, 1]), 'pick_strong is .*different'),
    (dict(num_weak=0), 'num_weak is 0'),
    (dict(enqueue='both'), 'only symmetric=True'),
    (dict(enqueue='all', symmetric=True), "'second' or 'both'"),
    (dict(queue_size=0), 'queue_size is 0'),
    (dict(momentum=1.5), 'momentum is 1.5'),
])
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        build('CLSA', **change)


def test_parts_are_logged_apart_and_alpha_scales_one():
    views = make_views('CLSA')
    one, other = (build('CLSA', alpha=alpha)(views, mode='loss') for alpha in (0.5, 2.0))
    assert set(one) == {'loss_contrastive', 'loss_divergence', 'acc', 'acc_top5'}
    assert one['loss_contrastive'] == other['loss_contrastive']
    close(4 * one['loss_divergence'], other['loss_divergence'])


def test_one_forward_per_view_or_per_size():
    views, batches = make_views('CLSA'), []
    for concat in (False, True):
        model = build('CLSA', concat_same_size=concat)
        model.encoder_q.backbone.register_forward_hook(lambda _, inputs, __: batches.append(tuple(inputs[0].shape)))
        model(views, mode='loss')
    sizes = CASES['CLSA'][1][1:]
    assert batches[:4] == [(BATCH, 3, size, size) for size in sizes]
    assert batches[4:] == [(2 * BATCH, 3, 8, 8), (2 * BATCH, 3, 6, 6)]


def test_one_batch_per_size_gives_the_same_where_nothing_depends_on_the_batch():
    views = make_views('CLSA')
    apart, together = (build('CLSA', norm=False, concat_same_size=concat) for concat in (False, True))
    close(total(together(views, mode='loss')), total(apart(views, mode='loss')))


@pytest.mark.parametrize('pick_weak', [[0, 1], [1], [1, 0]])
@pytest.mark.parametrize('enqueued', ['key', 'second', 'both'])
def test_the_symmetric_form_by_rows(pick_weak, enqueued):
    model = build('CLSA', symmetric=True, pick_weak=pick_weak, enqueue=enqueued)
    views, queue = make_views('CLSA'), model.queue.clone()
    twin = build('CLSA')
    with torch.no_grad():
        key, second = (unit(twin.encoder_k(view)) for view in (views[0], views[1]))
        weak = [unit(twin.encoder_q(views[1 + index])) for index in pick_weak]
        others = [query for index, query in zip(pick_weak, weak) if index != 0]
        own = unit(twin.encoder_q(views[0]))
        strong = [unit(twin.encoder_q(view)) for view in views[3:]]
        expected = 0
        for keys, queries in ((key, weak), (second, [*others, own])):
            bank = torch.cat([keys, queue.T])
            for query in queries:
                for row in range(BATCH):
                    expected -= torch.log_softmax(bank @ query[row] / 0.2, 0)[row] / BATCH
                    target = torch.softmax(bank @ query[row] / 0.3, 0)
                    expected -= sum(0.5 * (target * torch.log_softmax(bank @ s[row] / 0.3, 0)).sum() / BATCH
                                    for s in strong)
    close(total(model(views, mode='loss')).detach(), expected)
    rows = dict(key=[key], second=[second], both=[key, second])[enqueued]
    rows = torch.cat(rows)
    close(model.queue[:, :len(rows)], rows.T)
    assert torch.equal(model.queue[:, len(rows):], queue[:, len(rows):]) and int(model.queue_ptr) == len(rows)


# The queue


@pytest.mark.parametrize('size, batch', [(10, 4), (7, 7), (5, 1), (9, 8)])
def test_the_queue_holds_the_latest_keys_whatever_its_size(size, batch):
    queue, pointer = torch.zeros(2, size), torch.zeros(1, dtype=torch.long)
    latest = collections.deque(maxlen=size)
    for step in range(7):
        keys = torch.arange(batch * 2.0).view(batch, 2) + 100 * step
        enqueue(queue, pointer, keys)
        latest.extend(map(tuple, keys.tolist()))
        assert int(pointer) == (step + 1) * batch % size
        columns = set(map(tuple, queue.T.tolist())) - {(0.0, 0.0)}
        assert columns == set(latest) - {(0.0, 0.0)}


@pytest.mark.parametrize('name', ['MoCo', 'CLSA'])
def test_a_queue_smaller_than_the_batch_is_refused_before_anything_changes(name):
    model = build(name, queue_size=3)
    with torch.no_grad():
        model.encoder_q.neck.layers[0].weight.add_(1)
    before = {key: value.clone() for key, value in model.encoder_q.state_dict().items()}
    with pytest.raises(ConfigError, match=r'queue_size \(3\) is smaller than the global batch \(1 x 4 = 4\)'):
        model(make_views(name), mode='loss')
    assert all(torch.equal(value, before[key]) for key, value in model.encoder_q.state_dict().items())


def test_both_keys_need_room_for_both():
    model = build('CLSA', queue_size=7, symmetric=True, enqueue='both')
    with pytest.raises(ConfigError, match='Use at least 8'):
        model(make_views('CLSA'), mode='loss')


def test_new_columns_have_unit_length_and_start_at_the_first():
    model = build('MoCo')
    torch.testing.assert_close(model.queue.norm(dim=0).float(), torch.ones(10))
    assert model.queue.shape == (5, 10) and int(model.queue_ptr) == 0


@pytest.mark.parametrize('with_batch', [True, False])
def test_accuracy_is_that_of_sorted_scores(with_batch):
    generator = torch.Generator().manual_seed(0)
    # More columns than are scored at a time; queries near their keys, so that both shares lie inside (0, 1).
    key = unit(torch.randn(40, 3, generator=generator, dtype=torch.float64))
    query = unit(key + 0.02 * torch.randn(40, 3, generator=generator, dtype=torch.float64))
    queue = unit(torch.randn(9000, 3, generator=generator, dtype=torch.float64)).T
    found = retrieval_accuracy(query, key, queue, with_batch=with_batch)
    hits = {1: 0, 5: 0}
    for row in range(40):
        others = [key[other] for other in range(40) if other != row] if with_batch else []
        bank = torch.stack([key[row], *others, *queue.T])
        best = (bank @ query[row]).topk(5).indices.tolist()
        for most in hits:
            hits[most] += 0 in best[:most]
    assert 0 < hits[1] < hits[5] < 40
    assert (found['acc'].item(), found['acc_top5'].item()) == pytest.approx((hits[1] / 40, hits[5] / 40))


def test_accuracy_is_measured_now_and_then():
    model = build('MoCo', acc_interval=3)
    seen = []
    for iteration in range(7):
        model.set_progress(iteration, 10, 5)
        seen.append('acc' in model(make_views('MoCo'), mode='loss'))
    assert seen == [True, False, False] * 2 + [True]
    assert 'acc' not in build('MoCo', acc_interval=0)(make_views('MoCo'), mode='loss')
