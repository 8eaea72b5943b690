"""mmpretrain's SwAV with its queue: the run is that of mmpretrain's own hook, and it can be stopped anywhere."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from toy_runs import StopAt

from clear.core.errors import Interrupted
from clear.engine.training.hooks import SwAVHook
from clear.engine.training.runner import Runner
from clear.registry import HOOKS

pytest.importorskip('mmpretrain')
QUEUE = dict(batch_size=2, epoch_queue_starts=1, feat_dim=8, queue_length=5, frozen_layers_cfg=dict(prototypes=2))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder, noise = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for index in range(8):
        (folder / 'a').mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (24, 24, 3), np.uint8)).save(folder / 'a' / f'{index}.png')
    return folder


def swav(work_dir, images, hook, more=(), resume=False):
    crop = [[dict(type='RandomResizedCrop', scale=side)] for side in (24, 16)]
    work_dir.mkdir(exist_ok=True)
    runner = Runner.from_cfg(Config(dict(
        work_dir=str(work_dir), device='cpu', name='swav', default_scope='mmpretrain',
        model=dict(type='SwAV', data_preprocessor=dict(mean=[120.] * 3, std=[60.] * 3),
                   backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4),
                   neck=dict(type='SwAVNeck', in_channels=32, hid_channels=8, out_channels=8),
                   head=dict(type='SwAVHead', loss=dict(type='SwAVLoss', feat_dim=8, num_crops=[2, 1],
                                                        num_prototypes=6))),
        train_dataloader=dict(batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'), dataset=dict(
            type='CustomDataset', data_root=str(images), pipeline=[
                dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=[2, 1], transforms=crop),
                dict(type='PackInputs')])),
        train_cfg=dict(by_epoch=True, max_epochs=3), optim_wrapper=dict(optimizer=dict(type='LARS', lr=0.5)),
        default_hooks=dict(results=dict(type='ResultsHook', figures=False)))))
    for each in (hook, *more):
        runner.register_hook(each, priority='VERY_HIGH' if each is hook else None)
    runner.build()
    runner.train(resume=resume)
    return runner


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
    return swav(tmp_path_factory.mktemp('whole') / 'run', images, SwAVHook(**QUEUE))


def test_it_is_the_run_of_mmpretrain(images, whole, tmp_path):
    theirs = swav(tmp_path / 'run', images, HOOKS.get('mmpretrain.SwAVHook')(**QUEUE))
    assert (tmp_path / 'run' / 'queue.pth').is_file()
    torch.testing.assert_close(whole.bare_model.state_dict(), theirs.bare_model.state_dict(), rtol=0, atol=0)
    queue = whole.bare_model.head.loss_module.queue
    assert queue.shape == (2, 4, 8) and queue.count_nonzero() == queue.numel()
    torch.testing.assert_close(queue, theirs.bare_model.head.loss_module.queue, rtol=0, atol=0)


@pytest.mark.parametrize('stop', [5, 9])
def test_stopped_anywhere_it_ends_alike(stop, images, whole, tmp_path):
    with pytest.raises(Interrupted):
        swav(tmp_path / 'run', images, SwAVHook(**QUEUE), [StopAt(stop)])
    resumed = swav(tmp_path / 'run', images, SwAVHook(**QUEUE), resume=True)
    torch.testing.assert_close(resumed.bare_model.state_dict(), whole.bare_model.state_dict(), rtol=0, atol=0)
    assert not (tmp_path / 'run' / 'queue.pth').exists()


def test_other_processes_share_the_rows(monkeypatch):
    hook = SwAVHook(**QUEUE)
    states = [dict(queue=torch.full((2, 4, 8), float(rank))) for rank in range(2)]
    hook.load_state_dict(states[0])
    hook.merge_states(states)
    assert hook.queue.shape == (2, 8, 8) and hook.queue[:, 4:].unique().tolist() == [1.0]
