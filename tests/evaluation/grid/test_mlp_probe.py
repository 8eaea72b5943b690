"""The probe with a hidden layer, on single images and on clips, whose heads another task tests again."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from banks import MemoryBank, blob_data, blobs

from clear.core.errors import CheckpointError, DataError
from clear.evaluation import KNN, LinearProbe, MLPProbe, TrainedHead
from clear.evaluation.heads.embedding import MultiEmbeddingHead
from clear.evaluation.image.grid.clips import join_clips
from clear.evaluation.image.rows import BucketRows
from clear.evaluation.task import TaskData

QUICK = dict(lrs=[0.01, 0.1], seeds=2, epochs=6, batch_size=16)


@dataclass
class ClipBank(MemoryBank):
    """Frames of clips, some of which could not be read."""

    clip_length: int = 2
    unreadable: tuple = ()

    @property
    def valid(self):
        return np.array([row not in self.unreadable for row in range(len(self.labels))])

    def tensors(self, rows=None):
        rows = np.arange(len(self.labels)) if rows is None else np.asarray(rows)
        return super().tensors(rows[self.valid[rows]])


def clip_bank(num_clips, length=2, seed=0, **options):
    """Clips whose label is the sign of what their frames do: neither frame alone tells it."""
    start = torch.randn(num_clips, 1, 4, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(num_clips) % 2
    steps = torch.arange(length)[:, None] * torch.ones(4) * 2
    frames = start + torch.where(labels == 1, 1.0, -1.0)[:, None, None] * (steps - steps.mean(0))
    return ClipBank(frames.reshape(-1, 4), labels.repeat_interleave(length), ['back', 'forth'], clip_length=length,
                    **options)


def test_a_clip_is_a_row_of_the_features_of_its_frames_in_their_order():
    bank = clip_bank(5, length=3)
    joined, num_images = join_clips(dict(test=bank))
    features, labels = joined['test'].tensors()
    assert num_images == 3 and features.shape == (5, 12) and labels.tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(features[1], torch.cat([bank.features[3], bank.features[4], bank.features[5]]))


def test_clips_are_told_apart_by_two_frames(tmp_path):
    banks = dict(train=clip_bank(60), test=clip_bank(30, seed=1))
    result = MLPProbe(hidden=16, **QUICK).run(None, TaskData(bank=banks, folder=tmp_path))
    assert result.value > 0.95 and result.extras['num_images'] == 2
    assert (result.extras['n_train'], result.extras['n_val'], result.extras['n_test']) == (54, 6, 30)
    lines = [json.loads(line) for line in (tmp_path / 'history.jsonl').read_text().splitlines()]
    assert len(lines) == 2 * 6 and {*lines[0]} == {'setting', 'epoch', 'train_loss', 'train_metric', 'val_loss',
                                                   'val_metric'}
    chosen = [line for line in lines if line['epoch'] == 6 and f'-lr{result.extras["selected"]["lr"]:g}-' in
              line['setting']]
    best = max(entry['val_top1'] for entry in result.extras['grid'])
    assert chosen[0]['val_metric'] == pytest.approx(best)


def test_a_clip_with_an_unreadable_frame_is_left_out_and_counted():
    banks = dict(train=clip_bank(40, unreadable=(0, 5, 4)), test=clip_bank(20, seed=1))
    result = MLPProbe(hidden=4, lrs=[0.1], seeds=1, epochs=1).run(None, TaskData(bank=banks))
    assert result.extras['incomplete'] == dict(train=2) and result.extras['n_train'] == 38


def test_clips_that_cannot_be_compared_are_refused():
    with pytest.raises(DataError, match='different lengths: train 2, test 3'):
        MLPProbe().run(None, TaskData(bank=dict(train=clip_bank(8), test=clip_bank(8, length=3))))
    for task in (LinearProbe(), KNN()):
        with pytest.raises(DataError, match="images of 'train' are frames of clips, 2 each"):
            task.run(None, TaskData(bank=dict(train=clip_bank(8), test=clip_bank(8))))
    bucket = BucketRows.__new__(BucketRows)
    bucket.bank = clip_bank(8)
    with pytest.raises(DataError, match='one bucket'):
        join_clips(dict(test=bucket))


def test_single_images_are_read_as_they_are():
    banks = dict(train=MemoryBank(*blobs(60)), test=MemoryBank(*blobs(30, seed=1)))
    result = MLPProbe(hidden=16, **QUICK).run(None, TaskData(bank=banks))
    assert result.value > 0.9 and result.extras['num_images'] == 1 and len(result.extras['per_seed']) == 2


def test_many_settings_are_trained_in_parts_that_fit_into_memory(monkeypatch):
    data, probe = blob_data(60, 30), MLPProbe(hidden=8, lrs=[0.01, 0.1, 1.0], seeds=2, epochs=3)
    whole = probe.fit(data)
    monkeypatch.setattr('clear.evaluation.image.linear_probe._MOST_NUMBERS', 1)
    parts = probe.fit(data)
    assert parts.result.extras['selected'] == whole.result.extras['selected']
    torch.testing.assert_close(parts.weight, whole.weight)


def test_settings_are_trained_in_memory_bounded_parts_with_their_history(tmp_path, monkeypatch):
    monkeypatch.setattr('clear.evaluation.image.linear_probe._MOST_NUMBERS', 1)
    MLPProbe(hidden=8, lrs=[0.01, 0.1, 1.0], seeds=1, epochs=2).fit(blob_data(60, 30), folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / 'history.jsonl').read_text().splitlines()]
    assert [line['epoch'] for line in lines] == [1, 2] * 3


# Heads that are kept

@pytest.fixture
def trained(tmp_path):
    """Clips in two sets, and the folder of a task that was trained on the first."""
    banks = dict(train=clip_bank(40), test=clip_bank(20, seed=1))
    result = MLPProbe(hidden=8, **QUICK).run(None, TaskData(bank=banks, folder=tmp_path))
    return banks, tmp_path, result


def test_kept_heads_give_the_same_result_again(trained):
    banks, folder, result = trained
    again = TrainedHead(of='mlp').run(None, TaskData(bank=dict(test=banks['test']), jobs=dict(mlp=folder)))
    assert again.value == result.value and again.extras['per_seed'] == result.extras['per_seed']
    assert again.extras['selected'] == result.extras['selected']
    assert (again.extras['n_train'], again.extras['n_test']) == (0, 20)


def test_kept_heads_are_states_of_the_registered_head(trained):
    banks, folder, result = trained
    saved = torch.load(folder / 'head.pth', weights_only=True)
    head = MultiEmbeddingHead(4, 2, num_images=2, hidden=8)
    head.load_state_dict(saved['heads'][0])
    rows = (banks['test'].features.reshape(20, 8) - saved['mean']) / saved['std']
    hits = head(rows.view(20, 2, 4)).argmax(1) == banks['test'].labels[::2]
    assert hits.double().mean().item() == result.extras['per_seed']['0']['top1']
    assert saved['classes'] == ['back', 'forth'] and saved['setting'] == result.extras['selected']


def test_classes_are_matched_by_name_whatever_their_order(trained):
    banks, folder, result = trained
    bank = banks['test']
    other = ClipBank(bank.features, 2 - bank.labels, ['unused', 'forth', 'back'])
    task = TrainedHead(of='mlp')
    assert task.run(None, TaskData(bank=dict(test=other), jobs=dict(mlp=folder))).value == result.value
    other.class_names = ['unused', 'fourth', 'back']
    with pytest.raises(DataError, match=r"trained on other classes: 'fourth' of 'test' .* nearest: 'forth'"):
        task.run(None, TaskData(bank=dict(test=other), jobs=dict(mlp=folder)))


def test_a_class_that_training_only_names_is_one_of_others(tmp_path):
    bank = clip_bank(20)
    named = ClipBank(bank.features, bank.labels, ['back', 'forth', 'up'])
    MLPProbe(hidden=8, **QUICK).run(None, TaskData(bank=dict(train=named, test=bank), folder=tmp_path))
    tested = ClipBank(bank.features, bank.labels * 2, ['back', 'forth', 'up'])
    with pytest.raises(DataError, match="other classes: 'up'"):
        TrainedHead(of='mlp').run(None, TaskData(bank=dict(test=tested), jobs=dict(mlp=tmp_path)))


def test_heads_that_do_not_fit_are_refused(trained, tmp_path):
    banks, folder, _ = trained
    task = TrainedHead(of='mlp')
    with pytest.raises(DataError, match='read 2 images at a time'):
        task.run(None, TaskData(bank=dict(test=MemoryBank(*blobs(10))), jobs=dict(mlp=folder)))
    wide = ClipBank(torch.zeros(4, 9), torch.zeros(4, dtype=torch.int64), ['back'])
    with pytest.raises(DataError, match='read 8 features'):
        task.run(None, TaskData(bank=dict(test=wide), jobs=dict(mlp=folder)))
    with pytest.raises(DataError, match='kept in no folder'):
        task.run(None, TaskData(bank=dict(test=banks['test'])))
    with pytest.raises(DataError, match='left no trained head'):
        task.run(None, TaskData(bank=dict(test=banks['test']), jobs=dict(mlp=tmp_path / 'empty')))
    saved = torch.load(folder / 'head.pth', weights_only=True)
    for changes, error in ((dict(format=2), DataError), (dict(scale='z'), CheckpointError),
                           (dict(heads=[dict(a=torch.zeros(1))]), CheckpointError), (dict(seeds=[0]), CheckpointError)):
        torch.save({**saved, **changes}, folder / 'head.pth')
        with pytest.raises(error, match=r'head\.pth'):
            task.run(None, TaskData(bank=dict(test=banks['test']), jobs=dict(mlp=folder)))
