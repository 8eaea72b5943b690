"""The stage that writes what was selected as a CLEAR tree, on which the rest of the framework trains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import parquet

from clear.core.checks import check_choice, check_flag, check_number, check_text, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.programs.names import as_typed
from clear.curation.export.assembling import TREE, assemble, check_target, contents, is_there, room
from clear.curation.export.joining import SELECTION, Source, chosen_photos, photos_of_bucket
from clear.curation.export.placing import HOW, LIST, missing, write_list
from clear.curation.export.tree import write_all_metadata, write_failed, write_labelled, write_lists
from clear.curation.manifest import PLAN, TEMPORARY, Attempt, Finished, Plan, StageFolder
from clear.curation.stage import Inputs, Job, Stage
from clear.datasets.make.writing import TEST_RATIO
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

SEEDS = (0, 1, 2, 3, 4)
# What a folder cannot be called, and signs that would end a line of a list.
_NO_FOLDER = re.compile(r'[/\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]')


@STAGES.register_module()
class Export(Stage):
    """Write the data set of a selection: images by bucket and class, metadata, lists, splits, features.

    One shard a bucket; the tree is put together when all are done, beside its place, and put there by one rename.

    Args:
        out_dir: the folder to write, relative to the working directory; an empty one may be there.
        images: 'hardlink' (which falls back to a copy on another file system), 'symlink' (relative) or 'copy'. Images
            in archives are always copied.
        all_metadata: also the records of all photos of every bucket.
        all_images: also their images, with what cannot be had in `all_images/failed/<b>.json`.
        features: the name under which the features of the labelled photos are written, and read with
            `scenario.feature_type`; None writes none.
        testset_ratio: of the splits; 0 writes lists alone.
        seeds: of the splits.
        per_class: draw splits per class; CLEAR's are drawn from whole buckets.

    Raises:
        ConfigError: for values that cannot be.
    """

    READS = ('selection', 'images', 'records', 'buckets')
    MAKES = 'dataset'
    PACKAGES = ('pyarrow', 'duckdb', 'torch')
    EXECUTION = frozenset({'out_dir', 'images'})
    FORGIVES = frozenset({'images'})

    def __init__(self, out_dir: str, images: str = 'hardlink', all_metadata: bool = True, all_images: bool = False,
                 features: str | None = None, testset_ratio: float = TEST_RATIO, seeds: Sequence[int] = SEEDS,
                 per_class: bool = False):
        self.out_dir = Path(check_text('out_dir', out_dir)).resolve()
        self.images = check_choice('images', images, HOW)
        self.all_metadata = check_flag('all_metadata', all_metadata)
        self.all_images = check_flag('all_images', all_images)
        self.features = features
        if features is not None and (not check_text('features', features) or bad_folder_name(features)):
            raise ConfigError(f'features is {features!r}, expected a name for a folder.')
        self.testset_ratio = check_number('testset_ratio', testset_ratio, 0, below=1)
        self.seeds = [check_whole('seeds', seed, 0) for seed in seeds]
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f'seeds are {self.seeds}, expected different ones.')
        self.per_class = check_flag('per_class', per_class)

    @property
    def reads(self) -> tuple[str, ...]:
        """The features only if they are to be written."""
        return self.READS if self.features is None else (*self.READS, 'features')

    def check(self) -> None:
        """Refuse a place that holds something else."""
        check_target(self.out_dir, None, self.overwrite)

    def preview(self) -> list[str]:
        """Where it goes and, of a selection that is finished, how many photos of each bucket."""
        lines = [f'into {self.out_dir}, images by {self.images} (those in archives as copies)']
        selection = self.inputs.get('selection')
        for number, shard in enumerate(selection.manifest['plan']['shards'] if selection else ()):
            lines.append(f'bucket {shard["bucket"]}: {_rows(selection.file(number, SELECTION)):,} photos')
        return lines

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """One shard for each bucket of which something is to be written."""
        check_target(self.out_dir, _fingerprints(inputs), self.overwrite)
        selection = inputs['selection']
        group = list(selection.summary['class_names'])
        for label in group:
            reason = bad_folder_name(label)
            if reason:
                raise DataError(f'label {label!r} is no name for a folder: {reason}. Give its prompt another label.')
        selected = {shard['bucket']: number for number, shard in enumerate(selection.manifest['plan']['shards'])}
        names = list(inputs['buckets'].summary['buckets'])
        unknown = [name for name in selected if name not in names]
        if unknown:
            raise DataError(f"{selection.folder.path} has bucket '{unknown[0]}', which {inputs['buckets'].folder.path} "
                            'does not have: it was made of other buckets.')
        shards = []
        for key, name in zip(bucket_keys(names), names):
            number = selected.get(name)
            count = 0 if number is None else _rows(selection.file(number, SELECTION))
            self._check_split(name, count)
            if count or self.all_metadata or self.all_images:
                shards.append(dict(bucket=name, key=key, selection=number if count else None))
        if not any(shard['selection'] is not None for shard in shards):
            raise DataError(f'{selection.folder.path} has selected no photo.')
        values = dict(class_names=sorted(group), group=group, features=self.features,
                      buckets={shard['key']: shard['bucket'] for shard in shards},
                      concepts=selection.summary.get('concepts') or dict(GROUP=[name for name in group
                                                                                if name != 'BACKGROUND']),
                      label_map=selection.summary.get('label_map', {}))
        return Plan(shards, values)

    def work(self, job: Job) -> Iterator[int]:
        """Write the files of a bucket, and note where its images are to be put."""
        for number in job.shards:
            shard = job.plan.shards[number]
            with room(self.out_dir), job.writing(number) as attempt:
                self._write(job, shard, attempt)
            yield number

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Put the tree together."""
        made = _made(folder, plan)
        if self.overwrite or not is_there(self.out_dir, made):
            assemble(self.out_dir, folder, plan, made, self.inputs['images'].folder.path, self.images, self.overwrite)
        return dict(buckets=plan.values['buckets'], class_names=plan.values['class_names'])

    def lacking(self, finished: Finished) -> str:
        """Whether the tree is in its place."""
        plan = Plan(**finished.folder.read(PLAN)['plan'])
        there = is_there(self.out_dir, _made(finished.folder, plan))
        return '' if there else f'{self.out_dir} does not hold its data set'

    def report(self, finished: Finished) -> list[str]:
        """How much there is, and how to look at it."""
        return [*super().report(finished), f'{len(finished.summary["class_names"])} classes in '
                f'{len(finished.summary["buckets"])} buckets: {self.out_dir}',
                as_typed(f'check it with tools/dataset_converters/check_clear.py {self.out_dir}')]

    def _check_split(self, bucket: str, count: int) -> None:
        if count and self.testset_ratio and not self.per_class and not int(count * self.testset_ratio):
            raise DataError(f'bucket {bucket}: of {count} photos testset_ratio {self.testset_ratio} leaves none to '
                            'test. Select more, or write lists alone with testset_ratio=0.')

    def _write(self, job: Job, shard: Mapping[str, Plain], attempt: Attempt) -> None:
        spill, tree, key = job.folder.path / TEMPORARY, attempt.folder / TREE, shard['key']
        root = job.inputs['images'].folder.path
        to_place = []
        if shard['selection'] is not None:
            chosen = chosen_photos(job.inputs, shard['selection'], job.plan.values['group'], spill)
            found = write_labelled(tree, key, chosen, job.plan.values['class_names'])
            gone = [reason for _, source in found.images if (reason := missing(root, source))]
            if gone:
                raise DataError(f'{len(gone)} of {len(found.images)} selected photos of bucket {shard["bucket"]} have '
                                f'no image any more, first: {gone[0]}. Were they moved? Say where they are with '
                                "inputs=dict(images='...').")
            write_lists(tree, key, found.rows, self.seeds, self.testset_ratio, self.per_class)
            if self.features is not None:
                from clear.curation.export.labelled_features import features_of, write_features

                targets = [target for _, target in found.rows]
                values = features_of(job.inputs['features'], shard['bucket'], found.ids)
                labels = [job.plan.values['class_names'][target] for target in targets]
                write_features(tree, self.features, key, values, found.ids, labels, targets)
            to_place = found.images
        placed = self._images(job, shard, tree, to_place)
        attempt.counts.update(labelled=len(to_place), placed=write_list(attempt.folder / LIST, placed))

    def _images(self, job: Job, shard: Mapping[str, Plain], tree: Path, labelled: Sequence[tuple[str, Source]]
                ) -> Iterator[tuple[str, Source]]:
        """The images of a bucket, while the metadata of all of its photos are written."""
        yield from labelled
        if not self.all_metadata and not self.all_images:
            return
        photos = photos_of_bucket(job.inputs, shard['bucket'], job.folder.path / TEMPORARY)
        if self.all_metadata:
            photos = write_all_metadata(tree, shard['key'], photos)
        if self.all_images:
            yield from write_failed(tree, shard['key'], photos, partial(missing, job.inputs['images'].folder.path))
        else:
            for _ in photos:
                pass


def bucket_keys(names: Sequence[str]) -> list[str]:
    """What a tree calls buckets, which readers order by number: as they are called, or by their places in time."""
    if all(name.isascii() and name.isdigit() and len(name) < 20 for name in names) and (
            len({int(name) for name in names}) == len(names)):
        return list(names)
    return [str(place) for place in range(len(names))]


def bad_folder_name(name: str) -> str:
    """Why no folder can be called so; empty if one can."""
    if name in ('', '.', '..') or name != name.strip():
        return 'it is empty, a dot, or begins or ends with a blank'
    if _NO_FOLDER.search(name):
        return "it holds '/' or a sign that is no text"
    return 'it is longer than 200 bytes' if len(name.encode()) > 200 else ''


def _rows(file: Path) -> int:
    return parquet.read_metadata(file).num_rows


def _fingerprints(inputs: Inputs) -> dict[str, str]:
    return {kind: finished.fingerprint for kind, finished in sorted(inputs.items())}


def _made(folder: StageFolder, plan: Plan) -> dict[str, Plain]:
    return contents(folder, plan, dict(sorted(folder.read(PLAN)['inputs']['stages'].items())))
