"""One vector for each class, of its names in templates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from clear.core.checks import check_choice
from clear.core.errors import ConfigError
from clear.datasets.prompts import check_templates, class_prompts
from clear.evaluation.task import EncodesText

AVERAGES = ('normalised', 'raw')


def class_vectors(encode: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str],
                  average: str = 'normalised') -> Tensor:
    """(C, D) one unit vector for each class: the mean over its prompts.

    Args:
        encode: list of N strings -> (N, D).
        average: 'normalised' takes the mean of unit vectors (CLIP, Radford et al. 2021, arXiv:2103.00020, their code),
            'raw' that of the embeddings as they are (ITRA).

    Raises:
        ConfigError: for another average, or a template without `{}`.
    """
    check_choice('prompt_average', average, AVERAGES)
    vectors = encode(class_prompts(names, check_templates(templates)))  # (C * T, D)
    if average == 'normalised':
        vectors = functional.normalize(vectors, dim=1)
    vectors = vectors.reshape(len(names), len(templates), -1).mean(1)
    return functional.normalize(vectors, dim=1)


def check_encodes_text(encoder: torch.nn.Module | None, task: str) -> Callable[[list[str]], Tensor]:
    """The encoder's `encode_text`.

    Raises:
        ConfigError: if it encodes images only.
    """
    if not isinstance(encoder, EncodesText):
        found = 'a bank without its encoder' if encoder is None else f'a {type(encoder).__name__}'
        raise ConfigError(f'{task} needs an encoder of images and of text, which has encode_text; got {found}.')
    return encoder.encode_text
