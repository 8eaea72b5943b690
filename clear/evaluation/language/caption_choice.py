"""Choose the caption that describes an image among captions that nearly do."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.errors import DataError
from clear.core.logs import logger
from clear.datasets.columns import plain_texts
from clear.evaluation.image.rows import check_features, check_splits
from clear.evaluation.language.prompts import check_width
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.registry import TASKS

_ROWS_PER_CHUNK = 4096


@TASKS.register_module()
class CaptionChoice:
    """Of the captions of an image the first is right; an image counts if it is strictly the most similar one.

    Of images with a column `example`, two each with the captions of both (Winoground, Thrush et al. 2022,
    arXiv:2204.03162), the metrics are `text_score` (both images choose their caption), `image_score` (both captions
    choose their image) and `group_score` (both), which is the value. Of others (SugarCrepe, Hsieh et al. 2023,
    arXiv:2306.14610) they are `accuracy`, the value; with a column `subset` also that of each, `accuracy_<subset>`, and
    `accuracy_mean`, over the subsets. All are shares of 1.

    Equal similarities are wrong, and a similarity depends on no other image or text, so that captions of the same
    embedding are equal. CLIP_benchmark instead gives equal ones to the first, which is the right one of every
    SugarCrepe item: a tower that is blind to the difference has 1.0 there, and 0.0 here.

    Raises:
        DataError: see `run`.

    Example:
        >>> captions = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
        >>> CaptionChoice.scores(torch.tensor([[1.0, 0.1], [0.6, 0.5]]), captions).round(decimals=2).tolist()
        [[1.0, 0.1], [0.64, 0.77]]
    """

    needs: ClassVar = ('bank', 'images', 'text', 'text_encoder')
    splits: ClassVar = ('test',)

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Measure the images and captions of 'test'. Unreadable images, and with them their examples, are left out
        and counted.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for images that do not have as many captions each, at least two; examples that are not of two
                images with each other's captions; no readable image; embeddings that are not finite or of two widths.
        """
        check_splits(data.bank, required=('test',))
        encode = TextReader(encoder, type(self).__name__)
        bank, images = data.bank['test'], data.images['test']
        rows = torch.as_tensor(bank.subset_rows())
        captions = [[*own] for own in data.text['test']]
        if len(captions) != len(images):
            raise DataError(f'{len(captions)} lists of captions for {len(images)} images; choices are of all images of '
                            'the data, not of one bucket.')
        _check_counts(captions)
        examples = images['example'].to_numpy() if 'example' in images else None
        kept = rows
        if examples is not None:
            of_row = torch.tensor(examples)
            _check_examples(of_row, captions)
            whole = torch.bincount(of_row[rows], minlength=int(of_row.max()) + 1) == 2
            kept = rows[whole[of_row[rows]]]
            kept = kept[of_row[kept].argsort(stable=True)]
        if len(kept) < len(images):
            logger.warning('%d of %d images are left out: they, or the other one of their example, cannot be read.',
                           len(images) - len(kept), len(images))
        if not len(kept):
            raise DataError("No image of 'test' can be read.")
        features = bank.tensors(kept.numpy())[0]
        check_features(features, 'test')
        texts = list(dict.fromkeys(text for row in kept.tolist() for text in captions[row]))
        embedded = encode(texts).to(features.device)
        check_width(embedded, features)
        place = {text: number for number, text in enumerate(texts)}
        index = torch.tensor([[place[text] for text in captions[row]] for row in kept.tolist()])
        scores = torch.cat([self.scores(part, embedded[of_part]) for part, of_part in
                            zip(features.split(_ROWS_PER_CHUNK), index.split(_ROWS_PER_CHUNK))])
        if examples is not None:
            # Captions of the second image stand the other way round.
            metrics = self.pair_metrics(torch.stack([scores[::2], scores[1::2].flip(1)], 1))
            value = 'group_score'
        else:
            subsets = plain_texts(images['subset'].take(kept.tolist())) if 'subset' in images else None
            metrics, value = self.metrics(scores, subsets), 'accuracy'
        return TaskResult(value, metrics[value], True, dict(
            metrics=metrics, n_test=len(kept), n_captions=len(texts), n_left_out=len(images) - len(kept),
            **encode.extras()))

    @staticmethod
    def scores(images: Tensor, captions: Tensor) -> Tensor:
        """(N, K) float64 cosines of images (N, D) with their K captions (N, K, D)."""
        images, captions = (functional.normalize(each.double(), dim=-1) for each in (images, captions))
        return (images[:, None] * captions).sum(-1)

    @staticmethod
    def metrics(scores: Tensor, subsets: list[str] | None = None) -> dict[str, float]:
        """Accuracies of scores (N, K) whose first column is right; `subsets` names that of each row."""
        hits = (scores[:, :1] > scores[:, 1:]).all(1).double()
        metrics = dict(accuracy=hits.mean().item())
        if subsets is not None:
            rows: dict[str, list[int]] = {}
            for row, name in enumerate(subsets):
                rows.setdefault(name, []).append(row)
            each = {f'accuracy_{name}': hits[rows[name]].mean().item() for name in sorted(rows)}
            metrics |= {**each, 'accuracy_mean': sum(each.values()) / len(each)}
        return metrics

    @staticmethod
    def pair_metrics(scores: Tensor) -> dict[str, float]:
        """Of examples (E, 2 images, 2 captions), each image's caption at its own place."""
        own = scores.diagonal(dim1=1, dim2=2)  # (E, 2)
        wrong = torch.stack([scores[:, 0, 1], scores[:, 1, 0]], 1)  # (E, 2): of image 0 and of image 1
        text, image = (own > wrong).all(1), (own > wrong.flip(1)).all(1)
        return {name: hits.double().mean().item() for name, hits in
                (('text_score', text), ('image_score', image), ('group_score', text & image))}


def _check_counts(captions: list[list[str]]) -> None:
    for row, own in enumerate(captions):
        if len(own) < 2 or len(own) != len(captions[0]):
            raise DataError(f"Image {row} of 'test' has {len(own)} captions, the first one {len(captions[0])}; "
                            'expected the right one and wrong ones, of every image as many.')


def _check_examples(examples: Tensor, captions: list[list[str]]) -> None:
    rows: dict[int, list[int]] = {}
    for row, example in enumerate(examples.tolist()):
        rows.setdefault(example, []).append(row)
    for example, own in rows.items():
        if len(own) != 2 or captions[own[0]] != captions[own[1]][::-1]:
            raise DataError(f'Example {example} has {len(own)} images; expected two, each with its caption and that of '
                            'the other.')
