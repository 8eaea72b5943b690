"""Which form a file of metadata has, by its first bytes."""

from __future__ import annotations

from pathlib import Path

from clear.curation.metadata.forms.base import Form
from clear.curation.metadata.forms.json_lines import JsonLines
from clear.curation.metadata.forms.sqlite import SqliteTable, is_sqlite
from clear.curation.metadata.forms.tabs import TabSeparated
from clear.curation.metadata.streams import LineFile


def form_of(path: Path) -> Form:
    """The file in its form, open.

    Raises:
        DataError: if it is missing, empty or damaged.
    """
    if is_sqlite(path):
        return SqliteTable(path)
    with LineFile(path) as file:
        is_json = file.first_line().lstrip(b'\xef\xbb\xbf \t').startswith(b'{')
    return JsonLines(path) if is_json else TabSeparated(path)
