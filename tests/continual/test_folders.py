"""Imports between the parts of `clear.continual` go one way, and nothing is left out of what a folder offers."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / 'clear' / 'continual'
# A part may import from itself and from parts of higher number.
LAYERS = {'strategies': 0, 'repairs': 1, 'state': 1, 'loggers': 1, 'journal': 1, 'sample_gradients': 2,
          'resumable_loggers': 2, 'training': 3, 'buffers': 3, 'evaluate': 3, 'quiet_evaluator': 3, 'metrics': 3,
          'samples': 4, 'scenarios': 5}
FILES = sorted(path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py')
REGISTRIES = ('STRATEGIES', 'PLUGINS')


def modules_imported(tree):
    """Names of the modules of `clear.continual` that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [f'{node.module}.{alias.name}' for alias in node.names] \
                if node.module == 'clear.continual' else [node.module or '']
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.startswith('clear.continual.')]


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    parts = {name.split('.')[2] for name in modules_imported(ast.parse(path.read_text()))}
    wrong = {part for part in parts if part != own and LAYERS[part] <= LAYERS[own]}
    assert not wrong, f'{path} imports {wrong}'


@pytest.mark.parametrize('folder', ['repairs', 'strategies'])
def test_every_file_that_registers_is_imported_by_its_folder(folder):
    offered = modules_imported(ast.parse((PACKAGE / folder / '__init__.py').read_text()))
    for path in (PACKAGE / folder).glob('*.py'):
        registers = any(f'@{registry}.register_module' in path.read_text() for registry in REGISTRIES)
        assert not registers or f'clear.continual.{folder}.{path.stem}' in offered, path
