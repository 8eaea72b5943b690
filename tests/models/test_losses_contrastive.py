"""MoCo, CLSA and NT-Xent against loops over single numbers: values and gradients in float64."""

import pytest
import torch
import torch.nn.functional as F

from clear.models.losses import CLSALoss, DistributionalDivergenceLoss, MoCoLoss, NTXentLoss
from clear.models.losses.selfsup import retrieval


def unit(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(values, dim=-1)


def leaf(tensor):
    return tensor.clone().requires_grad_()


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def log_softmax_of(scores, index):
    return scores[index] - sum(score.exp() for score in scores).log()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def agree(found, expected, leaves):
    """Equal values, and equal gradients with respect to all leaves."""
    close(found, expected)
    settings = dict(retain_graph=True, materialize_grads=True)
    for one, other in zip(torch.autograd.grad(found, leaves, **settings),
                          torch.autograd.grad(expected, leaves, **settings)):
        close(one, other)


def moco_by_loops(query, key, queue, temperature):
    total = 0
    for q, k in zip(query, key):
        scores = [dot(q, k) / temperature] + [dot(q, column) / temperature for column in queue.T]
        total = total - log_softmax_of(scores, 0)
    return total / len(query)


def clsa_by_loops(weak, strong, key, queue, temperature, clsa_t):
    bank = [*key, *queue.T]
    contrastive = divergence = 0
    for view in weak:
        for n, q in enumerate(view):
            contrastive = contrastive - log_softmax_of([dot(q, b) / temperature for b in bank], n) / len(view)
            scores = [dot(q, b).detach() / clsa_t for b in bank]
            target = [log_softmax_of(scores, index).exp() for index in range(len(bank))]
            for other in strong:
                scores = [dot(other[n], b) / clsa_t for b in bank]
                entropy = -sum(p * log_softmax_of(scores, index) for index, p in enumerate(target))
                divergence = divergence + entropy / len(view)
    return contrastive, divergence


def nt_xent_by_loops(z1, z2, temperature):
    rows = [z / dot(z, z).sqrt() for z in [*z1, *z2]]
    total = 0
    for i, own in enumerate(rows):
        partner = (i + len(z1)) % len(rows)
        others = [j for j in range(len(rows)) if j != i]
        scores = [dot(own, rows[j]) / temperature for j in others]
        total = total - log_softmax_of(scores, others.index(partner))
    return total / len(rows)


@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('temperature', [0.07, 1.0])
@pytest.mark.parametrize('queue_size', [1, 7])
def test_moco_matches_loops(batch, temperature, queue_size):
    query, key, queue = leaf(unit(batch, 3)), unit(batch, 3, seed=1), unit(queue_size, 3, seed=2).T
    agree(MoCoLoss(temperature)(query, key, queue), moco_by_loops(query, key, queue, temperature), [query])


def test_moco_by_hand():
    """The key at cosine 1, one negative at 0 and one at -1: -log(e^2 / (e^2 + 1 + e^-2)) at temperature 0.5."""
    query = torch.tensor([[1.0, 0.0]])
    queue = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert MoCoLoss(0.5)(query, query, queue).item() == pytest.approx(0.142931628499899, rel=1e-6)


def test_moco_logits_are_those_of_the_loss():
    query, key, queue = unit(4, 5), unit(4, 5, seed=1), unit(6, 5, seed=2).T
    logits = MoCoLoss(0.2).logits(query, key, queue)
    assert logits.shape == (4, 7)
    close(F.cross_entropy(logits, torch.zeros(4, dtype=torch.int64)), MoCoLoss(0.2)(query, key, queue))


def test_keys_and_queue_are_constants():
    query, key, queue = leaf(unit(3, 4)), leaf(unit(3, 4, seed=1)), leaf(unit(6, 4, seed=2).T)
    MoCoLoss()(query, key, queue).backward()
    sum(CLSALoss()([query], [query], key, queue).values()).backward()
    assert query.grad.abs().sum() > 0 and key.grad is None and queue.grad is None


@pytest.mark.parametrize('tile', [1, 4, 12, 1000])
def test_scores_in_tiles_give_the_same(monkeypatch, tile):
    """Also where the largest score comes last, and with a queue of transposed memory."""
    query, key, queue = leaf(unit(3, 4)), unit(3, 4, seed=1), unit(11, 4, seed=2)
    queue[-1] = query.detach()[0]
    expected = moco_by_loops(query, key, queue.T, 0.01)
    for columns in (queue.T, queue.T.contiguous()):
        monkeypatch.setitem(retrieval.TILE_SCORES, 'cpu', tile)
        agree(MoCoLoss(0.01)(query, key, columns), expected, [query])
        expected = moco_by_loops(query, key, queue.T, 0.01)


def test_many_candidates_need_little_memory(monkeypatch):
    """No tensor of all scores is ever made: every product goes into one small buffer."""
    sizes = []
    product = torch.mm
    monkeypatch.setattr(torch, 'mm', lambda a, b, out: sizes.append(out.untyped_storage().nbytes()) or
                        product(a, b, out=out))
    query = unit(8, 4).float()
    MoCoLoss()(query, query, unit(300_000, 4).float().T)
    assert len(set(sizes)) == 1 and sizes[0] <= 4 * retrieval.TILE_SCORES['cpu'] < 4 * 8 * 300_000


@pytest.mark.parametrize('num_weak, num_strong', [(1, 1), (2, 3)])
@pytest.mark.parametrize('temperature, clsa_t', [(0.2, 0.2), (0.1, 0.4)])
def test_clsa_matches_loops(num_weak, num_strong, temperature, clsa_t):
    weak = [leaf(unit(3, 4, seed=index)) for index in range(num_weak)]
    strong = [leaf(unit(3, 4, seed=10 + index)) for index in range(num_strong)]
    key, queue = unit(3, 4, seed=20), unit(5, 4, seed=21).T
    found = CLSALoss(temperature, clsa_t, alpha=0.5)(weak, strong, key, queue)
    contrastive, divergence = clsa_by_loops(weak, strong, key, queue, temperature, clsa_t)
    assert set(found) == {'loss_contrastive', 'loss_divergence'}
    agree(found['loss_contrastive'], contrastive, weak)
    agree(found['loss_divergence'], 0.5 * divergence, strong)
    assert torch.autograd.grad(CLSALoss()(weak, strong, key, queue)['loss_divergence'], weak, allow_unused=True) == \
        (None,) * num_weak


def test_clsa_logits_are_those_of_the_loss():
    weak, key, queue = unit(4, 5), unit(4, 5, seed=1), unit(6, 5, seed=2).T
    logits, targets = CLSALoss(0.3).logits(weak, key, queue)
    close(F.cross_entropy(logits, targets), CLSALoss(0.3)([weak], [weak], key, queue)['loss_contrastive'])


def test_divergence_alone_is_the_one_of_clsa():
    weak, strong = [leaf(unit(3, 4)), leaf(unit(3, 4, seed=1))], [leaf(unit(3, 4, seed=2))]
    key, queue = unit(3, 4, seed=3), unit(6, 4, seed=4).T
    found = DistributionalDivergenceLoss(0.3)(strong, weak, torch.cat([key, queue.T]))
    agree(found, clsa_by_loops(weak, strong, key, queue, 1.0, 0.3)[1], strong)
    assert not torch.autograd.grad(found.sum() + sum(view.sum() * 0 for view in weak), weak)[0].any()


def test_divergence_is_smallest_where_views_agree():
    """Cross-entropy with equal distributions is their entropy; any other strong view costs more."""
    view, bank = unit(6, 4), unit(30, 4, seed=1)
    loss = DistributionalDivergenceLoss(0.2)
    probabilities = (view @ bank.T / 0.2).softmax(1)
    entropy = -(probabilities * probabilities.log()).sum(1).mean()
    close(loss([view], [view], bank), entropy)
    assert loss([unit(6, 4, seed=2)], [view], bank) > entropy + 0.1


@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('temperature', [0.1, 0.5])
def test_nt_xent_matches_loops(batch, temperature):
    z1, z2 = leaf(3 * unit(batch, 4) + 0.1), leaf(unit(batch, 4, seed=1))
    agree(NTXentLoss(temperature)(z1, z2), nt_xent_by_loops(z1, z2, temperature), [z1, z2])


def test_nt_xent_of_one_image_is_zero():
    """One pair alone has no negatives, so the positive is certain."""
    assert NTXentLoss(0.1)(unit(1, 3), unit(1, 3, seed=1)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('make, message', [
    (lambda: MoCoLoss(0), 'MoCoLoss: temperature is 0; expected a number above 0'),
    (lambda: NTXentLoss(-1), 'NTXentLoss: temperature is -1'),
    (lambda: CLSALoss(clsa_t=float('nan')), 'CLSALoss: clsa_t is nan'),
    (lambda: CLSALoss(alpha=-1), 'alpha is -1; expected a number of at least 0'),
    (lambda: DistributionalDivergenceLoss(0), 'DistributionalDivergenceLoss: temperature is 0'),
    (lambda: MoCoLoss()(unit(2, 3), unit(2, 4), unit(5, 3).T), r'of one shape, found query \(2, 3\), key \(2, 4\)'),
    (lambda: MoCoLoss()(unit(2, 3), unit(2, 3), unit(5, 3)), r'queue is \(5, 3\), expected \(D, K\) = \(3, at least 1'),
    (lambda: MoCoLoss()(unit(2, 3), unit(2, 3), torch.zeros(3, 0)), r'queue is \(3, 0\)'),
    (lambda: MoCoLoss()(unit(0, 3), unit(0, 3), unit(5, 3).T), r'found query \(0, 3\)'),
    (lambda: CLSALoss()(unit(2, 3), [unit(2, 3)], unit(2, 3), unit(5, 3).T),
     r'weak must be a list of at least one view .*, found a tensor \(2, 3\)'),
    (lambda: CLSALoss()([unit(2, 3)], [], unit(2, 3), unit(5, 3).T), 'strong must be .* found none'),
    (lambda: CLSALoss()([unit(2, 3)], [unit(2, 3)], unit(3, 3), unit(5, 3).T), r'key \(3, 3\)'),
    (lambda: DistributionalDivergenceLoss()([unit(2, 3)], [unit(2, 3)], unit(5, 4)), r'queue is \(4, 5\)'),
])
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
