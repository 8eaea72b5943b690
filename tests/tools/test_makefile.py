"""The Makefile: what each target would do, and that nothing is installed twice."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from short_runs import ROOT


@pytest.fixture
def tree(tmp_path):
    """A tree that make believes to be installed, without any of it."""
    for name in ('Makefile', 'setup.py', 'requirements/constraints.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (1000, 1000))
    for position, name in enumerate(('bin/python', '.core', '.curate', '.dev')):
        path = tmp_path / '.venv' / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        os.utime(path, (2000 + position, 2000 + position))
    return tmp_path


def commands(folder, target, *arguments):
    """The lines that `make TARGET` would run."""
    # Inside a make that runs these tests its own flags and level must not be seen.
    env = {key: value for key, value in os.environ.items() if not key.startswith('MAKE') and key != 'MFLAGS'}
    done = subprocess.run(['make', '-n', target, *arguments], cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_demo_trains_replay_then_naive_and_compares(tree):
    lines = commands(tree, 'demo')
    programs = [shlex.split(line)[1] for line in lines]
    assert programs == ['tools/dataset_converters/make_demo_clear.py', 'tools/train.py', 'tools/train.py',
                        'tools/analysis_tools/compare_runs.py']
    assert 'replay_lenet5_demo.py' in lines[1] and 'naive_lenet5_demo.py' in lines[2]
    # A second `make demo` must not be refused because of the first one's results.
    assert lines[1].endswith('--overwrite') and lines[2].endswith('--overwrite')
    for path in [*programs, *re.findall(r'configs/\S+', ' '.join(lines))]:
        assert (ROOT / path).is_file(), path
    # What is compared is what was trained, in the same order.
    trained = [re.search(r'configs/demo/(\w+)\.py', line)[1] for line in lines[1:3]]
    assert [f'work_dirs/{name}' for name in trained] == shlex.split(lines[3])[2:4]


def test_the_demo_of_curation_makes_a_stream_and_curates_it_while_it_is_served(tree):
    stream, train = commands(tree, 'curate-demo')
    make, curate = stream.split(' --serve-while ')
    for path in re.findall(r'(?:tools|configs)/\S+', f'{stream} {train}'):
        assert (ROOT / path).is_file(), path
    assert shlex.split(make)[2] == 'data/curation_demo/stream' and 'configs/curation/demo.py' in curate
    # A second `make curate-demo` must not be refused because of what the first one made.
    assert curate.endswith('--overwrite') and train.endswith('--overwrite')


def test_tests_are_split_by_their_mark(tree):
    [quick] = commands(tree, 'test')
    slow, avx2 = commands(tree, 'test-slow')
    assert shlex.split(quick)[shlex.split(quick).index('pytest') + 1:][-3:] == ['-m', 'not slow', 'tests']
    assert shlex.split(slow)[-3:] == ['-m', 'slow', 'tests']
    # A second time, the kernels of processors without AVX-512.
    assert shlex.split(avx2)[-5:] == ['-m', 'not slow', 'tests/models', 'tests/evaluation', 'tests/features']
    assert {'ATEN_CPU_CAPABILITY=avx2', 'ONEDNN_MAX_CPU_ISA=AVX2', 'MKL_ENABLE_INSTRUCTIONS=AVX2'} <= {
        *shlex.split(avx2)}
    assert commands(tree, 'lint') == ['.venv/bin/ruff check .']


@pytest.mark.parametrize('target', ['demo', 'curate-demo', 'test', 'test-slow', 'lint'])
def test_what_is_installed_is_not_installed_again(tree, target):
    assert not [line for line in commands(tree, target) if 'pip' in line or 'venv .venv' in line]


def test_other_requirements_are_installed_anew(tree):
    os.utime(tree / 'requirements' / 'constraints.txt', (9000, 9000))
    [install] = [line for line in commands(tree, 'demo') if 'pip' in line]
    assert install.endswith('-c requirements/constraints.txt -e .')
    installs = [line for line in commands(tree, 'test') if 'pip' in line]
    assert [shlex.split(line)[-1] for line in installs] == ['.', '.[dev]']


def test_bare_machine_gets_an_environment_by_venv_and_pip(tree):
    shutil.rmtree(tree / '.venv')
    lines = commands(tree, 'demo', 'PYTHON=python3.11')
    assert lines[1] == 'python3.11 -m venv .venv'
    assert [line for line in lines if 'pip' in line] == [
        '.venv/bin/pip --disable-pip-version-check install -q -c requirements/constraints.txt -e .']


def test_targets_are_not_files(tree):
    for target in ('demo', 'curate-demo', 'test', 'lint', 'clean'):
        (tree / target).touch()
        assert commands(tree, target), target


def test_clean_removes_what_was_made(tree):
    text = ' '.join(commands(tree, 'clean'))
    assert all(name in text for name in ('.venv', 'work_dirs', 'data/demo', '__pycache__'))
    assert 'configs' not in text and 'tests' not in text


ENDS = {
    'crashes': """
def test_it():
    os.abort()
""",
    'hangs_in_c': """
@pytest.mark.timeout(1)
def test_it():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    ctypes.PyDLL(None).sleep(600)  # with Python's lock held
""",
    'hangs_after_a_failure': """
@pytest.fixture
def stuck():
    yield
    time.sleep(600)

@pytest.mark.timeout(1)
def test_it(stuck):
    assert False
"""}


def make_test(tree, **files):
    """What `make test` runs, with our settings and our conftest, on test files of these names and texts."""
    (tree / 'tests').mkdir()
    shutil.copy(ROOT / 'pyproject.toml', tree)
    shutil.copy(ROOT / 'tests' / 'conftest.py', tree / 'tests')
    shutil.copytree(ROOT / 'tests' / 'helpers', tree / 'tests' / 'helpers')
    for name, text in files.items():
        (tree / 'tests' / f'test_{name}.py').write_text(f'import ctypes, os, signal, time\n\nimport pytest\n{text}')
    [line] = commands(tree, 'test')
    env = {key: value for key, value in os.environ.items() if not key.startswith('PYTEST')}
    return subprocess.run([sys.executable, *shlex.split(line)[1:]], cwd=tree, capture_output=True, text=True, env=env,
                          timeout=120)


FINE = {f'fine_{number}': 'def test_fine():\n    pass\n' for number in range(5)}


@pytest.mark.slow
@pytest.mark.parametrize('how', ENDS)
def test_a_worker_that_dies_or_hangs_ends_the_run(tree, how):
    done = make_test(tree, **FINE, **{how: ENDS[how]})
    assert done.returncode == 1, done.stdout + done.stderr
    assert f'FAILED tests/test_{how}.py' in done.stdout
    assert f"crashed while running 'tests/test_{how}.py::test_it'" in done.stdout


@pytest.mark.slow
def test_a_worker_that_dies_between_tests_fails_the_run(tree):
    done = make_test(tree, **FINE, dies='if "PYTEST_XDIST_WORKER" in os.environ:\n    os.abort()\n')
    assert done.returncode != 0, done.stdout + done.stderr
