"""Find the captions of an image among all captions, and the image of a caption among all images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_bytes
from clear.core.logs import logger
from clear.evaluation.image.rows import check_features, check_splits
from clear.evaluation.language.positives import Positives, caption_ids, image_ids
from clear.evaluation.language.prompts import check_width
from clear.evaluation.metrics.ranking import (
    RECALLS,
    TIES,
    RelevantRanks,
    map_at_r,
    median_rank,
    r_precision,
    recall_at_k,
)
from clear.evaluation.metrics.retrieval import first_ranks, pair_ranks
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.registry import TASKS

if TYPE_CHECKING:
    from clear.datasets import ImageTable

WAYS = ('image2text', 'text2image')
_CURVE = (1, 2, 3, 5, 10, 20, 50, 100)
_SHOWN = 4


@TASKS.register_module()
class ImageTextRetrieval:
    """Recall at k, both ways: of the captions of an image among all captions, of the image of a caption among all.

    The metrics are `image2text_R@k`, `text2image_R@k` and `mean_recall` over all of them, which is the value; 1 is
    perfect. `median_rank` of both ways stands beside them, the lower the better. Images that cannot be read are left
    out with their captions, and counted.

    Args:
        ks: at which places recall is read.
        definition: of recall: 'any' is a hit if at least one caption of the image is among the first k, as papers on
            retrieval have it; 'share' is the share of its captions that is (see `recall_at_k`).
        ties: 'worst' or 'expected', see `metrics.ranking`.
        folds: the images are also cut into so many parts of their order, and the means over the parts are
            `fold_image2text_R@k` and so on: 5 for COCO-1K, of the images of COCO-5K in its order.
        positives: name -> file of captions and images that fit each other beyond those that belong together (see
            `language.positives`), as of ECCV Caption or CxC. For each there are `NAME_image2text_R@k`, `..._mAP@R`,
            `..._R-Precision`, over the queries that the file has, and the same for text2image.
        device: where similarities are computed.

    Raises:
        ConfigError: for a k below 1, an unknown definition or rule, or fewer than two folds.

    Example:
        >>> images, texts = torch.eye(3), torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0]])
        >>> metrics = ImageTextRetrieval(ks=[1]).measure(images, texts, torch.tensor([0, 1, 2, 2]))
        >>> metrics['image2text_R@1'], metrics['text2image_R@1']
        (0.3333333333333333, 0.5)
    """

    needs: tuple[str, ...] = ('bank', 'text', 'text_encoder')
    splits: ClassVar = ('test',)

    def __init__(self, *, ks: Sequence[int] = (1, 5, 10), definition: str = 'any', ties: str = 'worst',
                 folds: int | None = None, positives: Mapping[str, str] | None = None, device: str = 'cpu'):
        if not isinstance(ks, (list, tuple)) or not ks:
            raise ConfigError(f'ks is {ks!r}; expected a list such as [1, 5, 10].')
        self.ks = [check_whole('ks', k, 1) for k in ks]
        self.definition = check_choice('definition', definition, RECALLS)
        self.ties = check_choice('ties', ties, TIES)
        self.folds = folds if folds is None else check_whole('folds', folds, 2)
        if positives is not None and not isinstance(positives, Mapping):
            raise ConfigError(f"positives is {positives!r}; expected dict(eccv='eccv_caption.json').")
        self.files = {name: check_text(f'positives.{name}', path) for name, path in (positives or {}).items()}
        if self.files:
            self.needs = ('bank', 'images', 'text', 'text_encoder')
        self.device = device

    def files_fingerprint(self) -> str:
        """A digest of the files of positives.

        Raises:
            DataError: for one that is missing.
        """
        digest = hashlib.sha256()
        for name, path in sorted(self.files.items()):
            digest.update(name.encode() + hashlib.sha256(read_bytes(Path(path))).digest())
        return digest.hexdigest()

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Measure the images and captions of 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for images without captions, a k above their number, embeddings of two widths or that are not
                finite, or a file of positives that is missing, damaged or of other images.
        """
        check_splits(data.bank, required=('test',))
        encode = TextReader(encoder, type(self).__name__)
        bank, captions = data.bank['test'], data.text['test']
        pool = _Pool.of(bank.subset_rows().tolist(), captions)
        features = bank.tensors(pool.rows)[0]
        check_features(features, 'test')
        embedded = encode(pool.texts)  # each text once, so that equal captions tie to the bit
        check_width(embedded, features)
        features, embedded = features.to(self.device), embedded.to(self.device, features.dtype)
        owners = torch.tensor(pool.owners, device=self.device)
        ranks = self._ranks(features, embedded, owners)
        metrics = {**self._recalls(ranks), **self._of_folds(features, embedded, owners)}
        extras: dict[str, object] = dict(
            metrics=metrics, n_test=len(features), n_captions=len(pool.texts),
            median_rank={way: median_rank(each) for way, each in ranks.items()}, **encode.extras())
        if pool.unreadable:
            logger.warning('%d of %d images cannot be read and are left out with their captions.', pool.unreadable,
                           len(captions))
            extras['unreadable'] = pool.unreadable
        for name, path in self.files.items():
            found, left_out = self._with(Positives.read(path), features, embedded, pool, data.images['test'])
            metrics |= {f'{name}_{key}': value for key, value in found.items()}
            extras.update({f'{name}_left_out': left_out} if left_out else {})
        extras['figure_data'] = _figures(ranks, pool)
        return TaskResult('mean_recall', metrics['mean_recall'], True, extras)

    def measure(self, images: Tensor, texts: Tensor, owners: Tensor) -> dict[str, float]:
        """The metrics of images (N, D) and texts (T, D); `owners` (T,) is the row of the image of each text.

        Raises:
            DataError: for a k above the number of images or texts, or fewer images than folds.
            ValueError: see `first_ranks`.
        """
        return {**self._recalls(self._ranks(images, texts, owners)), **self._of_folds(images, texts, owners)}

    def _ranks(self, images: Tensor, texts: Tensor, owners: Tensor) -> dict[str, RelevantRanks]:
        for k in self.ks:
            if k > min(len(images), len(texts)):
                raise DataError(f'R@{k} is among the first {k}, but there are only {len(images)} images and '
                                f'{len(texts)} captions. Lower ks.')
        if self.definition == 'any' and self.ties == 'worst':
            return {way: RelevantRanks(each.cpu()[:, None]) for way, each in zip(
                WAYS, first_ranks(images, texts, owners))}
        places = torch.arange(len(texts), device=texts.device)
        return dict(image2text=pair_ranks(images, texts, owners, places),
                    text2image=pair_ranks(texts, images, places, owners))

    def _recalls(self, ranks: Mapping[str, RelevantRanks]) -> dict[str, float]:
        metrics = {f'{way}_R@{k}': recall_at_k(each, k, definition=self.definition, ties=self.ties).mean().item()
                   for way, each in ranks.items() for k in self.ks}
        return {**metrics, 'mean_recall': sum(metrics.values()) / len(metrics)}

    def _of_folds(self, images: Tensor, texts: Tensor, owners: Tensor) -> dict[str, float]:
        if self.folds is None:
            return {}
        if len(images) < self.folds:
            raise DataError(f'{len(images)} images cannot be cut into {self.folds} folds.')
        edges = [round(place * len(images) / self.folds) for place in range(self.folds + 1)]
        each = []
        for begin, end in zip(edges, edges[1:]):
            inside = (owners >= begin) & (owners < end)
            each.append(self._recalls(self._ranks(images[begin:end], texts[inside], owners[inside] - begin)))
        return {f'fold_{name}': sum(found[name] for found in each) / len(each) for name in each[0]}

    def _with(self, positives: Positives, images: Tensor, texts: Tensor, pool: _Pool, table: ImageTable
              ) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
        """Metrics with more positives, and what is left out of each way."""
        rows = dict(zip(WAYS, pool.places_by_id(table)))
        embedded = dict(image2text=images, text2image=texts)
        metrics, left_out = {}, {}
        for way, other in (WAYS, WAYS[::-1]):
            if way not in positives.ways:
                continue
            pairs = positives.pairs(way, rows[way], rows[other])
            ranks = pair_ranks(embedded[way][pairs.queries.to(images.device)], embedded[other],
                               pairs.pair_queries.to(images.device), pairs.pair_candidates.to(images.device))
            ranks = ranks.with_missing(pairs.missing, len(embedded[other]))
            for k in self.ks:
                found = recall_at_k(ranks, k, definition=self.definition, ties=self.ties)
                metrics[f'{way}_R@{k}'] = found.mean().item()
            metrics[f'{way}_mAP@R'] = map_at_r(ranks, ties=self.ties).mean().item()
            metrics[f'{way}_R-Precision'] = r_precision(ranks, ties=self.ties).mean().item()
            counts = {**pairs.left_out, 'missing': int(pairs.missing.sum())}
            if any(counts.values()):
                left_out[way] = counts
        return metrics, left_out


@dataclass(frozen=True)
class _Pool:
    """The readable images and their captions.

    Args:
        rows: of the images in the table; owners: place in `rows` of the image of each text.
        unreadable: how many images were left out.
    """

    rows: list[int]
    texts: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    unreadable: int = 0

    @classmethod
    def of(cls, rows: list[int], captions: Sequence[str | Sequence[str] | None]) -> _Pool:
        pool = cls(rows, unreadable=len(captions) - len(rows))
        for place, row in enumerate(rows):
            own = [captions[row]] if isinstance(captions[row], str) else list(captions[row] or ())
            if not own:
                raise DataError(f"Image {row} of 'test' has no caption, so it cannot be found by one.")
            pool.texts.extend(own)
            pool.owners.extend([place] * len(own))
        return pool

    def places_by_id(self, table: ImageTable) -> tuple[dict[str, int], dict[str, int]]:
        """Ids of images and of captions -> their places here, -1 for those that cannot be read."""
        ids, place_of, images, texts = image_ids(table), {row: place for place, row in enumerate(self.rows)}, {}, {}
        number = 0
        for row, image_id in enumerate(ids):
            images[image_id] = place_of.get(row, -1)
            for each in caption_ids(table, row, image_id):
                texts[each] = number if row in place_of else -1
                number += row in place_of
        return images, texts


def _figures(ranks: Mapping[str, RelevantRanks], pool: _Pool) -> dict[str, dict[str, object]]:
    """Recall curves, and the images whose first caption stands best and worst."""
    ks = [k for k in _CURVE if k <= len(pool.rows)]
    lines = {way: [recall_at_k(each, k).mean().item() for k in ks] for way, each in ranks.items()}
    first = ranks['image2text'].worst[:, 0]
    order = first.argsort(stable=True).tolist()
    captions: dict[int, str] = {}
    for text, owner in zip(pool.texts, pool.owners):
        captions.setdefault(owner, text)
    sheet = [dict(title=title, images=[pool.rows[place] for place in places],
                  captions=[f'{first[place]:.0f}: {captions[place]}' for place in places])
             for title, places in (('best', order[:_SHOWN]), ('worst', order[::-1][:_SHOWN]))]
    return {'recall': dict(kind='curve', x=ks, lines=lines, xlabel='k', ylabel='recall'),
            'rank of the first caption': dict(kind='sheet', rows=sheet)}
