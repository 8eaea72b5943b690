"""Finished stages written by hand, for tests of the stages that read them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow
from pyarrow import parquet

from clear.core.files import write_json
from clear.curation.manifest import MANIFEST, PLAN, SCHEMA, Finished, Plan, StageFolder, manifest_of


def finished(path: Path, shards: Sequence[Mapping[str, pyarrow.Table | bytes]], summary: Mapping | None = None,
             values: Mapping | None = None, counts: Sequence[Mapping[str, int]] | None = None,
             stage: str = 'Made', plan_shards: Sequence[Mapping] | None = None) -> Finished:
    """A stage's folder with these shards.

    Args:
        shards: of each, file name -> a table (written as Parquet), or bytes.
        summary, values: of the manifest and of the plan.
        counts: of each shard.
        plan_shards: what the plan says of each.
    """
    folder = StageFolder(path)
    plan = dict(schema=SCHEMA, stage=stage, config={}, inputs=dict(stages={}, sources={}),
                plan=asdict(Plan(plan_shards or [{} for _ in shards], values or {})))
    write_json(path / PLAN, plan)
    for number, files in enumerate(shards):
        with folder.writing(number) as attempt:
            attempt.counts.update(counts[number] if counts else {})
            for name, content in files.items():
                file = attempt.folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    file.write_bytes(content)
                else:
                    parquet.write_table(content, file)
    receipts = [folder.receipt(number) for number in range(len(shards))]
    folder.clear_attempts()
    write_json(path / MANIFEST, manifest_of(plan, receipts, summary or {}, {}))
    return Finished(path)
