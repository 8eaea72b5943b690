"""Two towers with heads and a loss: what locks, what is compared, and what is refused before training."""

import math

import open_clip
import open_clip.loss
import pytest
import torch
from tiny_text import TINY_CLIP
from torch import nn

from clear.core.errors import ConfigError
from clear.models import AlignedEncoder, ImageTextAlignment
from clear.models.losses import InfoNCELoss
from clear.registry import MODELS

TEXTS = ['a photo of a cat', 'a dog', 'two ships', 'no', 'an old truck']
IMAGE = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
DINO_HEAD = dict(type='DINOHead', num_layers=2, hidden_channels=12, bottleneck_channels=6, out_channels=9)


def model_of(loss='InfoNCELoss', image=True, text=True, **options):
    torch.manual_seed(0)
    loss = dict(type=loss) if isinstance(loss, str) else loss
    return ImageTextAlignment({**IMAGE, 'trainable': image}, {**TEXT, 'trainable': text}, loss, **options)


def images(seed=1):
    return torch.randn(len(TEXTS), 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def with_gradient(module):
    return {name for name, parameter in module.named_parameters() if parameter.grad is not None
            and parameter.grad.abs().sum() > 0}


def unit_features(model):
    return [nn.functional.normalize(encode(value), dim=1) for encode, value in (
        (model.image_encoder, images()), (model.text_encoder, TEXTS))]


def test_loss_and_gradients_are_those_of_open_clip_by_hand():
    model = model_of().train()
    out = model(images(), TEXTS, mode='loss')
    out['loss'].backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    expected = open_clip.ClipLoss()(*unit_features(model), model.logit_scale.exp())
    expected.backward()
    torch.testing.assert_close(out['loss'], expected)
    assert out['logit_scale'].item() == pytest.approx(1 / 0.07)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6)
    assert 'logit_scale' in found and len(found) > 60


@pytest.mark.parametrize('image, text', [(True, False), (False, True), (False, False)])
def test_a_locked_tower_stays_in_eval_mode_and_gets_no_gradient(image, text):
    head = dict(type='ProjectionMLP')
    model = model_of(image=image, text=text, image_head=head, text_head=head, joint_dim=10).train()
    assert (model.image_encoder.training, model.text_encoder.training) == (image, text)
    assert model.image_head.training and model.embed_dim('image') == model.embed_dim('text') == 10
    model(images(), TEXTS, mode='loss')['loss'].backward()
    assert bool(with_gradient(model.image_encoder)) == image and bool(with_gradient(model.text_encoder)) == text
    assert with_gradient(model.image_head)
    assert (model.is_locked('image'), model.is_locked('text')) == (not image, not text)


def test_a_locked_teacher_is_detached_and_the_config_may_say_otherwise():
    assert model_of(text=False).criterion.detach_teacher
    assert not model_of(text=True).criterion.detach_teacher
    assert not model_of(dict(type='InfoNCELoss', detach_teacher=False), text=False).criterion.detach_teacher
    assert not model_of(image=True, text=False, teacher='image').criterion.detach_teacher
    assert model_of(image=False, teacher='image').criterion.detach_teacher
    headed = model_of(text=False, text_head=dict(type='ProjectionMLP')).train()
    headed(images(), TEXTS, mode='loss')['loss'].backward()
    assert not headed.criterion.detach_teacher and with_gradient(headed.text_head), 'or its head would never train'
    frozen = model_of(dict(type='CrossModalDINOLoss', out_dim=9), text=False, image_head=DINO_HEAD, text_head=DINO_HEAD)
    assert frozen.criterion.detach_teacher


def test_teacher_comes_first_whichever_tower_it_is():
    class First(InfoNCELoss):
        def compare(self, teacher, student, given):
            return teacher.sum() * 2 + student.sum()

    for teacher in ('text', 'image'):
        model = model_of(First(), teacher=teacher)
        found = model.compare(dict(image=torch.ones(1, 4), text=torch.full((1, 4), 10.0)))
        assert found == (84 if teacher == 'text' else 48)


def test_a_loss_over_prototypes_has_frozen_teacher_heads_with_the_directions_of_the_student():
    model = model_of(dict(type='CrossModalDINOLoss', out_dim=9), image_head=DINO_HEAD, text_head=DINO_HEAD).train()
    with torch.no_grad():
        model.image_head.last_layer.add_(1)
    model(images(), TEXTS, mode='loss')['loss'].backward()
    assert model.text_head.last_layer.equal(model.image_head.last_layer)
    assert not with_gradient(model.text_head) and 'last_layer' in with_gradient(model.image_head)
    assert model.criterion.center.abs().sum() > 0 and 'criterion.center' in model.state_dict()


def test_the_scale_is_kept_in_its_range_before_it_is_used():
    model = model_of(logit_scale=2.0, max_logit_scale=50).train()
    assert model.logit_scale.item() == pytest.approx(math.log(2))
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    assert model(images(), TEXTS, mode='loss')['logit_scale'].item() == pytest.approx(50)
    with torch.no_grad():
        model.logit_scale.fill_(-3.0)
    out = model(images(), TEXTS, mode='loss')
    out['loss'].backward()
    assert out['logit_scale'] == 1 and model.logit_scale.grad.abs() > 0
    free = model_of(max_logit_scale=None).train()
    with torch.no_grad():
        free.logit_scale.fill_(9.0)
    assert free(images(), TEXTS, mode='loss')['logit_scale'] > 8000
    model.eval()
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    model(images(), TEXTS, mode='loss')
    assert model.logit_scale == 9, 'a measurement changes nothing'


@pytest.mark.parametrize('scale, most', [(1, 100.0), (100, 100.0), (0.5, None), (500, None), (20, 20)])
def test_a_scale_that_is_given_lasts_through_the_first_step(scale, most):
    model = model_of(logit_scale=scale, max_logit_scale=most).train()
    assert model(images(), TEXTS, mode='loss')['logit_scale'].item() == pytest.approx(scale)


def test_a_sigmoid_loss_begins_with_scale_10_and_bias_minus_10():
    model = model_of('SigLIPLoss').train()
    assert model.logit_scale.exp().item() == pytest.approx(10) and model.logit_bias == -10
    out = model(images(), TEXTS, mode='loss')
    expected = open_clip.loss.SigLipLoss()(*unit_features(model), model.logit_scale.exp(), model.logit_bias)
    torch.testing.assert_close(out['loss'], expected)


def test_simcse_is_a_term_of_its_own_and_alone_needs_no_image():
    class Noisy(nn.Module):
        out_channels = 16

        def forward(self, embedded):
            return nn.functional.dropout(embedded, 0.3, self.training)

    model = model_of(simcse_weight=0.5, align_weight=0.0, text_head=Noisy()).train()
    torch.manual_seed(3)
    out = model(None, TEXTS, mode='loss')
    torch.manual_seed(3)
    first, second = model.encode_text(TEXTS), model.encode_text(TEXTS)
    assert not first.equal(second) and 'loss' not in out
    expected = InfoNCELoss()(first, second, logit_scale=math.exp(2.996)) * 0.5
    torch.testing.assert_close(out['loss_simcse'], expected)


def test_labels_reach_a_loss_that_takes_them():
    model = model_of('UniCLLoss').train()
    labels = torch.tensor([0, 0, 1, -1, -1])
    plain, grouped = (model(images(), TEXTS, labels=given, mode='loss')['loss'] for given in (None, labels))
    assert plain != grouped


@pytest.mark.parametrize('options, message', [
    (dict(teacher='both'), "expected 'image' or 'text'"), (dict(loss=dict(type='FocalLoss')), 'expected one of two'),
    (dict(loss='SimRegLoss', logit_scale=3.0), 'SimRegLoss uses none'),
    (dict(image_head=dict(type='ProjectionMLP', out_channels=5)), 'that of the image is 5, that of the text 16'),
    (dict(image_head=dict(type='ProjectionMLP'), text_head=dict(type='ProjectionMLP')), 'set joint_dim'),
    (dict(loss=dict(type='ProtoCPCLoss', out_dim=9)), 'image_head must end in them'),
    (dict(loss=dict(type='ProtoCPCLoss', out_dim=9), image_head=DINO_HEAD, text_head=dict(type='ProjectionMLP')),
     'needs a DINOHead|set joint_dim'),
    (dict(loss=dict(type='ProtoCPCLoss', out_dim=9), image_head=DINO_HEAD, text_head={
        **DINO_HEAD, 'bottleneck_channels': 5}), 'directions of both heads must have one shape'),
    (dict(logit_scale=0.5), r'logit_scale is 0.5, but training keeps it in 1 \.\.\. 100'),
    (dict(logit_scale=500), 'logit_scale is 500, but'), (dict(logit_scale=30, max_logit_scale=20), r'in 1 \.\.\. 20'),
    (dict(max_logit_scale=0.5), 'max_logit_scale'), (dict(align_weight=-1), 'align_weight')])
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        model_of(**options)


def test_the_width_of_a_head_follows_from_the_tower_without_one():
    model = model_of(image_head=dict(type='DINOHead', num_layers=1))
    assert model.embed_dim('image') == 16 and model.image_head.last_layer is None
    assert model.image_head.in_channels == 16
    wide = model_of(dict(type='RKDLoss'), image_head=dict(type='ProjectionMLP', out_channels=5))
    assert wide(images(), TEXTS, mode='loss')['loss'] > 0, 'RKD takes unequal widths'


def test_an_aligned_pair_is_an_encoder_with_text(tmp_path):
    deep = dict(TINY_CLIP, vision_cfg=dict(TINY_CLIP['vision_cfg'], layers=4))
    config = dict(type='ImageTextAlignment', image_encoder=dict(IMAGE, model_args=deep), text_encoder=TEXT,
                  loss=dict(type='InfoNCELoss'),
                  image_head=dict(type='ProjectionMLP'))
    torch.manual_seed(5)
    trained = MODELS.build(dict(config))
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'latest.pth')
    torch.manual_seed(6)
    encoder = AlignedEncoder(config, str(tmp_path / 'latest.pth'))
    trained.eval()
    torch.testing.assert_close(encoder(images()), trained.encode_image(images()))
    torch.testing.assert_close(encoder.encode_text(TEXTS), trained.encode_text(TEXTS), rtol=1e-4, atol=1e-5)
    assert encoder.embed_dim == 16 and not any(each.requires_grad for each in encoder.parameters())
    assert encoder.train().model.training is False
    torch.manual_seed(7)
    other = AlignedEncoder(config)
    assert other.fingerprint() != encoder.fingerprint()
    assert [each.shape[1] for each in encoder.feature_maps(images()[:1])] == list(encoder.map_channels)
