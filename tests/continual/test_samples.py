"""Data sets seen as whole tensors, against reading them sample by sample."""

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import _make_taskaware_classification_dataset as classification_dataset
from avalanche.benchmarks.utils import make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.benchmarks.utils.utils import concat_datasets
from torch.utils.data import TensorDataset
from toy_streams import class_stream

from clear.continual.samples import as_block, attribute_values, index_values, resolve
from clear.continual.scenarios.base import TensorBucket, task_aware

SIZES = (5, 4, 3)


@pytest.fixture
def experiences():
    """Data sets of 5, 4 and 3 samples; the input of row i of experience e is (10 e + i, -1)."""
    buckets = [TensorBucket(torch.stack([torch.arange(size) + 10.0 * number, -torch.ones(size)], 1),
                            torch.arange(size) % 3) for number, size in enumerate(SIZES)]
    return task_aware(buckets)


def by_sample(dataset):
    """Every column of a data set, stacked from its samples."""
    rows = [[torch.as_tensor(value) for value in dataset[index]] for index in range(len(dataset))]
    return [torch.stack(column) for column in zip(*rows)]


def assert_block_is(dataset):
    """All of it, single rows, and rows in another order with repeats."""
    block, expected = as_block(dataset), by_sample(dataset)
    for rows in (torch.arange(len(dataset)), torch.tensor([len(dataset) - 1]), torch.tensor([1, 0, 1])):
        taken = block.take(rows)
        assert len(taken) == len(expected)
        for column, wanted in zip(taken, expected):
            assert column.dtype == wanted.dtype and torch.equal(column, wanted[rows])
    return block


def with_logits(dataset, logits):
    attribute = DataAttribute(FlatData([list(logits)], discard_elements_not_in_indices=True), name='logits',
                              use_in_getitem=True)
    return make_avalanche_dataset(dataset, data_attributes=[attribute])


VIEWS = {
    'whole': lambda e: e[1],
    'train view': lambda e: e[1].train(),
    'eval view': lambda e: e[1].eval(),
    'some rows': lambda e: e[0].subset([3, 1, 4]),
    'rows twice': lambda e: e[0].subset([2, 2, 0, 2]),
    'rows of rows': lambda e: e[0].subset([4, 3, 1]).subset([2, 0]),
    'two experiences': lambda e: concat_datasets([e[2], e[0]]),
    'parts': lambda e: concat_datasets([e[0].subset([1, 0]), e[2].subset([2]), e[0].subset([4])]),
    'rows of parts': lambda e: concat_datasets([e[0].subset([1, 0]), e[1]]).subset([4, 0, 1, 5]),
    'part of an empty one': lambda e: concat_datasets([e[0].subset([]), e[1].subset([3, 0])]),
    'added': lambda e: e[0].subset([0, 1]) + e[1].subset([1]),
}


@pytest.mark.parametrize('view', VIEWS)
def test_a_block_holds_what_the_samples_hold(view, experiences):
    assert_block_is(VIEWS[view](experiences))


def test_a_whole_bucket_is_not_copied(experiences):
    assert as_block(experiences[0]).rows is None
    [bottom], _, rows = resolve(experiences[0])
    assert as_block(experiences[0]).columns[0] is bottom.inputs
    part = as_block(experiences[0].subset([4, 2]))
    assert part.columns[0] is bottom.inputs and part.rows.tolist() == [4, 2] and rows.tolist() == [0, 1, 2, 3, 4]


def test_task_labels_are_a_column(experiences):
    block = as_block(concat_datasets([experiences[2], experiences[0].subset([1])]))
    assert block.columns[2].tolist() == [2, 2, 2, 0]


def test_stored_logits_are_a_column_that_follows_its_samples(experiences):
    logits = torch.arange(15.0).reshape(5, 3)
    dataset = with_logits(experiences[0], logits).subset([4, 0, 2])
    assert torch.equal(assert_block_is(dataset).columns[-1], logits[[4, 0, 2]])
    both = concat_datasets([dataset.subset([1, 2]), with_logits(experiences[1], -logits[:4])])
    assert torch.equal(assert_block_is(both).columns[-1], torch.cat([logits[[0, 2]], -logits[:4]]))


def test_labels_are_those_that_the_benchmark_gave():
    """`nc_benchmark` numbers classes anew: the tensors below hold other labels than the samples."""
    buckets = [TensorBucket(torch.randn(6, 2), torch.tensor(labels)) for labels in ([3, 9] * 3, [1, 7] * 3)]
    datasets = [classification_dataset(bucket, targets=bucket.targets) for bucket in buckets]
    stream = nc_benchmark(datasets, datasets, n_experiences=2, task_labels=False, one_dataset_per_exp=True,
                          class_ids_from_zero_from_first_exp=True, shuffle=True, seed=3).train_stream
    for experience in stream:
        block = assert_block_is(experience.dataset)
        bottoms, which, rows = resolve(experience.dataset)
        below = [bottoms[position].targets[row] for position, row in zip(which, rows)]
        assert set(block.columns[1].tolist()) <= {0, 1, 2, 3} and block.columns[1].tolist() != below


def test_a_class_incremental_stream_is_blocks():
    stream = class_stream().train_stream
    memory = concat_datasets([stream[0].dataset.subset([5, 1]), stream[1].dataset.subset([0])])
    for dataset in (stream[0].dataset, stream[1].dataset, memory):
        assert_block_is(dataset)


def test_what_must_be_read_by_sample_is_no_block(experiences):
    add_one = (lambda x: x + 1, None)
    [bottom], _, _ = resolve(experiences[0])
    transformed = classification_dataset(bottom, targets=bottom.targets, task_labels=0,
                                         transform_groups=dict(train=add_one, eval=add_one))
    below = TensorDataset(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
    below.targets = [0, 0, 0]
    named = make_avalanche_dataset(experiences[0], data_attributes=[DataAttribute(
        FlatData([['a', 'b', 'c', 'd', 'e']]), name='names', use_in_getitem=True)])
    cases = [transformed, concat_datasets([experiences[1], transformed]), transformed.subset([1, 4]),
             task_aware([below])[0], experiences[0].subset([]), concat_datasets([]),
             TensorBucket(torch.zeros(1, 1), [0]), named]
    assert [as_block(case) for case in cases] == [None] * len(cases)
    assert [case[len(case) - 1][0].tolist() for case in cases[:3]] == [[5.0, 0.0]] * 3  # the transform matters


def test_a_transform_of_the_targets_is_in_the_targets(experiences):
    changed = experiences[0].replace_current_transform_group((None, lambda y: y))
    assert_block_is(changed)


@pytest.mark.parametrize('values, expected', [
    ([1, 2, 0], torch.tensor([1, 2, 0])), (torch.tensor([4, 5]), torch.tensor([4, 5])),
    ([torch.tensor([0.5, 1.0]), torch.tensor([2.0, 3.0])], torch.tensor([[0.5, 1.0], [2.0, 3.0]])),
    (['a', 'b'], None), ([0.5, 1.5], None),
    (FlatData([torch.tensor([[0.5], [1.0], [2.0]])], indices=[2, 0]), torch.tensor([[2.0], [0.5]]))])
def test_attributes_are_numbers_or_tensors(values, expected):
    found = attribute_values(DataAttribute(values, name='x'))
    assert found is None if expected is None else torch.equal(found, expected)


@pytest.mark.parametrize('view', VIEWS)
@pytest.mark.parametrize('name', ['targets', 'targets_task_labels'])
def test_where_values_lie_is_what_avalanche_finds(view, name, experiences):
    data = VIEWS[view](experiences)._data_attributes[name].data
    filled, own = DataAttribute(data, name), DataAttribute(data, name)
    index_values(filled)
    assert filled._val_to_idx is not None or data is filled.data and not hasattr(data, '_datasets')
    assert list(filled.uniques) == list(own.uniques)
    assert [(value, list(rows)) for value, rows in filled.val_to_idx.items()] == \
        [(value, list(rows)) for value, rows in own.val_to_idx.items()]


def test_values_that_are_no_whole_numbers_are_left_to_avalanche():
    for values in (['b', 'a', 'b'], [0.5, 1.5], FlatData([torch.eye(2)])):
        attribute = DataAttribute(values, 'names')
        index_values(attribute)
        assert attribute._val_to_idx is None and attribute._uniques is None
