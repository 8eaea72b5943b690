import numpy as np
import pytest
import torch

from clear.evaluation.metrics.cka import BlockCKA


def by_definition(x, y):
    x, y = (value.double().numpy() - value.double().numpy().mean(0) for value in (x, y))
    return np.linalg.norm(y.T @ x)**2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def by_kernels(x, y):
    """The same through the matrices of all similarities, HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, other = (centre @ value.double().numpy() @ value.double().numpy().T @ centre for value in (x, y))
    return (k * other).sum() / np.sqrt((k * k).sum() * (other * other).sum())


def cka(x, y, batch=None):
    found = BlockCKA()
    for rows, others in zip(x.split(batch or len(x)), y.split(batch or len(y))):
        found.update([rows], [others])
    return found.values().item()


@pytest.mark.parametrize('batch', [1, 7, 64])
def test_batches_are_the_whole_matrix(batch):
    torch.manual_seed(0)
    x = torch.randn(64, 10) + 5
    y = x[:, :6] @ torch.randn(6, 8) + torch.randn(64, 8) - 3
    assert cka(x, y, batch) == pytest.approx(by_definition(x, y), abs=1e-10)
    assert cka(x, y, batch) == pytest.approx(by_kernels(x, y), abs=1e-10)


def test_every_block_with_every_block():
    torch.manual_seed(0)
    first = [torch.randn(40, 5), torch.randn(40, 3, 2, 2)]
    second = [torch.randn(40, 4), first[0] @ torch.randn(5, 5), torch.randn(40, 2)]
    found = BlockCKA()
    for start in range(0, 40, 9):
        found.update([block[start:start + 9] for block in first], [block[start:start + 9] for block in second])
    pooled = [first[0], first[1].double().mean((2, 3))]
    wanted = torch.tensor([[by_definition(x, y) for y in second] for x in pooled], dtype=torch.float64)
    assert torch.allclose(found.values(), wanted, atol=1e-10, rtol=0)


def test_rotation_scale_and_shift_do_not_matter_and_noise_is_not_alike():
    torch.manual_seed(0)
    x = torch.randn(200, 16, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]
    assert cka(x, 7 * x @ rotation + 1) == pytest.approx(1)
    assert cka(x, torch.randn(200, 16)) < 0.2


def test_maps_are_pooled():
    torch.manual_seed(0)
    x, y = torch.randn(20, 3, 4, 5), torch.randn(20, 6)
    assert cka(x, y) == pytest.approx(by_definition(x.double().mean((2, 3)), y), abs=1e-10)


@pytest.mark.parametrize('x, y, message', [
    (torch.randn(3, 2), torch.randn(4, 2), 'blocks of .3, 4. rows'),
    (torch.randn(1, 2), torch.randn(1, 2), '1 images'),
    (torch.ones(3, 2), torch.randn(3, 2), 'the same for every image'),
    (torch.full((3, 2), torch.nan), torch.randn(3, 2), 'not finite')])
def test_what_has_no_alignment(x, y, message):
    found = BlockCKA()
    with pytest.raises(ValueError, match=message):
        found.update([x], [y])
        found.values()
