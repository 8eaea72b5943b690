"""A published checkpoint goes into two towers, trains a step and comes back under its library's names, equal."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_text import TEXTS, TINY_CLIP, write_two_towers

from clear.core.errors import ConfigError
from clear.models import HuggingFaceImageEncoder, HuggingFaceTextEncoder, OpenCLIPImageEncoder, OpenCLIPTextEncoder
from clear.models.towers.export import open_clip_state, save_hugging_face


def train(image, text):
    images = torch.rand(len(TEXTS), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD([*image.parameters(), *text.parameters()], lr=0.1)
    (image.train()(images) - text.train()(TEXTS)).square().sum().backward()
    optimiser.step()
    return images, image.eval(), text.eval()


@pytest.mark.parametrize('custom_text', [False, True])
def test_open_clip(tmp_path, custom_text):
    import open_clip

    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    torch.manual_seed(0)
    first, second = (kind(embed_dim=16, text_cfg=TINY_CLIP['text_cfg'], vision_cfg=TINY_CLIP['vision_cfg']).eval()
                     for _ in range(2))
    torch.save(first.state_dict(), tmp_path / 'clip.pt')
    options = dict(arch='ViT-B-32', model_args=TINY_CLIP, weights=tmp_path / 'clip.pt', trainable=True)
    image, text = OpenCLIPImageEncoder(**options), OpenCLIPTextEncoder(**options)
    tokens = open_clip.tokenize(TEXTS, context_length=24)
    images, image, text = train(image, text)
    second.load_state_dict(open_clip_state(image, text, logit_scale=50.0, custom_text=custom_text))
    with torch.no_grad():
        torch.testing.assert_close(second.encode_image(images), image(images))
        torch.testing.assert_close(second.encode_text(tokens), text(TEXTS))
        assert (second.encode_text(tokens) - first.encode_text(tokens)).abs().max() > 1e-4
    assert second.logit_scale.exp().item() == pytest.approx(50)


@pytest.mark.parametrize('family', ['CLIP', 'Siglip', 'AltCLIP', 'ChineseCLIP'])
def test_transformers(tmp_path, family):
    transformers = pytest.importorskip('transformers')
    size = dict(projection_size=48) if family == 'Siglip' else {}  # SigLIP's image side has no projection
    folder = write_two_towers(tmp_path / 'm', family, **size)
    image, text = (kind(folder, trainable=True) for kind in (HuggingFaceImageEncoder, HuggingFaceTextEncoder))
    images, image, text = train(image, text)
    save_hugging_face(image, text, tmp_path / 'back', logit_scale=20.0)
    model, report = getattr(transformers, f'{family}Model').from_pretrained(tmp_path / 'back', output_loading_info=True)
    assert not report['missing_keys'] and not report['unexpected_keys']
    with torch.no_grad():
        torch.testing.assert_close(model.eval().get_image_features(pixel_values=images), image(images))
    again = HuggingFaceTextEncoder(tmp_path / 'back')
    assert torch.equal(again.encode(TEXTS), text.encode(TEXTS)) and again.logit_scale == pytest.approx(20, rel=1e-4)
    assert (again.encode(TEXTS) - HuggingFaceTextEncoder(folder).encode(TEXTS)).abs().max() > 1e-4


@pytest.mark.parametrize('family, changes', [
    ('CLIP', dict(resize=40, interpolation='bilinear', mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7))),
    ('CLIP', dict(resize=None)), ('Siglip', dict(mean=(0.5,) * 3, std=(0.5,) * 3)), ('Siglip', dict(resize=36)),
    ('AltCLIP', {}), ('ChineseCLIP', dict(resize=40))])
def test_the_processor_goes_with_the_towers(tmp_path, family, changes):
    transformers = pytest.importorskip('transformers')
    size = dict(projection_size=48) if family == 'Siglip' else {}
    folder = write_two_towers(tmp_path / 'm', family, **size)
    image, text = HuggingFaceImageEncoder(folder, preprocess=changes), HuggingFaceTextEncoder(folder)
    save_hugging_face(image, text, tmp_path / 'back')
    assert HuggingFaceImageEncoder(tmp_path / 'back').preprocess == image.preprocess
    # An image as wide as high, from which both cut the same square, and which no one enlarges.
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    expected = image.preprocess.build()(picture)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / 'back', use_fast=False)
    found = processor(picture, return_tensors='pt')['pixel_values'][0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # SigLIP's own has no crop, and AltCLIP's tokenizer may lack a package.
    if family != 'AltCLIP' and (family != 'Siglip' or 'resize' not in changes):
        both = transformers.AutoProcessor.from_pretrained(tmp_path / 'back', use_fast=False)
        torch.testing.assert_close(both.image_processor(picture, return_tensors='pt')['pixel_values'][0], expected,
                                   rtol=0, atol=1e-5)


def test_towers_of_no_one_model_are_refused(tmp_path):
    options = dict(arch='ViT-B-32', model_args=TINY_CLIP)
    wide = dict(arch='ViT-B-32', model_args=dict(TINY_CLIP, embed_dim=24))
    with pytest.raises(ConfigError, match='the image tower ends in 16 channels and the text tower in 24'):
        open_clip_state(OpenCLIPImageEncoder(**options), OpenCLIPTextEncoder(**wide))
    with pytest.raises(ConfigError, match='quick_gelu is True in the image tower and False in the text tower'):
        open_clip_state(OpenCLIPImageEncoder(**options, quick_gelu=True), OpenCLIPTextEncoder(**options))
    net = dict(TINY_CLIP, vision_cfg=dict(layers=[1, 1, 1, 1], width=8, image_size=32))
    image = OpenCLIPImageEncoder('RN50', model_args=net)  # a ResNet has ReLU
    assert open_clip_state(image, OpenCLIPTextEncoder(**options, quick_gelu=True))
    pytest.importorskip('transformers')
    folder = write_two_towers(tmp_path / 'm', 'CLIP')
    image = HuggingFaceImageEncoder(folder, preprocess=dict(channel_order='BGR'))
    with pytest.raises(ConfigError, match="cannot say channel_order='BGR'"):
        save_hugging_face(image, HuggingFaceTextEncoder(folder), tmp_path / 'back')


def test_what_has_no_place_there(tmp_path):
    options = dict(arch='ViT-B-32', model_args=TINY_CLIP)
    image, text = OpenCLIPImageEncoder(**options), OpenCLIPTextEncoder(**options)
    with pytest.raises(ConfigError, match='the text tower has prompt, for which the library has no place'):
        open_clip_state(image, OpenCLIPTextEncoder(**options, n_prompt=2))
    with pytest.raises(ConfigError, match='the image tower has .*lora_down.*merged_copy'):
        open_clip_state(OpenCLIPImageEncoder(**options, trainable=dict(lora=dict(rank=2))), text)
    with pytest.raises(ConfigError, match='the image tower is OpenCLIPTextEncoder, expected OpenCLIPImageEncoder'):
        open_clip_state(text, text)
    with pytest.raises(ConfigError, match='expected HuggingFaceImageEncoder'):
        save_hugging_face(image, text, tmp_path)
