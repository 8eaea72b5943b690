"""Repairs for libraries that no longer agree with each other, applied once before mmpretrain's models load.

Each entry names the versions that need it. None changes a result; they make imports and calls work.
"""

from __future__ import annotations

import functools
import warnings
from types import SimpleNamespace

_applied = False


def patch_libraries() -> None:
    """Apply every repair that must precede `mmpretrain.models`. Cheap, and does nothing the second time."""
    global _applied
    if _applied:
        return
    _applied = True
    _import_mmcv_quietly()
    _skip_multimodal_models()
    _fix_hue_overflow()
    _restore_in1d()
    format_config_once()


def _import_mmcv_quietly() -> None:
    # mmcv-lite warns that its compiled operators are absent; no model that we offer uses them.
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
        import mmcv.cnn.bricks.transformer  # noqa: F401


def _skip_multimodal_models() -> None:
    # mmpretrain 1.2.0 with transformers >= 4.57 and pycocotools: `import mmpretrain.models` raises TypeError.
    # Its multimodal models import names that transformers removed, so nothing usable is lost.
    import mmpretrain.utils.dependency as dependency

    dependency.WITH_MULTIMODAL = False


def _fix_hue_overflow() -> None:
    # mmcv 2.2.0 adds a negative hue shift to uint8, which NumPy 2 refuses (OverflowError).
    import mmcv
    import mmcv.image.photometric

    mmcv.adjust_hue = adjust_hue
    mmcv.image.adjust_hue = adjust_hue
    mmcv.image.photometric.adjust_hue = adjust_hue


def _restore_in1d() -> None:
    # NumPy 2.4 took it away; mmpretrain 1.2.0's retrieval metrics call it. NumPy's own advice is isin on flat arrays.
    import numpy as np

    if not hasattr(np, 'in1d'):
        np.in1d = lambda values, others, **options: np.isin(np.ravel(values), others, **options)


def format_config_once() -> None:
    """Let mmengine remember the text of a config: a run writes it at three places, each formatted anew for 0.1 s."""
    from mmengine.config import config

    original = config.FormatCode

    @functools.lru_cache(maxsize=2)
    def formatted(text: str, style: tuple, options: tuple) -> tuple[str, bool]:
        return original(text, style_config=dict(style), **dict(options))

    config.FormatCode = lambda text, style_config, **options: formatted(text, tuple(style_config.items()),
                                                                        tuple(options.items()))


def adjust_hue(img, hue_factor: float, backend: str | None = None):
    """Shift the hue of a uint8 BGR image (H, W, 3) by `hue_factor` of the circle, -0.5 ... 0.5.

    Same result as `mmcv.adjust_hue`: hue runs over 256 steps (OpenCV's full-range HSV, or PIL's HSV for
    `backend='pillow'`).

    Raises:
        ValueError: if `hue_factor` is outside the range.
        TypeError: if `img` is no array of three channels.
    """
    import cv2
    import mmcv.image.io
    import numpy as np
    from PIL import Image

    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f'hue_factor is {hue_factor}, expected -0.5 ... 0.5.')
    if not isinstance(img, np.ndarray) or img.ndim != 3 or img.shape[2] != 3:
        raise TypeError('img must be an array of shape (H, W, 3).')
    shift = int(hue_factor * 255)
    if (backend or mmcv.image.io.imread_backend) == 'pillow':
        hue, saturation, value = Image.fromarray(img[..., ::-1]).convert('HSV').split()
        shifted = ((np.asarray(hue, dtype=np.int16) + shift) % 256).astype(np.uint8)
        merged = Image.merge('HSV', (Image.fromarray(shifted, 'L'), saturation, value))
        return np.ascontiguousarray(np.asarray(merged.convert('RGB'))[..., ::-1]).astype(img.dtype)
    # As in mmcv, floats are cut to uint8: OpenCV would give them a hue of 360 steps.
    hsv = cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] = ((hsv[..., 0].astype(np.int16) + shift) % 256).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(img.dtype)


def patch_wandb() -> None:
    """Give wandb 0.31 back the two names that Avalanche 0.6's logger uses."""
    import wandb

    if not hasattr(wandb.util, 'generate_id'):
        wandb.util.generate_id = wandb.sdk.lib.runid.generate_id
    if not hasattr(wandb, 'viz'):
        wandb.viz = SimpleNamespace(CustomChart=wandb.plot.CustomChart)
