import numpy as np
import pytest
import torch
from PIL import Image
from pixel_tables import StridedEncoder
from torch import nn

from clear.core.errors import ConfigError, DataError
from clear.datasets import ImageTable
from clear.evaluation import MapClassifier
from clear.evaluation.task import TaskData
from clear.features import extract


def bank_of(root, count, seed, classes=('dark', 'bright')):
    rng = np.random.default_rng(seed)
    root.mkdir()
    labels = [number % 2 for number in range(count)]
    for number, label in enumerate(labels):
        pixels = rng.integers(0, 120, (32, 32, 3)) + 130 * label
        Image.fromarray(pixels.astype(np.uint8)).save(root / f'{number:02}.png')
    columns = dict(path=[f'{number:02}.png' for number in range(count)], label=np.array(labels, np.int32))
    table = ImageTable.from_columns(root, columns, classes)
    return extract(StridedEncoder(crop=32), table, root / 'bank', maps=[4])


def test_it_learns_and_goes_on(tmp_path):
    torch.manual_seed(0)
    banks = dict(train=bank_of(tmp_path / 'train', 12, 0), test=bank_of(tmp_path / 'test', 6, 1),
                 val=bank_of(tmp_path / 'val', 6, 2))
    task = MapClassifier(head=dict(type='DeepLabClassificationHead', width=8, grid=1), lrs=[0.01], epochs=20,
                         batch_size=4)
    result = task.run(None, TaskData(maps=banks, folder=tmp_path / 'job'))
    assert result.metric == 'top1' and result.value == result.extras['metrics']['top1'] == 1
    assert (result.extras['n_train'], result.extras['n_val'], result.extras['n_test']) == (12, 6, 6)
    assert task.run(None, TaskData(maps=banks, folder=tmp_path / 'job')) == result
    other = bank_of(tmp_path / 'other', 4, 0, ('bright', 'dark'))
    with pytest.raises(DataError, match="The classes of 'test', 2, are not those of 'train'"):
        task.run(None, TaskData(maps=dict(banks, test=other)))
    with pytest.raises(ConfigError, match="bank called 'test'"):
        task.run(None, TaskData(maps=dict(train=other)))


def test_a_head_of_ones_own_is_one_too(tmp_path):
    class Pooled(nn.Module):
        def __init__(self, map_channels, num_classes):
            super().__init__()
            self.linear = nn.Linear(map_channels[4], num_classes)

        def forward(self, maps):
            return self.linear(maps[4].mean((2, 3)))

    bank = bank_of(tmp_path / 'all', 6, 0)
    result = MapClassifier(head=dict(type=Pooled), epochs=1).run(None, TaskData(maps=dict(train=bank, test=bank)))
    assert 0 <= result.value <= 1
