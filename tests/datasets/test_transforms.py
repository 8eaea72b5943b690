"""Transforms from configs: which library a name means, what counts as random, and the messages."""

import copy
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from clear.core.errors import ConfigError
from clear.datasets.transforms import build_transform
from clear.datasets.transforms.build import DETERMINISTIC
from clear.registry import TRANSFORMS, RegistryError

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


@pytest.fixture
def own():
    """A transform of our own, under a name that torchvision has too."""

    @TRANSFORMS.register_module(name='Grayscale')
    class Own:
        def __init__(self, value: int = 1):
            self.value = value

        def __call__(self, image):
            return self.value

    yield Own
    del TRANSFORMS.module_dict['Grayscale']


def test_usual_evaluation_list():
    configs = [{'type': 'Resize', 'size': 16, 'interpolation': 'bicubic'}, {'type': 'CenterCrop', 'size': 8},
               {'type': 'ToTensor'}, {'type': 'Normalize', 'mean': [0.5, 0.4, 0.3], 'std': [0.2, 0.3, 0.4]}]
    before = copy.deepcopy(configs)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        transform = build_transform(configs)
    assert configs == before and transform.is_random is False
    assert transform.steps[0].interpolation is InterpolationMode.BICUBIC

    result = transform(IMAGE)
    assert type(result) is torch.Tensor and result.dtype == torch.float32
    cropped = v2.CenterCrop(8)(v2.Resize(16, interpolation=InterpolationMode.BICUBIC)(IMAGE))
    by_hand = (np.asarray(cropped) / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    np.testing.assert_allclose(result.numpy(), by_hand.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_no_transforms_give_the_image_back():
    for configs in (None, []):
        transform = build_transform(configs)
        assert transform(IMAGE) is IMAGE and transform.is_random is False


@pytest.mark.parametrize('config, is_random', [
    ({'type': 'RandomCrop', 'size': 8}, True), ({'type': 'RandomHorizontalFlip'}, True),
    ({'type': 'GaussianBlur', 'kernel_size': 3, 'sigma': 1.0}, True), ({'type': 'ToImage'}, False),
    ({'type': 'ToDtype', 'dtype': 'float32', 'scale': True}, False),
    ({'type': 'Compose', 'transforms': [{'type': 'Resize', 'size': 8}]}, False),
    ({'type': 'Compose', 'transforms': [{'type': 'RandomCrop', 'size': 8}]}, True),
    ({'type': 'RandomApply', 'transforms': [{'type': 'Resize', 'size': 8}], 'p': 0.5}, True),
])
def test_what_counts_as_random(config, is_random):
    assert build_transform([{'type': 'CenterCrop', 'size': 10}, config]).is_random is is_random


def test_deterministic_ones_exist_and_draw_nothing():
    arguments = {'CenterCrop': {'size': 8}, 'FiveCrop': {'size': 8}, 'TenCrop': {'size': 8}, 'Resize': {'size': 8},
                     'Pad': {'padding': 2}, 'Normalize': {'mean': [0.5], 'std': [0.5]}, 'ToDtype': {'dtype': 'float32'},
                     'LinearTransformation': {'transformation_matrix': torch.eye(12), 'mean_vector': torch.zeros(12)}}
    takes_small = {'LinearTransformation'}
    for name in sorted(DETERMINISTIC):
        transform = build_transform([dict(type=name, **arguments.get(name, {}))])
        image = torch.rand(3, 2, 2) if name in takes_small else torch.rand(3, 20, 20)
        image = IMAGE if name == 'PILToTensor' else image
        states = torch.get_rng_state(), np.random.get_state()[1].copy()
        transform(image)
        assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[1])


def test_nested_transforms_are_built():
    transform = build_transform([{'type': 'RandomApply', 'p': 1.0, 'transforms': [
        {'type': 'RandomResizedCrop', 'size': 8, 'interpolation': 'nearest'}]}])
    assert transform.steps[0].transforms[0].interpolation is InterpolationMode.NEAREST
    assert transform(IMAGE).size == (8, 8)


def test_ours_come_first_and_are_random_unless_they_say_not(own):
    transform = build_transform([{'type': 'Grayscale', 'value': 7}])
    assert transform(IMAGE) == 7 and transform.is_random
    own.is_random = False
    assert not build_transform([{'type': 'Grayscale'}]).is_random


def test_mmpretrain_names_are_not_asked():
    assert isinstance(build_transform([{'type': 'RandomErasing'}]).steps[0], v2.RandomErasing)
    with pytest.raises(RegistryError, match="no transform is called 'LoadImageFromFile'"):
        build_transform([{'type': 'LoadImageFromFile'}])


@pytest.mark.parametrize('configs, error, message', [
    ([{'type': 'Randomcrop', 'size': 8}], RegistryError,
     r"train\[0\]: no transform .*Nearest: 'RandomCrop' \(torchvision.transforms.v2\), '\w+' .*, '\w+' "),
    ([{'type': 'ToTensor'}, {'type': 'RandomCrop', 'sise': 8}], ConfigError,
     r"train\[1\] \(RandomCrop\): .*It takes: size, .*Nearest: 'size'"),
    ([{'type': 'Resize', 'size': 8, 'interpolation': 'cubic'}], ConfigError, r"'cubic' is unknown; known: nearest"),
    ([{'type': 'ToDtype', 'dtype': 'float33'}], ConfigError, "dtype 'float33' is unknown"),
    ([{'type': 'RandomApply', 'transforms': [{'type': 'CenterCrop'}]}], ConfigError,
     r'train\[0\].transforms\[0\] \(CenterCrop\)'),
    ([{'type': 'RandomHorizontalFlip', 'p': 2}], ConfigError, r'train\[0\] \(RandomHorizontalFlip\)'),
    ([{'size': 8}], ConfigError, r'train\[0\]: expected a dict with the name of a type'),
    (['ToTensor'], ConfigError, r'train\[0\]: expected a dict'), ({'type': 'ToTensor'}, ConfigError, 'expected a list'),
    ([{'type': 'InterpolationMode'}], RegistryError, 'no transform'),
])
def test_configs_that_are_wrong(configs, error, message):
    with pytest.raises(error, match=message):
        build_transform(configs, where='train')
