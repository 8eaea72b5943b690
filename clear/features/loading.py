"""Images of a source as batches: decoded, transformed, with unreadable ones marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from clear.datasets.images.decode import MAX_PIXELS, UnreadableImage
from clear.datasets.images.reader import RowReader
from clear.datasets.table import ImageTable


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Some rows of a source.

    Attributes:
        rows: row numbers.
        images: (B, 3, H, W) float32; unreadable ones are zero.
        reasons: row -> why the image is unreadable.
    """

    rows: list[int]
    images: torch.Tensor
    reasons: dict[int, str]


class _SourceReader(RowReader[Image.Image]):
    """The images of a source as RGB; one that would become too large when its shorter side is resized is bad."""

    def __init__(self, source: ImageTable, resize: int | None):
        super().__init__()
        self._source = source
        self._resize = resize

    def __getitem__(self, row: int) -> Image.Image:
        image = self._source.open_image(row)
        check_resized(image, self._resize)
        return image


def check_resized(image: Image.Image, resize: int | None) -> None:
    """Refuse an image that becomes too large when its shorter side is resized.

    Raises:
        UnreadableImage: with its size.
    """
    # A strip of 1 x 60000 pixels whose shorter side becomes 224 would take ten gigabytes.
    scale = (resize or 0) / min(image.size)
    if image.width * image.height * scale**2 > MAX_PIXELS:
        raise UnreadableImage(f'{image.width} x {image.height} pixels: with the shorter side resized to {resize}, more '
                              f'than {MAX_PIXELS}')


class SourceImages(Dataset):
    """`dataset[row]` is (row, transformed image (3, H, W) or None, reason or None).

    Args:
        preprocess: an encoder's transform specification (`resize`, `input_size`, `build()`).
    """

    def __init__(self, source: ImageTable, preprocess):
        self.source = source
        self.preprocess = preprocess
        self._reader = _SourceReader(source, preprocess.resize)
        self._transform: Callable | None = None

    def __getitem__(self, row: int) -> tuple[int, torch.Tensor | None, str | None]:
        if self._transform is None:  # built where it is used: transforms need not travel to workers
            self._transform = self.preprocess.build()
        image = self._reader.find(row)
        if image is None:
            return row, None, self._reader.bad[row]
        try:
            return row, self._transform(image), None
        except Exception as error:
            name = self.source.text('id', row)
            error.add_note(f"in the transform of '{name}', {image.width} x {image.height} pixels")
            raise


def image_batches(source: ImageTable, preprocess, batches: Sequence[Sequence[int]], *, num_workers: int = 0,
                  pin_memory: bool = False) -> Iterator[ImageBatch]:
    """The given batches of rows, in order. A batch of unreadable images only is zeros too."""
    loader = DataLoader(SourceImages(source, preprocess), batch_sampler=list(batches), num_workers=num_workers,
                        collate_fn=_Collate(preprocess.input_size), pin_memory=False,
                        prefetch_factor=2 if num_workers else None)
    for rows, images, reasons in loader:
        yield ImageBatch(rows, images.pin_memory() if pin_memory else images, reasons)


@dataclass(frozen=True)
class _Collate:
    size: tuple[int, int]

    def __call__(self, samples: list[tuple]) -> tuple[list[int], torch.Tensor, dict[int, str]]:
        # Zeros keep their place: how a batch is cut must not depend on which images can be read.
        images = torch.zeros(len(samples), 3, *self.size)
        for place, (_, image, _) in enumerate(samples):
            if image is not None:
                images[place] = image
        return ([row for row, _, _ in samples], images,
                {row: reason for row, _, reason in samples if reason is not None})
