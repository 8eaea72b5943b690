"""The stage that finds the images of every class in every bucket."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.curation.features import banks_of
from clear.curation.manifest import TEMPORARY, Finished, Plan, StageFolder
from clear.curation.retrieval.alike import NearDuplicates
from clear.curation.retrieval.choice import CONFLICTS
from clear.curation.retrieval.index import ApproximateSearch
from clear.curation.retrieval.inputs import BucketFeatures
from clear.curation.retrieval.prompts import BACKGROUND, read_concept_group, read_prompts
from clear.curation.retrieval.selecting import Chosen, Rules, Selector, Vectors
from clear.curation.retrieval.steps import build_filter
from clear.curation.retrieval.tower import TextTower, pair_problem
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

SELECTION = 'selection.parquet'
SCHEMA = pyarrow.schema([('id', pyarrow.int64()), ('label', pyarrow.string()), ('prompt', pyarrow.string()),
                         ('score', pyarrow.float32()), ('kind', pyarrow.string()), ('rank', pyarrow.int32())])
SHORTFALL = ('error', 'keep-short', 'enlarge-q')
_SEVERAL = ' | '  # between the prompts of a class
_DEFAULTS = dict(k=None, q=None, conflict='argmax', background=False, negative_ratio=0.1)


@STAGES.register_module()
class Retrieval(Stage):
    """Choose the images of every class in every bucket by their cosine with prompts, and a background like none.

    Of each class and bucket the q most similar images are candidates (and the q least similar for the background).
    Those of several classes are settled (`conflict`), then negative prompts, filters and near-duplicates leave some
    out, and the best k of each class stay. Equal scores come in the order of ids.

    Args:
        prompts: see `clear.curation.retrieval.prompts.read_prompts`; or the earlier system's
            `concept_group_dict.json`, which also has k, q, conflict, background and negative_ratio, unless given here.
        text_encoder: config of the text side of what made the features.
        k: images of a class and bucket.
        q: candidates, at least k.
        conflict: 'argmax' gives an image to the class with the highest score, of equal ones the first; 'drop' to
            none; 'allow' to all.
        background: add the class `BACKGROUND`.
        negative_ratio: share of the k least similar images of each class that goes into it.
        shortfall: of a class with fewer than k candidates: 'error'; 'keep-short' takes what there is; 'enlarge-q'
            doubles q for the bucket, for all classes, until there are k or q is all of the bucket, then 'error'.
        near_duplicates: see `NearDuplicates`; None leaves them.
        filters: list of `dict(type=...)`, see `clear.curation.retrieval.steps`.
        index: see `ApproximateSearch`; None searches exactly.
        prefix, templates, combine, negatives, label_map: see `read_prompts`.

    Raises:
        ConfigError: for values that cannot be.
    """

    READS = ('features',)
    MAKES = 'selection'
    PACKAGES = ('pyarrow', 'numpy', 'torch')

    def __init__(self, prompts: Sequence[str] | Options | str, text_encoder: Options, k: int | None = None,
                 q: int | None = None, conflict: str | None = None, background: bool | None = None,
                 negative_ratio: float | None = None, shortfall: str = 'error',
                 near_duplicates: Options | None = None, filters: Sequence[Options] = (),
                 index: Options | None = None, prefix: str | None = None, templates: Sequence[str] | None = None,
                 combine: str | None = None, negatives: Sequence[str] | None = None,
                 label_map: Mapping[str, str] | str | None = None):
        said = dict(k=k, q=q, conflict=conflict, background=background, negative_ratio=negative_ratio)
        values = dict(_DEFAULTS)
        self.name = ''
        self.text_encoder = text_encoder
        if isinstance(prompts, (str, Path)) and str(prompts).endswith('.json'):
            group = read_concept_group(prompts, label_map)
            problem = group.model and pair_problem(dict(model=group.model), dict(text_encoder))
            if problem:
                raise ConfigError(f'{prompts} is for another model than text_encoder: {problem}. To use its texts all '
                                  'the same, write them as prompts=[...].')
            values |= group.arguments
            self.name, prompts, label_map = group.name, group.prompts, None
        values |= {key: value for key, value in said.items() if value is not None}
        self.prompts = read_prompts(prompts, prefix=prefix, templates=templates, combine=combine, negatives=negatives,
                                    label_map=label_map)
        self.k = check_whole('k', values['k'], 1)
        self.q = check_whole('q', values['q'], 1)
        if self.q < self.k:
            raise ConfigError(f'q ({self.q}) is smaller than k ({self.k}): of q candidates k are to be chosen.')
        self.conflict = check_choice('conflict', values['conflict'], CONFLICTS)
        self.background = check_flag('background', values['background'])
        self.negative_ratio = check_number('negative_ratio', values['negative_ratio'], 0, 1)
        self.shortfall = check_choice('shortfall', shortfall, SHORTFALL)
        self.near_duplicates = NearDuplicates.of(near_duplicates)
        if isinstance(filters, Mapping) or not isinstance(filters, Sequence):
            raise ConfigError(f"filters is {filters!r}; expected a list: [dict(type='MinScore', min_score=0.2)].")
        self.filters = [build_filter(f'filters[{place}]', given) for place, given in enumerate(filters)]
        self.index = ApproximateSearch.of(index)
        self._tower: TextTower | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The images and records only if a filter or hashes ask for them."""
        kinds = {kind for each in self.filters for kind in each.READS}
        if self.near_duplicates is not None and self.near_duplicates.hashes:
            kinds.add('images')
        return (*self.READS, *sorted(kinds))

    @property
    def tower(self) -> TextTower:
        """The text encoder, built when it is first asked for."""
        self._tower = self._tower or TextTower(self.text_encoder)
        return self._tower

    @property
    def class_names(self) -> list[str]:
        """In the order of the prompts; the background last."""
        return [*self.prompts.labels, *([BACKGROUND] if self.background else [])]

    def check(self) -> None:
        """Build the text encoder, with its weights."""
        assert self.tower.embed_dim

    def sources(self) -> Mapping[str, Plain]:
        """The text encoder, as its config and its weights make it."""
        return dict(text_encoder=self.tower.fingerprint())

    def preview(self) -> list[str]:
        """What is asked for in each bucket, and if the features are there, what would come out with this q."""
        per_bucket = self.k * len(self.prompts.classes)
        negative = len(self.prompts.classes) * int(self.k * self.negative_ratio) if self.background else 0
        lines = [f'in each bucket {self.k:,} images of each of {len(self.prompts.classes)} classes, of {self.q:,} '
                 f'candidates: {per_bucket:,}' + (f', and at most {negative:,} of {BACKGROUND}' if negative else '')]
        return lines + (self._foreseen(self.inputs) if set(self.reads) <= set(self.inputs) else [])

    def _foreseen(self, inputs: Inputs) -> list[str]:
        """Counts of every bucket and class as they would come out, and where they are fewer than k."""
        shards = self._shards(inputs)
        self._check_banks(inputs['features'], shards)
        lines = []
        with tempfile.TemporaryDirectory() as spill:
            for chosen in self._choose(inputs, Plan(shards, self._values()), range(len(shards)), Path(spill),
                                       'keep-short'):
                counts = self._counts(self._table(chosen))
                lines.append(f'bucket {chosen.bucket}: ' + ', '.join(
                    f'{label} {count:,}{" (short)" if count < self.k and label != BACKGROUND else ""}'
                    for label, count in counts.items()))
        return lines

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """One shard for each bucket; the vectors of all texts."""
        shards = self._shards(inputs)
        self._check_banks(inputs['features'], shards)
        return Plan(shards, self._values(), [list(range(len(shards)))] if self._is_across else None)

    def work(self, job: Job) -> Iterator[int]:
        """Search the buckets, and write what is chosen of each."""
        for chosen in self._choose(job.inputs, job.plan, job.shards, job.folder.path / TEMPORARY, self.shortfall):
            with job.writing(chosen.shard) as attempt:
                parquet.write_table(self._table(chosen), attempt.folder / SELECTION, compression='zstd')
                attempt.counts.update(chosen.counts)
            yield chosen.shard

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Classes in their order, how many images each has in each bucket, and where they are fewer than k."""
        buckets, short = {}, []
        for number, shard in enumerate(plan.shards):
            counts = self._counts(parquet.read_table(folder.shard_folder(number) / SELECTION, columns=['label']))
            buckets[shard['bucket']] = counts
            short += [dict(bucket=shard['bucket'], label=label, count=counts[label])
                      for label in self.prompts.labels if counts[label] < self.k]
        return dict(class_names=self.class_names, buckets=buckets, shortfalls=short, concepts=self._concepts(),
                    label_map={each.prompts[0]: each.label for each in self.prompts.classes}
                    if any(each.prompts != (each.label,) for each in self.prompts.classes) else {})

    def report(self, finished: Finished) -> list[str]:
        """A line for every bucket."""
        lines = [f'bucket {bucket}: {sum(counts.values()):,} images, ' + ', '.join(
            f'{label} {count:,}' for label, count in counts.items())
            for bucket, counts in finished.summary['buckets'].items()]
        lines += [f"bucket {each['bucket']}: class '{each['label']}' has {each['count']:,} images, not {self.k:,}"
                  for each in finished.summary['shortfalls']]
        asked = finished.counts.get('recall_asked')
        if asked:
            lines.append(f"index: found {finished.counts['recall_found'] / asked:.3f} of what the exact search finds")
        return lines + super().report(finished)

    def _shards(self, inputs: Inputs) -> list[dict[str, Plain]]:
        return [dict(bucket=name) for name in inputs['features'].summary['buckets']]

    def _check_banks(self, features: Finished, shards: Sequence[Mapping[str, Plain]]) -> None:
        first = None
        for shard in shards:
            for bank in banks_of(features, shard['bucket']):
                if first is None:
                    self.tower.check(bank)
                    first = bank
                    if not bank.meta.get('verified', True):
                        logger.warning('%s is imported and UNVERIFIED: nothing shows that %s made it. Compare images '
                                       'by encoder=... of LegacyFeatures.',
                                       bank.path, bank.meta['encoder'].get('model'))
                elif bank.meta['identity']['encoder'] != first.meta['identity']['encoder']:
                    raise DataError(f'{bank.path} and {first.path} are banks of two models.')
        if first is None:
            raise DataError(f'{features.folder.path} holds no features.')

    def _values(self) -> dict[str, Plain]:
        """What workers need of the text encoder: vectors, as text."""
        vectors = self.prompts.encode(self.tower)
        texts = list(dict.fromkeys(text for each in self.filters for text in each.texts))
        return dict(dim=self.tower.embed_dim, queries=[_packed(part) for part in vectors.queries],
                    negatives=[_packed(part) for part in vectors.negatives],
                    texts={text: _packed(vector) for text, vector in self.prompts.vectors(self.tower, texts).items()})

    @property
    def _is_across(self) -> bool:
        return self.near_duplicates is not None and self.near_duplicates.across

    def _choose(self, inputs: Inputs, plan: Plan, wanted: Sequence[int], spill: Path, shortfall: str
                ) -> Iterator[Chosen]:
        """What is chosen in each of the wanted shards; across buckets, all are looked at together."""
        values = plan.values
        vectors = Vectors([_unpacked(text, values['dim']) for text in values['queries']],
                          [_unpacked(text, values['dim']) for text in values['negatives']],
                          {text: _unpacked(packed, values['dim'])[0] for text, packed in values['texts'].items()})
        rules = Rules(self.prompts.labels, self.k, self.q, self.conflict, self.background, self.negative_ratio,
                      shortfall, self.near_duplicates, self.filters, self.index)
        selector = Selector(rules, vectors, inputs, spill)

        def bucket(shard: int) -> BucketFeatures:
            return BucketFeatures(inputs['features'], plan.shards[shard]['bucket'])

        if self._is_across:
            found = selector.choose({shard: bucket(shard) for shard in range(len(plan.shards))})
            yield from (chosen for chosen in found if chosen.shard in wanted)
        else:
            for shard in wanted:
                yield from selector.choose({shard: bucket(shard)})

    def _table(self, chosen: Chosen) -> pyarrow.Table:
        found, classes = chosen.positives, self.prompts.classes
        counts = found.counts(1)
        ranks = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
        prompts = [classes[place].prompts[prompt] if self.prompts.combine == 'max' else _SEVERAL.join(
            classes[place].prompts) for place, prompt in zip(found.classes, chosen.prompts)]
        rest = chosen.background
        return pyarrow.table([
            pyarrow.array(np.concatenate([found.ids, rest.ids]), pyarrow.int64()),
            pyarrow.array([classes[place].label for place in found.classes] + [BACKGROUND] * len(rest)),
            pyarrow.array(prompts + [_SEVERAL.join(classes[place].prompts) for place in rest.classes]),
            pyarrow.array(np.concatenate([found.scores, -rest.scores])),
            pyarrow.array(['positive'] * len(found) + ['background'] * len(rest)),
            pyarrow.array(np.concatenate([ranks, np.arange(len(rest))]) + 1, pyarrow.int32())],
            SCHEMA)

    def _counts(self, table: pyarrow.Table) -> dict[str, int]:
        found = {each['values']: each['counts'] for each in table['label'].value_counts().to_pylist()}
        return {label: found.get(label, 0) for label in self.class_names}

    def _concepts(self) -> dict[str, Plain]:
        """The config in the earlier system's words."""
        return dict(NAME=self.name, PREFIX=self.prompts.prefix, ALLOW_OVERLAP=int(self.conflict == 'allow'),
                    NUM_OF_IMAGES_PER_CLASS_PER_BUCKET=self.k, NUM_OF_IMAGES_PER_CLASS_PER_BUCKET_TO_QUERY=self.q,
                    BACKGROUND=int(self.background), NEGATIVE_RATIO=self.negative_ratio,
                    GROUP=[each.prompts[0] for each in self.prompts.classes])


def _packed(vectors: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(vectors, '<f4').tobytes()).decode()


def _unpacked(text: str, dim: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), '<f4').astype(np.float32).reshape(-1, dim)
