"""What reviewers get: images, and a table or tasks that ask of each whether it belongs to its bucket and class."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError, DataError, printable
from clear.curation.export.joining import Chosen, Source, chosen_photos
from clear.curation.export.placing import place_all
from clear.curation.manifest import Finished
from clear.curation.stage import Inputs
from clear.curation.verification.answers import VERDICTS
from clear.curation.verification.spreadsheets import write_csv
from clear.datasets.make.writing import new_folder, write_plain_json

FORMS = ('csv', 'label-studio')
COLUMNS = ('id', 'bucket', 'label', 'rank', 'score', 'image', 'title', 'page', 'reviewer', 'verdict')
LOCAL_FILES = '/data/local-files/?d='  # where Label Studio serves the folder that it was given
# Only values of tasks are named in it, and shown as text: nothing of a record becomes a tag.
_LAYOUT = ('<View>\n  <Text name="label" value="$label"/>\n  <Image name="image" value="$image"/>\n'
           '  <Text name="title" value="$title"/>\n  <Choices name="verdict" toName="image" choice="single">\n'
           + ''.join(f'    <Choice value="{verdict}"/>\n' for verdict in VERDICTS) + '  </Choices>\n</View>\n')
_REVIEWER = re.compile(r'[\w@-][\w@.-]*')

Row = dict[str, str | int | float]


def write_batches(inputs: Inputs, out: str | Path, *, form: str = 'csv', batch_size: int = 500,
                  per_class: int | None = None, reviewers: Sequence[str] = (), url_prefix: str = LOCAL_FILES,
                  overwrite: bool = False) -> list[Path]:
    """Write a folder of batches, which appears whole or not at all; its images are links, or cut out of archives.

    Args:
        inputs: the finished stages `selection`, `images` and `records`.
        form: 'csv': `batch_000.csv`, with one for every reviewer if they are named; 'label-studio': tasks to import,
            with `label_config.xml`.
        batch_size: images of a batch.
        per_class: the best of every class and bucket; None takes all that were selected.
        url_prefix: what Label Studio is to put in front of an image's path.
        overwrite: replace what `out` holds.

    Returns:
        The batches.

    Raises:
        ConfigError: for a form or number that cannot be.
        DataError: if nothing was selected, an image is gone, or `out` has content.
    """
    check_choice('form', form, FORMS)
    check_whole('batch_size', batch_size, 1)
    if per_class is not None:
        check_whole('per_class', per_class, 1)
    for name in reviewers:
        if not _REVIEWER.fullmatch(name):
            raise ConfigError(f'reviewer {name!r}: expected letters, digits, and @ . _ - inside.')
    out = Path(out).resolve()
    names: list[str] = []
    with new_folder(out, replace=overwrite) as folder:
        photos = _photos(inputs, per_class)
        while batch := list(islice(photos, batch_size)):
            rows = [row for row, _ in batch]
            place_all(inputs['images'].folder.path, folder, out, [(str(row['image']), source) for row, source in batch],
                      'hardlink')
            names += _write(folder, len(names), rows, form, reviewers, url_prefix)
        if not names:
            raise DataError(f'{inputs["selection"].folder.path} has selected no photo.')
        if form == 'label-studio':
            (folder / 'label_config.xml').write_text(_LAYOUT, encoding='utf-8')
    return [out / name for name in names]


def _photos(inputs: Inputs, per_class: int | None) -> Iterator[tuple[Row, Source]]:
    selection: Finished = inputs['selection']
    with tempfile.TemporaryDirectory() as spill:
        for number, shard in enumerate(selection.manifest['plan']['shards']):
            ranks: dict[str, int] = {}
            for chosen in chosen_photos(inputs, number, selection.summary['class_names'], Path(spill)):
                rank = ranks[chosen.label] = ranks.get(chosen.label, 0) + 1
                if per_class is None or rank <= per_class:
                    yield _row(chosen, shard['bucket'], rank), chosen.photo.source


def _row(chosen: Chosen, bucket: str, rank: int) -> Row:
    record: Mapping[str, str] = chosen.photo.record
    title = unquote_to_bytes(record['TITLE'].replace('+', ' ').encode('utf-8', 'surrogateescape'))
    page = record['PAGE_URL']
    return dict(id=record['ID'], bucket=bucket, label=chosen.label, rank=rank, score=round(chosen.score, 6),
                image=f'images/{bucket}/{chosen.label}/{chosen.photo.name}',
                title=printable(title.decode('utf-8', 'replace')),
                page=page if page.startswith(('http://', 'https://')) else '', reviewer='', verdict='')


def _write(folder: Path, number: int, rows: Sequence[Row], form: str, reviewers: Sequence[str], url_prefix: str
           ) -> list[str]:
    if form == 'label-studio':
        name = f'batch_{number:03d}.json'
        write_plain_json(folder / name, [
            dict(data={key: value for key, value in row.items() if key not in ('reviewer', 'verdict')}
                 | dict(image=url_prefix + quote(str(row['image'])))) for row in rows])
        return [name]
    names = []
    for reviewer in reviewers or ('',):
        names.append(f'batch_{number // max(len(reviewers), 1):03d}{f".{reviewer}" if reviewer else ""}.csv')
        write_csv(folder / names[-1], COLUMNS, (row | dict(reviewer=reviewer) for row in rows))
    return names
