"""Images with captions that lie in files of their own, as the table that `ImageTextTable` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clear.core.files import atomic_writer
from clear.curation.download.shards.writing import IMAGES
from clear.curation.manifest import TEMPORARY, StageFolder
from clear.curation.queries import querying, tables

PAIRS = 'pairs.tsv'
HEADER = 'title\tfilepath\n'
_BLANKS = str.maketrans('\t\r\n', '   ')
_ROWS = 1 << 16


def write_pairs(folder: StageFolder, shards: int, left_out: Sequence[Path]) -> int:
    """Write `STAGE/pairs.tsv`, captions and paths in the order of lines, if there is any caption; how many pairs.

    As Conceptual Captions' collector leaves them: a header, TABs between cells, no quotes; TABs and line ends in a
    caption become blanks.

    Args:
        left_out: lists of images that stay out.
    """
    path = folder.path / PAIRS
    path.unlink(missing_ok=True)
    if not shards:
        return 0
    images = tables([folder.shard_folder(shard) / IMAGES for shard in range(shards)])
    without = f'ANTI JOIN (SELECT id FROM {tables(left_out)}) USING (id)' if left_out else ''
    count = 0
    with querying(folder.path / TEMPORARY) as connection:
        found = connection.sql(f'SELECT caption, path FROM {images} {without} WHERE caption IS NOT NULL ORDER BY line')
        reader = found.to_arrow_reader(_ROWS)
        first = next(reader, None)
        if first is None or not len(first):
            return 0
        with atomic_writer(path, 'w') as file:
            file.write(HEADER)
            while first is not None:
                file.writelines(f'{caption.translate(_BLANKS)}\t{place}\n'
                                for caption, place in zip(first['caption'].to_pylist(), first['path'].to_pylist()))
                count += len(first)
                first = next(reader, None)
    return count
