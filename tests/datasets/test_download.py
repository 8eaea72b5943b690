"""Downloads of CLEAR: transfers that break off, mirrors, checksums, and the command."""

import hashlib
import json
import socket
import sys
from pathlib import Path

import pytest
from download_server import QUICK, offer_clear10, old_files, part_files, serving, zip_of

from clear.core.errors import ConfigError, DataError
from clear.core.storage.fetch import TransferError, fetch
from clear.datasets.make.download import download_clear

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(monkeypatch):
    with serving(monkeypatch) as running:
        yield running


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


def test_unknown_names_and_addresses_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'clear100'"):
        download_clear('clear-100', tmp_path)
    with pytest.raises(ConfigError, match='ftp://'):
        download_clear('clear10', tmp_path, mirrors=['ftp://host/folder'])
    assert not list(tmp_path.iterdir())


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
