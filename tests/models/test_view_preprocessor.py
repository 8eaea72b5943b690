"""Batches of a loader become views, in full precision whatever runs around."""

import pytest
import torch
from mmengine.model import BaseModel

from clear.core.errors import ConfigError
from clear.datasets.transforms import BatchedMultiCrop
from clear.models.selfsup import ViewPreprocessor
from clear.registry import MODELS

VIEWS = dict(type='BatchedMultiCrop', recipe='moco_v2', options=dict(size=8))


@pytest.fixture
def whole():
    generator = torch.Generator().manual_seed(0)
    return dict(inputs=torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8, generator=generator),
                seeds=torch.randint(2**62, (5,), generator=generator))


def test_views_of_whole_images(whole):
    config = dict(type='ViewPreprocessor', views=dict(VIEWS))
    preprocessor = MODELS.build(config)
    assert config['views'] == VIEWS and isinstance(preprocessor, ViewPreprocessor)
    expected = BatchedMultiCrop('moco_v2', dict(size=8))(whole['inputs'], whole['seeds'])
    found = preprocessor(whole, training=True)
    assert list(found) == ['inputs'] and len(found['inputs']) == 2
    assert all(map(torch.equal, found['inputs'], expected)) and not torch.equal(*expected)
    # One image alone has the views that it has in the batch.
    alone = preprocessor(dict(inputs=whole['inputs'][3:4], seeds=whole['seeds'][3:4]))
    assert all(torch.allclose(one[0], view[3], atol=1e-6) for one, view in zip(alone['inputs'], expected))


def test_autocast_leaves_views_in_full_precision(whole):
    preprocessor = ViewPreprocessor(VIEWS)
    expected = preprocessor(whole)['inputs']
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype == torch.bfloat16
        found = preprocessor(whole)['inputs']
    assert all(view.dtype == torch.float32 for view in found) and all(map(torch.equal, found, expected))


def test_views_of_the_data_set_pass():
    views = [torch.rand(5, 3, 8, 8), torch.rand(5, 3, 4, 4)]
    found = ViewPreprocessor()(dict(inputs=views), training=True)
    assert type(found['inputs']) is list and all(map(torch.equal, found['inputs'], views))


def test_inputs_go_to_the_device_and_seeds_stay(whole, monkeypatch):
    seen = []
    preprocessor = ViewPreprocessor(lambda *batch: seen.extend(batch) or [batch[0]])
    monkeypatch.setattr(preprocessor, 'cast_data', lambda data: data.clone())
    preprocessor(whole)
    assert seen[0] is not whole['inputs'] and seen[1] is whole['seeds']
    moved = ViewPreprocessor()
    moved.to('meta')
    assert moved(dict(inputs=[torch.rand(1, 3, 4, 4)]))['inputs'][0].device.type == 'meta'


def test_as_the_preprocessor_of_a_model(whole):
    class Model(BaseModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return [view.shape for view in inputs]

    model = Model(ViewPreprocessor(VIEWS))
    assert not model.state_dict()
    assert model._run_forward(model.data_preprocessor(whole, True), mode='loss') == [(5, 3, 8, 8)] * 2


def test_the_other_form_of_batch(whole):
    floats = [torch.rand(5, 3, 8, 8)]
    with pytest.raises(ConfigError, match='views of whole images, but a batch holds a list of 1 x torch.float32 '
                                          r'\(5, 3, 8, 8\).*image_size'):
        ViewPreprocessor(VIEWS)(dict(inputs=floats))
    with pytest.raises(ConfigError, match=r"a batch holds torch.uint8 \(5, 3, 16, 16\).*BatchedMultiCrop"):
        ViewPreprocessor()(whole)
    with pytest.raises(ConfigError, match='default_collate'):
        ViewPreprocessor()(dict(inputs=[floats, floats]))
