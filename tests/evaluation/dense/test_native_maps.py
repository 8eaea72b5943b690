"""Maps as a network has them: every token of a transformer, for heads that say so."""

import pytest
import torch
from pixel_tables import class_table

from clear.evaluation.dense.inputs.maps import MapEncoder
from clear.evaluation.dense.pixelwise_job import PixelwiseJob
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.task import TaskData
from clear.features.build import make_encoder

VIT = dict(type='TimmEncoder', arch='vit_tiny_patch16_224', preprocess=dict(resize=64, crop=64),
           model_args=dict(img_size=64, depth=4, embed_dim=48, num_heads=3))
RESNET = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=64, crop=64))


@torch.no_grad()
def test_every_token_of_a_transformer():
    encoder, images = make_encoder(VIT), torch.randn(2, 3, 64, 64)
    native, five = encoder.native_maps(images), encoder.feature_maps(images)
    assert [value.shape for value in native] == [(2, 48, 4, 4)] * 5
    tokens = encoder.model.forward_intermediates(images, indices=[3], intermediates_only=True)[0]
    torch.testing.assert_close(native[4], tokens)
    torch.testing.assert_close(five[4], torch.nn.functional.avg_pool2d(native[4], 2))
    torch.testing.assert_close(five[3], native[3])


@torch.no_grad()
def test_of_a_network_with_all_strides_they_are_the_same():
    encoder, images = make_encoder(RESNET), torch.randn(1, 3, 64, 64)
    for one, other in zip(encoder.native_maps(images), encoder.feature_maps(images)):
        assert torch.equal(one, other)


@torch.no_grad()
def test_an_encoder_without_them_gives_its_maps():
    class Plain(torch.nn.Module):
        def feature_maps(self, images):
            return [images] * 5

    images = torch.randn(1, 3, 4, 4)
    assert torch.equal(MapEncoder(Plain(), [4], native=True)(images)[4], images)


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp('pixels')
    return dict(train=class_table(root / 'train', 6, size=64), test=class_table(root / 'test', 3, size=64, seed=1))


@pytest.mark.parametrize('head, side, trains', [('LinearPixelHead', 4, False), ('LinearPixelHead', 4, True),
                                                ('PixelWiseHead', 2, False)])
def test_a_head_gets_what_it_says(tables, tmp_path, head, side, trains):
    task = PixelwiseProbe(head=dict(type=head), loss=dict(type='cross_entropy'), metric='miou',
                          recipe=dict(size=(64, 64)), lrs=[0.01], epochs=1, batch_size=3, train_encoder=trains)
    data = TaskData(images=tables, encoder_name='vit', storage=dict(root=str(tmp_path)))
    job = PixelwiseJob(task, make_encoder(VIT), data)
    maps = job.build().maps if trains else job.encode
    assert maps(torch.zeros(1, 3, 64, 64))[4].shape[2:] == (side, side)
    assert 0 <= task.run(make_encoder(VIT), data).value <= 1


def test_stored_maps_of_either_kind_have_places_of_their_own(tables, tmp_path):
    for head in ('LinearPixelHead', 'PixelWiseHead'):
        options = dict(levels=[0, 1, 2, 3, 4]) if head == 'LinearPixelHead' else {}
        PixelwiseProbe(head=dict(type=head, **options), loss=dict(type='cross_entropy'), metric='miou', cache='maps',
                       recipe=dict(size=(64, 64)), lrs=[0.01], epochs=1, batch_size=3).run(
            make_encoder(VIT), TaskData(images=tables, encoder_name='vit', storage=dict(root=str(tmp_path))))
    assert len([*tmp_path.rglob('meta.json')]) == 4
