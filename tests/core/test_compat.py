"""Repairs of other libraries: same results where the original works, none of its errors where it does not."""

import colorsys
import importlib.util
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
from mmengine.config import Config, config
from yapf.yapflib.yapf_api import FormatCode

from clear.core.compat import adjust_hue, format_config_once, patch_libraries


@pytest.fixture(scope='module')
def original_adjust_hue():
    """mmcv's own function, from a second copy of its module that nothing has patched."""
    name = 'mmcv.image.photometric_unpatched'
    spec = importlib.util.spec_from_file_location(name, Path(mmcv.__file__).parent / 'image' / 'photometric.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        yield module.adjust_hue
    finally:
        del sys.modules[name]


def image(seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, (9, 7, 3)).astype(dtype)


def test_the_text_of_a_config_is_formatted_once(monkeypatch):
    asked = []

    def format_code(text, **options):
        asked.append(text)
        return FormatCode(text, **options)

    monkeypatch.setattr(config, 'FormatCode', format_code)
    one, other = Config(dict(model=dict(depth=18), lr=0.1)), Config(dict(lr=0.2))
    plain = [each.pretty_text for each in (one, other)]
    format_config_once()
    assert [one.pretty_text, one.pretty_text, other.pretty_text, one.pretty_text] == [plain[0], *plain, plain[0]]
    assert len(asked) == 2 + 2
    one.lr = 0.3
    assert 'lr = 0.3' in one.pretty_text


@pytest.mark.filterwarnings('ignore:.*mode.*deprecated')
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('shift', [0.0, 0.003, 0.1, 0.25, 0.5])
def test_positive_shifts_equal_mmcv(original_adjust_hue, backend, shift):
    np.testing.assert_array_equal(adjust_hue(image(), shift, backend), original_adjust_hue(image(), shift, backend))


def test_float_images_equal_mmcv(original_adjust_hue):
    shifted = adjust_hue(image(dtype=np.float32), 0.2, 'cv2')
    np.testing.assert_array_equal(shifted, original_adjust_hue(image(dtype=np.float32), 0.2, 'cv2'))
    assert shifted.dtype == np.float32


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('shift', [-0.003, -0.07, -0.25, -0.5])
def test_negative_shifts_wrap_around(original_adjust_hue, backend, shift):
    with pytest.raises(OverflowError):  # When this stops failing, the repair can go.
        original_adjust_hue(image(), -0.07, backend)
    # The circle has 256 steps: back by n is forward by 256 - n, which the original can do in two shifts.
    forward = 256 - int(-shift * 255)
    expected = image()
    hue_of = {'cv2': hue_by_opencv, 'pillow': hue_by_pillow}[backend]
    np.testing.assert_array_equal(adjust_hue(expected, shift, backend), hue_of(expected, forward))


def hue_by_opencv(img, steps):
    import cv2

    hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV_FULL).tolist()
    moved = [[[(h + steps) % 256, s, v] for h, s, v in row] for row in hsv]
    return cv2.cvtColor(np.array(moved, dtype=np.uint8), cv2.COLOR_HSV2BGR_FULL)


def hue_by_pillow(img, steps):
    from PIL import Image

    hue, saturation, value = Image.fromarray(np.ascontiguousarray(img[..., ::-1])).convert('HSV').split()
    moved = hue.point([(step + steps) % 256 for step in range(256)])
    return np.asarray(Image.merge('HSV', (moved, saturation, value)).convert('RGB'))[..., ::-1]


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_a_third_of_the_circle_turns_red_into_green_and_blue(backend):
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 2] = 255
    for shift in (1 / 3, -1 / 3):
        blue, green, left_red = adjust_hue(red, shift, backend)[0, 0] / 255
        expected = colorsys.hsv_to_rgb(shift % 1, 1, 1)
        # One step of 256 is 6 / 256 of a channel.
        np.testing.assert_allclose((left_red, green, blue), expected, atol=8 / 256)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_color_jitter_runs(backend):
    patch_libraries()
    from mmpretrain.datasets.transforms import ColorJitter

    np.random.seed(0)
    jitter = ColorJitter(hue=0.5, backend=backend)
    results = [jitter({'img': image()})['img'] for _ in range(20)]
    assert all(result.shape == (9, 7, 3) and result.dtype == np.uint8 for result in results)
    assert len({result.tobytes() for result in results}) > 10


@pytest.mark.parametrize('shift', [-0.51, 0.6, float('nan')])
def test_shift_outside_the_circle_is_refused(shift):
    with pytest.raises(ValueError, match='hue_factor'):
        adjust_hue(image(), shift)


@pytest.mark.parametrize('wrong', [np.zeros((4, 4)), [[1, 2, 3]]])
def test_what_is_no_colour_image_is_refused(wrong):
    with pytest.raises(TypeError, match='img'):
        adjust_hue(wrong, 0.1)


def test_patches_are_in_place_after_importing_models():
    import mmpretrain.utils.dependency as dependency

    import clear.models  # noqa: F401

    assert mmcv.adjust_hue is mmcv.image.adjust_hue is mmcv.image.photometric.adjust_hue is adjust_hue
    assert dependency.WITH_MULTIMODAL is False
