"""Loss and accuracy of an epoch, counted without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from clear.core import dist

# Batches whose loss and accuracy are counted together.
FOLDED_BATCHES = 32


class EpochCounts:
    """The sums of an epoch so far: batches are noted as they come, and added some at a time.

    The sums are (4,): loss x rows, rows, correct, and rows with logits. They are of all processes where each holds the
    whole batch, or where they were summed before they were added; in either case the epoch's means stay the same when
    every process continues with them.

    Args:
        device: of what is noted.
        sums: of the batches before, when an epoch goes on in the middle.
    """

    def __init__(self, device: torch.device | str = 'cpu', sums: Tensor | None = None):
        sums = torch.zeros(4, dtype=torch.float64) if sums is None else sums
        self._folded = sums.to(device)
        # Not folded yet: loss, logits (None where the output is none), targets, rows.
        self._batches: list[tuple[Tensor, Tensor | None, Tensor, int]] = []

    def note(self, loss: Tensor, logits: Tensor | None, targets: Tensor, rows: int) -> None:
        """Count a batch.

        Shape:
            loss: (), the mean over the rows
            logits: (B, C); None where the output is none    targets: (B,), or (B, C) of probabilities
        """
        self._batches.append((loss, logits, _classes(targets), rows))
        if len(self._batches) == FOLDED_BATCHES:
            self._fold()

    def add(self, sums: Tensor) -> None:
        """Count what `sums_of_batch` gave, summed over processes."""
        self._folded = self._folded + sums

    def sums(self) -> Tensor:
        """(4,), on the CPU."""
        if self._batches:
            self._fold()
        return self._folded.cpu()

    def means(self) -> tuple[float | None, float | None]:
        """Loss and accuracy over all processes; None where nothing was counted."""
        loss, rows, correct, judged = dist.sum_over_ranks(self.sums().to(self._folded.device)).tolist()
        return loss / rows if rows else None, correct / judged if judged else None

    def loss_so_far(self) -> float | None:
        """The mean loss of what was counted in this process, read from the device; None before the first batch.

        The sums stay as they are: folding now would round them otherwise than a run that was not looked at.
        """
        loss, rows = self._folded[:2].tolist()
        if self._batches:
            losses, _, _, counts = zip(*self._batches)
            loss += sum(value * count for value, count in zip(torch.stack(losses).tolist(), counts))
            rows += sum(counts)
        return loss / rows if rows else None

    def _fold(self) -> None:
        """Add the noted batches to the sums of the epoch: a few calls for all of them in place of some for each."""
        losses, outputs, targets, rows = zip(*self._batches)
        self._batches = []
        counts = torch.tensor(rows, dtype=torch.float64, device=self._folded.device)
        judged = [(output, target) for output, target in zip(outputs, targets) if output is not None]
        correct = counts.new_zeros(())
        if judged:
            outputs, targets = zip(*judged)
            is_correct = [output.argmax(1) == target for output, target in judged] \
                if len({output.shape[1] for output in outputs}) > 1 else \
                [torch.cat(outputs).argmax(1) == torch.cat(targets)]
            correct = torch.cat(is_correct).sum().double()
        self._folded = self._folded + torch.stack(
            [(torch.stack(losses).double() * counts).sum(), counts.sum(), correct,
             counts.new_tensor(sum(len(target) for _, target in judged))])


def sums_of_batch(loss: Tensor, logits: Tensor | None, targets: Tensor, rows: int) -> Tensor:
    """(4,): loss x rows, rows, correct and rows with logits of one process's part of a batch; `rows` may be 0."""
    sums = torch.zeros(4, device=targets.device)
    if rows:
        sums[0], sums[1] = loss * rows, rows
    if rows and logits is not None:
        sums[2], sums[3] = (logits.argmax(1) == _classes(targets)).sum(), rows
    return sums


def _classes(targets: Tensor) -> Tensor:
    # Of mixed samples a plugin may have made probabilities; the likeliest counts, as in Avalanche's accuracy.
    return targets.argmax(1) if targets.ndim == 2 else targets
