"""YAML and JSON configs are data: plain values of bounded size, read without building any object."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from clear.core.errors import ConfigError
from clear.core.files import parse_json

MAX_CHARACTERS = 1 << 20
# Values after every alias was replaced by what it stands for. A shipped config has some hundred.
MAX_VALUES = 50_000
MAX_DEPTH = 100


class _PlainLoader(yaml.SafeLoader):
    """Dicts, lists, text, numbers, True, False and null; counts what aliases stand for while the text is read."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self.values = 0
        self.depth = 0
        self.values_of: dict[int, int] = {}  # id of a finished node -> values in it

    def compose_node(self, parent: yaml.Node | None, index: yaml.Node | int | None) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self.values_of:
                raise ConfigError(f'line {event.start_mark.line + 1}: *{event.anchor} holds itself.')
            self._count(self.values_of[id(node)])
            return node
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConfigError(f'line {event.start_mark.line + 1}: nested more than {MAX_DEPTH} deep.')
        before = self.values
        self._count(1)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.MappingNode):
            _refuse_twins(node)
        self.values_of[id(node)] = self.values - before
        self.depth -= 1
        return node

    def _count(self, values: int) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            raise ConfigError(f'it stands for more than {MAX_VALUES:,} values.')


def _refuse_twins(node: yaml.MappingNode) -> None:
    # YAML forbids them; PyYAML takes the last one without a word.
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != '<<':
            if key.value in seen:
                raise ConfigError(f"line {key.start_mark.line + 1}: the key '{key.value}' is there twice.")
            seen.add(key.value)


def _refuse_tag(loader: _PlainLoader, node: yaml.Node) -> None:
    raise ConfigError(f'line {node.start_mark.line + 1}: the tag {node.tag} is no plain value. Nothing was executed.')


# None: every tag without a constructor of its own. A date stays the text that it is.
_PLAIN = ('null', 'bool', 'int', 'float', 'str', 'seq', 'map')
_PlainLoader.yaml_constructors = {
    f'tag:yaml.org,2002:{kind}': yaml.SafeLoader.yaml_constructors[f'tag:yaml.org,2002:{kind}'] for kind in _PLAIN}
_PlainLoader.add_constructor('tag:yaml.org,2002:timestamp', yaml.SafeLoader.construct_yaml_str)
_PlainLoader.add_constructor(None, _refuse_tag)


def _check_length(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f'it has {len(text):,} characters; a config has at most {MAX_CHARACTERS:,}.')
    return text.removeprefix('\ufeff')


def parse_yaml_config(text: str) -> dict[str, object]:
    """The plain values of a YAML text.

    Raises:
        ConfigError: if a tag is none of plain YAML's, a key is there twice, it is too long, too deep, or stands for
            too many values; or as `check_mapping`.
        yaml.YAMLError: if it is no YAML.
    """
    return check_mapping(yaml.load(_check_length(text), Loader=_PlainLoader))  # noqa: S506 - ours is a safe loader


def parse_json_config(text: str) -> dict[str, object]:
    """The values of a JSON text.

    Raises:
        ConfigError: if it is too long; or as `check_mapping`.
        DataError: if it is no JSON.
    """
    return check_mapping(parse_json(_check_length(text), 'it'))


def check_mapping(value: object) -> dict[str, object]:
    """`value`, if it is what a config is: keys, all of them text, with values.

    Raises:
        ConfigError: if it is a list, a single value or nothing, or a key is no text, or `_base_` is no name of a file.
    """
    if not isinstance(value, dict):
        what = 'nothing' if value is None else 'a list' if isinstance(value, list) else f'the single value {value!r}'
        raise ConfigError(f'it holds {what}; expected keys and values, such as seed: 0.')
    _check_names(value)
    bases = value.get('_base_', [])
    if not isinstance(bases, str) and not (isinstance(bases, list) and all(isinstance(each, str) for each in bases)):
        raise ConfigError(f'_base_ is {bases!r}; expected the path of a config, or a list of paths.')
    return value


def _check_names(value: object, depth: int = 0) -> None:
    """Numbers and dates are keys for YAML; no key of a config is one."""
    if depth > MAX_DEPTH:
        raise ConfigError(f'it is nested more than {MAX_DEPTH} deep.')
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(value, dict) and not isinstance(key, str):
            raise ConfigError(f"the key {key!r} is no text; a name that looks like another value is quoted: '{key}'.")
        if isinstance(item, (dict, list)):
            _check_names(item, depth + 1)


@contextmanager
def plain_readers() -> Iterator[None]:
    """Let mmengine read YAML and JSON through the two functions above, for configs, their bases and its indices."""
    from mmengine.fileio.handlers import file_handlers

    before = dict(file_handlers)
    for suffix, parse in (('yaml', parse_yaml_config), ('yml', parse_yaml_config), ('json', parse_json_config)):
        file_handlers[suffix] = copy.copy(before[suffix])
        file_handlers[suffix].load_from_fileobj = lambda file, parse=parse, **kwargs: parse(file.read())
    try:
        yield
    finally:
        file_handlers.update(before)
