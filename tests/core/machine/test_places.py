"""Room, kind and locks of folders; a file system that hangs is given up."""

import errno
import os
import threading

import pytest

from clear.core.machine import places

MOUNTS = r'''21 1 8:1 / / rw - ext4 /dev/sda1 rw
30 21 0:30 / /home rw,relatime shared:1 - nfs4 server:/home rw
31 30 0:31 / /home/own\040disk rw - xfs /dev/sdb1 rw
32 21 0:32 / /home/own\040disk rw - btrfs /dev/sdc1 rw
not a mount
'''


@pytest.mark.parametrize('folder, kind', [('/', 'ext4'), ('/homework', 'ext4'), ('/home', 'nfs4'),
                                          ('/home/a/b', 'nfs4'), ('/home/own disk/x', 'btrfs')])
def test_kind_is_that_of_the_nearest_mount(tmp_path, folder, kind):
    (tmp_path / 'mounts').write_text(MOUNTS)
    assert places._kind(places.Path(folder), tmp_path / 'mounts') == kind


def test_a_folder_that_is_still_to_be_made(tmp_path):
    found = places.place(tmp_path / 'work_dirs' / 'a', tmp_path / 'no-mounts')
    assert found.answers and found.writable and found.locks
    assert found.kind is None and not found.is_remote
    assert 0 < found.free <= found.total
    assert [*tmp_path.iterdir()] == []


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(places.fcntl, 'flock', refuse)
    found = places.place(tmp_path)
    assert found.writable and found.locks is False


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, 'no')

    monkeypatch.setattr(places.tempfile, 'TemporaryFile', refuse)
    found = places.place(tmp_path)
    assert found.answers and not found.writable and found.locks is None


def test_a_file_system_that_hangs_is_given_up(tmp_path, monkeypatch):
    released, usage = threading.Event(), places.shutil.disk_usage
    monkeypatch.setattr(places, 'ANSWER_S', 0.05)
    monkeypatch.setattr(places.shutil, 'disk_usage', lambda folder: released.wait(30) and usage(folder))
    found = places.place(tmp_path)
    released.set()
    assert not found.answers and found.path == str(tmp_path)
