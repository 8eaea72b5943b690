"""One number that tells trained weights from random ones: nearest-class-mean accuracy on a few hundred images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.errors import DataError
from clear.core.logs import logger
from clear.datasets.images.decode import UnreadableImage, decode_image
from clear.models.towers.image.preprocess import Preprocess


@torch.no_grad()
def sanity_ncm(encoder: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 32) -> float:
    """Share of images whose nearest class mean, computed without the image itself, is that of their own class.

    Embeddings are scaled to unit norm first. An image that is alone in its class has no mean to be near to and is
    left out.

    Shape:
        images: (N, 3, H, W)   labels: (N,) integers   returns: 0 ... 1

    Raises:
        DataError: if fewer than two classes have two images.
    """
    classes, own = labels.unique(return_inverse=True)
    counts = torch.bincount(own)
    if (counts >= 2).sum() < 2:
        raise DataError(f'{len(images)} images of {len(classes)} classes: at least two classes need two images each.')
    features = torch.cat([encoder(batch) for batch in images.split(batch_size)]).double().cpu()
    features = functional.normalize(features)
    sums = torch.zeros(len(classes), features.shape[1], dtype=features.dtype).index_add_(0, own, features)
    distances = torch.cdist(features, sums / counts[:, None])
    rows = torch.arange(len(own))
    # Its own mean without itself.
    others = (sums[own] - features) / (counts[own] - 1).clamp(min=1)[:, None]
    distances[rows, own] = (features - others).norm(dim=1)
    scored = counts[own] >= 2
    return (distances.argmin(1) == own)[scored].double().mean().item()


def read_labelled_images(folder: str | Path, preprocess: Preprocess,
                         max_images: int = 400) -> tuple[Tensor, Tensor, list[str]]:
    """Images of `folder/<class>/<file>`, as many of each class, in the order of their names; bad ones are left out.

    A class needs two; of more classes than `max_images` then allows the first are taken.

    Returns:
        images (N, 3, H, W), labels (N,), class names.

    Raises:
        DataError: if the folder has no classes with images.
    """
    if not Path(folder).is_dir():
        raise DataError(f'{folder} is no folder; expected FOLDER/<class>/<image>.')
    classes = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    classes = classes[:max(2, max_images // 2)]
    per_class = max(2, max_images // max(1, len(classes)))
    transform, images, labels = preprocess.build(), [], []
    for label, path in enumerate(classes):
        files = sorted(file for file in path.iterdir() if file.is_file())
        for file in files[:per_class]:
            try:
                images.append(transform(decode_image(file)))
                labels.append(label)
            except UnreadableImage as error:
                logger.warning('%s is left out: %s', file, error)
    if not images:
        raise DataError(f'{folder} has no readable images; expected FOLDER/<class>/<image>.')
    return torch.stack(images), torch.tensor(labels), [path.name for path in classes]
