"""What is installed: a wheel built from this tree holds the package, its configs and its programs, and works alone."""

import email
import shutil
import subprocess
import sys
import zipfile

import pytest
from short_runs import CONFIGS, ROOT, TOOLS, environment

SOURCES = ('clear', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE',
           'CHANGELOG.md')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A wheel, built in a copy so that no build folder is left in the tree."""
    copy = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp('wheel')
    done = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation',
                           '--no-index', '-w', str(out), str(copy)], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    [path] = out.glob('*.whl')
    return path


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The wheel's files in a folder, as `pip install --target` leaves them."""
    folder = tmp_path_factory.mktemp('installed')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def call(installed, folder, *arguments):
    """Run `python -m clear.cli` of the installed package from an unrelated folder."""
    code = 'import sys, clear, runpy; assert clear.__file__.startswith(sys.argv.pop(1)), clear.__file__; ' \
        "sys.argv[0] = 'clear'; runpy.run_module('clear.cli', run_name='__main__', alter_sys=True)"
    env = environment(PYTHONPATH=str(installed))
    return subprocess.run([sys.executable, '-c', code, str(installed), *map(str, arguments)], capture_output=True,
                          text=True, cwd=folder, env=env)


def relative_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*')
            if path.is_file() and '__pycache__' not in path.parts}


@pytest.mark.slow
def test_wheel_holds_configs_and_programs(installed):
    bundled = installed / 'clear' / '_bundled'
    assert relative_files(bundled / 'configs') == relative_files(CONFIGS)
    assert relative_files(bundled / 'tools') == relative_files(TOOLS)
    ours = relative_files(ROOT / 'clear')
    assert {path for path in relative_files(installed / 'clear') if not path.startswith('_bundled/')} == ours
    assert not (installed / 'tests').exists()


@pytest.mark.slow
def test_wheel_says_what_it_needs(installed):
    [info] = installed.glob('clear_framework-*.dist-info')
    metadata = email.message_from_string((info / 'METADATA').read_text())
    assert metadata['Name'] == 'clear-framework' and metadata['Requires-Python'] == '>=3.11'
    needs = metadata.get_all('Requires-Dist')
    for library in ('torch', 'mmengine', 'mmpretrain', 'avalanche-lib'):
        assert any(line.startswith(library) for line in needs), library
    assert {'align', 'ray', 'curate', 'app', 'data', 'dev'} <= set(metadata.get_all('Provides-Extra'))
    assert 'clear = clear.cli:main' in (info / 'entry_points.txt').read_text()


@pytest.mark.slow
def test_installed_package_works_without_the_tree(installed, tmp_path):
    printed = call(installed, tmp_path, 'print-config', 'configs/demo/naive_lenet5_demo.py')
    assert printed.returncode == 0, printed.stderr
    assert "type='LeNet5'" in printed.stdout

    made = call(installed, tmp_path, 'make-demo', 'data/demo', '--limit', 100)
    assert made.returncode == 0, made.stderr
    trained = call(installed, tmp_path, 'train', 'demo/naive_lenet5_demo.py', '--cfg-options',
                   'cl_strategy.train_epochs=1')
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / 'work_dirs' / 'naive_lenet5_demo' / 'results.json').is_file()


@pytest.mark.slow
def test_wheel_holds_every_file_of_git(installed):
    """Also what is no Python: word lists, pages, tables, scripts."""
    if not (ROOT / '.git').exists():
        pytest.skip('this tree is no checkout')
    done = subprocess.run(['git', 'ls-files', 'clear', 'configs', 'tools'], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    there = {path for path in done.stdout.splitlines() if (ROOT / path).is_file()}
    wanted = {path if path.startswith('clear/') else f'clear/_bundled/{path}' for path in there}
    assert wanted and wanted - relative_files(installed) == set()


@pytest.mark.slow
def test_first_folder_from_a_wheel(installed, tmp_path):
    """`clear init`, a run with the user's own module, its report, another seed, and what two processes would do."""
    assert call(installed, tmp_path, 'init', 'mine').returncode == 0
    folder = tmp_path / 'mine'
    short = ('--cfg-options', 'cl_strategy.train_epochs=1', 'report=False')
    for arguments in (('make-demo', 'data/demo', '--limit', 100), ('train', 'config.py', *short),
                      ('train', 'config.py', '--seed', 1, '--work-dir', 'work_dirs/seed1', *short),
                      ('report', 'work_dirs/config'), ('compare', 'work_dirs/config', 'work_dirs/seed1')):
        done = call(installed, folder, *arguments)
        assert done.returncode == 0, done.stderr
    assert (folder / 'work_dirs' / 'config' / 'report.html').is_file()
    planned = call(installed, folder, 'dist-train', 'config.py', 2, '--work-dir', 'work_dirs/two', '--dry-run')
    assert planned.returncode == 0 and 'would start: ' in planned.stdout, planned.stderr
    wrong = call(installed, folder, 'train', 'clear::demo/naive_lenet5.py')
    assert wrong.returncode == 2 and "'demo/naive_lenet5_demo.py'" in wrong.stderr
