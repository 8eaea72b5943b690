"""Features of a model that trains are to tasks what a bank of the same features is."""

import pytest
import torch
from elevater_sets import MULTI, SINGLE, write_toy_sets

from clear.core.errors import ConfigError
from clear.datasets import read_images
from clear.evaluation.elevater.zero_shot import ElevaterZeroShot
from clear.evaluation.online_tasks import FeatureRows, TaskHook
from clear.evaluation.task import TaskData
from clear.features.writing import write_bank


class Encoder(torch.nn.Module):
    def encode_text(self, texts):
        return torch.randn(len(texts), 4, generator=torch.Generator().manual_seed(len(texts)))


@pytest.mark.parametrize('name, metric', [(SINGLE, 'top1'), (MULTI, 'map_11point')])
def test_sets_of_elevater_are_measured_on_readable_images_as_on_a_bank(tmp_path, name, metric):
    write_toy_sets(tmp_path)
    images = read_images(dict(type='ElevaterSet', root=str(tmp_path), set=name, split='test'))
    features = torch.randn(len(images), 4, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(len(images)) % 5 != 1
    bank = write_bank(tmp_path / 'bank', features, [-1] * len(images), class_names=[], valid=valid.tolist())
    found = [ElevaterZeroShot(set=name, metric=metric).run(Encoder(), TaskData(
        bank={'test': rows}, images={'test': images})) for rows in (FeatureRows(images, features, valid), bank)]
    assert found[0].to_dict() == found[1].to_dict()
    assert found[0].extras['unreadable'] == int((~valid).sum())


@pytest.mark.parametrize('options', [
    dict(type='ElevaterFineTune', set='mnist'), dict(type='ElevaterZeroShot', set='kitti-distance'),
    dict(type='ElevaterLinear', set='mnist', merge_projection=True)])
def test_tasks_that_encode_images_by_themselves_are_refused_before_anything_trains(options):
    with pytest.raises(ConfigError, match=f"{options['type']} with these options encodes images by itself"):
        TaskHook([options], data=dict(test=dict(type='ElevaterSet', root='data', set=options['set'], split='test')))
    TaskHook([dict(type='ElevaterZeroShot', set='mnist')], data=dict(test=dict(type='ElevaterSet')))
