"""Keep what an earlier pair of towers knew: its features, its scores, or the weights that mattered to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from clear.core.checks import check_number
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors
from clear.models.alignment.image_text import Batch, ImageTextAlignment
from clear.models.importance import read_importance
from clear.models.losses import FeatureDistillationLoss, LogitDistillationLoss
from clear.models.selfsup.parts.encoder import build_part
from clear.registry import MODELS


@MODELS.register_module(name='ContinuedAlignment')
def continued(model: Mapping | ImageTextAlignment, previous: str | Path, features: float = 0.0, logits: float = 0.0,
              ewc: float = 0.0) -> ImageTextAlignment:
    """An alignment with more losses, which keep it near an earlier one. It has the tensors that it had.

    Args:
        model: config or module of an `ImageTextAlignment`.
        previous: checkpoint of the same model.
        features: weight of `loss_features`, a `FeatureDistillationLoss` from the earlier pair.
        logits: weight of `loss_logits`, a `LogitDistillationLoss` from the earlier pair (LwF of TiC-CLIP, Garg et al.
            2023, arXiv:2310.16226).
        ewc: weight of `loss_ewc`, see `ElasticWeights`; `importance.pth` beside the checkpoint says what mattered.

    Raises:
        ConfigError: if the model is another one, or a weight out of range.
        CheckpointError: if a file is missing or of another model.
    """
    built = build_part('model', model)
    if not isinstance(built, ImageTextAlignment):
        raise ConfigError(f'ContinuedAlignment: model is a {type(built).__name__}, expected an ImageTextAlignment.')
    for name, weight in (('features', features), ('logits', logits), ('ewc', ewc)):
        check_number(f'ContinuedAlignment: {name}', weight, 0)
    if not built.encodes_images:
        raise ConfigError('ContinuedAlignment: align_weight is 0, so images are not encoded and nothing can be kept.')
    earlier = copy.deepcopy(built)
    _load(earlier, Path(previous))
    if features or logits:
        built.terms.append(PreviousPair(earlier, features, logits))
    if ewc:
        anchor = {name: value.detach() for name, value in earlier.named_parameters()}
        built.terms.append(ElasticWeights(anchor, read_importance(Path(previous)), ewc))
    return built


class PreviousPair:
    """Distillation from an earlier, frozen pair of towers, on the images and captions of each batch.

    It is no module, so that checkpoints do not hold the earlier pair once more.
    """

    def __init__(self, previous: ImageTextAlignment, features: float, logits: float):
        self.previous = previous.requires_grad_(False).eval()
        self.losses: dict[str, tuple[float, nn.Module]] = {}
        if features:
            self.losses['loss_features'] = features, FeatureDistillationLoss()
        if logits:
            self.losses['loss_logits'] = logits, LogitDistillationLoss()
        self.names = tuple(self.losses)

    def __call__(self, model: ImageTextAlignment, batch: Batch, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a batch, whose embeddings are `found`."""
        self.previous.to(found['image'].device)
        with torch.no_grad():
            before = [*self.previous.embed(batch).values()]
        now = [found['image'], found['text']]
        scales = dict(logit_scale=_scale(model), teacher_logit_scale=_scale(self.previous))
        return {name: weight * (loss(before, now, **scales) if isinstance(loss, LogitDistillationLoss)
                                else loss(before, now)) for name, (weight, loss) in self.losses.items()}


class ElasticWeights:
    """`weight / 2 * sum_i importance_i * (now_i - before_i) ** 2` over the parameters that train (elastic weight
    consolidation, Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3)."""

    names = ('loss_ewc',)

    def __init__(self, before: Mapping[str, Tensor], importance: Mapping[str, Tensor], weight: float):
        wrong = [name for name, value in importance.items()
                 if name not in before or before[name].shape != value.shape]
        if wrong:
            raise CheckpointError(f"importance.pth is of another model: '{wrong[0]}' is not among its parameters.")
        self.before, self.importance, self.weight = dict(before), dict(importance), weight

    def __call__(self, model: ImageTextAlignment, batch: Batch, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of the weights as they are."""
        total = torch.zeros((), device=found['image'].device)
        for name, value in model.named_parameters():
            if name in self.importance and value.requires_grad:
                if self.importance[name].device != value.device:
                    self.importance[name], self.before[name] = self.importance[name].to(value), \
                        self.before[name].to(value)
                total = total + (self.importance[name] * (value - self.before[name]).square()).sum()
        return dict(loss_ewc=self.weight / 2 * total)


def _scale(model: ImageTextAlignment) -> Tensor | None:
    return None if model.logit_scale is None else model.logit_scale.exp()


def _load(model: ImageTextAlignment, path: Path) -> None:
    saved = load_tensors(path)
    try:
        model.load_state_dict(saved.get('state_dict', saved))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{path} is no checkpoint of this model: {error}') from error
