import io
import logging
import sys
import time

import pytest

from clear.engine import progress as module
from clear.engine.progress import Progress


class Clock:
    """Stands in for `time.monotonic`; the tests move it."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(module, 'time', found)
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: False, raising=False)
    return found


def test_eta_is_the_mean_speed_times_what_is_left(clock):
    progress = Progress(100)
    assert progress.eta() == 'unknown'
    for seconds in (1.0, 3.0, 2.0, 4.0):
        clock.now_s += seconds
        progress.step('here')
    # Four in ten seconds, 96 left.
    assert progress.eta() == '0:04:00'


def test_after_a_resume_the_speed_counts_from_there(clock):
    progress = Progress(100)
    clock.now_s += 500  # loading the checkpoint
    progress.start_at(90)
    assert progress.eta() == 'unknown'
    clock.now_s += 7
    progress.step('here')
    assert progress.done == 91
    assert progress.eta() == '0:01:03'


def test_more_iterations_than_expected_are_no_trouble(clock):
    progress = Progress(0)
    for _ in range(3):
        clock.now_s += 1
        progress.step('here')
    assert progress.done == 3 and progress.eta() == '0:00:00'


def test_without_a_terminal_it_logs_now_and_then(clock, caplog, monkeypatch):
    # Only the root's handler may collect: runs of other tests in this process leave theirs on the logger.
    monkeypatch.setattr(logging.getLogger('clear'), 'handlers', [])
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    progress = Progress(60, interval_s=10)
    with caplog.at_level(logging.INFO, logger='clear'):
        for step in range(30):
            clock.now_s += 1
            progress.step(f'step {step}')
    progress.clear()
    progress.close()
    assert [record.getMessage() for record in caplog.records] == [
        'step 9  10 of about 60 iterations  ETA 0:00:50', 'step 19  20 of about 60 iterations  ETA 0:00:40',
        'step 29  30 of about 60 iterations  ETA 0:00:30']


def test_on_a_terminal_there_is_a_bar(monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    progress = Progress(4)
    progress.start_at(2)
    for _ in range(2):
        progress.step('experience 1/2')
        time.sleep(0.11)  # tqdm draws at most every tenth of a second
    progress.close()
    assert 'experience 1/2' in terminal.getvalue() and '/4' in terminal.getvalue()
    assert not caplog.records


def test_what_is_counted_exactly_is_named(clock, caplog, monkeypatch):
    monkeypatch.setattr(module.logger, 'handlers', [])
    monkeypatch.setattr(module.logger, 'propagate', True)
    progress = Progress(7, interval_s=0, unit='shards')
    with caplog.at_level(logging.INFO, 'clear'):
        clock.now_s += 2
        progress.step('metadata')
    assert caplog.messages == ['metadata  1 of 7 shards  ETA 0:00:12']


def test_numbers_are_read_once_a_line(clock, caplog, monkeypatch):
    monkeypatch.setattr(module.logger, 'handlers', [])
    monkeypatch.setattr(module.logger, 'propagate', True)
    asked = []

    def numbers():
        asked.append(clock.now_s)
        return dict(loss=0.123456, lr=1e-4, other=None)

    progress = Progress(60, interval_s=10)
    with caplog.at_level(logging.INFO, 'clear'):
        for _ in range(20):
            clock.now_s += 1
            progress.step('epoch 1/2', numbers)
    assert caplog.messages == ['epoch 1/2  10 of about 60 iterations  loss 0.1235  lr 0.0001  ETA 0:00:50',
                               'epoch 1/2  20 of about 60 iterations  loss 0.1235  lr 0.0001  ETA 0:00:40']
    assert asked == [1010.0, 1020.0]


def test_a_bar_reads_numbers_twice_a_second(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, clock, asked = Terminal(), Clock(), []
    monkeypatch.setattr(sys, 'stderr', terminal)
    monkeypatch.setattr(module, 'time', clock)
    progress = Progress(100)
    for _ in range(100):
        clock.now_s += 0.02
        progress.step('epoch 1/1', lambda: asked.append(clock.now_s) or dict(loss=2.5))
    progress._bar.refresh()
    progress.close()
    assert len(asked) == 4 and 'loss 2.5' in terminal.getvalue()
