"""What a run that continues another does at its end: weights between both, and how much each weight mattered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _NormBase

from clear.core import dist
from clear.core.checks import check_number, check_whole
from clear.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from clear.core.files import load_tensors, save_tensors
from clear.core.modes import eval_mode
from clear.core.seeding import derive_seed, get_rng_state, set_rng_state
from clear.models.checked import CheckedModel
from clear.models.importance import IMPORTANCE_FILE, read_importance
from clear.models.weights import local_weights
from clear.registry import HOOKS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clear.engine.training.runner import Runner


class AtTheEnd(Hook):
    """Does something once, after the last epoch and before it is measured and saved."""

    priority = 'ABOVE_NORMAL'

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.epoch + 1 == runner.max_epochs:
            self.finish(runner)

    def finish(self, runner: Runner) -> None:
        raise NotImplementedError


@HOOKS.register_module()
class WeightInterpolationHook(AtTheEnd):
    """The run ends with `(1 - weight) * those of load_from + weight * what it trained` (Patching, Ilharco et al. 2022,
    arXiv:2208.05592, after each bucket as in TiC-CLIP, Garg et al. 2023, arXiv:2310.16226).

    It holds for parameters and the running statistics of norms that `load_from` has. Other buffers, such as the queue
    or centre of a loss, stay as they were trained.

    Args:
        weight: of the new weights, above 0, below 1.
    """

    def __init__(self, weight: float = 0.5):
        self.weight = check_share('WeightInterpolationHook.weight', weight)

    def before_run(self, runner: Runner) -> None:
        if start_of(runner) is None:
            raise ConfigError('WeightInterpolationHook needs load_from: the weights that the run began with.')

    @torch.no_grad()
    def finish(self, runner: Runner) -> None:
        before = load_tensors(start_of(runner))
        before = before.get('state_dict', before)
        model = runner.bare_model
        statistics = {f'{prefix}.{name}'.lstrip('.') for prefix, part in model.named_modules()
                      if isinstance(part, _NormBase) for name in ('running_mean', 'running_var')}
        buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)} - statistics
        for name, now in model.state_dict().items():
            if now.is_floating_point() and name in before and name not in buffers:
                now.copy_(torch.lerp(before[name].to(now), now, self.weight))


@HOOKS.register_module()
class ImportanceHook(AtTheEnd):
    """Writes `importance.pth`: the squared gradients of the loss of a batch, mean over batches, for each parameter.

    Added to those in the folder of `load_from`, if there are any, so that a stream adds up its buckets. A loss that
    compares the rows of a batch has no gradient of one row, so the size of the batches is a part of what is measured
    (elastic weight consolidation, Kirkpatrick et al. 2017, arXiv:1612.00796, with the gradients of TiC-CLIP's form).
    Taken in eval mode, with the augmentations of an epoch that training does not have.

    Several processes share each batch as they share one of training, in order of rank; what is squared is the gradient
    of all of it, so that their number does not matter to a loss that gathers.

    Args:
        batch_size: samples of each batch, of all processes together.
        num_batches: at most so many; as many as the data give, if they are fewer.

    Raises:
        ConfigError: if the processes cannot share a batch alike.
        DataError: for data of less than one batch.
    """

    def __init__(self, batch_size: int = 64, num_batches: int = 16):
        self.batch_size = check_whole('ImportanceHook.batch_size', batch_size, 1)
        self.num_batches = check_whole('ImportanceHook.num_batches', num_batches, 1)

    def before_run(self, runner: Runner) -> None:
        if self.batch_size % dist.world_size():
            raise ConfigError(f'ImportanceHook.batch_size is {self.batch_size}, which {dist.world_size()} processes '
                              'cannot share alike. Use a multiple of their number.')
        size = len(runner.train_dataloader.dataset)
        if size < self.batch_size:
            raise DataError(f'ImportanceHook.batch_size is {self.batch_size}, but there are {size} samples.')

    def finish(self, runner: Runner) -> None:
        model, numbers = runner.bare_model, get_rng_state()
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        try:
            with eval_mode(model), torch.enable_grad():
                found = self._measure(runner, model)
        finally:
            set_rng_state(numbers)
            model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, value in model.named_buffers():
                    value.copy_(buffers[name])
        start = start_of(runner)
        before = read_importance(start) if start is not None and (start.parent / IMPORTANCE_FILE).is_file() else {}
        if dist.is_main():
            save_tensors(Path(runner.work_dir) / IMPORTANCE_FILE,
                         {name: value.cpu() + before.get(name, 0) for name, value in found.items()})
        dist.barrier()  # The next bucket's run reads the file in every process.

    def _measure(self, runner: Runner, model: nn.Module) -> dict[str, Tensor]:
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        sums = {name: torch.zeros_like(value) for name, value in trained.items()}
        count = 0
        for batch in self._batches(runner):
            losses = model(**model.data_preprocessor(batch, training=False), mode='loss')
            added = model.added_losses if isinstance(model, CheckedModel) else ()
            loss, _ = model.parse_losses({name: value for name, value in losses.items() if name not in added})
            if dist.any_rank(not math.isfinite(loss.item()), loss.device):
                raise TrainingError(f'ImportanceHook: the loss of a batch is {loss.item()}.')
            grads = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
            grads = [torch.zeros_like(value) if grad is None else grad for value, grad in zip(trained.values(), grads)]
            dist.sum_flat(grads)
            for total, grad in zip(sums.values(), grads):
                total += (grad / dist.world_size()).square()
            count += 1
        return {name: total / count for name, total in sums.items()}

    def _batches(self, runner: Runner) -> Iterator[dict]:
        dataset = runner.train_dataloader.dataset
        generator = torch.Generator().manual_seed(derive_seed('importance', runner.seed or 0))
        order = torch.randperm(len(dataset), generator=generator).tolist()
        own = self.batch_size // dist.world_size()
        for start in range(0, min(len(order) // self.batch_size, self.num_batches) * self.batch_size, self.batch_size):
            first = start + dist.rank() * own
            keys = [(runner.max_epochs, row) for row in order[first:first + own]]
            # As a loader asks for them: a data set that reads from banks gives whole batches.
            whole = getattr(dataset, '__getitems__', None)
            yield runner.train_dataloader.collate_fn(whole(keys) if whole else [dataset[key] for key in keys])


def check_share(name: str, value: float) -> float:
    """A number above 0 and below 1."""
    if check_number(name, value, above=0, most=1) == 1:
        raise ConfigError(f'{name} is {value!r}; expected a number above 0 and below 1.')
    return value


def start_of(runner: Runner) -> Path | None:
    """The file that a run starts from."""
    start = runner.cfg.get('load_from')
    if not start:
        return None
    start = start if isinstance(start, dict) else dict(path=start)
    path = start.get('path')
    if path is None:
        raise CheckpointError('load_from lacks path.')
    return local_weights(path, start.get('sha256'))
