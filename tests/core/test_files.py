import errno
import json
import multiprocessing
import os
import pickle
import socket
import time
import warnings
from pathlib import Path

import pytest
import torch

from clear.core.errors import CheckpointError, DataError, WriteError
from clear.core.files import (
    atomic_writer,
    inside,
    load_tensors,
    read_bytes,
    read_json,
    read_text,
    save_tensors,
    write_csv,
    write_json,
    write_new,
    write_text,
)
from clear.core.logs import logger, setup_logging


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Writing


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / 'deep' / 'er' / 'x.txt'
    for text in ('old', 'new, with ümlauts and 日本'):
        with atomic_writer(path, 'w') as file:
            file.write(text)
            file.flush()
            assert not path.exists() or path.read_text() == 'old'
        assert path.read_text(encoding='utf-8') == text
    assert names(path.parent) == ['x.txt']


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / 'x.txt'
    path.write_text('old')
    with pytest.raises(error), atomic_writer(path, 'w') as file:
        file.write('half')
        raise error
    assert path.read_text() == 'old' and names(tmp_path) == ['x.txt']


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'x.json'
    write_json(path, [1])

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='No space left'):
        write_json(path, [2])
    assert read_json(path) == [1] and names(tmp_path) == ['x.json']


def test_files_have_the_usual_mode(tmp_path):
    write_text(tmp_path / 'ours', 'x')
    (tmp_path / 'plain').write_text('x')
    assert (tmp_path / 'ours').stat().st_mode == (tmp_path / 'plain').stat().st_mode


# JSON


@pytest.mark.parametrize('value', [None, [], {}, {'b': 1, 'a': [1.5, None, 'ü']}, 'text', [[0.1, None], [1 / 3, 1]]])
def test_json_returns_as_it_was_with_its_order(value, tmp_path):
    write_json(tmp_path / 'x.json', value)
    result = read_json(tmp_path / 'x.json')
    assert result == value and json.dumps(result) == json.dumps(value)
    assert (tmp_path / 'x.json').read_text().endswith('\n')


@pytest.mark.parametrize('value', [float('nan'), [float('inf')], {'x': -float('inf')}])
def test_json_has_no_nan(value, tmp_path):
    with pytest.raises(ValueError, match='JSON'):
        write_json(tmp_path / 'x.json', value)
    assert names(tmp_path) == []


@pytest.mark.parametrize('content', [b'', b'{"a": ', b'{\'a\': 1}', b'[1, 2', b'[' * 3000 + b']' * 3000,
                                     b'[' + b'9' * 5000 + b']'], ids=lambda content: content[:8])
def test_a_broken_json_file_is_named(content, tmp_path):
    (tmp_path / 'x.json').write_bytes(content)
    with pytest.raises(DataError, match='x.json is no valid JSON'):
        read_json(tmp_path / 'x.json')


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(DataError, match='none.json does not exist'):
        read_json(tmp_path / 'none.json')


# Text


@pytest.fixture
def odd(tmp_path):
    """Paths that are no regular files, by name. Opening the pipe would wait for ever."""
    (tmp_path / 'folder').mkdir()
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'link').symlink_to(tmp_path / 'pipe')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / 'socket'))
        yield {**{name: tmp_path / name for name in ('folder', 'pipe', 'link', 'socket', 'absent')},
               'device': '/dev/zero', 'nul': f'{tmp_path}/a\0b', 'surrogate': f'{tmp_path}/\ud800',
               'below': tmp_path / 'x.txt/y', 'long': tmp_path / ('n' * 300)}


@pytest.mark.parametrize('read', [read_bytes, read_text, read_json])
@pytest.mark.parametrize('name, says', [
    ('folder', 'not a regular file'), ('pipe', 'not a regular file'), ('link', 'not a regular file'),
    ('socket', 'not a regular file'), ('device', 'not a regular file'), ('absent', 'does not exist'),
    ('nul', 'cannot be read'),
    ('surrogate', 'cannot be read'), ('below', 'cannot be read'), ('long', 'cannot be read')])
def test_what_is_no_regular_file_is_refused_unopened(read, name, says, odd, tmp_path):
    (tmp_path / 'x.txt').write_text('x')
    start = time.monotonic()
    with pytest.raises(DataError, match=says):
        read(odd[name])
    assert time.monotonic() - start < 1


@pytest.mark.parametrize('content, text', [(b'\xef\xbb\xbfcat\ndog', 'cat\ndog'), (b'a\r\nb\rc', 'a\nb\nc'), (b'', ''),
                                           ('ü 日本'.encode(), 'ü 日本')])
def test_text_comes_without_mark_and_with_plain_line_ends(content, text, tmp_path):
    (tmp_path / 'x.txt').write_bytes(content)
    assert read_text(tmp_path / 'x.txt') == text


def test_text_in_another_encoding_names_its_line(tmp_path):
    (tmp_path / 'x.txt').write_bytes('one\ntwo\nKöln\n'.encode('latin-1'))
    with pytest.raises(DataError, match=r'x\.txt:3: not text in UTF-8 \(byte 0xf6\)'):
        read_text(tmp_path / 'x.txt')


def test_a_file_above_the_bound_is_not_read(tmp_path):
    (tmp_path / 'x.txt').write_text('12345')
    assert read_text(tmp_path / 'x.txt', max_bytes=5) == '12345'
    with pytest.raises(DataError, match='5 bytes; at most 4 are read'):
        read_text(tmp_path / 'x.txt', max_bytes=4)


# Tensors


def test_tensors_and_plain_values_return_as_they_were(tmp_path):
    value = {'w': torch.randn(3, 2), 1: [torch.tensor(True), None, 'x', (2, 0.5)], 'empty': torch.zeros(0).half()}
    save_tensors(tmp_path / 'x.pth', value)
    result = load_tensors(tmp_path / 'x.pth')
    assert torch.equal(result['w'], value['w']) and result[1][0].item() is True and result[1][1:] == value[1][1:]
    assert result['empty'].dtype == torch.float16 and names(tmp_path) == ['x.pth']


class Attack:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize('save', [lambda value, path: torch.save(value, path),
                                  lambda value, path: path.write_bytes(pickle.dumps(value))], ids=['torch', 'pickle'])
def test_code_in_a_checkpoint_does_not_run(save, tmp_path):
    save({'w': Attack(tmp_path / 'mark')}, tmp_path / 'evil.pth')
    with warnings.catch_warnings(), pytest.raises(CheckpointError) as error:
        warnings.simplefilter('error')
        load_tensors(tmp_path / 'evil.pth')
    message = str(error.value)
    assert 'evil.pth' in message and 'could run foreign code' in message and '\n' not in message
    assert 'weights_only=False' not in message  # torch's own advice would be wrong here
    assert not (tmp_path / 'mark').exists()


def test_an_object_in_a_checkpoint_is_refused(tmp_path):
    torch.save({'model': torch.nn.Linear(1, 1)}, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='more than tensors and plain values'):
        load_tensors(tmp_path / 'x.pth')


@pytest.mark.parametrize('content', [
    b'', b'x', b'PK\x03\x04 no archive', b'\x80\x04garbage', b'<html>not found</html>' * 30, bytes(200)],
    ids=['empty', 'x', 'zip', 'pickle', 'html', 'zeros'])
def test_a_file_that_is_no_checkpoint_is_a_user_error(content, tmp_path):
    (tmp_path / 'x.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match='x.pth'):
        load_tensors(tmp_path / 'x.pth')


@pytest.mark.parametrize('keep', [1, 30, 99])
def test_a_truncated_checkpoint_is_a_user_error(keep, tmp_path):
    save_tensors(tmp_path / 'x.pth', {'w': torch.randn(50, 50)})
    whole = (tmp_path / 'x.pth').read_bytes()
    (tmp_path / 'x.pth').write_bytes(whole[:len(whole) * keep // 100])
    with pytest.raises(CheckpointError, match='x.pth'):
        load_tensors(tmp_path / 'x.pth')


def test_a_missing_checkpoint_is_a_user_error(tmp_path):
    for path, says in ((tmp_path / 'none.pth', 'does not exist'), (tmp_path, 'is not a regular file')):
        with pytest.raises(CheckpointError, match=says):
            load_tensors(path)


# Paths


@pytest.mark.parametrize('relative', ['a.jpg', 'a/b.jpg', 'a/../b.jpg', './a', '..a/b', 'a..'])
def test_paths_below_the_root_pass(relative, tmp_path):
    path = inside(tmp_path, relative)
    assert path.is_absolute() and path.is_relative_to(tmp_path) and '..' not in path.parts
    assert path.resolve() == (tmp_path / relative).resolve()


@pytest.mark.parametrize('relative', ['../a', 'a/../../b', '/etc/passwd', '..', 'a/b/../../../c'])
@pytest.mark.parametrize('make_root', [str, lambda path: '.', lambda path: path.name],
                         ids=['absolute', 'dot', 'relative'])
def test_paths_that_leave_the_root_are_refused(relative, make_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path if make_root(tmp_path) == '.' else tmp_path.parent)
    with pytest.raises(DataError, match='lies outside'):
        inside(make_root(tmp_path), relative)


@pytest.mark.parametrize('relative', [3, None, ['x'], 'a\0b'])
def test_what_is_no_path_is_refused(relative, tmp_path):
    with pytest.raises(DataError, match='expected a path below'):
        inside(tmp_path, relative)


def test_a_sibling_with_the_same_start_is_outside(tmp_path):
    with pytest.raises(DataError):
        inside(tmp_path / 'data', '../data2/x')


def test_a_linked_data_folder_is_inside(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'root').mkdir()
    (tmp_path / 'root' / 'images').symlink_to(tmp_path / 'disk')
    assert inside(tmp_path / 'root', 'images/a.jpg') == tmp_path / 'root' / 'images' / 'a.jpg'


# Where nothing can be written

def limited(size, work, result):
    """Do `work` in a process whose files may not grow past `size` bytes, as on a full disk or past a quota."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        work()
    except Exception as error:
        result.send((type(error), str(error)))


def outcome(size, work):
    pipe, other = multiprocessing.get_context('fork').Pipe()
    process = multiprocessing.get_context('fork').Process(target=limited, args=(size, work, other))
    process.start()
    assert pipe.poll(60)
    process.join(60)
    return pipe.recv()


WRITERS = {'tensors': lambda path: save_tensors(path, dict(weights=torch.zeros(10 ** 5))),
           'many tensors': lambda path: save_tensors(path, [torch.zeros(999) for _ in range(100)]),
           'json': lambda path: write_json(path, list(range(10 ** 5))),
           'text': lambda path: write_text(path, 'x' * 10 ** 6)}


@pytest.mark.parametrize('size', [0, 1, 5_000, 100_000])
@pytest.mark.parametrize('kind', WRITERS)
def test_a_full_disk_is_one_message_and_leaves_the_old_file(tmp_path, kind, size):
    path = tmp_path / 'file'
    path.write_text('old')
    found, message = outcome(size, lambda: WRITERS[kind](path))
    assert found is WriteError
    assert message.startswith(f'{path} cannot be written: File too large. Free some space, or write elsewhere.')
    assert [each.name for each in tmp_path.iterdir()] == ['file'] and path.read_text() == 'old'


def test_a_folder_that_takes_no_file_is_one_message(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr('tempfile.mkstemp', refuse)
    for kind in WRITERS:
        with pytest.raises(WriteError, match='file cannot be written: Permission denied. Make its folder writable'):
            WRITERS[kind](tmp_path / 'file')


def test_the_log_of_a_run_stops_it_when_its_disk_is_full(tmp_path):
    def log():
        setup_logging(tmp_path)
        for _ in range(1000):
            logger.warning('a line')

    found, message = outcome(500, log)
    assert found is WriteError and message.startswith(f'{tmp_path}/run.log cannot be written: File too large.')


def test_write_new_leaves_what_is_there(tmp_path):
    write_new(tmp_path / 'a' / 'b.py', 'mine')
    with pytest.raises(DataError, match='is there already, and nothing was written'):
        write_new(tmp_path / 'a' / 'b.py', 'other')
    assert (tmp_path / 'a' / 'b.py').read_text() == 'mine'


def test_a_table_is_written_whole(tmp_path):
    path = write_csv(tmp_path / 'new' / 'a.csv', [['a, b', 'ä'], (1.5, None), map(str, ('"', 2))])
    assert path.read_bytes() == '"a, b",ä\n1.5,\n"""",2\n'.encode()
    with pytest.raises(ZeroDivisionError):
        write_csv(path, ([1 / number] for number in (1, 0)))
    assert path.read_text().startswith('"a, b"') and [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize('name, says', [('folder', 'folder cannot be written: Is a directory. Name a file'),
                                        ('file/new', 'new cannot be written: File exists. Move the file'),
                                        ('file/new/more', 'more cannot be written: Not a directory. Move the file')])
def test_a_file_where_none_can_be_is_refused_at_once(tmp_path, name, says):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').write_text('kept')
    with pytest.raises(WriteError, match=says), atomic_writer(tmp_path / name):
        pytest.fail('the work was done for nothing')
    assert (tmp_path / 'file').read_text() == 'kept' and sorted(tmp_path.rglob('*')) == [tmp_path / 'file',
                                                                                         tmp_path / 'folder']
