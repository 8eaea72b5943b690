"""What holds for every self-supervised algorithm alike."""

import copy
import itertools
import math

import pytest
import torch
from selfsup_cases import BATCH, CASES, DIM, TinyBackbone, build, make_views, mlp, total, train
from torch import nn

from clear.core.errors import ConfigError
from clear.models import selfsup
from clear.models.selfsup import Encoder, MoCo
from clear.models.selfsup.parts.base import _warn_of_channels_last
from clear.registry import MODELS, SHADOWED

each = pytest.mark.parametrize('name', CASES)
SMALL_RESNET = dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8)
MOMENTUM = {'MoCo': 'encoder_k', 'CLSA': 'encoder_k', 'BYOL': 'momentum_encoder', 'DINO': 'teacher'}


def steps(name, count, start=0):
    return [make_views(name, start + step) for step in range(count)]


def test_the_cases_are_all_there_are():
    algorithms = {name for name, value in vars(selfsup).items() if isinstance(value, type)
                  and issubclass(value, selfsup.SelfSupervisedModel)} - {'SelfSupervisedModel'}
    assert set(CASES) == algorithms
    assert {name for name in CASES if name in SHADOWED} == set(CASES) - {'CLSA', 'VICReg', 'DINO'}
    assert all(MODELS.get(name) is getattr(selfsup, name) for name in CASES)


@each
def test_loss_mode_gives_finite_scalars_and_a_gradient_to_every_trainable_parameter(name):
    model = build(name)
    losses = model(make_views(name), mode='loss')
    assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
    assert not any(value.requires_grad for key, value in losses.items() if 'loss' not in key)
    loss, log = model.parse_losses(losses)
    assert loss == total(losses) and log['loss'] == loss
    loss.backward()
    for key, parameter in model.named_parameters():
        if key.startswith(MOMENTUM.get(name, 'none')):
            assert not parameter.requires_grad and parameter.grad is None, key
        else:
            assert parameter.requires_grad and parameter.grad.abs().sum() > 0, key


@each
def test_tensor_mode_gives_pooled_features(name):
    model = build(name).eval()
    images = make_views(name)[0]
    prefix = {'MoCo': 'encoder_q', 'CLSA': 'encoder_q', 'DINO': 'teacher'}.get(name, 'encoder')
    assert model.backbone is model.get_submodule(f'{prefix}.backbone')
    assert model.embed_dim == DIM
    expected = model.backbone(images)[0].flatten(2).mean(2)
    torch.testing.assert_close(model(images), expected)
    with pytest.raises(ValueError, match="'loss' or 'tensor'"):
        model(images, mode='predict')


@each
def test_state_goes_round(name):
    """A model with the state of another goes on as that one does, also in what is no parameter."""
    first = build(name)
    train(first, steps(name, 3))
    second = build(name, seed=5)
    # Asked before the state is loaded, so that nothing remembered from before may count.
    second(make_views(name), mode='loss')
    result = second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(train(first, steps(name, 3, start=3)), train(second, steps(name, 3, start=3)))
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_states_of_two_algorithms_never_fit():
    keys = {name: set(build(name).state_dict()) for name in CASES}
    # CLSA and MoCo hold the same, and so may continue each other; so may those that differ in the loss alone.
    alike = {frozenset(pair) for pair in itertools.combinations(CASES, 2) if keys[pair[0]] == keys[pair[1]]}
    assert alike == {frozenset(pair) for pair in [('MoCo', 'CLSA'), *itertools.combinations(
        ['SimCLR', 'BarlowTwins', 'VICReg'], 2)]}


@each
def test_in_eval_mode_a_loss_leaves_no_trace(name):
    model = build(name)
    train(model, steps(name, 3))
    model.eval()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(7)
    first = total(model(make_views(name, 9), mode='loss'))
    assert first == total(model(make_views(name, 9), mode='loss'))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def formats(module):
    """Memory formats of the weights of convolutions that are not both at once."""
    weights = [each.weight for each in module.modules() if isinstance(each, nn.Conv2d)]
    return {torch.contiguous_format if weight.is_contiguous() else torch.channels_last for weight in weights
            if not (weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last))}


@each
def test_memory_format_is_chosen_by_the_device(name):
    """Nothing is computed here: a tensor on 'meta' has a shape and strides, as on any device that is no CPU."""
    default, last, first = build(name), build(name, channels_last=True), build(name, channels_last=False)
    assert formats(default) == formats(first) == {torch.contiguous_format}
    assert formats(last) == {torch.channels_last}
    for model in (default, last, first):
        model.to('meta')
    assert formats(default) == formats(last) == {torch.channels_last}
    assert formats(first) == {torch.contiguous_format}
    assert default.evaluated.memory_format == torch.channels_last
    default.to_empty(device='cpu')
    assert formats(default) == {torch.contiguous_format}
    with pytest.raises(ConfigError, match="channels_last is 'yes'; expected True or False"):
        build(name, channels_last='yes')


@pytest.mark.parametrize('channels_last', [None, True, False])
def test_the_network_sees_images_in_its_own_format(channels_last):
    encoder = Encoder(TinyBackbone(channels=64), channels_last=channels_last)
    seen = []
    encoder.backbone.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for given in (images, images.contiguous(memory_format=torch.channels_last)):
            encoder.eval()(given)
    for view in seen:
        assert view.is_contiguous(memory_format=torch.channels_last) == bool(channels_last)
        assert view.is_contiguous() != bool(channels_last)


def build_wide(name, channels_last):
    """In float64, with 64 channels: on some processors torch's float32 kernels of few channels are unsound."""
    torch.manual_seed(0)
    options = {key: dict(value, in_channels=64) if key == 'neck' else value for key, value in CASES[name][0].items()}
    return MODELS.build(dict(type=name, backbone=TinyBackbone(channels=64), channels_last=channels_last,
                             **options)).double()


@each
def test_memory_format_changes_no_result(name):
    last, first = build_wide(name, True), build_wide(name, False)
    views = steps(name, 2)
    torch.testing.assert_close(train(last, views), train(first, views), rtol=1e-9, atol=1e-9)
    for key, value in first.state_dict().items():
        torch.testing.assert_close(last.state_dict()[key], value, rtol=1e-8, atol=1e-8)


def test_channels_last_on_a_cpu_warns_once(caplog):
    _warn_of_channels_last.cache_clear()
    for channels_last in (None, False):
        build_wide('MoCo', channels_last).eval()(make_views('MoCo'), mode='loss')
    assert not caplog.records
    for _ in range(2):
        build_wide('MoCo', True).eval()(make_views('MoCo'), mode='loss')
    [record] = caplog.records
    assert 'Leave it out' in record.message


def test_batch_norm_of_a_wide_batch_is_exact():
    """Sums of 655,360 values each: the default format keeps what a plain sum in float32 would lose."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 1, bias=False), nn.BatchNorm2d(16))
    encoder = Encoder(backbone)
    nn.init.dirac_(backbone[0].weight)
    images = torch.randn(640, 3, 32, 32) + 3
    found = {}
    backbone.register_forward_hook(lambda _module, _inputs, output: found.update(maps=output.detach()))
    wanted = copy.deepcopy(backbone).double()(images.double())
    with torch.no_grad():
        encoder(images)
    assert (found['maps'] - wanted).abs().max() < 1e-5


@pytest.mark.parametrize('name', MOMENTUM)
def test_momentum_encoders_follow_once_per_step_and_keep_their_own_statistics(name):
    model = build(name)
    [(target, source)] = model.momentum_pairs()
    assert target is model.get_submodule(MOMENTUM[name])
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.rand_like(parameter))
    old, new = copy.deepcopy(target.state_dict()), copy.deepcopy(source.state_dict())
    model(make_views(name), mode='loss')
    for key, value in target.named_parameters():
        torch.testing.assert_close(value.detach(), 0.9 * old[key] + 0.1 * new[key])
    mean = target.backbone.bn.running_mean
    assert not torch.equal(mean, old['backbone.bn.running_mean'])
    assert not torch.equal(mean, source.backbone.bn.running_mean)
    moved = copy.deepcopy(target.state_dict())
    model.set_progress(1, 10, 5, is_step_start=False)
    model(make_views(name), mode='loss')
    assert all(torch.equal(value, moved[key]) for key, value in target.named_parameters())
    model.set_progress(2, 10, 5, is_step_start=True)
    model(make_views(name), mode='loss')
    assert not all(torch.equal(value, moved[key]) for key, value in target.named_parameters())


@each
def test_init_weights_starts_momentum_encoders_as_copies(name):
    options, sizes = CASES[name]
    options = copy.deepcopy(options)
    options['neck']['in_channels'] = 64
    backbone = dict(SMALL_RESNET, init_cfg=dict(type='Constant', layer='Conv2d', val=0.25))
    model = MODELS.build(dict(type=name, backbone=backbone, **options))
    model.init_weights()
    assert (model.backbone.conv1.weight == 0.25).all()
    for target, source in model.momentum_pairs():
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


@each
def test_wrong_views_are_refused(name):
    model, views = build(name), make_views(name)
    with pytest.raises(ConfigError, match=f'{name}: got one tensor'):
        model(views[0], mode='loss')
    with pytest.raises(ConfigError, match=f'{name}: the batch has 1 views'):
        model(views[:1], mode='loss')
    with pytest.raises(ConfigError, match=f'{name}: views have shapes'):
        model([views[0][:2], *views[1:]], mode='loss')


def test_an_algorithm_that_takes_two_views_refuses_three():
    with pytest.raises(ConfigError, match='3 views of each image, expected 2'):
        build('MoCo')(make_views('MoCo', sizes=(8, 8, 8)), mode='loss')


def test_autocast_trains_in_half_precision_with_losses_in_single():
    for name in CASES:
        model = build(name).float()
        views = [view.float() for view in make_views(name)]
        with torch.autocast('cpu', torch.bfloat16):
            losses = model(views, mode='loss')
        assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values()), name
        exact = build(name).float()(views, mode='loss')
        assert math.isclose(total(losses).item(), total(exact).item(), rel_tol=0.15, abs_tol=0.15), name


# The encoder


@pytest.mark.parametrize('output', [
    lambda maps: maps, lambda maps: (maps,), lambda maps: [maps[:, :1], maps], lambda maps: maps.mean((2, 3))])
def test_any_form_of_output_of_a_backbone_is_pooled(output):
    backbone = TinyBackbone()
    plain = backbone.forward
    backbone.forward = lambda images: output(plain(images)[0])
    encoder = Encoder(backbone, mlp()).double()
    images = make_views('MoCo')[0]
    assert (encoder.embed_dim, encoder.out_dim, encoder(images).shape) == (DIM, 5, (BATCH, 5))
    torch.testing.assert_close(encoder.pooled(images), plain(images)[0].mean((2, 3)))


def test_building_leaves_modes_and_statistics_alone():
    backbone = TinyBackbone()
    backbone.conv.eval()
    before = copy.deepcopy(backbone.state_dict())
    encoder = Encoder(backbone, mlp(norm=True))
    assert encoder.training and backbone.bn.training and not backbone.conv.training
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_the_network_of_an_image_encoder_trains_from_its_weights():
    config = dict(type='TorchvisionEncoder', arch='resnet18')
    tower = MODELS.build(config)
    model = MoCo(tower, mlp(512), queue_size=8)
    weights = copy.deepcopy(tower.model.state_dict())
    model.init_weights()
    assert all(torch.equal(value, weights[key]) for key, value in model.backbone.state_dict().items())
    assert model.embed_dim == 512 and model.backbone.training
    total(model([torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)], mode='loss')).backward()
    assert all(value.grad is not None for value in model.backbone.parameters())


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match=r'neck \(ProjectionMLP\) takes features of 9 channels.*in_channels=6'):
        Encoder(TinyBackbone(), mlp(9))
    with pytest.raises(ConfigError, match=r'neck \(MoCoV2Neck\) .*ProjectionMLP'):
        Encoder(TinyBackbone(), dict(type='MoCoV2Neck', in_channels=DIM, hid_channels=4, out_channels=3))
    with pytest.raises(ConfigError, match='backbone must be a dict with a type'):
        Encoder('ResNet', mlp())
    with pytest.raises(ConfigError, match=r"backbone \(ResNet\): .*depthh"):
        Encoder(dict(type='ResNet', depthh=18), mlp())
    with pytest.raises(ConfigError, match=r'backbone \(Linear\) does not run on an image'):
        Encoder(nn.Linear(3, 3), mlp())


def test_a_config_is_not_changed():
    config = dict(type='MoCo', backbone=SMALL_RESNET, neck=mlp(64), queue_size=8,
                  data_preprocessor=dict(type='BaseDataPreprocessor'))
    before = copy.deepcopy(config)
    MODELS.build(config)
    assert config == before
