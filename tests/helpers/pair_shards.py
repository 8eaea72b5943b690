"""Tar shards of numbered pairs, for tests of reading and of order."""

import io
import tarfile

from PIL import Image

TO_TENSOR = [dict(type='Resize', size=8), dict(type='CenterCrop', size=8), dict(type='ToTensor')]
COUNTS = (5, 3, 9, 1, 7, 4)


def picture(value, kind='PNG'):
    stored = io.BytesIO()
    Image.new('RGB', (9, 8), (int(value), 7, 200)).save(stored, kind)
    return stored.getvalue()


def member(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def written(path, files):
    """A tar of (name, content), with Python's own writer."""
    with tarfile.open(path, 'w') as tar:
        for name, content in files:
            member(tar, name, content)
    return path


def write_numbered(folder):
    """Six shards of 29 pairs in all, `0.tar` ...; the image of pair n has n as its red, the caption is `pair n`."""
    from webdataset import TarWriter

    row = 0
    for shard, count in enumerate(COUNTS):
        with TarWriter(str(folder / f'{shard}.tar'), mtime=0) as writer:
            for _ in range(count):
                writer.write({'__key__': f'part/{row:04}', 'png': picture(row), 'txt': f'pair {row}', 'cls': row % 3,
                              'time': b'2012-03-%02d' % (row + 1)})
                row += 1
    return folder
