"""Avalanche's feature replay on our models, with a memory that can be saved."""

from __future__ import annotations

import torch
from avalanche.training.supervised import FeatureReplay as AvalancheFeatureReplay
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clear.continual.buffers.balanced import share_out
from clear.continual.repairs.losses import MaskedCrossEntropy
from clear.continual.repairs.split_model import no_grad_features, split
from clear.core.errors import ConfigError
from clear.registry import STRATEGIES


class FeatureMemory:
    """A class-balanced memory of features, as tensors: random samples of each class, as many of each as of the others.

    Every feature has a random key; those with the largest keys stay, which is a uniform sample of all that came.
    Places that a rare class cannot fill go to the others.

    Args:
        max_size: features in all.
        legacy: such places stay empty.
    """

    def __init__(self, max_size: int, *, legacy: bool = False):
        self.max_size = max_size
        self.legacy = legacy
        self.features: dict[int, Tensor] = {}
        self.keys: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return sum(map(len, self.keys.values()))

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Offer features (N, D) with their labels (N,)."""
        for label in sorted(set(targets.tolist())):
            new = features[targets == label]
            keys = torch.rand(len(new))
            if label in self.keys:
                new, keys = torch.cat([self.features[label], new]), torch.cat([self.keys[label], keys])
            self.features[label], self.keys[label] = new, keys
        held = {label: self.max_size if self.legacy else len(keys) for label, keys in self.keys.items()}
        for label, size in share_out(self.max_size, held).items():
            order = self.keys[label].argsort(descending=True)[:size]
            self.features[label], self.keys[label] = self.features[label][order], self.keys[label][order]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """That many different features and their labels, or all there are."""
        features = torch.cat(list(self.features.values()))
        labels = torch.cat([torch.full((len(keys),), label) for label, keys in self.keys.items()])
        rows = torch.randperm(len(labels))[:count]
        return features[rows], labels[rows]


@STRATEGIES.register_module()
class FeatureReplay(AvalancheFeatureReplay):
    """Replay of features into the last layer; the rest of the model sees new samples only.

    Avalanche takes the last layer by its name out of the model, keeps features in data sets that no checkpoint holds,
    and waits for ever where the memory is smaller than a batch. Here the last layer is that of the head, the memory
    holds tensors, and a batch of it is drawn anew in every iteration. The loss is `MaskedCrossEntropy` over the
    classes seen so far unless another is given.

    Args:
        mem_size: features in the memory.
        batch_size_mem: of them in an iteration; None for train_mb_size.
        legacy: places of the memory that a rare class cannot fill stay empty.
    """

    unmixed_batches = 'every'
    own_loss = 'MaskedCrossEntropy'
    method_version = 2
    method_remedy = 'cl_strategy.legacy=True brings the earlier shares of the memory back'

    @staticmethod
    def prepare_model(model: nn.Module, **_) -> nn.Module:
        return split(model, 'FeatureReplay')

    def __init__(self, *, mem_size: int = 200, batch_size_mem: int | None = 10, criterion=None,
                 legacy: bool = False, **kwargs):
        # Past Avalanche's constructor, which would take the model apart.
        super(AvalancheFeatureReplay, self).__init__(criterion=criterion or MaskedCrossEntropy(), **kwargs)
        self.batch_size_mem = batch_size_mem or self.train_mb_size
        self.memory = FeatureMemory(mem_size, legacy=legacy)
        if legacy:
            self.method_version = 1
        self.full_criterion = nn.CrossEntropyLoss()

    def criterion(self, **kwargs):
        plain = self._criterion(self.mb_output, self.mb_y)
        if not self.is_training or not len(self.memory):
            return plain
        features, targets = (part.to(self.device) for part in self.memory.draw(self.batch_size_mem))
        last = self.model.train_classifier
        past = self.full_criterion(last(features), targets)
        now = self.full_criterion(last(self.model.features.detach()), self.mb_y)
        share = 1 / (self.clock.train_exp_counter + 1)
        return 0.5 * plain + 0.5 * ((1 - share) * past + share * now)

    def _after_training_exp(self, **kwargs):
        super(AvalancheFeatureReplay, self)._after_training_exp(**kwargs)
        classes = len({*self.memory.keys, *map(int, self.experience.dataset.targets)})
        if self.memory.max_size < classes:
            raise ConfigError(f'FeatureReplay: mem_size ({self.memory.max_size}) is smaller than the number of classes '
                              f'({classes}): some would be forgotten. Raise it.')
        loader = DataLoader(self.experience.dataset.eval(), batch_size=self.eval_mb_size)
        batches = [(no_grad_features(self.model, x.to(self.device)).cpu(), y) for x, y, *_ in loader]
        self.memory.add(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
