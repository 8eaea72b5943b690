"""Find the captions of an image among all captions, and the image of a caption among all images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.errors import ConfigError, DataError
from clear.evaluation.image.rows import check_features, check_splits
from clear.evaluation.language.prompts import check_encodes_text, check_width
from clear.evaluation.metrics.retrieval import first_hits, recall_at
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class ImageTextRetrieval:
    """Recall at k, both ways. An image's query is a hit if at least one of its captions is among the first k of all.

    The metrics are `image2text_R@k` and `text2image_R@k`, and `mean_recall` over all of them, which is the value.
    Equal similarities are in the order of the data.

    Args:
        ks: at which places recall is read; one above the number of candidates is 1.
        device: where similarities are computed.

    Raises:
        ConfigError: for a k below 1.

    Example:
        >>> images, texts = torch.eye(3), torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0]])
        >>> metrics = ImageTextRetrieval(ks=[1]).measure(images, texts, torch.tensor([0, 1, 2, 2]))
        >>> metrics['image2text_R@1'], metrics['text2image_R@1']
        (0.3333333333333333, 0.5)
    """

    needs: ClassVar = ('bank', 'text', 'text_encoder')
    splits: ClassVar = ('test',)

    def __init__(self, *, ks: Sequence[int] = (1, 5, 10), device: str = 'cpu'):
        if not isinstance(ks, (list, tuple)) or not ks:
            raise ConfigError(f'ks is {ks!r}; expected a list such as [1, 5, 10].')
        self.ks = [check_whole('ks', k, 1) for k in ks]
        self.device = device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Measure the images and captions of 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for images without captions, or embeddings of two widths.
        """
        check_splits(data.bank, required=('test',))
        encode = check_encodes_text(encoder, type(self).__name__)
        bank = data.bank['test']
        rows = bank.subset_rows()
        features = bank.tensors(rows)[0]
        check_features(features, 'test')
        captions = data.text['test']
        texts, owners = [], []
        for place, row in enumerate(rows.tolist()):
            own = [captions[row]] if isinstance(captions[row], str) else list(captions[row] or ())
            if not own:
                raise DataError(f"Image {row} of 'test' has no caption, so it cannot be found by one.")
            texts += own
            owners += [place] * len(own)
        embedded = encode(texts).to(self.device)
        check_width(embedded, features)
        metrics = self.measure(features.to(self.device), embedded, torch.tensor(owners, device=self.device))
        return TaskResult('mean_recall', metrics['mean_recall'], True,
                          dict(metrics=metrics, n_test=len(features), n_captions=len(texts)))

    def measure(self, images: Tensor, texts: Tensor, owners: Tensor) -> dict[str, float]:
        """The metrics of images (N, D) and texts (T, D); `owners` (T,) is the row of the image of each text."""
        places = torch.arange(len(images), device=images.device)
        found = {'image2text': recall_at(first_hits(images, texts, places, owners), self.ks),
                 'text2image': recall_at(first_hits(texts, images, owners, places), self.ks)}
        metrics = {f'{way}_R@{k}': value for way, recalls in found.items() for k, value in recalls.items()}
        return {**metrics, 'mean_recall': sum(metrics.values()) / len(metrics)}
