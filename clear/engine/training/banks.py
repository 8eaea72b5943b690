"""What locked towers of an ordinary run give: encoded once into banks, then read in place of pixels and texts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from clear.core.contracts import HasLockedTowers, ReadsStored
from clear.features.identity import ROOT
from clear.features.towers import TowerBank

if TYPE_CHECKING:
    from collections.abc import Callable

    from clear.engine.training.runner import Runner


def find_tower_banks(runner: Runner) -> dict[str, TowerBank | str]:
    """The bank of each locked tower with the weights that it has now; why it has none if its inputs change.

    Empty if the model or the data set knows of no banks, or `use_banks` is False. Hashes weights and asks for the size
    of every file; encodes nothing.
    """
    model, dataset = runner.bare_model, runner.train_dataloader.dataset
    if not runner.cfg.get('use_banks', True) or not isinstance(model, HasLockedTowers) \
            or not isinstance(dataset, ReadsStored):
        return {}
    towers = model.locked_towers()
    inputs = dataset.fixed_inputs() if towers else {}
    root = (runner.cfg.get('banks') or {}).get('root', ROOT)
    return {name: found if isinstance(found := inputs[name], str) else TowerBank.of(tower, found, root)
            for name, tower in towers.items()}


def describe_banks(runner: Runner) -> list[str]:
    """A line for each locked tower."""
    return [f'{name:<9} tower locked, ' + (f'runs in every step: {bank}' if isinstance(bank, str) else
                                           f'read from the bank {bank.describe()}')
            for name, bank in runner.tower_banks.items()]


def read_banks(runner: Runner) -> None:
    """Make or open the banks of a runner and let its training read them.

    With images in a bank there is nothing to decode: whole batches are indexed in this process, without workers.

    Raises:
        DataError: if a bank cannot be made.
    """
    loader = runner.train_dataloader
    banks = {name: bank for name, bank in runner.tower_banks.items() if isinstance(bank, TowerBank)}
    if not banks:
        return
    loader.dataset.read_stored({name: bank.make(runner.device, loader.num_workers) for name, bank in banks.items()})
    if 'image' in banks:
        loader.num_workers, loader.timeout = 0, 0
        loader.collate_fn = partial(_collated, collate=loader.collate_fn)


def _collated(samples: object, collate: Callable) -> object:
    return samples if isinstance(samples, Mapping) else collate(samples)
