"""The files that a layout is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_JPEG_QUALITY = 92
_FLOW_SCALE, _FLOW_ZERO = 64, 2 ** 15


def save_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) or (H, W) uint8, (H, W) uint16 as PNG, or uint8 as JPEG, as the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = Image.fromarray(np.ascontiguousarray(image))
    if path.suffix.lower() in ('.jpg', '.jpeg'):
        written.save(path, quality=_JPEG_QUALITY)
    else:
        written.save(path)


def save_tiff(path: Path, values: np.ndarray) -> None:
    """Write (H, W) float32 as TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.float32)).save(path)


def save_palette(path: Path, ids: np.ndarray) -> None:
    """Write class ids (H, W) uint8 as a PNG with the palette of PASCAL VOC, whose pixels are the ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = Image.fromarray(ids.astype(np.uint8))
    written.putpalette(voc_palette().ravel().tolist())
    written.save(path)


def voc_palette() -> np.ndarray:
    """(256, 3) uint8: the bits of an id, by threes, are the highest bits of red, green and blue."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (ids >> 3 * bit + channel & 1) << 7 - bit
    return palette.astype(np.uint8)


def save_flow(path: Path, flow: np.ndarray, valid: np.ndarray) -> None:
    """Write flow (H, W, 2) in pixels as KITTI does: 16-bit RGB of u, v (64 steps a pixel around 2^15) and validity.

    Pillow has no such PNG, OpenCV does.
    """
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    coded = np.rint(np.nan_to_num(flow).astype(np.float64) * _FLOW_SCALE + _FLOW_ZERO)
    valid = valid & np.isfinite(flow).all(-1) & ((coded >= 0) & (coded < 2 ** 16)).all(-1)
    red_green_blue = np.concatenate([coded, np.ones_like(coded[..., :1])], axis=-1) * valid[..., None]
    done, data = cv2.imencode('.png', red_green_blue[..., ::-1].astype(np.uint16))
    if not done:
        raise OSError(f'OpenCV cannot encode {path}.')
    path.write_bytes(data.tobytes())


def flow_colours(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: hue by direction, saturation by length (full at a tenth of the width); invalid pixels black."""
    flow = np.where(valid[..., None], np.nan_to_num(flow), 0)
    hue = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi) % 1
    saturation = (np.hypot(flow[..., 0], flow[..., 1]) / (0.1 * flow.shape[1])).clip(0, 1)
    hsv = np.stack([hue, saturation, valid.astype(float)], axis=-1)
    return np.asarray(Image.fromarray(np.rint(hsv * 255).astype(np.uint8), 'HSV').convert('RGB'))


def edges(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the length of the Sobel gradient of the luminance, 255 for a step from black to white."""
    grey = np.pad(image.astype(np.float64) @ [0.299, 0.587, 0.114], 1, mode='edge')
    across = grey[:, 2:] - grey[:, :-2]
    down = grey[2:] - grey[:-2]
    across = (across[:-2] + 2 * across[1:-1] + across[2:]) / 4
    down = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 4
    return np.rint(np.hypot(across, down).clip(0, 255)).astype(np.uint8)
