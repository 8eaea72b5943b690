"""Small images with targets for pixels, made by hand."""

import io

import numpy as np
from PIL import Image

from clear.datasets.dense import DenseTable, Target


def as_stored(content):
    """A target that was stored whole, as .npz."""
    with np.load(io.BytesIO(content)) as arrays:
        return Target(arrays['values'], arrays['valid'])


def write_table(root, images, targets, kind, names=(), clips=None):
    """A table of PNG images (H, W, 3) and targets (values, valid); of clips only the first frames have one."""
    paths, masks = [], []
    for number, (image, target) in enumerate(zip(images, targets)):
        paths.append(f'{number:03d}.png')
        Image.fromarray(image).save(root / paths[-1])
        masks.append(None if target is None else f'{number:03d}.npz')
        if target is not None:
            np.savez(root / masks[-1], values=target[0], valid=target[1])
    columns = {'path': paths, 'mask': masks} | ({} if clips is None else {'clip': clips})
    return DenseTable.from_columns(root, columns, target_kind=kind, decode=as_stored, target_names=tuple(names))


def coded_image(height, width):
    """An image whose red is the row, green the column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    return image
