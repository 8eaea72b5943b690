"""Which form a file of metadata has, by its first bytes."""

from __future__ import annotations

from pathlib import Path

from clear.core.errors import DataError
from clear.curation.metadata.forms.base import Form
from clear.curation.metadata.forms.json_lines import JsonLines
from clear.curation.metadata.forms.sqlite import SqliteTable, is_sqlite
from clear.curation.metadata.forms.tabs import TabSeparated
from clear.curation.metadata.streams import LineFile

_TAR_MARK_AT = 257  # in the header of the first member


def form_of(path: Path) -> Form:
    """The file in its form, open.

    Raises:
        DataError: if it is missing, empty or damaged, or an archive that is still packed.
    """
    if is_sqlite(path):
        return SqliteTable(path)
    with LineFile(path) as file:
        line = file.first_line()
    if line[_TAR_MARK_AT:].startswith(b'ustar'):
        raise DataError(f'{path} is a tar archive. Unpack it (tools/curation/download_yfcc.py archives does), and name '
                        'the file that was in it.')
    return JsonLines(path) if line.lstrip(b'\xef\xbb\xbf \t').startswith(b'{') else TabSeparated(path)
