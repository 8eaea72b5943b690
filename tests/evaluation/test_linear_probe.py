import pytest
import torch
from banks import blob_data, digit_banks, digits

from clear.core.errors import ConfigError, TrainingError
from clear.evaluation import LabelledRows, LinearProbe, ProbeData
from clear.evaluation.image.linear_probe import select
from clear.evaluation.task import TaskData


def test_accuracy_is_that_of_scikit_learn_on_digits():
    from sklearn.linear_model import LogisticRegression

    features, labels = digits()
    peer = LogisticRegression(max_iter=500).fit(features[:1200].numpy(), labels[:1200].numpy())
    expected = peer.score(features[1200:].numpy(), labels[1200:].numpy())
    # Enough small batches to come near the optimum that L-BFGS finds.
    probe = LinearProbe(lrs=(0.01, 0.1, 1.0), epochs=100, batch_size=64, seeds=2, scale='none')
    result = probe.run(None, TaskData(bank=digit_banks()))
    assert abs(result.value - expected) < 0.01


def test_grid_is_selected_on_validation_and_tested_once():
    data = blob_data(90, 60, spread=4.0)
    probe = LinearProbe(lrs=(1e-4, 1e-2, 1.0), schedules=('constant', 'cosine'), seeds=3, epochs=5)
    result = probe.fit(data).result
    table = result.extras['grid']
    assert len(table) == 6 and all(0 <= entry['val_top1'] <= 1 for entry in table)
    best = max(entry['val_top1'] for entry in table)
    chosen = [entry for entry in table if all(entry[key] == value for key, value in result.extras['selected'].items())]
    assert len(chosen) == 1 and chosen[0]['val_top1'] == best
    assert set(result.extras['per_seed']) == {'0', '1', '2'}
    values = [metrics['top1'] for metrics in result.extras['per_seed'].values()]
    assert result.value == pytest.approx(sum(values) / 3)
    assert result.extras['std']['top1'] == pytest.approx(torch.tensor(values).double().std().item())
    assert (result.extras['n_train'], result.extras['n_val']) == (81, 9)


def test_test_labels_do_not_change_what_is_selected():
    data = blob_data(90, 60, spread=4.0)
    wrong = ProbeData(data.train, LabelledRows(data.test.features, (data.test.labels + 1) % 3), data.class_names)
    probe = LinearProbe(lrs=(1e-4, 1e-2, 1.0), seeds=2, epochs=5)
    one, other = probe.fit(data).result, probe.fit(wrong).result
    assert one.extras['selected'] == other.extras['selected'] and one.value != other.value


def test_given_validation_bank_is_used():
    data = blob_data(60, 30, 30)
    result = LinearProbe(lrs=(1e-3, 1e-1), seeds=1, epochs=3).fit(data).result
    assert (result.extras['n_train'], result.extras['n_val']) == (60, 30)
    assert 'std' not in result.extras


def test_single_setting_uses_all_training_rows():
    result = LinearProbe(lrs=(0.1,), seeds=1, epochs=3).fit(blob_data(60, 30)).result
    assert (result.extras['n_train'], result.extras['n_val']) == (60, 0)
    assert result.extras['grid'][0]['val_top1'] is None


def test_diverged_settings_are_never_selected():
    result = LinearProbe(lrs=(1e38, 1e-6), seeds=2, epochs=2, scale='none').fit(blob_data()).result
    assert [entry['diverged'] for entry in result.extras['grid']] == [True, False]
    assert result.extras['selected']['lr'] == 1e-6
    with pytest.raises(TrainingError, match='all 1 settings diverged'):
        LinearProbe(lrs=(1e38,), seeds=1, epochs=2, scale='none').fit(blob_data())


def test_selection_rule():
    measured = [(0.5, 1.0), (None, None), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8)]
    table = [dict(lr=1, diverged=accuracy is None, val_top1=accuracy, val_loss=loss) for accuracy, loss in measured]
    assert select(table) == 3


def test_fitted_heads_reproduce_the_accuracy():
    data = blob_data(60, 40, spread=5.0)
    fitted = LinearProbe(lrs=(0.01, 0.1), seeds=2, epochs=4).fit(data)
    rows = fitted.scale(data.test.features)
    for head, (weight, bias) in enumerate(zip(fitted.weight, fitted.bias)):
        hits = ((rows @ weight.T + bias).argmax(1) == data.test.labels).double().mean().item()
        assert hits == fitted.result.extras['per_seed'][str(head)]['top1']


def test_wrong_arguments():
    for wrong, message in ((dict(epochs=0), 'epochs'), (dict(scale='z'), "'z'"), (dict(momentum=1.0), 'momentum'),
                           (dict(seeds=[]), 'seeds')):
        with pytest.raises(ConfigError, match=message):
            LinearProbe(**wrong)
