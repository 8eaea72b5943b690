"""The table of ELEVATER's sets."""

import pytest
from doc_pages import ROOT, table

from clear.core.errors import ConfigError, DataError
from clear.evaluation.elevater.sets import AVERAGED, BENCHMARK, METRICS, benchmark_set, first_names


def test_twenty_sets_are_averaged_and_imagenet_stands_beside():
    assert len(BENCHMARK) == 21 and len(AVERAGED) == 20 and 'imagenet-1k' not in AVERAGED
    by_metric = {metric: [each.name for each in BENCHMARK if each.metric == metric] for metric in METRICS}
    assert [len(names) for names in by_metric.values()] == [15, 4, 1, 1]
    assert by_metric['roc_auc'] == ['hateful-memes'] and by_metric['map_11point'] == ['voc-2007-classification']
    assert [each.name for each in BENCHMARK if not each.center_crop] == ['kitti-distance']
    assert [each.name for each in BENCHMARK if each.is_multi_label != each.stored.is_multi_label] == []


@pytest.mark.parametrize('name, classes, templates', [
    ('caltech101', 102, 34), ('fer2013', 7, 6), ('gtsrb', 43, 3), ('resisc45-clip', 45, 18), ('stanford-cars', 196, 8),
    ('country211', 211, 5), ('imagenet-1k', 1000, 80)])
def test_sizes_of_the_lists(name, classes, templates):
    found = benchmark_set(name)
    assert (found.num_classes, found.num_templates) == (classes, templates)
    assert found.has_synonyms == (found.name == 'fer-2013')


def test_a_set_of_ones_own_says_what_it_is_measured_by():
    own = benchmark_set('toy', 'map_11point', center_crop=False)
    assert own.is_multi_label and not own.center_crop and own.stored is None
    assert benchmark_set('mnist', 'top1') is benchmark_set('mnist')


@pytest.mark.parametrize('call, message', [
    (lambda: benchmark_set('stanford-car'), "nearest: 'stanford-cars'"),
    (lambda: benchmark_set('toy', 'top9'), "metric is 'top9'"),
    (lambda: benchmark_set('mnist', 'roc_auc'), "metric of ELEVATER's 'mnist' is 'roc_auc'; expected 'top1'"),
    (lambda: benchmark_set('mnist', center_crop=False), "center_crop of ELEVATER's 'mnist' is False; expected True")])
def test_wrong_sets(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_of_synonyms_the_first_is_used():
    assert first_names([['angry', 'furious'], 'calm']) == ['angry', 'calm']
    with pytest.raises(DataError, match='class 1 has no name'):
        first_names(['a', []])


def test_the_table_of_the_docs():
    metrics = dict(top1='top-1', mean_per_class='mean per class', roc_auc='ROC AUC', map_11point='11-point mAP')
    rows = table(ROOT / 'docs' / 'elevater.md', 'set')
    assert len(rows) == len(BENCHMARK)
    for each, (name, classes, sizes, metric, folder) in zip(BENCHMARK, rows):
        found = ' / '.join(str(each.stored.sizes.get(split, '-')) for split in ('train', 'val', 'test'))
        assert (name, int(classes), sizes, folder) == (each.name, each.num_classes, found, f'`{each.stored.folder}`')
        assert metric.startswith(metrics[each.metric]) and ('no centre crop' in metric) != each.center_crop
