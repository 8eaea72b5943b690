"""Class names and templates out of the source files of other projects, which are read and never run."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json, read_text

SUFFIXES = ('.py', '.ipynb', '.md')
_PARTS = {'names': r'classes|class_?names|class_?map|labels?|names|categories',
          'templates': r'(?:prompt_?)?templates?|template_?map|prompts?'}
_VARIABLE = re.compile(f'(?P<set>.*?)_*(?:(?P<names>{_PARTS["names"]})|(?P<templates>{_PARTS["templates"]}))',
                       re.IGNORECASE)
_HEADING = re.compile(r'#+\s*(.+?)\s*$')
_FENCE = re.compile(r'\s*(`{3,}|~{3,})')


class Unreadable(Exception):
    """An expression that is more than a value."""


@dataclass
class PromptTables:
    """What was found.

    Attributes:
        lists: set -> `names` (texts, or lists of synonyms) and `templates` (with `{}`), one of them at least.
        skipped: what looks like a list of names or templates and was not read, `where: why`.
    """

    lists: dict[str, dict[str, list]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    _found_in: dict[tuple[str, str], Path] = field(default_factory=dict)

    def add(self, name: str, part: str, value: list, path: Path) -> None:
        """Note a list.

        Raises:
            DataError: if another file has another list of that name.
        """
        known = self.lists.setdefault(name, {})
        if known.setdefault(part, value) != value:
            raise DataError(f"{part} of '{name}' are others in {path} than in {self._found_in[name, part]}. Read the "
                            'projects one by one.')
        self._found_in.setdefault((name, part), path)


def read_prompt_tables(sources: Iterable[str | Path]) -> PromptTables:
    """The lists of class names and templates in Python files, notebooks, and fenced blocks of Markdown.

    What is read are assignments of lists, and of mappings from sets to lists, to variables of the names that projects
    use: `classes`, `cifar10_classnames`, `class_map`, `templates`, `food101_templates`, `template_map`, `prompts`; a
    mapping may also lead from a set to one of `classes` and `templates`. Where such a name says no set, the heading
    above it does, else the file. A template is a text with `{}` or `{c}`, or a function of the name such as
    `lambda c: f'a photo of a {c}.'`. Values may refer to earlier variables and add lists.

    Args:
        sources: files, and folders with files anywhere below.

    Raises:
        DataError: for a file that is not there or cannot be parsed, two files that differ in a list, or none found.
    """
    found = PromptTables()
    for path in _files(sources):
        for heading, text in _blocks(path):
            _read_block(text, heading, path, found)
    if not found.lists:
        raise DataError('No class names or templates were found: no variable called like classes, cifar10_templates, '
                        f'class_map or prompts is a list. Skipped: {"; ".join(found.skipped[:3]) or "nothing"}.')
    return found


def _files(sources: Iterable[str | Path]) -> list[Path]:
    files = []
    for source in map(Path, sources):
        inside = sorted(path for path in source.rglob('*') if path.suffix in SUFFIXES and path.is_file())
        if source.is_dir() and not inside:
            raise DataError(f'{source} has no file that ends in {", ".join(SUFFIXES)}.')
        if not source.is_dir() and source.suffix not in SUFFIXES:
            raise ConfigError(f'{source} is no source that is known: files end in {", ".join(SUFFIXES)}.')
        files += inside if source.is_dir() else [source]
    return files


def _blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Pieces of Python, each with the heading above it."""
    if path.suffix == '.py':
        yield '', read_text(path)
    elif path.suffix == '.ipynb':
        cells = read_json(path)
        for cell in (cells.get('cells') if isinstance(cells, dict) else None) or ():
            if isinstance(cell, dict) and cell.get('cell_type') == 'code':
                lines = ''.join(cell.get('source', '')).splitlines()
                yield '', '\n'.join(line for line in lines if not line.lstrip().startswith(('%', '!')))
    else:
        heading, fence, lines = '', None, []
        for line in read_text(path).splitlines():
            mark = _FENCE.match(line)
            if fence is not None and mark and line.strip() == fence:
                yield heading, textwrap.dedent('\n'.join(lines))
                fence = None
            elif fence is not None:
                lines.append(line)
            elif mark:
                fence, lines = mark[1], []
            elif title := _HEADING.match(line):
                heading = title[1]


def _read_block(text: str, heading: str, path: Path, found: PromptTables) -> None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if path.suffix == '.py':
            raise DataError(f'{path} is no Python that can be read: {error}.') from error
        return  # Commands of a shell, output, a cell for another language.
    reader = _Reader()
    lists: list[tuple[str, str, object]] = []
    for target, value in _assignments(tree):
        named, used = _VARIABLE.fullmatch(target), {*reader.used}
        try:
            reader.scope[target] = reader.value(value)
        except (Unreadable, RecursionError) as error:
            reader.scope.pop(target, None)
            reader.used = used
            if named:
                found.skipped.append(f'{path.name}:{value.lineno}: {target}: {error or "nested too deep"}')
        else:
            if named:
                lists.append((target, named['set'], reader.scope[target]))
    for target, prefix, value in lists:
        if target in reader.used:
            continue  # It is part of another variable.
        for name, part, entry in _entries(value, prefix or heading or path.stem, target):
            try:
                found.add(name, part, _as_list(entry, part), path)
            except Unreadable as error:
                found.skipped.append(f'{path.name}: {target} of {name}: {error}')


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        for target in targets if isinstance(node, (ast.Assign, ast.AnnAssign)) else ():
            if isinstance(target, ast.Name) and node.value is not None:
                yield target.id, node.value


def _entries(value: object, name: str, key: str) -> Iterator[tuple[str, str, object]]:
    """(set, part, list) of one list, of a mapping of sets to lists, or of one to such mappings.

    Args:
        key: what says whether a list is one of names: the variable, or a key of the mapping of a set.
    """
    if not isinstance(value, Mapping):
        yield name, 'names' if _VARIABLE.fullmatch(key)['names'] else 'templates', value
        return
    for inner, entry in value.items():
        if isinstance(entry, Mapping):
            for part, lists in entry.items():
                if _VARIABLE.fullmatch(part):
                    yield from _entries(lists, inner, part)
        else:
            yield from _entries(entry, inner, key)


def _as_list(value: object, part: str) -> list:
    values = [value] if isinstance(value, str) and part == 'templates' else value
    if not isinstance(values, list) or not values:
        raise Unreadable('no list')
    if part == 'templates':
        for template in values:
            if not isinstance(template, str) or '{}' not in template and '{c}' not in template:
                raise Unreadable(f'{str(template)[:40]!r} has no {{}}')
        return [template.replace('{c}', '{}') for template in values]
    names = [str(name) if isinstance(name, int) else name for name in values]
    for name in names:
        words = name if isinstance(name, list) else [name]
        if not words or not all(isinstance(word, str) and word for word in words):
            raise Unreadable(f'{str(name)[:40]!r} is no name')
    return names


class _Reader:
    """Values of expressions that hold no more than literals, earlier variables, sums, and functions that fill a text.

    Attributes:
        scope: variables so far.
        used: those that were part of another value.
    """

    def __init__(self):
        self.scope: dict[str, object] = {}
        self.used: set[str] = set()

    def value(self, node: ast.expr) -> object:
        """The value of an expression.

        Raises:
            Unreadable: if it is more than that.
        """
        match node:
            case ast.Constant(value=str() | int() | float() | None):
                return node.value
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return [self.value(element) for element in elements]
            case ast.Dict(keys=keys, values=values) if None not in keys:
                return {str(self.value(key)): self.value(value) for key, value in zip(keys, values)}
            case ast.Call(func=ast.Name(id='dict'), args=[], keywords=pairs) if all(pair.arg for pair in pairs):
                return {pair.arg: self.value(pair.value) for pair in pairs}
            case ast.Call(func=ast.Name(id='list' | 'tuple'), args=[only], keywords=[]):
                return self.value(only)
            case ast.Name(id=name) if name in self.scope:
                self.used.add(name)
                return self.scope[name]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                first, second = self.value(left), self.value(right)
                if isinstance(first, (str, list)) and type(first) is type(second):
                    return first + second
            case ast.Lambda(args=ast.arguments(args=[ast.arg(arg=name)]), body=body):
                return _filled(body, name)
        raise Unreadable(f'{ast.unparse(node)[:40]} is no plain value')


def _filled(node: ast.expr, name: str) -> str:
    """A text in which the argument of a function is put, with `{}` for the argument."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=argument) if argument == name:
            return '{}'
        case ast.JoinedStr(values=parts):
            return ''.join(_filled(part, name) for part in parts)
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return _filled(value, name)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _filled(left, name) + _filled(right, name)
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod(), right=ast.Name(id=argument)) \
                if argument == name and text.count('%') == text.count('%s') == 1:
            return text.replace('%s', '{}')
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr='format'),
                      args=[ast.Name(id=argument)], keywords=[]) if argument == name:
            return text
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr='format'), args=[],
                      keywords=[ast.keyword(arg=str(key), value=ast.Name(id=argument))]) if argument == name:
            return text.replace(f'{{{key}}}', '{}')
    raise Unreadable(f'{ast.unparse(node)[:40]} does more than put the name into a text')
