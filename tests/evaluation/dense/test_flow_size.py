"""Flow is compared at the size of its frames and in their pixels, whatever size the encoder sees."""

import numpy as np
import pytest
import torch
from PIL import Image
from pixel_tables import StridedEncoder
from torch import nn

from clear.datasets import read_images
from clear.datasets.make.demo_scenes.files import save_flow
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.task import TaskData

HEIGHT, WIDTH = 16, 48


class EverywhereOne(nn.Module):
    """A pixel of what the encoder sees to the right, and one down."""

    def __init__(self, map_channels, out_channels):
        super().__init__()
        self.flow = nn.Parameter(torch.ones(out_channels))

    def forward(self, maps, size):
        return self.flow.view(1, -1, 1, 1).expand(len(maps[0]), -1, *size)


@pytest.fixture
def drives(tmp_path):
    """Ten scenes; all moves by 6 pixels to the right and 2 down, in the last one, the test, by 9 and 6."""
    folder = tmp_path / 'training'
    rng = np.random.default_rng(0)
    for part in ('image_2', 'flow_occ'):
        (folder / part).mkdir(parents=True)
    for scene in range(10):
        for frame in (10, 11):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f'image_2/{scene:06d}_{frame}.png')
        flow = np.tile(np.array([6.0, 2.0]) if scene < 9 else np.array([9.0, 6.0]), (HEIGHT, WIDTH, 1))
        save_flow(folder / f'flow_occ/{scene:06d}_10.png', flow, np.ones((HEIGHT, WIDTH), bool))
    return {split: read_images(dict(type='KITTIFlow', root=str(tmp_path), split=split)) for split in ('train', 'test')}


@pytest.mark.parametrize('cache', ['none', 'maps'])
def test_flow_of_smaller_frames_is_measured_in_pixels_of_the_frames(drives, tmp_path, cache):
    task = PixelwiseProbe(head=dict(type=EverywhereOne), loss=dict(type='epe'), metric='epe', recipe=dict(size=(8, 8)),
                          settings=dict(still=dict(optimizer='sgd', lr=1e-30)), epochs=1, batch_size=4, cache=cache)
    data = TaskData(images=drives, encoder_name='strided', storage=dict(root=str(tmp_path / 'banks')))
    result = task.run(StridedEncoder(), data)
    # One pixel of 8 x 8 is 6 to the right and 2 down of 16 x 48; the last scene moves by (9, 6).
    assert result.value == pytest.approx(5.0) and result.extras['metrics']['fl_all'] == 1
    [[validated]] = [curve['val_metric'] for curve in result.extras['curves'].values()]
    assert validated == pytest.approx(0.0, abs=1e-6)
    assert result.extras['cache'] == ([] if cache == 'none' else ['test', 'train', 'val'])
