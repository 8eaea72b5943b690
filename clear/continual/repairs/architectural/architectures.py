"""Avalanche's architectural methods on our models, repaired: CWR*, AR1, PNN, PackNet."""

from __future__ import annotations

import copy

import numpy as np
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models.packnet import PackNetPlugin as AvalanchePackNetPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from clear.continual.repairs.architectural.networks import (
    PackedNetwork,
    ProgressiveNetwork,
)
from clear.continual.repairs.regularisation.synaptic_intelligence import RepairedSynapticIntelligencePlugin
from clear.continual.repairs.split_model import last_linear, need_parts, split
from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError
from clear.registry import PLUGINS, STRATEGIES


@PLUGINS.register_module()
class CWRStarPlugin(SupervisedPlugin):
    """CWR* (Lomonaco et al. 2020, arXiv:1907.03799): consolidate the last layer class by class.

    A class that comes back is averaged with weight sqrt(samples before / samples now). Avalanche keeps this memory as
    NumPy arrays on the model, which no checkpoint holds; here the plugin keeps it as tensors. Same arithmetic.
    Weights that are frozen are in eval mode too; in Avalanche the statistics of their BatchNorm still move.

    Args:
        freeze_remaining_model: train only the last layer after the first experience.
        legacy: frozen weights in train mode.
    """

    one_head = True
    method_version = 2
    method_remedy = 'legacy=True brings it back'

    def __init__(self, freeze_remaining_model: bool = True, *, legacy: bool = False):
        super().__init__()
        self.freeze_remaining_model = freeze_remaining_model
        self.legacy = legacy
        if legacy or not freeze_remaining_model:
            self.method_version = 1
        self.weights: dict[int, Tensor] = {}
        self.past: dict[int, int] = {}
        self.now: dict[int, int] = {}

    @property
    def unmixed_batches(self) -> str:
        return 'first' if self.freeze_remaining_model and not self.legacy else 'every'

    def before_training_exp(self, strategy, **kwargs):
        layer = last_linear(strategy.model)
        if self.freeze_remaining_model and strategy.clock.train_exp_counter > 0:
            strategy.model.requires_grad_(False)
            layer.requires_grad_(True)
        self.now = {}
        for label in map(int, strategy.experience.dataset.targets):
            self.now[label] = self.now.get(label, 0) + 1
        self.reset_weights(layer)

    def before_training_epoch(self, strategy, **kwargs):
        if self.freeze_remaining_model and not self.legacy and strategy.clock.train_exp_counter > 0:
            layer = last_linear(strategy.model)
            for module in strategy.model.modules():
                if layer not in module.modules():
                    module.eval()

    @torch.no_grad()
    def reset_weights(self, layer: nn.Linear) -> None:
        """Zero rows, but for the classes of this experience that are known."""
        layer.weight.fill_(0.0)
        for label, row in self.weights.items():
            if label in self.now:
                layer.weight[label].copy_(row)

    @torch.no_grad()
    def after_training_exp(self, strategy, **kwargs):
        layer = last_linear(strategy.model)
        labels = sorted(self.now)
        # NumPy, as in Avalanche: torch's mean rounds otherwise.
        weight = layer.weight.cpu().numpy()
        average = np.average(weight[labels])
        for label in labels:
            row = torch.from_numpy(weight[label] - average)
            if label in self.weights:
                share = (self.past[label] / self.now[label]) ** 0.5
                row = (self.weights[label].double() * share + row.double()) / (share + 1)
            self.weights[label] = row
            self.past[label] = self.past.get(label, 0) + self.now[label]
        for label, row in self.weights.items():
            layer.weight[label].copy_(row)


@STRATEGIES.register_module()
class CWRStar(Naive):
    """Fine-tuning with a `CWRStarPlugin` on the last layer of the model.

    Args:
        freeze_remaining_model, legacy: the plugin's.
    """

    one_head = True
    unmixed_batches = 'every'

    def __init__(self, *, freeze_remaining_model: bool = True, legacy: bool = False, plugins: list | None = None,
                 **kwargs):
        super().__init__(plugins=[*(plugins or []), CWRStarPlugin(freeze_remaining_model, legacy=legacy)], **kwargs)


@STRATEGIES.register_module()
class AR1(Naive):
    """AR1* (Pellegrini et al. 2020, arXiv:1912.01100): CWR*, Synaptic Intelligence, and replay of latents.

    Latents are what the head gets. After the first experience backbone and neck are frozen, in eval mode too, so that
    stored latents stay valid. Avalanche 0.6 always downloads a MobileNet, stores latents in the order of the shuffled
    loader beside labels in the order of the data set (so that they do not belong together), and replays them in one
    fixed order. Here the model is the config's, labels are stored with their latents, and each iteration draws anew.
    Departures: BatchNorm in place of batch renormalisation (its statistics are fixed while latents are replayed);
    optimiser and learning rate are the config's. Its Synaptic Intelligence is that of Maltoni and Lomonaco 2019
    (arXiv:1806.08568): importances are cut at 0.001, xi is 1e-7.

    Args:
        rm_sz: latents in the memory.
        ewc_lambda: weight of Synaptic Intelligence, lambda / 2 * Omega * distance^2; 0 for none.
        inc_lr: learning rate from the second experience on; None keeps the first.
    """

    one_head = True
    unmixed_batches = 'first'

    @staticmethod
    def prepare_model(model: nn.Module, **_) -> nn.Module:
        return split(model, 'AR1')

    def __init__(self, *, rm_sz: int = 1500, ewc_lambda: float = 0.0, inc_lr: float | None = None,
                 plugins: list | None = None, **kwargs):
        check_whole('rm_sz', rm_sz, 1)
        check_number('ewc_lambda', ewc_lambda, 0)
        plugins = list(plugins or [])
        if ewc_lambda:
            last = last_linear(kwargs['model'])
            name = next(name for name, module in kwargs['model'].named_modules() if module is last)
            plugin = RepairedSynapticIntelligencePlugin(ewc_lambda / 2, eps=1e-7, clip=0.001, penalty_in_path=True,
                                                        excluded_parameters=[name])
            plugin.method_version = 1  # with these settings it is the plugin that AR1 always had
            plugins.append(plugin)
        plugins.append(CWRStarPlugin(freeze_remaining_model=False))
        super().__init__(plugins=plugins, **kwargs)
        self.rm_sz = rm_sz
        self.inc_lr = inc_lr
        self.latents: Tensor | None = None
        self.latent_labels = torch.zeros(0, dtype=torch.int64)
        self.new_latents: list[Tensor] = []
        self.new_labels: list[Tensor] = []

    def _below_head(self) -> list[nn.Module]:
        return [part for part in (self.model.backbone, self.model.neck) if part is not None]

    def _before_training_exp(self, **kwargs):
        super()._before_training_exp(**kwargs)
        self.new_latents, self.new_labels = [], []
        if self.clock.train_exp_counter == 0:
            return
        for part in self._below_head():
            part.requires_grad_(False)
        if self.inc_lr is not None:
            for group in self.optimizer.param_groups:
                group['lr'] = self.inc_lr
        # Replayed classes keep their rows of the last layer too.
        plugin = next(plugin for plugin in self.plugins if isinstance(plugin, CWRStarPlugin))
        for label in self.latent_labels.tolist():
            plugin.now[label] = plugin.now.get(label, 0) + 1
        plugin.reset_weights(last_linear(self.model))

    def make_train_dataloader(self, **kwargs):
        whole, size, stored = self.train_mb_size, len(self.adapted_dataset), len(self.latent_labels)
        # New samples and latents share a batch in proportion to their numbers.
        self.train_mb_size = max(1, whole * size // (size + stored))
        super().make_train_dataloader(**kwargs)
        self.replay_mb_size, self.train_mb_size = whole - self.train_mb_size, whole

    def _before_forward(self, **kwargs):
        self.num_replayed = 0
        if self.latents is not None:
            rows = torch.randperm(len(self.latent_labels))[:self.replay_mb_size]
            self.num_replayed = len(rows)
            self.replayed = self.latents[rows].to(self.device)
            targets, tasks = self.mbatch[1], self.mbatch[-1]
            self.mbatch[1] = torch.cat([targets, self.latent_labels[rows].to(self.device)])
            self.mbatch[-1] = torch.cat([tasks, tasks.new_zeros(len(rows))])
        super()._before_forward(**kwargs)

    def forward(self):
        if not self.is_training:
            return super().forward()
        if self.clock.train_exp_counter > 0:
            for part in self._below_head():
                part.eval()
        latents = self.model.extract_features(self.mb_x)[-1]
        if self.clock.train_exp_epochs == 0:
            self.new_latents.append(latents.detach().cpu())
            self.new_labels.append(self.mb_y[:len(latents)].cpu())
        if self.num_replayed:
            latents = torch.cat([latents, self.replayed])
        return self.model._classify((latents,))

    def _after_training_exp(self, **kwargs):
        new, labels = torch.cat(self.new_latents), torch.cat(self.new_labels)
        share = min(self.rm_sz // (self.clock.train_exp_counter + 1), len(new))
        rows = torch.randperm(len(new))[:share]
        if self.latents is None:
            self.latents, self.latent_labels = new[rows], labels[rows]
        else:
            # As many leave as come in, beyond what is still free.
            stay = torch.randperm(len(self.latents))[:self.rm_sz - share].sort().values
            self.latents = torch.cat([self.latents[stay], new[rows]])
            self.latent_labels = torch.cat([self.latent_labels[stay], labels[rows]])
        self.new_latents, self.new_labels = [], []
        super()._after_training_exp(**kwargs)


@STRATEGIES.register_module()
class PNNStrategy(Naive):
    """Progressive networks (see `ProgressiveNetwork`) on features or flat images; the config's model gives way to them.

    Args:
        in_features: numbers in one sample; by default what the head takes, for a model of features.
        num_layers: hidden layers of each column, 1 ... 100.
        hidden_features_per_column, adapter: of the network.
    """

    one_head = True

    @staticmethod
    def prepare_model(model: nn.Module, *, device, in_features: int | None = None, num_layers: int = 1,
                      hidden_features_per_column: int = 100, adapter: str = 'mlp', **_) -> nn.Module:
        check_whole('num_layers', num_layers, 1, 100)  # each is built, and joined to all columns before
        check_whole('hidden_features_per_column', hidden_features_per_column, 1)
        if in_features is None:
            if getattr(model, 'backbone', None) is not None:
                raise ConfigError('PNNStrategy makes columns of its own and leaves out the backbone; on images set '
                                  'cl_strategy.in_features to channels x height x width, on features leave the '
                                  'backbone out.')
            need_parts(model, 'PNNStrategy', 'head')
            in_features = model.head.in_channels
        return ProgressiveNetwork(in_features, num_layers, hidden_features_per_column, adapter).to(device)

    def __init__(self, *, in_features: int | None = None, num_layers: int = 1, hidden_features_per_column: int = 100,
                 adapter: str = 'mlp', **kwargs):
        super().__init__(**kwargs)


class RepairedPackNetPlugin(AvalanchePackNetPlugin):
    """PackNet's phases, with a share that can be saved and an optimiser that stays the same object.

    Avalanche keeps the share as a function, replaces the optimiser at each experience, which a scheduler does not
    notice, and masks gradients only, so weight decay moves weights that are frozen. Here the optimiser's state is
    cleared, and weight decay is refused.
    """

    def __init__(self, post_prune_epochs: int, prune_proportion: float | list[float] = 0.5):
        shares = prune_proportion if isinstance(prune_proportion, list) else [prune_proportion]
        for share in shares:
            check_number('prune_proportion', share, 0, 1)
        super(AvalanchePackNetPlugin, self).__init__()  # past Avalanche's, which compares a function with numbers
        self.post_prune_epochs = post_prune_epochs
        self.total_epochs: int | None = None
        self.shares = prune_proportion

    @property
    def prune_proportion(self):
        shares = self.shares
        return lambda experience: shares[experience] if isinstance(shares, list) else shares

    def before_training_exp(self, strategy, *args, **kwargs):
        if any(group.get('weight_decay') for group in strategy.optimizer.param_groups):
            raise ConfigError('PackNet freezes weights by masking gradients, which weight decay gets round. Set '
                              'cl_strategy.optimizer.weight_decay to 0.')
        if isinstance(self.shares, list) and len(self.shares) <= strategy.clock.train_exp_counter:
            raise ConfigError(f'cl_strategy.prune_proportion of PackNet has {len(self.shares)} values; experience '
                              f'{strategy.clock.train_exp_counter} needs one more.')
        strategy.optimizer.state.clear()


@STRATEGIES.register_module()
class PackNet(Naive):
    """PackNet (see `PackedNetwork`): prune after each bucket, give the freed weights to the next.

    Avalanche 0.6 hands its plugins on as a list inside a list, so none that the caller gives is ever called.

    Args:
        post_prune_epochs: the last epochs of each experience, after pruning; fewer than train_epochs.
        prune_proportion: share of the weights that is freed, one number or one for each experience.
    """

    one_head = True

    @staticmethod
    def prepare_model(model: nn.Module, **_) -> nn.Module:
        return PackedNetwork(model)

    def __init__(self, *, post_prune_epochs: int, prune_proportion: float | list[float] = 0.5, train_epochs: int = 1,
                 plugins: list | None = None, **kwargs):
        if not 0 < post_prune_epochs < train_epochs:
            raise ValueError(f'post_prune_epochs is {post_prune_epochs}; expected at least 1 and fewer than '
                             f'train_epochs ({train_epochs}).')
        plugin = RepairedPackNetPlugin(post_prune_epochs, prune_proportion)
        super().__init__(plugins=[*(plugins or []), plugin], train_epochs=train_epochs, **kwargs)


def copy_of(model: nn.Module) -> nn.Module:
    """A frozen copy in eval mode."""
    return copy.deepcopy(model).eval().requires_grad_(False)
