"""Imports go one way between the parts of the package, and round in no circle; folders and files stay small."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'clear'
# A part may import from its own layer's own part and from parts of higher number.
LAYERS = {'cli': 0, 'engine': 0, 'continual': 1, 'evaluation': 1, 'curation': 1, 'visualization': 1, 'features': 2,
          'models': 3, 'datasets': 3, 'registry': 4, 'core': 5}
# Kind of runs in the engine -> the kinds that it is made of, which it may import from.
RUNS = {'training': set(), 'continual': set(), 'probing': set(), 'streams': {'training', 'probing'}}
FILES = sorted(PACKAGE.rglob('*.py'))
MOST_MODULES = 15
MOST_LINES = 400


def imported(path: Path, with_types: bool = True) -> Iterator[tuple[str, str]]:
    """(module, name) of what a file imports from `clear`, anywhere in it; the name is empty for `import clear.x`.

    Args:
        with_types: also what is imported for annotations alone.
    """
    tree = ast.parse(path.read_text())
    if not with_types:
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)
                     or ast.unparse(node.test) != 'TYPE_CHECKING']
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, '') for alias in node.names if alias.name.split('.')[0] == 'clear')
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split('.')[0] == 'clear':
            yield from ((node.module, alias.name) for alias in node.names)


def imported_parts(path: Path) -> set[str]:
    """The parts of `clear` that a file imports, anywhere in it."""
    names = (f'{module}.{name}' if module == 'clear' else module for module, name in imported(path))
    return {name.split('.')[1] for name in names if '.' in name} & set(LAYERS)


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name -> file; a folder's is that of its `__init__.py`."""
    names = {path: '.'.join(path.relative_to(package.parent).with_suffix('').parts) for path in package.rglob('*.py')}
    return {name.removesuffix('.__init__'): path for path, name in names.items()}


def circles(modules: dict[str, Path]) -> list[list[str]]:
    """Modules that import each other, directly or through others, at the top of a file or inside a function.

    A folder's `__init__.py` counts where a name is taken from the folder itself; what is imported for annotations alone
    does not.
    """
    graph = {name: {found for module, part in imported(path, with_types=False)
                    for found in [f'{module}.{part}' if f'{module}.{part}' in modules else module]
                    if found in modules and found != name} for name, path in modules.items()}
    reached = {name: _reached(graph, name) for name in graph}
    found = {frozenset(other for other in reached[name] if name in reached[other]) for name in graph}
    return sorted(sorted(circle) for circle in found if circle)


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, waiting = set(), [start]
    while waiting:
        for name in graph[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if own == '__init__':
        return
    assert own in LAYERS, f'{own} has no place in the order'
    wrong = {part for part in imported_parts(path) if part != own and LAYERS[part] <= LAYERS[own]}
    assert not wrong, f'{path} imports {wrong}'


@pytest.mark.parametrize('kind', RUNS)
def test_a_kind_of_runs_knows_those_alone_that_it_is_made_of(kind):
    names = {f'{module}.{name}'.split('.')[2] for path in (PACKAGE / 'engine' / kind).rglob('*.py')
             for module, name in imported(path) if module.startswith('clear.engine')}
    assert names & set(RUNS) <= RUNS[kind] | {kind}


def test_no_modules_import_each_other():
    assert circles(modules_of(PACKAGE)) == []


def test_no_folder_holds_more_modules_than_one_can_look_through():
    counts = {str(folder.relative_to(PACKAGE)): len(list(folder.glob('*.py'))) for folder in
              {path.parent for path in FILES}}
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def methods() -> set[str]:
    """The names of the strategies, plugins, memories, tasks and algorithms that a config can ask for."""
    from clear.registry import BUFFERS, MODELS, PLUGINS, STRATEGIES, TASKS

    MODELS.import_from_location()
    algorithms = {name for name, kind in MODELS.module_dict.items()
                  if kind.__module__.startswith(('clear.models.selfsup.', 'clear.models.alignment.'))}
    # Avalanche's modules also offer what they import themselves, such as `Tensor`.
    return algorithms | {name for registry in (STRATEGIES, PLUGINS, BUFFERS, TASKS) for name in registry.known_names()
                         if registry.get(name).__module__.startswith(('clear.', 'avalanche.'))}


def named(text: str, names: set[str]) -> set[str]:
    """Those of the names that a module has as an identifier, imported or not, or as a whole text.

    Docstrings, and messages that give a name as an example, are longer texts.
    """
    words: set[str | None] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            words.add(node.name)
        elif isinstance(node, ast.alias):
            words |= {*node.name.split('.'), node.asname}
    return words & names


def test_the_engine_names_no_strategy_algorithm_or_task():
    names = methods()
    assert {'Replay', 'Naive', 'ReplayPlugin', 'ReservoirSamplingBuffer', 'MoCo', 'Distilled', 'KNN'} <= names
    found = {str(path.relative_to(PACKAGE)): named(path.read_text(), names)
             for path in sorted((PACKAGE / 'engine').rglob('*.py'))}
    assert {path: words for path, words in found.items() if words} == {}, 'let the class say it, see docs/extending.md'


@pytest.mark.parametrize('text', [
    "x = cfg['type'] == 'KNN'", 'from clear.evaluation import KNN', 'import clear.evaluation as KNN', 'tasks.KNN()',
    'def f(x: KNN): ...', 'class KNN: ...', "x = f'{y}' + 'KNN'", "match x:\n    case 'KNN': ...",
    "x: 'KNN' = 1"])
def test_the_checks_see_a_name(text):
    assert named(text, {'KNN', 'EWC'}) == {'KNN'}


@pytest.mark.parametrize('text', [
    '"""As KNN does."""', "raise E('expected dict(type=...), e.g. KNN')", '# KNN', "x = 'OnlineKNNHook'", 'y = KNNs'])
def test_the_checks_let_examples_stand(text):
    assert named(text, {'KNN'}) == set()


def too_long(root: Path, *folders: str) -> dict[str, int]:
    """File -> lines, of the Python files in the folders that are longer than one reads in one go."""
    lines = {path: len(path.read_text().splitlines()) for folder in folders for path in (root / folder).rglob('*.py')}
    return {str(path.relative_to(root)): count for path, count in lines.items() if count > MOST_LINES}


def test_no_file_is_longer_than_one_reads_in_one_go():
    assert too_long(ROOT, 'clear', 'tools', 'tests') == {}, 'divide it by subject'


def test_the_checks_see_a_wrong_import_a_circle_and_a_long_file(tmp_path):
    package = tmp_path / 'clear'
    (package / 'core').mkdir(parents=True)
    (package / '__init__.py').write_text('')
    (package / 'core' / '__init__.py').write_text('')
    (package / 'core' / 'x.py').write_text('def f():\n    from clear.engine import launch\n')
    assert imported_parts(package / 'core' / 'x.py') == {'engine'}
    (package / 'core' / 'y.py').write_text('from clear.core import z\n')
    (package / 'core' / 'z.py').write_text('def f():\n    from clear.core.y import g\n')
    assert circles(modules_of(package)) == [['clear.core.y', 'clear.core.z']]
    for lines in (MOST_LINES, MOST_LINES + 1):
        (package / f'of_{lines}.py').write_text('x = 1\n' * lines)
    assert too_long(tmp_path, 'clear') == {f'clear/of_{MOST_LINES + 1}.py': MOST_LINES + 1}


def test_no_two_files_of_tests_have_one_name():
    names = [path.name for path in (ROOT / 'tests').rglob('test_*.py')]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f'pytest imports one of each alone: {twice}'
