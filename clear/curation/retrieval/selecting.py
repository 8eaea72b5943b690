"""From the banks of buckets to what is chosen in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clear.core.errors import DataError
from clear.curation.manifest import Finished
from clear.curation.retrieval.alike import NearDuplicates
from clear.curation.retrieval.choice import Candidates, background_of, candidates_of, settle, shortfalls
from clear.curation.retrieval.index import ApproximateSearch
from clear.curation.retrieval.inputs import AboutCandidates, BucketFeatures
from clear.curation.retrieval.search import row_scores, top_scores
from clear.curation.retrieval.steps import CandidateFilter

_NAMED = 4  # classes of a message


@dataclass(frozen=True)
class Rules:
    """Arguments of the stage `Retrieval` that decide the choice; `labels` are of the classes, without background."""

    labels: Sequence[str]
    k: int
    q: int
    conflict: str
    background: bool
    negative_ratio: float
    shortfall: str
    near_duplicates: NearDuplicates | None
    filters: Sequence[CandidateFilter]
    index: ApproximateSearch | None = None


@dataclass(frozen=True)
class Vectors:
    """Unit vectors of texts.

    Attributes:
        queries, negatives: see `PromptVectors`.
        texts: of the filters, text -> (D,).
    """

    queries: Sequence[np.ndarray]
    negatives: Sequence[np.ndarray]
    texts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Chosen:
    """What is chosen in a bucket.

    Attributes:
        shard: its number.
        positives: by class, score and id, at most k of a class.
        background: by negative cosine and id, whose scores are negative cosines.
        prompts: of each positive the place of the nearest prompt of its class.
        counts: of rows and candidates on the way.
    """

    shard: int
    bucket: str
    positives: Candidates
    background: Candidates
    prompts: np.ndarray
    counts: Mapping[str, int]


@dataclass
class _Pool:
    """Candidates of a bucket: before near-duplicates are removed, and after."""

    positives: Candidates
    negatives: Candidates
    searched: int
    counts: dict[str, int] = field(default_factory=dict)


class Selector:
    """Chooses in buckets.

    Args:
        inputs: the stages that are read.
        spill: a folder for what may not fit into memory.
    """

    def __init__(self, rules: Rules, vectors: Vectors, inputs: Mapping[str, Finished], spill: Path):
        self.rules, self.vectors, self.inputs, self.spill = rules, vectors, inputs, spill

    def choose(self, shards: Mapping[int, BucketFeatures]) -> list[Chosen]:
        """What is chosen in some buckets, near-duplicates removed among them all.

        Args:
            shards: number of the shard -> its bucket, in the order of time.

        Raises:
            DataError: if a class has too few candidates, and `shortfall` does not allow for it.
        """
        asked = dict.fromkeys(shards, self.rules.q)
        pools = {shard: self._pool(bucket, self.rules.q) for shard, bucket in shards.items()}
        while True:
            kept = self._without_duplicates(pools, shards)
            short = [shard for shard in shards if self.rules.shortfall == 'enlarge-q'
                     and asked[shard] < pools[shard].searched and self._lacking(kept[shard])]
            for shard in short:
                asked[shard] = min(2 * asked[shard], pools[shard].searched)
                pools[shard] = self._pool(shards[shard], asked[shard])
            if not short:
                break
        for shard, bucket in shards.items():
            self._refuse_short(bucket.name, kept[shard], asked[shard])
        return [self._chosen(shard, shards[shard], kept[shard]) for shard in shards]

    def _pool(self, bucket: BucketFeatures, q: int) -> _Pool:
        """Candidates, settled and filtered."""
        found, counts = self._candidates(bucket, q)
        positives = settle(found[0], self.rules.conflict)
        counts['candidates'] = len(positives)
        positives = positives.take(~self._vetoed(positives, bucket))
        counts['vetoed'] = counts['candidates'] - len(positives)
        # Always one class each, as negatives of all classes make one.
        negatives = settle(found[1], 'argmax') if self.rules.background else positives.take(slice(0, 0))
        before = len(positives) + len(negatives)
        positives, negatives = self._filtered(positives, bucket, False), self._filtered(negatives, bucket, True)
        counts['filtered'] = before - len(positives) - len(negatives)
        return _Pool(positives, negatives, counts['searched'], counts)

    def _candidates(self, bucket: BucketFeatures, q: int) -> tuple[list[Candidates], dict[str, int]]:
        """The most similar rows, and for a background the least similar; and counts of rows."""
        if self.rules.index is not None:
            return self.rules.index.candidates(bucket.banks, self.vectors.queries, q,
                                               (1, -1) if self.rules.background else (1,))
        found = top_scores(bucket.banks, np.concatenate(self.vectors.queries), q, self.rules.background,
                           groups=[len(part) for part in self.vectors.queries])
        sides = [candidates_of(found.highest)]
        if found.lowest is not None:
            sides.append(candidates_of(found.lowest, -1))
        return sides, dict(found.counts)

    def _vetoed(self, candidates: Candidates, bucket: BucketFeatures) -> np.ndarray:
        """(M,) whether a negative prompt of its class is nearer than the class."""
        gone = np.zeros(len(candidates), bool)
        for place, negatives in enumerate(self.vectors.negatives):
            own = np.flatnonzero(candidates.classes == place)
            if len(negatives) and len(own):
                nearest = row_scores(bucket.banks, candidates.rows[own], negatives).max(axis=0)
                gone[own] = nearest > candidates.scores[own]
        return gone

    def _filtered(self, candidates: Candidates, bucket: BucketFeatures, are_background: bool) -> Candidates:
        for each in self.rules.filters:
            if len(candidates) and (each.BACKGROUND or not are_background):
                about = AboutCandidates(bucket, candidates.ids, candidates.rows, self.inputs, self.vectors.texts)
                candidates = candidates.take(each.keep(candidates, about))
        return candidates

    def _without_duplicates(self, pools: Mapping[int, _Pool], shards: Mapping[int, BucketFeatures]
                            ) -> dict[int, _Pool]:
        if self.rules.near_duplicates is None:
            return dict(pools)
        buckets = list(shards.values())
        masks = [self.rules.near_duplicates.stays([getattr(pools[shard], side) for shard in shards], buckets,
                                                  self.inputs.get('images'), self.spill)
                 for side in ('positives', 'negatives')]
        found = {}
        for shard, positive, negative in zip(shards, *masks):
            pool = pools[shard]
            gone = int((~positive).sum() + (~negative).sum())
            found[shard] = _Pool(pool.positives.take(positive), pool.negatives.take(negative), pool.searched,
                                 pool.counts | dict(near_duplicates=gone))
        return found

    def _lacking(self, pool: _Pool) -> dict[str, int]:
        """Classes with fewer than k candidates, of either side."""
        found = shortfalls(pool.positives, self.rules.labels, self.rules.k)
        if self.rules.background:
            found |= {f'{label} (least similar)': count for label, count
                      in shortfalls(pool.negatives, self.rules.labels, self.rules.k).items()}
        return found

    def _refuse_short(self, bucket: str, pool: _Pool, q: int) -> None:
        lacking = self._lacking(pool)
        if self.rules.shortfall == 'keep-short' or not lacking:
            return
        named = ', '.join(f'{label} {count:,}' for label, count in list(lacking.items())[:_NAMED])
        more = '' if len(lacking) <= _NAMED else f' and {len(lacking) - _NAMED} more'
        if pool.searched == 0:
            raise DataError(f'bucket {bucket} has no image with features. Leave it out, or take what there is with '
                            "shortfall='keep-short'.")
        raise DataError(f'bucket {bucket}: fewer than k = {self.rules.k:,} candidates of {named}{more}, with q = {q:,} '
                        f"of {pool.searched:,} images. Lower k, raise q, or say shortfall='keep-short' or "
                        "'enlarge-q'.")

    def _chosen(self, shard: int, bucket: BucketFeatures, pool: _Pool) -> Chosen:
        positives = pool.positives.firsts(self.rules.k)
        background = background_of(pool.negatives, positives.ids, self.rules.k, self.rules.negative_ratio) \
            if self.rules.background else pool.negatives
        nearest = np.zeros(len(positives), np.int64)
        for place, queries in enumerate(self.vectors.queries):
            own = np.flatnonzero(positives.classes == place)
            if len(queries) > 1 and len(own):
                nearest[own] = row_scores(bucket.banks, positives.rows[own], queries).argmax(axis=0)
        return Chosen(shard, bucket.name, positives, background, nearest,
                      pool.counts | dict(selected=len(positives), background=len(background)))
