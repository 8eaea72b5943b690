"""What became of all records together: every outcome by the year of upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clear.curation.download.shards.writing import OUTCOMES
from clear.curation.manifest import TEMPORARY, StageFolder
from clear.curation.queries import querying, tables

NO_YEAR = 'none'


def by_year(folder: StageFolder, shards: int, left_out: Sequence[Path]) -> dict[str, dict[str, int]]:
    """Outcome -> year of upload in UTC ('none' without one) -> records.

    Args:
        left_out: files of images that count otherwise than their shards say.
    """
    if not shards:
        return {}
    said = tables([folder.shard_folder(shard) / OUTCOMES for shard in range(shards)])
    later = f'SELECT id, outcome AS later FROM {tables(left_out)}' if left_out else 'SELECT 0 AS id, NULL AS later'
    with querying(folder.path / TEMPORARY) as connection:
        rows = connection.execute(
            f'SELECT coalesce(later, outcome) AS became, year(uploaded_at) AS year, count(*) FROM {said} '
            f'LEFT JOIN ({later}) USING (id) GROUP BY became, year ORDER BY became, year').fetchall()
    found: dict[str, dict[str, int]] = {}
    for outcome, year, count in rows:
        found.setdefault(outcome, {})[NO_YEAR if year is None else str(year)] = count
    return found


def lines(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Each outcome with its sum and its years, the most frequent first."""
    sums = {outcome: sum(years.values()) for outcome, years in counts.items()}
    width = max(map(len, sums), default=0)
    total = sum(sums.values())
    return [f'{outcome:<{width}}  {sums[outcome]:>12,}  {sums[outcome] / total:>6.1%}  '
            + '  '.join(f'{year} {count:,}' for year, count in counts[outcome].items())
            for outcome in sorted(sums, key=lambda name: (-sums[name], name))]
