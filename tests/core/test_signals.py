"""SIGTERM and Ctrl-C from the first line of a program: one line, its exit code, and nothing swallowed."""

import contextlib
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from short_runs import environment

from clear.core.errors import ConfigError, DataError, Interrupted
from clear.core.programs.program import run_program
from clear.core.programs.signals import Stopped, on_stop, received, stoppable

BOTH = pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)


@BOTH
def test_a_signal_ends_a_program_with_one_line(number, code, capsys):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert run_program(lambda: signal.raise_signal(number)) == code
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('error: Stopped by a signal.') and '--resume' in line
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before and received() is None


@BOTH
def test_what_a_library_makes_of_the_signal_is_still_a_stop(number, code, capsys):
    def formats():
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raise SyntaxError('a page of text') from error

    def catches():
        with contextlib.suppress(BaseException):
            signal.raise_signal(number)
        raise RuntimeError('Connection closed by peer')

    def builds_with_what_was_cut_in_two():
        with contextlib.suppress(BaseException):
            signal.raise_signal(number)
        raise ConfigError('The config cannot be built: maximum recursion depth exceeded')

    for work in (formats, catches, builds_with_what_was_cut_in_two):
        assert run_program(work) == code
        assert 'page' not in capsys.readouterr().err


@BOTH
def test_inside_a_block_the_work_decides_when_it_stops(number, code, capsys):
    done = []

    def work():
        with on_stop(lambda: done.append('asked')):
            signal.raise_signal(number)
            done.append('iteration')
            signal.raise_signal(signal.SIGTERM)  # schedulers repeat it
        raise Interrupted('Saved.')

    assert run_program(work) == code and done == ['asked', 'iteration']
    assert capsys.readouterr().err == 'error: Saved.\n'


def test_a_block_is_told_of_a_signal_that_was_caught_before_it():
    asked = []
    with stoppable():
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        with on_stop(lambda: asked.append(1)):
            assert asked == [1]


def test_errors_of_the_user_and_ours_are_told_apart(capsys):
    def fail(error):
        raise error

    assert run_program(lambda: None) == 0 and run_program(lambda: 7) == 7
    assert run_program(lambda: fail(ConfigError('x'))) == 2
    assert capsys.readouterr().err == 'error: x\n'
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 // 0)
    assert run_program(lambda: Path(__file__, 'below').mkdir()) == 2
    assert 'A file lies where a folder should be made' in capsys.readouterr().err
    assert run_program(lambda: Path(__file__).mkdir(parents=True, exist_ok=True)) == 2
    assert 'A file lies where a folder should be made' in capsys.readouterr().err
    with pytest.raises(FileExistsError):
        run_program(lambda: Path(__file__).parent.mkdir())
    assert run_program(lambda: Path(__file__).parent.write_text('')) == 2
    assert 'Is a directory. Name a file.' in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        run_program(lambda: open('nowhere'))  # noqa: SIM115
    with pytest.raises(SystemExit):
        run_program(lambda: sys.exit(3))


@pytest.mark.parametrize('number, says', [
    (errno.ENOSPC, 'x.log cannot be written: No space left on device. Free some space'),
    (errno.EFBIG, 'x.log cannot be written: File too large. Free some space'),
    (errno.EROFS, 'x.log cannot be written: Read-only file system. Make its folder writable'),
    (errno.EACCES, 'x.log: Permission denied. Give this user access')])
def test_what_a_library_cannot_write_is_one_line(number, says, capsys):
    def work():
        raise OSError(number, os.strerror(number), 'x.log')

    assert run_program(work) == 2 and capsys.readouterr().err.startswith(f'error: {says}')


def test_an_error_of_the_user_after_a_signal_keeps_its_message(capsys):
    def work():
        with on_stop(lambda: None):
            signal.raise_signal(signal.SIGTERM)
            raise DataError('bad data')

    def late():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        with on_stop(lambda: None):
            raise DataError('bad data')

    for each in (work, late):
        assert run_program(each) == 2 and capsys.readouterr().err == 'error: bad data\n'


SECOND = """
import os, signal, sys, time
from clear.core.programs.program import run_program
from clear.core.programs.signals import on_stop

def work():
    with on_stop(lambda: None):
        os.kill(os.getpid(), signal.SIGINT)
        print('still here', flush=True)
        time.sleep(float(sys.argv[1]))
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    return 5

sys.exit(run_program(work))
"""


@pytest.mark.parametrize('rank, wait_s, code', [(None, 0, -signal.SIGINT), ('0', 0, 5), ('0', 1.1, -signal.SIGINT)])
def test_a_second_ctrl_c_ends_at_once(rank, wait_s, code):
    """Under a launcher one Ctrl-C comes twice: from the terminal and from the launcher."""
    more = {} if rank is None else dict(RANK=rank)
    done = subprocess.run([sys.executable, '-c', SECOND, str(wait_s)], env=environment(**more), capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, 'still here\n', '')


def test_workers_leave_ctrl_c_to_the_process_that_began_them():
    with stoppable():
        worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))
        worker.start()
        time.sleep(0.2)
        os.kill(worker.pid, signal.SIGINT)
        worker.join(0.5)
        assert worker.is_alive()
        worker.terminate()
        worker.join(60)
        assert worker.exitcode == -signal.SIGTERM


def test_sigterm_while_rank_0_tells_the_error_of_all_is_no_traceback():
    """torchrun sends it to the others as soon as rank 0 has ended."""
    code = '''
import os, signal, sys, threading
from clear.core.errors import ConfigError
from clear.core.programs.program import run_program

def work():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    raise ConfigError('told by rank 0')

sys.exit(run_program(work))
'''
    started = time.monotonic()
    done = subprocess.run([sys.executable, '-c', code], env=environment(RANK='1'), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, ''), done.stderr
    assert time.monotonic() - started > 0.3


@pytest.mark.parametrize('others', ['raise ConfigError("of all")', 'time.sleep(60)'])
def test_an_error_of_all_processes_ends_the_launcher_with_its_code_alone(others, tmp_path):
    """Also where the others had not come to it when rank 0 ended."""
    script = tmp_path / 'script.py'
    script.write_text(f'''
import os, sys, time
from clear.core.errors import ConfigError
from clear.core.programs.program import run_program

def work():
    if os.environ['RANK'] == '0':
        time.sleep(1)
        raise ConfigError('of all')
    {others}

sys.exit(run_program(work))
''')
    launcher = ['-m', 'clear.core.programs.launcher', '--standalone', '--nproc_per_node', '2']
    done = subprocess.run([sys.executable, *launcher, str(script)], env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == 'error: of all', done.stderr
    assert 'Traceback' not in done.stderr and 'FAILED' not in done.stderr


@pytest.mark.parametrize('code', [0, 2])
def test_sigterm_while_python_closes_down_changes_no_exit_code(code):
    script = ('import atexit, sys, time\n'
              'from clear.core.programs.program import run_program\n'
              "atexit.register(lambda: (print('closing', flush=True), time.sleep(1)))\n"
              f'sys.exit(run_program(lambda: {code}))\n')
    with subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout.readline() == b'closing\n'
        process.terminate()
        assert process.wait(30) == code


def test_python_closes_down_without_looking_for_garbage():
    script = ('import gc, os\n'
              'from clear.core.programs.program import run_program\n'
              'class Loop:\n'
              '    def __init__(self):\n'
              '        self.me = self\n'
              '    def __del__(self, write=os.write):\n'
              "        write(1, b'found')\n"
              'def work():\n'
              '    gc.disable()\n'
              '    Loop()\n'
              'run_program(work)\n')
    done = subprocess.run([sys.executable, '-c', script], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_output_that_nobody_reads_ends_a_program_in_silence(tmp_path):
    """As `clear print-config CONFIG | head` does; an error of another pipe is still an error."""
    code = 'import sys\nfrom clear.core.programs.program import run_program\n' \
           'sys.exit(run_program(lambda: print("word " * 100_000)))'
    script = tmp_path / 'talk.py'
    script.write_text(code)
    done = subprocess.run(['bash', '-c', f'{sys.executable} {script} | true; echo ${{PIPESTATUS[0]}}'],
                          capture_output=True, text=True, env=environment())
    assert (done.stdout, done.stderr) == ('141\n', '')

    def other():
        raise BrokenPipeError(errno.EPIPE, 'of a worker')

    with pytest.raises(BrokenPipeError):
        run_program(other)
