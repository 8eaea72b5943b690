"""Annotations say something: `Any` stands where nothing is known, which is seldom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'clear'
MOST_ANY = 0.04


def annotations(source: str) -> Iterator[ast.expr]:
    """Those of arguments, of what functions return, and of names that are assigned or declared."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            yield from (each.annotation for each in every if each is not None and each.annotation is not None)
            if node.returns is not None:
                yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def names_in(annotation: ast.expr) -> set[str]:
    """The names of an annotation, also of one that is quoted as a whole or in parts."""
    names = set()
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.strip():
            try:
                names |= names_in(ast.parse(node.value.strip(), mode='eval').body)
            except SyntaxError:
                continue  # a choice of a Literal, which names no type
    return names


def aliases_of_any(sources: list[str]) -> set[str]:
    """Names that are assigned a type with `Any` in it, or with another such name: they stand for `Any`."""
    assigned = [(target.id, node.value) for source in sources for node in ast.parse(source).body
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and _is_alias(node)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                if isinstance(target, ast.Name)]
    found = {'Any'}
    while more := {name for name, value in assigned if names_in(value) & found} - found:
        found |= more
    return found


def _is_alias(node: ast.Assign | ast.AnnAssign) -> bool:
    if isinstance(node, ast.AnnAssign):
        return 'TypeAlias' in names_in(node.annotation)
    return isinstance(node.value, (ast.Subscript, ast.BinOp, ast.Name))  # Callable[[Any], None], int | Any, Any


@pytest.mark.parametrize('source, expected', [
    ('def f(a: int, /, b: Any, *c: Any, d: str, **e: Any) -> Any: ...', (6, 4)),
    ('def f(self, x, y=1): ...', (0, 0)),
    ('class A:\n    x: dict[str, Any] = {}\n    y: "list[typing.Any]"\n    z: int', (3, 2)),
    ('async def f(x: Callable[[object], "Any"]) -> Iterator[None]:\n    y: int = 0', (3, 1)),
    ('Step = Callable[[Any], None]\nTwo: TypeAlias = "Step | None"\ndef f(x: Step, y: Two, z: Literal["Any of"]): ...',
     (4, 2)),
])
def test_the_count_sees_every_place_and_name(source, expected):
    found, unknown = list(annotations(source)), aliases_of_any([source])
    assert (len(found), sum(bool(names_in(each) & unknown) for each in found)) == expected


def test_few_annotations_say_any():
    sources = {path: path.read_text() for path in sorted(PACKAGE.rglob('*.py'))}
    unknown = aliases_of_any(list(sources.values()))
    total, places = 0, []
    for path, source in sources.items():
        for each in annotations(source):
            total += 1
            if names_in(each) & unknown:
                places.append(f'{path.relative_to(PACKAGE)}:{each.lineno}: {ast.unparse(each)}')
    assert total > 5000
    assert len(places) <= MOST_ANY * total, '\n'.join([f'{len(places)} of {total}:', *places])
