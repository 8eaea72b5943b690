"""Barlow Twins, VICReg and TiCo against loops over single numbers: values and gradients in float64."""

import pytest
import torch
from test_losses_contrastive import agree, close, dot, leaf, unit

from clear.models.losses import BarlowTwinsLoss, NegativeCosineSimilarity, TiCoLoss, VICRegLoss


def views(batch, dim):
    return leaf(2 * unit(batch, dim) + 0.3), leaf(unit(batch, dim, seed=1) - 0.2)


def mean_of(values):
    return sum(values) / len(values)


def barlow_by_loops(z1, z2, lambd, eps):
    columns = []
    for rows in (z1, z2):
        centred = [[value - mean_of(column) for value in column] for column in rows.T]
        columns.append([[value / (mean_of([v * v for v in column]) + eps) ** 0.5 for value in column]
                        for column in centred])
    total = 0
    for i, one in enumerate(columns[0]):
        for j, other in enumerate(columns[1]):
            correlation = dot(one, other) / len(one)
            total = total + ((1 - correlation) ** 2 if i == j else lambd * correlation ** 2)
    return total


def vicreg_by_loops(z1, z2, weights, eps):
    num_rows, dim = z1.shape
    total = weights[0] * sum((a - b) ** 2 for one, other in zip(z1, z2) for a, b in zip(one, other)) / (num_rows * dim)
    for rows in (z1, z2):
        centred = [[value - mean_of(column) for value in column] for column in rows.T]
        for i, one in enumerate(centred):
            spread = (dot(one, one) / (num_rows - 1) + eps) ** 0.5
            total = total + weights[1] * max(1 - spread, 0 * spread) / dim / 2
            for j, other in enumerate(centred):
                if i != j:
                    total = total + weights[2] * (dot(one, other) / (num_rows - 1)) ** 2 / dim
    return total


def tico_by_loops(z1, z2, before, beta, rho):
    """The loss and the new covariance."""
    z1 = [z / dot(z, z) ** 0.5 for z in z1]
    z2 = [z / dot(z, z) ** 0.5 for z in z2]
    dim = len(z1[0])
    covariance = [[beta * before[i][j] + (1 - beta) * mean_of([z[i] * z[j] for z in z1]) for j in range(dim)]
                  for i in range(dim)]
    contrast = mean_of([sum(z[i] * covariance[i][j] * z[j] for i in range(dim) for j in range(dim)) for z in z1])
    loss = 1 - mean_of([dot(a, b) for a, b in zip(z1, z2)]) + rho * contrast
    return loss, torch.stack([torch.stack(row) for row in covariance]).detach()


@pytest.mark.parametrize('batch, dim', [(2, 1), (3, 4), (7, 3)])
@pytest.mark.parametrize('lambd', [0.0051, 1.0])
def test_barlow_twins_matches_loops(batch, dim, lambd):
    z1, z2 = views(batch, dim)
    agree(BarlowTwinsLoss(lambd)(z1, z2), barlow_by_loops(z1, z2, lambd, 1e-5), [z1, z2])


def test_barlow_twins_standardises_as_batch_norm():
    z1, z2 = views(9, 5)
    norm = torch.nn.BatchNorm1d(5, affine=False, dtype=torch.float64)
    correlation = norm(z1).T @ norm(z2) / 9
    weights = torch.full((5, 5), 0.02, dtype=torch.float64).fill_diagonal_(1)
    close(BarlowTwinsLoss(0.02)(z1, z2), ((correlation - torch.eye(5)) ** 2 * weights).sum())


@pytest.mark.parametrize('batch, dim', [(2, 1), (3, 4), (7, 3)])
@pytest.mark.parametrize('weights', [(25, 25, 1), (1, 2, 3)])
def test_vicreg_matches_loops(batch, dim, weights):
    z1, z2 = views(batch, dim)
    agree(VICRegLoss(*weights)(z1, z2), vicreg_by_loops(z1, z2, weights, 1e-4), [z1, z2])


def test_vicreg_by_hand():
    """Rows 0 and 4 of one column: variance 8, spread above 1 costs nothing; views differ by 1 everywhere."""
    z1 = torch.tensor([[0.0], [4.0]])
    assert VICRegLoss(25, 25, 1)(z1, z1 + 1).item() == pytest.approx(25)


@pytest.mark.parametrize('batch, dim', [(1, 3), (4, 2), (3, 5)])
def test_tico_matches_loops_over_two_steps(batch, dim):
    loss = TiCoLoss(dim, beta=0.8, rho=5.0).double()
    state = [[torch.zeros((), dtype=torch.float64)] * dim] * dim
    for _ in range(2):
        z1, z2 = views(batch, dim)
        expected, state = tico_by_loops(z1, z2, state, 0.8, 5.0)
        agree(loss(z1, z2), expected, [z1, z2])
        close(loss.covariance, state)


def test_tico_keeps_its_state_only_in_train_mode():
    z1, z2 = views(4, 3)
    loss = TiCoLoss(3).double().eval()
    loss(z1, z2)
    assert not loss.covariance.any()
    loss.train()(z1, z2)
    assert loss.covariance.any() and not loss.covariance.requires_grad


@pytest.mark.parametrize('batch', [1, 2, 5])
def test_negative_cosine_matches_loops(batch):
    p, z = views(batch, 4)
    expected = -mean_of([dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5 for a, b in zip(p, z.detach())])
    found = NegativeCosineSimilarity()(p, z)
    agree(found, expected, [p])
    found.backward()
    assert z.grad is None


def test_a_zero_vector_is_no_nan():
    zero = torch.zeros(2, 3, requires_grad=True)
    loss = NegativeCosineSimilarity()(zero, zero)
    loss.backward()
    assert loss.item() == 0 and zero.grad.isfinite().all()


@pytest.mark.parametrize('make, message', [
    (lambda: BarlowTwinsLoss(0), 'lambd is 0'), (lambda: VICRegLoss(variance=0), 'VICRegLoss: variance is 0'),
    (lambda: BarlowTwinsLoss()(unit(1, 3), unit(1, 3)), 'needs at least 2 rows, found 1'),
    (lambda: VICRegLoss()(unit(1, 3), unit(1, 3)), 'needs at least 2 rows, found 1'),
    (lambda: VICRegLoss()(unit(2, 3), unit(3, 3)), r'found z1 \(2, 3\), z2 \(3, 3\)'),
    (lambda: NegativeCosineSimilarity()(unit(2, 3), unit(2)), r'found p \(2, 3\), z \(2,\)'),
    (lambda: TiCoLoss(beta=1), 'beta is 1; expected a number of at least 0, below 1'),
    (lambda: TiCoLoss(4)(unit(2, 3), unit(2, 3)), 'have 3 columns, but embed_dim is 4'),
])
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
