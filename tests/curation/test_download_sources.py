"""Where images come from: stores, mirrors, folders; nothing outside a root, and no file for an address."""

import hashlib

import pytest
import stage_folders
from photo_server import PATIENT, photo, records, serving
from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.curation.download import stage as stages
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner


def download(tmp_path, table, source, **options):
    stage_folders.finished(tmp_path / 'records', [{'records.parquet': table}])
    stage = dict(type='Download', source=source, pass_wait_s=0.01, max_failed=1) | options
    StageRunner(dict(stages=[stage], inputs=dict(records=str(tmp_path / 'records'))), tmp_path / 'run').run()
    return Finished(tmp_path / 'run' / 'stages' / 'download')


def outcomes(done):
    return parquet.read_table(done.files('outcomes.parquet')[0])['outcome'].to_pylist()


def digests(done):
    return parquet.read_table(done.files('images.parquet')[0])['sha256'].to_pylist()


def sha(*seeds):
    return [hashlib.sha256(photo(seed)).hexdigest() for seed in seeds]


@pytest.fixture
def server():
    with serving() as made:
        yield made


HASHES = [f'{number:x}b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5' for number in range(10)]


def test_the_public_store_by_hash_then_by_the_own_extension(tmp_path, server):
    for number in (0, 1):
        name = HASHES[number]
        ending = 'jpg' if number == 0 else 'png'
        server.files[f'/images/{name[:3]}/{name[3:6]}/{name}.{ending}'] = photo(number)
    table = records([dict(url='http://x/', hash=HASHES[0], ext='png'), dict(url='http://x/', hash=HASHES[1], ext='png'),
                     dict(url='http://x/', hash=HASHES[2], ext='jpg'), dict(url='http://x/', hash=None),
                     dict(url='http://x/', hash='../../etc/passwd', ext='jpg'),
                     dict(url='http://x/', hash=HASHES[2], ext='../x')])
    done = download(tmp_path, table, dict(type='MMCommons', base=f'{server.url}/images/'),
                    limits=PATIENT | dict(allow=[server.origin]))
    assert outcomes(done) == ['ok', 'ok', 'http_4xx', 'no_name', 'no_name', 'http_4xx'] and digests(done) == sha(0, 1)
    assert len(server.log) == 5  # the second asks twice; a store is never asked for a name that is no hash


@pytest.mark.parametrize('by', ['hash', 'id'])
def test_a_mirror(tmp_path, by):
    def put(name, number):
        path = tmp_path / 'mirror' / (f'{name[:3]}/{name[3:6]}/{name}' if by == 'hash' else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))

    put(f'{HASHES[0]}.jpg' if by == 'hash' else '100.jpg', 0)
    put(f'{HASHES[1]}.png' if by == 'hash' else '101.png', 1)
    table = records([dict(url='http://x/', hash=HASHES[number], ext='png') for number in range(3)])
    done = download(tmp_path, table, dict(type='Mirror', root=str(tmp_path / 'mirror'), by=by))
    assert outcomes(done) == ['ok', 'ok', 'missing'] and digests(done) == sha(0, 1)
    assert str(tmp_path) not in (done.folder.path / 'manifest.json').read_text()


def test_a_folder_and_nothing_outside_it(tmp_path):
    import pyarrow

    root = tmp_path / 'photos'
    (root / 'trip').mkdir(parents=True)
    (root / 'trip' / 'a b.jpg').write_bytes(photo(0))
    (tmp_path / 'secret.jpg').write_bytes(photo(1))
    (root / 'link.jpg').symlink_to(tmp_path / 'secret.jpg')
    (root / 'inner.jpg').symlink_to(root / 'trip' / 'a b.jpg')
    (root / 'large.jpg').write_bytes(photo(2) + bytes(9000))
    names = ['trip/a b.jpg', '../secret.jpg', str(tmp_path / 'secret.jpg'), 'link.jpg', 'inner.jpg', 'trip', 'no.jpg',
             'large.jpg', None, 'x\0y', 'n' * 300]
    table = records([dict(url='', path=name) for name in names], path=pyarrow.string())
    done = download(tmp_path, table, dict(type='Folder', root=str(root), max_bytes=5000))
    assert outcomes(done) == ['ok', 'outside_root', 'outside_root', 'outside_root', 'ok', 'unreadable', 'missing',
                              'too_large', 'no_name', 'outside_root', 'unreadable']
    assert digests(done) == sha(0, 0)


def test_an_address_is_never_a_file(tmp_path, server):
    (tmp_path / 'x.jpg').write_bytes(photo(0))
    table = records([dict(url=f'file://{tmp_path}/x.jpg'), dict(url=str(tmp_path / 'x.jpg')), dict(url='data:,x'),
                     dict(url=f'{server.url}/gone')])
    done = download(tmp_path, table, dict(type='Web'), limits=PATIENT | dict(allow=[server.origin]))
    assert len(parquet.read_table(done.files('images.parquet')[0])) == 0
    assert outcomes(done)[0] == 'forbidden_scheme' and outcomes(done)[3] == 'http_4xx' and len(server.log) == 1


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r'source.root: .*photos is no folder'):
        download(tmp_path, records([dict(url='')]), dict(type='Folder', root=str(tmp_path / 'photos')))
    assert not (tmp_path / 'run' / 'stages').exists()


def test_a_client_that_is_not_installed_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'clear.curation.download.client', None)
    with pytest.raises(ConfigError, match=r"pip install 'clear-framework\[curate\]'"):
        stages.Download().check()
    stages.Download(dict(type='Folder', root=str(tmp_path))).check()  # which asks no host


def test_where_a_mirror_lies_is_no_part_of_the_result(tmp_path):
    (tmp_path / 'mirror').mkdir()
    (tmp_path / 'mirror' / '100.jpg').write_bytes(photo(0))
    download(tmp_path, records([dict(url='')]), dict(type='Mirror', by='id', root=str(tmp_path / 'mirror')))
    (tmp_path / 'mirror').rename(tmp_path / 'moved')
    config = dict(inputs=dict(records=str(tmp_path / 'records')))
    moved = dict(type='Download', source=dict(type='Mirror', by='id', root=str(tmp_path / 'moved')))
    StageRunner(config | dict(stages=[moved]), tmp_path / 'run').run()
    with pytest.raises(ConfigError, match="inputs.sources.source.by: 'id' -> 'hash'"):
        moved['source']['by'] = 'hash'
        StageRunner(config | dict(stages=[moved]), tmp_path / 'run').run()
