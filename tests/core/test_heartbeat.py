"""A program that is silent for long says that it is alive, and where it is."""

import subprocess
import sys
import time

import pytest
from short_runs import environment

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
