"""Keep what an earlier encoder knew: its features, predicted from those of the encoder in training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from clear.core.checks import check_number
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors
from clear.models.losses import NegativeCosineSimilarity
from clear.models.necks import ProjectionMLP
from clear.models.selfsup.parts.base import SelfSupervisedModel
from clear.models.selfsup.parts.encoder import Encoder, build_part
from clear.models.towers.image.strip import pool
from clear.registry import MODELS


@MODELS.register_module(name='Distilled')
def distilled(model: dict | SelfSupervisedModel, previous: str | Path, weight: float = 1.0,
              hidden_channels: int = 2048) -> SelfSupervisedModel:
    """An algorithm with one more loss, `loss_distillation`: see `Distillation`.

    It stays the algorithm that it is, with the names of its tensors; those of the predictor come on top, below
    `target_generator.` (mmpretrain's name for what gives targets, which readers of weights leave out).

    Args:
        model: config or module of any algorithm.
        previous: checkpoint of the same algorithm and backbone.
        weight, hidden_channels: see `Distillation`.

    Raises:
        ConfigError: if the model is no self-supervised algorithm, or an argument is out of range.
        CheckpointError: if the checkpoint cannot be read or has another backbone.
    """
    model = build_part('model', model)
    if not isinstance(model, SelfSupervisedModel):
        raise ConfigError(f'Distilled: model is a {type(model).__name__}, expected a self-supervised algorithm such as '
                          "dict(type='MoCo', ...).")
    teacher = copy.deepcopy(model.evaluated.backbone)
    load_backbone(teacher, Path(previous), f'{_name_of(model, model.evaluated)}.backbone.')
    distillation = Distillation(teacher, model.embed_dim, weight, hidden_channels)
    model.target_generator = distillation
    distillation.attach(model, trained_encoder(model).backbone)
    return model


def distilled_config(model: dict[str, object], previous: str, **options: object) -> dict[str, object]:
    """The config of `distilled` for that of any algorithm."""
    return dict(type='Distilled', model=model, previous=previous, **options)


class Distillation(nn.Module):
    """A predictor of the current features is trained to give the features of a frozen, earlier backbone.

    `weight * (2 - 2 cos(g(z), z'))`, mean over all views of the batch that take a gradient; z are the pooled features
    of the backbone in training, z' those of the earlier one for the same pixels, g the predictor (CaSSLe, Fini et al.
    2022, arXiv:2112.04215). The predictor lets new features be richer than the old ones, as long as these can be
    told from them.

    Taken from the paper: the frozen copy of the model at the end of the last task, the predictor (linear, BatchNorm,
    ReLU, linear; 2048 between), weight 1, and the loss beside the method's own. Different: features of the backbone
    are distilled, not projections, because the backbone is what one keeps and prototypes or heads of 65,536 outputs
    need no case of their own; and the loss is the cosine for every method, where the paper repeats each method's own.

    It works by hooks, so that no algorithm has to know of it: one sees what goes through the backbone, one adds the
    loss to the others.

    Args:
        previous: the earlier backbone; it is no submodule, so that checkpoints do not hold it once more.
        dim: width of the features.
        weight: of the loss, > 0.
        hidden_channels: of the predictor.
    """

    def __init__(self, previous: nn.Module, dim: int, weight: float = 1.0, hidden_channels: int = 2048):
        super().__init__()
        check_number('distil: weight', weight, above=0)
        self.predictor = ProjectionMLP(dim, dim, hidden_channels, norm=True)
        self.weight = weight
        self.criterion = NegativeCosineSimilarity()
        previous.eval()  # in a line of its own: that of mmpretrain's backbones returns nothing
        self._previous = (previous.requires_grad_(False),)
        self._seen: list[tuple[Tensor, Tensor]] | None = None  # (images, features) of this iteration

    @property
    def added_tensors(self) -> tuple[str, ...]:
        """What a run without distillation does not have."""
        return tuple(f'predictor.{name}' for name in self.predictor.state_dict())

    @property
    def previous(self) -> nn.Module:
        return self._previous[0]

    def attach(self, model: nn.Module, backbone: nn.Module) -> None:
        """Watch a model's backbone in mode 'loss', and add to its losses."""
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        backbone.register_forward_hook(self._see)
        model.register_forward_hook(self._end, with_kwargs=True)

    def loss(self, images: list[Tensor], features: list[Tensor]) -> Tensor:
        """Views (N_v, 3, h, w) and their features (N_v, D), with gradient, to ()."""
        self._follow(features[0].device)
        with torch.no_grad():
            targets = torch.cat([pool(self.previous(each)) for each in images])  # (sum of N_v, D)
        return self.weight * (2 + 2 * self.criterion(self.predictor(torch.cat(features)), targets))

    def _begin(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        self._seen = [] if _mode(args, kwargs) == 'loss' else None

    def _see(self, backbone: nn.Module, args: tuple, output: object) -> None:
        # Momentum copies are other modules; what runs without a gradient is a target of the method itself.
        if self._seen is not None and torch.is_grad_enabled():
            self._seen.append((args[0], pool(output)))

    def _end(self, model: nn.Module, args: tuple, kwargs: dict, losses: object) -> object:
        seen, self._seen = self._seen, None
        if not seen:
            return losses
        images, features = zip(*seen)
        # mmengine calls the sum of all 'loss', and would log a part of that name in its place.
        own = {'loss_method' if name == 'loss' else name: value for name, value in losses.items()}
        return {**own, 'loss_distillation': self.loss(list(images), list(features))}

    def _follow(self, device: torch.device) -> None:
        first = next(self.previous.parameters(), None)
        if first is not None and first.device != device:
            self.previous.to(device)


def trained_encoder(model: SelfSupervisedModel) -> Encoder:
    """The encoder that takes gradients: the one that momentum encoders follow, where there are any."""
    pairs = model.momentum_pairs()
    return pairs[0][1] if pairs else model.evaluated


def load_backbone(backbone: nn.Module, path: Path, prefix: str) -> None:
    """Put the tensors of one of our checkpoints whose names begin with `prefix` into a backbone, all of them.

    Raises:
        CheckpointError: if the file cannot be read, or is of another algorithm or backbone.
    """
    checkpoint = load_tensors(path)
    state = checkpoint.get('state_dict') if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointError(f'{path} holds no state_dict; expected a checkpoint of a pretraining run.')
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not own:
        raise CheckpointError(f"{path} has no tensor '{prefix}...': it is a checkpoint of another algorithm. Its first "
                              f'names: {", ".join([*state][:3])}.')
    try:
        backbone.load_state_dict(own)
    except RuntimeError as error:
        reasons = ' '.join(line.strip() for line in str(error).splitlines()[1:])
        raise CheckpointError(f'{path} is a checkpoint of another backbone than the config\'s: {reasons}') from error


def _name_of(model: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is part)


def _mode(args: tuple, kwargs: dict) -> str:
    """Of a call of `SelfSupervisedModel.forward`."""
    return kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
