"""Queries, relevance judgements and a collection of passages, in the layout of MS MARCO."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import regular_file
from clear.evaluation.text.files import read_cells, read_lines


@dataclass(frozen=True)
class JudgedQueries:
    """Queries with at least one relevant passage.

    Attributes:
        texts: by id.
        relevant: query -> ids of its relevant passages.
        judged: ids of all passages that were judged for one of them, relevant or not.
        without: queries without a relevant passage, left out.
        unknown: queries that are judged but not listed, left out.
    """

    texts: dict[str, str]
    relevant: dict[str, set[str]]
    judged: set[str]
    without: int
    unknown: int


def read_queries(queries: Path, judgements: Path) -> JudgedQueries:
    """Queries (id, tab, text) with judgements (query, anything, passage, grade; relevant above 0).

    Raises:
        DataError: for a file that is missing or of another layout, an id or a judgement that is there twice, or no
            query with a relevant passage.
    """
    texts: dict[str, str] = {}
    for number, cells in read_cells(queries, 2):
        if cells[0] in texts:
            raise DataError(f"{queries}:{number}: the query '{cells[0]}' is there twice.")
        texts[cells[0]] = cells[1].strip() or '.'
    grades: dict[tuple[str, str], int] = {}
    for number, line in enumerate(read_lines(judgements), start=1):
        if not line.strip():
            continue
        cells = line.split()
        if len(cells) != 4 or not cells[3].lstrip('-').isdigit():
            raise DataError(f"{judgements}:{number}: expected query, 0, passage, grade (a whole number), found "
                            f"'{line:.60}'.")
        if (cells[0], cells[2]) in grades:
            raise DataError(f'{judgements}:{number}: query {cells[0]} and passage {cells[2]} are judged twice.')
        grades[cells[0], cells[2]] = int(cells[3])
    relevant: dict[str, set[str]] = {}
    for (query, passage), grade in grades.items():
        if grade > 0 and query in texts:
            relevant.setdefault(query, set()).add(passage)
    if not relevant:
        raise DataError(f'{judgements} names no relevant passage for any of the {len(texts)} queries of {queries}.')
    return JudgedQueries({query: text for query, text in texts.items() if query in relevant},
                         relevant, {passage for query, passage in grades if query in relevant},
                         len(texts) - len(relevant), len({query for query, _ in grades} - set(texts)))


def read_passages(path: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of a collection, line by line; packed if its name ends in `.gz`. An empty text is '.'.

    Raises:
        DataError: for a file that is missing, damaged or not UTF-8, or a line without a tab.
    """
    regular_file(path)
    number = 0
    try:
        with (gzip.open(path) if path.suffix == '.gz' else path.open('rb')) as file:
            for number, line in enumerate(file, start=1):
                passage, tab, text = line.decode().rstrip('\r\n').partition('\t')
                if not tab or not passage:
                    raise DataError(f"{path}:{number}: expected an id, a tab and a passage, found '{passage:.60}'.")
                yield passage, text.strip() or '.'
    except UnicodeDecodeError as error:
        raise DataError(f'{path}:{number}: not text in UTF-8 (byte {error.object[error.start]:#04x}).') from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} cannot be read behind line {number}: {error}') from error


def check_collection(path: Path, judged: Collection[str]) -> int:
    """How many passages there are, all judged ones among them once.

    Ids of other passages are not compared: that would take memory for each.

    Raises:
        DataError: for judged passages that are missing or there twice, and as `read_passages`.
    """
    seen: set[str] = set()
    count = 0
    for count, (passage, _) in enumerate(read_passages(path), start=1):
        if passage in judged:
            if passage in seen:
                raise DataError(f"{path}:{count}: the passage '{passage}' is there twice.")
            seen.add(passage)
    missing = sorted(set(judged) - seen)
    if missing:
        raise DataError(f'{path} has {count:,} passages; {len(missing)} of {len(judged)} judged ones are not among '
                        f"them, such as '{missing[0]}'.")
    return count


def chosen_passages(path: Path, judged: Collection[str], limit: int, chunk_size: int
                    ) -> Iterator[list[tuple[str, str]]]:
    """Chunks in the order of the file: all judged passages, and others until there are `limit` (0: all)."""
    others = None if not limit else max(limit - len(judged), 0)
    chunk: list[tuple[str, str]] = []
    for passage, text in read_passages(path):
        if others is not None and passage not in judged:
            if not others:
                continue
            others -= 1
        chunk.append((passage, text))
        if len(chunk) == chunk_size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
