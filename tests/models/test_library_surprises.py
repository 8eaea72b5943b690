"""What libraries under the towers do that one would not expect, as far as it decides what ours give."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_text import TEXTS, TINY_CLIP, write_bert, write_two_towers
from torch import nn

from clear.models import (
    HuggingFaceTextEncoder,
    ImageTextAlignment,
    OpenCLIPImageEncoder,
    OpenCLIPTextEncoder,
    SentenceTransformerEncoder,
)
from clear.models.losses import InfoNCELoss


@pytest.mark.parametrize('size, axis, shift', [((500, 375), 2, 0), ((224, 227), 1, 1), ((640, 427), 2, 1),
                                               ((427, 640), 1, 1), ((500, 334), 2, 1)])
def test_the_window_of_a_processor_of_transformers_lies_a_pixel_off(size, axis, shift):
    """Where what is cut off leaves 3 when divided by 4 (L22). Ours is open_clip's, bit for bit."""
    import open_clip

    transformers = pytest.importorskip('transformers')
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    vision = dict(TINY_CLIP['vision_cfg'], image_size=224, patch_size=56)
    tower = OpenCLIPImageEncoder('ViT-B-32', model_args=dict(TINY_CLIP, vision_cfg=vision))
    ours, theirs = tower.preprocess.build()(image), transformers.CLIPImageProcessor()(image, return_tensors='pt')
    published = open_clip.image_transform(224, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN,
                                          std=open_clip.OPENAI_DATASET_STD)
    torch.testing.assert_close(ours, published(image), rtol=0, atol=1e-6)
    for moved in (-1, 0, 1):
        difference = (ours.roll(moved, axis) - theirs['pixel_values'][0]).narrow(axis, 2, 220).abs().max()
        assert (difference < 1e-5) == (moved == shift)


def test_an_adapter_in_a_pair_leaves_the_scale_to_train(tmp_path):
    """The library freezes everything else of a model with two towers, its scale too (L20); here that is the pair's."""
    library = pytest.importorskip('adapters')
    from transformers import CLIPModel

    folder = write_two_towers(tmp_path / 'm', 'CLIP')
    whole = CLIPModel.from_pretrained(folder)
    library.init(whole)
    whole.add_adapter('first', config='seq_bn')
    whole.train_adapter('first')
    assert not whole.logit_scale.requires_grad and not whole.text_projection.weight.requires_grad
    pair = ImageTextAlignment(OpenCLIPImageEncoder('ViT-B-32', model_args=dict(TINY_CLIP, embed_dim=20)),
                              HuggingFaceTextEncoder(folder, adapter='bottleneck_adapter'), InfoNCELoss())
    trains = {name for name, value in pair.named_parameters() if value.requires_grad}
    assert 'logit_scale' in trains and all('.added.' in name for name in trains - {'logit_scale'})
    pair.train()(torch.rand(6, 3, 32, 32), TEXTS, mode='loss')['loss'].backward()
    assert pair.logit_scale.grad.abs() > 0


def test_a_lora_adapter_is_scaled_by_alpha_over_rank(tmp_path):
    """(L21), so 16 / 8 as this system's own LoRA."""
    pytest.importorskip('adapters')
    encoder = HuggingFaceTextEncoder(write_bert(tmp_path / 'm'), 'mean', adapter='lora_adapter')
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if '.added.' in name:
                value.normal_()
    encoder.save_merged(tmp_path / 'merged')
    before, after = encoder.state_dict(), HuggingFaceTextEncoder(tmp_path / 'merged', 'mean').state_dict()
    layer = 'model.encoder.layer.1.attention.self.query'
    up, down = (before[f'{layer}.loras.added.lora_{part}'] for part in 'BA')
    torch.testing.assert_close(after[f'{layer}.weight'], before[f'{layer}.weight'] + 2 * up @ down)


def test_padding_on_the_left_would_move_the_words(tmp_path):
    """Absolute positions shift with it (L12): such a tokenizer is made to pad on the right."""
    library = pytest.importorskip('sentence_transformers')
    folder = write_bert(tmp_path / 'm', initializer_range=0.5)
    file = tmp_path / 'm' / 'tokenizer_config.json'
    file.write_text(json.dumps(dict(json.loads(file.read_text()), padding_side='left')))
    model = library.SentenceTransformer(folder, device='cpu')
    alone = torch.stack([model.encode(text, convert_to_tensor=True) for text in TEXTS])
    together = model.encode(TEXTS, convert_to_tensor=True)
    assert model.tokenizer.padding_side == 'left' and (together - alone).abs().max() > 1e-2
    for encoder in (SentenceTransformerEncoder(folder), HuggingFaceTextEncoder(folder, 'mean')):
        torch.testing.assert_close(encoder.encode(TEXTS), alone, rtol=0, atol=1e-5)


def test_weights_in_half_precision_become_float32(tmp_path):
    """open_clip leaves embeddings, norms and the scale in float32 (X7): one file has two types of number."""
    import open_clip

    model = open_clip.CLIP(embed_dim=16, text_cfg=TINY_CLIP['text_cfg'], vision_cfg=TINY_CLIP['vision_cfg'])
    open_clip.convert_weights_to_lp(model)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float16, torch.float32}
    torch.save(model.state_dict(), tmp_path / 'half.pt')
    for kind in (OpenCLIPImageEncoder, OpenCLIPTextEncoder):
        tower = kind('ViT-B-32', model_args=TINY_CLIP, weights=tmp_path / 'half.pt')
        assert {value.dtype for value in tower.parameters()} == {torch.float32}
        name = 'transformer.resblocks.0.mlp.c_fc.weight'
        source = model.state_dict()[name if kind is OpenCLIPTextEncoder else f'visual.{name}']
        assert torch.equal(tower.model.state_dict()[name], source.float())


def test_an_average_of_weights_begins_as_a_copy_and_copies_buffers():
    """`EMAHook`'s; timm's of the same decay is the weights themselves at step 1, and averages BatchNorm (L19)."""
    from mmengine.model import ExponentialMovingAverage
    from timm.utils import ModelEmaV3

    def network(weight, mean, count):
        layers = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
        layers[0].weight.data.fill_(weight)
        layers[1].running_mean.fill_(mean)
        layers[1].num_batches_tracked.fill_(count)
        return layers

    def found(average):
        return [average[0].weight.item(), average[1].running_mean.item(), average[1].num_batches_tracked.item()]

    average = ExponentialMovingAverage(network(0, 0, 0), momentum=0.1)
    for weight, expected in ((1, [1, 1, 5]), (2, [1.1, 2, 9])):
        average.update_parameters(network(weight, weight, 4 * weight + 1))
        assert found(average.module) == pytest.approx(expected)
    for step, expected in ((1, [1, 1, 5]), (None, [0.1, 0.1, 5])):
        other = ModelEmaV3(network(0, 0, 0), decay=0.9)
        other.update(network(1, 1, 5), step=step)
        assert found(other.module) == pytest.approx(expected)


@pytest.mark.parametrize('scale', [20.0, 1 / 0.07])
def test_info_nce_is_the_symmetric_ranking_loss_of_sentence_transformers(tmp_path, scale):
    """(X9); their plain one goes one way."""
    library = pytest.importorskip('sentence_transformers')
    losses = pytest.importorskip('sentence_transformers.sentence_transformer.losses')
    torch.manual_seed(0)
    rows = [torch.randn(7, 5) for _ in range(2)]
    model = library.SentenceTransformer(write_bert(tmp_path / 'm'), device='cpu')
    both, one = (getattr(losses, name)(model, scale=scale).compute_loss_from_embeddings(rows, None)
                 for name in ('MultipleNegativesSymmetricRankingLoss', 'MultipleNegativesRankingLoss'))
    ours = InfoNCELoss()(*rows, logit_scale=scale)
    torch.testing.assert_close(ours, both, rtol=1e-5, atol=0)
    assert (ours - one).abs() > 1e-3
