"""What README and docs say is true: commands run, examples load, links and tables agree with the code.

Commands run in this process, in a folder with a demo of 100 digits and a CLEAR-10 of random images. To stay short they
are changed where `doc_commands.adapted` says so: one epoch, and `--dry-run` where real CLEAR, the network or GPUs are
needed.
"""

import ast
import inspect
import json
import logging
import os
import random
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from blank_figures import DRAWN, drawing_by
from clear_trees import write_clear_tree
from diary_files import write_pairs, write_study
from doc_commands import COMMANDS, SCRIPTS, call, is_long, make_targets, promised_files, run, run_what_is_needed
from doc_pages import (
    PAGES,
    READMES,
    ROOT,
    Command,
    blocks,
    commands,
    languages,
    links,
    names_in,
    python_files,
    python_fragments,
    table,
    tables_below,
)
from legacy_trees import bucket as legacy_bucket
from legacy_trees import write_tree
from metadata_files import row as photo_row
from metadata_files import write as write_photos
from metadata_files import write_sqlite
from own_streams import write_photos as write_own_photos
from own_streams import write_posts

DOCS = ROOT / 'docs'
DEMO_STEPS = [line.replace('.venv/bin/python', 'python') for line in make_targets()['demo']]
DEMO_CONFIGS = sorted(path.name for path in (ROOT / 'configs' / 'demo').glob('*_lenet5_demo.py'))
EXAMPLES = python_files()
# Configs that no command of their page trains.
EXAMPLE_CONFIGS = sorted(name for name in EXAMPLES if name.startswith('configs/')
                         and not any(f'tools/train.py {name}' in command.text for command in COMMANDS))
STRATEGY_PAGE = 'continual_learning.md'


# Fixtures


def write_lightnings_checkpoint(path):
    """A SimCLR of lightly's tutorial as Lightning saves it: the layers of its ResNet go by position."""
    from torchvision.models import resnet18

    backbone = torch.nn.Sequential(*list(resnet18(weights=None).children())[:-1])
    state = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    torch.save({'state_dict': {**state, 'projection_head.layers.0.weight': torch.rand(8, 512)}, 'epoch': 1}, path)


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder like a clone in which `make demo` has run and a CLEAR-10 lies, with the examples of all pages."""
    root = tmp_path_factory.mktemp('workspace')
    for name in ('_base_', 'demo', 'clear10'):
        (root / 'configs').mkdir(exist_ok=True)
        (root / 'configs' / name).symlink_to(ROOT / 'configs' / name)
    for name, text in EXAMPLES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    write_clear_tree(root / 'data' / 'clear10', layout='new', num_buckets=2, num_classes=11, per_class=3, features=2048)
    (root / 'data' / 'yfcc100m').mkdir()
    rng = random.Random(0)
    rows = [photo_row(number, rng) for number in range(50)]
    write_photos(root / 'data' / 'yfcc100m' / 'yfcc100m_dataset.bz2', rows)
    for name in ('yfcc100m_sqlite', 'own_stream', 'own_photos'):
        (root / 'data' / name).mkdir()
    write_sqlite(root / 'data' / 'yfcc100m_sqlite' / 'yfcc100m_dataset.sql', rows)
    write_posts(root / 'data' / 'own_stream' / 'posts.csv')
    write_own_photos(root / 'data' / 'own_photos')
    write_lightnings_checkpoint(root / 'last.ckpt')
    (root / 'CLIP' / 'data').mkdir(parents=True)
    (root / 'CLIP' / 'data' / 'prompts.md').write_text("## Birdsnap\n```bash\nclasses = ['Barn Owl', 'Crow']\n```\n")
    photos = write_tree(root / 'data' / 'yfcc')
    (root / 'data' / 'yfcc' / 'bucket_11.json').write_text(json.dumps({'0': legacy_bucket(photos, range(5), root)}))
    with pytest.MonkeyPatch.context() as monkeypatch, drawing_by(DRAWN):
        monkeypatch.chdir(root)
        for text in DEMO_STEPS:
            arguments = run(Command('Makefile', text), monkeypatch, whole=True)
            assert all(path.exists() for path in promised_files(arguments))
    write_pairs(root / 'data' / 'cc', sorted((root / 'data' / 'demo' / 'labeled_images' / '1').rglob('*.jpg'))[:32])
    write_study(root)
    return root


@pytest.fixture
def here(workspace, monkeypatch, request):
    """Work in the workspace, and leave no trace of examples in this process."""
    from clear import registry

    if request.node.get_closest_marker('slow'):
        request.getfixturevalue('drawn_figures')
    registries = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    for each in registries:
        each.import_from_location()  # what is registered for the first time below would be taken for an example's
    before = [dict(each.module_dict) for each in registries]
    logger = logging.getLogger('clear')
    state, threads = (list(logger.handlers), logger.propagate, logger.level), torch.get_num_threads()
    monkeypatch.chdir(workspace)
    yield workspace
    for each, names in zip(registries, before):
        each.module_dict.clear()
        each.module_dict.update(names)
    for name in [name for name, module in sys.modules.items()
                 if str(getattr(module, '__file__', None)).startswith(str(workspace))]:
        del sys.modules[name]
    logger.handlers[:], logger.propagate = state[:2]
    logger.setLevel(state[2])
    torch.set_num_threads(threads)


# Commands


def test_steps_of_make_demo_are_in_the_docs(workspace):
    """They have run, as written, to make the workspace; `test_command` leaves them out."""
    assert DEMO_STEPS and set(DEMO_STEPS) <= {command.text for command in COMMANDS}


@pytest.mark.parametrize('command', [each for each in COMMANDS if each.text not in DEMO_STEPS],
                         ids=lambda command: command.text)
def test_command(command, here, monkeypatch):
    run_what_is_needed(command, monkeypatch)
    arguments = run(command, monkeypatch, whole=not is_long(command))
    assert all(path.exists() for path in promised_files(arguments or ['']))


@pytest.mark.slow
@pytest.mark.parametrize('command', [each for each in COMMANDS if is_long(each)], ids=lambda each: each.text)
def test_long_command(command, here, monkeypatch):
    arguments = run(command, monkeypatch, whole=True)
    if arguments is not None:
        files = promised_files(arguments)
        assert files and all(path.exists() for path in files)


@pytest.mark.slow
@pytest.mark.parametrize('command', [each for each in COMMANDS if each.words[0] in SCRIPTS], ids=lambda each: each.text)
def test_script_starts(command, here):
    env = {**os.environ, **command.variables, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([str(ROOT / command.words[0]), *command.words[1:], '--dry-run'], env=env, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert 'would start: ' in done.stdout and 'dry run' in done.stdout


def test_unknown_command_fails(here, monkeypatch):
    with pytest.raises(pytest.fail.Exception, match='nothing is known'):
        run(Command('x.md', 'rm -rf data'), monkeypatch, whole=True)


def test_wrong_command_fails(here, monkeypatch):
    text = 'python tools/train.py configs/demo/naive_lenet5_demo.py --cfg-options cl_strategy.mem_sise=1'
    with pytest.raises(AssertionError):
        run(Command('x.md', text), monkeypatch, whole=True)


def test_readmes_have_the_same_commands_and_examples():
    english, chinese = READMES
    assert [each.text for each in commands(english)] == [each.text for each in commands(chinese)]
    assert blocks(english, 'python') == blocks(chinese, 'python')
    assert {target for target in links(english) if target.startswith(('docs/', 'http'))} == \
           {target for target in links(chinese) if target.startswith(('docs/', 'http'))}


def test_fences_are_of_known_languages():
    for page in PAGES:
        assert languages(page) <= {'bash', 'python', 'text', 'console', 'bibtex'}, page


# Examples


@pytest.mark.parametrize('name', EXAMPLE_CONFIGS)
def test_example_config(name, here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    assert call('tools/train.py', [name, '--dry-run']) == 0


@pytest.mark.parametrize('name', sorted(name for name in EXAMPLES if not name.startswith('configs/')))
def test_example_code(name, here, monkeypatch, drawn_figures):
    monkeypatch.syspath_prepend((here / name).parent)
    loss = runpy.run_path(str(here / name), run_name='__main__').get('loss')
    assert loss is None or bool(loss.isfinite())


@pytest.mark.parametrize('page, text', python_fragments())
def test_python_fragment(page, text):
    """What is no whole file must at least compile, and import names that exist."""
    for node in ast.parse(text).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            exec(compile(ast.Module([node], []), page, 'exec'), {})


# Links, pictures and tables


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_exist(page):
    for target in links(page):
        if not target.startswith(('http://', 'https://')):
            path, _, anchor = target.partition('#')
            assert not anchor and (page.parent / path).exists(), target


def test_architecture_names_what_there_is():
    text = (ROOT / 'ARCHITECTURE.md').read_text()
    named = set(re.findall(r'`((?:clear|tools|tests)/[\w./]+)`', text))
    assert len(named) > 20 and [name for name in sorted(named) if not (ROOT / name).exists()] == []
    for name in re.findall(r'^\d\. `(\w+)`', text.split('## 5.')[1], re.MULTILINE):
        assert f'{name}(' in (ROOT / 'clear/continual/training/mixin.py').read_text(), name


def test_every_page_is_listed():
    listed = set(links(DOCS / 'index.md'))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob('*.md')}
    missing = pages - {'index.md'} - listed
    assert not missing, f'docs/index.md does not list {sorted(missing)}'


def test_pictures_are_small_and_shown():
    pictures = sorted((DOCS / 'images').iterdir())
    assert [path.name for path in pictures] == ['comparison.png', 'curate_app.png', 'demo_matrix.png', 'report.png']
    pages = ''.join(page.read_text() for page in (*DOCS.rglob('*.md'), *ROOT.glob('*.md')))
    assert all(path.stat().st_size < 150_000 and f'images/{path.name})' in pages for path in pictures)


def test_run_folder_holds_what_the_readme_lists(here):
    for readme, header in zip(READMES, ('file', '文件')):
        names = [name for row in table(readme, header) for name in names_in(row[0])]
        assert len(names) == 9
        for name in names:
            assert (here / 'work_dirs/naive_lenet5_demo' / name.replace('<i>', '9')).exists(), name


def test_results_page_lists_every_key(here):
    from clear.continual.metrics import CLEAR_METRICS
    from clear.core.files import load_tensors, read_json

    page, folder = DOCS / 'results.md', here / 'work_dirs/naive_lenet5_demo'
    keys = [name for row in tables_below(page, '## `results.json`') for name in names_in(row[0])]
    assert set(keys) - {'joint'} == set(read_json(folder / 'results.json'))
    assert [names_in(row[0])[0] for row in tables_below(page, '## Metrics')] == list(CLEAR_METRICS)
    keys = [name for row in tables_below(page, '## Checkpoints') for name in names_in(row[0])]
    assert sorted(keys) == sorted(load_tensors(folder / 'latest.pth'))


def test_configs_page_lists_every_key_with_its_default():
    from clear.continual.scenarios.clear import clear_benchmark
    from clear.continual.strategies.build import OWN_KEYS
    from clear.engine.continual.keys import DEFAULTS, KNOWN

    page = DOCS / 'configs.md'
    rows = {name: row[1] for row in tables_below(page, '## Keys') for name in names_in(row[0])}
    # mmengine reads the two that are set apart here.
    assert set(rows) - {'custom_imports'} == set(KNOWN) - {'default_scope', 'custom_imports'}
    for name, value in rows.items():
        if name in DEFAULTS and name not in ('work_dir', 'name', 'metrics'):
            assert _value(value) == DEFAULTS[name], name

    rows = {name: row[1] for row in tables_below(page, '### `scenario`') for name in names_in(row[0])}
    parameters = inspect.signature(clear_benchmark).parameters
    assert set(rows) - {'type'} == set(parameters) - {'work_dir'}
    for name, value in rows.items():
        if value != 'required':
            assert _value(value) == parameters[name].default, name

    rows = [name for row in tables_below(page, '### `cl_strategy`') for name in names_in(row[0])]
    assert set(rows) == OWN_KEYS | {'train_mb_size', 'eval_mb_size', 'train_epochs'}


def _value(cell: str):
    """A default as a table writes it: plain or in backticks, dict(...) included."""
    text = cell.strip('`')
    node = ast.parse(text, mode='eval').body
    if isinstance(node, ast.List) and node.elts and isinstance(node.elts[0], ast.Call):
        return [_value(ast.unparse(each)) for each in node.elts]
    if isinstance(node, ast.Call):
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    return ast.literal_eval(node)


def _learner(path):
    """What a recipe is about: its strategy, or the plugin that its base adds to Naive."""
    base = re.search(r'_base_/strategies/\w+\.py', path.read_text())[0]
    return re.findall(r"type='(\w+)'", (ROOT / 'configs' / base).read_text().partition('optimizer=')[0])[-1]


def test_strategies_are_documented():
    """The common ones with a section, a command and a result; all of them in the table of their page."""
    page = DOCS / STRATEGY_PAGE
    folder = ROOT / 'configs/_base_/strategies'
    types = {re.search(r"type='(\w+)'", path.read_text())[1] for path in folder.glob('*.py')}
    common = {_learner(ROOT / 'configs' / 'demo' / name) for name in DEMO_CONFIGS}
    headings = re.findall(r'^### (\w+)$', page.read_text().split('## The strategies')[1], re.MULTILINE)
    assert set(headings) == common and len(headings) == len(common) == len(DEMO_CONFIGS)
    trained = [Path(each.words[2]).name for each in commands(page) if each.words[1] == 'tools/train.py']
    assert sorted(set(trained) & set(DEMO_CONFIGS)) == DEMO_CONFIGS
    listed = {name for row in tables_below(DOCS / 'strategies.md', '# Strategies') for name in names_in(row[0])}
    assert types <= listed, sorted(types - listed)
    for readme in READMES:
        line = next(line for line in readme.read_text().splitlines() if line.startswith('- `cl_strategy.type`'))
        assert {name for name in common if not name.endswith('Plugin')} <= set(names_in(line))
        assert '(docs/strategies.md)' in readme.read_text()
    results = {row[0]: row[1:] for row in table(page, 'strategy')}
    assert set(results) == common
    for name, row in results.items():
        assert all(re.fullmatch(r'-?\d\.\d{3}', cell) for cell in row[:5]), name
