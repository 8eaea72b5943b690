"""Imports between the parts of `clear.continual` go one way, and nothing is left out of what a folder offers."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / 'clear' / 'continual'
# A part may import from itself and from parts of higher number.
LAYERS = {'lane': -1, 'strategies': 0, 'restorable': 0, 'repairs': 1, 'state': 1, 'loggers': 1, 'journal': 1,
          'sample_gradients': 2, 'resumable_loggers': 2, 'encoding': 2, 'batch_gradients': 3, 'training': 4,
          'buffers': 4, 'evaluate': 4, 'quiet_evaluator': 4, 'metrics': 4,
          'samples': 5, 'scenarios': 6, 'multitask': 6, 'plain_kinds': 6}
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
    for path in (PACKAGE / folder).rglob('*.py'):
        inside = path.parent.relative_to(PACKAGE).as_posix().replace('/', '.')
        offered = modules_imported(ast.parse((path.parent / '__init__.py').read_text()))
        registers = any(f'@{registry}.register_module' in path.read_text() for registry in REGISTRIES)
        assert not registers or f'clear.continual.{inside}.{path.stem}' in offered, path
        above = modules_imported(ast.parse((PACKAGE / folder / '__init__.py').read_text()))
        assert path.parent == PACKAGE / folder or f'clear.continual.{inside}' in above, path


# Inside `repairs`, by the same rule; what is no folder stands below them.
REPAIRS = {'architectural': 0, 'rehearsal': 1, 'regularisation': 2}


@pytest.mark.parametrize('group', REPAIRS)
def test_imports_between_groups_of_repairs_go_one_way(group):
    for path in (PACKAGE / 'repairs' / group).glob('*.py'):
        parts = {name.split('.')[3] for name in modules_imported(ast.parse(path.read_text()))
                 if name.startswith('clear.continual.repairs.')}
        wrong = {part for part in parts if part != group and REPAIRS.get(part, 3) <= REPAIRS[group]}
        assert not wrong, f'{path} imports {wrong}'


def test_repairs_has_every_group_and_says_that_it_is_complete():
    assert {path.parent.name for path in (PACKAGE / 'repairs').glob('*/__init__.py')} == set(REPAIRS)
    assert 'Complete' in ast.get_docstring(ast.parse((PACKAGE / 'repairs' / '__init__.py').read_text()))


def test_no_folder_has_more_than_fifteen_files():
    sizes = {path.parent: len(list(path.parent.glob('*.py'))) for path in FILES}
    assert not {folder: size for folder, size in sizes.items() if size > 15}
