"""The stage that reads metadata: any public form of YFCC100M's files -> typed records, and the lines that are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clear.core.checks import check_whole
from clear.curation.manifest import Plan, StageFolder
from clear.curation.metadata import cells
from clear.curation.metadata.forms import OUTCOMES, Range, form_of
from clear.curation.metadata.inputs import ListedFiles
from clear.curation.metadata.writing import refuse_repeated, write_batches
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain


@STAGES.register_module()
class Metadata(Stage):
    """YFCC100M's metadata in any public form (see `forms`), packed or plain, one file or many of any forms.

    A row without a readable id, upload time, address or marker is rejected with its line and reason, and so is one
    above 1 MiB; any other cell that cannot be read is null, and counted. Ids may not repeat.

    Args:
        files: a path or a pattern with `*`, or a list of these; of a pattern in the order of names.
        root: what relative ones are relative to.
        shard_rows: rows of one shard.

    Raises:
        ConfigError: for values that cannot be.
    """

    MAKES = 'records'
    PACKAGES = ('pyarrow', 'duckdb')
    EXECUTION = frozenset({'files', 'root'})  # names and contents of the files are in the plan

    def __init__(self, files: str | Sequence[str], root: str = '.', shard_rows: int = 1_000_000):
        self._listed = ListedFiles(files, root)
        self.shard_rows = check_whole('shard_rows', shard_rows, 1)

    def check(self) -> None:
        """Look at the first line of every file, or at its table."""
        for path in self._listed.paths():
            with form_of(path) as form:
                form.check()

    def sources(self) -> Mapping[str, Plain]:
        """Name and size of every file; the plan has the checksums."""
        return self._listed.sizes()

    def preview(self) -> list[str]:
        """Count what the files hold: only the cells that decide about a record are read."""
        counts, years = np.zeros(len(OUTCOMES), np.int64), np.zeros(10_000, np.int64)
        for path in self._listed.paths():
            with form_of(path) as form:
                for keys in form.read_keys():
                    counts += np.bincount(keys.outcome, minlength=len(OUTCOMES))
                    years += np.bincount(cells.years(keys.uploaded_at[keys.outcome == 0]), minlength=len(years))
        return ['  '.join(f'{name} {count:,}' for name, count in sorted(zip(OUTCOMES, counts.tolist())) if count),
                'kept by year of upload  ' + '  '.join(f'{year} {years[year]:,}' for year in np.flatnonzero(years))]

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Count the rows of every file, and cut them into ranges."""
        shards, files, jobs, first = [], [], [], 0
        for number, path in enumerate(self._listed.paths()):
            with form_of(path) as form:
                survey = form.survey(self.shard_rows)
                places = range(len(shards), len(shards) + len(survey.marks))
                shards += [dict(file=number, **each._asdict()) for each in survey.ranges(first, self.shard_rows)]
                jobs += [list(places)] if form.is_sequential else [[place] for place in places]
                files.append(dict(name=path.name, form=form.NAME, sha256=survey.sha256, lines=survey.rows, first=first,
                                  **form.traits()))
            first += survey.rows
        return Plan(shards, dict(files=files, lines=first), [job for job in jobs if job])

    def work(self, job: Job) -> Iterator[int]:
        """Type the rows of each range."""
        paths, opened = self._listed.paths(), None
        try:
            for shard in job.shards:
                todo = dict(job.plan.shards[shard])
                path = paths[todo.pop('file')]
                if opened is None or opened.path != path:
                    if opened is not None:
                        opened.close()
                    opened = form_of(path)
                with job.writing(shard) as attempt:
                    write_batches(attempt, opened.batches(Range(**todo)))
                yield shard
        finally:
            if opened is not None:
                opened.close()

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Refuse ids that are there twice.

        Raises:
            DataError: naming some, with their lines.
        """
        refuse_repeated(folder, plan)
        return {}
