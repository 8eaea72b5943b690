"""Runs of ours under other libraries' names: they load them strictly, and compute the same."""

import copy

import pytest
import torch
from clear_trees import write_clear_tree
from narrow_resnet import DIM, MMPRETRAIN, narrow_resnets
from short_runs import IMAGE_CONFIG, read_results, run, train, write_config
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors, save_tensors
from clear.core.results import Results, write_results
from clear.models import build_classifier
from clear.models.converters import runs
from clear.models.converters.runs import export_run
from clear.registry import MODELS

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
HEAD = dict(type='LinearClsHead', num_classes=3, in_channels=DIM, loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
MODEL = dict(backbone=MMPRETRAIN, neck=dict(type='GlobalAveragePooling'), head=HEAD)
CONFIG = f"""
model['backbone'] = {MMPRETRAIN!r}
model['head'] = {HEAD!r}
for _key in ('train_transform', 'eval_transform'):
    scenario[_key] = [dict(type='ToTensor')]
del _key
"""
VIT = dict(type='VisionTransformer', arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=96),
           img_size=32, patch_size=16)


@pytest.fixture(scope='module', autouse=True)
def narrow():
    with narrow_resnets():
        yield


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with what the converter reads of a run."""
    folder = tmp_path_factory.mktemp('run')
    save_run(folder / 'latest.pth', build_classifier(MODEL), MODEL)
    write_results(folder / 'results.json', Results('run', 'ContinualRunner', 'x/v1', extras=dict(class_names=[*'abc'])))
    return folder


def logits_of_ours(path, cfg=MODEL):
    model = build_classifier(cfg)
    model.load_state_dict(load_tensors(path)['state_dict'])
    model.eval()
    with torch.no_grad():
        return model(IMAGES)


def written(trained, tmp_path, to, name='out.pth'):
    done = run('model_converters/convert_weights', trained / 'latest.pth', tmp_path / name, '--to', to)
    assert done.code == 0, done.err
    assert '120 tensors of the backbone' in done.out
    return tmp_path / name


def test_a_run_with_weights_of_no_use_is_not_written(trained, tmp_path):
    saved = load_tensors(trained / 'latest.pth')
    saved['state_dict']['head.fc.bias'][1] = float('nan')
    save_tensors(tmp_path / 'latest.pth', saved)
    done = run('model_converters/convert_weights', tmp_path / 'latest.pth', tmp_path / 'out.pth', '--to', 'timm')
    assert done.code == 2 and 'fc.bias holds NaN or infinity' in done.err and not (tmp_path / 'out.pth').exists()


def test_mmpretrain_builds_and_classifies_with_a_run(trained, tmp_path):
    is_read_by_mmpretrain(trained, tmp_path)


@pytest.mark.slow
def test_mmpretrain_classifies_with_what_the_program_trained(tmp_path):
    tree = write_clear_tree(tmp_path / 'images', per_class=4, num_buckets=1, image_size=32)
    train(write_config(tmp_path / 'config.py', IMAGE_CONFIG, tree, CONFIG), '--work-dir', tmp_path / 'run')
    is_read_by_mmpretrain(tmp_path / 'run', tmp_path)


def is_read_by_mmpretrain(trained, tmp_path):
    from mmengine.config import Config
    from mmpretrain.apis import init_model
    from mmpretrain.models import ResNet

    file = written(trained, tmp_path, 'mmpretrain')
    cfg = Config(dict(model=dict(type='mmpretrain.ImageClassifier', **MODEL), default_scope='mmpretrain'))
    model = init_model(cfg, str(file), device='cpu')
    model.load_state_dict(torch.load(file, weights_only=True)['state_dict'], strict=True)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), logits_of_ours(trained / 'latest.pth'), rtol=0, atol=1e-6)
    assert list(model._dataset_meta['classes']) == read_results(trained)['extras']['class_names']
    backbone = ResNet(**{key: value for key, value in MMPRETRAIN.items() if key != 'type'},
                      init_cfg=dict(type='Pretrained', checkpoint=str(file), prefix='backbone'))
    backbone.init_weights()
    assert torch.equal(backbone.layer4[1].conv2.weight, model.backbone.layer4[1].conv2.weight)


@pytest.mark.parametrize('name', ['out.pth', 'out.safetensors'])
def test_torchvision_loads_it_strictly(trained, tmp_path, name):
    from safetensors.torch import load_file
    from torchvision.models import resnet18

    file, network = written(trained, tmp_path, 'torchvision', name), resnet18(num_classes=3)
    network.load_state_dict(load_file(file) if name.endswith('.safetensors') else torch.load(file, weights_only=True),
                            strict=True)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(IMAGES), logits_of_ours(trained / 'latest.pth'), rtol=0, atol=1e-6)


def test_timm_loads_it_strictly(tmp_path):
    from timm import create_model

    cfg = dict(MODEL, backbone=dict(type='ResNet', depth=18), head=dict(HEAD, in_channels=512))
    model = build_classifier(cfg).eval()
    network = create_model('resnet18', num_classes=3).eval()
    network.load_state_dict(export_run(save_run(tmp_path / 'latest.pth', model, cfg), 'timm').content, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(network(IMAGES), model(IMAGES), rtol=0, atol=1e-6)


def test_lightlys_backbone_is_by_position(trained, tmp_path):
    from torchvision.models import resnet18

    backbone = nn.Sequential(*list(resnet18().children())[:-1])
    backbone.load_state_dict(torch.load(written(trained, tmp_path, 'lightly'), weights_only=True), strict=True)
    backbone.eval()
    model = build_classifier(MODEL)
    model.load_state_dict(load_tensors(trained / 'latest.pth')['state_dict'])
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(IMAGES).flatten(1), model.extract_features(IMAGES)[-1], rtol=0, atol=1e-6)


def save_run(path, model, cfg):
    save_tensors(path, dict(format=1, state_dict=model.state_dict(), config=dict(model=cfg)))
    return path


@pytest.mark.parametrize('head', ['LinearClsHead', 'VisionTransformerClsHead'])
def test_vision_transformer(tmp_path, head):
    from timm.models.vision_transformer import VisionTransformer as Timm
    from torchvision.models import VisionTransformer as Torchvision

    cfg = dict(backbone=VIT, head=dict(type=head, num_classes=3, in_channels=24))
    model = build_classifier(cfg).eval()
    path = save_run(tmp_path / 'latest.pth', model, cfg)
    for to, network in (('timm', Timm(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=3)),
                        ('torchvision', Torchvision(32, 16, 2, 2, 24, 96, num_classes=3))):
        network.load_state_dict(export_run(path, to).content, strict=True)
        network.eval()
        with torch.no_grad():
            torch.testing.assert_close(network(IMAGES), model(IMAGES), rtol=0, atol=1e-6)


def test_a_classifier_of_several_layers_is_not_cut_to_its_last(tmp_path):
    cfg = dict(backbone=VIT, head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=24, hidden_dim=24))
    path = save_run(tmp_path / 'latest.pth', build_classifier(cfg), cfg)
    for to in ('timm', 'torchvision'):
        done = export_run(path, to)
        assert done.num_head == 0 and 'head.layers.head.weight' in done.left_out
    assert export_run(path, 'mmpretrain').num_head == 4


def test_convnext(tmp_path):
    from timm.models.convnext import ConvNeXt as Timm
    from torchvision.models.convnext import CNBlockConfig
    from torchvision.models.convnext import ConvNeXt as Torchvision

    cfg = dict(backbone=dict(type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10])),
               head=dict(type='LinearClsHead', num_classes=3, in_channels=10))
    blocks = [CNBlockConfig(4, 6, 1), CNBlockConfig(6, 8, 1), CNBlockConfig(8, 10, 1), CNBlockConfig(10, None, 1)]
    is_loaded_strictly(tmp_path, cfg, IMAGES, dict(
        timm=Timm(num_classes=3, depths=(1, 1, 1, 1), dims=(4, 6, 8, 10)),
        torchvision=Torchvision(blocks, num_classes=3)))


def test_swin(tmp_path):
    from timm.models.swin_transformer import SwinTransformer as Timm
    from torchvision.models.swin_transformer import SwinTransformer as Torchvision

    backbone = dict(type='SwinTransformer', arch=dict(embed_dims=8, depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4]),
                    img_size=64, window_size=2)
    cfg = dict(backbone=backbone, neck=dict(type='GlobalAveragePooling'),
               head=dict(type='LinearClsHead', num_classes=3, in_channels=64))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    is_loaded_strictly(tmp_path, cfg, images, dict(
        timm=Timm(img_size=64, window_size=2, embed_dim=8, depths=(2, 1, 2, 1), num_heads=(1, 2, 2, 4), num_classes=3),
        torchvision=Torchvision([4, 4], 8, [2, 1, 2, 1], [1, 2, 2, 4], [2, 2], num_classes=3)))


def is_loaded_strictly(tmp_path, cfg, images, networks):
    model = build_classifier(cfg).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():  # norms and scales, too, tell channels apart
            value.copy_(torch.randn(value.shape, generator=generator) * 0.5)
    path = save_run(tmp_path / 'latest.pth', model, cfg)
    for to, network in networks.items():
        network.load_state_dict(export_run(path, to).content, strict=True)
        network.eval()
        with torch.no_grad():
            torch.testing.assert_close(network(images), model(images), rtol=1e-4, atol=1e-5)


def test_pretraining_gives_the_encoder_that_is_meant_for_use(tmp_path):
    from torchvision.models import resnet18

    cfg = dict(type='MoCo', backbone=MMPRETRAIN, queue_size=8,
               neck=dict(type='ProjectionMLP', in_channels=DIM, hidden_channels=8, out_channels=4))
    model = MODELS.build(copy.deepcopy(cfg))
    with torch.no_grad():
        model.encoder_k.backbone.conv1.weight.add_(1)
    path = save_run(tmp_path / 'latest.pth', model, cfg)
    done = export_run(path, 'torchvision')
    network = resnet18()
    network.fc = nn.Identity()
    network.load_state_dict(done.content, strict=True)
    assert torch.equal(network.conv1.weight, model.encoder_q.backbone.conv1.weight)
    assert done.num_head == 0 and 'queue' in done.left_out and 'encoder_k.backbone.conv1.weight' in done.left_out
    assert all(key.startswith('backbone.') for key in export_run(path, 'mmpretrain').content['state_dict'])


@pytest.mark.parametrize(('backbone', 'to', 'says'), [
    (dict(MMPRETRAIN, style='caffe'), 'torchvision', "backbone.style is 'caffe'"),
    (dict(MMPRETRAIN, type='ResNet_CIFAR'), 'timm', 'timm has no name for conv1.weight of ResNet_CIFAR'),
    (dict(MMPRETRAIN, deep_stem=True), 'timm', 'no name for stem.0.conv.weight of ResNet'),
    (dict(type='SwinTransformer', use_abs_pos_embed=True), 'timm', 'timm has no name for absolute_pos_embed'),
    (dict(type='SwinTransformer', pad_small_map=True), 'timm', 'backbone.pad_small_map is True'),
    (dict(type='LeNet5'), 'torchvision', 'no name for features.0.weight of LeNet5'),
    (dict(type='AdaptFormer'), 'mmpretrain', 'mmpretrain has no backbone AdaptFormer'),
    (dict(VIT, out_type='avg_featmap'), 'timm', "backbone.out_type is 'avg_featmap'"),
])
def test_networks_that_others_do_not_have(tmp_path, backbone, to, says):
    kind = VIT if backbone['type'] in ('AdaptFormer', 'VisionTransformer') else backbone
    network = build_classifier(dict(backbone=kind))
    path = save_run(tmp_path / 'latest.pth', network, dict(backbone=backbone))
    with pytest.raises(ConfigError, match=says):
        export_run(path, to)


def test_a_head_of_ours_stays_behind(tmp_path):
    cfg = dict(backbone=MMPRETRAIN, neck=dict(type='GlobalAveragePooling'),
               head=dict(type='CosineDistanceHead', num_classes=3, in_channels=DIM))
    path = save_run(tmp_path / 'latest.pth', build_classifier(cfg), cfg)
    for to in runs.RUN_TARGETS:
        done = export_run(path, to)
        assert done.num_head == 0 and done.left_out and all(name.startswith('head.') for name in done.left_out)


def test_files_that_are_no_runs(tmp_path):
    save_tensors(tmp_path / 'x.pth', build_classifier(MODEL).state_dict())
    with pytest.raises(CheckpointError, match='no checkpoint of ours'):
        export_run(tmp_path / 'x.pth', 'timm')
    path = save_run(tmp_path / 'head.pth', build_classifier(dict(head=HEAD)), dict(head=HEAD))
    with pytest.raises(ConfigError, match='has no backbone'):
        export_run(path, 'timm')
    done = run('model_converters/convert_weights', path, tmp_path / 'o.pth', '--to', 'timm', '--arch', 'resnet18')
    assert done.code == 2 and '--arch does not go with --to' in done.err
    done = run('model_converters/convert_weights', path, tmp_path / 'o.safetensors', '--to', 'mmpretrain')
    assert done.code == 2 and 'holds tensors alone' in done.err
