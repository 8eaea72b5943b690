from pathlib import Path

import numpy as np
import pytest
import torch
from banks import blobs

from clear.core.errors import ConfigError, DataError, TrainingError
from clear.datasets import Bucket, ImageTable
from clear.evaluation import KNN, Clustering, LabelledRows, LinearProbe, ProbeData, TaskResult, VOC07Linear
from clear.evaluation.over_time import (
    OWN_BUCKET,
    PER_BUCKET,
    accuracy_matrix,
    by_bucket,
    check_needs,
    score_task,
    wanted_cells,
)
from clear.features import write_bank

CLASSES = ['a', 'b', 'c']


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    """A bank of 3 x 60 blobs, and its buckets' train (40) and test (20) lists; the blobs wander with time."""
    features, labels, ids = [], [], []
    for bucket in range(3):
        rows, targets = blobs(60, spread=2.5, seed=bucket)
        features.append(rows + 3.0 * bucket * torch.tensor([1.0, -1.0, 0, 0, 0]))
        labels.append(targets)
        ids += [f'{bucket}/{row}' for row in range(60)]
    features, labels = torch.cat(features), torch.cat(labels)
    bank = write_bank(tmp_path_factory.mktemp('bank') / 'bank', features, labels, ids=ids, class_names=CLASSES,
                      dtype='float32')
    lists = [[listed(str(bucket), ids[start:stop], labels[start:stop].numpy())
              for start, stop in ((60 * bucket, 60 * bucket + 40), (60 * bucket + 40, 60 * bucket + 60))]
             for bucket in range(3)]
    return bank, lists, features, labels


def listed(name, ids, labels):
    return Bucket(name, ImageTable.from_columns(Path('/nowhere'), dict(path=ids, label=labels), CLASSES))


def rows(stream, bucket, split):
    start, stop = (60 * bucket, 60 * bucket + 40) if split == 'train' else (60 * bucket + 40, 60 * bucket + 60)
    return LabelledRows(stream[2][start:stop], stream[3][start:stop])


def test_a_probe_that_chooses_on_test_does_so_for_each_bucket(stream):
    bank, lists, *_ = stream
    probe = LinearProbe(lrs=(1e-4, 1e-2, 1.0), seeds=1, epochs=3, select='test', legacy=True)
    scores = score_task(probe, bank, lists[0][0], [pair[1] for pair in lists], CLASSES)
    data = [ProbeData(rows(stream, 0, 'train'), rows(stream, j, 'test'), CLASSES) for j in range(3)]
    assert scores == [probe.fit(each).result.value for each in data]


def test_knn_scores_are_those_of_scikit_learn(stream):
    from sklearn.neighbors import KNeighborsClassifier

    bank, lists, *_ = stream
    scores = score_task(KNN(k=1), bank, lists[1][0], [pair[1] for pair in lists], CLASSES)
    peer = KNeighborsClassifier(1, metric='cosine').fit(*map(np.asarray, (rows(stream, 1, 'train').features,
                                                                         rows(stream, 1, 'train').labels)))
    expected = [peer.score(rows(stream, j, 'test').features.numpy(), rows(stream, j, 'test').labels.numpy())
                for j in range(3)]
    assert scores == pytest.approx(expected)
    assert len(set(scores)) > 1  # the buckets differ, so that a mix-up of them would show


def test_one_training_of_a_linear_probe_serves_all_buckets(stream):
    bank, lists, *_ = stream
    probe = LinearProbe(lrs=[0.01, 0.1], epochs=4, seeds=2, val_fraction=0.2)
    scores = score_task(probe, bank, lists[0][0], [pair[1] for pair in lists], CLASSES)
    alone = [probe.fit(ProbeData(rows(stream, 0, 'train'), rows(stream, j, 'test'), CLASSES)).result.value
             for j in range(3)]
    assert scores == pytest.approx(alone)


def test_a_class_that_the_probe_never_saw_is_wrong(stream):
    bank, lists, *_ = stream
    train = lists[0][0]
    few = np.flatnonzero(train.targets < 2)
    without_c = listed('0', [train.ids[row] for row in few], train.targets[few])
    test = lists[0][1]
    score, = score_task(KNN(k=1), bank, without_c, [test], CLASSES)
    whole, = score_task(KNN(k=1), bank, train, [test], CLASSES)
    assert 0 < score <= (test.targets < 2).mean() and score < whole


def test_cells_of_both_protocols_overlap_in_the_own_bucket():
    assert wanted_cells([PER_BUCKET], 1, 3) == {0: [0], 1: [1], 2: [2]}
    assert wanted_cells([OWN_BUCKET], 1, 3) == {1: [0, 1, 2]}
    assert wanted_cells([PER_BUCKET, OWN_BUCKET], 1, 3) == {0: [0], 1: [0, 1, 2], 2: [2]}
    assert wanted_cells([OWN_BUCKET], None, 3) == {}
    with pytest.raises(ConfigError, match='probe_of_own_bucket'):
        wanted_cells(['own'], 0, 3)


def test_matrix_takes_each_protocol_s_training_bucket():
    def value(row, train, test):
        return (100 * row + 10 * train + test) / 1000

    assert accuracy_matrix(PER_BUCKET, [2, None], 3, value) == [[0.0, 0.011, 0.022], [0.1, 0.111, 0.122]]
    assert accuracy_matrix(OWN_BUCKET, [2, None], 3, value) == [[0.020, 0.021, 0.022], [None, None, None]]


def test_rows_are_put_in_the_order_of_buckets():
    assert by_bucket([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], [1, None, 0], 2) == [[0.5, 0.6], [0.1, 0.2]]
    assert by_bucket([[0.1, 0.2]], [1], 2) == [[None, None], [0.1, 0.2]]
    with pytest.raises(DataError, match='2 checkpoints'):
        by_bucket([[0.1, 0.2], [0.3, 0.4]], [1, 1], 2)


class Spread:
    """Of a user: the share of test rows further from the mean of the training rows than the median one of those."""

    needs = ('bank',)

    def __init__(self, factor=1.0):
        self.factor = factor

    def run(self, encoder, data):
        assert encoder is None and data.bank['train'].class_names == data.bank['test'].class_names == CLASSES
        (train, _), (test, labels) = data.bank['train'].tensors(), data.bank['test'].tensors()
        assert len(test) == len(labels)
        limit = (train - train.mean(0)).norm(dim=1).median() * self.factor
        return TaskResult('share', ((test - train.mean(0)).norm(dim=1) > limit).double().mean().item())


def test_any_task_on_features_is_measured(stream):
    bank, lists, features, _ = stream
    found = score_task(Spread(), bank, lists[0][0], [pair[1] for pair in lists], CLASSES)
    train = features[:40].numpy()
    distances = np.linalg.norm(train - train.mean(0), axis=1)
    wanted = [np.mean(np.linalg.norm(features[60 * j + 40:60 * j + 60].numpy() - train.mean(0), axis=1)
                      > np.sort(distances)[19]) for j in range(3)]
    assert found == pytest.approx(wanted) and len(set(found)) > 1


def test_a_task_that_reads_banks_sees_the_classes_of_the_stream(stream):
    """One without training rows is no error, as it is where two banks do not fit together."""
    bank, lists, *_ = stream
    few = np.flatnonzero(lists[0][0].targets < 2)
    without_c = listed('0', [lists[0][0].ids[row] for row in few], lists[0][0].targets[few])
    value, = score_task(Clustering(num_clusters=3), bank, without_c, [lists[0][1]], CLASSES)
    assert value == pytest.approx(Clustering(num_clusters=3).fit(
        rows(stream, 0, 'train').take(torch.from_numpy(few)).features, torch.from_numpy(without_c.targets),
        rows(stream, 0, 'test').features, rows(stream, 0, 'test').labels).value)


def test_a_value_that_is_no_number_is_refused(stream):
    bank, lists, *_ = stream

    class Nothing:
        def run(self, encoder, data):
            return TaskResult('share', float('nan'))

    with pytest.raises(TrainingError, match='Nothing gives nan on bucket 1'):
        score_task(Nothing(), bank, lists[0][0], [lists[1][1]], CLASSES)


def test_only_tasks_on_features_are_measured():
    check_needs('tasks[0]', KNN(k=3))
    with pytest.raises(ConfigError, match=r'tasks\[1\]: VOC07Linear needs images; an encoder over time gives features'):
        check_needs('tasks[1]', VOC07Linear(data_root='x'))
