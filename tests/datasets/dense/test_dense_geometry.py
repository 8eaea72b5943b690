"""Exact pixels of targets at another size: against loops, hand-made rows, and the libraries that agree."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import transform

from clear.datasets.dense import Target
from clear.datasets.dense.geometry import cut_target, mirror_target, nearest, pad_target, resize_target


def target(values, valid=None):
    values = np.asarray(values)
    return Target(values, np.ones(values.shape[:2], bool) if valid is None else np.asarray(valid, bool))


def drawn(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return target(rng.uniform(1, 9, (height, width)).astype(np.float32), rng.random((height, width)) < 0.7)


# Nearest: which pixels are kept


@pytest.mark.parametrize('size, kept', [(3, [1, 3, 5]), (4, [0, 2, 3, 5]), (9, [0, 1, 1, 2, 3, 3, 4, 5, 5]),
                                        (6, [0, 1, 2, 3, 4, 5]), (1, [3]), (12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])])
def test_nearest_of_six(size, kept):
    assert nearest(6, size).tolist() == kept
    values = np.arange(6, dtype=np.uint8)[None]
    assert resize_target(target(values), 'classes', 1, size).values.tolist() == [kept]
    assert resize_target(target(values.T), 'mask', size, 1).values[:, 0].tolist() == kept


@pytest.mark.parametrize('length', [1, 2, 5, 6, 7, 100, 375])
@pytest.mark.parametrize('size', [1, 2, 3, 7, 8, 224])
def test_nearest_is_the_pixel_whose_centre_is_nearest(length, size):
    for place, found in enumerate(nearest(length, size).tolist()):
        centre = (place + 0.5) * length / size
        distances = [abs(each + 0.5 - centre) for each in range(length)]
        assert distances[found] <= min(distances) + 1e-9
        assert found == length - 1 or distances[found + 1] > distances[found] - 1e-9 or found + 1 < centre


@pytest.mark.parametrize('length, size', [(6, 3), (6, 4), (7, 3), (641, 224), (375, 224), (1241, 224), (5, 8)])
def test_libraries_that_keep_the_same_pixels(length, size):
    """No ties here; OpenCV's INTER_NEAREST and torch's 'nearest' keep others (to 3 of 6: 0, 2, 4)."""
    row = np.arange(length, dtype=np.int32)[None]
    found = nearest(length, size)
    assert np.array_equal(np.asarray(Image.fromarray(row).resize((size, 1), Image.Resampling.NEAREST))[0], found)
    exact = torch.nn.functional.interpolate(torch.from_numpy(row).float()[None], size, mode='nearest-exact')
    assert np.array_equal(exact[0, 0].int().numpy(), found)
    assert np.array_equal(transform.resize(row, (1, size), order=0, preserve_range=True, anti_aliasing=False)[0], found)


def test_libraries_that_shift_by_half_a_pixel():
    row = np.arange(6, dtype=np.uint8)[None]
    assert cv2.resize(row, (3, 1), interpolation=cv2.INTER_NEAREST).tolist() == [[0, 2, 4]]
    assert torch.nn.functional.interpolate(torch.arange(6.0)[None, None], 3).tolist() == [[[0, 2, 4]]]


def test_a_mask_stays_on_its_image():
    """A bright square, made smaller as an image and as a mask: their middles differ by rounding alone. Those of
    OpenCV's INTER_NEAREST lie to the right: what it keeps is half a pixel from the left, and so all of it moves.
    """
    mask = np.zeros((40, 40), np.uint8)
    mask[8:24, 12:28] = 1
    shifts = {'ours': [], 'cv2': []}
    for size in range(10, 40):
        image = np.asarray(Image.fromarray(mask * 255).resize((size, size), Image.Resampling.BILINEAR)) / 255.0
        masks = dict(ours=resize_target(target(mask), 'mask', size, size).values,
                     cv2=cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST))
        for name, found in masks.items():
            shifts[name].append(_middle(found) - _middle(image))
    assert abs(np.mean(shifts['ours'])) < 0.1 and np.mean(shifts['cv2']) > 0.2


def _middle(image):
    """Of its columns."""
    return (image.sum(0) * np.arange(image.shape[1])).sum() / image.sum()


# Depth


def bilinear_by_loops(values, valid, height, width):
    """Value and validity, pixel by pixel, from the definition."""
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            place_y = min(max((y + 0.5) * values.shape[0] / height - 0.5, 0), values.shape[0] - 1)
            place_x = min(max((x + 0.5) * values.shape[1] / width - 0.5, 0), values.shape[1] - 1)
            total = weight = 0.0
            for near_y in range(values.shape[0]):
                for near_x in range(values.shape[1]):
                    share = max(0, 1 - abs(place_y - near_y)) * max(0, 1 - abs(place_x - near_x))
                    if share and valid[near_y, near_x]:
                        total, weight = total + share * values[near_y, near_x], weight + share
            out[y, x] = total / weight if weight else 0
    return out


@pytest.mark.parametrize('kind', ['depth', 'edges', 'luminance'])
@pytest.mark.parametrize('size', [(3, 4), (5, 7), (1, 1), (12, 13), (5, 3)])
def test_depth_is_bilinear_over_valid_pixels(kind, size):
    depth = drawn(5, 7)
    found = resize_target(depth, kind, *size)
    if size == (5, 7):
        assert found is depth
        return
    valid = depth.valid[nearest(5, size[0])][:, nearest(7, size[1])]
    assert np.array_equal(found.valid, valid) and found.values.dtype == np.float32
    expected = np.where(valid, bilinear_by_loops(depth.values, depth.valid, *size), 0)
    assert np.allclose(found.values, expected, atol=1e-6)


def test_without_holes_depth_is_that_of_torch():
    values = np.random.default_rng(1).uniform(0, 9, (9, 11)).astype(np.float32)
    for size in ((4, 4), (20, 5), (31, 40)):
        expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], size, mode='bilinear')
        assert np.allclose(resize_target(target(values), 'depth', *size).values, expected[0, 0], atol=1e-5)


@pytest.mark.parametrize('poison', [0.0, np.nan, np.inf, 65.535])
def test_an_invalid_neighbour_never_bleeds_in(poison):
    values = np.full((4, 4), 2.0, np.float32)
    values[1:3, 2] = poison
    valid = np.ones((4, 4), bool)
    valid[1:3, 2] = False
    for size in ((2, 2), (3, 3), (8, 8), (7, 5)):
        found = resize_target(target(values, valid), 'depth', *size)
        assert (found.values[found.valid] == 2).all() and (found.values[~found.valid] == 0).all()
        assert found.valid.any()


def test_depth_does_not_overshoot():
    values = np.zeros((8, 8), np.float32)
    values[:, 4:] = 10
    found = resize_target(target(values), 'depth', 21, 21).values
    assert found.min() == 0 and found.max() == 10


# Flow


def test_flow_counts_pixels_of_the_new_size():
    values = np.zeros((4, 6, 2), np.float32)
    values[..., 0], values[..., 1] = np.arange(6), np.arange(4)[:, None]
    valid = np.ones((4, 6), bool)
    valid[3, 5] = False
    found = resize_target(target(values, valid), 'flow', 2, 12)
    assert found.values[0, :, 0].tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10]  # u twice, v half
    assert found.values[:, 0, 1].tolist() == [0.5, 1.5]
    assert found.valid.tolist() == [[True] * 12, [True] * 10 + [False] * 2]
    assert found.values.dtype == np.float32


def test_a_mirrored_flow_goes_the_other_way():
    values = np.array([[[1, 2], [3, 4]]], np.float32)
    found = mirror_target(target(values, [[True, False]]), 'flow')
    assert found.values.tolist() == [[[-3, 4], [-1, 2]]] and found.valid.tolist() == [[False, True]]
    assert mirror_target(target([[1, 2]]), 'classes').values.tolist() == [[2, 1]]


def test_flow_still_leads_to_the_same_point_after_resize_and_mirror():
    """A dot at (5, 2) that moves to (9, 6), in an image of 16 x 8."""
    values = np.zeros((8, 16, 2), np.float32)
    values[2, 5] = 4, 4
    found = mirror_target(resize_target(target(values), 'flow', 16, 32), 'flow')
    y, x = np.argwhere(found.values[..., 0]).mean(0)  # four pixels; the dot's middle
    u, v = found.values[int(y), int(x)]
    assert (x + 0.5, y + 0.5) == (32 - 2 * 5.5, 2 * 2.5) and (x + 0.5 + u, y + 0.5 + v) == (32 - 2 * 9.5, 2 * 6.5)


# Cut and padded


@pytest.mark.parametrize('kind, filled', [('classes', 255), ('mask', 0), ('depth', 0), ('flow', 0)])
def test_what_is_added_is_not_valid(kind, filled):
    values = np.ones((2, 3, 2) if kind == 'flow' else (2, 3), np.float32 if kind in ('depth', 'flow') else np.uint8)
    found = pad_target(target(values), kind, 3, 4)
    assert found.values.shape[:2] == found.valid.shape == (3, 4) and found.values.dtype == values.dtype
    assert found.valid.sum() == 6 and found.valid[:2, :3].all()
    assert (found.values[~found.valid] == filled).all() and (found.values[:2, :3] == 1).all()


def test_a_part_may_end_early():
    found = cut_target(target(np.arange(12).reshape(3, 4)), (1, 2, 5, 5))
    assert found.values.tolist() == [[6, 7], [10, 11]] and found.valid.shape == (2, 2)
