"""What strategies remember, as tensors and plain values, and back."""

from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from avalanche.benchmarks import dataset_benchmark
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.utils import concat_datasets
from avalanche.evaluation.metrics.accuracy import Accuracy
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.utils import ParamData
from tiny_runs import built, checkpoint, config, train, write_stream
from torch import nn

from clear.continual.encoding import KIND, Decoder, encode
from clear.continual.repairs.rehearsal.feature_replay import FeatureMemory
from clear.continual.samples import SampleIndex
from clear.continual.scenarios.base import TensorBucket, task_aware
from clear.continual.state import load_strategy_state, strategy_state
from clear.core.errors import CheckpointError
from clear.registry import MODELS

SIZES = (6, 5, 7)


class Point:
    """A class that no checkpoint may bring to life."""

    made = 0

    def __init__(self):
        Point.made += 1


@pytest.fixture
def experiences():
    """Three data sets; row r of experience i holds the number 100 i + r."""
    buckets = [TensorBucket(100.0 * i + torch.arange(float(n))[:, None], torch.arange(n) % 3)
               for i, n in enumerate(SIZES)]
    return [item.dataset for item in dataset_benchmark(task_aware(buckets), task_aware(buckets)).train_stream]


@pytest.fixture
def index(experiences):
    return SampleIndex(experiences)


def content(dataset):
    return [(int(x), y, task) for x, y, task in dataset]


def through_file(value, folder):
    torch.save(value, folder / 'x.pth')
    return torch.load(folder / 'x.pth', weights_only=True)


# Kinds


@pytest.mark.parametrize('value', [
    None, True, 3, 2.5, float('inf'), 'text', [1, [2, 'a']], (1, (2.0, None)), {'a': 1, 3: [4]}, {(1, 2): 'pair'},
    {3, 1, 2}, frozenset({'a'}), [], (), {}, set(), {'a': {'b': ({1}, [None])}}, b'\x00\xff',
    bytearray(b'\x00\xff')], ids=repr)
def test_plain_values_return_with_their_types(value, index, tmp_path):
    result = Decoder(index, nn.Linear(1, 1)).value(through_file(encode(value, index, 'x'), tmp_path))
    assert result == value and type(result) is type(value)
    if isinstance(value, dict):
        assert list(result) == list(value)  # order is part of the state: buffers are drawn from in this order


def test_numpy_scalars_return_as_plain_numbers(index):
    assert encode(np.float64(0.5), index, 'x') == 0.5 and type(encode(np.int64(3), index, 'x')) is int
    assert type(Decoder(index, None).value(encode(np.float32(0.1), index, 'x'))) is np.float32


@pytest.mark.parametrize('tensor', [torch.randn(3, 2), torch.tensor(4), torch.zeros(0), torch.tensor([True]),
                                    torch.randn(2).half()], ids=lambda value: f'{value.dtype}{tuple(value.shape)}')
def test_tensors_are_copied(tensor, index, tmp_path):
    stored = encode(tensor, index, 'x')
    expected = tensor.clone()
    tensor.zero_()
    result = Decoder(index, nn.Linear(1, 1)).value(through_file(stored, tmp_path))
    assert torch.equal(result, expected) and result.dtype == expected.dtype


def test_a_parameter_record_keeps_name_data_and_device(index, tmp_path):
    record = ParamData('fisher', init_tensor=torch.tensor([1.0, 2.0]), device='cpu')
    result = Decoder(index, nn.Linear(1, 1)).value(through_file(encode(record, index, 'x'), tmp_path))
    assert type(result) is ParamData and (result.name, str(result.device)) == ('fisher', 'cpu')
    assert torch.equal(result.data, record.data)


def test_a_parameter_record_of_a_gpu_returns_where_the_model_is(index):
    record = encode(ParamData('w', init_tensor=torch.arange(6.0), device='cpu'), index, 'x')
    result = Decoder(index, nn.Linear(1, 1)).value(record | dict(device='cuda:3'))
    assert result.device == torch.device('cpu') and torch.equal(result.data, torch.arange(6.0))


def test_a_module_returns_as_a_copy_of_the_live_model(index, tmp_path):
    def make():
        return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())

    teacher, live = make(), make()
    teacher(torch.randn(4, 3))  # moves the running mean
    teacher[1].eval()
    teacher[0].weight.requires_grad_(False)
    teacher[1].weight.grad = torch.ones(3)
    result = Decoder(index, live).value(through_file(encode(teacher, index, 'x'), tmp_path))
    assert result is not live and result is not teacher
    assert all(torch.equal(*pair) for pair in zip(teacher.state_dict().values(), result.state_dict().values()))
    assert [module.training for module in result.modules()] == [True, True, False, True]
    assert [parameter.requires_grad for parameter in result.parameters()] == [False, True, True, True]
    assert all(parameter.grad is None for parameter in result.parameters())
    assert not torch.equal(live[0].weight, result[0].weight)


def test_what_a_module_of_the_user_counts_returns(index, tmp_path, monkeypatch):
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.seen, self.calls, self.mean = set(), 0, torch.zeros(2)

    monkeypatch.setitem(MODELS.module_dict, 'Counting', Counting)
    model, fresh = nn.Sequential(Counting()), nn.Sequential(Counting())
    model[0].seen, model[0].calls, model[0].mean = {1, 4}, 7, torch.tensor([1.0, 2.0])
    stored = through_file(encode(model, index, 'x'), tmp_path)
    Decoder(index, fresh).load_module(fresh, stored['state'], stored['extras'])
    assert (fresh[0].seen, fresh[0].calls, fresh[0].mean.tolist()) == ({1, 4}, 7, [1.0, 2.0])
    assert torch.equal(fresh[0].weight, model[0].weight)


def test_an_object_of_ours_returns_though_its_file_has_moved(index, tmp_path):
    memory, other = FeatureMemory(4), FeatureMemory(4)
    memory.add(torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 2, 2]))
    stored = through_file(encode(memory, index, 'x'), tmp_path)
    assert stored['class'] == 'clear.continual.repairs.rehearsal.feature_replay.FeatureMemory'
    decoder = Decoder(index, nn.Linear(1, 1))
    stored['class'] = 'clear.continual.strategies.repairs_feature_replay.FeatureMemory'
    assert decoder.value(stored, other) is other and len(other) == len(memory) == 4
    assert all(torch.equal(other.features[label], features) for label, features in memory.features.items())
    for name in ('clear.continual.repairs.rehearsal.feature_replay.Other',
                 'avalanche.training.storage_policy.FeatureMemory'):
        with pytest.raises(CheckpointError, match=f'holds a {name}'):
            decoder.value(stored | {'class': name}, FeatureMemory(4))


def test_containers_are_filled_where_they_are(index):
    decoder = Decoder(index, nn.Linear(1, 1))
    original = defaultdict(list, {1: [5]})
    alias = live = defaultdict(list, {7: [0]})
    assert decoder.value(encode(original, index, 'x'), live) is live
    assert alias == {1: [5]} and alias[9] == []
    # A metric's own factory makes what it has not met yet.
    seen = Accuracy()
    seen.update(torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
    live = defaultdict(Accuracy)
    decoder.value(encode({4: seen}, index, 'x'), live)
    assert type(live[4]) is Accuracy and live[4].result() == 1.0


def test_a_buffer_returns_with_samples_and_keys(index, experiences, tmp_path):
    buffer = ReservoirSamplingBuffer(4)
    for dataset in experiences[:2]:
        buffer.update_from_dataset(dataset)
    result = Decoder(index, nn.Linear(1, 1)).value(through_file(encode(buffer, index, 'x'), tmp_path))
    assert type(result) is ReservoirSamplingBuffer and result.max_size == 4
    assert content(result.buffer) == content(buffer.buffer)
    assert torch.equal(result._buffer_weights, buffer._buffer_weights)
    for each in (buffer, result):
        torch.manual_seed(0)
        each.update_from_dataset(experiences[2])
    assert content(result.buffer) == content(buffer.buffer)


# Refusals


@pytest.mark.parametrize('value, path', [
    (Point(), 'x'), ([1, Point()], r'x\[1\]'), ({'a': {'b': Point()}}, r"x\['a'\]\['b'\]"), (lambda: 0, 'x'),
    (iter([1]), 'x')],
    ids=lambda value: type(value).__name__)
def test_an_unknown_kind_is_refused_with_its_path(value, path, index):
    with pytest.raises(CheckpointError, match=f'^{path}: a .* cannot be saved in a checkpoint'):
        encode(value, index, 'x')


def test_an_unknown_kind_inside_an_object_is_refused_with_its_path(index):
    buffer = ReservoirSamplingBuffer(4)
    buffer.callback = print
    with pytest.raises(CheckpointError, match=r'^plugin\.callback: a builtin_function_or_method'):
        encode(buffer, index, 'plugin')


@pytest.mark.parametrize('name', [f'{__name__}.Point', 'subprocess.Popen', 'torch.nn.modules.linear.Linear',
                                  'avalanche.training.plugins.replay.ReplayPlugin', 'builtins.print'])
def test_nothing_but_the_listed_classes_is_constructed(name, index):
    stored = {KIND: 'object', 'class': name, 'fields': {'args': ['true']}}
    decoder = Decoder(index, nn.Linear(1, 1))
    assert {maker.func.__name__ for maker in decoder.makers.values()} == \
        {'ReservoirSamplingBuffer', 'FlatReservoir', 'RankedExemplars', '_ParametricSingleBuffer',
         'AverageMeanClassAccuracy'}
    before = Point.made
    for existing in (None, ReservoirSamplingBuffer(1), {}):
        with pytest.raises(CheckpointError, match=f'holds a {name}'):
            decoder.value(stored, existing)
    assert Point.made == before


@pytest.mark.parametrize('kind', ['into_object', '_dict_', 'getattr', 'x'])
def test_an_unknown_kind_in_a_file_is_refused(kind, index):
    with pytest.raises(CheckpointError, match='damaged|newer'):
        Decoder(index, nn.Linear(1, 1)).value({KIND: kind, 'items': [], 'fields': {}})


# Samples


def test_samples_are_found_in_nested_subsets_and_concatenations(index, experiences):
    one, two, three = experiences
    part = concat_datasets([three.subset([6, 0, 3]), one])  # 106 ... in an order of their own
    nested = concat_datasets([part.subset([8, 2, 0]), two.subset([4, 1]).subset([1]), part.subset([0, 0])])
    experience, rows = index.locate(nested)
    assert experience.tolist() == [0, 2, 2, 1, 2, 2] and rows.tolist() == [5, 3, 6, 1, 6, 6]
    assert [(100 * e + r) for e, r in zip(experience.tolist(), rows.tolist())] == [x for x, *_ in content(nested)]


@pytest.mark.parametrize('seed', range(4))
def test_a_data_set_returns_in_its_order(seed, index, experiences, tmp_path):
    generator = np.random.default_rng(seed)
    dataset = experiences[0]
    for step in range(4):
        other = experiences[step % 3]
        dataset = concat_datasets([other.subset(generator.integers(len(other), size=3).tolist()), dataset])
        dataset = dataset.subset(generator.permutation(len(dataset))[:8].tolist())
    result = Decoder(index, nn.Linear(1, 1)).value(through_file(encode(dataset, index, 'x'), tmp_path))
    assert isinstance(result, AvalancheDataset) and content(result) == content(dataset)
    assert list(result.targets) == list(dataset.targets)
    assert list(result.targets_task_labels) == list(dataset.targets_task_labels)


def test_an_empty_data_set_returns_empty(index, experiences):
    for dataset in (concat_datasets([]), experiences[0].subset([])):
        stored = encode(dataset, index, 'x')
        assert stored['rows'].tolist() == [] and len(Decoder(index, nn.Linear(1, 1)).value(stored)) == 0


def test_whole_experiences_and_their_views_are_found(index, experiences):
    for number, dataset in enumerate(experiences):
        for view in (dataset, dataset.train(), dataset.eval()):
            experience, rows = index.locate(view)
            assert experience.tolist() == [number] * SIZES[number] and rows.tolist() == list(range(SIZES[number]))


def test_samples_of_another_stream_are_refused(index):
    stranger = TensorBucket(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))
    dataset = task_aware([stranger])[0]
    with pytest.raises(CheckpointError, match='belong to no training experience'):
        index.locate(dataset)


def test_experiences_may_share_one_data_set_below():
    """Rows, not data sets, belong to an experience."""
    bucket = TensorBucket(torch.arange(6.0)[:, None], torch.arange(6) % 2)
    whole = task_aware([bucket])[0]
    experiences = [whole.subset([0, 2, 4]), whole.subset([5, 3, 1])]
    index = SampleIndex(experiences)
    mixed = concat_datasets([experiences[1].subset([0, 2]), experiences[0].subset([1])])
    restored = Decoder(index, nn.Linear(1, 1)).value(encode(mixed, index, 'x'))
    assert content(restored) == content(mixed) == [(5, 1, 0), (1, 1, 0), (2, 0, 0)]


# Strategies


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def test_state_of_a_strategy_survives_a_file_and_a_second_encoding(stream, tmp_path):
    first, second = train(config(stream, 'Replay')), built(config(stream, 'Replay'))
    indices = [SampleIndex([item.dataset for item in runner.experiences]) for runner in (first, second)]
    state = through_file(strategy_state(first.strategy, indices[0]), tmp_path)
    second.strategy.optimizer.load_state_dict(first.strategy.optimizer.state_dict())
    load_strategy_state(second.strategy, state, indices[1])
    assert repr(strategy_state(second.strategy, indices[1])) == repr(state)
    assert second.strategy.clock.train_exp_counter == 3


def test_state_of_another_strategy_is_refused(stream):
    naive, replay = built(config(stream)), built(config(stream, 'Replay'))
    indices = [SampleIndex([item.dataset for item in runner.experiences]) for runner in (naive, replay)]
    with pytest.raises(CheckpointError, match='ReplayPlugin.*Resume with the config that wrote it'):
        load_strategy_state(naive.strategy, strategy_state(replay.strategy, indices[1]), indices[0])


def test_other_metrics_are_refused_by_their_names_or_left_alone(stream):
    saved = built(config(stream, metrics=[dict(type='accuracy_metrics', epoch=True)]))
    other = built(config(stream, metrics=[dict(type='loss_metrics', epoch=True)]))
    indices = [SampleIndex([item.dataset for item in runner.experiences]) for runner in (saved, other)]
    state = strategy_state(saved.strategy, indices[0])
    with pytest.raises(CheckpointError, match=r'the metrics EpochAccuracy; this run has EpochLoss\. Resume with'):
        load_strategy_state(other.strategy, state, indices[1])
    before = repr(strategy_state(other.strategy, indices[1])['metrics'])
    load_strategy_state(other.strategy, state, indices[1], with_metrics=False)
    assert repr(strategy_state(other.strategy, indices[1])['metrics']) == before


def test_a_checkpoint_names_samples_and_does_not_hold_them(stream, tmp_path):
    train(config(stream, 'Cumulative'), tmp_path)
    state = checkpoint(tmp_path)['strategy']
    stored = state['fields']['dataset']
    assert stored[KIND] == 'dataset' and set(stored) == {KIND, 'experience', 'rows', 'attributes'}
    assert stored['experience'].tolist() == [i for i in range(3) for _ in range(28)]
    kinds = set()

    def walk(value):
        if isinstance(value, dict):
            kinds.add(type(value))
            for key, item in value.items():
                walk(key)
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        else:
            kinds.add(type(value))

    walk(state)
    assert kinds <= {dict, OrderedDict, torch.Tensor, str, int, float, bool, type(None)}


# Objects that say what is saved


class Counter:
    """Of no class of Avalanche's or ours."""

    def __init__(self, **state):
        self.state = state
        self.cache = print  # nothing that could be saved

    def state_dict(self):
        return dict(self.state)

    def load_state_dict(self, state):
        self.state = state


def test_an_object_is_asked_for_its_state(index, experiences, tmp_path):
    held = Counter(count=3, values=[torch.ones(2), {'a': None}], samples=experiences[1].subset([4, 1]))
    stored = through_file(encode({'x': held}, index, 'plugin.held'), tmp_path)
    live = {'x': Counter()}
    into = live['x']
    Decoder(index, nn.Linear(1, 1)).value(stored, live)
    assert live['x'] is into and into.cache is print
    assert into.state['count'] == 3 and into.state['values'][1] == {'a': None}
    assert content(into.state['samples']) == content(experiences[1].subset([4, 1]))


def test_its_own_word_comes_before_its_attributes(index):
    class Buffer(ReservoirSamplingBuffer):
        def state_dict(self):
            return {'number': 7}

        def load_state_dict(self, state):
            self.number = state['number']

    stored, live = encode(Buffer(3), index, 'x'), Buffer(4)
    Decoder(index, nn.Linear(1, 1)).value(stored, live)
    assert (live.number, live.max_size) == (7, 4)


@pytest.mark.parametrize('inside', [Counter(), nn.Linear(1, 1), [ReservoirSamplingBuffer(1)]])
def test_a_state_of_more_than_values_is_refused_when_it_is_saved(inside, index):
    with pytest.raises(CheckpointError, match=r'^held\.state_dict\(\) holds a .*; expected tensors, plain values'):
        encode(Counter(inside=inside), index, 'held')


def test_a_saved_state_makes_no_object(index):
    stored = encode(Counter(count=1), index, 'x')
    for existing in (None, ReservoirSamplingBuffer(1), Point()):
        with pytest.raises(CheckpointError, match='Counter, which this strategy does not have'):
            Decoder(index, nn.Linear(1, 1)).value(stored, existing)


def test_a_class_that_cannot_take_its_state_back_is_named(index):
    stored = encode(Counter(count=1), index, 'x')
    decoder = Decoder(index, nn.Linear(1, 1))
    with pytest.raises(CheckpointError, match='Point returned, but the class has no state_dict'):
        decoder.into_object(Point(), stored)


def test_an_object_that_cannot_be_saved_is_told_how(index):
    with pytest.raises(CheckpointError, match=r'^x: a Point cannot be saved .* state_dict\(\) and load_state_dict'):
        encode(Point(), index, 'x')
