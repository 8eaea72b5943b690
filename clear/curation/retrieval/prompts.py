"""What is searched for: classes with their prompts, as texts, as files, and as vectors of a text encoder."""

from __future__ import annotations

import pprint
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.core.checks import check_choice, check_flag, check_whole
from clear.core.config import load_config
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.core.files import read_json, write_text
from clear.curation.retrieval.search import unit_queries
from clear.datasets.prompts import check_templates

if TYPE_CHECKING:
    from clear.core.types import Options, Plain
    from clear.curation.retrieval.tower import TextTower

BACKGROUND = 'BACKGROUND'
COMBINE = ('max', 'mean')
TEMPLATES = ('{}',)
_CLASS_KEYS = ('prompts', 'negatives')
_KEYS = ('classes', 'prefix', 'templates', 'combine', 'negatives', 'label_map')
# Of the earlier system's concept_group_dict.json; the first three it cannot do without.
_GROUP_KEYS = ('GROUP', 'NUM_OF_IMAGES_PER_CLASS_PER_BUCKET', 'NUM_OF_IMAGES_PER_CLASS_PER_BUCKET_TO_QUERY', 'NAME',
               'PREFIX', 'ALLOW_OVERLAP', 'BUCKET_DICT_PATH', 'CLIP_MODEL', 'BACKGROUND', 'NEGATIVE_RATIO', 'SAVE_PATH')
_MOST_LABEL_BYTES = 200
_NO_LABEL = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\ud800-\udfff]')


@dataclass(frozen=True)
class PromptClass:
    """A class.

    Attributes:
        label: its folder's name.
        prompts: texts that describe it; which one an image is like does not matter.
        negatives: texts that none of its images may be more like than like the class.
    """

    label: str
    prompts: tuple[str, ...]
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompts:
    """Classes in their order, and how their prompts become vectors.

    Attributes:
        prefix: in front of every prompt.
        templates: a prompt's vector is the mean of its unit embeddings in these, in place of `{}`, made unit again.
        combine: of several prompts of a class, 'max' takes the highest score, 'mean' the mean of their vectors, made
            unit again.
        negatives: of every class, besides its own.

    Raises:
        ConfigError: for no class or prompt, an empty text, a text that is there twice, or a label that is no folder
            name or there twice.
    """

    classes: tuple[PromptClass, ...]
    prefix: str = ''
    templates: tuple[str, ...] = TEMPLATES
    combine: str = 'max'
    negatives: tuple[str, ...] = ()

    def __post_init__(self):
        check_templates(self.templates)
        check_choice('combine', self.combine, COMBINE)
        if not isinstance(self.prefix, str):
            raise ConfigError(f'prefix is {self.prefix!r}; expected text.')
        if not self.classes:
            raise ConfigError('prompts name no class.')
        _check_labels(self.labels)
        _check_texts('the prompts', [prompt for each in self.classes for prompt in each.prompts])
        for each in self.classes:
            if not each.prompts:
                raise ConfigError(f"class '{each.label}' has no prompt.")
            _check_texts(f"the prompts and negatives of class '{each.label}'",
                         [*each.prompts, *each.negatives, *self.negatives])

    @property
    def labels(self) -> list[str]:
        return [each.label for each in self.classes]

    def vectors(self, tower: TextTower, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Text -> its unit vector (D,) with this prefix and these templates."""
        if not texts:
            return {}
        filled = [template.replace('{}', self.prefix + text) for text in texts for template in self.templates]
        units = unit_queries(tower.encode(filled)).reshape(len(texts), len(self.templates), -1)
        return dict(zip(texts, unit_queries(units.mean(axis=1, dtype=np.float64))))

    def encode(self, tower: TextTower) -> PromptVectors:
        """Their vectors."""
        of = self.vectors(tower, list(dict.fromkeys(text for each in self.classes for text in (
            *each.prompts, *each.negatives, *self.negatives))))
        queries = [np.stack([of[text] for text in each.prompts]) for each in self.classes]
        if self.combine == 'mean':
            queries = [unit_queries(vectors.mean(axis=0, dtype=np.float64)[None]) for vectors in queries]
        negatives = [[of[text] for text in (*each.negatives, *self.negatives)] for each in self.classes]
        return PromptVectors(queries, [np.reshape(np.array(vectors, np.float32), (-1, tower.embed_dim))
                                       for vectors in negatives])

    def to_config(self) -> dict[str, Plain]:
        """Plain values that `read_prompts` makes the same of."""
        classes = {each.label: _short(each) for each in self.classes}
        given = dict(classes=classes, prefix=self.prefix, templates=list(self.templates), combine=self.combine,
                     negatives=list(self.negatives))
        left_out = dict(prefix='', templates=list(TEMPLATES), combine='max', negatives=[])
        return {key: value for key, value in given.items() if key not in left_out or value != left_out[key]}


@dataclass(frozen=True)
class PromptVectors:
    """Unit vectors, float32.

    Attributes:
        queries: of each class (n, D): one for each prompt, or one for all.
        negatives: of each class (m, D); m may be 0.
    """

    queries: list[np.ndarray]
    negatives: list[np.ndarray]


def read_prompts(given: Sequence[str] | Options | str | Path | Prompts, **options: object) -> Prompts:
    """Prompts from what a config, the page or the earlier system has.

    Args:
        given: texts, which are their own labels; label -> text, texts, or `dict(prompts=[...], negatives=[...])`;
            `dict(classes=<one of these>, prefix=..., templates=..., combine=..., negatives=..., label_map=...)`; or a
            file: a Python config that assigns such a dict to `prompts`, or the earlier `concept_group_dict.json`.
        options: those keys of the dict; they win over what `given` says. `label_map` is text -> label, or a JSON file
            of it; with one, every text needs an entry.

    Raises:
        ConfigError: for anything else, see `Prompts`.
    """
    if isinstance(given, Prompts):
        given = given.to_config()
    if isinstance(given, (str, Path)):
        given = _from_file(Path(given))
    if isinstance(given, Mapping) and 'classes' in given:
        check_keys('prompts', given, set(_KEYS), 'prompts')
        options = {**given, **{key: value for key, value in options.items() if value is not None}}
        given = options.pop('classes')
    options = {key: value for key, value in options.items() if value is not None}
    check_keys('prompts', options, set(_KEYS), 'prompts')
    label_map = _label_map(options.pop('label_map', None))
    for key in ('templates', 'negatives'):
        if key in options:
            options[key] = _texts(key, options[key])
    return Prompts(tuple(_classes(given, label_map)), **options)


def write_prompts(path: str | Path, prompts: Prompts, comment: str = '') -> None:
    """Write a Python config that `read_prompts` reads, whole or not at all."""
    lines = [f'# {line}\n' for line in comment.splitlines()]
    text = pprint.pformat(prompts.to_config(), width=110, sort_dicts=False)
    write_text(path, ''.join(lines) + f'prompts = {text}\n')


@dataclass(frozen=True)
class ConceptGroup:
    """What the earlier system's `concept_group_dict.json` says.

    Attributes:
        name, model: of the data set, and of the CLIP model, e.g. 'RN101'.
        arguments: of the stage `Retrieval`, besides prompts.
    """

    name: str
    model: str
    prompts: Prompts
    arguments: dict[str, Plain]


def read_concept_group(path: str | Path, label_map: Mapping[str, str] | str | Path | None = None) -> ConceptGroup:
    """Read `concept_group_dict.json`, and with it `label_map_dict.json`.

    Raises:
        ConfigError: for other keys, or values that cannot be.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not set(_GROUP_KEYS[:3]) <= set(found):
        raise ConfigError(f'{path} is no concept_group_dict.json: it needs {", ".join(_GROUP_KEYS[:3])}.')
    check_keys(str(path), found, set(_GROUP_KEYS), 'concept_group_dict.json')
    flags = {key: bool(check_whole(f'{path}: {key}', found.get(key, 0), 0, 1))
             if not isinstance(found.get(key), bool) else check_flag(key, found[key])
             for key in ('ALLOW_OVERLAP', 'BACKGROUND')}
    prompts = read_prompts(found['GROUP'], prefix=found.get('PREFIX', ''), label_map=label_map)
    arguments = dict(k=found[_GROUP_KEYS[1]], q=found[_GROUP_KEYS[2]], background=flags['BACKGROUND'],
                     conflict='allow' if flags['ALLOW_OVERLAP'] else 'argmax')
    if 'NEGATIVE_RATIO' in found:
        arguments['negative_ratio'] = found['NEGATIVE_RATIO']
    return ConceptGroup(str(found.get('NAME', '')), str(found.get('CLIP_MODEL', '')), prompts, arguments)


def _from_file(path: Path) -> Options | list[str]:
    if path.suffix == '.json':
        return read_concept_group(path).prompts.to_config()
    cfg, assigned = load_config(path)
    if 'prompts' not in assigned:
        raise ConfigError(f"{path} assigns no `prompts`, such as prompts = dict(classes=dict(bus='a bus')).")
    return cfg.to_dict()['prompts']


def _classes(given: object, label_map: Mapping[str, str] | None) -> Iterable[PromptClass]:
    if isinstance(given, Mapping):
        if label_map is not None:
            raise ConfigError('label_map is for a list of prompts; here the classes have their labels already.')
        for label, value in given.items():
            where = f"class '{label}'"
            if isinstance(value, Mapping):
                check_keys(where, value, set(_CLASS_KEYS), 'a class')
                yield PromptClass(label, *(_texts(f'{key} of {where}', value.get(key, ())) for key in _CLASS_KEYS))
            else:
                yield PromptClass(label, _texts(where, value))
        return
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigError(f"prompts are {given!r}; expected a list of texts, a dict of classes, or a file.")
    for text in _texts('prompts', given):
        if label_map is not None and text not in label_map:
            raise ConfigError(f"label_map has no entry for the prompt '{text:.60}'.")
        yield PromptClass(text if label_map is None else label_map[text], (text,))


def _texts(where: str, value: object) -> tuple[str, ...]:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise ConfigError(f'{where}: {value!r}; expected text, or a list of texts.')
    return tuple(value)


def _label_map(given: Mapping[str, str] | str | Path | None) -> Mapping[str, str] | None:
    found = read_json(given) if isinstance(given, (str, Path)) else given
    if found is None or isinstance(found, Mapping) and all(isinstance(label, str) for label in found.values()):
        return found
    raise ConfigError(f'label_map is {given!r}; expected text -> label, or a JSON file of it.')


def _check_texts(where: str, texts: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for text in texts:
        key = ' '.join(text.split()).casefold()
        if not key:
            raise ConfigError(f'{where}: a text is empty ({text!r}).')
        if key in seen:
            raise ConfigError(f"{where}: '{text}' is there twice.")
        seen[key] = text


def _check_labels(labels: Sequence[str]) -> None:
    seen: set[str] = set()
    for label in labels:
        if not isinstance(label, str) or not label or label != label.strip() or label.startswith('.') \
                or label.endswith('.') or _NO_LABEL.search(label) or len(label.encode()) > _MOST_LABEL_BYTES:
            raise ConfigError(f'the label {label!r} is no name of a folder. Give the class another one: dict(LABEL='
                              "'its prompt'), or a label_map.")
        if label == BACKGROUND:
            raise ConfigError(f"the label '{BACKGROUND}' is that of the images that are like no class.")
        if label.casefold() in seen:
            raise ConfigError(f"the label '{label}' is there twice. Prompts of one class are written dict(LABEL=["
                              "'one', 'another']).")
        seen.add(label.casefold())


def _short(each: PromptClass) -> Plain:
    if each.negatives:
        return dict(prompts=list(each.prompts), negatives=list(each.negatives))
    return each.prompts[0] if len(each.prompts) == 1 else list(each.prompts)
