"""Classes as a text encoder sees them: their names, in templates, and one vector for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError
from clear.datasets.prompts import check_templates, class_prompts, readable
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


def check_names(names: Sequence[str] | None) -> list[str] | None:
    """What classes are called, as texts; None if that is left to the bank.

    Raises:
        ConfigError: for one text in place of a list.
    """
    if names is not None and not isinstance(names, (list, tuple)):
        raise ConfigError(f"names is {names!r}; expected a list such as ['cat', 'dog'].")
    return None if names is None else [str(name) for name in names]


def names_for(given: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """What the classes of 'test' are called: as given, else as they are known, with blanks for `_` and `/`.

    Raises:
        DataError: for another number of names than classes.
    """
    if given is not None and len(given) != len(known):
        raise DataError(f"names has {len(given)} names, the bank of 'test' {len(known)} classes.")
    return [readable(name) for name in known] if given is None else list(given)


def check_width(texts: Tensor, images: Tensor) -> None:
    """Refuse texts (N, D) and images (M, E) of two widths.

    Raises:
        DataError: saying both.
    """
    if texts.shape[1] != images.shape[1]:
        raise DataError(f'The text encoder gives {texts.shape[1]} dimensions, the bank holds {images.shape[1]}: is it '
                        'a bank of this encoder?')
