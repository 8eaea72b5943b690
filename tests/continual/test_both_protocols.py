"""`evaluation_protocol='both'`: an iid run that also measures whole buckets before training reaches them."""

import pytest
import torch
from clear_trees import write_clear_tree
from tiny_runs import built, config, results_without_time, stop_in, train, weights, write_stream

from clear.core.errors import Interrupted


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def both(cfg):
    cfg['scenario']['evaluation_protocol'] = 'both'
    return cfg


def test_whole_buckets_are_counted_sample_by_sample(stream, tmp_path):
    iid, run = train(config(stream)), train(both(config(stream)), tmp_path)
    assert all(torch.equal(value, weights(run)[name]) for name, value in weights(iid).items())
    assert run.record.acc_matrix == iid.record.acc_matrix
    # The last column before the last experience, by hand: the model after experience 1 on all images of bucket 2.
    assert run.info.rest is run.info.train
    model = train_through(stream, 2)
    samples = [*run.info.train[2], *run.info.test[2]]
    correct = sum(int(model(x[None]).argmax()) == y for x, y in samples)
    assert run.record.streaming_matrix[1][2] == correct / len(samples)
    assert [[value is None for value in row] for row in run.record.streaming_matrix] == \
        [[j <= i for j in range(3)] for i in range(3)]


def train_through(stream, count):
    """The model after `count` experiences."""
    cfg = config(stream)
    runner = train_some(cfg, count)
    return runner.strategy.model.eval()


def train_some(cfg, count):
    runner = built(cfg)
    stop_in(runner, count, 1)
    saved = {}
    measure = runner._measure

    def keep(experience):
        rows = measure(experience)
        if experience == count - 1:
            saved.update(weights(runner))
        return rows

    runner._measure = keep
    with pytest.raises(Interrupted):
        runner.train()
    runner.strategy.model.load_state_dict(saved)
    return runner


def test_results_name_the_gap_and_survive_a_resume(stream, tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    train(both(config(stream)), whole)
    runner = built(both(config(stream)), parts)
    stop_in(runner, 2, 3)
    with pytest.raises(Interrupted):
        runner.train()
    train(both(config(stream)), parts, resume=True)
    results = results_without_time(parts)
    assert results == results_without_time(whole)
    streaming = results['extras']['streaming']
    matrix = streaming['acc_matrix']
    assert streaming['metrics']['next_domain'] == pytest.approx((matrix[0][1] + matrix[1][2]) / 2)
    assert streaming['inflation_gap'] == pytest.approx(results['metrics']['in_domain'] -
                                                       streaming['metrics']['next_domain'])


def test_images_are_measured_under_the_transform_of_tests(tmp_path):
    root = write_clear_tree(tmp_path / 'tree', num_buckets=2, num_classes=2, per_class=10)
    transform = [dict(type='Resize', size=32), dict(type='Grayscale'), dict(type='ToTensor')]
    cfg = dict(scenario=dict(type='CLEAR', data_root=str(root), evaluation_protocol='both', cache='ram',
                             train_transform=[dict(type='RandomHorizontalFlip', p=1.0), *transform],
                             eval_transform=transform),
               model=dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                          head=dict(type='LinearClsHead', num_classes=2, in_channels=120)),
               cl_strategy=dict(type='Naive', train_mb_size=8, train_epochs=1, optimizer=dict(type='SGD', lr=0.01)),
               loggers=[], metrics=[], device='cpu')
    run = train(cfg)
    assert [len(bucket) for bucket in run.info.rest] == [len(bucket) for bucket in run.info.train]
    image, label = run.info.rest[0][0]
    mirrored, same = run.info.train[0][0]
    assert label == same and torch.equal(image, mirrored.flip(-1)) and not torch.equal(image, mirrored)
    assert run.record.streaming_matrix[0][1] is not None
