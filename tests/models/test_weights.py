"""Loading weights: real layouts match in full, wrong files are refused, and a refused model is untouched."""

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from narrow_resnet import DIM, MMPRETRAIN, narrow_resnets
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.models import SOURCES, build_classifier, load_weights

GAP = dict(type='GlobalAveragePooling')


@pytest.fixture(scope='module', autouse=True)
def narrow():
    with narrow_resnets():
        yield


def resnet(num_classes=11):
    return build_classifier(dict(backbone=MMPRETRAIN, neck=GAP,
                                 head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=DIM)))


def lenet(num_classes=10):
    return build_classifier(dict(backbone=dict(type='LeNet5'), neck=GAP,
                                 head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=120)))


def linear(num_classes=10, in_channels=120):
    return build_classifier(dict(head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=in_channels)))


def vit(img_size):
    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    return build_classifier(dict(
        backbone=dict(type='VisionTransformer', arch=arch, img_size=img_size, patch_size=16),
        head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=24)))


def save(tmp_path, value, name='weights.pth'):
    torch.save(value, tmp_path / name)
    return tmp_path / name


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model, state):
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


@pytest.fixture(scope='module')
def torchvision_resnet(narrow):
    from torchvision.models import resnet18

    torch.manual_seed(1)
    model = resnet18(weights=None, num_classes=11)
    with torch.no_grad():  # Statistics and scales that are not 0 and 1, so that none is passed over.
        for name, value in model.state_dict().items():
            if '.bn' in name or name.startswith('bn') or 'downsample.1' in name:
                value.copy_(torch.rand(value.shape) + 0.5 if value.is_floating_point() else torch.tensor(7))
    model.eval()
    return model


@pytest.mark.parametrize('source', ['auto', 'torchvision'])
def test_torchvision_resnet_matches_in_full(tmp_path, torchvision_resnet, source):
    model = resnet()
    report = load_weights(model, save(tmp_path, torchvision_resnet.state_dict()), source=source)
    assert len(report.matched) == len(model.state_dict()) == 122
    assert (report.source, report.missing, report.unexpected, report.shape_mismatch) == ('torchvision', (), (), ())
    model.eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), torchvision_resnet(images), rtol=1e-4, atol=1e-4)
    assert all(value.requires_grad for value in model.parameters())


def test_head_for_other_classes_is_left_out_and_listed(tmp_path, torchvision_resnet):
    model = resnet(num_classes=3)
    head = snapshot(model.head)
    report = load_weights(model, save(tmp_path, torchvision_resnet.state_dict()))
    assert report.shape_mismatch == (('head.fc.weight', (11, DIM), (3, DIM)), ('head.fc.bias', (11,), (3,)))
    assert len(report.matched) == 120
    assert same(model.head, head)
    assert 'other shape (2): head.fc.weight (11, 64) in the file, (3, 64) in the model' in str(report)


def test_head_layer_is_loaded_whole_or_not_at_all(tmp_path):
    # The biases have one shape, the weights do not: a bias without its weight means nothing.
    old = build_classifier(dict(backbone=dict(type='LeNet5'), neck=GAP,
                                head=dict(type='StackedLinearClsHead', num_classes=3, in_channels=120,
                                          mid_channels=[8, 6])))
    new = build_classifier(dict(backbone=dict(type='LeNet5'), neck=GAP,
                                head=dict(type='StackedLinearClsHead', num_classes=3, in_channels=120,
                                          mid_channels=[8, 5])))
    old.head.layers[2].fc.bias.data.fill_(9.0)
    report = load_weights(new, save(tmp_path, old.state_dict()))
    assert report.dropped == ('head.layers.2.fc.bias',)
    assert not (new.head.layers[2].fc.bias == 9.0).any()
    assert torch.equal(new.head.layers[0].fc.weight, old.head.layers[0].fc.weight)


@pytest.mark.parametrize('wrap', [
    lambda state: state,
    lambda state: {'state_dict': state},
    lambda state: {'meta': {'epoch': 3, 'classes': ['a']}, 'state_dict': state},
    lambda state: {'model': state, 'optimizer': {'lr': torch.tensor(0.1)}, 'epoch': 1},
    lambda state: {'model_state': state, 'args': {}},
    lambda state: {'anything': state},
    lambda state: {'model': {'state_dict': state}},
    lambda state: {'state_dict': {f'module.{key}': value for key, value in state.items()}},
    lambda state: {f'module._orig_mod.{key}': value for key, value in state.items()},
    lambda state: dict(format=1, state_dict=state, optimizer={'state': {}}, rng=torch.get_rng_state(),
                       progress={'experience': 2}, acc_matrix=[[0.5]], config_hash='ab'),
], ids=['bare', 'state_dict', 'meta', 'model', 'model_state', 'one_key', 'nested', 'data_parallel', 'compiled', 'ours'])
def test_state_dict_is_found(tmp_path, wrap):
    torch.manual_seed(2)
    old, model = lenet(), lenet()
    report = load_weights(model, save(tmp_path, wrap(old.state_dict())))
    assert same(model, old.state_dict())
    assert (set(report.matched), report.source) == (set(model.state_dict()), 'clear')


def test_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    old, model = lenet(), lenet()
    save_file(old.state_dict(), tmp_path / 'weights.safetensors')
    load_weights(model, tmp_path / 'weights.safetensors')
    assert same(model, old.state_dict())


@pytest.mark.parametrize('source', ['auto', 'moco'])
def test_moco_encoder_is_found_and_its_projection_is_not_a_classifier(tmp_path, torchvision_resnet, source):
    # Eleven outputs in the projection: it would fit the classifier's shape.
    encoder = torchvision_resnet.state_dict()
    file = {f'module.encoder_q.{key}': value for key, value in encoder.items()}
    file |= {f'module.encoder_k.{key}': value + 1 for key, value in encoder.items()}
    file |= {'module.queue': torch.rand(8, 4), 'module.queue_ptr': torch.zeros(1)}
    model = resnet()
    head = snapshot(model.head)
    report = load_weights(model, save(tmp_path, {'arch': 'resnet18', 'epoch': 200, 'state_dict': file}), source=source)
    assert (report.source, len(report.matched)) == ('moco', 120)
    assert report.missing == ('head.fc.weight', 'head.fc.bias')
    assert torch.equal(model.backbone.conv1.weight, encoder['conv1.weight'])
    assert torch.equal(model.backbone.layer4[1].bn2.running_var, encoder['layer4.1.bn2.running_var'])
    assert same(model.head, head)


def test_bare_backbone_goes_to_the_backbone(tmp_path):
    old, model = lenet(), lenet()
    report = load_weights(model, save(tmp_path, old.backbone.state_dict()), source='mmpretrain')
    assert same(model.backbone, old.backbone.state_dict())
    assert report.missing == ('head.fc.weight', 'head.fc.bias')


def test_backbone_name_beats_a_bare_name(tmp_path):
    old, model = lenet(), lenet()
    state = old.state_dict() | {'features.0.weight': torch.zeros(6, 1, 5, 5)}
    report = load_weights(model, save(tmp_path, dict(reversed(state.items()))))
    assert same(model, old.state_dict())
    assert report.unexpected == ('features.0.weight',)


@pytest.mark.parametrize('whole', [False, True], ids=['head_only', 'full_model'])
def test_head_of_a_file_loads_into_a_feature_classifier(tmp_path, whole):
    old, model = lenet(), linear()
    state = {name: value for name, value in old.state_dict().items() if whole or name.startswith('head.')}
    report = load_weights(model, save(tmp_path, state))
    assert same(model.head, old.head.state_dict())
    assert len(report.unexpected) == (6 if whole else 0)


def test_head_that_does_not_fit_a_feature_classifier_is_refused(tmp_path):
    model = linear(num_classes=4)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=r'Only 0 of 2 tensors matched.*of another shape: head.fc.weight \(10,'):
        load_weights(model, save(tmp_path, lenet().state_dict()))
    assert same(model, before)


def test_single_tensor_file_is_a_state_dict(tmp_path):
    cosine = dict(head=dict(type='CosineDistanceHead', num_classes=3, in_channels=4))
    old, model = build_classifier(cosine), build_classifier(cosine)
    load_weights(model, save(tmp_path, old.state_dict()))
    assert same(model, old.state_dict())


def test_prefix_map_renames(tmp_path):
    old, model = lenet(), lenet()
    state = {'module.' + key.replace('backbone.', 'net.trunk.'): value for key, value in old.state_dict().items()}
    path = save(tmp_path, state)
    with pytest.raises(CheckpointError, match='prefix_map'):
        load_weights(model, path)
    # The longest prefix that fits a name is the one that counts.
    load_weights(model, path, prefix_map={'net.': 'elsewhere.', 'net.trunk.': 'backbone.'})
    assert same(model, old.state_dict())


def test_position_embedding_of_another_image_size_is_resized(tmp_path):
    torch.manual_seed(0)
    old, model = vit(32), vit(64)
    report = load_weights(model, save(tmp_path, old.state_dict()))
    assert report.resized == ('backbone.pos_embed',)
    assert (report.missing, report.shape_mismatch) == ((), ())
    # The class token's embedding is no place in the grid and is copied.
    assert torch.equal(model.backbone.pos_embed[:, 0], old.backbone.pos_embed[:, 0])
    grid = old.backbone.pos_embed[:, 1:].reshape(1, 2, 2, 24).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, size=(4, 4), mode='bicubic', align_corners=False)
    torch.testing.assert_close(model.backbone.pos_embed[:, 1:], expected.flatten(2).transpose(1, 2))


def swin(kind, window_size, **more):
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], **more)
    return build_classifier(dict(
        backbone=dict(type=kind, arch=arch, img_size=32, window_size=window_size, pad_small_map=True),
        neck=GAP, head=dict(type='LinearClsHead', num_classes=3, in_channels=64)))


def test_tables_that_a_backbone_computes_itself_need_not_match(tmp_path):
    torch.manual_seed(0)
    old, model = (swin('SwinTransformerV2', size, extra_norm_every_n_blocks=0) for size in (2, 4))
    before = snapshot(model)
    report = load_weights(model, save(tmp_path, old.state_dict()))
    assert (report.missing, report.shape_mismatch) == ((), ())
    tables = {name for name in before if 'relative' in name}
    assert len(tables) == 8
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in tables else old.state_dict()[name])


def test_tables_that_cannot_be_resized_are_named(tmp_path):
    old, model = swin('SwinTransformer', 2), swin('SwinTransformer', 4)
    path = save(tmp_path, old.state_dict())
    assert len(load_weights(swin('SwinTransformer', 2), path).matched) == len(old.state_dict())
    with pytest.raises(CheckpointError, match=r'Only 63 of 71 .*bias_table \(9, 1\), expected \(49, 1\)'):
        load_weights(model, path)


def test_loading_leaves_the_logger_as_it_was(tmp_path, caplog):
    old, model = vit(32), vit(64)
    path, logger = save(tmp_path, old.state_dict()), MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        load_weights(model, path)
        assert caplog.records == []
        model.load_state_dict(old.state_dict())  # The backbone's own message about resizing.
        assert 'pos_embed' in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


def test_old_files_without_batch_counters_load(tmp_path, torchvision_resnet):
    state = {name: value for name, value in torchvision_resnet.state_dict().items() if 'num_batches' not in name}
    report = load_weights(resnet(), save(tmp_path, state))
    assert len(report.matched) == 102
    assert len(report.missing) == 20  # 84 % of all 122 tensors, but everything that carries knowledge


def share_file(tmp_path, model, count):
    """A file with `count` of the 6 tensors of LeNet-5's backbone."""
    names = [name for name in model.state_dict() if name.startswith('backbone.')]
    return save(tmp_path, {name: model.state_dict()[name] + 1 for name in names[:count]})


def test_min_matched_is_the_border(tmp_path):
    model = lenet()
    before = snapshot(model)
    path = share_file(tmp_path, model, 3)
    with pytest.raises(CheckpointError, match='Only 3 of 6 tensors outside the head matched in weights.pth, 51% are'):
        load_weights(model, path, min_matched=0.51)
    assert same(model, before)
    assert len(load_weights(model, path, min_matched=0.5).matched) == 3


def test_five_of_six_are_too_few_by_default(tmp_path):
    model = lenet()
    with pytest.raises(CheckpointError, match='all are needed; nothing was loaded. First missing: backbone.features.6'):
        load_weights(model, share_file(tmp_path, model, 5))


@pytest.mark.parametrize('min_matched', [0.0, 0.9])
def test_foreign_file_is_refused_and_the_model_is_untouched(tmp_path, min_matched):
    model = resnet()
    before = snapshot(model)
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, save(tmp_path, nn.TransformerEncoderLayer(8, 2).state_dict()), min_matched=min_matched)
    assert 'Only 0 of ' in str(caught.value)
    assert 'First missing: backbone.conv1.weight. First unexpected: self_attn.in_proj_weight.' in str(caught.value)
    assert same(model, before)


def test_wrong_source_is_refused_and_the_right_one_proposed(tmp_path, torchvision_resnet):
    state = {f'module.encoder_q.{key}': value for key, value in torchvision_resnet.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"Only 0 of 100 .*Try source='moco'\."):
        load_weights(resnet(), save(tmp_path, state, 'moco_v2.pth'), source='torchvision')


class Evil:
    def __reduce__(self):
        return (exec, ('raise SystemExit("code ran")',))


@pytest.mark.parametrize('write', [
    lambda path: torch.save({'state_dict': lenet().state_dict(), 'meta': Evil()}, path),
    lambda path: path.write_bytes(pickle.dumps(Evil())),
    lambda path: path.write_bytes(b'not a checkpoint'),
    lambda path: path.write_bytes(b''),
    lambda path: None,
], ids=['object_inside', 'pickle', 'text', 'empty', 'absent'])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_files_that_are_no_checkpoint_are_refused(tmp_path, write, suffix):
    path = tmp_path / f'weights.{suffix}'
    write(path)
    with pytest.raises(CheckpointError, match=path.name):
        load_weights(lenet(), path)


@pytest.mark.parametrize('value', [[torch.rand(2)], {'epoch': 3, 'name': 'x'}, {'state_dict': {}}, torch.rand(3)])
def test_files_without_a_state_dict_say_what_they_hold(tmp_path, value):
    with pytest.raises(CheckpointError, match='holds no state dict'):
        load_weights(lenet(), save(tmp_path, value))


@pytest.mark.parametrize('value', [{0: torch.rand(2)}, {'state_dict': {('a', 1): torch.rand(2), 'b': torch.rand(2)}}])
def test_tensors_without_a_name_are_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match='names of tensors are text'):
        load_weights(lenet(), save(tmp_path, value))


def test_checkpoints_with_arguments_and_paths_of_other_libraries_load(tmp_path):
    old, model = lenet(), lenet()
    load_weights(model, save(tmp_path, dict(state_dict=old.state_dict(), args=argparse.Namespace(out=Path('x')),
                                            best_acc=np.float64(0.7))))
    assert same(model, old.state_dict())


@pytest.mark.parametrize(('arguments', 'says'), [
    (dict(source='moko'), "no source 'moko' is known. Nearest: 'moco'"),
    (dict(min_matched=90), 'min_matched is 90'),
    (dict(prefix_map={'encoder.': 'backbone.'}), "starts with 'encoder.'. First names: backbone.features.0.weight"),
    (dict(prefix_map={'backbone.features.0.': 'x.', 'backbone.features.3.': 'x.'}), "two tensors .* called 'x.weight'"),
])
def test_wrong_arguments_are_config_errors(tmp_path, arguments, says):
    with pytest.raises(ConfigError, match=says):
        load_weights(lenet(), save(tmp_path, lenet().state_dict()), **arguments)


def test_a_new_format_is_one_entry_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, 'trunk', lambda key: key.removeprefix('trunk.') if 'trunk.' in key else None)
    old, model = lenet(), lenet()
    path = save(tmp_path, {f'trunk.{name}': value for name, value in old.backbone.state_dict().items()})
    assert load_weights(model, path).source == 'trunk'
    assert same(model.backbone, old.backbone.state_dict())
