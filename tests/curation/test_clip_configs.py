"""The encoders of the first curation: width, pixels, resize and channel statistics as they were published."""

import pytest
import torch
from short_runs import CONFIGS
from torch import nn

from clear.core.config import load_config
from clear.core.errors import ConfigError
from clear.engine.stages.keys import entries, with_defaults
from clear.models.towers.image import build_encoder

# File -> (numbers, side in pixels).
CLIP = dict(rn50=(1024, 224), rn101=(512, 224), rn50x4=(640, 288), vit_base_p32=(512, 224))


def encoder_of(name):
    return load_config(str(CONFIGS / '_base_/encoders' / f'clip_{name}.py'))[0].to_dict()['encoder']


@pytest.mark.slow
@pytest.mark.parametrize('name', CLIP)
def test_built_without_weights(name):
    cfg = encoder_of(name)
    assert cfg.pop('tag') == 'openai'
    encoder = build_encoder(cfg)
    dim, side = CLIP[name]
    spec = encoder.preprocess
    assert (encoder.embed_dim, spec.resize, spec.crop, spec.interpolation) == (dim, side, side, 'bicubic')
    assert tuple(spec.mean) == (0.48145466, 0.4578275, 0.40821073)
    assert tuple(spec.std) == (0.26862954, 0.26130258, 0.27577711)
    if name == 'vit_base_p32':
        with torch.no_grad():
            assert encoder(torch.zeros(1, 3, side, side)).shape == (1, dim)
        assert not any(isinstance(module, nn.GELU) for module in encoder.modules()), 'QuickGELU alone'


@pytest.mark.parametrize('name', CLIP)
def test_weights_are_fetched_only_when_that_is_asked_for(name):
    with pytest.raises(ConfigError, match='set allow_network=True, or give the file as weights'):
        build_encoder(encoder_of(name))


@pytest.mark.parametrize('name', CLIP)
def test_a_stage_for_each(name):
    cfg = load_config(str(CONFIGS / 'curation' / f'features_clip_{name}.py'))[0].to_dict()
    entry, = entries(with_defaults(cfg))
    assert entry.name == 'features' and entry.stage.encoder == encoder_of(name) and entry.stage.dtype == 'float16'
