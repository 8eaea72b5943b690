from collections import Counter

import pytest
import torch
from banks import MemoryBank, blobs

from clear.core.errors import ConfigError, DataError
from clear.evaluation import read_splits, sample_shots, stratified_split
from clear.evaluation.image.rows import BucketRows, seed_list
from clear.evaluation.task import TaskData
from clear.registry import TASKS

TASK_CONFIGS = [dict(type='KNN', k=2), dict(type='NearestClassMean'), dict(type='LinearProbe', epochs=30, seeds=2),
                dict(type='MLPProbe', hidden=16, epochs=30, seeds=2), dict(type='LogisticProbe'),
                dict(type='FewShotProbe', shots=2, seeds=2), dict(type='Clustering')]
by_type = pytest.mark.parametrize('cfg', TASK_CONFIGS, ids=lambda cfg: cfg['type'])


def banks(num_train=30, num_test=13, **options):
    return dict(train=MemoryBank(*blobs(num_train, **options)), test=MemoryBank(*blobs(num_test, seed=1, **options)))


def test_every_task_is_listed_here():
    TASKS.import_from_location()
    on_banks = {name for name, task in TASKS.module_dict.items()
                if task.__module__.startswith('clear.evaluation') and task.needs == ('bank',)}
    # Several labels per image, from the annotations of VOC, and heads of another task: these have their own tests.
    assert on_banks - {'VOC07SVM', 'TrainedHead'} == {cfg['type'] for cfg in TASK_CONFIGS}


@by_type
def test_contract_of_every_task(cfg):
    found = banks()
    before = {name: bank.features.clone() for name, bank in found.items()}
    results = [TASKS.build(cfg).run(None, TaskData(bank=found)) for _ in range(2)]
    assert results[0] == results[1], 'the same banks give the same result'
    result = results[0]
    assert 0.8 < result.value <= 1 and result.extras['metrics'][result.metric] == result.value
    assert result.extras['n_test'] == 13
    assert all(torch.equal(before[name], bank.features) for name, bank in found.items())


@by_type
def test_class_missing_from_training_is_named(cfg):
    found = banks()
    found['train'].class_names = ['cat', 'dog', 'cow']
    found['test'].class_names = ['cat', 'dog', 'horse']
    with pytest.raises(DataError, match="'horse'"):
        TASKS.build(cfg).run(None, TaskData(bank=found))


@by_type
def test_class_that_training_only_names_is_missing_too(cfg):
    found = banks()
    keep = found['train'].labels != 1
    found['train'] = MemoryBank(found['train'].features[keep], found['train'].labels[keep], ['cat', 'dog', 'cow'])
    found['test'].class_names = ['cat', 'dog', 'cow']
    with pytest.raises(DataError, match="'dog'"):
        TASKS.build(cfg).run(None, TaskData(bank=found))


@by_type
@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_features_that_are_not_finite_are_refused(cfg, split, bad):
    found = banks()
    found[split].features[4, 2] = bad
    kind = 'NaN' if bad != bad else 'infinity'
    with pytest.raises(DataError, match=f"'{split}' are not finite in 1 of .*which holds {kind}"):
        TASKS.build(cfg).run(None, TaskData(bank=found))


@by_type
@pytest.mark.parametrize('split', ['train', 'test'])
def test_empty_bank_is_refused(cfg, split):
    found = banks()
    found[split].labels[:] = -1
    with pytest.raises(DataError, match=f"'{split}' has no labelled rows"):
        TASKS.build(cfg).run(None, TaskData(bank=found))


def test_classes_are_matched_by_name():
    found = banks()
    found['train'].class_names = ['a', 'b', 'c']
    found['test'].class_names = ['c', 'a', 'b']
    labels = found['test'].labels.clone()
    data = read_splits(found)
    assert [data.class_names[label] for label in data.test.labels] == [['c', 'a', 'b'][label] for label in labels]


def test_rows_without_a_label_are_left_out_and_counted():
    found = banks()
    found['train'].labels[:4] = -1
    data = read_splits(found)
    assert len(data.train) == 26 and data.unlabelled == dict(train=4)
    assert data.sizes() == dict(n_train=26, n_val=0, n_test=13, unlabelled=dict(train=4))


def test_banks_that_do_not_belong_together():
    found = banks()
    with pytest.raises(ConfigError, match="called 'test'"):
        read_splits(dict(train=found['train']))
    with pytest.raises(ConfigError, match="'tset'"):
        read_splits({**found, 'tset': found['test']})
    found['test'].features = found['test'].features[:, :3]
    with pytest.raises(DataError, match="'test' have 3 dimensions, those of 'train' 5"):
        read_splits(found)


def test_bucket_rows_are_those_of_the_bucket():
    features, labels = blobs(6)
    bank = MemoryBank(features, labels, ['a', 'b', 'c'], buckets=list('121121'))
    rows = BucketRows(bank, '2')
    assert torch.equal(rows.tensors()[0], features[[1, 4]]) and rows.class_names == ['a', 'b', 'c']


@pytest.mark.parametrize('fraction', [0.1, 0.5, 0.9])
def test_stratified_split(fraction):
    labels = torch.tensor([0] * 20 + [1] * 7 + [2] * 2 + [3])[torch.randperm(30, generator=torch.manual_seed(0))]
    stays, second = stratified_split(labels, fraction, seed=3)
    assert sorted([*stays.tolist(), *second.tolist()]) == list(range(30))
    taken, total = Counter(labels[second].tolist()), Counter(labels.tolist())
    for label, count in total.items():
        expected = 0 if count == 1 else min(max(round(fraction * count), 1), count - 1)
        assert taken[label] == expected
    again = stratified_split(labels, fraction, seed=3)
    assert torch.equal(again[1], second)
    assert not torch.equal(stratified_split(labels, fraction, seed=4)[1], second)


def test_validation_of_single_samples_is_refused():
    found = dict(train=MemoryBank(*blobs(3)), test=MemoryBank(*blobs(6)))
    with pytest.raises(DataError, match='No validation rows'):
        read_splits(found).with_validation(0.1, 0)


def test_shots_are_balanced_nested_and_seeded():
    labels = torch.randint(0, 4, (80,), generator=torch.manual_seed(0))
    drawn = {shots: sample_shots(labels, shots, seed=5) for shots in (1, 3, 8)}
    for shots, rows in drawn.items():
        assert Counter(labels[rows].tolist()) == dict.fromkeys(range(4), shots)
        assert rows.tolist() == sorted({*rows.tolist()})
    assert {*drawn[1].tolist()} < {*drawn[3].tolist()} < {*drawn[8].tolist()}
    assert not torch.equal(sample_shots(labels, 3, seed=6), drawn[3])


def test_draws_cover_all_rows_over_seeds():
    labels = torch.zeros(10, dtype=torch.int64)
    counts = Counter(row for seed in range(300) for row in sample_shots(labels, 2, seed).tolist())
    assert len(counts) == 10 and min(counts.values()) > 30, 'expected 60 of each'


def test_class_with_too_few_samples_is_named():
    labels = torch.tensor([0] * 5 + [1] * 2)
    with pytest.raises(DataError, match=r"'dog' \(2\)"):
        sample_shots(labels, 3, seed=0, class_names=['cat', 'dog'])


def test_seed_list():
    assert seed_list(3, 5) == [5, 6, 7] and seed_list([4, 1], 0) == [4, 1]
    for wrong in (0, True, [], [1, 1], [-1], 2.0):
        with pytest.raises(ConfigError, match='seeds'):
            seed_list(wrong, 0)


def test_two_classes_of_one_name_are_refused():
    found = banks()
    found['train'].class_names = ['crane', 'heron', 'crane']
    with pytest.raises(DataError, match="two classes called 'crane'"):
        read_splits(found)
