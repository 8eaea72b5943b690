"""Answers of a host, notes of an earlier download and addresses that are of another shape than they should be."""

import json
import os
import socket
import threading

import pytest
from download_server import QUICK, offer_clear10, serving

from clear.core.errors import ConfigError, DataError
from clear.core.storage.fetch import TransferError, fetch
from clear.datasets.make.download import download_clear


@pytest.fixture
def server(monkeypatch):
    with serving(monkeypatch) as running:
        yield running


@pytest.fixture
def answering(server):
    """Makes a host that answers each request with the given bytes and hangs up; gives its address."""
    sockets = []

    def start(*answers):
        listener = socket.create_server(('127.0.0.1', 0))
        sockets.append(listener)

        def serve():
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f'http://127.0.0.1:{listener.getsockname()[1]}'

    yield start
    for listener in sockets:
        listener.close()


def head(*lines, status='200 OK'):
    return '\r\n'.join([f'HTTP/1.1 {status}', *lines, '', '']).encode()


ANSWERS = {
    'length in words': head('Content-Length: many') + b'x', 'length below zero': head('Content-Length: -5') + b'x',
    'length of many digits': head('Content-Length: ' + '9' * 5000) + b'x',
    'length with a point': head('Content-Length: 1.5') + b'x',
    'redirect to half an address': head('Location: http://[::1/x', 'Content-Length: 0', status='302 Found'),
    'redirect to a port in words': head('Location: http://127.0.0.1:port/x', 'Content-Length: 0', status='302 Found'),
    'redirect to nowhere': head('Content-Length: 0', status='302 Found'),
    'redirect to a file': head('Location: file:///etc/hostname', 'Content-Length: 0', status='302 Found'),
    'chunk in words': head('Transfer-Encoding: chunked') + b'many\r\nx\r\n',
    'no HTTP': b'hello\r\n\r\n', 'nothing': b'',
    'status in words': b'HTTP/1.1 fine OK\r\n\r\n'}


@pytest.mark.parametrize('name', ANSWERS)
def test_an_answer_that_makes_no_sense_is_a_transfer_error(answering, name, tmp_path):
    with pytest.raises(TransferError):
        fetch(answering(*[ANSWERS[name]] * 3), tmp_path / 'a.part', **QUICK)


@pytest.mark.parametrize('name', ['length in words', 'redirect to half an address'])
def test_the_next_mirror_is_asked_after_such_an_answer(answering, server, name, tmp_path):
    offer_clear10(server)
    odd = answering(*[ANSWERS[name]] * 6)
    download_clear('clear10', tmp_path / 'out', mirrors=[odd, server.url], **QUICK)
    assert (tmp_path / 'out' / 'train' / 'class_names.txt').is_file()


def test_a_continued_answer_with_an_endless_total_is_a_transfer_error(answering, tmp_path):
    address = answering(head('Content-Range: bytes 1-2/' + '9' * 5000, status='206 Partial Content'))
    (tmp_path / 'a.part').write_bytes(b'x')
    (tmp_path / 'a.part.json').write_text(json.dumps(dict(url=f'{address}/a', etag=None, size=3)))
    with pytest.raises(TransferError, match='has changed'):
        fetch(f'{address}/a', tmp_path / 'a.part', tries=1, **QUICK)


@pytest.mark.parametrize('memory', ['[1]', '{"url": 3}', '{"url": "URL", "etag": ["x"], "size": 1}',
                                    '{"url": "URL", "size": "1"}', '[' * 3000, '{}'])
def test_an_odd_memory_of_a_part_begins_anew(server, memory, tmp_path):
    server.files = {'a': b'content'}
    (tmp_path / 'a.part').write_bytes(b'xx')
    (tmp_path / 'a.part.json').write_text(memory.replace('URL', f'{server.url}/a'))
    fetch(f'{server.url}/a', tmp_path / 'a.part', **QUICK)
    assert (tmp_path / 'a.part').read_bytes() == b'content'


@pytest.mark.parametrize('mirror', ['http://[::1', 'http://host:port', 'http://', 'https:///x', 'ftp://host', 'host'])
def test_a_mirror_that_is_no_address_is_a_config_error(mirror, tmp_path):
    with pytest.raises(ConfigError, match='is no http://'):
        download_clear('clear10', tmp_path, mirrors=[mirror], **QUICK)


def test_a_local_pipe_or_folder_is_no_mirror(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for name in ('pipe', ''):
        with pytest.raises(TransferError, match='not a regular file'):
            fetch(f'file://{tmp_path}/{name}', tmp_path / 'a.part', **QUICK)


@pytest.mark.parametrize('record', ['[]', '3', '{"clear10-train.zip": 3}', '{"clear10-train.zip": {}}',
                                    '{"a": {"sha256": 1, "source": "x"}}',
                                    '{"a": {"sha256": "1", "source": "x", "state": "unpacked"}}',
                                    '[' * 3000, 'x',
                                    '{"a": {"sha256": "1", "source": "x", "state": "unpacked", "entries": [1]}}'])
def test_a_record_of_another_shape_is_named(record, tmp_path):
    (tmp_path / 'archives.json').write_text(record)
    with pytest.raises(DataError, match='archives.json'):
        download_clear('clear10', tmp_path, **QUICK)


def test_a_record_that_is_a_folder_is_named(tmp_path):
    (tmp_path / 'archives.json').mkdir()
    with pytest.raises(DataError, match='archives.json is not a regular file'):
        download_clear('clear10', tmp_path, **QUICK)
