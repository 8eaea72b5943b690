"""One process at a time: a lock that goes with its holder, however that ends."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time

import pytest

from clear.core.errors import ConfigError, DataError, WriteError
from clear.core.logs import logger
from clear.core.storage.locks import locked

FORK = multiprocessing.get_context('fork')


def hold(path, pipe):
    with locked(path, 'Wait.'):
        pipe.send('held')
        pipe.recv()


@pytest.fixture
def holder(tmp_path):
    """A process that holds `tmp_path / 'lock'`, and what lets it end."""
    pipe, other = FORK.Pipe()
    process = FORK.Process(target=hold, args=(tmp_path / 'lock', other))
    process.start()
    assert pipe.poll(60)

    def end():
        pipe.send('end')
        process.join(60)

    yield process, end
    process.kill()
    process.join(60)


@pytest.mark.parametrize('error', [ConfigError, DataError])
def test_the_second_is_refused_and_told_by_whom(tmp_path, holder, error):
    process, end = holder
    with pytest.raises(error, match=f'{tmp_path} is in use by process {process.pid} on .*Wait.'), \
            locked(tmp_path / 'lock', 'Wait.', error):
        pass
    end()
    with locked(tmp_path / 'lock', 'Wait.'):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert (tmp_path / 'lock').is_file()
    with locked(tmp_path / 'lock', 'Wait.'):
        assert (tmp_path / 'lock').read_text().startswith(f'{os.getpid()} on ')
    assert not (tmp_path / 'lock').exists()


def test_a_child_of_the_holder_does_not_keep_the_lock(tmp_path):
    """As a loader's worker, which lives on for a while when its run is killed."""
    with locked(tmp_path / 'lock', 'Wait.'):
        child = FORK.Process(target=time.sleep, args=(60,))
        child.start()
    with locked(tmp_path / 'lock', 'Wait.'):
        pass
    child.kill()
    child.join(60)


def test_the_end_of_a_child_leaves_the_lock_with_its_holder(tmp_path):
    with locked(tmp_path / 'lock', 'Wait.'):
        child = FORK.Process(target=time.sleep, args=(0,))
        child.start()
        child.join(60)
        with pytest.raises(ConfigError, match='in use'), locked(tmp_path / 'lock', 'Wait.'):
            pass


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_gets_one_warning(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    warnings = []
    monkeypatch.setattr(fcntl, 'flock', refuse)
    monkeypatch.setattr(logger, 'warning', lambda text, *values: warnings.append(text % values))
    with locked(tmp_path / 'lock', 'Wait.'):
        pass
    warning, = warnings
    assert f'{tmp_path}: this file system has no locks' in warning
    assert not (tmp_path / 'lock').exists()


def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr('clear.core.storage.locks.os.open', refuse)
    with pytest.raises(WriteError, match='lock cannot be written: Permission denied. Make its folder writable'), \
            locked(tmp_path / 'lock', 'Wait.'):
        pass
