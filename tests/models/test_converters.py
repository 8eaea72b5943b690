"""Published names of tensors, there and back: a network written as each project writes it comes out as it was."""

import pytest
import torch
from narrow_resnet import DIM, MMPRETRAIN, narrow_resnets
from torchvision.models import resnet18, resnet50

from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import save_tensors
from clear.models.converters.convert import convert_weights, write_weights
from clear.models.towers.image import TorchvisionEncoder
from clear.models.weights import SOURCES
from clear.models.weights.rules import without_a_place


@pytest.fixture(scope='module', autouse=True)
def narrow():
    with narrow_resnets():
        yield


@pytest.fixture(scope='module')
def trunk(narrow):
    """Tensors of a ResNet-18 without its classifier, every one of them random."""
    torch.manual_seed(3)
    state = resnet18(weights=None).state_dict()
    return {key: torch.rand_like(value) + 0.5 if value.is_floating_point() else torch.tensor(4)
            for key, value in state.items() if not key.startswith('fc.')}


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def layer(name, wide, narrow):
    return {f'{name}.weight': torch.rand(wide, narrow), f'{name}.bias': torch.rand(wide)}


def publish(source, trunk):
    """The trunk as a file of that project, with what else such a file holds."""
    fc = layer('fc.0', 8, DIM) | layer('fc.2', 4, 8)
    if source in ('moco', 'clsa'):
        both = under('module.encoder_q.', trunk | fc)
        both |= {key.replace('encoder_q', 'encoder_k'): value + 1 for key, value in both.items()}
        return dict(epoch=200, arch='resnet18', optimizer=dict(state={}, param_groups=[]),
                    state_dict=both | {'module.queue': torch.rand(4, 8), 'module.queue_ptr': torch.zeros(1)})
    if source == 'simsiam':
        return dict(epoch=100, state_dict=under('module.encoder.', trunk | fc)
                    | under('module.', layer('predictor.0', 8, 8)))
    if source == 'swav':  # published without anything around it
        return under('module.', trunk | layer('projection_head.0', 8, DIM) | {'prototypes.weight': torch.rand(30, 8)})
    if source in ('pirl', 'exemplar'):
        model = dict(trunk=under('_feature_blocks.', trunk), heads=layer('0.clf', 8, DIM))
        return dict(phase_idx=3, classy_state_dict=dict(base_model=dict(model=model, meters={}), loss={}))
    if source == 'humantorch':
        return under('feature_extractor.resnet.', trunk | layer('fc', 10, DIM)) | layer('head', 4, DIM)
    if source == 'virb':
        return under('model.', trunk | fc)
    if source == 'byol':
        target = {key: value + 1 for key, value in trunk.items()}
        return under('online_encoder.net.', trunk) | under('online_encoder.projector.', layer('0', 8, DIM)) \
            | under('target_encoder.net.', target) | layer('predictor.0', 8, 8)
    if source == 'mmpretrain':
        return dict(meta=dict(epoch=1), state_dict=under('backbone.', trunk) | layer('head.fc', 10, DIM))
    if source == 'clear':
        return dict(format=1, state_dict=under('backbone.', trunk) | layer('head.fc', 11, DIM), progress={})
    return trunk | layer('fc', 1000, DIM)  # torchvision, timm


# Without what is around them, these name a backbone alike, so that any of them may be found.
PLAIN = ['swav', 'mmpretrain', 'clear', 'torchvision', 'timm']
PUBLISHED = ['moco', 'clsa', 'simsiam', 'pirl', 'exemplar', 'humantorch', 'virb', 'byol', *PLAIN]


@pytest.mark.parametrize(('source', 'auto'), [(source, auto) for source in PUBLISHED for auto in (False, True)])
def test_round_trip(tmp_path, trunk, source, auto):
    save_tensors(tmp_path / 'in.pth', publish(source, trunk))
    done = convert_weights(tmp_path / 'in.pth', source='auto' if auto else source, arch='resnet18')
    assert done.state.keys() == trunk.keys()
    assert all(torch.equal(done.state[key], value) for key, value in trunk.items())
    assert SOURCES[done.report.source] is SOURCES[source] or source in PLAIN
    assert not done.report.missing


@pytest.mark.parametrize('suffix', ['pth', pytest.param('safetensors', marks=pytest.mark.slow)])
def test_converted_resnet50_gives_equal_embeddings(tmp_path, suffix):
    torch.manual_seed(0)
    model = resnet50(weights=None)
    trunk = {key: value for key, value in model.state_dict().items() if not key.startswith('fc.')}
    save_tensors(tmp_path / 'moco.pth.tar', publish('moco', trunk))
    out = tmp_path / f'out.{suffix}'
    write_weights(out, convert_weights(tmp_path / 'moco.pth.tar').state)
    encoder = TorchvisionEncoder('resnet50', weights=dict(path=out, min_matched=1.0),
                                 preprocess=dict(crop=64, resize=64))
    model.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(encoder(images), model.eval()(images))


def test_target_mmpretrain_loads_strictly_there(tmp_path, trunk):
    from clear.models import build_classifier

    save_tensors(tmp_path / 'in.pth', publish('swav', trunk))
    state = convert_weights(tmp_path / 'in.pth', arch='resnet18', target='mmpretrain').state
    backbone = build_classifier(dict(backbone=MMPRETRAIN)).backbone
    backbone.load_state_dict({key.removeprefix('backbone.'): value for key, value in state.items()}, strict=True)
    assert all(key.startswith('backbone.') for key in state)


def test_timm_and_efficientnet_names(tmp_path):
    import timm

    model = timm.create_model('test_resnet')
    save_tensors(tmp_path / 'timm.pth', model.state_dict())
    done = convert_weights(tmp_path / 'timm.pth', source='timm', arch='timm/test_resnet')
    assert set(model.state_dict()) - set(done.state) == set(done.report.unexpected) == {'fc.weight', 'fc.bias'}


@pytest.mark.parametrize('source', ['openclip', 'auto'])
def test_image_tower_of_an_open_clip_model(tmp_path, source):
    from clear.models.towers.image import OpenCLIPImageEncoder

    torch.manual_seed(2)
    tower = OpenCLIPImageEncoder('ViT-S-32').model.state_dict()
    whole = under('visual.', tower) | {'logit_scale': torch.tensor(4.6), 'positional_embedding': torch.rand(77, 8)} \
        | layer('transformer.resblocks.0.mlp.c_fc', 8, 8)
    save_tensors(tmp_path / 'clip.pth', whole)
    done = convert_weights(tmp_path / 'clip.pth', source=source, arch='open_clip/ViT-S-32')
    assert done.report.source == 'openclip' and set(done.state) == set(tower)
    assert all(torch.equal(done.state[name], tower[name]) for name in tower)


@pytest.mark.parametrize(('old', 'new'), [
    ('_conv_stem.weight', 'conv_stem.weight'), ('_bn1.running_var', 'bn2.running_var'),
    ('_blocks.0._project_conv.weight', 'blocks.0.0.conv_pw.weight'),
    ('_blocks.15._project_conv.weight', 'blocks.6.0.conv_pwl.weight'),
    ('_blocks.4._bn0.bias', 'blocks.2.1.bn1.bias'), ('_blocks.4._se_reduce.bias', 'blocks.2.1.se.conv_reduce.bias'),
    ('_blocks.16._bn0.bias', None), ('layer1.0.conv1.weight', None), ('_blocks.x._bn0.bias', None),
])
def test_efficientnet_names_by_hand(old, new):
    assert SOURCES['efficientnet_pytorch'](old) == new


@pytest.mark.parametrize('old', ['online_encoder.', 'online_network.encoder.', 'online_net.backbone.', 'online.'])
def test_byol_names(old):
    assert SOURCES['byol'](old + 'layer1.0.conv1.weight') == 'layer1.0.conv1.weight'
    assert SOURCES['byol'](old + 'predictor.0.weight') is None
    assert SOURCES['byol'](old.replace('online', 'target') + 'conv1.weight') is None


def test_a_partial_match_is_refused_with_the_first_names(tmp_path, trunk):
    for change, says in (({'layer4.1.bn2.running_mean'}, 'First missing: layer4.1.bn2.running_mean'),
                         ({'conv1.weight'}, 'First missing: conv1.weight')):
        save_tensors(tmp_path / 'in.pth', publish('moco', {k: v for k, v in trunk.items() if k not in change}))
        with pytest.raises(CheckpointError, match=says):
            convert_weights(tmp_path / 'in.pth', arch='resnet18')
    save_tensors(tmp_path / 'in.pth', publish('moco', trunk | {'conv1.weight': torch.rand(8, 3, 3, 3)}))
    with pytest.raises(CheckpointError, match=r'conv1.weight \(8, 3, 3, 3\), expected \(8, 3, 7, 7\)'):
        convert_weights(tmp_path / 'in.pth', arch='resnet18')


def test_batch_counters_may_be_absent(tmp_path, trunk):
    old = {key: value for key, value in trunk.items() if 'num_batches' not in key}
    save_tensors(tmp_path / 'in.pth', publish('pirl', old))
    done = convert_weights(tmp_path / 'in.pth', arch='resnet18')
    assert done.state.keys() == old.keys()


def test_a_larger_backbone_is_refused(tmp_path, trunk):
    more = {key.replace('layer2.1', 'layer2.2'): value for key, value in trunk.items() if 'layer2.1' in key}
    save_tensors(tmp_path / 'in.pth', publish('simsiam', trunk | more))
    with pytest.raises(CheckpointError, match=r'12 tensors that resnet18 has no place for .* encoder.layer2.2.conv1'):
        convert_weights(tmp_path / 'in.pth', arch='resnet18')


def test_heads_have_no_place_and_need_none():
    assert without_a_place(('encoder_q.fc.0.weight', 'queue', 'encoder_k.x'), 'moco') == []
    assert without_a_place(('backbone.layer9.weight', 'head.fc.weight', 'neck.fc.bias'), 'mmpretrain') == \
        ['backbone.layer9.weight']
    assert without_a_place(('classif.weight',), 'timm', ('classif',)) == []


@pytest.mark.parametrize(('arguments', 'says'), [
    (dict(arch='keras/resnet50'), "'keras' is no known library"), (dict(arch='resnet51'), "'resnet50'"),
    (dict(arch='densenet121', target='mmpretrain'), 'names the tensors of densenet121 differently'),
    (dict(target='keras'), "target is 'keras'"), (dict(source='moko'), "no source 'moko'"),
])
def test_wrong_arguments(tmp_path, trunk, arguments, says):
    save_tensors(tmp_path / 'in.pth', trunk)
    with pytest.raises(ConfigError, match=says):
        convert_weights(tmp_path / 'in.pth', **{'arch': 'resnet18', **arguments})
