"""Windows that slide: against a plain loop, with edges that do not fit, and mmsegmentation's places."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from clear.core.errors import ConfigError
from clear.evaluation.dense.sliding import SlidingWindows

SIZES = [(8, 8), (9, 13), (7, 20), (5, 11), (6, 6), (3, 4)]


def mean_and_place(images, size):
    """Depends on the whole window: a value, minus the window's mean, and where the pixel lies in it."""
    place = torch.arange(size[0] * size[1], dtype=torch.float32).view(1, 1, *size)
    return torch.cat([images[:, :1] - images.mean((1, 2, 3), keepdim=True), place.expand(len(images), -1, -1, -1)], 1)


def by_loops(images, window, stride):
    """Pixel by pixel: the mean over every window that holds it."""
    height, width = images.shape[-2:]
    h, w = min(window[0], height), min(window[1], width)
    tops = sorted({min(top, height - h) for top in range(0, height, stride[0])})
    lefts = sorted({min(left, width - w) for left in range(0, width, stride[1])})
    # Of those that were moved inward to the same end only the first is needed.
    tops = [top for number, top in enumerate(tops) if number == 0 or tops[number - 1] + h < height]
    lefts = [left for number, left in enumerate(lefts) if number == 0 or lefts[number - 1] + w < width]
    found = {(top, left): mean_and_place(images[..., top:top + h, left:left + w], (h, w))
             for top in tops for left in lefts}
    out = torch.zeros(len(images), 2, height, width)
    for y in range(height):
        for x in range(width):
            inside = [value[:, :, y - top, x - left] for (top, left), value in found.items()
                      if top <= y < top + h and left <= x < left + w]
            out[:, :, y, x] = sum(inside) / len(inside)
    return out


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('window, stride', [((6, 6), (4, 4)), ((6, 6), (6, 6)), ((4, 8), (1, 5)), ((1, 1), (1, 1))])
def test_windows_are_those_of_a_loop(size, window, stride):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found = SlidingWindows(window, stride).predict(mean_and_place, images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, by_loops(images, window, stride))


@pytest.mark.parametrize('length', range(1, 30))
@pytest.mark.parametrize('window, stride', [(6, 4), (6, 6), (5, 1), (12, 8)])
def test_places_are_those_of_mmsegmentation(length, window, stride):
    """Its grid: as many as needed to cover, each cut at the end and then moved back to a whole window."""
    grids = max(length - window + stride - 1, 0) // stride + 1
    expected = [max(min(index * stride + window, length) - window, 0) for index in range(grids)]
    found = SlidingWindows((window, 3), (stride, 3)).places(length, 3)
    assert [top for top, _ in found] == expected and {left for _, left in found} == {0}


def test_each_pixel_is_covered_by_windows_of_one_size():
    windows = SlidingWindows(7, 5)
    seen = []

    def predict(images, size):
        seen.append((tuple(images.shape[-2:]), size))
        return images[:, :1]

    images = torch.randn(1, 3, 23, 16)
    torch.testing.assert_close(windows.predict(predict, images), images[:, :1])
    assert {*seen} == {((7, 7), (7, 7))} and len(seen) == 5 * 3


def test_a_window_as_large_as_the_image_is_the_whole_image():
    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 3, padding=1)
    images = torch.randn(2, 3, 12, 10)
    found = SlidingWindows((12, 10), (5, 5)).predict(lambda part, size: model(part), images)
    torch.testing.assert_close(found, model(images))
    torch.testing.assert_close(SlidingWindows(64, 32).predict(lambda part, size: model(part), images), model(images))


def test_brought_to_the_size_of_the_target():
    images = torch.randn(1, 3, 9, 9)
    found = SlidingWindows(4, 3).predict(lambda part, size: part[:, :2], images, (20, 15))
    expected = functional.interpolate(images[:, :2], (20, 15), mode='bilinear', align_corners=False)
    torch.testing.assert_close(found, expected)


def test_clips_and_half_precision():
    images = torch.randn(2, 2, 3, 9, 8)
    found = SlidingWindows(4, 3).predict(lambda part, size: part[:, 1, :1].bfloat16(), images)
    torch.testing.assert_close(found, images[:, 1, :1].bfloat16().float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('cfg, said', [
    ('window', "expected 'whole' or dict"), (dict(window=4), "expected 'whole' or dict"),
    (dict(window=4, stride=3, size=3), "no key 'size'"), (dict(window=4, stride=5), 'larger than inference.window'),
    (dict(window=(4, 4, 4), stride=3), r'expected \(height, width\)'), (dict(window=4, stride=0), 'inference.stride'),
    (dict(window=4.5, stride=3), 'inference.window')])
def test_options_that_are_none(cfg, said):
    with pytest.raises(ConfigError, match=said):
        SlidingWindows.of(cfg)


def test_from_a_config():
    assert SlidingWindows.of(dict(window=[512, 512], stride=341)) == SlidingWindows(512, 341)
