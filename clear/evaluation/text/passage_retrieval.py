"""Passage retrieval: find the passage that answers a query, among millions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.errors import ConfigError
from clear.core.logs import progress_bar
from clear.evaluation.metrics.ranking import (
    CUTS,
    RelevantRanks,
    average_precision_at,
    mean_reciprocal_rank,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.evaluation.text.files import files_fingerprint
from clear.evaluation.text.passage_files import check_collection, chosen_passages, read_queries
from clear.evaluation.text.passage_search import KINDS, PassageRanks
from clear.registry import TASKS

MODES = ('cosine', 'dot', 'max')


@TASKS.register_module()
class PassageRetrieval:
    """Rank all passages of a collection for each query (MS MARCO, Nguyen et al. 2016, arXiv:1611.09268).

    The metrics, by cosine and by dot product, are means over queries: `accuracy@k` (1 if a relevant passage is among
    the first k), `recall@k` (share of the relevant ones), `precision@k`, `MRR@10`, `NDCG@10` (all relevant passages
    count alike) and `MAP@100`. A relevant passage stands behind all others of equal score, copies of it among them.
    Queries without a relevant passage are left out and counted. The value is `cosine_MAP@100`.

    The collection is read from its file chunk by chunk, and the best scores of each query go along: memory does not
    grow with it.

    Args:
        root: folder of the three files.
        collection, queries, qrels: their names: lines of id, tab, passage; id, tab, query; query, 0, passage, grade.
        corpus_max_size: take all judged passages, and others in the order of the file until there are so many; 0 takes
            all. The fewer, the easier.
        accuracy_at, precision_recall_at: at which ranks.
        definition: what `MAP@100` divides by, see `average_precision_at`.
        mode: 'cosine', 'dot', or 'max' for the higher of both as the value, `max_MAP@100` (ITRA).
        chunk_size: passages that are encoded and compared at once.
        cache: folder that keeps the embeddings of each chunk as a bank, so that a run that was stopped goes on behind
            the last whole one; None keeps none.

    Raises:
        ConfigError: for a rank below 1 or an unknown choice.
    """

    needs: ClassVar = ('text_encoder',)

    def __init__(self, *, root: str, collection: str = 'collection.tsv', queries: str = 'queries.dev.small.tsv',
                 qrels: str = 'qrels.dev.tsv', corpus_max_size: int = 0, accuracy_at: Sequence[int] = (1, 3, 5, 10),
                 precision_recall_at: Sequence[int] = (10, 100), definition: str = 'min', mode: str = 'cosine',
                 chunk_size: int = 50_000, cache: str | None = None):
        self.root = Path(check_text('root', root))
        self.collection, self.queries, self.qrels = (self.root / check_text(key, name) for key, name in (
            ('collection', collection), ('queries', queries), ('qrels', qrels)))
        self.corpus_max_size = check_whole('corpus_max_size', corpus_max_size, 0)
        self.accuracy_at = _ranks('accuracy_at', accuracy_at)
        self.precision_recall_at = _ranks('precision_recall_at', precision_recall_at)
        self.definition = check_choice('definition', definition, CUTS)
        self.mode = check_choice('mode', mode, MODES)
        self.chunk_size = check_whole('chunk_size', chunk_size, 1)
        self.cache = None if cache is None else Path(check_text('cache', cache))

    def files_fingerprint(self) -> str:
        """Of the three files."""
        return files_fingerprint([self.collection, self.queries, self.qrels])

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Encode queries and passages, and rank.

        Raises:
            ConfigError: for an encoder without text, or, with `cache`, one without a fingerprint.
            DataError: for files that are missing, of another layout or do not fit together, or embeddings that are not
                finite.
        """
        read = TextReader(encoder, type(self).__name__)
        store = None if self.cache is None else _ChunkStore(self.cache, encoder)
        judged = read_queries(self.queries, self.qrels)
        count = check_collection(self.collection, judged.judged)
        if self.corpus_max_size:
            count = min(count, max(self.corpus_max_size, len(judged.judged)))
        owners: dict[str, list[int]] = {}
        for row, query in enumerate(judged.texts):
            for passage in judged.relevant[query]:
                owners.setdefault(passage, []).append(row)
        ranks = PassageRanks(read([*judged.texts.values()]), self._deepest)
        with progress_bar('passages', 'passages') as report:
            for chunk in chosen_passages(self.collection, judged.judged, self.corpus_max_size, self.chunk_size):
                texts = [text for _, text in chunk]
                pairs = torch.tensor([(query, row) for row, (passage, _) in enumerate(chunk)
                                      for query in owners.get(passage, ())]).reshape(-1, 2)
                ranks.add(read(texts) if store is None else store.embedded(texts, read), *pairs.T)
                report(ranks.num_passages, count)
        metrics = {f'{kind}_{name}': value for kind, found in ranks.ranks().items()
                   for name, value in self.measure(found).items()}
        value = max(metrics[f'{kind}_MAP@100'] for kind in KINDS if self.mode in (kind, 'max'))
        if self.mode == 'max':
            metrics['max_MAP@100'] = value
        extras = dict(metrics=metrics, n_test=len(judged.texts), n_passages=ranks.num_passages,
                      n_judged=len(judged.judged), queries_without_relevant=judged.without,
                      judged_queries_not_listed=judged.unknown, **read.extras())
        return TaskResult(f'{self.mode}_MAP@100', value, True, extras)

    def measure(self, ranks: RelevantRanks) -> dict[str, float]:
        """The metrics of ranks that are exact up to the deepest rank asked for."""
        found = {f'accuracy@{k}': recall_at_k(ranks, k) for k in self.accuracy_at}
        for k in self.precision_recall_at:
            found[f'precision@{k}'] = precision_at_k(ranks, k)
            found[f'recall@{k}'] = recall_at_k(ranks, k, definition='share')
        found['MRR@10'] = mean_reciprocal_rank(ranks, 10)
        found['NDCG@10'] = ndcg_at_k(ranks, 10)
        found['MAP@100'] = average_precision_at(ranks, 100, definition=self.definition)
        return {name: values.mean().item() for name, values in found.items()}

    @property
    def _deepest(self) -> int:
        return max(100, *self.accuracy_at, *self.precision_recall_at)


class _ChunkStore:
    """Banks of the embeddings of chunks, named by encoder and texts."""

    def __init__(self, folder: Path, encoder: nn.Module):
        if not callable(getattr(encoder, 'fingerprint', None)):
            raise ConfigError(f'cache keeps embeddings by the fingerprint of their encoder; a {type(encoder).__name__} '
                              'has none. Leave cache out.')
        self._folder, self._encoder = folder, encoder.fingerprint()

    def embedded(self, texts: list[str], read: TextReader) -> Tensor:
        """(N, D) of the texts, from their bank if it is there."""
        from clear.features import FeatureBank, write_bank

        digest = hashlib.sha256(json.dumps([self._encoder, texts]).encode()).hexdigest()
        place = self._folder / f'passages_{digest[:16]}'
        if place.is_dir():
            bank = FeatureBank.open(place)
            read.num_texts += bank.meta['n_texts']
            read.num_truncated += bank.meta['n_truncated']
            return bank.tensors()[0]
        before = read.num_texts, read.num_truncated
        vectors = read(texts)
        write_bank(place, vectors, [-1] * len(texts), class_names=[], encoder=f'sha256:{digest}', notes=dict(
            n_texts=read.num_texts - before[0], n_truncated=read.num_truncated - before[1]))
        return vectors


def _ranks(where: str, values: Sequence[int]) -> list[int]:
    if not isinstance(values, (list, tuple)) or not values:
        raise ConfigError(f'{where} is {values!r}; expected a list such as [1, 10].')
    return [check_whole(where, value, 1) for value in values]
