import pytest
import torch
from pixel_tables import class_table

from clear.evaluation.dense.inputs.stage4 import fourth_stage
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.heads import dilated
from clear.evaluation.task import TaskData
from clear.features import FeatureBank
from clear.models.towers.image import build_encoder

SMALL = dict(resize=32, crop=32)


def encoder_of(kind, name, **more):
    torch.manual_seed(0)
    return build_encoder(dict(type=kind, arch=name, preprocess=SMALL, **more))


@pytest.mark.parametrize('kind, name, place', [
    ('TorchvisionEncoder', 'resnet18', 'layer4'), ('TorchvisionEncoder', 'resnext50_32x4d', 'layer4'),
    ('TimmEncoder', 'resnet18', 'layer4'), ('TorchvisionEncoder', 'mobilenet_v3_small', None),
    ('TimmEncoder', 'efficientnet_lite0', None), ('TimmEncoder', 'test_vit', None),
    ('TimmEncoder', 'test_convnext', None)])
def test_the_fourth_stage_is_found_by_what_it_does(kind, name, place):
    encoder = encoder_of(kind, name)
    stage = fourth_stage(encoder)
    assert stage is (None if place is None else encoder.model.get_submodule(place))


def test_of_mmpretrain():
    encoder = build_encoder(dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=18), preprocess=SMALL))
    assert fourth_stage(encoder) is encoder.model.backbone.layer4


@pytest.fixture(scope='module')
def resnet():
    return encoder_of('TorchvisionEncoder', 'resnet18')


def run(resnet, tmp_path, **changes):
    tables = dict(train=class_table(tmp_path / 'train', 5, size=32), test=class_table(tmp_path / 'test', 2, size=32))
    task = PixelwiseProbe(**dict(dict(
        head=dict(type='DeepLabHead', width=8), loss=dict(type='cross_entropy'), metric='miou', lrs=[0.01], epochs=1,
        batch_size=2, recipe=dict(size=(32, 32)), cache='maps', cache_dtype='float32'), **changes))
    return task.run(resnet, TaskData(images=tables, storage=dict(root=str(tmp_path / 'banks')),
                                     folder=tmp_path / 'job'))


def banks(tmp_path):
    return [FeatureBank.open(path) for path in sorted((tmp_path / 'banks/pixel_maps').iterdir()) if path.is_dir()]


def test_of_a_frozen_stage_the_output_is_stored(resnet, tmp_path):
    before = {name: value.clone() for name, value in resnet.state_dict().items()}
    result = run(resnet, tmp_path)
    assert result.extras['stage4'] == 'dilated copy, frozen'
    bank = banks(tmp_path)[0]
    assert sorted(bank.meta['maps']) == ['1', '4'] and bank.meta['maps']['4'] == [512, 2, 2]
    from clear.datasets.dense.samples import DenseSamples

    root = tmp_path / ('train' if len(bank) == 5 else 'test')
    image = DenseSamples(class_table(root, len(bank), size=32), dict(size=(32, 32)), resnet.preprocess,
                         train=False).sample(0).images[None]
    with torch.no_grad():
        expected = dilated(resnet.model.layer4)(resnet.feature_maps(image)[3])[0]
    torch.testing.assert_close(torch.from_numpy(bank.maps(4)[0].copy()), expected, rtol=1e-4, atol=1e-5)
    assert not any('stage4' in name for name in torch.load(tmp_path / 'job/head.pth')['state_dict'])
    assert all(torch.equal(value, before[name]) for name, value in resnet.state_dict().items())
    encoded = run(resnet, tmp_path / 'again', cache='none')
    assert encoded.value == pytest.approx(result.value, abs=5e-3)  # a few pixels may be on the border
    assert encoded.extras['curves']['adam_0.01']['train_loss'] == pytest.approx(
        result.extras['curves']['adam_0.01']['train_loss'], rel=1e-5)


@pytest.mark.parametrize('changes', [dict(legacy=True),
                                     dict(head=dict(type='DeepLabHead', width=8, train_block4=True))])
def test_a_stage_that_trains_is_part_of_the_head(resnet, tmp_path, changes):
    result = run(resnet, tmp_path, **{**changes, 'test_batch_size': 2})
    assert result.extras['stage4'] == 'dilated copy, trained'
    assert sorted(banks(tmp_path)[0].meta['maps']) == ['1', '3']
    kept = torch.load(tmp_path / 'job/head.pth')['state_dict']
    assert not torch.equal(kept['stage4.0.conv1.weight'], resnet.model.layer4[0].conv1.weight)


def test_without_a_residual_stage_the_last_map_is_read_and_the_result_says_so(tmp_path):
    result = run(encoder_of('TorchvisionEncoder', 'mobilenet_v3_small'), tmp_path)
    assert result.extras['stage4'] == 'none: the encoder has no residual fourth stage, the head reads its last map'
    assert sorted(banks(tmp_path)[0].meta['maps']) == ['1', '4']
