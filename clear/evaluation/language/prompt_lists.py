"""Lists of class names and prompts under one name, read where they are: from installed packages and users' files."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import read_json, read_text
from clear.datasets.prompts import check_templates
from clear.datasets.readers.benchmarks.imagenet import wordnet_ids

PACKAGE = 'clip-benchmark'
# Of ImageNet alone: names and templates, in the order of the English names.
LANGUAGES = ('ar', 'cn', 'it', 'jp')
PARTS = ('names', 'templates', 'descriptions')
_ALIASES = {'imagenet1k': 'imagenet', 'stanfordcars': 'cars', 'oxfordiiitpet': 'pets', 'oxfordpets': 'pets',
            'flowers102': 'flowers', 'oxfordflowers102': 'flowers', 'patchcamelyon': 'pcam',
            'clevrcounts': 'clevr_count_all', 'clevrdistance': 'clevr_closest_object_distance',
            'kittidistance': 'kitti_closest_vehicle_distance'}


@dataclass(frozen=True)
class PromptList:
    """What classes are called, and the texts that stand for them.

    Attributes:
        source: where it is from, for messages and results.
        names: of the classes, in the order of their indices; None if the list has prompts alone.
        templates: prompts with `{}` where the name goes.
        descriptions: name -> texts about that class, which are prompts as they are.
        known_as: for each class what data may call it besides: synonyms, its English name, the id of a synset.
    """

    source: str
    names: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    descriptions: Mapping[str, tuple[str, ...]] | None = None
    known_as: tuple[tuple[str, ...], ...] | None = None


def prompt_list(given: str | Mapping) -> PromptList:
    """A list by its name, or of a user's file.

    Of open_clip come `imagenet` (1,000 names, 80 templates) and `imagenet/simple` (7 of these templates); of the
    package clip-benchmark, whose JSON files are read as data, its sets (`cifar10`, `dtd`, ...: templates, of some also
    names), `imagenet/cn`, `/ar`, `/it`, `/jp`, and `imagenet/cupl` (150 descriptions a class; CuPL, Pratt et al. 2023,
    arXiv:2209.03320). Of these `{c}` is written `{}` here. Capitals, blanks and `-_` in a name do not matter.

    Args:
        given: a name, or `dict(file='x.json')` for a JSON object of `names`, `templates` and `descriptions`, at least
            one of them; `dict(file=..., list='birdsnap')` for one of several such objects under names. `names` is a
            list of texts, or of lists of synonyms, of which the first is used; `descriptions` an object (name ->
            texts) or a list in the order of `names`. Of a file that ends in `.txt` each line is a template or each is
            a name, as in `classnames.txt` and `zeroshot_classification_templates.txt` of CLIP_benchmark and
            `labels.txt` of ELEVATER.

    Raises:
        ConfigError: for an unknown name, or a package that is not installed.
        DataError: for a file that is none, or of another shape.
    """
    if isinstance(given, Mapping):
        return _of_file(given)
    if not isinstance(given, str) or not given:
        raise ConfigError(f"a list of prompts is {given!r}; expected its name, or dict(file='x.json').")
    key = _key(given)
    for name in ('imagenet', 'imagenet/simple'):
        if key == _key(name):
            return _imagenet(name)
    named = {_key(name): name for name in _packaged()}
    if key not in named:
        known = known_prompt_lists()
        raise ConfigError(f"There is no list of prompts '{given}'. Nearest: {nearest(given, known) or 'none'}. Known "
                          f'are {", ".join(known)}; or give a list, or dict(file=...).')
    return _of_package(named[key])


def known_prompt_lists() -> list[str]:
    """Names that `prompt_list` takes; without the package clip-benchmark two of ImageNet."""
    try:
        packaged = _packaged()
    except ConfigError:
        packaged = []
    return ['imagenet', 'imagenet/simple', *packaged]


def _key(name: str) -> str:
    head, slash, tail = name.casefold().partition('/')
    head = ''.join(sign for sign in head if sign.isalnum())
    head = ''.join(sign for sign in _ALIASES.get(head, head) if sign.isalnum())
    return f'{head}{slash}{tail}'


@functools.cache
def _imagenet(name: str) -> PromptList:
    import open_clip
    from open_clip import zero_shot_metadata as metadata

    templates = metadata.OPENAI_IMAGENET_TEMPLATES if name == 'imagenet' else metadata.SIMPLE_IMAGENET_TEMPLATES
    return PromptList(f"'{name}' of open_clip_torch {open_clip.__version__}", tuple(metadata.IMAGENET_CLASSNAMES),
                      tuple(template('{}') for template in templates),
                      known_as=tuple((each,) for each in wordnet_ids()))


def _packaged() -> list[str]:
    """The lists of clip-benchmark, but for ImageNet's in English, which are open_clip's."""
    sets = {**_read('en_classnames'), **_read('en_zeroshot_classification_templates')}
    return [*sorted(set(sets) - {'imagenet1k'}), *(f'imagenet/{language}' for language in LANGUAGES), 'imagenet/cupl']


def _of_package(name: str) -> PromptList:
    source = f"'{name}' of {PACKAGE} {_distribution().version}"
    head, _, kind = name.partition('/')
    english = _imagenet('imagenet') if kind else None
    if kind == 'cupl':
        found = _read('cupl_prompts').get('imagenet1k')
        return _checked(dict(names=list(english.names), descriptions=found), source, english.known_as)
    language, key = (kind, 'imagenet1k') if kind else ('en', head)
    found = dict(names=_read(f'{language}_classnames').get(key),
                 templates=_read(f'{language}_zeroshot_classification_templates').get(key))
    known_as = tuple((*ids, word) for ids, word in zip(english.known_as, english.names)) if kind else None
    # Of 'clevr_closest_object_distance' one name is empty, which makes the prompt ' shapes.'.
    return _checked({part: value for part, value in found.items() if value is not None}, source, known_as, True)


def _distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError("Lists of prompts besides 'imagenet' and 'imagenet/simple' are those of clip-benchmark: "
                          "pip install 'clear-framework[zeroshot]'") from error


@functools.cache
def _read(stem: str) -> dict[str, Any]:
    found = read_json(Path(str(_distribution().locate_file(f'clip_benchmark/datasets/{stem}.json'))))
    if not isinstance(found, dict):
        raise DataError(f'{stem}.json of {PACKAGE} is no JSON object; {PACKAGE} 1.6.2 is known to be one.')
    return found


def _of_file(given: Mapping) -> PromptList:
    check_keys('a list of prompts', given, {'file', 'list'}, 'keys')
    if not isinstance(given.get('file'), (str, Path)):
        raise ConfigError(f"a list of prompts is {dict(given)!r}; expected dict(file='x.json').")
    path, name = given['file'], given.get('list')
    if Path(path).suffix == '.txt':
        return _of_lines(Path(path), name)
    if not Path(path).exists():
        raise DataError(f'{path} does not exist. Lists that CLIP, ELEVATER and ITRA publish are written so by python '
                        f'tools/dataset_converters/prompt_tables.py CLIP/data/prompts.md --out {path}')
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f'{path} is a JSON {type(found).__name__}; expected an object with {", ".join(PARTS)}.')
    if name is not None:
        if name not in found:
            raise DataError(f"{path} has no list '{name}'. Nearest: {nearest(str(name), found) or 'none'}.")
        found = found[name]
    elif found and not set(found) & set(PARTS) and all(isinstance(value, dict) for value in found.values()):
        raise DataError(f'{path} holds {len(found)} lists ({", ".join(list(found)[:5])}{" ..." * (len(found) > 5)}): '
                        f"say which, dict(file=..., list='{next(iter(found))}').")
    return _checked(found, f"'{name}' of {Path(path).name}" if name else Path(path).name)


def _of_lines(path: Path, name: object) -> PromptList:
    if name is not None:
        raise ConfigError(f"{path} holds one list; leave list='{name}' out.")
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    have = [('{}' in line or '{c}' in line) for line in lines]
    if any(have) and not all(have):
        raise DataError(f"{path}: line '{lines[have.index(False)]:.40}' has no {{}}, and others have: is it a list of "
                        'names or of templates?')
    return _checked({'templates' if all(have) and have else 'names': lines}, path.name)


def _checked(found: object, source: str, known_as: tuple[tuple[str, ...], ...] | None = None,
             may_be_empty: bool = False) -> PromptList:
    """A list of the parts of a JSON object; `may_be_empty` is said of names."""
    if not isinstance(found, dict) or not found or set(found) - set(PARTS):
        unknown = sorted(map(str, set(found) - set(PARTS))) if isinstance(found, dict) else []
        raise DataError(f'{source}: expected a JSON object with some of {", ".join(PARTS)}; got '
                        + (f"the key '{unknown[0]}'." if unknown else f'{type(found).__name__} {str(found)[:40]}.'))
    names, synonyms = _names(found['names'], source, may_be_empty) if 'names' in found else (None, None)
    templates = None
    if 'templates' in found:
        try:
            templates = tuple(check_templates(found['templates']))
        except ConfigError as error:
            raise DataError(f'{source}: {error}') from error
    return PromptList(source, names, templates, _descriptions(found['descriptions'], names, source)
                      if 'descriptions' in found else None, known_as or synonyms)


def _names(found: object, source: str, may_be_empty: bool) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Names, and the other synonyms of each."""
    if not isinstance(found, list) or not found:
        raise DataError(f'{source}: names is {str(found)[:40]!r}; expected a list of texts.')
    each = [('',) if may_be_empty and name == '' else
            _texts(name if isinstance(name, list) else [name], f'name {row}', source) for row, name in enumerate(found)]
    return tuple(synonyms[0] for synonyms in each), tuple(synonyms[1:] for synonyms in each)


def _descriptions(found: object, names: Sequence[str] | None, source: str) -> dict[str, tuple[str, ...]]:
    if isinstance(found, list):
        if names is None or len(names) != len(found) or len(set(names)) < len(names):
            raise DataError(f'{source}: descriptions is a list of {len(found)}, so it needs as many different names; '
                            f'there are {len(set(names or ()))}. An object of name -> texts needs none.')
        found = dict(zip(names, found))
    if not isinstance(found, dict) or not found:
        raise DataError(f'{source}: descriptions is {str(found)[:40]!r}; expected name -> list of texts.')
    lacking = [name for name in names or () if name not in found]
    if lacking:
        raise DataError(f"{source}: '{lacking[0]}' has no description, and neither have {len(lacking) - 1} others.")
    return {name: _texts(texts, f"the descriptions of '{name}'", source) for name, texts in found.items()}


def _texts(found: object, what: str, source: str) -> tuple[str, ...]:
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise DataError(f'{source}: {what} is {str(found)[:60]!r}; expected texts, none of them empty.')
    return tuple(found)
