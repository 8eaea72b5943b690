"""A program that is silent for long says that it is alive, and where it is."""

import io
import os
import re
import subprocess
import sys
import time

import pytest
from short_runs import environment
from tqdm import tqdm

from clear.core.logs import logger, setup_logging
from clear.core.programs import heartbeat
from clear.core.programs.program import run_program

SLOW = '''
import time
from pathlib import Path

import clear.core.files as files
from clear.core.programs import heartbeat
from clear.core.programs.program import run_program

files.regular_file = lambda path: time.sleep(1) or Path(path)
with heartbeat.heartbeat():
    files.read_bytes(__file__)
'''


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setenv(heartbeat.VARIABLE, '0.2')


def test_silence_is_broken(capsys):
    with heartbeat.heartbeat():
        time.sleep(0.9)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and all(line.startswith('... still at work after ') for line in lines)


def test_what_speaks_is_left_alone(capsys, monkeypatch):
    monkeypatch.setenv(heartbeat.VARIABLE, '2')
    monkeypatch.setattr(logger, 'handlers', [])
    setup_logging(None)
    with heartbeat.heartbeat():
        for _ in range(24):
            logger.info('a line')
            time.sleep(0.1)
    assert 'still at work' not in capsys.readouterr().err


def screen_of(text):
    """The lines that a terminal shows: a carriage return goes back to the beginning, and what follows covers."""
    lines = []
    for line in text.split('\n'):
        shown = ''
        for part in line.split('\r'):
            shown = part + shown[len(part):]
        lines.append(shown.rstrip())
    return lines


def test_it_stands_above_a_bar_that_is_not_drawn(capsys):
    with heartbeat.heartbeat():
        bar = tqdm(total=4, desc='reading', ascii=True, mininterval=0, file=sys.stderr)
        bar.update()
        time.sleep(0.9)
        bar.update(3)
        bar.close()
    *above, last, end = screen_of(capsys.readouterr().err)
    assert len(above) >= 2 and all(line.startswith('... still at work after ') for line in above)
    assert not any('reading' in line for line in above)
    assert 'reading: 100%' in last and '4/4' in last and 'still' not in last and not end


def test_a_bar_that_is_drawn_is_a_sign_of_life(capsys, monkeypatch):
    monkeypatch.setenv(heartbeat.VARIABLE, '2')
    with heartbeat.heartbeat():
        for _ in tqdm(range(24), mininterval=0, file=sys.stderr):  # as a library has it
            time.sleep(0.1)
    assert 'still at work' not in capsys.readouterr().err


def test_a_bar_that_nobody_sees_is_none(capsys):
    with heartbeat.heartbeat():
        for _ in tqdm(range(9), mininterval=0, file=io.StringIO()):
            time.sleep(0.1)
    assert 'still at work' in capsys.readouterr().err


def test_a_bar_of_rich_takes_it(capsys):
    progress = pytest.importorskip('rich.progress')
    from rich.console import Console

    console = Console(stderr=True, force_terminal=True, width=100)
    with heartbeat.heartbeat(), progress.Progress(console=console, auto_refresh=False) as bars:
        bars.add_task('reading', total=4)
        bars.refresh()
        time.sleep(0.9)
    shown = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', capsys.readouterr().err)
    assert 'still at work' in shown
    assert not any('still at work' in line and 'reading' in line for line in screen_of(shown))


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
def test_a_child_that_is_forked_can_draw_bars():
    """However often the parent's line and the fork fall together."""
    code = '''
import os, sys
from tqdm import tqdm
from clear.core.programs import heartbeat
heartbeat._place = lambda frame: ""
bar = tqdm(total=4)
with heartbeat.heartbeat():
    for _ in range(40):
        child = os.fork()
        if child == 0:
            tqdm(total=2).close()
            os._exit(0)
        os.waitpid(child, 0)
'''
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, timeout=60,
                          env=environment(**{heartbeat.VARIABLE: '0.001'}))
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize('value', ['0', '-1'])
def test_it_can_be_switched_off(capsys, monkeypatch, value):
    monkeypatch.setenv(heartbeat.VARIABLE, value)
    with heartbeat.heartbeat():
        time.sleep(0.3)
    assert capsys.readouterr().err == ''


def test_other_processes_of_a_group_are_silent(capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with heartbeat.heartbeat():
        time.sleep(0.3)
    assert capsys.readouterr().err == ''


def test_the_place_is_the_innermost_function_of_ours(tmp_path):
    (tmp_path / 'slow.py').write_text(SLOW)
    done = subprocess.run([sys.executable, str(tmp_path / 'slow.py')], capture_output=True, text=True, check=True,
                          env=environment(**{heartbeat.VARIABLE: '0.2'}))
    assert 'clear/core/files.py, read_bytes' in done.stderr, done.stderr


def test_programs_have_one(capsys):
    assert run_program(lambda: time.sleep(0.7)) == 0
    assert 'still at work' in capsys.readouterr().err
