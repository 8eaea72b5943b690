"""Avalanche's class-incremental methods: they need classes that arrive once, and refuse buckets that share classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from avalanche.training.plugins import BiCPlugin as AvalancheBiCPlugin
from avalanche.training.supervised import BiC as AvalancheBiC
from avalanche.training.supervised import ICaRL as AvalancheICaRL
from avalanche.training.supervised import Naive
from avalanche.training.supervised.icarl import _ICaRLPlugin
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clear.continual.buffers import ClassBalancedBuffer, ExperienceBalancedBuffer
from clear.continual.repairs.losses import ICaRLLossPlugin
from clear.continual.repairs.regularisation.regularisers import replace_plugin
from clear.continual.repairs.rehearsal.replay import ReplayPlugin
from clear.continual.repairs.split_model import split, with_eval_classifier
from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError
from clear.registry import PLUGINS, STRATEGIES

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset


def need_disjoint_classes(experience, name: str) -> None:
    """Refuse a stream in which a class comes back.

    Raises:
        ConfigError: naming the two experiences.
    """
    first: dict[int, int] = {}
    for position, other in enumerate(experience.origin_stream):
        for label in sorted(map(int, other.classes_in_this_experience)):
            if label in first:
                raise ConfigError(f'{name} is for class-incremental streams, where each class comes once; here class '
                                  f'{label} is in experiences {first[label]} and {position}. On streams like CLEAR '
                                  'use Replay, ER_ACE, DER or a regulariser.')
            first[label] = position


class DisjointClasses:
    """Comes first among the bases of a strategy for class-incremental streams, and checks the stream."""

    disjoint_classes = True

    def _before_training_exp(self, **kwargs):
        if self.clock.train_exp_counter == 0:
            need_disjoint_classes(self.experience, type(self).__name__)
        super()._before_training_exp(**kwargs)


@STRATEGIES.register_module()
class ICaRL(DisjointClasses, AvalancheICaRL):
    """iCaRL (Rebuffi et al. 2017, arXiv:1611.07725): exemplars by herding, nearest mean of exemplars to classify.

    Avalanche takes a feature extractor and a classifier; here both are cut out of the model (see
    `split_model.split`), classes not yet seen are never predicted, and the old model whose outputs are held is in eval
    mode. The loss is iCaRL's own.

    Args:
        memory_size: exemplars in all, or of each class if not `fixed_memory`.
        buffer_transform: transform of exemplars, as they are kept after the evaluation transform; None for none.
        fixed_memory: divide `memory_size` over the classes seen.
        legacy: let unseen classes, as zero vectors, be predicted, and leave the old model in train mode.
    """

    unmixed_batches = 'first'
    own_loss = True

    @staticmethod
    def prepare_model(model: nn.Module, *, legacy: bool = False, **_) -> nn.Module:
        return with_eval_classifier(model, 'ncm', 'ICaRL', normalize=True, legacy=legacy)

    def __init__(self, *, memory_size: int, buffer_transform=None, fixed_memory: bool = True, legacy: bool = False,
                 plugins: list | None = None, **kwargs):
        check_whole('memory_size', memory_size, 1)
        criterion = ICaRLLossPlugin(legacy=legacy)
        plugins = [*(plugins or []), _ICaRLPlugin(memory_size, buffer_transform, fixed_memory), criterion]
        # Past Avalanche's constructor, which makes a model of its own.
        super(AvalancheICaRL, self).__init__(criterion=criterion, plugins=plugins, **kwargs)
        self.legacy = legacy

    def _before_training_exp(self, **kwargs):
        if not hasattr(self.experience.benchmark, 'classes_order'):
            need_disjoint_classes(self.experience, 'ICaRL')
            raise ConfigError('ICaRL needs the order of the classes, which only streams made by `nc_benchmark` know.')
        super()._before_training_exp(**kwargs)


class BiasCorrection(nn.Module):
    """logits -> alpha * logits + beta for some classes, the rest as they are (Wu et al. 2019, arXiv:1905.13260).

    Args:
        num_classes: all classes.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1), requires_grad=False)
        self.beta = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.register_buffer('is_new', torch.zeros(num_classes, dtype=torch.bool))

    @property
    def clss(self) -> Tensor:
        """The classes that are corrected; Avalanche's name."""
        return self.is_new.nonzero().flatten()

    def restart(self, classes: list[int]) -> None:
        """Identity, over these classes from now on."""
        with torch.no_grad():
            self.alpha.fill_(1.0)
            self.beta.fill_(0.0)
            self.is_new.fill_(False)
            self.is_new[classes] = True

    def forward(self, logits: Tensor) -> Tensor:
        return torch.where(self.is_new, self.alpha * logits + self.beta, logits)


@PLUGINS.register_module()
class BiCPlugin(AvalancheBiCPlugin):
    """Bias correction (Wu et al. 2019, arXiv:1905.13260) with the torch of today.

    Avalanche 0.6 asks torch for a scheduler argument that is gone (`verbose`), corrects outputs only in its own
    evaluation, and takes the validation samples out of the experience for good. Here the second stage is written
    out, the correction is a part of the model in eval mode, and the experience is left whole. The distillation is
    section 3.1's: with pi the softmax over the old classes of logits / T, -sum_k pi_old,k log pi_new,k, the mean over
    the batch. Avalanche's targets are a softmax over the batch, at a fixed temperature of 2.

    Args:
        legacy: Avalanche's targets.
        kwargs: as in Avalanche.
    """

    method_version = 2
    method_remedy = 'legacy=True brings it back'

    def __init__(self, *, T: float = 2, lamb: float = -1, legacy: bool = False, **kwargs):
        check_number('T', T, above=0)
        if lamb != -1:  # that is: the share of the old classes
            check_number('lamb', lamb, 0)
        self._correction: BiasCorrection | None = None
        self._is_corrected = False
        super().__init__(T=T, lamb=lamb, **kwargs)
        if kwargs.get('storage_policy') is None:
            self.storage_policy = ExperienceBalancedBuffer(self.mem_size, legacy=legacy)
        self.legacy = legacy
        if legacy:
            self.method_version = 1

    def cross_entropy(self, new_outputs: Tensor, old_outputs: Tensor) -> Tensor:
        """Of the logits of the old classes, new and old: (N, C) -> ()."""
        if self.legacy:
            return super().cross_entropy(new_outputs, old_outputs)
        return nn.functional.cross_entropy(new_outputs / self.T, (old_outputs / self.T).softmax(1))

    @property
    def bias_layer(self) -> BiasCorrection | None:
        return self._correction if self._is_corrected else None

    @bias_layer.setter
    def bias_layer(self, _layer) -> None:
        """Avalanche makes a new layer each time; ours stays in the model."""

    def prepare_model(self, model: nn.Module) -> nn.Module:
        self._correction = BiasCorrection(split(model, 'BiC').num_classes)
        return _with_correction(model, self._correction, 'BiC')

    def before_train_dataset_adaptation(self, strategy, **kwargs):
        need_disjoint_classes(strategy.experience, 'BiC')
        whole = strategy.experience.dataset
        super().before_train_dataset_adaptation(strategy, **kwargs)
        self._training_part, strategy.experience.dataset = strategy.experience.dataset, whole

    def after_train_dataset_adaptation(self, strategy, **kwargs):
        strategy.adapted_dataset = self._training_part.train()

    def after_eval_forward(self, strategy, **kwargs):
        """The model corrects its outputs itself."""

    def after_training_exp(self, strategy, **kwargs):
        whole, strategy.experience.dataset = strategy.experience.dataset, self._training_part
        # The teacher and the second stage see outputs that are not corrected.
        self._correction.restart([])
        super().after_training_exp(strategy, **kwargs)
        strategy.experience.dataset = whole

    def bias_correction_step(self, strategy, persistent_workers: bool = False, num_workers: int = 0):
        layer, model = self._correction, strategy.model
        model.eval()
        layer.restart(sorted(set(map(int, self._training_part.targets))))
        self._is_corrected = True
        del model.output_correction  # while it is trained: the model gives it what it gets
        layer.requires_grad_(True)
        optimizer = torch.optim.SGD(layer.parameters(), lr=self.lr, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[50, 100, 150], gamma=0.1)
        data = [buffer.buffer for buffer in self.val_buffer.values()]
        loader = DataLoader(_joined(data), batch_size=strategy.train_mb_size, shuffle=True, num_workers=num_workers)
        for _ in range(self.stage_2_epochs):
            for x, y, *_ in loader:
                with torch.no_grad():
                    logits = model(x.to(strategy.device))
                loss = nn.functional.cross_entropy(layer(logits), y.to(strategy.device))
                loss = loss + 0.1 * layer.beta.sum() ** 2 / 2
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
        layer.requires_grad_(False)
        for parameter in layer.parameters():
            parameter.grad = None
        model.output_correction = layer


def _joined(datasets: list) -> AvalancheDataset:
    from avalanche.benchmarks.utils.utils import concat_datasets

    return concat_datasets(datasets)


def _with_correction(model: nn.Module, correction: nn.Module, wanted_by: str) -> nn.Module:
    model = split(model, wanted_by)
    model.output_correction = correction.to(next(model.parameters()).device)
    return model


@STRATEGIES.register_module()
class BiC(DisjointClasses, AvalancheBiC):
    """Avalanche's strategy with the repaired plugin.

    Args:
        legacy: the plugin's.
        kwargs: as in Avalanche.
    """

    def __init__(self, *, legacy: bool = False, **kwargs):
        super().__init__(**kwargs)
        names = ('mem_size', 'batch_size', 'batch_size_mem', 'task_balanced_dataloader',
                 'val_percentage', 'T', 'stage_2_epochs', 'lamb', 'lr', 'num_workers')
        replace_plugin(self, AvalancheBiCPlugin,
                       lambda old: BiCPlugin(**{name: getattr(old, name) for name in names}, legacy=legacy))
        next(plugin for plugin in self.plugins if type(plugin) is BiCPlugin).prepare_model(self.model)


class ScoreRectification(nn.Module):
    """Raises the scores of past classes where a new class is predicted (IL2M; see there).

    Args:
        num_classes: all classes.

    Shape:
        logits: (N, C)   returns: (N, C), logarithms of the scores
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.register_buffer('factors', torch.ones(num_classes))
        self.register_buffer('is_new', torch.zeros(num_classes, dtype=torch.bool))

    def forward(self, logits: Tensor) -> Tensor:
        scores = logits.log_softmax(1)
        predicts_new = self.is_new[scores.argmax(1)]
        return torch.where(predicts_new[:, None], scores + self.factors.log(), scores)


@PLUGINS.register_module()
class IL2MPlugin(ReplayPlugin):
    """Dual memory (Belouadah and Popescu 2019): replay, and scores of past classes rectified by saved statistics.

    Where a new class is predicted, the score of a past class c is multiplied by
    (mean score of c when it was new / mean score of c now) x (confidence now / confidence when c was new): equation 2
    of the paper. Mean scores are over the training samples of a class when it is new and over its memories
    afterwards; the confidence is the mean top score over the new samples of an experience. Avalanche 0.6.0 has no
    IL2M (a later version does); this is written from the paper.

    Args:
        mem_size: samples in the memory, balanced over classes.
        batch_size, batch_size_mem: new samples and memories in a batch; the strategy's by default.
    """

    def __init__(self, mem_size: int = 2000, batch_size: int | None = None, batch_size_mem: int | None = None):
        super().__init__(mem_size, batch_size=batch_size, batch_size_mem=batch_size_mem,
                         storage_policy=ClassBalancedBuffer(mem_size))
        self.first_score: dict[int, float] = {}  # of each class, when it was new
        self.learned_in: dict[int, int] = {}  # the experience in which it was
        self.confidence: list[float] = []  # of each experience

    def prepare_model(self, model: nn.Module) -> nn.Module:
        return _with_correction(model, ScoreRectification(split(model, 'IL2M').num_classes), 'IL2M')

    def after_training_exp(self, strategy, **kwargs):
        super().after_training_exp(strategy, **kwargs)
        correction = strategy.model.output_correction
        correction.is_new.fill_(False)  # scores below are not rectified
        experience = strategy.clock.train_exp_counter
        new, top = _mean_scores(strategy, strategy.experience.dataset)
        self.confidence.append(top)
        for label, score in new.items():
            self.first_score[label], self.learned_in[label] = score, experience
        now, _ = _mean_scores(strategy, self.storage_policy.buffer)
        correction.factors.fill_(1.0)
        for label, score in self.first_score.items():
            if label not in new and label in now:
                confidence = self.confidence[experience] / self.confidence[self.learned_in[label]]
                correction.factors[label] = score / max(now[label], 1e-12) * confidence
        correction.is_new[sorted(new)] = True


@torch.no_grad()
def _mean_scores(strategy, dataset) -> tuple[dict[int, float], float]:
    """The mean score that samples of each class give their own class, and the mean of the top scores."""
    strategy.model.eval()
    sums: dict[int, list[float]] = {}
    tops = []
    for x, y, *_ in DataLoader(dataset.eval(), batch_size=strategy.eval_mb_size):
        scores = strategy.model(x.to(strategy.device)).softmax(1).cpu()
        tops += scores.max(1).values.tolist()
        for label, row in zip(y.tolist(), scores):
            sums.setdefault(label, []).append(float(row[label]))
    strategy.model.train()
    return {label: sum(values) / len(values) for label, values in sums.items()}, sum(tops) / len(tops)


@STRATEGIES.register_module()
class IL2M(DisjointClasses, Naive):
    """Fine-tuning with an `IL2MPlugin` (see there).

    Args:
        mem_size, batch_size_mem: the plugin's.
    """

    unmixed_batches = 'first'

    @staticmethod
    def prepare_model(model: nn.Module, **_) -> nn.Module:
        return _with_correction(model, ScoreRectification(split(model, 'IL2M').num_classes), 'IL2M')

    def __init__(self, *, mem_size: int = 2000, batch_size_mem: int | None = None, plugins: list | None = None,
                 **kwargs):
        super().__init__(plugins=[*(plugins or []), IL2MPlugin(mem_size, batch_size_mem=batch_size_mem)], **kwargs)
