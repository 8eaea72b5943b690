"""Lists of addresses, with or without captions: lines of tab-separated cells without a header and without a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from pyarrow import compute

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.curation.manifest import Plan, StageFolder
from clear.curation.metadata import cells
from clear.curation.metadata.inputs import ListedFiles
from clear.curation.metadata.records import SCHEMA, Batch
from clear.curation.metadata.streams import Block, LineFile
from clear.curation.metadata.writing import refuse_nothing, write_batches
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

URL, CAPTION, OTHER = 'url', 'caption', '-'
URL_LIST_SCHEMA = SCHEMA.append(pyarrow.field(CAPTION, pyarrow.string()))
_TOO_LONG = 'longer than 1 MiB'
_BLANKS = ' \r'


@STAGES.register_module()
class UrlList(Stage):
    """Records of a list of addresses, such as Conceptual Captions' `caption<TAB>url`.

    A record's id is the number of its line, counted from 0 over all files; it has no times, so that `Download` takes it
    with `valid_dates=False` alone. Only LF ends a line and only TAB a cell; quotes mean nothing. Lines with another
    number of cells, without an address, or without a caption where there should be one, are rejected with the reason.

    Args:
        files, root: as for `Metadata`; plain, gzip or bzip2.
        columns: what the cells of a line are: 'url', 'caption' or '-', which is passed over.
        shard_rows: lines of one shard.

    Raises:
        ConfigError: for values that cannot be.
    """

    MAKES = 'records'
    EXECUTION = frozenset({'files', 'root'})  # names and contents of the files are in the plan

    def __init__(self, files: str | Sequence[str], root: str = '.', columns: Sequence[str] = (URL,),
                 shard_rows: int = 1_000_000):
        self._listed = ListedFiles(files, root)
        self.columns = tuple(columns)
        if (isinstance(columns, str) or self.columns.count(URL) != 1 or self.columns.count(CAPTION) > 1
                or set(self.columns) - {URL, CAPTION, OTHER}):
            raise ConfigError(f"columns is {columns!r}; expected one 'url', perhaps one 'caption', and '-' for each "
                              "cell that is neither, in the order of the file.")
        self.shard_rows = check_whole('shard_rows', shard_rows, 1)

    def check(self) -> None:
        """Open every file."""
        for path in self._listed.paths():
            with LineFile(path):
                pass

    def sources(self) -> Mapping[str, Plain]:
        """Name and size of every file; the plan has the checksums."""
        return self._listed.sizes()

    def preview(self) -> list[str]:
        """Count the lines of every file."""
        found = []
        for path in self._listed.paths():
            with LineFile(path) as file:
                found.append(f'{path.name}  {file.survey(self.shard_rows).lines:,} lines')
        return found

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Count the lines of every file, and cut them into ranges."""
        shards, files, jobs, first = [], [], [], 0
        for number, path in enumerate(self._listed.paths()):
            with LineFile(path) as file:
                survey = file.survey(self.shard_rows)
                places = range(len(shards), len(shards) + len(survey.marks))
                ends = [*survey.marks[1:], survey.bytes]
                shards += [dict(file=number, first=first + place * self.shard_rows, place=mark, end=end)
                           for place, (mark, end) in enumerate(zip(survey.marks, ends))]
                jobs += [list(places)] if file.is_packed else [[place] for place in places]
                files.append(dict(name=path.name, sha256=survey.sha256, lines=survey.lines, first=first))
            first += survey.lines
        return Plan(shards, dict(files=files, lines=first), [job for job in jobs if job])

    def work(self, job: Job) -> Iterator[int]:
        """Read the lines of each range; those of a job are in one file."""
        path: Path = self._listed.paths()[job.plan.shards[job.shards[0]]['file']]
        with LineFile(path) as file:
            for shard in job.shards:
                todo = job.plan.shards[shard]
                with job.writing(shard) as attempt:
                    blocks = file.blocks(todo['first'], todo['place'], todo['end'])
                    write_batches(attempt, map(self._batch, blocks), URL_LIST_SCHEMA)
                yield shard

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Refuse lists of which no line is a record."""
        refuse_nothing(folder.receipt(shard) for shard in range(len(plan.shards)))
        return {}

    def _batch(self, block: Block) -> Batch:
        found = cells.cut(block.data, len(self.columns), block.count)
        numbers = block.numbers
        rejected = {int(numbers[row]): f'{count} columns in place of {len(self.columns)}'
                    for row, count in found.wrong.items()} | dict.fromkeys(block.too_long, _TOO_LONG)
        lines = numbers[found.rows]
        given = {name: compute.utf8_trim(cells.text(values), _BLANKS)
                 for name, values in zip(self.columns, found.arrays(range(len(self.columns)))) if name != OTHER}
        keep = np.ones(len(lines), bool)
        for name, reason in ((URL, 'no address'), (CAPTION, 'no caption')):
            if name in given:
                is_empty = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(given[name])), 0)
                is_empty = is_empty.to_numpy(zero_copy_only=False)
                rejected.update({int(line): reason for line in lines[is_empty & keep]})
                keep &= ~is_empty
        count = int(keep.sum())
        made = dict(id=pyarrow.array(lines[keep]), line=pyarrow.array(lines[keep]),
                    is_video=pyarrow.array(np.zeros(count, bool)))
        made |= {name: values.filter(pyarrow.array(keep)) for name, values in given.items()}
        columns = [made[each.name].cast(each.type) if each.name in made else pyarrow.nulls(count, each.type)
                   for each in URL_LIST_SCHEMA]
        return Batch(pyarrow.table(columns, URL_LIST_SCHEMA), rejected)
