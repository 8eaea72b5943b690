"""Classes as a text encoder sees them: their names, in templates, and one vector for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.datasets.prompts import TEMPLATES, check_templates, class_prompts, readable_names
from clear.evaluation.language.class_names import MATCHES, list_rows, plain_name
from clear.evaluation.language.prompt_lists import PromptList, prompt_list
from clear.evaluation.task import CountsTruncated, EncodesText

AVERAGES = ('normalised', 'raw')
# Texts whose embeddings are held at once: 8 MB of 512 numbers each.
TEXTS_AT_ONCE = 4096


@dataclass(frozen=True)
class ClassPrompts:
    """The classes of some data as texts.

    Attributes:
        names: C names, as they stand in prompts.
        prompts: of each class its texts, at least one.
        origin: where they are from, in plain values: `names`, `templates`, and for names of a list `match`, by what
            they were found to fit.
        templates: what was filled in; none where all prompts are descriptions.
        is_unseen: whether a list is taken in its order because the data have no names to compare.
    """

    names: list[str]
    prompts: list[list[str]]
    origin: dict[str, str]
    templates: list[str]
    is_unseen: bool = False

    def extras(self, encoder: torch.nn.Module | None = None) -> dict[str, object]:
        """Entries of `TaskResult.extras`: what classes were called and by which list.

        `same_prompts` are groups of classes of one text, which no encoder of text can tell apart, and `n_truncated` is
        how many prompts are longer than the encoder reads, where it knows.
        """
        counts = sorted({len(prompts) for prompts in self.prompts})
        if self.is_unseen:
            logger.warning("The data give their classes no names, so they may be in another order than the list %s; "
                           "match='order' says that they are not.", self.origin['names'])
        extras: dict[str, object] = dict(names=self.names, templates=self.templates, prompts_from=self.origin,
                                         prompts_per_class=counts[0] if len(counts) == 1 else counts)
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, prompts in enumerate(self.prompts):
            groups.setdefault(tuple(prompts), []).append(row)
        same = [rows for rows in groups.values() if len(rows) > 1]
        if same:
            logger.warning('%d classes have the same prompts as another, the first is %s (class %d): text cannot tell '
                           'them apart.', sum(map(len, same)), self.names[same[0][0]], same[0][0])
            extras['same_prompts'] = same
        if isinstance(encoder, CountsTruncated):
            texts = [*chain.from_iterable(self.prompts)]
            extras['n_truncated'] = encoder.num_truncated(texts)
            if extras['n_truncated']:
                logger.warning('%d of %d prompts are longer than the text encoder reads, and cut.',
                               extras['n_truncated'], len(texts))
        return extras


class Prompting:
    """How a task turns classes into texts: the arguments `names`, `templates` and `match` of its config.

    Args:
        names: what classes are called, in the order of their labels: a list of texts (or of lists of synonyms, the
            first of which is used), the name of a list or `dict(file='x.json')`, see `prompt_list`; None takes those of
            the data, with blanks for `_` and `/`.
        templates: prompts with `{}` or `{c}` where the name goes: a list of them, or a list by name or file, of which
            descriptions are prompts too. None takes those of the list that `names` names, else 'a photo of a {}.'.
        match: how a list is compared with the class names of the data, see `list_rows`.

    Raises:
        ConfigError: for what is none of these, a template without `{}`, an unknown list, or one without the part that
            is asked for.
        DataError: for a file of another shape.
    """

    def __init__(self, names: Sequence[str | Sequence[str]] | str | Mapping | None = None,
                 templates: Sequence[str] | str | Mapping | None = None, match: str = 'check'):
        self.match = check_choice('match', match, MATCHES)
        named = _named('names', names)
        if named is not None and named.names is None:
            raise ConfigError(f'names: {named.source} has no names; leave names out, and the data say them.')
        styled = _named('templates', templates)
        if styled is not None and styled.templates is None and styled.descriptions is None:
            raise ConfigError(f'templates: {styled.source} has neither templates nor descriptions.')
        if styled is None and templates is None and named is not None and (named.templates or named.descriptions):
            styled = named
        self.list, self.is_own = named, not isinstance(names, (str, Mapping))
        if names is not None and named is None:
            self.list = _own_names(names)
        elif names is None and styled is not None and styled.descriptions is not None and styled.names is not None:
            self.list, self.is_own = styled, False  # these descriptions are of these names
        self.styled = styled or PromptList('the config' if templates is not None else 'the default', templates=tuple(
            check_templates(TEMPLATES if templates is None else templates)))

    def of(self, known: Sequence[str]) -> ClassPrompts:
        """The prompts of classes that the data call `known`.

        Raises:
            DataError: for a list that does not fit, or a class without description.
        """
        origin, is_unseen = dict(names='the data', templates=self.styled.source), False
        if self.list is None:
            names = readable_names(known)
        else:
            what = 'names' if self.is_own else f'names, {self.list.source},'
            rows, found_by = list_rows(self.list.names, known, self.match, known_as=self.list.known_as, source=what,
                                       is_own=self.is_own)
            names = [self.list.names[row] for row in rows]
            origin.update(names=self.list.source, match=found_by)
            is_unseen = not self.is_own and self.match == 'check' and found_by != 'names'
        templates, described = self.styled.templates or (), self.styled.descriptions
        prompts = [class_prompts([name], templates) for name in names]
        if described is not None:
            by_plain = {plain_name(name): texts for name, texts in described.items()}
            for name, texts in zip(names, prompts):
                own = described.get(name) or by_plain.get(plain_name(name))
                if own is None:
                    raise DataError(f"{self.styled.source} has no description of the class '{name}'.")
                texts += own
        return ClassPrompts(names, prompts, origin, list(templates), is_unseen)

    def check(self, known: Sequence[str]) -> None:
        """Refuse data whose classes do not fit.

        Raises:
            DataError: saying why.
        """
        if known:
            self.of(known)

    def fingerprint(self) -> str:
        """A digest of names and prompts, whatever file or package they are from."""
        parts = [self.match, self.list and self.list.names, self.styled.templates,
                 self.styled.descriptions and sorted(self.styled.descriptions.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def prompt_vectors(encode: Callable[[list[str]], Tensor], prompts: Sequence[Sequence[str]], average: str = 'normalised',
                   texts_at_once: int = TEXTS_AT_ONCE, *, known: MutableMapping[str, Tensor] | None = None) -> Tensor:
    """(C, D) one unit vector for each class: the mean over its prompts.

    Classes are encoded a few at a time, so that embeddings of no more than `texts_at_once` texts (or of one class) are
    held. Each mean is taken by itself: it changes with `texts_at_once` only as far as the encoder's own embedding of a
    text changes with the texts beside it (a few units in the last place of float32). Classes of the same prompts get
    the same bits, so that their scores are equal.

    Args:
        encode: list of N strings -> (N, D).
        prompts: C lists of texts, none of them empty.
        average: 'normalised' takes the mean of unit vectors (CLIP, Radford et al. 2021, arXiv:2103.00020, their code),
            'raw' that of the embeddings as they are (ITRA).
        known: what was made of this encoder's texts before, and where the vectors are noted; see `TaskData.vectors`.

    Raises:
        ConfigError: for another average.
    """
    check_choice('prompt_average', average, AVERAGES)
    # Of all prompts together: of some of them a batch would be another, and so the last bits.
    key = hashlib.sha256(json.dumps([average, texts_at_once, *map(list, prompts)]).encode()).hexdigest()
    if known is not None and key in known:
        return known[key]
    places: dict[tuple[str, ...], int] = {}
    rows = [places.setdefault(tuple(texts), len(places)) for texts in prompts]
    vectors: list[Tensor] = []
    for group in _groups(list(places), texts_at_once):
        embedded = encode([*chain.from_iterable(group)])  # (texts of some classes, D)
        if average == 'normalised':
            embedded = functional.normalize(embedded, dim=1)
        vectors += [part.mean(0) for part in embedded.split([*map(len, group)])]
    found = functional.normalize(torch.stack(vectors), dim=1)[rows]
    if known is not None:
        known[key] = found
    return found


def _groups(prompts: Sequence[Sequence[str]], texts_at_once: int) -> Iterator[list[Sequence[str]]]:
    """Classes in their order, as many at a time as have no more than so many texts."""
    group, count = [], 0
    for texts in prompts:
        if group and count + len(texts) > texts_at_once:
            yield group
            group, count = [], 0
        group.append(texts)
        count += len(texts)
    if group:
        yield group


def class_vectors(encode: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str],
                  average: str = 'normalised') -> Tensor:
    """`prompt_vectors` of names in templates.

    Raises:
        ConfigError: for another average, or a template without `{}`.
    """
    templates = check_templates(templates)
    return prompt_vectors(encode, [class_prompts([name], templates) for name in names], average)


def check_encodes_text(encoder: torch.nn.Module | None, task: str) -> Callable[[list[str]], Tensor]:
    """The encoder's `encode_text`.

    Raises:
        ConfigError: if it has none.
    """
    if not isinstance(encoder, EncodesText):
        found = 'a bank without its encoder' if encoder is None else f'a {type(encoder).__name__}'
        raise ConfigError(f'{task} needs an encoder of text, which has encode_text; got {found}.')
    return encoder.encode_text


def check_width(texts: Tensor, images: Tensor) -> None:
    """Refuse texts (N, D) and images (M, E) of two widths.

    Raises:
        DataError: saying both.
    """
    if texts.shape[1] != images.shape[1]:
        raise DataError(f'The text encoder gives {texts.shape[1]} dimensions, the bank holds {images.shape[1]}: is it '
                        'a bank of this encoder?')


def _named(what: str, given: object) -> PromptList | None:
    """A list that is given by name or file."""
    if not isinstance(given, (str, Mapping)):
        return None
    if isinstance(given, str) and '{' in given:
        raise ConfigError(f'{what} is {given!r}; expected a list such as {[given]}, or the name of one.')
    return prompt_list(given)


def _own_names(names: object) -> PromptList:
    if not isinstance(names, (list, tuple)) or not names:
        raise ConfigError(f"names is {names!r}; expected a list such as ['cat', 'dog'], the name of one or "
                          "dict(file='x.json').")
    each = [[str(word) for word in name] if isinstance(name, (list, tuple)) else [str(name)] for name in names]
    if not all(words and words[0].strip() for words in each):
        raise ConfigError('names holds a class without a name.')
    return PromptList('the config', tuple(words[0] for words in each), known_as=tuple(tuple(words) for words in each))
