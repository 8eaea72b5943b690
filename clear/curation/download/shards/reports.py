"""What became of all records together: every outcome by the year of upload, and bad dates by where they were taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clear.curation.download.shards.writing import OUTCOMES
from clear.curation.filters import BAD_DATE
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


def bad_dates_by_zone(folder: StageFolder, shards: int) -> dict[str, list[int]]:
    """Hours from Greenwich, by the longitude -> photos there with a bad date, and all photos there.

    Uploads are in UTC and cameras in local time, so that the rule which compares them drops more in the east.
    """
    if not shards:
        return {}
    said = tables([folder.shard_folder(shard) / OUTCOMES for shard in range(shards)])
    with querying(folder.path / TEMPORARY) as connection:
        rows = connection.execute(f"SELECT zone, count(*) FILTER (outcome = '{BAD_DATE}'), count(*) FROM {said} "
                                  'WHERE zone IS NOT NULL GROUP BY zone ORDER BY zone').fetchall()
    return {f'{zone:+d}': [bad, count] for zone, bad, count in rows}


def zone_line(zones: Mapping[str, Sequence[int]]) -> str:
    """Share of bad dates by hours from Greenwich."""
    return 'bad_date by hours from Greenwich  ' + '  '.join(f'{zone} {bad / count:.1%}'
                                                            for zone, (bad, count) in zones.items())
