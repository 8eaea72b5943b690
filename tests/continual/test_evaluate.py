"""The accuracy matrix: exact counts, against a loop over samples and against Avalanche's own evaluation."""

import random

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from tiny_runs import built, config, write_stream
from torch import nn

from clear.continual.evaluate import count_correct
from clear.continual.scenarios import TensorBucket
from clear.core.modes import evaluation_mode
from clear.core.seeding import get_rng_state
from clear.datasets import BadSamples, BucketDataset, SampleContext, build_transform, read_clear

TRANSFORM = [dict(type='ToTensor')]


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


@pytest.fixture
def images(tmp_path):
    """A test bucket of 15 images (5 per class), and the file of its row 4."""
    root = write_clear_tree(tmp_path / 'images', num_buckets=1, per_class=17, image_size=8)
    bucket = read_clear(root).test[0]
    return root, bucket, root / bucket.paths[4]


def image_bucket(root, bucket, max_fraction=0.5):
    bad = BadSamples(None, {'train': 0, 'test': len(bucket.targets)}, max_fraction)
    return BucketDataset(root, bucket, build_transform(TRANSFORM), is_train=False, context=SampleContext(),
                        bad_samples=bad)


def image_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 16), nn.Dropout(0.5), nn.Linear(16, 3))


def correct_by_loop(model, dataset, rows=None):
    """One sample at a time, in plain Python."""
    model.eval()
    correct = 0
    for row in range(len(dataset)) if rows is None else rows:
        x, y = dataset[row]
        logits = model(x[None])[0].tolist()
        correct += max(range(len(logits)), key=logits.__getitem__) == y
    return correct


# The matrix of a run


@pytest.mark.parametrize('strategy', ['Naive', 'Replay', 'GDumb'])
def test_matrix_equals_avalanches_evaluation_and_a_loop(strategy, stream):
    metrics = [dict(type='accuracy_metrics', experience=True)]
    # A low rate, so that the accuracies are not all 1.
    runner = built(config(stream, strategy, metrics=metrics, optimizer=dict(type='SGD', lr=0.003)))
    measure, avalanche, loop = runner._measure, [], []

    def note(experience):
        rows = measure(experience)
        last = runner.strategy.evaluator.get_last_metrics()
        avalanche.append([last[f'Top1_Acc_Exp/eval_phase/test_stream/Task{j:03}/Exp{j:03}'] for j in range(3)])
        loop.append([correct_by_loop(runner.model, bucket) / len(bucket) for bucket in runner.info.test])
        return rows

    runner._measure = note
    runner.train()
    assert runner.record.acc_matrix == loop
    np.testing.assert_allclose(runner.record.acc_matrix, avalanche, rtol=0, atol=1e-12)
    assert len({value for row in loop for value in row}) > 2


@pytest.mark.parametrize('eval_mb_size', [1, 7, 256])
@pytest.mark.parametrize('num_workers', [0, 2])
def test_batch_size_and_workers_do_not_change_the_matrix(eval_mb_size, num_workers, stream):
    slow = dict(type='SGD', lr=0.003)
    expected = built(config(stream, optimizer=slow))
    expected.train()
    runner = built(config(stream, optimizer=slow, eval_mb_size=eval_mb_size) | dict(num_workers=num_workers))
    if num_workers:
        # Workers for the evaluation only: for training on 28 rows they take seconds to start.
        train = runner.strategy.train
        runner.strategy.train = lambda data, **kwargs: train(data, **{**kwargs, 'num_workers': 0})
    runner.train()
    assert runner.record.acc_matrix == expected.record.acc_matrix


def test_an_avalanche_evaluation_does_not_disturb_training(stream):
    plain, watched = (built(config(stream, 'Replay', metrics=metrics))
                      for metrics in ([], [dict(type='accuracy_metrics', experience=True, stream=True)]))
    assert (plain.runs_avalanche_eval, watched.runs_avalanche_eval) == (False, True)
    for runner in (plain, watched):
        runner.train()
    assert all(torch.equal(*pair) for pair in zip(plain.model.parameters(), watched.model.parameters()))


# One test set


@pytest.mark.parametrize('batch_size', [1, 7, 256])
@pytest.mark.parametrize('num_workers', [0, 2])
def test_images_are_counted_alike_whatever_the_batches(batch_size, num_workers, images):
    root, bucket, _ = images
    model, dataset = image_model(), image_bucket(root, bucket)
    count = count_correct(model, dataset, batch_size=batch_size, device='cpu', num_workers=num_workers)
    assert (count.correct, count.total, count.bad_rows) == (correct_by_loop(model, dataset), 15, [])
    assert count.accuracy == count.correct / 15


@pytest.mark.parametrize('size', [1, 2, 7])
def test_last_partial_batch_is_scored(size):
    torch.manual_seed(size)
    bucket = TensorBucket(torch.randn(7, 4), torch.randint(3, (7,)))
    model = nn.Linear(4, 3)
    count = count_correct(model, bucket, batch_size=size, device='cpu')
    assert (count.correct, count.total) == (correct_by_loop(model, bucket), 7)


@pytest.mark.parametrize('make', ['tensors', 'images'])
@pytest.mark.parametrize('num_workers', [0, 2])
def test_random_numbers_and_modes_are_left_alone(make, num_workers, images):
    root, bucket, _ = images
    dataset = image_bucket(root, bucket)
    if make == 'tensors':
        dataset = TensorBucket(torch.stack([x for x, _ in dataset]), torch.tensor(dataset.targets))
    model = image_model().train()
    model[1].eval()  # a frozen BatchNorm in a model that trains
    torch.manual_seed(3)
    np.random.seed(4)
    random.seed(5)
    before, buffers = get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    count_correct(model, dataset, batch_size=4, device='cpu', num_workers=num_workers)
    after = get_rng_state()
    assert torch.equal(before['torch'], after['torch'])
    assert torch.equal(before['numpy']['keys'], after['numpy']['keys'])
    assert before['numpy']['position'] == after['numpy']['position']
    assert torch.equal(before['python']['internal'], after['python']['internal'])
    assert [module.training for module in model] == [True, False, True, True, True] and model.training
    assert all(torch.equal(buffers[name], value) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_modes_come_back_after_an_error():
    model = image_model().train()
    with pytest.raises(RuntimeError, match='on the way'), evaluation_mode(model):
        assert not any(module.training for module in model.modules()) and not torch.is_grad_enabled()
        raise RuntimeError('on the way')
    assert all(module.training for module in model.modules()) and torch.is_grad_enabled()


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('batch_size', [1, 4])
def test_an_unreadable_image_is_left_out_and_counted(num_workers, batch_size, images):
    root, bucket, path = images
    path.write_bytes(path.read_bytes()[:100])
    model, dataset = image_model(), image_bucket(root, bucket)
    count = count_correct(model, dataset, batch_size=batch_size, device='cpu', num_workers=num_workers)
    rows = [row for row in range(15) if row != 4]
    assert (count.correct, count.total, count.bad_rows) == (correct_by_loop(model, dataset, rows), 14, [4])


def test_a_test_set_without_a_readable_image_has_no_accuracy(images):
    root, bucket, _ = images
    for path in bucket.paths:
        (root / path).write_bytes(b'no image')
    count = count_correct(image_model(), image_bucket(root, bucket, 1.0), batch_size=4, device='cpu')
    assert (count.correct, count.total, count.accuracy, count.bad_rows) == (0, 0, None, list(range(15)))


@pytest.mark.parametrize('world_size', [1, 2, 4, 20])
def test_shards_of_several_processes_add_up_to_the_whole(world_size, monkeypatch):
    torch.manual_seed(1)
    bucket, model = TensorBucket(torch.randn(15, 4), torch.randint(3, (15,))), nn.Linear(4, 3)
    whole = count_correct(model, bucket, batch_size=4, device='cpu')
    monkeypatch.setattr('clear.core.dist.world_size', lambda: world_size)
    shards = []
    for rank in range(world_size):
        monkeypatch.setattr('clear.core.dist.rank', lambda rank=rank: rank)
        shards.append(count_correct(model, bucket, batch_size=4, device='cpu'))
    assert sum(shard.correct for shard in shards) == whole.correct
    assert [shard.total for shard in shards] == [len(range(rank, 15, world_size)) for rank in range(world_size)]


def test_a_run_leaves_unreadable_test_images_out_of_both_evaluations(tmp_path):
    root = write_clear_tree(tmp_path / 'data', num_buckets=2, per_class=7, image_size=8)
    lost = root / read_clear(root).test[1].paths[2]
    lost.write_bytes(lost.read_bytes()[:-50])
    cfg = config(root, metrics=[dict(type='accuracy_metrics', experience=True)], train_epochs=1)
    grey = [dict(type='Grayscale'), dict(type='Resize', size=[32, 32]), *TRANSFORM]
    cfg['scenario'] = dict(type='CLEAR', data_root=str(root), train_transform=grey, eval_transform=grey,
                           max_bad_fraction=0.2)
    cfg['model'] = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                        head=dict(type='LinearClsHead', num_classes=3, in_channels=120))
    runner = built(cfg, tmp_path / 'run')
    runner.train()
    sizes = [len(bucket) for bucket in runner.info.test]
    assert sizes == [6, 6]
    for row in runner.record.acc_matrix:
        assert all(float(value * n).is_integer() for value, n in zip(row, (6, 5)))
    last = runner.strategy.evaluator.get_last_metrics()
    assert [last[f'Top1_Acc_Exp/eval_phase/test_stream/Task{j:03}/Exp{j:03}'] for j in range(2)] == \
        pytest.approx(runner.record.acc_matrix[1], abs=1e-12)
    assert runner.results().extras['bad_samples']['test'] == 1
    assert lost.stem in (tmp_path / 'run' / 'bad_samples.jsonl').read_text()
