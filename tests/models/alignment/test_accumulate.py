"""A batch in parts: gradients, state and draws are those of the whole batch."""

import copy

import pytest
import torch
from ranks import run_ranks
from tiny_text import TINY_CLIP, write_bert
from torch import nn

from clear.core.errors import ConfigError
from clear.core.seeding import seed_everything
from clear.models import ImageTextAlignment

TEXTS = ['a photo of a cat', 'a dog', 'two ships', 'no', 'an old truck', 'the small red car', 'many birds']
IMAGE = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
RESNET = dict(type='TorchvisionEncoder', arch='resnet18', trainable=True)
SEED = dict(type='SEEDLoss', embed_dim=16, queue_size=28, teacher_temp=0.07)


def model_of(accumulate=1, loss='InfoNCELoss', **options):
    torch.manual_seed(0)
    loss = dict(type=loss) if isinstance(loss, str) else loss
    model = ImageTextAlignment(**{**dict(image_encoder=IMAGE, text_encoder=TEXT, loss=loss), **options},
                               accumulate=accumulate)
    return model.double().train()


def images():
    return torch.randn(len(TEXTS), 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(model):
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def step(model, rows=slice(None)):
    model.zero_grad()
    out = model(images()[rows], TEXTS[rows], mode='loss')
    model.parse_losses(out)[0].backward()
    return {name: value.detach() for name, value in out.items()}, gradients(model)


@pytest.mark.parametrize('options', [
    dict(), dict(loss=SEED), dict(loss='RKDLoss', simcse_weight=0.5),
    dict(loss=SEED, teacher='image', image_head=dict(type='ProjectionMLP', out_channels=16))])
@pytest.mark.parametrize('parts', [2, 3, 50])
def test_loss_gradients_and_state_of_the_whole_batch(options, parts):
    whole, chunked = model_of(**options), model_of(parts, **options)
    for _ in range(2):  # a queue holds what the first step has put into it
        expected, found = step(whole), step(chunked)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(dict(chunked.named_buffers()), dict(whole.named_buffers()), rtol=1e-9, atol=1e-11)
    assert len(found[1]) > 60


def test_no_tower_sees_more_than_a_part_at_a_time():
    model, seen = model_of(3), []
    model.image_encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    out = model(images(), TEXTS, mode='loss')['loss']
    assert seen == [2, 2, 3]
    out.backward()
    assert sorted(seen) == [2, 2, 2, 2, 3, 3]
    seen.clear()
    model.eval()(images(), TEXTS)
    assert seen == [7]


def test_the_second_run_draws_what_the_first_drew(tmp_path):
    pytest.importorskip('transformers')
    text = dict(type='HuggingFaceTextEncoder', model=write_bert(tmp_path / 'bert'), text_pooler='mean', trainable=True)
    options = dict(text_encoder=text, image_head=dict(type='ProjectionMLP', out_channels=32))
    model, plain = model_of(2, **options), model_of(**options)
    assert any(module.p for module in model.text_encoder.modules() if isinstance(module, nn.Dropout))
    seed_everything(5)
    loss, found = step(model)
    drawn = torch.rand(1)
    seed_everything(5)
    parts = slice(0, 3), slice(3, 7)
    texts = torch.cat([plain.text_encoder(TEXTS[part]) for part in parts])
    seen = torch.cat([plain.image_encoder(images()[part]) for part in parts])
    expected = plain.compare(dict(text=texts, image=plain.image_head(seen)))
    assert torch.rand(1) == drawn  # and the generators go on as after one run
    expected.backward()
    torch.testing.assert_close(loss['loss'], expected.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found, gradients(plain), rtol=1e-9, atol=1e-11)
    assert not torch.equal(model.eval()(images(), TEXTS)[1], texts)


def _one_of_two(rank, model):
    ddp = nn.parallel.DistributedDataParallel(copy.deepcopy(model), broadcast_buffers=False)
    rows = slice(0, 3) if rank == 0 else slice(3, 6)
    ddp(images()[rows], TEXTS[rows], mode='loss')['loss'].backward()
    return gradients(ddp.module), dict(ddp.module.named_buffers())


@pytest.mark.parametrize('loss', ['InfoNCELoss', SEED])
def test_two_processes_with_parts_equal_one_without(loss, tmp_path):
    loss = dict(loss, queue_size=12) if isinstance(loss, dict) else loss
    found = run_ranks(_one_of_two, 2, tmp_path, model_of(2, loss=loss))
    whole = model_of(loss=loss)
    _, expected = step(whole, slice(0, 6))
    for gradient, buffers in found:
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(buffers, dict(whole.named_buffers()), rtol=1e-8, atol=1e-10)


def test_batch_norm_must_be_frozen():
    with pytest.raises(ConfigError, match='image tower has 20 BatchNorm layers in train mode .model.bn1'):
        model_of(2, image_encoder=RESNET, image_head=dict(type='ProjectionMLP', out_channels=16))
    model_of(2, image_encoder=dict(RESNET, trainable=False), image_head=dict(type='ProjectionMLP', out_channels=16))
    with pytest.raises(ConfigError, match='accumulate is 0'):
        model_of(0)
