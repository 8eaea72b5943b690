import hashlib
import io
import json
import os
import socket
import stat
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clear.core.errors import ConfigError, DataError
from clear.datasets.make import download
from clear.datasets.make.archives import extract_archive, verify_archive
from clear.datasets.make.demo import write_demo
from clear.datasets.make.download import download_clear
from clear.datasets.make.fetch import TransferError, fetch
from clear.datasets.make.merge import merge_official

ROOT = Path(__file__).parents[2]
QUICK = {'timeout_s': 2.0, 'backoff_s': 0.0}


class Server:
    """A local host of files that can lose connections, ignore ranges, and change its files."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.ranges = True  # whether Range is honoured
        self.cut_after: list[int] = []  # for each next answer: bytes of the body after which the line drops
        self.failures: list[int] = []  # for each next request: an HTTP status in place of the file
        self.log: list[tuple[str, str | None, int]] = []  # (path, Range header, status)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.http.server_port}'
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={'poll_interval': 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, request):
        name, wanted = request.path.lstrip('/'), request.headers.get('Range')
        body, etag = self.files.get(name), self.etags.get(name)
        status = self.failures.pop(0) if self.failures else (404 if body is None else 200)
        if status != 200:
            self.log.append((name, wanted, status))
            request.send_error(status)
            return
        total, start = len(body), 0
        condition = request.headers.get('If-Range')
        if wanted and self.ranges and (condition is None or condition == etag):
            start, status = int(wanted.removeprefix('bytes=').rstrip('-')), 206
        if start >= total and status == 206:
            status = 416
        self.log.append((name, wanted, status))
        request.send_response(status)
        if etag:
            request.send_header('ETag', etag)
        if status == 416:
            request.send_header('Content-Range', f'bytes */{total}')
            body = b''
        elif status == 206:
            request.send_header('Content-Range', f'bytes {start}-{total - 1}/{total}')
            body = body[start:]
        request.send_header('Content-Length', str(len(body)))
        request.end_headers()
        cut = self.cut_after.pop(0) if self.cut_after else None
        request.wfile.write(body[:cut])


@pytest.fixture
def server(monkeypatch):
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    # The official host is out of reach: nothing listens on a port that was just given back.
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        dead = f'http://127.0.0.1:{probe.getsockname()[1]}'
    monkeypatch.setattr(download, 'BASE_URL', dead)
    server = Server()
    server.dead = dead
    yield server
    server.close()


def zip_of(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def part_files(split, prefix=''):
    """A train or test tree of two classes and two buckets, one image each."""
    files = {f'{prefix}class_names.txt': 'boat\ncar'}
    index = {}
    for bucket in ('1', '2'):
        for number, name in enumerate(('boat', 'car')):
            image_id = f'{split}{bucket}{number}'
            image = f'labeled_images/{bucket}/{name}/{image_id}.jpg'
            files[f'{prefix}{image}'] = f'image {image_id}'
            files[f'{prefix}labeled_metadata/{bucket}/{name}.json'] = json.dumps({image_id: {'IMG_PATH': image}})
            index.setdefault(bucket, {})[name] = f'labeled_metadata/{bucket}/{name}.json'
    files[f'{prefix}labeled_metadata.json'] = json.dumps(index)
    return files


def old_files():
    return {'class_names.txt': 'boat\ncar', 'training_folder/bucket_indices.json': '["1"]',
            'training_folder/filelists/1/all.txt': 'labeled_images/1/car/5.jpg 1', 'labeled_images/1/car/5.jpg': 'x'}


def offer_clear10(server):
    server.files = {'clear10-train.zip': zip_of(part_files('8', 'train/')), 'clear10-test.zip': zip_of(part_files('9'))}


def test_clear10_becomes_train_and_test(server, tmp_path):
    offer_clear10(server)
    out = tmp_path / 'clear10'
    download_clear('clear10', out, mirrors=[server.url], **QUICK)
    for part, split in (('train', '8'), ('test', '9')):
        for name, content in part_files(split).items():
            assert (out / part / name).read_text() == content
    assert sorted(path.name for path in out.iterdir()) == ['archives.json', 'test', 'train']
    record = json.loads((out / 'archives.json').read_text())
    for name, body in server.files.items():
        assert record[name]['sha256'] == hashlib.sha256(body).hexdigest() and record[name]['bytes'] == len(body)


def test_second_call_asks_the_network_for_nothing(server, tmp_path):
    offer_clear10(server)
    download_clear('clear10', tmp_path, mirrors=[server.url], **QUICK)
    requests = len(server.log)
    download_clear('clear10', tmp_path, mirrors=[server.url], **QUICK)
    assert len(server.log) == requests == 2


def test_old_layout_is_unpacked_into_the_root_below_a_top_folder_too(server, tmp_path):
    server.files['clear10-public.zip'] = zip_of({f'CLEAR-10-PUBLIC/{name}': text for name, text in old_files().items()})
    download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url], keep_archives=True, **QUICK)
    assert all((tmp_path / name).read_text() == text for name, text in old_files().items())
    assert (tmp_path / 'clear10-public.zip').read_bytes() == server.files['clear10-public.zip']
    assert not (tmp_path / 'CLEAR-10-PUBLIC').exists()


def test_interrupted_transfer_goes_on_where_it_stopped(server, tmp_path):
    body = bytes(range(256)) * 400
    server.files['big.zip'], server.etags['big.zip'] = body, '"v1"'
    server.cut_after = [30_000, 20_000]
    seen = []
    fetch(f'{server.url}/big.zip', tmp_path / 'part', progress=lambda done, total: seen.append((done, total)), **QUICK)
    assert (tmp_path / 'part').read_bytes() == body
    assert server.log == [('big.zip', None, 200), ('big.zip', 'bytes=30000-', 206), ('big.zip', 'bytes=50000-', 206)]
    assert seen[-1] == (len(body), len(body)) and seen == sorted(seen)


def test_next_call_resumes_what_an_earlier_one_left(server, tmp_path):
    body = bytes(range(256)) * 100
    server.files['big.zip'] = body
    server.cut_after = [10_000]
    with pytest.raises(TransferError, match='10000 of 25600'):
        fetch(f'{server.url}/big.zip', tmp_path / 'part', tries=1, **QUICK)
    fetch(f'{server.url}/big.zip', tmp_path / 'part', **QUICK)
    assert (tmp_path / 'part').read_bytes() == body and server.log[-1] == ('big.zip', 'bytes=10000-', 206)


def test_complete_part_is_recognised(server, tmp_path):
    server.files['a.zip'] = b'a' * 5000
    for _ in range(2):
        fetch(f'{server.url}/a.zip', tmp_path / 'part', **QUICK)
    assert [status for *_, status in server.log] == [200, 416] and (tmp_path / 'part').read_bytes() == b'a' * 5000


@pytest.mark.parametrize('ranges', [True, False])
# The same size without an ETag cannot be told apart; the check of the members' CRC finds that.
@pytest.mark.parametrize(('etags', 'size'), [(True, 3000), (True, 9000), (True, 10_000), (True, 11_000),
                                             (False, 3000), (False, 9000), (False, 11_000)])
def test_changed_file_is_never_joined_to_the_old_bytes(server, tmp_path, ranges, size, etags):
    server.files['a.zip'], server.ranges = b'a' * 10_000, ranges
    server.etags = {'a.zip': '"v1"'} if etags else {}
    server.cut_after = [4000]
    with pytest.raises(TransferError):
        fetch(f'{server.url}/a.zip', tmp_path / 'part', tries=1, **QUICK)
    server.files['a.zip'] = b'b' * size
    server.etags = {'a.zip': '"v2"'} if etags else {}
    fetch(f'{server.url}/a.zip', tmp_path / 'part', **QUICK)
    assert (tmp_path / 'part').read_bytes() == b'b' * size


def test_server_trouble_is_retried_but_a_missing_file_is_not(server, tmp_path):
    server.files['a.zip'] = b'abc'
    server.failures = [503, 500]
    fetch(f'{server.url}/a.zip', tmp_path / 'part', **QUICK)
    assert [status for *_, status in server.log] == [503, 500, 200]
    with pytest.raises(TransferError, match='404'):
        fetch(f'{server.url}/b.zip', tmp_path / 'other', **QUICK)
    assert [status for *_, status in server.log[3:]] == [404]


def test_host_that_never_answers_times_out(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as silent, pytest.raises(TransferError, match='timed out'):
        fetch(f'http://127.0.0.1:{silent.getsockname()[1]}/a.zip', tmp_path / 'part', timeout_s=0.2, tries=2,
              backoff_s=0)


def test_dead_links_are_all_named_with_the_way_out(server, tmp_path):
    out = tmp_path / 'clear100'
    with pytest.raises(DataError) as caught:
        download_clear('clear100', out, mirrors=[server.url, 'file:///nowhere'], **QUICK)
    message = str(caught.value)
    assert '\n' not in message
    assert f'{server.url}/clear100-train.zip: HTTP 404' in message
    assert 'file:///nowhere/clear100-train.zip: /nowhere/clear100-train.zip does not exist' in message
    assert f'{server.dead}/clear100-train.zip: Connection refused' in message
    assert 'https://clear-benchmark.github.io' in message and str(out / 'clear100-train.zip') in message


def test_offline_machine_gets_the_reason(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise socket.gaierror(socket.EAI_AGAIN, 'Temporary failure in name resolution')

    monkeypatch.setattr(socket, 'getaddrinfo', no_network)
    for name in ('https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    reason = 'huggingface.co/.*/clear10-public.zip: Temporary failure in name resolution.*online'
    with pytest.raises(DataError, match=reason):
        download_clear('clear10_neurips2021', tmp_path, **QUICK)


def test_archive_put_there_by_hand_is_used_and_kept(server, tmp_path):
    (tmp_path / 'clear10-public.zip').write_bytes(zip_of(old_files()))
    download_clear('clear10_neurips2021', tmp_path, **QUICK)
    assert (tmp_path / 'training_folder/bucket_indices.json').is_file()
    assert (tmp_path / 'clear10-public.zip').is_file() and not server.log


def test_local_mirror_works(server, tmp_path):
    (tmp_path / 'copies').mkdir()
    (tmp_path / 'copies/clear10-public.zip').write_bytes(zip_of(old_files()))
    download_clear('clear10_neurips2021', tmp_path / 'out', mirrors=[(tmp_path / 'copies').as_uri()], **QUICK)
    assert (tmp_path / 'out/labeled_images/1/car/5.jpg').read_text() == 'x'


def test_damaged_download_falls_back_to_the_next_mirror(server, tmp_path):
    whole = zip_of(old_files())
    position = whole.index(b'["1"]')  # stored, not deflated: one changed byte only breaks the CRC
    server.files['bad/clear10-public.zip'] = whole[:position] + b'#' + whole[position + 1:]
    server.files['page/clear10-public.zip'] = b'<html>please log in</html>'
    bad = [f'{server.url}/bad', f'{server.url}/page']
    with pytest.raises(DataError, match=r"'training_folder/bucket_indices.json' does not match.*no zip archive"):
        download_clear('clear10_neurips2021', tmp_path / 'a', mirrors=bad, **QUICK)
    assert [path.name for path in (tmp_path / 'a').iterdir()] == []
    server.files['clear10-public.zip'] = whole
    download_clear('clear10_neurips2021', tmp_path / 'b', mirrors=[*bad, server.url], **QUICK)
    assert (tmp_path / 'b/training_folder/bucket_indices.json').read_text() == '["1"]'


@pytest.mark.parametrize('damage', ['deflated data', 'cut', 'empty'])
def test_damaged_archives_are_refused(tmp_path, damage):
    body = zip_of({'a.txt': bytes(range(256)) * 50}, compression=zipfile.ZIP_DEFLATED)
    middle = len(body) // 3
    body = {'deflated data': body[:middle] + bytes(20) + body[middle + 20:], 'cut': body[:-30], 'empty': b''}[damage]
    (tmp_path / 'a.zip').write_bytes(body)
    with pytest.raises(DataError, match='damaged'):
        verify_archive(tmp_path / 'a.zip')


def test_damaged_archive_by_hand_is_reported_and_kept(server, tmp_path):
    (tmp_path / 'clear10-public.zip').write_bytes(b'half')
    with pytest.raises(DataError, match='Remove the file'):
        download_clear('clear10_neurips2021', tmp_path, **QUICK)
    assert (tmp_path / 'clear10-public.zip').read_bytes() == b'half'


def test_given_sha256_must_match(server, tmp_path):
    server.files['clear10-public.zip'] = body = zip_of(old_files())
    wrong, right = '0' * 64, hashlib.sha256(body).hexdigest()
    with pytest.raises(DataError, match=f'SHA-256 {right}, expected {wrong}'):
        download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url],
                       sha256={'clear10-public.zip': wrong}, **QUICK)
    download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url],
                   sha256={'clear10-public.zip': right.upper()}, **QUICK)
    with pytest.raises(DataError, match='unpacked from'):
        download_clear('clear10_neurips2021', tmp_path, sha256={'clear10-public.zip': wrong}, **QUICK)
    with pytest.raises(ConfigError, match='consists of'):
        download_clear('clear10_neurips2021', tmp_path, sha256={'clear10-train.zip': right}, **QUICK)


def test_sha256_of_the_first_download_holds_for_the_second(server, tmp_path):
    server.files['clear10-public.zip'] = zip_of(old_files())
    download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url], **QUICK)
    (tmp_path / 'class_names.txt').unlink()  # so that it has to be fetched again
    server.files['clear10-public.zip'] = zip_of({**old_files(), 'more.txt': 'new'})
    with pytest.raises(DataError, match='first download'):
        download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url], **QUICK)
    server.files['clear10-public.zip'] = zip_of(old_files())
    download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url], **QUICK)
    assert (tmp_path / 'class_names.txt').is_file()


def link_member(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


@pytest.mark.parametrize('name', ['../evil.txt', 'a/../../evil.txt', '/tmp/evil.txt', '..\\evil.txt', 'C:/evil.txt'])
def test_members_that_leave_the_root_are_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / 'a.zip').write_bytes(zip_of({'good.txt': '1', name: 'evil'}))
    (tmp_path / 'root').mkdir()
    with pytest.raises(DataError, match='nothing was unpacked'):
        extract_archive(tmp_path / 'a.zip', tmp_path / 'root')
    assert not list((tmp_path / 'root').iterdir()) and not (tmp_path / 'evil.txt').exists()


def test_links_are_refused(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, text in old_files().items():
            archive.writestr(name, text)
        archive.writestr(*link_member('labeled_images/2', '/etc'))
    server.files['clear10-public.zip'] = buffer.getvalue()
    with pytest.raises(DataError, match="'labeled_images/2' is a link"):
        download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url], **QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['archives.json', 'clear10-public.zip']


def test_foreign_content_is_not_overwritten_but_a_move_cut_short_is_finished(server, tmp_path, monkeypatch):
    server.files['clear10-public.zip'] = zip_of(old_files())
    (tmp_path / 'training_folder').mkdir()
    with pytest.raises(DataError, match='training_folder exists'):
        download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url], **QUICK)
    (tmp_path / 'training_folder').rmdir()

    replace, moved = Path.replace, []

    def die_at_second_entry(self, target):
        if '.tmp' in str(self.parent):
            moved.append(target)
            if len(moved) == 2:
                raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, 'replace', die_at_second_entry)
        download_clear('clear10_neurips2021', tmp_path, **QUICK)
    assert sum((tmp_path / name).exists() for name in ('class_names.txt', 'labeled_images', 'training_folder')) == 1
    download_clear('clear10_neurips2021', tmp_path, **QUICK)
    assert all((tmp_path / name).read_text() == text for name, text in old_files().items())


def test_archive_without_clear_data_is_refused(server, tmp_path):
    server.files['clear10-public.zip'] = zip_of({'readme.txt': 'nothing'})
    with pytest.raises(DataError, match='no CLEAR data'):
        download_clear('clear10_neurips2021', tmp_path, mirrors=[server.url], **QUICK)


def test_unknown_names_and_addresses_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'clear100'"):
        download_clear('clear-100', tmp_path)
    with pytest.raises(ConfigError, match='ftp://'):
        download_clear('clear10', tmp_path, mirrors=['ftp://host/folder'])
    assert not list(tmp_path.iterdir())


def test_merge_is_the_old_layout_of_the_official_split(tmp_path):
    write_demo(tmp_path / 'new', 'new', limit=100)
    write_demo(tmp_path / 'old', 'old', limit=100, seeds=[0])
    summary = merge_official(tmp_path / 'new/train', tmp_path / 'new/test', tmp_path / 'merged')
    assert summary.num_train + summary.num_test == 1000 and summary.skipped == []
    for path in (tmp_path / 'old').rglob('*'):
        relative = path.relative_to(tmp_path / 'old')
        twin = tmp_path / 'merged' / relative
        if path.suffix == '.jpg':
            assert twin.read_bytes() == path.read_bytes() and not twin.is_symlink()
        elif path.suffix == '.txt':  # the order within a class differs: training images first
            assert sorted(twin.read_text().split('\n')) == sorted(path.read_text().split('\n'))
    for bucket in ('1', '10'):
        rows = (tmp_path / f'merged/training_folder/filelists/{bucket}/all.txt').read_text().split('\n')
        folder = tmp_path / f'merged/training_folder/testset_ratio_0.3/split_0/{bucket}'
        for part in ('train', 'test'):
            indices = json.loads((folder / f'{part}_indices.json').read_text())
            assert [rows[index] for index in indices] == (folder / f'{part}.txt').read_text().split('\n')

    from clear.datasets.readers.clear.clear import read_clear

    data = read_clear(tmp_path / 'merged', data_name='demo', seed=0)
    assert data.layout == 'old' and sum(map(len, data.train)) == summary.num_train


def write_part(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_merge_leaves_out_buckets_that_one_part_lacks_and_refuses_what_cannot_be(tmp_path):
    train, test = part_files('8'), part_files('9')
    index = json.loads(test['labeled_metadata.json'])
    del index['1']
    write_part(tmp_path / 'train', train)
    write_part(tmp_path / 'test', {**test, 'labeled_metadata.json': json.dumps(index)})
    summary = merge_official(tmp_path / 'train', tmp_path / 'test', tmp_path / 'out')
    assert summary.buckets == ['2'] and summary.skipped == ['1'] and (summary.num_train, summary.num_test) == (2, 2)
    assert (tmp_path / 'out/training_folder/filelists/2/all.txt').read_text() == '\n'.join(
        f'labeled_images/2/{name}/{split}2{index}.jpg {index}' for index, name in enumerate(('boat', 'car'))
        for split in '89')

    cases = (('different classes', {'class_names.txt': 'boat\nbus'}),
             ('occurs twice', part_files('8')),
             ('outside', {'labeled_metadata/2/car.json': '{"7": {"IMG_PATH": "../x.jpg"}}'}),
             ('does not exist', {'labeled_metadata/2/car.json': '{"7": {"IMG_PATH": "gone.jpg"}}'}),
             ('no IMG_PATH', {'labeled_metadata/2/car.json': '{"7": {}}'}))
    for number, (match, change) in enumerate(cases):
        bad = tmp_path / f'bad{number}'  # not named for the reason: the message shows the path
        write_part(bad, {**test, **change})
        if match == 'different classes':
            write_part(bad, {'labeled_metadata.json': json.dumps({'2': {'boat': 'labeled_metadata/2/boat.json',
                                                                        'bus': 'labeled_metadata/2/car.json'}})})
        with pytest.raises(DataError, match=match):
            merge_official(tmp_path / 'train', bad, tmp_path / 'bad_out')
        assert not (tmp_path / 'bad_out').exists()


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools/dataset_converters')
    import download_clear as module

    yield module
    del sys.modules['download_clear']


def test_tool_downloads_merges_and_prints_hashes(server, tool, tmp_path, capsys):
    offer_clear10(server)
    arguments = ['clear10', str(tmp_path / 'data'), '--mirror', server.url]
    assert tool.main([*arguments, '--dry-run']) == 0
    assert not server.log and not (tmp_path / 'data').exists()
    assert f'{server.url}/clear10-train.zip' in capsys.readouterr().out
    assert tool.main([*arguments, '--merge', str(tmp_path / 'merged')]) == 0
    shown = capsys.readouterr().out
    assert all(hashlib.sha256(body).hexdigest() in shown for body in server.files.values())
    assert (tmp_path / 'merged/training_folder/testset_ratio_0.3/split_0/2/test.txt').is_file()


def test_tool_ends_with_2_and_one_line(tool, tmp_path, capsys):
    for arguments in (['clear11', str(tmp_path)], ['clear10', str(tmp_path), '--sha256', 'clear10-train.zip=12'],
                      ['clear10_neurips2021', str(tmp_path), '--merge', str(tmp_path / 'm')]):
        assert tool.main(arguments) == 2
        shown = capsys.readouterr().err
        assert shown.startswith('error: ') and shown.count('\n') == 1


# Answers and files of another shape


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


def central(content, offset, value):
    """An archive of one member with another 4-byte number in its central directory."""
    at = content.index(b'PK\x01\x02') + offset
    return content[:at] + value.to_bytes(4, 'little') + content[at + 4:]


@pytest.mark.parametrize('size', [0, 1, 4, 6, 1000])
@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_whose_size_lies_is_refused(size, method, tmp_path):
    content = zip_of({'a.txt': 'hello'}, compression=method)
    (tmp_path / 'a.zip').write_bytes(content)
    verify_archive(tmp_path / 'a.zip')
    (tmp_path / 'a.zip').write_bytes(central(content, 24, size))
    with pytest.raises(DataError, match='a.zip is damaged'):
        verify_archive(tmp_path / 'a.zip')


@pytest.mark.parametrize('name', ['', '/'])
def test_a_member_without_a_name_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive, archive.open(zipfile.ZipInfo(name), 'w') as member:
        member.write(b'hello')
    with pytest.raises(DataError, match='without a name'):
        verify_archive(tmp_path / 'a.zip')
    with pytest.raises(DataError, match='a member has no name'):
        extract_archive(tmp_path / 'a.zip', tmp_path)
