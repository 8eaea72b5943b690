"""Classes as text: their names in templates."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clear.core.errors import ConfigError
from clear.datasets.readers.labels import names_before

TEMPLATES = ('a photo of a {}.',)
# A tuple of text as readers write it, perhaps with the number that tells two of one name apart.
_SYNONYMS = re.compile(r'''\((['"])(.+?)\1,.*\)( #\d+)?$''')


def readable(name: str) -> str:
    """A class name as words: blanks for `_` and `/`, and of torchvision's tuples of synonyms (ImageNet) the first."""
    synonyms = _SYNONYMS.match(name)
    name = synonyms[2] if synonyms else name
    return name.replace('_', ' ').replace('/', ' ')


def readable_names(class_names: Sequence[str]) -> list[str]:
    """All class names of some data, in their order, as words; two of one name, which readers number, read the same."""
    return [readable(name) for name in names_before(class_names)]


def check_templates(templates: Sequence[str]) -> list[str]:
    """The templates, with `{}` for the placeholder `{c}` of CLIP_benchmark.

    Raises:
        ConfigError: for none, or one without `{}` or `{c}`.
    """
    if not isinstance(templates, (list, tuple)) or not templates:
        raise ConfigError(f'templates is {templates!r}; expected a list such as {list(TEMPLATES)}.')
    for template in templates:
        if not isinstance(template, str) or '{}' not in template and '{c}' not in template:
            raise ConfigError(f'templates holds {template!r}; expected text with {{}} where the class name goes.')
    return [template.replace('{c}', '{}') for template in templates]


def class_prompts(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """All templates of the first class, then of the next; every `{}` of a template is the name."""
    return [template.replace('{}', name) for name in names for template in templates]
