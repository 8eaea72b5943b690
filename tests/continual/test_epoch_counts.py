"""Loss and accuracy of an epoch against loops over its samples, and the noise of a model beside the shared stream."""

import pytest
import torch

from clear.continual.training.counts import FOLDED_BATCHES, EpochCounts, sums_of_batch
from clear.continual.training.noise import NoiseStream


def batches(count, classes=3):
    """Batches of 1, 2, 3, 1, ... rows; every fourth has no logits, every fifth a class more."""
    generator = torch.Generator().manual_seed(count)
    for number in range(count):
        rows = number % 3 + 1
        logits = torch.randn(rows, classes + (number % 5 == 4), generator=generator)
        targets = torch.randint(classes, (rows,), generator=generator)
        yield torch.rand((), generator=generator), None if number % 4 == 3 else logits, targets, rows


def by_loop(noted):
    loss = sum(float(loss) for loss, _, _, rows in noted for _ in range(rows))
    rows = sum(rows for *_, rows in noted)
    judged = [(row.tolist(), int(target)) for _, logits, targets, _ in noted if logits is not None
              for row, target in zip(logits, targets)]
    return [loss, rows, sum(row.index(max(row)) == target for row, target in judged), len(judged)]


@pytest.mark.parametrize('count', [1, 4, FOLDED_BATCHES - 1, FOLDED_BATCHES, 2 * FOLDED_BATCHES + 5])
@pytest.mark.parametrize('divided', [False, True])
def test_sums_are_those_of_a_loop_over_samples(count, divided):
    counts, noted = EpochCounts(), list(batches(count))
    for number, (loss, logits, targets, rows) in enumerate(noted):
        if divided:
            counts.add(sums_of_batch(loss, logits, targets, rows))
        else:
            counts.note(loss, logits, targets, rows)
        if number == count // 2:  # the epoch is left and gone on with here
            counts = EpochCounts(sums=counts.sums())
    expected = by_loop(noted)
    assert counts.sums().tolist() == pytest.approx(expected, rel=1e-5)
    loss, accuracy = counts.means()
    assert loss == pytest.approx(expected[0] / expected[1], rel=1e-5) and accuracy == expected[2] / expected[3]


def test_a_look_at_the_loss_changes_no_sum():
    looked, other, noted = EpochCounts(), EpochCounts(), list(batches(2 * FOLDED_BATCHES + 5))
    for number, batch in enumerate(noted):
        looked.note(*batch)
        other.note(*batch)
        expected = by_loop(noted[:number + 1])
        assert looked.loss_so_far() == pytest.approx(expected[0] / expected[1], rel=1e-6)
    assert looked.sums().tolist() == other.sums().tolist()


def test_nothing_counted_has_no_mean():
    counts = EpochCounts()
    assert counts.loss_so_far() is None
    assert counts.means() == (None, None)
    counts.note(torch.tensor(2.0), None, torch.tensor([0, 1]), 2)
    assert counts.means() == (2.0, None)
    assert sums_of_batch(torch.tensor(2.0), torch.randn(1, 3), torch.tensor([0]), 0).tolist() == [0.0] * 4


def test_noise_follows_its_seed_and_leaves_the_shared_stream():
    noise = NoiseStream(torch.device('cpu'))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    drawn = []
    for step in (0, 1, 0):
        with noise.seeded('noise', step):
            drawn.append(torch.rand(4))
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], expected)


def test_a_model_that_draws_nothing_is_not_seeded_again(monkeypatch):
    noise, seeds = NoiseStream(torch.device('cpu')), []
    monkeypatch.setattr('clear.continual.training.noise.seed_torch', seeds.append)
    for step in range(3):
        with noise.seeded(step):
            pass
    assert len(seeds) == 1
