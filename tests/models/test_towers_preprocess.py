"""What is done to an image first, against torchvision's own transforms and by hand."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision import transforms as T

from clear.core.errors import ConfigError
from clear.models.towers.image import Preprocess, TimmEncoder, TorchvisionEncoder


def photo(width=83, height=61, mode='RGB'):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


@pytest.mark.parametrize('interpolation', ['nearest', 'bilinear', 'bicubic', 'lanczos'])
@pytest.mark.parametrize('size', [(83, 61), (40, 90), (32, 32)])
def test_equals_torchvision_transforms(interpolation, size):
    spec = Preprocess(resize=40, crop=32, interpolation=interpolation, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = T.Compose([T.Resize(40, T.InterpolationMode(interpolation)), T.CenterCrop(32), T.ToTensor(),
                          T.Normalize(spec.mean, spec.std)])
    torch.testing.assert_close(spec.build()(photo(*size)), expected(photo(*size)))


@pytest.mark.parametrize('arch', ['resnet50', 'inception_v3', 'swin_v2_t'])
def test_published_transform_of_torchvision(arch):
    size = {'resnet50': 224, 'inception_v3': 299, 'swin_v2_t': 256}[arch]
    from clear.models.towers.image.torchvision import _published_preprocess

    spec = _published_preprocess(arch, torch.nn.Identity())
    published = models.get_model_weights(arch).DEFAULT.transforms()
    assert spec.crop == size
    torch.testing.assert_close(spec.build()(photo(400, 350)), published(photo(400, 350)))


def test_channel_order_turns_pixels_and_constants():
    spec = Preprocess(resize=32, crop=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    rgb = spec.build()(photo())
    bgr = spec.changed({'channel_order': 'BGR'}).build()(photo())
    assert torch.equal(bgr, rgb.flip(0))


def test_without_antialias_neighbours_alone_count():
    # Halving a board of single black and white columns: averaging gives grey, two neighbours as well, but quartering
    # without antialiasing only sees the two columns in the middle of four.
    columns = np.tile(np.array([255, 0, 0, 255], dtype=np.uint8), 16)
    image = Image.fromarray(np.repeat(columns[None], 64, 0)).convert('RGB')
    spec = Preprocess(resize=16, crop=16, mean=(0, 0, 0), std=(1, 1, 1), antialias=False)
    assert spec.build()(image).max() == 0
    assert spec.changed({'antialias': True}).build()(image).mean() > 0.3


def test_no_resize_crops_the_middle_of_the_image_as_it_is():
    spec = Preprocess(resize=None, crop=20, mean=(0, 0, 0), std=(1, 1, 1))
    image = photo(40, 30)
    expected = torch.from_numpy(np.asarray(image)[5:25, 10:30].copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(spec.build()(image), expected)


@pytest.mark.parametrize('mode', ['L', 'P', 'CMYK', 'RGBA'])
def test_any_mode_and_one_pixel(mode):
    assert Preprocess(resize=8, crop=8).build()(photo(1, 1, mode)).shape == (3, 8, 8)


def test_dict_round_trip_pickle_and_determinism():
    spec = Preprocess(resize=None, crop=7, mean=[0.5] * 3)
    assert Preprocess(**json.loads(json.dumps(spec.to_dict()))) == spec
    transform = spec.build()
    assert transform.is_random is False
    assert torch.equal(pickle.loads(pickle.dumps(transform))(photo()), transform(photo()))


def test_sources_of_the_libraries_and_overrides():
    encoder = TimmEncoder('test_resnet', preprocess=dict(crop=96, resize=100))
    assert (encoder.preprocess.crop, encoder.preprocess.resize) == (96, 100)
    lite = TimmEncoder('tf_efficientnet_lite0').preprocess
    assert (lite.mean, lite.std, lite.crop, lite.resize, lite.interpolation) == \
        ((0.5,) * 3, (0.5,) * 3, 224, 256, 'bicubic')
    assert TorchvisionEncoder('resnet18').preprocess == Preprocess(256, 224)


@pytest.mark.parametrize(('values', 'says'), [
    (dict(crop=0), 'crop 0'), (dict(resize=100), 'black border'), (dict(interpolation='cubic'), "'cubic'"),
    (dict(mean=(1, 2)), 'three numbers'), (dict(std=(1, 0, 1)), 'above 0'), (dict(channel_order='GRB'), "'GRB'"),
    (dict(interpolation='lanczos', antialias=False), "'lanczos'"), (dict(crop=True), 'crop True'),
    (dict(mean='abc'), 'three numbers'),
])
def test_impossible_values(values, says):
    with pytest.raises(ConfigError, match=says):
        Preprocess(**values)


def test_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match="no key 'crops'. Nearest: 'crop'"):
        Preprocess().changed({'crops': 3})
    with pytest.raises(ConfigError, match='must be a dict'):
        Preprocess().changed(224)


def test_squash_brings_the_whole_image_to_the_square():
    spec = Preprocess(resize=20, crop=16, mean=(0, 0, 0), std=(1, 1, 1), interpolation='bicubic', squash=True)
    image = photo(40, 24)
    expected = np.asarray(image.convert('RGB').resize((16, 16), Image.BICUBIC), dtype=np.float32) / 255
    torch.testing.assert_close(spec.build()(image), torch.from_numpy(expected).permute(2, 0, 1))
    assert spec.to_dict()['squash'] is True and Preprocess(**spec.to_dict()) == spec
    assert 'squash' not in Preprocess().to_dict()  # the names of banks that were made before it was there
