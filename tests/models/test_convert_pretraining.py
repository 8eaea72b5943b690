"""Our own pretraining checkpoints out to other projects' files, and MoCo's published ones in and back."""

import importlib.util
import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml
from narrow_resnet import DIM, MMPRETRAIN, NarrowResNet, narrow_resnets
from torchvision.models import resnet, resnet18, resnet50

from clear.core.config import configs_folder
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors, save_tensors
from clear.models import load_weights
from clear.models.converters.convert import TARGETS, convert_weights, write_weights
from clear.models.towers.image import TorchvisionEncoder
from clear.models.weights.detectron2 import to_detectron2
from clear.registry import MODELS


@pytest.fixture(scope='module', autouse=True)
def narrow():
    with narrow_resnets():
        yield


def random_state(state, seed):
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else
            torch.full_like(value, 4) for key, value in state.items()}


def trunk(seed=3):
    return random_state({key: value for key, value in resnet18(weights=None).state_dict().items()
                         if not key.startswith('fc.')}, seed)


def published(num_layers=2):
    """A checkpoint as facebookresearch/moco writes it."""
    layers = {1: [('fc', 16, DIM)], 2: [('fc.0', DIM, DIM), ('fc.2', 16, DIM)]}[num_layers]
    state = {}
    for seed, side in enumerate(('encoder_q', 'encoder_k')):
        head = {f'{name}.{kind}': torch.rand(wide, narrow) if kind == 'weight' else torch.rand(wide)
                for name, wide, narrow in layers for kind in ('weight', 'bias')}
        state |= {f'module.{side}.{key}': value for key, value in (trunk(seed) | head).items()}
    state |= {'module.queue': torch.rand(16, 32), 'module.queue_ptr': torch.tensor([8])}
    return dict(epoch=200, arch='resnet18', state_dict=state, optimizer=dict(state={}, param_groups=[]))


def build_moco(num_layers=2, backbone=MMPRETRAIN, in_channels=DIM):
    neck = dict(type='ProjectionMLP', in_channels=in_channels, out_channels=16, num_layers=num_layers)
    return MODELS.build(dict(type='MoCo', backbone=backbone, neck=neck, queue_size=32))


def save_ours(path, model):
    save_tensors(path, dict(format=1, state_dict=model.state_dict(), progress=dict(epoch=7), optimizer={}))


# Whole checkpoints of MoCo


@pytest.mark.parametrize('num_layers', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_published_moco_trains_on_as_ours_and_goes_back_unchanged(tmp_path, num_layers):
    save_tensors(tmp_path / 'moco.pth.tar', published(num_layers))
    done = convert_weights(tmp_path / 'moco.pth.tar', arch='resnet18', target='clear')
    write_weights(tmp_path / 'ours.pth', done.state, 'clear')
    model = build_moco(num_layers)
    report = load_weights(model, tmp_path / 'ours.pth', min_matched=1.0)
    assert not report.missing and not report.unexpected and len(report.matched) == len(model.state_dict())
    source = published(num_layers)['state_dict']
    assert torch.equal(model.encoder_k.backbone.conv1.weight, source['module.encoder_k.conv1.weight'])
    assert int(model.queue_ptr) == 8

    save_ours(tmp_path / 'run.pth', model)
    back = convert_weights(tmp_path / 'run.pth', arch='resnet18', target='moco').state
    assert (back['epoch'], back['arch']) == (7, 'resnet18')
    original = load_tensors(tmp_path / 'moco.pth.tar')['state_dict']
    assert back['state_dict'].keys() == original.keys()
    assert all(torch.equal(back['state_dict'][key], value) for key, value in original.items())
    write_weights(tmp_path / 'back.pth.tar', back, 'moco')
    assert load_tensors(tmp_path / 'back.pth.tar').keys() == {'epoch', 'arch', 'state_dict'}


def test_published_moco_gives_torchvisions_features(tmp_path):
    torch.manual_seed(0)
    peer = resnet18(weights=None)
    checkpoint = published()
    checkpoint['state_dict'] |= {f'module.encoder_q.{key}': value for key, value in peer.state_dict().items()
                                 if not key.startswith('fc.')}
    save_tensors(tmp_path / 'moco.pth.tar', checkpoint)
    write_weights(tmp_path / 'plain.pth', convert_weights(tmp_path / 'moco.pth.tar', arch='resnet18').state)
    write_weights(tmp_path / 'ours.pth', convert_weights(tmp_path / 'moco.pth.tar', arch='resnet18',
                                                         target='clear').state, 'clear')
    encoder = TorchvisionEncoder('resnet18', weights=tmp_path / 'plain.pth', preprocess=dict(resize=64, crop=64))
    model = build_moco()
    load_weights(model, tmp_path / 'ours.pth', min_matched=1.0)
    peer.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = peer.eval()(images)
        assert torch.equal(encoder(images), wanted)
        torch.testing.assert_close(model.eval()(images), wanted, rtol=1e-5, atol=1e-6)  # other layout of memory


def test_moco_naming_needs_a_queue_and_moco_s_projection(tmp_path):
    simsiam = MODELS.build(dict(type='SimSiam', backbone=MMPRETRAIN,
                                neck=dict(type='ProjectionMLP', in_channels=DIM, out_channels=16),
                                predictor=dict(type='ProjectionMLP', in_channels=16, out_channels=16)))
    save_ours(tmp_path / 'simsiam.pth', simsiam)
    with pytest.raises(CheckpointError, match='no queue: it is no MoCo or CLSA'):
        convert_weights(tmp_path / 'simsiam.pth', arch='resnet18', target='moco')
    neck = dict(type='ProjectionMLP', in_channels=DIM, out_channels=16, norm=True)
    save_ours(tmp_path / 'norm.pth', MODELS.build(dict(type='MoCo', backbone=MMPRETRAIN, neck=neck, queue_size=32)))
    with pytest.raises(CheckpointError, match='Linear-ReLU-Linear'):
        convert_weights(tmp_path / 'norm.pth', arch='resnet18', target='moco')
    save_ours(tmp_path / 'ours.pth', build_moco())
    with pytest.raises(CheckpointError, match='no whole checkpoint of MoCo|no encoder_'):
        save_tensors(tmp_path / 'plain.pth', dict(state_dict=trunk()))
        convert_weights(tmp_path / 'plain.pth', arch='resnet18', target='clear')


# Backbones of our own runs


def beside(method):
    """State dict of a run by hand, by the names that models of that method have."""
    own, neck = trunk(), {'neck.layers.0.weight': torch.rand(8, DIM), 'neck.layers.0.bias': torch.rand(8)}
    under = {prefix: {f'{prefix}.backbone.{key}': value + 1 for key, value in own.items()}
             | {f'{prefix}.{key}': value for key, value in neck.items()}
             for prefix in ('encoder_q', 'encoder_k', 'encoder', 'momentum_encoder', 'student', 'teacher')}
    kept, *rest = {'moco': ('encoder_q', 'encoder_k'), 'byol': ('encoder', 'momentum_encoder'),
                   'dino': ('teacher', 'student')}[method]
    extra = {'moco': {'queue': torch.rand(4, 8), 'queue_ptr': torch.zeros(1)},
             'byol': {'predictor.layers.0.weight': torch.rand(8, 8)},
             'dino': {'criterion.center': torch.rand(1, 8), 'prototypes.weight': torch.rand(3, 8)}}[method]
    state = under[kept] | {f'{kept}.backbone.{key}': value for key, value in own.items()} | extra
    for prefix in rest:
        state = under[prefix] | state
    return state, own


@pytest.mark.parametrize('source', ['auto', 'clear'])
@pytest.mark.parametrize('method', ['moco', 'byol', 'dino'])
def test_the_backbone_that_is_evaluated_comes_out(tmp_path, method, source):
    state, wanted = beside(method)
    save_tensors(tmp_path / 'run.pth', dict(format=1, state_dict=state))
    done = convert_weights(tmp_path / 'run.pth', source=source, arch='resnet18')
    assert done.report.source == 'clear' and done.state.keys() == wanted.keys()
    assert all(torch.equal(done.state[key], value) for key, value in wanted.items())


def test_every_algorithm_of_ours_converts(tmp_path):
    neck = dict(type='ProjectionMLP', in_channels=DIM, out_channels=16)
    predictor = dict(type='ProjectionMLP', in_channels=16, out_channels=16)
    members = {'SimCLR': {}, 'BYOL': dict(predictor=predictor), 'BarlowTwins': {}, 'CLSA': dict(queue_size=32)}
    for seed, (name, options) in enumerate(members.items()):
        torch.manual_seed(seed)
        model = MODELS.build(dict(type=name, backbone=MMPRETRAIN, neck=neck, **options))
        save_ours(tmp_path / 'run.pth', model)
        state = convert_weights(tmp_path / 'run.pth', arch='resnet18').state
        wanted = model.backbone.state_dict()
        assert state.keys() == wanted.keys() and all(torch.equal(state[key], wanted[key]) for key in wanted), name


def test_a_run_of_ours_loads_into_a_classifier_and_an_encoder(tmp_path):
    model = build_moco()
    save_ours(tmp_path / 'run.pth', model)
    classifier = MODELS.build(dict(type='ImageClassifier', backbone=MMPRETRAIN, neck=dict(type='GlobalAveragePooling'),
                                   head=dict(type='LinearClsHead', num_classes=4, in_channels=DIM)))
    encoder = TorchvisionEncoder('resnet18', weights=dict(path=tmp_path / 'run.pth', min_matched=1.0))
    report = load_weights(classifier, tmp_path / 'run.pth', min_matched=1.0)
    assert report.source == encoder.load_report.source == 'clear'
    for found in (classifier.backbone.state_dict(), encoder.model.state_dict()):
        wanted = model.encoder_q.backbone.state_dict()
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_stem_for_small_images(tmp_path, monkeypatch):
    monkeypatch.setattr(resnet, 'ResNet', NarrowResNet.__base__)  # as wide as those for small images
    model = build_moco(backbone=dict(type='ResNet_CIFAR', depth=18), in_channels=512)
    save_ours(tmp_path / 'run.pth', model)
    state = convert_weights(tmp_path / 'run.pth', arch='cifar/resnet18').state
    peer = resnet18(weights=None)
    assert peer.state_dict().keys() - state.keys() == {'fc.weight', 'fc.bias'}
    assert state['conv1.weight'].shape == (64, 3, 3, 3)
    with pytest.raises(CheckpointError, match=r'conv1.weight \(64, 3, 3, 3\), expected \(64, 3, 7, 7\)'):
        convert_weights(tmp_path / 'run.pth', arch='resnet18')
    with pytest.raises(ConfigError, match='7 x 7 stem'):
        convert_weights(tmp_path / 'run.pth', arch='cifar/resnet18', target='detectron2')
    with pytest.raises(ConfigError, match='cifar/resnet18, 34'):
        convert_weights(tmp_path / 'run.pth', arch='cifar/resnet19')


def test_targets_of_the_program_are_those_of_the_library():
    path = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'convert_weights.py'
    spec = importlib.util.spec_from_file_location('convert_weights', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.TARGETS == TARGETS


# detectron2


def by_hand(name):
    """detectron2's name, composed from what a name says instead of replaced in it."""
    stem = re.fullmatch(r'(conv1|bn1)\.(\w+)', name)
    if stem:
        return f'stem.conv1.{"norm." if stem[1] == "bn1" else ""}{stem[2]}'
    stage, block, layer, number, last = re.fullmatch(r'layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)',
                                                     name).groups()
    place = {'conv': f'conv{number}', 'bn': f'conv{number}.norm',
             'downsample.': 'shortcut' if number == '0' else 'shortcut.norm'}[layer]
    return f'res{int(stage) + 1}.{block}.{place}.{last}'


def test_detectron2_names_of_a_resnet50():
    names = [name for name in resnet50(weights=None).state_dict() if not name.startswith('fc.')]
    assert len(names) == 318  # and 4 of the projection: the 322 of a published MoCo v2 encoder
    assert [to_detectron2(name) for name in names] == [by_hand(name) for name in names]
    assert len({to_detectron2(name) for name in names}) == 318


def test_detectron2_file(tmp_path):
    save_tensors(tmp_path / 'moco.pth.tar', published())
    done = convert_weights(tmp_path / 'moco.pth.tar', arch='resnet18', target='detectron2')
    write_weights(tmp_path / 'out.pkl', done.state, 'detectron2')
    with open(tmp_path / 'out.pkl', 'rb') as file:
        found = pickle.load(file)
    assert (found.keys(), found['__author__'], found['matching_heuristics']) == \
        ({'model', '__author__', 'matching_heuristics'}, 'MOCO', True)
    source = published()['state_dict']
    assert len(found['model']) == 120 and not [name for name in found['model'] if 'fc' in name]
    for name in ('layer2.0.downsample.1.running_var', 'conv1.weight', 'layer4.1.bn2.num_batches_tracked'):
        assert torch.equal(torch.from_numpy(found['model'][by_hand(name)]), source[f'module.encoder_q.{name}'])
    with pytest.raises(ConfigError, match='needs .pkl'):
        write_weights(tmp_path / 'out.safetensors', done.state, 'detectron2')


@pytest.mark.parametrize(('name', 'own'), [
    ('pascal_voc_r50_c4_24k', dict(MASK_ON=False, classes=20, sizes=(480, 800), iterations=24000,
                                   steps=[18000, 22000], train=['voc_2007_trainval', 'voc_2012_trainval'],
                                   test=['voc_2007_test'])),
    ('coco_r50_c4_2x', dict(MASK_ON=True, classes=80, sizes=(640, 800), iterations=180000, steps=[120000, 160000],
                            train=['coco_2017_train'], test=['coco_2017_val'])),
])
def test_detection_configs(name, own):
    config = yaml.safe_load((configs_folder() / 'selfsup' / 'detection' / f'{name}.yaml').read_text())
    model, solver = config['MODEL'], config['SOLVER']
    assert model['META_ARCHITECTURE'] == 'GeneralizedRCNN' and model['WEIGHTS'].endswith('.pkl')
    assert (model['MASK_ON'], model['ROI_HEADS']['NAME'], model['ROI_HEADS']['NUM_CLASSES']) == \
        (own['MASK_ON'], 'Res5ROIHeadsExtraNorm', own['classes'])
    assert model['BACKBONE'] == dict(NAME='build_resnet_backbone', FREEZE_AT=0)
    assert model['RESNETS'] == dict(DEPTH=50, NORM='SyncBN', STRIDE_IN_1X1=False, OUT_FEATURES=['res4'])
    assert model['RPN'] == dict(PRE_NMS_TOPK_TEST=6000, POST_NMS_TOPK_TEST=1000)
    assert (model['PIXEL_MEAN'], model['PIXEL_STD']) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    sizes = config['INPUT']['MIN_SIZE_TRAIN']
    assert config['INPUT']['FORMAT'] == 'RGB' and (min(sizes), max(sizes)) == own['sizes']
    assert sizes == list(range(sizes[0], sizes[-1] + 1, 32)) and config['INPUT']['MIN_SIZE_TEST'] == 800
    assert (solver['IMS_PER_BATCH'], solver['BASE_LR'], solver['MAX_ITER'], solver['STEPS']) == \
        (16, 0.02, own['iterations'], own['steps'])
    assert solver.get('WARMUP_ITERS') == (100 if name.startswith('pascal') else None)
    assert config['TEST']['PRECISE_BN']['ENABLED'] is True
    assert (config['DATASETS']['TRAIN'], config['DATASETS']['TEST']) == (own['train'], own['test'])
