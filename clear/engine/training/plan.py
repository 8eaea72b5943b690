"""What an ordinary run will do, before it does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.contracts import PlansAhead
from clear.datasets.loaders.samplers import GlobalBatchSampler
from clear.engine.training.banks import describe_banks
from clear.engine.training.hooks.checkpoint import CheckpointHook
from clear.engine.training.loading import SeededDataset, own_batch_sampler
from clear.engine.training.optimisation import wrappers_of

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from clear.engine.training.runner import Runner


def describe_run(runner: Runner, work_dir: Path, notes: Sequence[str] = ()) -> str:
    """Data, model, steps, memory and disk of a built runner, and `notes` on its config."""
    loop, model = runner.train_loop, runner.bare_model
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    wrapper = wrappers_of(runner.optim_wrapper)[0]
    optimizer = type(wrapper.optimizer).__name__
    # Momentum of SGD or LARS, and two moments of the Adam family.
    states = 2 if 'Adam' in optimizer else 1
    batch = _batch_size(loop.dataloader)
    dataset = loop.dataloader.dataset
    inner = dataset.dataset if isinstance(dataset, SeededDataset) else dataset
    kind = runner.cfg['train_dataloader']['dataset'].get('type')  # of a reader, the class says nothing
    micro = wrapper._accumulative_counts
    length = f'{loop.max_epochs} epochs of {len(loop.dataloader):,} = ' if runner.is_epoch_based else ''
    files = _files(runner)
    return '\n'.join([
        f'data      {kind if isinstance(kind, str) else type(inner).__name__}  {len(inner):,} samples',
        *_order(loop.dataloader),
        f'model     {type(model).__name__}  {sum(item.numel() for item in parameters):,} parameters, {trained:,} '
        'trained',
        *notes,
        *describe_banks(runner),
        *(line for hook in runner.hooks if isinstance(hook, PlansAhead) for line in hook.plan()),
        f'training  {length}{loop.max_iters:,} iterations  batch {batch} x {dist.world_size()} process(es)'
        + (f', {micro} batches per step' if micro > 1 else '')
        + f'  {optimizer} lr {wrapper.optimizer.param_groups[0]["lr"]:g}  {type(wrapper).__name__} on '
          f'{runner.device.type}',
        f'memory    about {(weights + (1 + states) * 4 * trained) / 2**20:,.0f} MiB without activations',
        f'disk      about {files * (weights + states * 4 * trained) / 2**20:,.0f} MiB for {files} checkpoint(s)',
        f'work_dir  {work_dir}'])


def _order(dataloader: DataLoader) -> list[str]:
    sampler = own_batch_sampler(dataloader)
    text = sampler.describe() if isinstance(sampler, GlobalBatchSampler) else ''
    return [f'order     {text}'] if text else []


def _batch_size(dataloader: DataLoader) -> int | str:
    sampler = own_batch_sampler(dataloader)
    return getattr(sampler, 'batch_size', '?')  # one of another library may have none


def _files(runner: Runner) -> int:
    """Checkpoints that lie there at the end, `latest.pth` among them."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if hook is None:
        return 0
    total = runner.max_epochs if hook.by_epoch else runner.max_iters
    kept = set(range(hook.interval, total + 1, hook.interval)) if hook.interval > 0 else set()
    milestones = {number for number in hook.milestones if number <= total}
    passing = min(len(kept - milestones), hook.max_keep or math.inf)
    # The last epoch and latest.pth are one file under two names.
    return int(passing) + len(milestones) + (0 if total in kept | milestones else 1)
