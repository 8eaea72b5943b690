"""The training transforms of image towers: ranges and shares over many draws, evaluation's transform, every maker."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_text import write_two_towers

from clear.core.errors import ConfigError
from clear.datasets.transforms import AUGMENTATIONS, TowerAugment
from clear.models import (
    HuggingFaceImageEncoder,
    MMPretrainEncoder,
    OpenCLIPImageEncoder,
    TimmEncoder,
    TorchHubEncoder,
    TorchvisionEncoder,
)
from clear.registry import TRANSFORMS

PLAIN = dict(mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope='module')
def image():
    """Left and right, top and bottom differ; every channel differs."""
    rows = np.linspace(20, 220, 48)
    pixels = np.stack([np.tile(rows, (48, 1)), np.tile(rows, (48, 1)).T, np.full((48, 48), 40.0)], 2)
    return Image.fromarray(pixels.astype(np.uint8))


def draws(image, count=400, **more):
    torch.manual_seed(0)
    transform = TowerAugment(16, **{**PLAIN, **more})
    return torch.stack([transform(image) for _ in range(count)])


def test_crop_keeps_most_of_the_image_and_never_flips(image):
    views = draws(image, augmentation='crop')
    width = (views[:, 0, :, -1] - views[:, 0, :, 0]).mean(1) * 255  # red rises by 200 from left to right
    assert (width > 0).all() and width.min() > 150 and width.std() > 1
    assert torch.isclose(views[:, 2], torch.tensor(40 / 255)).all()


def test_half_are_flipped(image):
    views = draws(image, augmentation='crop_flip')
    share = (views[:, 0, :, -1] < views[:, 0, :, 0]).all(1).float().mean()
    assert 0.42 < share < 0.58


def test_light_changes_colours_of_some(image):
    views = draws(image, augmentation='light')
    is_grey = torch.isclose(views[:, 0], views[:, 1], atol=1e-3).flatten(1).all(1)
    assert 0.13 < is_grey.float().mean() < 0.27
    untouched = torch.isclose(views[:, 2], torch.tensor(40 / 255), atol=1e-4).flatten(1).all(1)
    assert 0.52 < untouched.float().mean() < 0.76  # .8 x .8 without jitter and grey; a blur keeps a constant
    assert 0.42 < (views[:, 0, :, -1] < views[:, 0, :, 0]).all(1).float().mean() < 0.58


def test_none_is_the_transform_of_evaluation(image):
    for encoder in (TimmEncoder('test_resnet', preprocess=dict(crop=24, resize=32)),
                    TimmEncoder('test_resnet', preprocess=dict(crop=24, resize=24, channel_order='BGR'))):
        transform = TRANSFORMS.build(encoder.train_transform('none'))
        assert not transform.is_random
        torch.testing.assert_close(transform(image), encoder.preprocess.build()(image))


def test_every_maker_has_its_own(image):
    timm = TimmEncoder('test_resnet', preprocess=dict(crop=24, resize=32))
    open_clip = OpenCLIPImageEncoder('ViT-B-32', model_args=dict(
        vision_cfg=dict(layers=1, width=32, head_width=16, patch_size=8, image_size=32)))
    assert timm.train_transform()['augmentation'] == 'crop_flip'
    assert open_clip.train_transform()['augmentation'] == 'crop' and open_clip.train_transform()['crop'] == 32
    assert open_clip.train_transform()['mean'] == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    for augmentation in AUGMENTATIONS:
        transform = TRANSFORMS.build(open_clip.train_transform(augmentation))
        torch.manual_seed(3)
        first = transform(image)
        torch.manual_seed(3)
        assert torch.equal(transform(image), first) and first.shape == (3, 32, 32)


def test_crops_and_flips_of_the_other_makers(image, tmp_path):
    (tmp_path / 'hubconf.py').write_text('import torchvision\ndef net():\n    return torchvision.models.resnet18()\n')
    small = dict(preprocess=dict(crop=32, resize=32))
    encoders = [(TorchvisionEncoder('resnet18', **small), 'crop_flip'),
                (MMPretrainEncoder(backbone=dict(type='ResNet', depth=18), **small), 'crop_flip'),
                (TorchHubEncoder(str(tmp_path), 'net', **small), 'crop_flip')]
    if importlib.util.find_spec('transformers'):
        for family, augmentation in (('CLIP', 'crop'), ('ChineseCLIP', 'none')):
            encoders.append((HuggingFaceImageEncoder(write_two_towers(tmp_path / family, family)), augmentation))
    for encoder, augmentation in encoders:
        options = encoder.train_transform()
        assert options['augmentation'] == augmentation, type(encoder)
        assert tuple(options[key] for key in ('mean', 'std', 'interpolation')) == tuple(
            getattr(encoder.preprocess, key) for key in ('mean', 'std', 'interpolation'))
        assert TRANSFORMS.build(encoder.train_transform('light'))(image).shape == (3, 32, 32)


def test_palettes_become_rgb_first(image):
    assert draws(image.convert('P'), 2, augmentation='light').shape == (2, 3, 16, 16)
    with pytest.raises(ConfigError, match="augmentation is 'lite'; expected"):
        TowerAugment(16, 'lite')
