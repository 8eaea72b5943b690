"""The published recipes' numbers, written here a second time from the papers and their authors' code."""

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from short_runs import CONFIGS

import clear.engine.training.optimisation  # noqa: F401  (registers)
from clear.core.config import load_config
from clear.registry import MODELS

# Recipe: optimiser, rate for the whole batch, weight decay, then what the model is told.
VALUES = {
    'mocov1_resnet50_8xb32-step-200e_imagenet': ('SGD', 0.03, 1e-4, dict(
        queue_size=65536, momentum=0.999, temperature=0.07)),
    'mocov2_resnet50_8xb32-cos-200e_imagenet': ('SGD', 0.03, 1e-4, dict(
        queue_size=65536, momentum=0.999, temperature=0.2)),
    'mocov2_resnet50_8xb32-cos-800e_imagenet': ('SGD', 0.03, 1e-4, dict(momentum=0.999, temperature=0.2)),
    'mocov2_resnet50_8xb32-cos-200e_yfcc-b0': ('SGD', 0.03, 1e-4, dict(momentum=0.999, temperature=0.2)),
    'clsa-single_resnet50_8xb32-cos-200e_imagenet': ('SGD', 0.03, 1e-4, dict(
        queue_size=65536, momentum=0.999, temperature=0.2, clsa_t=0.2, alpha=1.0, num_weak=1, num_strong=1)),
    'clsa-multi_resnet50_8xb32-cos-200e_imagenet': ('SGD', 0.03, 1e-4, dict(num_weak=5, num_strong=5, alpha=1.0)),
    'simclr_resnet50_8xb32-cos-200e_imagenet': ('PublishedLARS', 0.3, 1e-6, dict(temperature=0.1)),
    # DeepMind's presets of 300 epochs, at a batch of 4,096.
    'byol_resnet50_8xb32-accum16-cos-300e_imagenet': ('PublishedLARS', 0.3 * 4096 / 256, 1e-6, dict(momentum=0.99)),
    'simsiam_resnet50_8xb32-cos-100e_imagenet': ('SGD', 0.05, 1e-4, dict()),
    'barlowtwins_resnet50_8xb32-cos-300e_imagenet': ('PublishedLARS', 0.2, 1.5e-6, dict(lambd=0.0051)),
    'vicreg_resnet50_8xb32-cos-200e_imagenet': ('PublishedLARS', 0.2, 1e-6, dict(
        invariance=25.0, variance=25.0, covariance=1.0)),
    'swav_resnet50_8xb32-mcrop-cos-200e_imagenet': ('PublishedLARS', 0.6, 1e-6, dict(
        num_prototypes=3000, temperature=0.1, epsilon=0.05, sinkhorn_iterations=3, queue_size=3840,
        queue_start_epoch=15, freeze_iterations=5005)),
    'dino_resnet50_8xb32-mcrop-cos-100e_imagenet': ('SGD', 0.03, 1e-4, dict(
        momentum=0.996, student_temp=0.1, teacher_temp=0.04)),
    'dino_vit-small-p16_8xb32-mcrop-cos-100e_imagenet': ('AdamW', 5e-4, 0.04, dict(
        momentum=0.996, student_temp=0.1, teacher_temp=0.07, warmup_teacher_temp=0.04)),
}
# Share of the rate at which the schedule ends, where it is not 0.
FLOORS = {'swav_resnet50_8xb32-mcrop-cos-200e_imagenet': 1e-3, 'barlowtwins_resnet50_8xb32-cos-300e_imagenet': 1e-3,
          'vicreg_resnet50_8xb32-cos-200e_imagenet': 1e-3}
# (share of the rate, weight decay, adapted by LARS) of biases and BatchNorm, where it is not that of weights.
PLAIN = {'simclr': (1.0, 0.0, False), 'byol': (1.0, 0.0, False), 'barlowtwins': (0.0048 / 0.2, 0.0, False),
         'vicreg': (1.0, 0.0, False)}


def read(name):
    return load_config(CONFIGS / 'selfsup' / f'{name}.py')[0]


@pytest.mark.parametrize('name', VALUES)
def test_rates_and_the_model(name):
    kind, lr, weight_decay, model = VALUES[name]
    cfg = read(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.weight_decay) == (kind, weight_decay)
    assert optimizer.lr == pytest.approx(lr)
    if kind != 'AdamW':
        assert optimizer.momentum == 0.9
    assert {key: cfg.model.get(key) for key in model} == model


@pytest.mark.parametrize('name', [name for name, values in VALUES.items() if values[0] == 'PublishedLARS'])
def test_the_form_of_lars(name):
    """SimCLR's TensorFlow code has the rate inside the momentum; SwAV uses apex' LARC; the others have neither."""
    optimizer = read(name).optim_wrapper.optimizer
    assert optimizer.get('rate_in_momentum', False) == name.startswith('simclr')
    assert optimizer.get('separate_norms', False) == name.startswith('swav')


@pytest.mark.parametrize('name', VALUES)
def test_where_the_schedule_ends(name):
    last = read(name).param_scheduler[-1]
    if last.type == 'CosineAnnealingLR' and 'dino' not in name:
        floor = last.get('eta_min_ratio', last.get('eta_min', 0) / VALUES[name][1])
        assert floor == pytest.approx(FLOORS.get(name, 0.0))


@pytest.mark.parametrize('name', [each for each in VALUES if 'vit' not in each])
def test_which_parameters_are_adapted_and_decayed(name):
    cfg = read(name)
    method = name.partition('_')[0]
    # A small network has the names of the large one.
    cfg.model.backbone.update(depth=18)
    cfg.model.neck.update(in_channels=512, hidden_channels=8)
    cfg.optim_wrapper.pop('clip_grad', None)  # of mmengine's own wrapper, which has no other kinds
    init_default_scope('clear')
    model = MODELS.build(cfg.model)
    groups = {id(group['params'][0]): group
              for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
              if len(group['params']) == 1}
    if not groups:  # all in one group
        assert method not in PLAIN
        return
    _, lr, weight_decay, _ = VALUES[name]
    seen = set()
    for key, value in model.named_parameters():
        if not value.requires_grad or id(value) not in groups:
            continue
        group = groups[id(value)]
        is_plain = value.ndim == 1 and method in PLAIN
        share, decay, is_adapted = PLAIN[method] if is_plain else (1.0, weight_decay, True)
        assert group['lr'] == pytest.approx(lr * share), key
        assert group['weight_decay'] == decay, key
        assert group.get('lars_exclude', False) != is_adapted, key
        seen.add(is_plain)
    assert seen == ({True, False} if method in PLAIN else {False})


def test_the_predictor_of_simsiam_keeps_its_rate():
    assert read('simsiam_resnet50_8xb32-cos-100e_imagenet').optim_wrapper.paramwise_cfg == dict(
        custom_keys=dict(predictor=dict(fix_lr=True)))
