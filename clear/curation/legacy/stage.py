"""The stage that takes over the features of an earlier curation, a bank for each bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.checks import check_text
from clear.core.errors import ConfigError, DataError
from clear.curation.features import BANK, summary_of
from clear.curation.legacy.agreement import verify_bank
from clear.curation.legacy.feature_banks import import_features
from clear.curation.legacy.old_features import OldFeatures, find_features
from clear.curation.manifest import Finished, Plan, StageFolder
from clear.curation.stage import Inputs, Job, Stage
from clear.datasets.readers.by_time import order_times
from clear.features.build import make_encoder
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Options, Plain


@STAGES.register_module()
class LegacyFeatures(Stage):
    """Import the features of every bucket of an earlier curation, see `clear.curation.legacy.old_features`.

    Which images they are of is known by file sizes, not by content: reading hundreds of gigabytes would take as long as
    importing them.

    Args:
        root: the folder of the buckets, such as `bucket_11`; those with features are taken, in the order of their
            numbers or dates.
        model: as CLIP calls it, or as the files do.
        dtype: of the banks; by default that of the features.
        images, old_root: see `import_features`; needed to verify.
        encoder: `dict(type=...)` of what is said to have made them: 32 images of each bucket are encoded again and must
            agree. Without it the banks stay unverified.

    Raises:
        ConfigError: for values that cannot be.
    """

    MAKES = 'features'
    PACKAGES = ('pyarrow', 'torch', 'pillow')

    def __init__(self, root: str, model: str, dtype: str | None = None, images: str | None = None,
                 old_root: str | None = None, encoder: Options | None = None):
        self.root, self.model, self.dtype = check_text('root', root), check_text('model', model), dtype
        self.images, self.old_root, self.encoder = images, old_root, encoder
        if encoder is not None and images is None:
            raise ConfigError('encoder is given, but images, the folder of the images that it should encode, is not.')

    @cached_property
    def found(self) -> dict[str, OldFeatures]:
        """The features of each bucket, in order.

        Raises:
            DataError: if there are none.
        """
        root = Path(self.root)
        found = {}
        for folder in sorted(path for path in root.glob('*') if path.is_dir()):
            if any(folder.glob('features_*.json')) or any(folder.glob('features_*.pickle')):
                found[folder.name] = find_features(folder, self.model)
        if not found:
            raise DataError(f'{root}: no folder below it has features_<MODEL>.json. root is the folder of the buckets.')
        return {name: found[name] for name in order_times(list(found), root)}

    def check(self) -> None:
        """Open every array, and build the encoder."""
        for each in self.found.values():
            assert each.shards
        if self.encoder is not None:
            make_encoder(self.encoder)

    def sources(self) -> Mapping[str, Plain]:
        """Sizes of the files, and the encoder."""
        sizes = {f'{name}/{path.name}': path.stat().st_size for name, each in self.found.items()
                 for path in (each.index, *sorted(each.folder.glob('*.npy')))}
        return dict(bytes=sizes) | (
            {} if self.encoder is None else dict(encoder=make_encoder(self.encoder).fingerprint()))

    def preview(self) -> list[str]:
        """A line for every bucket."""
        return [f'bucket {name}: {sum(len(shard.raw) for shard in each.shards):,} x {each.shards[0].raw.shape[1]} '
                f'{each.shards[0].raw.dtype} of {each.model}' for name, each in self.found.items()]

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """A shard for every bucket."""
        shards = [dict(bucket=name, rows=sum(len(shard.raw) for shard in each.shards))
                  for name, each in self.found.items()]
        return Plan(shards, dict(buckets=list(self.found)))

    def work(self, job: Job) -> Iterator[int]:
        """Import buckets, and compare with the encoder if there is one."""
        encoder = None if self.encoder is None else make_encoder(self.encoder)
        for shard in job.shards:
            bucket = job.plan.shards[shard]['bucket']
            with job.writing(shard) as attempt:
                bank = import_features(self.found[bucket].index.parent, attempt.folder / BANK, model=self.model,
                                       bucket=bucket, dtype=self.dtype, images=self.images, old_root=self.old_root)
                if encoder is not None:
                    verify_bank(bank, encoder, self.images)
                attempt.counts.update(images=len(bank), unreadable=len(bank) - bank.meta['num_valid'])
            yield shard

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """As of features that were made here."""
        return summary_of(folder, plan)

    def report(self, finished: Finished) -> list[str]:
        """Whether they are verified, and a line for every bucket."""
        summary = finished.summary
        state = 'verified' if summary['verified'] else 'UNVERIFIED: give encoder=... and images=... to compare'
        return [f'{summary["encoder"]["model"]}, {state}'] + [
            f'{name:>8}  {each["count"]:>12,} images  {each["count"] - each["valid"]:,} without features'
            for name, each in summary['buckets'].items()] + super().report(finished)
