"""A published checkpoint goes into two towers, trains a step and comes back under its library's names, equal."""

import pytest
import torch
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
