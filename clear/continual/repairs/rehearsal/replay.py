"""Avalanche 0.6's memory methods, repaired. `legacy=True` keeps what it did."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from avalanche.benchmarks.utils import _make_taskaware_classification_dataset
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.training.plugins import GDumbPlugin as AvalancheGDumbPlugin
from avalanche.training.plugins import GSS_greedyPlugin as AvalancheGSSPlugin
from avalanche.training.plugins import MIRPlugin as AvalancheMIRPlugin
from avalanche.training.plugins import RARPlugin as AvalancheRARPlugin
from avalanche.training.plugins import ReplayPlugin as AvalancheReplayPlugin
from avalanche.training.supervised import MIR as AvalancheMIR
from avalanche.training.supervised import GSS_greedy as AvalancheGSS
from torch import Tensor

from clear.continual.buffers import ClassBalancedBuffer, ExperienceBalancedBuffer
from clear.continual.repairs.regularisation.regularisers import replace_plugin
from clear.continual.repairs.split_model import split
from clear.continual.training.loaders import endless_batches
from clear.core.errors import ConfigError
from clear.core.modes import modes_kept
from clear.registry import PLUGINS, STRATEGIES

if TYPE_CHECKING:
    from avalanche.training.storage_policy import ExemplarsBuffer


@PLUGINS.register_module()
class ReplayPlugin(AvalancheReplayPlugin, supports_distributed=True):
    """Experience replay (Chaudhry et al. 2019, arXiv:1902.10486): a batch of the memory beside every new one.

    Args:
        mem_size: samples in memory.
        batch_size, batch_size_mem: new samples and memories in a batch; the strategy's `train_mb_size` by default.
        task_balanced_dataloader: take equally many memory samples of each experience.
        storage_policy: any memory of that size; by default equal shares per experience.
        legacy: Avalanche's shares in the default memory.

    Raises:
        ConfigError: for `legacy` beside a memory, which has a key of its own; before training, for fewer memories in a
            batch than experiences that they are to be taken of.
    """

    unmixed_batches = 'first'

    def __init__(self, mem_size: int = 200, batch_size: int | None = None, batch_size_mem: int | None = None,
                 task_balanced_dataloader: bool = False, storage_policy: ExemplarsBuffer | None = None, *,
                 legacy: bool = False):
        if legacy and storage_policy is not None:
            raise ConfigError('legacy is about the default memory; set it in storage_policy, or leave it out.')
        storage_policy = storage_policy or ExperienceBalancedBuffer(mem_size, legacy=legacy)
        super().__init__(mem_size, batch_size, batch_size_mem, task_balanced_dataloader, storage_policy)

    def before_training_exp(self, strategy, **kwargs):
        if self.task_balanced_dataloader:
            earlier = strategy.experience.origin_stream[:-1]
            tasks = {label for experience in earlier for label in experience.task_labels}
            size = self.batch_size_mem or strategy.train_mb_size
            if size < len(tasks):
                raise ConfigError(f'task_balanced_dataloader needs a memory sample of each of {len(tasks)} earlier '
                                  f'experiences in a batch, but batch_size_mem is {size}. Use at least {len(tasks)}, '
                                  'or leave task_balanced_dataloader out.')
        super().before_training_exp(strategy, **kwargs)


@PLUGINS.register_module()
class GDumbPlugin(AvalancheGDumbPlugin, supports_distributed=True):
    """Train on nothing but a class-balanced memory, from the first weights (Prabhu et al. 2020).

    Args:
        mem_size: samples in memory.
        legacy: Avalanche's shares.
    """

    def __init__(self, mem_size: int = 200, *, legacy: bool = False):
        super().__init__(mem_size)
        self.storage_policy = ClassBalancedBuffer(mem_size, legacy=legacy)


@PLUGINS.register_module()
class MIRPlugin(AvalancheMIRPlugin):
    """Maximally interfered retrieval (Aljundi et al. 2019, arXiv:1908.04742): replay what the next step harms most.

    Algorithm 1: of `subsample` random memories those `batch_size_mem` are replayed whose loss grows most by a step on
    the new batch alone, to which their loss is added. Avalanche 0.6 leaves the classes of the last batch of an
    experience out of its memory, so where buckets share their classes it replays by the luck of that batch, or nothing;
    the paper has no such filter. Here the memory is all earlier experiences, and a batch is what there is.

    Args:
        batch_size_mem: samples replayed in an iteration, or all there are.
        mem_size: samples in memory, in equal shares per class.
        subsample: candidates in an iteration.
        legacy: Avalanche's filter, and its shares of the memory.

    Raises:
        ConfigError: before training, if the loss has no attribute `reduction`.
    """

    unmixed_batches = 'every'
    method_version = 2
    method_remedy = 'legacy=True, of MIR or its plugin, brings the earlier form back'

    def __init__(self, batch_size_mem: int, mem_size: int = 200, subsample: int = 200, *, legacy: bool = False):
        super().__init__(batch_size_mem, mem_size, subsample)
        self.storage_policy = ClassBalancedBuffer(mem_size, legacy=legacy)
        self.legacy = legacy
        if legacy:
            self.method_version = 1

    def before_training(self, strategy, **kwargs):
        if not hasattr(strategy._criterion, 'reduction'):
            name = type(strategy._criterion).__name__
            raise ConfigError(f'MIR ranks memories by the loss of each, but {name} has no reduction that gives it. '
                              'Use a loss with one, such as CrossEntropyLoss.')

    def before_training_exp(self, strategy, **kwargs):
        if not self.legacy and len(self.storage_policy.buffer):
            self.replay_loader = endless_batches(self.storage_policy.buffer, self.subsample)

    def before_backward(self, strategy, **kwargs):
        asked = self.batch_size_mem
        if not self.legacy and self.replay_loader is not None:
            # Avalanche's slice takes too few where there are fewer candidates.
            self.batch_size_mem = min(asked, self.replay_loader.loader.batch_sizes[0])
        super().before_backward(strategy, **kwargs)
        self.batch_size_mem = asked

    def after_training_exp(self, strategy, **kwargs):
        if self.legacy:
            super().after_training_exp(strategy, **kwargs)
            return
        self.replay_loader = None
        self.storage_policy.post_adapt(strategy, strategy.experience)


@STRATEGIES.register_module()
class MIR(AvalancheMIR):
    """Avalanche's strategy with the repaired plugin.

    Args:
        mem_size, batch_size_mem, subsample, legacy: the plugin's.
    """

    unmixed_batches = 'every'

    def __init__(self, *, legacy: bool = False, **kwargs):
        super().__init__(**kwargs)
        replace_plugin(self, AvalancheMIRPlugin,
                       lambda old: MIRPlugin(old.batch_size_mem, old.mem_size, old.subsample, legacy=legacy))


@PLUGINS.register_module()
class GSS_greedyPlugin(AvalancheGSSPlugin):
    """Gradient-based sample selection, greedy (Aljundi et al. 2019, arXiv:1903.08671).

    In Avalanche 0.6 a memory smaller than a batch leaves no gradient to compare with (`max` of an empty list), the
    gradients of the comparisons stay in the model and are added to the update, samples that come out of the memory
    are offered to it again, and slots not yet filled are replayed as zeros of class 0. Here none of this happens, and
    the shape of a sample is taken from the first batch.

    Args:
        mem_size: samples in the memory.
        mem_strength: subsets of the memory whose gradients a candidate is compared with.
        input_size: shape of one sample; found out if left out.
        legacy: keep Avalanche's behaviour; `input_size` is then needed.
    """

    one_head = True

    def __init__(self, mem_size: int = 200, mem_strength: int = 5, input_size: list[int] | None = None, *,
                 legacy: bool = False):
        if legacy and input_size is None:
            raise ValueError('legacy GSS_greedy needs input_size, the shape of one sample.')
        super().__init__(mem_size, mem_strength, list(input_size or []))
        self.legacy = legacy

    @property
    def device(self) -> torch.device:
        return self.buffer_score.device

    @device.setter
    def device(self, _device) -> None:
        """Avalanche assigns it; the tensors' own device is right."""

    def before_training_exp(self, strategy, num_workers=0, shuffle=True, **kwargs):
        if self.legacy:
            super().before_training_exp(strategy, num_workers=num_workers, shuffle=shuffle, **kwargs)
            return
        filled = self.ext_mem_list_current_index
        if filled == 0:
            return
        targets = self.ext_mem_list_y[:filled].cpu()
        memory = _make_taskaware_classification_dataset(
            list(zip(self.ext_mem_list_x[:filled].cpu(), targets)), targets=targets.tolist())
        strategy.dataloader = ReplayDataLoader(
            strategy.adapted_dataset, memory, oversample_small_tasks=True, num_workers=num_workers,
            batch_size=strategy.train_mb_size, batch_size_mem=min(filled, strategy.train_mb_size), shuffle=shuffle)

    def get_rand_mem_grads(self, strategy, grad_dims, gss_batch_size):
        if self.legacy:
            return super().get_rand_mem_grads(strategy, grad_dims, gss_batch_size)
        # A subset is never larger than the memory, so there is always one to compare with.
        return super().get_rand_mem_grads(strategy, grad_dims, min(gss_batch_size, self.ext_mem_list_current_index))

    def after_forward(self, strategy, num_workers=0, shuffle=True, **kwargs):
        if self.legacy:
            super().after_forward(strategy, num_workers=num_workers, shuffle=shuffle, **kwargs)
            return
        if self.ext_mem_list_current_index == 0 and self.ext_mem_list_x.ndim == 1:
            shape = strategy.mb_x.shape[1:]
            self.ext_mem_list_x = strategy.mb_x.new_zeros((self.mem_size, *shape))
        batch = strategy.mbatch
        # New samples come first in a batch. Avalanche draws as many places as candidates, without replacement, from
        # scores of which the lowest is 0.
        count = min(strategy.train_mb_size, len(batch[0]))
        if self.ext_mem_list_current_index >= self.mem_size:
            scores = self.buffer_score
            count = min(count, int((scores > scores.min()).sum()))
        if count:
            strategy.mbatch = [column[:count] for column in batch]
            with modes_kept(strategy.model):
                super().after_forward(strategy, num_workers=num_workers, shuffle=shuffle, **kwargs)
            strategy.mbatch = batch
        strategy.optimizer.zero_grad()


@STRATEGIES.register_module()
class GSS_greedy(AvalancheGSS):
    """Avalanche's strategy with the repaired plugin.

    Args:
        legacy: keep Avalanche's behaviour.
    """

    one_head = True
    unmixed_batches = 'first'

    def __init__(self, *, mem_size: int = 200, mem_strength: int = 1, input_size: list[int] | None = None,
                 legacy: bool = False, **kwargs):
        super().__init__(mem_size=mem_size, mem_strength=mem_strength, input_size=list(input_size or []), **kwargs)
        replace_plugin(self, AvalancheGSSPlugin,
                       lambda old: GSS_greedyPlugin(mem_size, mem_strength, input_size, legacy=legacy))


@PLUGINS.register_module()
class RARPlugin(AvalancheRARPlugin):
    """Retrospective adversarial replay (Kumari et al. 2022): replay memories pushed towards the decision boundary.

    Avalanche 0.6 aims each memory at the *farthest* sample of another class, where the paper takes the nearest, moves
    it away from that aim (it climbs the aim's loss), cuts inputs to 0 ... 1, which destroys features and normalised
    images, and takes `batch_size_mem` new samples for a batch from the second experience on. Here the nearest is
    approached, inputs are cut to the range of the batch of memories, and a batch has `train_mb_size` new samples. The
    paper's MixUp is left out, as in Avalanche. Features are those of the model before its last layer; Avalanche finds
    them by tracing, and ours cannot be traced.

    Args:
        legacy: Avalanche's method, for models that can be traced (no `ComposedClassifier`).
        kwargs: as in Avalanche.
    """

    one_head = True
    method_version = 2
    method_remedy = ''

    def __init__(self, batch_size_mem: int, mem_size: int = 200, opt_lr: float = 0.1, *, legacy: bool = False,
                 **kwargs):
        super().__init__(batch_size_mem, mem_size, opt_lr, **kwargs)
        self.legacy = legacy
        if legacy:
            self.method_version = 1

    def before_training_exp(self, strategy, num_workers=0, shuffle=True, drop_last=False, **kwargs):
        if self.legacy:
            super().before_training_exp(strategy, num_workers=num_workers, shuffle=shuffle, drop_last=drop_last,
                                        **kwargs)
        elif len(self.storage_policy.buffer):
            strategy.dataloader = ReplayDataLoader(
                strategy.adapted_dataset, self.storage_policy.buffer, oversample_small_tasks=True,
                num_workers=num_workers, batch_size=strategy.train_mb_size, batch_size_mem=self.batch_size_mem,
                shuffle=shuffle, drop_last=drop_last)

    def before_training(self, strategy, **kwargs):
        if self.legacy and hasattr(strategy.model, 'extract_features'):
            raise ConfigError('RARPlugin: legacy=True traces the model, which a ComposedClassifier does not allow.')
        if not self.legacy:
            split(strategy.model, 'RARPlugin')

    def before_backward(self, strategy, **kwargs):
        if self.legacy:
            super().before_backward(strategy, **kwargs)
            return
        memory = self.storage_policy.buffer
        if len(memory) == 0 or not self.use_adversarial_replay:
            return
        inputs, targets, *_ = (column.to(strategy.device) for column in next(RandomRows(memory, self.batch_size_mem)))
        perturbed = self._perturb(strategy, inputs, targets)
        strategy.loss += self.beta_coef * strategy._criterion(strategy.model(perturbed), targets)

    def _perturb(self, strategy, inputs: Tensor, targets: Tensor) -> Tensor:
        """Memories after an attack on the model as it will be after a step on the current batch."""
        ahead = copy.deepcopy(strategy.model)
        optimizer = torch.optim.SGD(ahead.parameters(), lr=self.opt_lr)
        optimizer.zero_grad()
        strategy._criterion(ahead(strategy.mb_x), strategy.mb_y).backward()
        optimizer.step()
        with torch.no_grad():
            distances = torch.cdist(ahead.get_features(inputs), ahead.get_features(strategy.mb_x))  # (M, N)
        distances[targets[:, None] == strategy.mb_y[None]] = float('inf')
        aims = strategy.mb_y[distances.argmin(1)]
        inputs = inputs.clone().requires_grad_(True)
        loss = strategy._criterion(ahead(inputs), aims)
        slope, = torch.autograd.grad(loss, inputs)
        inputs = inputs.detach()
        # One gradient with momentum, so every step has its sign; downhill, towards the class aimed at.
        reach = min(self.epsilon_fgsm, self.epsilon_fgsm / self.iter_fgsm * max(self.iter_fgsm - 1, 0))
        return (inputs - reach * slope.sign()).clamp(inputs.min().item(), inputs.max().item())


class RandomRows:
    """Endless random batches of a data set, drawn anew each time, so that there is no state to save.

    Args:
        dataset: of (input, target, task).
        batch_size: at most.
    """

    def __init__(self, dataset, batch_size: int):
        self.dataset = dataset
        self.batch_size = batch_size

    def __next__(self) -> tuple[Tensor, ...]:
        rows = torch.randperm(len(self.dataset))[:self.batch_size].tolist()
        columns = zip(*[self.dataset[row] for row in rows])
        return tuple(torch.stack([torch.as_tensor(value) for value in column]) for column in columns)
