"""Memories: what they keep, with which probability, at which cost; and what the earlier forms did."""

import time

import pytest
import torch
from avalanche.benchmarks.utils import make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.training.storage_policy import ReservoirSamplingBuffer as AvalancheReservoir

from clear.continual.buffers import BiasedReservoirSamplingBuffer, ReservoirSamplingBuffer, check_buffer_size
from clear.continual.buffers.balanced import rows_by_class
from clear.continual.buffers.flat import FlatReservoir, join
from clear.continual.scenarios.base import TensorBucket, task_aware
from clear.core.errors import ConfigError
from clear.registry import BUFFERS

# Avalanche's own calls of deprecated names.
pytestmark = pytest.mark.filterwarnings('ignore:Call to deprecated function')


def stream(sizes, num_classes=2):
    """Buckets whose one input is the number of the sample in the stream."""
    start, buckets = 0, []
    for size in sizes:
        numbers = torch.arange(start, start + size)
        buckets.append(TensorBucket(numbers[:, None].float(), numbers % num_classes))
        start += size
    return task_aware(buckets)


def contents(buffer):
    """Numbers of the samples in a buffer, in its order; labels and task labels must belong to them."""
    return [int(buffer.buffer[row][0]) for row in range(len(buffer.buffer))]


def filled(buffer, sizes, seed=0):
    torch.manual_seed(seed)
    for dataset in stream(sizes):
        buffer.update_from_dataset(dataset)
    return buffer


@pytest.fixture
def frequencies(monkeypatch):
    """How often each sample of a stream was in the memory at its end; plain tensors stand in for data sets."""
    for module in ('reservoir', 'biased_reservoir'):
        monkeypatch.setattr(f'clear.continual.buffers.{module}.keep_rows', lambda old, old_rows, new, new_rows:
                            torch.cat([old[old_rows], new[new_rows]]))

    def count(make, sizes, runs=1000):
        counts = torch.zeros(sum(sizes))
        buckets = torch.arange(sum(sizes)).split(sizes)
        torch.manual_seed(0)
        for _ in range(runs):
            buffer = make()
            buffer.buffer = torch.arange(0)
            for bucket in buckets:
                buffer.update_from_dataset(bucket)
            counts[buffer.buffer] += 1
        return counts / runs

    return count


# Reservoir


@pytest.mark.parametrize('sizes', [[3], [10, 7, 1, 12], [2, 2, 2, 40]])
@pytest.mark.parametrize('max_size', [1, 5, 11])
def test_reservoir_keeps_the_samples_with_the_largest_keys(sizes, max_size):
    buffer = filled(ReservoirSamplingBuffer(max_size), sizes)
    torch.manual_seed(0)
    keys = torch.cat([torch.rand(size) for size in sizes])
    largest = sorted(keys.tolist(), reverse=True)[:max_size]
    assert contents(buffer) == [number for number, key in enumerate(keys.tolist()) if key in largest]


def test_reservoir_keeps_the_samples_that_avalanches_keeps():
    sizes = [9, 4, 13]
    stock, legacy = filled(AvalancheReservoir(6), sizes), filled(ReservoirSamplingBuffer(6, legacy=True), sizes)
    ours = filled(ReservoirSamplingBuffer(6), sizes)
    assert contents(legacy) == contents(stock)
    assert contents(ours) == sorted(contents(stock))
    for buffer in (stock, legacy, ours):
        buffer.resize(None, 3)
    assert contents(legacy) == contents(stock)
    assert contents(ours) == sorted(contents(stock))


@pytest.mark.parametrize('sizes', [[4, 30, 9], [30], [7, 7, 7, 7]])
def test_the_group_of_a_memory_is_avalanches_but_flat(sizes):
    """The same samples in the same order, after updates and a smaller size; alone and joined."""
    stock, ours = filled(AvalancheReservoir(11), sizes), filled(FlatReservoir(11), sizes)
    for buffer in (stock, ours):
        buffer.resize(None, 6)
    assert contents(ours) == contents(stock)
    assert torch.equal(ours._buffer_weights, stock._buffer_weights)
    assert list(ours.buffer.targets) == list(stock.buffer.targets)
    both = join([ours.buffer, ours.buffer])
    assert [int(both[row][0]) for row in range(len(both))] == contents(stock) * 2


def test_every_sample_of_the_stream_is_kept_with_the_same_probability(frequencies):
    kept = frequencies(lambda: ReservoirSamplingBuffer(6), [10, 3, 17])
    # Standard deviation 0.4 / sqrt(1000) = 0.013; the largest of 30 deviations stays below four.
    assert (kept - 6 / 30).abs().max() < 0.05


def test_labels_and_task_labels_stay_with_their_samples():
    buffer = filled(ReservoirSamplingBuffer(9), [8, 8, 8])
    data = buffer.buffer
    for row in range(len(data)):
        number, label, task = int(data[row][0]), data[row][1], data[row][2]
        assert (label, task) == (number % 2, number // 8)
        assert (int(data.targets[row]), int(data.targets_task_labels[row])) == (label, task)


def depth(data):
    return 1 + max((depth(child) for child in getattr(data, '_datasets', ())), default=0)


@pytest.mark.parametrize('make', [lambda: ReservoirSamplingBuffer(50), lambda: BiasedReservoirSamplingBuffer(50)],
                         ids=['reservoir', 'biased'])
def test_a_memory_stays_flat_over_a_hundred_experiences(make):
    datasets, buffer, seconds = stream([60] * 100), make(), []
    for dataset in datasets:
        started = time.process_time()
        buffer.update_from_dataset(dataset)
        seconds.append(time.process_time() - started)
    assert len(buffer.buffer) == 50
    layers = [buffer.buffer._flat_data, *(value.data for value in buffer.buffer._data_attributes.values())]
    assert all(depth(layer) <= 3 for layer in layers)
    # A chain of nested sets would make the last updates some fifty times as dear.
    assert sorted(seconds[-20:])[10] < 5 * sorted(seconds[5:25])[10]
    nested = AvalancheReservoir(50)
    for dataset in datasets:
        nested.update_from_dataset(dataset)
    assert depth(nested.buffer.targets_task_labels.data) > 50


# Biased reservoir


def test_fixed_alpha_one_is_ordinary_reservoir_sampling(frequencies):
    kept = frequencies(lambda: BiasedReservoirSamplingBuffer(6, 'Fixed', 1.0), [10, 3, 17])
    assert (kept - 6 / 30).abs().max() < 0.05


@pytest.mark.parametrize('mode, alpha, expected', [
    # Of 40 samples, bucket sizes 20, 10, 10 and K = 10: p of the third bucket, and what it leaves of the second.
    ('Fixed', 2.0, 2.0 * 10 / 40), ('Dynamic', 0.3, 0.3)])
def test_a_new_sample_enters_with_the_stated_probability(mode, alpha, expected, frequencies):
    kept = frequencies(lambda: BiasedReservoirSamplingBuffer(10, mode, alpha), [20, 10, 10])
    assert kept[30:].mean() == pytest.approx(expected, abs=0.025)
    before = 2.0 * 10 / 30 if mode == 'Fixed' else 0.3
    assert kept[20:30].mean() == pytest.approx(before * (1 - expected), abs=0.025)
    assert kept.sum() == pytest.approx(10, abs=1e-4)  # always full


def test_what_is_replaced_is_random(frequencies):
    kept = frequencies(lambda: BiasedReservoirSamplingBuffer(10, 'Dynamic', 0.5), [10, 10])
    assert (kept[:10] - 0.5).abs().max() < 0.063 and (kept[10:] - 0.5).abs().max() < 0.063


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('bucket', [10, 15])
def test_dynamic_alpha_one_is_the_current_bucket_alone(bucket, legacy):
    buffer = filled(BiasedReservoirSamplingBuffer(10, 'Dynamic', 1.0, legacy), [bucket] * 4)
    assert len(contents(buffer)) == 10 and all(number >= 3 * bucket for number in contents(buffer))
    if bucket == 10:
        assert sorted(contents(buffer)) == list(range(30, 40))


@pytest.mark.parametrize('mode, alpha', [('Dynamic', 0.0), ('Dynamic', 0.4), ('Fixed', 0.5), ('Fixed', 1.0)])
def test_a_memory_fills_up_and_never_shrinks(mode, alpha):
    datasets, buffer, sizes = stream([4, 4, 4, 4, 30, 4]), BiasedReservoirSamplingBuffer(10, mode, alpha), []
    for dataset in datasets:
        buffer.update_from_dataset(dataset)
        sizes.append(len(buffer.buffer))
    assert sizes == [4, 8, 10, 10, 10, 10]
    if alpha == 0:
        assert set(contents(buffer)) < set(range(12))


def test_resizing_keeps_a_part():
    buffer = filled(BiasedReservoirSamplingBuffer(8), [20])
    before = contents(buffer)
    buffer.resize(None, 3)
    assert len(contents(buffer)) == 3 and set(contents(buffer)) < set(before)


def legacy_by_loops(sizes, max_size, mode, alpha):
    """The earlier demo's memory as a list, with the draws that the class makes."""
    torch.manual_seed(0)
    memory, start = [], 0
    for index, size in enumerate(sizes):
        new = list(range(start, start + size))
        start += size
        if size > max_size:
            new = [new[row] for row in torch.randperm(size)[:max_size].tolist()]
        if index == 0:
            memory = (memory + new)[:max_size]
            continue
        p = alpha / (index + 1) if mode == 'Fixed' else alpha
        taken = [number for number, draw in zip(new, torch.rand(len(new)).tolist()) if draw <= p]
        if len(taken) > max_size - len(memory):
            memory = memory[:max(0, len(memory) - len(taken))]
        memory = memory + taken
    return memory


@pytest.mark.parametrize('sizes', [[20, 10, 10, 30], [4, 5, 6, 7], [3, 9, 1]])
@pytest.mark.parametrize('mode, alpha', [('Fixed', 1.0), ('Fixed', 2.0), ('Dynamic', 0.5), ('Dynamic', 1.0)])
def test_legacy_form_is_the_described_one(sizes, mode, alpha):
    buffer = filled(BiasedReservoirSamplingBuffer(10, mode, alpha, legacy=True), sizes)
    assert contents(buffer) == legacy_by_loops(sizes, 10, mode, alpha)


def test_legacy_form_drops_the_tail_and_can_be_less_than_full():
    buffer = filled(BiasedReservoirSamplingBuffer(10, 'Dynamic', 1.0, legacy=True), [9, 4])
    assert contents(buffer) == [0, 1, 2, 3, 4, 9, 10, 11, 12]  # one place is free, and four are cleared


# Bad input


@pytest.mark.parametrize('options', [dict(max_size=0), dict(max_size=-3), dict(max_size=2.5), dict(max_size=True)])
@pytest.mark.parametrize('kind', ['ReservoirSamplingBuffer', 'BiasedReservoirSamplingBuffer'])
def test_a_size_that_is_none_is_refused(kind, options):
    with pytest.raises(ValueError, match='max_size is .*at least 1'):
        BUFFERS.build(dict(type=kind, **options))


@pytest.mark.parametrize('options, expected', [
    (dict(alpha_mode='dynamic'), "alpha_mode is 'dynamic'; expected 'Fixed' or 'Dynamic'"),
    (dict(alpha_value=-0.1), 'alpha_value of Fixed is -0.1; expected a number of at least 0'),
    (dict(alpha_mode='Dynamic', alpha_value=1.5), 'alpha_value of Dynamic is 1.5; .*at most 1')])
def test_a_value_out_of_range_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        BUFFERS.build(dict(type='BiasedReservoirSamplingBuffer', max_size=5, **options))


@pytest.mark.parametrize('buffer', [dict(type='ClassBalancedBuffer', max_size=3),
                                    dict(type='ParametricBuffer', max_size=3, groupby='class')])
def test_a_class_balanced_memory_smaller_than_the_classes_is_refused(buffer):
    with pytest.raises(ConfigError, match='holds 3 samples in equal shares per class, but there are 4 classes'):
        check_buffer_size(BUFFERS.build(buffer), 4)
    check_buffer_size(BUFFERS.build(buffer), 3)


def test_another_memory_smaller_than_the_classes_is_a_warning(caplog):
    with caplog.at_level('WARNING'):
        check_buffer_size(ReservoirSamplingBuffer(3), 3)
        assert not caplog.records
        check_buffer_size(ReservoirSamplingBuffer(3), 4)
    assert 'holds 3 samples of 4 classes' in caplog.text


def test_rows_of_the_classes_of_an_attribute_are_those_of_a_list():
    targets = torch.randint(4, (30,)).tolist()
    found = rows_by_class(DataAttribute(FlatData([targets], indices=list(range(29, 4, -1))), 'targets'))
    expected = {}
    for row, label in enumerate(targets[29:4:-1]):
        expected.setdefault(label, []).append(row)
    assert found == expected and list(found) == list(expected)  # also the order of the classes
    assert rows_by_class(torch.tensor(targets[29:4:-1])) == expected


@pytest.mark.parametrize('widths', [(3, 3, 3), (2, 3, 4)])
def test_tensors_beside_samples_are_copied_row_by_row_of_what_is_kept(widths):
    """Of one width as one tensor, which holds no row that was dropped; of several as a list."""
    buffer = ReservoirSamplingBuffer(max_size=20)
    for dataset, width in zip(stream((30, 40, 25)), widths):
        beside = torch.stack([dataset[row][0] * (place + 1) for row in range(len(dataset)) for place in range(width)])
        attribute = DataAttribute(FlatData([beside.view(len(dataset), width)]), 'logits', use_in_getitem=True)
        buffer.update_from_dataset(make_avalanche_dataset(dataset, data_attributes=[attribute]))
    rows = [buffer.buffer[row] for row in range(20)]
    assert all(float(logits[1]) == 2 * float(inputs) for inputs, *_, logits in rows)
    assert {len(logits) for *_, logits in rows} <= set(widths)
    (values,) = buffer.buffer._data_attributes['logits'].data._datasets
    if len(set(widths)) == 1:
        assert values.untyped_storage().nbytes() == 20 * 3 * 4
    else:
        assert len(values) == 20
