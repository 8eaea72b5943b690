"""A dry run says of tasks on pixels what a run would say before it encodes anything."""

import logging

import numpy as np
import pytest
from PIL import Image
from torch import nn

from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.engine.probing.runner import ProbeRunner
from clear.registry import MODELS


class Flat(nn.Module):
    def forward(self, images):
        return dict(embedding=images.mean((2, 3)))


@pytest.fixture
def flat():
    MODELS.register_module(name='Flat', module=Flat)
    yield dict(type='DictEncoder', module=dict(type='Flat'), preprocess=dict(resize=32, crop=32))
    del MODELS._module_dict['Flat']


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three rooms to train on and two to test, in the layout of NYUWalkable."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (('train', 3), ('test', 2)):
        for kind, shape in (('images', (24, 32, 3)), ('walkable', (24, 32))):
            folder = tmp_path / 'data' / 'nyu' / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, shape) if kind == 'images' else 255 * rng.integers(0, 2, shape)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{number}.png')
    return tmp_path


def planned(encoder, **options):
    entry = dict(suite='_base_/tasks/virb/nyu_walkable.py', options=dict(recipe=dict(size=(32, 32)), **options))
    ProbeRunner(dict(encoders=dict(mine=encoder), tasks=[entry])).plan()


RESNET = dict(type='TimmEncoder', arch='test_resnet', preprocess=dict(resize=32, crop=32))


def test_what_fits_is_planned_and_nothing_is_written(place):
    before = sorted(place.rglob('*'))
    planned(RESNET)
    assert sorted(place.rglob('*')) == before


def test_an_encoder_without_maps_and_a_head_for_two_frames(place, flat):
    with pytest.raises(ConfigError, match='Flat has no feature maps: tasks on pixels need conv, .* it gives embedding'):
        planned(flat)
    with pytest.raises(ConfigError, match='SiameseHead, the encoder or the loss does not fit: maps of single images'):
        planned(RESNET, head=dict(type='SiameseHead'))


def test_a_mask_of_another_size_is_named_and_the_plan_goes_on(place, caplog, monkeypatch):
    monkeypatch.setattr(logger, 'handlers', [caplog.handler])
    path = place / 'data' / 'nyu' / 'train' / 'walkable' / '1.png'
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(path)
    with caplog.at_level(logging.WARNING):
        planned(RESNET)
    assert 'mine--nyu_walkable--seed0 would fail: ' in caplog.text and 'walkable/1.png' in caplog.text
