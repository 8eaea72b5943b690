"""`clear init`: what it writes runs as it stands, in the folder that it names, and nothing is overwritten."""

import ast
import re
import shlex
import shutil
from pathlib import Path

import pytest
from short_runs import TOOLS, read_results, run

from clear.cli import PROGRAMS, SCRIPTS
from clear.core.configs.bases import resolve_base
from clear.core.errors import ConfigError
from clear.engine.starter.kinds import KINDS
from clear.engine.starter.modules import MODULES
from clear.engine.starter.write import commands, write_starter

ALL = pytest.mark.parametrize('kind', KINDS)


@ALL
def test_what_is_written_runs(kind, started):
    started(kind)
    done = run(KINDS[kind].program, 'config.py', '--dry-run')
    assert done.code == 0, done.err
    assert 'work_dir' in done.out and 'dry run' in done.out


@pytest.mark.parametrize('kind', ['continual', 'pretraining', 'alignment', 'probing', 'evaluation'])
def test_what_is_told_of_own_data_runs(kind, started):
    """The statements of the README, on a folder of images by class and a table of them."""
    started(kind)
    for part, bucket in (('train', '1'), ('test', '2')):
        shutil.copytree(f'data/demo/labeled_images/{bucket}', f'FOLDER/{part}')
    rows = [f'{path.relative_to("FOLDER")},a photo of {path.parent.name}' for path in Path('FOLDER').rglob('*.jpg')]
    Path('pairs.csv').write_text('\n'.join(['filepath,title', *rows]))
    config = Path('config.py').read_text()
    text = KINDS[kind].own.replace('...', '10').replace('ROOT', 'data/demo/labeled_images')
    told = [each for each in re.findall(r'`(\w+ ?= ?[^`]+)`', text) if 'FILE' not in each]
    assert told
    if kind == 'continual':
        config = re.sub(r'^scenario = (.|\n)*?\n(?=# Any)', '', config, flags=re.MULTILINE)
        config = config.replace('scenarios/demo.py', 'scenarios/folder_by_time.py').replace('lenet5_demo', 'resnet18')
    if kind == 'evaluation':
        told = [f"data['test'].update({told[0].replace('FOLDER', 'FOLDER/test')})"]
    Path('config.py').write_text('\n'.join([config, *told]))
    done = run('train', 'config.py', '--dry-run')
    assert done.code == 0, done.err
    assert 'dry run' in done.out


@pytest.mark.slow
def test_a_whole_run_with_loader_workers_and_its_report(started):
    """`own.py` lies in the current folder alone, and loader workers import it too."""
    started('continual')
    done = run('train', 'config.py', '--cfg-options', 'cl_strategy.train_epochs=1', 'num_workers=2', 'report=False',
               'scenario.cache=None', 'threads=1')
    assert done.code == 0, done.err
    assert len(read_results('work_dirs/config')['acc_matrix']) == 10
    assert run('analysis_tools/make_report', 'work_dirs/config', '--dry-run').code == 0


@ALL
def test_texts_name_what_there_is(kind):
    """Every `clear::` name, program and module."""
    chosen = KINDS[kind]
    text = chosen.config + chosen.own
    for name in re.findall(r'clear::[\w./-]*\w', text):
        assert name.endswith('/selfsup') or resolve_base(name).is_file()
    own = {node.name for node in ast.parse(MODULES[chosen.module]).body if isinstance(node, ast.ClassDef)}
    assert own and all(f"type='{name}'" in chosen.config for name in own)
    for line in [*commands(kind), *re.findall(r'`(clear [^`]+)`', chosen.own)]:
        program = shlex.split(line)[1]
        assert program in PROGRAMS, line


def test_first_commands_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run('init', 'mine')
    assert done.code == 0 and not done.err
    told = [line.split('#')[0].strip() for line in done.out.splitlines() if line.startswith('  ')]
    assert told == ['cd mine', *commands('continual')]
    assert sorted(path.name for path in (tmp_path / 'mine').iterdir()) == ['README.md', 'config.py', 'own.py']
    readme = (tmp_path / 'mine' / 'README.md').read_text()
    assert all(line in readme for line in commands('continual'))
    help_text = run('init', '--help').out
    assert all(re.search(rf'^  {kind} +{re.escape(chosen.about)}', help_text, re.MULTILINE)
               for kind, chosen in KINDS.items())


def test_this_folder_may_be_the_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'notes.txt').write_text('mine')
    done = run('init', '.', '--kind', 'probing')
    assert done.code == 0 and '  cd ' not in done.out


@pytest.mark.parametrize('name', ['config.py', 'own.py', 'README.md'])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text('mine')
    with pytest.raises(ConfigError, match=re.escape(f'already holds {name}, and nothing was written')):
        write_starter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == 'mine'


@pytest.mark.parametrize('folder, kind, message', [
    ('file', 'continual', 'is a file'), ('new', 'continaul', "--kind is 'continaul'; expected 'continual'"),
    ('a::b', 'continual', 'stands for a package')])
def test_bad_input(tmp_path, folder, kind, message):
    (tmp_path / 'file').write_text('')
    done = run('init', tmp_path / folder, '--kind', kind)
    assert done.code == 2 and message in done.err and done.err.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_scripts_of_the_command_are_there():
    assert all((TOOLS / file).is_file() for file, _ in SCRIPTS.values())
