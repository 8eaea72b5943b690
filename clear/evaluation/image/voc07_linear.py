"""VOC 2007 classification by one linear layer on augmented images (protocol 'clsa')."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from clear.core.checks import check_number, check_text, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.core.seeding import derive_seed, seeded_draws
from clear.datasets.images.bad_samples import BadSamples
from clear.datasets.images.decode import UnreadableImage
from clear.datasets.readers.voc import VOC_CLASSES, read_voc, voc_targets
from clear.datasets.transforms import ImageTransform, build_transform
from clear.evaluation.image.rows import check_splits, shuffled
from clear.evaluation.image.voc07_svm import check_positives, file_names, voc_metrics
from clear.evaluation.metrics.average_precision import mean_average_precision, per_image_average_precision
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS

if TYPE_CHECKING:
    from PIL import Image

    from clear.datasets.table import ImageTable

# Of CLSA's VOC evaluation (Wang and Qi 2021, arXiv:2104.07713, published code).
VOC_MEAN = (0.4573, 0.4388, 0.4073)
VOC_STD = (0.2675, 0.2638, 0.2777)


@TASKS.register_module()
@dataclass(frozen=True)
class VOC07Linear:
    """Train `Linear(embed_dim, 20)` on train, choose the epoch on val, report it once on test.

    As in CLSA's published evaluation, but for four things: the backbone is in eval mode (there, statistics of
    BatchNorm drift while the layer is trained); `map` is the mean over classes of their average precision (there, over
    images; that number is `map_per_image`); a class that an image shows only in objects marked difficult is left out of
    loss and ranking (there, a negative); and an unreadable image is left out and counted.

    Args:
        data_root: the folder `VOC2007`, or one above it (see `find_voc`); labels and lists are read from there.
        lr, momentum, weight_decay, batch_size, epochs: of SGD; the loss is binary cross-entropy, summed over batch and
            classes.
        t_max: epochs from the highest learning rate to 0 and from there back, see `learning_rates`. That of the
            original; `t_max=epochs` is a single descent.
        image_size, resize: pixels. Training images are squeezed to `image_size` squared; of the others the shorter
            side becomes `resize`, and the central square (val) or five crops (test), whose logits are averaged, are
            taken.
        seed: of the first weights, the order and the augmentation.
        max_bad_fraction: share of a split that may be unreadable.
        num_workers: processes that read images.

    Raises:
        ConfigError: for values that cannot be.
    """

    needs: ClassVar[tuple[str, ...]] = ('images',)
    encodes_by_itself: ClassVar[bool] = True

    _: KW_ONLY
    data_root: str
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 16
    epochs: int = 100
    t_max: int = 12
    image_size: int = 300
    resize: int = 330
    seed: int = 2019
    max_bad_fraction: float = 0.01
    device: str = 'cpu'
    num_workers: int = 0

    def __post_init__(self):
        check_text('data_root', self.data_root)
        for name in ('batch_size', 'epochs', 't_max', 'image_size', 'resize'):
            check_whole(name, getattr(self, name), 1)
        if self.resize < self.image_size:
            raise ConfigError(f'resize is {self.resize}, smaller than the crops of {self.image_size} pixels.')
        check_number('lr', self.lr, above=0)

    def run(self, encoder: nn.Module, data: TaskData) -> TaskResult:
        """Train, select and test on the images 'train', 'val' (where left out: 'train' too) and 'test'.

        `dict(type='ImageFolder', root='.../VOC2007/JPEGImages')` serves as all of them: images are found by file name.
        Or each is `dict(type='VOC2007', root='.../VOC2007', split=...)`.

        Args:
            encoder: frozen, (B, 3, image_size, image_size) -> (B, embed_dim); is put into eval mode.

        Raises:
            DataError: if annotations are missing, a class has no positives, or too many images are not there or
                unreadable.
        """
        check_splits(data.images, required=('train', 'test'), what='images')
        lists = {name: read_voc(self.data_root, name) for name in ('train', 'val', 'test')}
        splits = {name: _Part.of(name, each, data.images.get(name, data.images['train']))
                  for name, each in lists.items()}
        for name, part in splits.items():
            check_positives(part.targets, name, 1)
        images = _Reader(encoder.eval().to(self.device), self.device, self.num_workers, self.batch_size,
                         BadSamples(None, {name: len(part) for name, part in splits.items()}, self.max_bad_fraction))
        val = images.encode(splits['val'], self._transform('val'))
        test = images.encode(splits['test'], self._transform('test'))
        head, history, best = self._train(images, splits['train'], val)
        # Logits are linear in the features, so those of a mean are the mean of logits: five crops are one row.
        scores = _scores(head, test[0])
        extras = voc_metrics(scores, test[1])
        extras['metrics']['map_per_image'] = per_image_average_precision(scores, test[1])
        extras.update(protocol='clsa', selected=dict(epoch=best), history=history, unreadable=images.bad.counts(),
                      n_train=len(splits['train']), n_val=len(val[1]), n_test=len(test[1]))
        return TaskResult('map', extras['metrics']['map'], True, extras)

    def _train(self, images: _Reader, part: _Part, val: tuple[Tensor, np.ndarray]
               ) -> tuple[nn.Linear, list[dict[str, float]], int]:
        """The layer after its best epoch, what each epoch gave, and the best one (from 1; the first of equals)."""
        head = self._new_head(val[0].shape[1]).to(images.device)
        optimizer = torch.optim.SGD(head.parameters(), self.lr, self.momentum, weight_decay=self.weight_decay)
        targets = torch.from_numpy(part.targets)
        transform, history, best, kept = self._transform('train'), [], 0, {}
        for epoch, lr in enumerate(learning_rates(self.epochs, self.lr, self.t_max)):
            optimizer.param_groups[0]['lr'] = lr
            order = shuffled(len(part), self.seed, 'order', epoch).tolist()
            losses = []
            for rows, features in images.features(part, transform, order, seed=self.seed, epoch=epoch):
                loss = summed_loss(head(features), targets[rows].to(images.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            scores = _scores(head, val[0])
            value = mean_average_precision(scores, val[1])[0]
            history.append(dict(lr=lr, loss=float(torch.stack(losses).sum()) / len(part), val_map=value,
                                val_map_per_image=per_image_average_precision(scores, val[1])))
            logger.info('epoch %d/%d  lr %.4f  loss %.3f  val map %.4f  per image %.4f', epoch + 1, self.epochs,
                        *history[-1].values())
            if not kept or value > history[best]['val_map']:
                best, kept = epoch, {key: item.clone() for key, item in head.state_dict().items()}
        head.load_state_dict(kept)
        return head, history, best + 1

    def _new_head(self, dim: int) -> nn.Linear:
        head = nn.Linear(dim, len(VOC_CLASSES))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, 'head'))
        nn.init.normal_(head.weight, std=0.01, generator=generator)
        nn.init.zeros_(head.bias)
        return head

    def _transform(self, split: str) -> ImageTransform:
        size = self.image_size
        steps = {'train': [dict(type='Resize', size=(size, size)),
                           dict(type='RandomChoice', transforms=[dict(type='ColorJitter', brightness=0.2),
                                                                 dict(type='RandomGrayscale', p=0.25)]),
                           dict(type='RandomHorizontalFlip', p=0.25), dict(type='RandomRotation', degrees=25)],
                 'val': [dict(type='Resize', size=self.resize), dict(type='CenterCrop', size=size)],
                 'test': [dict(type='Resize', size=self.resize), dict(type='FiveCrop', size=size)]}[split]
        return build_transform([*steps, dict(type='ToTensor'), dict(type='Normalize', mean=VOC_MEAN, std=VOC_STD)])


def learning_rates(epochs: int, lr: float = 0.05, t_max: int = 12) -> list[float]:
    """The rate of each epoch: torch's `CosineAnnealingLR(T_max=t_max)`, stepped at the start of each epoch.

    It falls to 0 in epoch `t_max`, rises again, and so on with a period of 2 `t_max`, as in the published evaluation.
    """
    return [lr * (1 + math.cos(math.pi * (epoch + 1) / t_max)) / 2 for epoch in range(epochs)]


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy summed over batch and classes, both (B, C); targets of -1 take no part."""
    return functional.binary_cross_entropy_with_logits(logits, targets.clamp(min=0).to(logits.dtype),
                                                       weight=(targets >= 0).to(logits.dtype), reduction='sum')


@dataclass(frozen=True)
class _Part:
    """A list of VOC 2007.

    Args:
        name: of the list.
        targets: (N, 20), see `voc_targets`.
        rows: of its images in the source; -1 for one that is not there.
    """

    name: str
    ids: list[str]
    targets: np.ndarray
    source: ImageTable
    rows: list[int]

    @classmethod
    def of(cls, name: str, images: ImageTable, source: ImageTable) -> _Part:
        row_of = {path: row for row, path in enumerate(file_names(source))}
        return cls(name, images.texts('id'), voc_targets(images), source,
                   [row_of.get(path, -1) for path in file_names(images)])

    def __len__(self) -> int:
        return len(self.ids)

    def open(self, index: int) -> Image.Image:
        if self.rows[index] < 0:
            raise UnreadableImage(f'{self.source.root} has no such image')
        return self.source.open_image(self.rows[index])


class _Images(Dataset):
    """`dataset[i]` is (i, views (V, 3, H, W), ''), or (i, None, the reason) for an image that cannot be read."""

    def __init__(self, part: _Part, transform: ImageTransform, seed: int, epoch: int):
        self.part, self.transform, self.seed, self.epoch = part, transform, seed, epoch

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str]:
        try:
            image = self.part.open(index)
        except UnreadableImage as error:
            return index, None, str(error)
        with seeded_draws(derive_seed('augment', self.seed, 0, self.epoch, self.part.ids[index])):
            views = self.transform(image)
        return index, torch.stack(views) if isinstance(views, (tuple, list)) else views[None], ''


@dataclass
class _Reader:
    """Reads images and encodes them; unreadable ones are reported and left out."""

    encoder: nn.Module
    device: str | torch.device
    num_workers: int
    batch_size: int
    bad: BadSamples

    def encode(self, part: _Part, transform: ImageTransform) -> tuple[Tensor, np.ndarray]:
        """Features (M, D) of the readable images of a split, mean over views, and their targets (M, 20)."""
        found = list(self.features(part, transform, range(len(part))))
        if not found:
            raise DataError(f"{part.source.root}: no image of '{part.name}' can be read.")
        rows = torch.cat([rows for rows, _ in found]).numpy()
        check_positives(part.targets[rows], part.name, 1)
        return torch.cat([features for _, features in found]), part.targets[rows]

    def features(self, part: _Part, transform: ImageTransform, order: Sequence[int], seed: int = 0,
                 epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows (B,) and features (B, D), batch by batch in the given order."""
        loader = DataLoader(_Images(part, transform, seed, epoch), self.batch_size, sampler=order,
                            num_workers=self.num_workers, collate_fn=list)
        for batch in loader:
            for index, views, reason in batch:
                if views is None:
                    self.bad.report(part.name, 'VOC2007', part.ids[index], reason)
            good = [(index, views) for index, views, _ in batch if views is not None]
            if good:
                images = torch.stack([views for _, views in good]).to(self.device)  # (B, V, 3, H, W)
                with torch.no_grad():
                    features = self.encoder(images.flatten(0, 1))
                yield torch.tensor([index for index, _ in good]), features.unflatten(0, images.shape[:2]).mean(1)


@torch.no_grad()
def _scores(head: nn.Linear, features: Tensor) -> np.ndarray:
    """(N, C) logits, float64."""
    return head(features).double().cpu().numpy()
