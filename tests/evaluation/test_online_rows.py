"""Features of a model that trains are to tasks what a bank of the same features is."""

import pytest
import torch
from elevater_sets import MULTI, SINGLE, write_toy_sets

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.clips import clip_table
from clear.evaluation import LabelledRows, LinearProbe, MLPProbe, ProbeData
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


def test_clips_are_joined_and_refused_as_those_of_a_bank(tmp_path):
    clips = [(f'clip {number}', [f'{number}a.jpg', f'{number}b.jpg'], number % 2) for number in range(8)]
    images = clip_table(tmp_path, clips, ['a', 'b'])
    features, valid = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.ones(16, dtype=torch.bool)
    valid[5] = False
    rows = FeatureRows(images, features, valid)
    data = TaskData(bank=dict(train=rows, test=rows))
    probe = MLPProbe(hidden=8, lrs=[0.1], seeds=1, epochs=3)
    found = probe.run(None, data)
    kept = [number for number in range(8) if number != 2]
    joined = LabelledRows(features.view(8, 8)[kept], torch.tensor(kept) % 2)
    expected = probe.fit(ProbeData(joined, joined, ['a', 'b'])).result
    assert found.value == expected.value and found.extras['n_test'] == 7
    assert found.extras['incomplete'] == dict(train=1, test=1)
    with pytest.raises(DataError, match='clips'):
        LinearProbe(lrs=[0.1], seeds=1, epochs=1).run(None, data)
