"""ProtoCLIP's two learning rates: the published rule written with loops, and what is repaired in it."""

import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from tiny_text import TINY_CLIP
from torch import nn

from clear.core.errors import ConfigError
from clear.models import ImageTextAlignment
from clear.models.alignment.optim_groups import AlignmentOptimConstructor
from clear.registry import PARAM_SCHEDULERS

TOTAL = 30
LR, LR_TEXT, DECAY = 1e-3, 4e-4, 0.2


def published(step, lr, warmup, image_end, start, end, repaired):
    """(image, rest), as the reference counts; rest ends where it is compared with the shifted step."""
    def curve(t, length):
        return (t + 1) / warmup if t < warmup else 0.5 * (1 + math.cos(math.pi * (t - warmup) / (length - warmup)))

    image = 0.0 if step > image_end else curve(step, image_end)
    rest = 0.0
    if step >= start:
        t = step - start
        rest = 0.0 if t >= warmup and (step if repaired else t) > end else curve(t, end - start)
    return image * lr[0], rest * lr[1]


def make_wrapper(scales=(1.0, 0.5)):
    groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=rate * scale, part=part)
              for part, rate in (('image', LR), ('rest', LR_TEXT)) for scale in scales]
    return OptimWrapper(torch.optim.SGD(groups, lr=LR))


def build(wrapper, **options):
    return PARAM_SCHEDULERS.build(dict(type='TwoRateCosineLR', **options), default_args=dict(optimizer=wrapper))


def walk(scheduler, wrapper, steps):
    found = []
    for _ in range(steps):
        found.append([group['lr'] for group in wrapper.optimizer.param_groups])
        wrapper.optimizer.step()
        scheduler.step()
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize(('warmup', 'image_end', 'start', 'end'), [
    (0, 30, 0, 30), (5, 20, 0, 30), (5, 30, 6, 26), (3, 18, 4, 22), (1, 10, 10, 12)])
def test_rates_of_the_published_rule(warmup, image_end, start, end, legacy):
    expected = torch.tensor([published(step, (LR, LR_TEXT), warmup, image_end, start, end, not legacy)
                             for step in range(TOTAL)], dtype=torch.float64)
    wrapper = make_wrapper()
    found = walk(build(wrapper, warmup=warmup, by_epoch=False, end=TOTAL, image_end=image_end, text_start=start,
                       text_end=end, legacy=legacy), wrapper, TOTAL)
    torch.testing.assert_close(found[:, ::2], expected, rtol=1e-12, atol=1e-18)
    torch.testing.assert_close(found[:, 1::2], expected / 2, rtol=1e-12, atol=1e-18)


def test_the_rest_rises_after_its_end_in_legacy_alone():
    rates = {}
    for legacy in (False, True):
        wrapper = make_wrapper((1.0,))
        rates[legacy] = walk(build(wrapper, warmup=2, by_epoch=False, end=TOTAL, text_start=4, text_end=20,
                                   legacy=legacy), wrapper, TOTAL)[:, 1]
    assert torch.equal(rates[True][:21], rates[False][:21])
    assert rates[False][20:].max() < 1e-15
    assert (rates[True][21:25] > rates[True][20:24]).all() and rates[True][24] > 0 and rates[True][25:].eq(0).all()


def test_epochs_become_iterations():
    wrappers = make_wrapper(), make_wrapper()
    epochs = build(wrappers[0], warmup=7, by_epoch=True, T_max=6, image_end=4, text_start=1, text_end=5,
                   convert_to_iter_based=True, epoch_length=5)
    steps = build(wrappers[1], warmup=7, by_epoch=False, end=TOTAL, image_end=20, text_start=5, text_end=25)
    assert torch.equal(walk(epochs, wrappers[0], TOTAL), walk(steps, wrappers[1], TOTAL))
    assert not epochs.by_epoch


def test_without_ends_both_are_one_warm_up_and_cosine():
    wrappers = make_wrapper(), make_wrapper()
    found = walk(build(wrappers[0], warmup=4, by_epoch=False, end=TOTAL), wrappers[0], TOTAL)
    other = PARAM_SCHEDULERS.build(dict(type='WarmupCosineLR', warmup=4, by_epoch=False, end=TOTAL),
                                   default_args=dict(optimizer=wrappers[1]))
    torch.testing.assert_close(found, walk(other, wrappers[1], TOTAL), rtol=1e-12, atol=0)


@pytest.mark.parametrize('stop', [0, 3, 12, 25])
def test_resumed_rates_are_those_without_a_stop(stop, tmp_path):
    options = dict(warmup=3, by_epoch=False, end=TOTAL, image_end=18, text_start=4, text_end=22)
    wrapper = make_wrapper()
    whole = walk(build(wrapper, **options), wrapper, TOTAL)
    wrapper = make_wrapper()
    scheduler = build(wrapper, **options)
    walk(scheduler, wrapper, stop)
    torch.save(dict(optimizer=wrapper.state_dict(), scheduler=scheduler.state_dict()), tmp_path / 'state.pth')
    state = torch.load(tmp_path / 'state.pth', weights_only=True)
    wrapper = make_wrapper()
    scheduler = build(wrapper, **options)
    wrapper.load_state_dict(state['optimizer'])
    scheduler.load_state_dict(state['scheduler'])
    assert torch.equal(walk(scheduler, wrapper, TOTAL - stop), whole[stop:])


@pytest.mark.parametrize(('options', 'message'), [
    (dict(), 'T_max'), (dict(end=9, warmup=9), 'image tower trains for 9 steps'),
    (dict(end=9, warmup=3, text_start=6), 'rest trains for 3 steps'), (dict(end=9, image_end=0), 'image_end'),
    (dict(end=9, text_start=-1), 'text_start'), (dict(end=9, text_end=2.5), 'text_end'),
    (dict(end=9, legacy='no'), 'legacy')])
def test_wrong_times(options, message):
    with pytest.raises(ConfigError, match=message):
        build(make_wrapper(), by_epoch=False, **options)


def test_groups_without_a_part_are_refused():
    wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1))
    with pytest.raises(ConfigError, match='two_rates=True'):
        build(wrapper, by_epoch=False, end=9)


def make_model():
    text = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    image = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    model = ImageTextAlignment(image, text, dict(type='InfoNCELoss'),
                               image_head=dict(type='ProjectionMLP', out_channels=16))
    model.text_proto_head = nn.Linear(3, 3)
    return model


def four_groups(model, **paramwise):
    """Name -> (part, rate, decay)."""
    wrapper = AlignmentOptimConstructor(dict(optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY)),
                                        dict(two_rates=True, **paramwise))(model)
    names = {id(value): name for name, value in model.named_parameters()}
    groups = [(group['part'], group['lr'], group['weight_decay']) for group in wrapper.optimizer.param_groups]
    return groups, {names[id(value)]: key for key, group in zip(groups, wrapper.optimizer.param_groups)
                    for value in group['params']}


@pytest.mark.parametrize('lr_text', [None, LR_TEXT])
def test_four_groups(lr_text):
    model = make_model()
    groups, found = four_groups(model, **({} if lr_text is None else dict(lr_text=lr_text)))
    rest = LR if lr_text is None else lr_text
    assert set(groups) == {('image', LR, DECAY), ('image', LR, 0.0), ('rest', rest, DECAY), ('rest', rest, 0.0)}
    assert len(groups) == 4 and set(found) == {name for name, _ in model.named_parameters()}
    for name, value in model.named_parameters():
        is_image = name.startswith(('image_encoder', 'image_head'))
        spared = value.ndim < 2 or any(part in name for part in ('bn', 'ln', 'bias', 'logit_scale', 'proto_head'))
        assert found[name] == ('image' if is_image else 'rest', LR if is_image else rest, 0.0 if spared else DECAY)
    assert found['text_encoder.model.positional_embedding'][2] == DECAY, 'as ProtoCLIP'
    assert found['text_proto_head.weight'][2] == 0 and found['logit_scale'][0] == 'rest'


def test_rates_by_depth_hold_beside_two_rates():
    _, found = four_groups(make_model(), lr_text=LR_TEXT, layer_decay_text=0.5)
    assert found['text_encoder.model.token_embedding.weight'][1] == pytest.approx(LR_TEXT * 0.5 ** 4)
    assert found['image_encoder.model.conv1.weight'][1] == LR


@pytest.mark.parametrize(('paramwise', 'message'), [
    (dict(lr_text=1e-3), 'needs two_rates=True'), (dict(two_rates=True, lr_text=-1), 'lr_text'),
    (dict(two_rates=1), 'two_rates')])
def test_wrong_two_rates(paramwise, message):
    with pytest.raises(ConfigError, match=message):
        AlignmentOptimConstructor(dict(optimizer=dict(type='SGD', lr=1)), paramwise)
