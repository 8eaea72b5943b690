import pytest
from banks import MemoryBank, blob_data, blobs, digit_banks

from clear.core.errors import ConfigError, DataError
from clear.evaluation import FewShotProbe, LabelledRows, NearestClassMean, ProbeData, sample_shots
from clear.evaluation.task import TaskData


def test_more_shots_are_better_on_digits():
    values = [FewShotProbe(shots=shots, seeds=3).run(None, TaskData(bank=digit_banks())).value for shots in (1, 5, 20)]
    assert values[0] < values[1] < values[2] and values[2] > 0.85


def test_each_seed_is_the_classifier_on_its_draw():
    data = blob_data(60, 40, spread=5.0)
    result = FewShotProbe(shots=2, seeds=[3, 8], classifier='nearest_mean').fit(data)
    for seed in (3, 8):
        train = data.train.take(sample_shots(data.train.labels, 2, seed))
        alone = NearestClassMean().fit(ProbeData(train, data.test, data.class_names))
        assert result.extras['per_seed'][str(seed)] == alone.extras['metrics']
    assert result.extras['n_train'] == 6 and result.extras['std']['top1'] >= 0


def test_all_rows_of_balanced_classes_leave_no_spread():
    data = blob_data(30, 40, spread=5.0)
    result = FewShotProbe(shots=10, seeds=3).fit(data)
    assert result.extras['std']['top1'] == pytest.approx(0, abs=1e-12)


def test_other_classes_than_training_are_not_needed_in_test():
    data = blob_data(30, 40)
    only = LabelledRows(data.test.features[data.test.labels == 1], data.test.labels[data.test.labels == 1])
    assert FewShotProbe(shots=3, seeds=2).fit(ProbeData(data.train, only, data.class_names)).value > 0.9


def test_class_with_too_few_samples_is_named():
    features, labels = blobs(10)
    banks = dict(train=MemoryBank(features, labels, ['cat', 'dog', 'cow']), test=MemoryBank(features, labels,
                                                                                           ['cat', 'dog', 'cow']))
    with pytest.raises(DataError, match=r"'dog' \(3\)"):
        FewShotProbe(shots=4).run(None, TaskData(bank=banks))


def test_wrong_arguments():
    for wrong, message in ((dict(shots=0), 'shots'), (dict(classifier='tree'), "'tree'"), (dict(c=0), 'cs'),
                           (dict(seeds=0), 'seeds')):
        with pytest.raises(ConfigError, match=message):
            FewShotProbe(**wrong)
