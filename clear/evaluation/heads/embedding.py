"""Heads on embeddings: of one image, or of several that belong together."""

from __future__ import annotations

from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.registry import MODELS


@MODELS.register_module()
class LinearHead(nn.Module):
    """One linear layer.

    Shape:
        embeddings: (N, embed_dim)   returns: (N, num_classes)
    """

    def __init__(self, embed_dim: int, num_classes: int):
        super().__init__()
        self.head = nn.Linear(check_whole('embed_dim', embed_dim, 1), check_whole('num_classes', num_classes, 1))

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.head(embeddings.float())


@MODELS.register_module()
class MultiEmbeddingHead(nn.Module):
    """One hidden layer on the embeddings of several images, such as frames, side by side (Kotar et al. 2021,
    arXiv:2103.14005, and its code).

    Args:
        num_images: how many.
        hidden: width of the layer.

    Shape:
        embeddings: (N, num_images, embed_dim)   returns: (N, num_classes)

    Raises:
        ValueError: for another number of images.
    """

    def __init__(self, embed_dim: int, num_classes: int, num_images: int = 2, hidden: int = 512):
        super().__init__()
        self.num_images = check_whole('num_images', num_images, 1)
        self.head = nn.Sequential(nn.Linear(num_images * check_whole('embed_dim', embed_dim, 1), hidden), nn.ReLU(),
                                  nn.Linear(hidden, check_whole('num_classes', num_classes, 1)))

    def forward(self, embeddings: Tensor) -> Tensor:
        if embeddings.ndim != 3 or embeddings.shape[1] != self.num_images:
            raise ValueError(f'embeddings {tuple(embeddings.shape)} should be (N, {self.num_images}, D).')
        return self.head(embeddings.float().flatten(1))
