"""Archives of CLEAR that are damaged, that would write elsewhere, or that are no CLEAR data."""

import io
import stat
import zipfile
from pathlib import Path

import pytest
from download_server import QUICK, old_files, serving, zip_of

from clear.core.errors import DataError
from clear.datasets.make.archives import extract_archive, verify_archive
from clear.datasets.make.download import download_clear


@pytest.fixture
def server(monkeypatch):
    with serving(monkeypatch) as running:
        yield running


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
