"""Programs that are told to stop, or cannot write: one line, the right code, and `--resume` as if nothing had been."""

import errno
import os
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from clear_trees import write_clear_tree
from short_runs import (
    FEATURE_CONFIG,
    TOOLS,
    environment,
    program,
    read_results,
    run,
    train,
    without_timing,
    write_config,
)

from clear.core.files import load_tensors
from clear.engine.continual.runner import ContinualRunner

BOTH = pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
OPTIONS = ['--cfg-options', 'checkpoint_config.interval=1', 'cl_strategy.optimizer.momentum=0.9']


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


@pytest.fixture
def config(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RANK', raising=False)
    return write_config('config.py', FEATURE_CONFIG, root)


def without_figures(patch):
    patch.setattr('clear.visualization.draw_figures', lambda *args, **options: [])
    patch.setattr('clear.visualization.write_report', lambda results, path, **options: Path(path).write_text('report'))


def raising(patch, moment, number):
    """Send this process a signal while data are read, in the second experience, or while the report is drawn."""
    if moment == 'build':
        patch.setattr(ContinualRunner, 'build_data', lambda self: signal.raise_signal(number))
    elif moment == 'loop':
        original = ContinualRunner._on_iteration

        def on_iteration(self, strategy):
            original(self, strategy)
            if (strategy.clock.train_exp_counter, strategy.clock.train_exp_iterations) == (1, 2):
                signal.raise_signal(number)

        patch.setattr(ContinualRunner, '_on_iteration', on_iteration)
    else:
        patch.setattr('clear.visualization.draw_figures', lambda *args, **options: signal.raise_signal(number))


def assert_same_run(first, second):
    assert without_timing(read_results(first)) == without_timing(read_results(second))
    a, b = (load_tensors(Path(folder) / 'latest.pth')['state_dict'] for folder in (first, second))
    assert all(a[name].equal(b[name]) for name in a)


@BOTH
@pytest.mark.parametrize('moment', ['build', 'loop', 'report'])
def test_a_stopped_run_says_so_and_goes_on(config, monkeypatch, moment, number, code):
    with monkeypatch.context() as patch:
        without_figures(patch)
        train(config, '--work-dir', 'whole', *OPTIONS)
        raising(patch, moment, number)
        stopped = run('train', config, '--work-dir', 'run', *OPTIONS)
    assert stopped.code == code
    line, = stopped.err.splitlines()
    assert line.startswith('error: Stopped by a signal.') and '--resume' in line
    assert Path('run/iteration.pth').exists() == (moment == 'loop')
    without_figures(monkeypatch)
    train(config, '--work-dir', 'run', *(['--resume'] if moment != 'build' else []), *OPTIONS)
    assert_same_run('whole', 'run')


@pytest.mark.parametrize('name', ['test', 'predict', 'print_config', 'analysis_tools/make_report',
                                  'dataset_converters/make_demo_clear', 'model_converters/convert_weights'])
def test_every_program_takes_signals_from_its_first_line(name, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr('argparse.ArgumentParser.parse_args', lambda *_: signal.raise_signal(signal.SIGTERM))
    stopped = run(name)
    assert stopped.code == 143 and stopped.err.count('\n') == 1


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize('wait_s', [0.3, 1.5])
def test_a_program_that_starts_ends_with_one_line(config, number, code, wait_s):
    process = subprocess.Popen([*program('train'), str(config), '--work-dir', 'run'], env=environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(wait_s)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code and err.count('\n') == 1 and err.startswith('error: Stopped by a signal.'), err


@pytest.mark.slow
@pytest.mark.timeout(600)
@BOTH
def test_processes_under_the_launcher_stop_together(config, number, code):
    """SIGTERM goes to the launcher alone, Ctrl-C to all processes of the terminal."""
    options = ['--cfg-options', 'cl_strategy.train_epochs=300', 'checkpoint_config.iter_interval=50', 'report=False']
    process = subprocess.Popen([str(TOOLS / 'dist_train.sh'), str(config), '2', '--work-dir', 'run', *options],
                               env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    while not Path('run/iteration.pth').is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(number) if number == signal.SIGTERM else os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code and err.count('error: ') == 1 and 'Traceback' not in err, err
    assert 'error: Stopped by a signal. What was finished is saved; continue with --resume.' in err
    train(config, '--work-dir', 'run', '--resume', *options)
    train(config, '--work-dir', 'whole', *options)
    first, second = read_results('whole')['acc_matrix'], read_results('run')['acc_matrix']
    assert first == [pytest.approx(row, abs=1e-6) for row in second]


# Where nothing can be written

@pytest.mark.slow
@pytest.mark.parametrize('size', [3_000, 9_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(config, size):
    done = subprocess.run([*program('train'), str(config), '--work-dir', 'run', *OPTIONS], env=environment(),
                          capture_output=True, text=True, timeout=120,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
    assert 'cannot be written: File too large. Free some space, or write elsewhere.' in done.stderr
    assert not list(Path('run').rglob('*.tmp'))
    train(config, '--work-dir', 'run', *OPTIONS)


@pytest.mark.parametrize('name', ['config.py', 'env.txt', 'latest.pth', 'results.json', 'accuracy_matrix.png'])
def test_a_file_that_cannot_be_written_is_named(config, monkeypatch, name):
    original = tempfile.mkstemp

    def mkstemp(*args, **options):
        if options['prefix'] == f'.{name}.':
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), 'a temporary name')
        return original(*args, **options)

    monkeypatch.setattr(tempfile, 'mkstemp', mkstemp)
    finished = run('train', config, '--work-dir', 'run', *OPTIONS)
    assert finished.code == 2 and finished.err.count('\n') == 1
    assert f'{name} cannot be written: Read-only file system. Make its folder writable' in finished.err
