"""A shard that was published and is made again: what it has is taken over, what had failed is fetched."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath

from pyarrow import parquet

from clear.curation.download.shards.ledger import Entry, Ledger
from clear.curation.download.shards.writing import IMAGES, OUTCOMES
from clear.curation.filters import KEPT
from clear.curation.manifest import StageFolder


def take_over(folder: StageFolder, shard: int, ledger: Ledger) -> None:
    """Enter what a former form of a shard holds; nothing if there is none."""
    home = folder.former_folder(shard)
    if not (home / OUTCOMES).is_file():
        return
    outcomes = parquet.read_table(home / OUTCOMES, columns=['outcome'])['outcome'].to_pylist()
    images = iter(parquet.read_table(home / IMAGES).to_pylist())
    for row, outcome in enumerate(outcomes):
        if outcome != KEPT:
            ledger.take(Entry(row, outcome))
            continue
        image = next(images)
        # Both are relative to the stage's folder: `shards/000003/` and what lies in it.
        file = home.joinpath(*PurePosixPath(image['shard'] or image['path']).parts[2:])
        if image['shard'] is not None:
            ledger.hold(file)
        ledger.take(Entry(row, KEPT, file, image['offset'] or 0, image['bytes'], image['width'], image['height'],
                          image['format'], image['sha256']))


def remove(folder: StageFolder, shard: int) -> None:
    """The shard is published anew."""
    shutil.rmtree(folder.former_folder(shard), ignore_errors=True)

