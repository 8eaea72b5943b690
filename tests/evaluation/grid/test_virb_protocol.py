"""The protocol of Kotar et al. 2021, with a run of their code replayed number by number."""

import json
from pathlib import Path

import pytest
import torch
from banks import MemoryBank, blob_data
from torch.nn import functional

from clear.core.errors import ConfigError, DataError
from clear.evaluation import LabelledRows, LinearProbe, ProbeData
from clear.evaluation.image.grid import stacked, training
from clear.evaluation.image.grid.points import GridPoint
from clear.evaluation.image.schedules import VIRB_ONE_CYCLE
from clear.evaluation.task import TaskData

RUN = Path(__file__).parents[2] / 'fixtures' / 'virb' / 'adam_0.01.json'


@pytest.fixture
def recorded(monkeypatch):
    """The recorded run, whose first weights and batches training takes."""
    run = {name: torch.tensor(value) if isinstance(value, list) and name not in ('first', 'last', 'scalars', 'orders')
           else value for name, value in json.loads(RUN.read_text()).items()}
    first = [tuple(map(torch.tensor, run['first']))]
    monkeypatch.setattr(stacked, 'initial_layers', lambda *_: first)
    monkeypatch.setattr(training, 'batch_order',
                        lambda _, size, epoch, *__: torch.tensor(run['orders'][epoch]).split(size))
    return run


def test_a_run_of_virb_is_replayed(recorded, tmp_path):
    data = ProbeData(LabelledRows(recorded['train'], recorded['train_labels']),
                     LabelledRows(recorded['test'], recorded['test_labels']), list('abcd'))
    probe = LinearProbe(protocol='virb', legacy=True, settings=dict(adam=dict(optimizer='adam', lr=0.01)), epochs=3,
                        batch_size=8)
    fitted = probe.fit(data, folder=tmp_path)
    weight, bias = map(torch.tensor, recorded['last'])
    torch.testing.assert_close(fitted.weight[0], weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(fitted.bias[0], bias, rtol=1e-4, atol=1e-6)
    assert fitted.result.value == pytest.approx(recorded['results']['test_accuracy'])
    extras = fitted.result.extras
    assert (extras['n_train'], extras['n_val'], extras['n_test']) == (43, 0, 16)  # the tail of the test rows is dropped
    assert extras['legacy'] and extras['protocol'] == 'virb'
    history = [json.loads(line) for line in (tmp_path / 'history.jsonl').read_text().splitlines()]
    names = dict(TrainLoss='train_loss', TrainAccuracy='train_metric', TestAccuracy='test_metric')
    for scalar, epoch, value in recorded['scalars']:
        assert history[epoch][names[scalar]] == pytest.approx(value, rel=1e-4)
    assert history[-1]['test_loss'] == pytest.approx(recorded['results']['test_loss'], rel=1e-4)
    assert history[-1]['train_loss'] == pytest.approx(recorded['results']['train_loss'], rel=1e-4)
    assert [(line['setting'], line['epoch']) for line in history] == [('adam', 1), ('adam', 2), ('adam', 3)]
    assert extras['curves']['adam']['test_metric'] == [line['test_metric'] for line in history]


def test_one_cycle_of_three_epochs_that_is_never_stepped(recorded):
    # As written: a schedule by the epoch that nobody steps, with too few epochs for a rise. torch's first value stays.
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3, anneal_strategy='linear')
    group = optimizer.param_groups[0]
    data = ProbeData(LabelledRows(recorded['train'], recorded['train_labels']),
                     LabelledRows(recorded['test'], recorded['test_labels']), list('abcd'))
    options = dict(protocol='virb', legacy=True, epochs=3, batch_size=8)
    found, expected = (LinearProbe(settings=dict(one=dict(optimizer='sgd', **setting)), **options).fit(data) for setting
                       in (dict(lr=0.1, schedule=VIRB_ONE_CYCLE), dict(lr=group['lr'], momentum=group['momentum'])))
    torch.testing.assert_close(found.weight, expected.weight)


def test_without_legacy_the_tail_is_trained_on_and_tested(recorded):
    data = ProbeData(LabelledRows(recorded['train'], recorded['train_labels']),
                     LabelledRows(recorded['test'], recorded['test_labels']), list('abcd'))
    fitted = LinearProbe(protocol='virb', lrs=[0.01], epochs=3, batch_size=8).fit(data)
    assert (fitted.result.extras['n_train'], fitted.result.extras['n_test']) == (43, 21)
    head = torch.nn.Linear(12, 4)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(recorded['first'][0]))
        head.bias.copy_(torch.tensor(recorded['first'][1]))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for order in recorded['orders']:
        for rows in torch.tensor(order).split(8):
            optimizer.zero_grad()
            functional.cross_entropy(head(data.train.features[rows]), data.train.labels[rows]).backward()
            optimizer.step()
    torch.testing.assert_close(fitted.weight[0], head.weight.detach(), rtol=1e-4, atol=1e-6)


def test_named_settings_are_chosen_on_validation_and_with_legacy_on_test():
    data = blob_data(90, 61, spread=4.0)
    settings = dict(slow=dict(lr=1e-5), fast=dict(lr=1e-2), sgd=dict(optimizer='sgd', lr=0.1, schedule='step'))
    strict = LinearProbe(protocol='virb', settings=settings, epochs=4).fit(data).result.extras
    assert (strict['n_train'], strict['n_val'], strict['n_test']) == (81, 9, 61)
    assert [entry['name'] for entry in strict['grid']] == ['slow', 'fast', 'sgd']
    assert strict['grid'][0]['optimizer'] == 'adam' and strict['grid'][0]['schedule'] == 'constant'
    best = max(strict['grid'], key=lambda entry: (entry['val_top1'], -entry['val_loss']))
    assert strict['selected']['name'] == best['name']
    published = LinearProbe(protocol='virb', legacy=True, settings=settings, epochs=4).fit(data).result
    assert published.extras['n_test'] == 32 and published.extras['n_train'] == 90
    assert published.value == max(entry['val_top1'] for entry in published.extras['grid'])


def test_features_are_rounded_to_float16_and_refused_where_they_do_not_fit():
    data = blob_data(60, 32)
    rough = ProbeData(*(LabelledRows(rows.features.half().float(), rows.labels) for rows in (data.train, data.test)),
                      data.class_names)
    one, other = (LinearProbe(protocol='virb', lrs=[0.01], epochs=2).fit(rows) for rows in (data, rough))
    assert torch.equal(one.weight, other.weight)
    large = ProbeData(LabelledRows(data.train.features * 1e6, data.train.labels), data.test, data.class_names)
    with pytest.raises(DataError, match=r"features of 'train' reach .* ends at 65504"):
        LinearProbe(protocol='virb', epochs=2).fit(large)


def test_values_that_are_given_go_before_those_of_a_protocol():
    probe = LinearProbe(protocol='virb', epochs=3, seeds=[4, 5], scale='l2')
    assert probe.points == [GridPoint(1e-4, optimizer='adam', seed=4), GridPoint(1e-4, optimizer='adam', seed=5)]
    assert probe.training['batch_size'] == 32 and probe.training['epochs'] == 3 and probe.scale == 'l2'


def test_too_few_rows_for_a_batch_whose_tail_is_dropped():
    with pytest.raises(DataError, match='31 test rows make no batch of 32'):
        LinearProbe(protocol='virb', legacy=True, epochs=1).fit(blob_data(60, 31))
    with pytest.raises(DataError, match='30 training rows make no batch of 32'):
        LinearProbe(protocol='virb', legacy=True, epochs=1).fit(blob_data(30, 40))


@pytest.mark.parametrize('wrong, message', [
    (dict(protocol='vrib'), "'virb'"), (dict(settings=dict(a=dict(lr=1)), lrs=[0.1]), 'lrs would do nothing'),
    (dict(settings=dict(a=dict(lr=1, momentun=0))), "settings.a"), (dict(settings=[]), 'settings is'),
    (dict(legacy=True), "legacy=True allows select='test'"), (dict(protocol='virb', legacy=1), 'legacy')])
def test_wrong_protocols(wrong, message):
    with pytest.raises(ConfigError, match=message):
        LinearProbe(**wrong)


def test_a_bank_is_read_and_nothing_is_kept_without_a_folder():
    features, labels = blob_data(60, 33).train.features, blob_data(60, 33).train.labels
    bank = MemoryBank(features, labels, ['a', 'b', 'c'])
    result = LinearProbe(protocol='virb', epochs=2).run(None, TaskData(bank=dict(train=bank, test=bank)))
    assert 'curves' not in result.extras and result.extras['n_test'] == 60
