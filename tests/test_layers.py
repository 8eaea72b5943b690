"""Imports between the parts of the package go one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'clear'
# A part may import from its own layer's own part and from parts of higher number.
LAYERS = {'cli': 0, 'engine': 0, 'continual': 1, 'evaluation': 1, 'curation': 1, 'visualization': 1, 'features': 2,
          'models': 3, 'datasets': 3, 'registry': 4, 'core': 5}
FILES = sorted(PACKAGE.rglob('*.py'))


def imported_parts(path: Path) -> set[str]:
    """The parts of `clear` that a file imports, anywhere in it."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f'clear.{alias.name}' for alias in node.names] if node.module == 'clear' else [node.module]
        parts |= {name.split('.')[1] for name in names if name.startswith('clear.')}
    return parts & set(LAYERS)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if own == '__init__':
        return
    assert own in LAYERS, f'{own} has no place in the order'
    wrong = {part for part in imported_parts(path) if part != own and LAYERS[part] <= LAYERS[own]}
    assert not wrong, f'{path} imports {wrong}'


def test_the_check_sees_a_wrong_import(tmp_path):
    file = tmp_path / 'x.py'
    file.write_text('def f():\n    from clear.engine import launch\n')
    assert imported_parts(file) == {'engine'}
