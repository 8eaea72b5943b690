"""The files of the metadata from a local host that breaks off or has other files; archives that would escape."""

import gzip
import hashlib
import io
import json
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from download_server import QUICK, serving
from metadata_files import row, write, write_sqlite

from clear.core.errors import ConfigError, DataError
from clear.curation import Metadata
from clear.curation.metadata import acquire
from clear.curation.metadata.acquire import PublicFile, download_metadata
from clear.datasets.make.tars import extract_tar, verify_tar

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(monkeypatch):
    with serving(monkeypatch) as running:
        yield running


def tgz(members):
    """Members of a gzipped tar: name -> bytes, or a TarInfo as it is."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode='w:gz') as archive:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


@pytest.fixture
def sqlite(tmp_path, monkeypatch):
    """The bytes of a small database, as if its MD5 were the published one."""
    import random

    path = write_sqlite(tmp_path / 'x.db', [row(number, random.Random(0)) for number in range(30)])
    data = path.read_bytes()
    monkeypatch.setitem(acquire.FORMS, 'sqlite', {'yfcc100m_dataset.sql': PublicFile(
        'http://127.0.0.1:1/none.sql', 'hand', hashlib.md5(data).hexdigest())})
    return data


def test_a_database_by_a_mirror_that_breaks_off(server, sqlite, tmp_path):
    server.files['yfcc100m_dataset.sql'], server.etags['yfcc100m_dataset.sql'] = sqlite, '"1"'
    server.cut_after = [100, 2000]
    download_metadata('sqlite', tmp_path / 'out', mirrors=[server.url + '/other', server.url], **QUICK)
    assert (tmp_path / 'out/yfcc100m_dataset.sql').read_bytes() == sqlite
    assert [wanted for _, wanted, status in server.log if status == 206] == ['bytes=100-', 'bytes=2100-']
    assert 'ok' in Metadata('yfcc100m_dataset.sql', str(tmp_path / 'out')).preview()[0]
    requests = len(server.log)
    download_metadata('sqlite', tmp_path / 'out', mirrors=[server.url], **QUICK)
    assert len(server.log) == requests


def test_another_file_than_the_published_one(server, sqlite, tmp_path):
    server.files['yfcc100m_dataset.sql'] = sqlite[:-1] + b'x'
    with pytest.raises(DataError, match='has MD5 .* published is .*get the file by hand, see hand'):
        download_metadata('sqlite', tmp_path / 'out', mirrors=[server.url], **QUICK)
    assert not list((tmp_path / 'out').glob('yfcc*'))


def test_archives_are_unpacked_inside_the_root(server, tmp_path):
    rows = b'1\ta:0.5\n'
    server.files['yfcc100m_exif.tgz'] = tgz([link('dir', '', tarfile.DIRTYPE), ('dir/yfcc100m_exif', rows)])
    server.files['yfcc100m_lines.tgz'] = tgz([('deep/er/yfcc100m_lines', b'0\t1\n')])
    only = ['yfcc100m_exif.tgz', 'yfcc100m_lines.tgz']
    download_metadata('archives', tmp_path, only=only, mirrors=[server.url], **QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['archives.json', 'yfcc100m_exif', 'yfcc100m_lines']
    assert (tmp_path / 'yfcc100m_exif').read_bytes() == rows
    record = json.loads((tmp_path / 'archives.json').read_text())
    assert record['yfcc100m_exif.tgz']['sha256'] == hashlib.sha256(server.files['yfcc100m_exif.tgz']).hexdigest()
    requests = len(server.log)
    download_metadata('archives', tmp_path, only=only, mirrors=[server.url], **QUICK)
    assert len(server.log) == requests


@pytest.mark.parametrize('members, message', [
    ([('../x', b'1')], "member '../x' leads out"), ([('/etc/x', b'1')], "leads out"),
    ([('a/../../x', b'1')], 'leads out'), ([('good', b'1'), link('x', '/etc/passwd')], "member 'x' is a link"),
    ([link('x', 'good', tarfile.LNKTYPE)], 'is a link'), ([link('x', '', tarfile.FIFOTYPE)], 'special file'),
    ([link('d', '/tmp'), ('d/x', b'1')], 'is a link'), ([('x', b'1'), ('x', b'2')], "member 'x' is there twice")])
def test_archives_that_would_escape(tmp_path, members, message):
    (tmp_path / 'a.tgz').write_bytes(tgz(members))
    (tmp_path / 'out').mkdir()
    with pytest.raises(DataError, match=message):
        extract_tar(tmp_path / 'a.tgz', tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir()) and not (tmp_path / 'x').exists()


def test_an_archive_cut_anywhere_is_damaged(tmp_path):
    whole = tgz([(f'{number}', bytes([number]) * 2000) for number in range(5)])
    (tmp_path / 'a.tgz').write_bytes(whole)
    assert verify_tar(tmp_path / 'a.tgz') == hashlib.sha256(whole).hexdigest()
    unpacked = gzip.decompress(whole)
    damaged = [whole[:cut] for cut in (0, 5, len(whole) // 2, len(whole) - 9, len(whole) - 1)]
    for data in [*damaged, b'no archive', gzip.compress(b'no tar'), whole[:60] + b'\xff' + whole[61:]]:
        (tmp_path / 'a.tgz').write_bytes(data)
        with pytest.raises(DataError, match='damaged'):
            verify_tar(tmp_path / 'a.tgz')
    assert len(unpacked) > 5 * 2000


def test_what_lies_there_by_hand_is_used_and_kept(server, tmp_path):
    (tmp_path / 'yfcc100m_hash.tgz').write_bytes(tgz([('yfcc100m_hash', b'1\tabc\n')]))
    download_metadata('archives', tmp_path, only=['yfcc100m_hash.tgz'], **QUICK)
    assert (tmp_path / 'yfcc100m_hash').is_file() and (tmp_path / 'yfcc100m_hash.tgz').is_file()
    with pytest.raises(DataError, match=r'yfcc100m_exif.tgz is not in .* Name a --mirror, or get it by `aws s3 cp'):
        download_metadata('archives', tmp_path, only=['yfcc100m_exif.tgz'], **QUICK)
    write(tmp_path / 'yfcc100m_lines', [['0', '1']])
    (tmp_path / 'yfcc100m_lines.tgz').write_bytes(tgz([('yfcc100m_lines', b'')]))
    with pytest.raises(DataError, match='exists, but was not made from yfcc100m_lines.tgz'):
        download_metadata('archives', tmp_path, only=['yfcc100m_lines.tgz'], **QUICK)


@pytest.mark.parametrize('arguments, message', [
    (dict(form='sqlit'), "no form 'sqlit' .* Did you mean 'sqlite'"),
    (dict(form='archives', only=['yfcc100m_exif']), "has no file 'yfcc100m_exif'. Did you mean 'yfcc100m_exif.tgz'"),
    (dict(form='sqlite', sha256=dict(x='0')), "has no file 'x'"),
    (dict(form='sqlite', mirrors=['ftp://x']), 'no http')])
def test_arguments_that_cannot_be(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        download_metadata(**arguments, out=tmp_path)


def test_the_program(tmp_path, capsys):
    main = runpy.run_path(str(ROOT / 'tools/curation/download_yfcc.py'))['main']
    assert main(['archives', str(tmp_path / 'out'), '--dry-run', '--mirror', 'http://a.example/x/']) == 0
    told = capsys.readouterr().out
    assert 'yfcc100m_exif.tgz: missing; from http://a.example/x/yfcc100m_exif.tgz' in told
    assert not (tmp_path / 'out').exists()
    assert main(['sqlite', str(tmp_path), '--dry-run']) == 0
    assert 'https://multimedia-commons.s3-us-west-2.amazonaws.com/tools/etc/yfcc100m_dataset.sql' in (
        capsys.readouterr().out)
    (tmp_path / 'mirror').mkdir()
    (tmp_path / 'mirror/yfcc100m_exif.tgz').write_bytes(tgz([('yfcc100m_exif', b'1\tk:v\n')]))
    command = ['archives', str(tmp_path / 'out'), '--only', 'yfcc100m_exif.tgz', '--mirror',
               (tmp_path / 'mirror').as_uri()]
    assert main(command) == 0 and (tmp_path / 'out/yfcc100m_exif').is_file()
    assert main([*command, '--sha256', f'yfcc100m_exif.tgz={"0" * 64}']) == 2
    assert 'was unpacked from a file with SHA-256' in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_says_how_it_is_used():
    done = subprocess.run([sys.executable, str(ROOT / 'tools/curation/download_yfcc.py'), '--help'],
                          capture_output=True, text=True)
    assert done.returncode == 0 and 'example:' in done.stdout
