"""Images in a text tower's space by way of the names of a classifier's classes (ConSE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.build import build_encoder
from clear.models.towers.text.build import build_text_encoder
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options
    from clear.models.towers.text.base import TextEncoder

TEMPLATES = ('{}',)


@MODELS.register_module()
class ConSEImageEncoder(ImageEncoder):
    """The expected text embedding over a classifier's most probable classes (Norouzi et al. 2014, arXiv:1312.5650).

    So an image classifier and a text tower that never met answer queries in free text. It sees what its classes see:
    an image of something that none of them resembles gets the embedding of whatever they take it for, and what the
    classifier ignores (number, place, action, relations) is not in the embedding at all.

    The embedding is not normalised: it is the shorter, the less the classes agree.

    Args:
        classifier: config of an image encoder that gives logits: any maker with `classifier=None`. Or an encoder.
        text_encoder: config of a text encoder, or an encoder; it is used once, for the names.
        class_names: one for each logit, in their order; or `'imagenet'` for the thousand of open_clip.
        templates: each name is embedded in each of them, in place of `{}`; the unit vectors are averaged.
        top_k: classes over which the expectation runs, their probabilities made to sum to one.
        temperature: of the softmax over all classes.

    Raises:
        ConfigError: if there is not one name for each logit, or a template has no `{}`.
    """

    def __init__(self, classifier: Options | ImageEncoder, text_encoder: Options | TextEncoder,
                 class_names: Sequence[str] | str = 'imagenet', templates: Sequence[str] = TEMPLATES, top_k: int = 10,
                 temperature: float = 1.0):
        images, texts = build_encoder(classifier), build_text_encoder(text_encoder)
        names = _names(class_names)
        if len(names) != images.embed_dim:
            raise ConfigError(f'class_names has {len(names)} names, and the classifier gives {images.embed_dim} values '
                              'for an image. Does its config say classifier=None, so that its logits are kept?')
        check_whole('top_k', top_k, 1, len(names))
        if not temperature > 0:
            raise ConfigError(f'temperature is {temperature!r}, expected a number above 0.')
        templates = [templates] if isinstance(templates, str) else list(templates)
        if not templates or not all('{}' in template for template in templates):
            raise ConfigError(f"templates is {templates}, expected texts with '{{}}' where the name goes.")
        model = _ExpectedEmbedding(images.model, embed_names(texts, names, templates), top_k, temperature)
        super().__init__(model, preprocess=images.preprocess, classifier=None, identity=dict(
            classifier=images.fingerprint(), text_encoder=texts.fingerprint(), names=names, templates=templates,
            top_k=top_k, temperature=temperature))
        self.class_names = names


def embed_names(encoder: TextEncoder, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """(C, D) unit vectors: of each name the mean over the templates of its unit embeddings."""
    texts = [template.replace('{}', name) for name in names for template in templates]
    features = functional.normalize(encoder.encode(texts, use_pooler=True), dim=1)
    return functional.normalize(features.unflatten(0, (len(names), len(templates))).mean(1), dim=1)


class _ExpectedEmbedding(nn.Module):
    def __init__(self, network: nn.Module, class_embeddings: Tensor, top_k: int, temperature: float):
        super().__init__()
        self.network, self.top_k, self.temperature = network, top_k, temperature
        self.register_buffer('class_embeddings', class_embeddings)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images).float() / self.temperature  # (N, C)
        top, rows = logits.topk(self.top_k, dim=1)
        # Softmax over the chosen ones is that over all, made to sum to one.
        return torch.einsum('nk,nkd->nd', top.softmax(1), self.class_embeddings[rows])


def _names(class_names: Sequence[str] | str) -> list[str]:
    if class_names == 'imagenet':
        from open_clip import IMAGENET_CLASSNAMES

        return list(IMAGENET_CLASSNAMES)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise ConfigError(f"class_names must be a list of texts or 'imagenet', got {class_names!r}.")
    return list(class_names)
