"""MoCo v2 on a bucket, straight from the shards of a stage: the same bits as from files."""

import pytest
import torch
from curated import curated
from short_runs import CONFIGS, run

CONFIG = str(CONFIGS / 'selfsup' / 'mocov2_resnet18_1xb64-cos-1e_curated-b0.py')


@pytest.mark.slow
def test_one_epoch_of_the_recipe(tmp_path):
    found = []
    for store in ('tar', 'files'):
        curated(tmp_path / store, count=90, store=store, bad=(0,))
        done = run('train', CONFIG, '--work-dir', str(tmp_path / f'run_{store}'), '--cfg-options',
                   f'train_dataloader.dataset.stage={tmp_path}/{store}/download',
                   f'train_dataloader.dataset.buckets={tmp_path}/{store}/time_buckets',
                   'train_dataloader.dataset.max_bad_fraction=0.1', 'train_dataloader.batch_size=8',
                   'model.queue_size=16', 'model.backbone.base_channels=8', 'model.backbone.stem_channels=8',
                   'model.neck.in_channels=64', 'model.neck.hidden_channels=64')
        assert done.code == 0, done.err
        found.append(torch.load(tmp_path / f'run_{store}' / 'epoch_1.pth', weights_only=True)['state_dict'])
        assert (tmp_path / f'run_{store}' / 'bad_samples.jsonl').read_text().count('\n') == 1
    one, other = found
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
