"""Zero-shot classification, and retrieval by classes, against loops and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import normalize

from clear.core.errors import ConfigError, DataError
from clear.datasets.prompts import class_prompts, readable, readable_names
from clear.datasets.readers.labels import unique_names
from clear.datasets.table import ImageTable
from clear.evaluation.language.class_names import list_rows
from clear.evaluation.language.class_retrieval import ClassRetrieval
from clear.evaluation.language.prompts import Prompting, class_vectors
from clear.evaluation.language.zero_shot import ZeroShot
from clear.evaluation.task import TaskData


class Bank:
    """What the tasks read of a bank; row 1 could not be read."""

    def __init__(self, features, labels, names=()):
        self.features, self.labels, self.class_names = features, labels, list(names)

    def subset_rows(self):
        return np.array([row for row in range(len(self.labels)) if row != 1])

    def tensors(self, rows=None):
        rows = self.subset_rows() if rows is None else rows
        return self.features[rows], self.labels[rows]


class Encoder(torch.nn.Module):
    """Each text has a vector of its own, as a function of its characters."""

    def encode_text(self, texts):
        return torch.stack([torch.randn(6, generator=torch.Generator().manual_seed(sum(map(ord, text))))
                            for text in texts])


def rows(count, seed, dim=6):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_class_vectors_of_both_averages_by_hand():
    encode = Encoder().encode_text
    names, templates = ['cat', 'black dog'], ['a photo of a {}.', 'a {}: {}']
    assert class_prompts(names, templates) == ['a photo of a cat.', 'a cat: cat', 'a photo of a black dog.',
                                               'a black dog: black dog']
    for average in ('normalised', 'raw'):
        for found, name in zip(class_vectors(encode, names, templates, average), names):
            each = encode([template.replace('{}', name) for template in templates])
            if average == 'normalised':
                each = torch.stack([row / row.norm() for row in each])
            mean = each.sum(0) / 2
            torch.testing.assert_close(found, mean / mean.norm())
    assert not class_vectors(encode, names, templates).allclose(class_vectors(encode, names, templates, 'raw'))


def test_zero_shot_is_the_nearest_class_vector():
    labels = torch.tensor([0, 1, 2, -1, 2, 0])
    bank = Bank(rows(6, 8), labels, ['tabby_cat', 'dog', 'barn/owl'])
    result = ZeroShot(templates=['a {}', 'the {}']).run(Encoder(), TaskData(bank={'test': bank}))
    vectors = class_vectors(Encoder().encode_text, ['tabby cat', 'dog', 'barn owl'], ['a {}', 'the {}'])
    hits = [int((vectors @ bank.features[row]).argmax()) == labels[row] for row in (0, 2, 4, 5)]
    assert result.value == sum(hits) / 4 and result.metric == 'top1'
    assert result.extras['unlabelled'] == {'test': 1} and result.extras['names'] == ['tabby cat', 'dog', 'barn owl']
    assert readable('a_b/c') == 'a b c'


@pytest.mark.parametrize('value, name', [
    (('tench', 'Tinca tinca'), 'tench'), (("jack-o'-lantern",), "jack-o'-lantern"), (('English setter',),
                                                                                      'English setter')])
def test_of_torchvisions_synonyms_the_first_counts(value, name):
    assert readable(str(value)) == readable(f'{value} #517') == name
    assert readable('(a) cat, dog') == '(a) cat, dog'


def test_the_number_that_tells_two_of_one_name_apart_is_in_no_prompt():
    given = ['tench', 'crane', 'Formation #3', 'crane', 'maillot', 'item #5', 'crane', 'maillot', 'lone #8']
    known = unique_names(given)
    assert known[3] == 'crane #3' and known[6] == 'crane #6' and known[7] == 'maillot #7'
    assert readable_names(known) == given  # and the numbers that are part of a name stay
    assert readable_names(['crane #1', 'crane', 'a_b', 'crane #2']) == ['crane #1', 'crane', 'a b', 'crane #2']
    prompts = Prompting(templates=['a {}']).of(known)
    assert prompts.prompts[6] == ['a crane'] and prompts.extras()['same_prompts'] == [[1, 3, 6], [4, 7]]
    for match in ('name', 'check'):
        assert list_rows(given, known, match) == ([*range(9)], 'names')
    assert list_rows(['maillot', 'one-piece'], ['maillot', 'maillot #1']) == ([0, 1], 'names')
    with pytest.raises(DataError, match="the first is 'maillot #1'"):
        list_rows(['maillot', 'one-piece'], ['maillot', 'maillot #1'], 'name')


def test_each_caption_of_a_class_ranks_all_images():
    labels = torch.arange(40) % 3
    labels[[5, 6]] = -1
    bank = Bank(rows(40, 11), labels, ['tabby_cat', 'dog', 'owl', 'a class without images'])
    result = ClassRetrieval(templates=['a {}', 'the {}']).run(Encoder(), TaskData(bank={'test': bank}))
    seen = [row for row in range(40) if row not in (1, 5, 6)]
    average, among_r = [], []
    for label, name in enumerate(['tabby cat', 'dog', 'owl']):
        for text in (f'a {name}', f'the {name}'):
            query = Encoder().encode_text([text])[0]
            scores = [float(query @ bank.features[row] / bank.features[row].norm()) for row in seen]
            right = [int(labels[row]) == label for row in seen]
            average.append(average_precision_score(right, scores))
            first = sorted(range(len(seen)), key=lambda place: -scores[place])[:sum(right)]
            among_r.append(sum(right[place] for place in first) / sum(right))
    assert result.extras['metrics'] == pytest.approx({'mAP': np.mean(average), 'R-Precision': np.mean(among_r)})
    assert (result.metric, result.value) == ('mAP', result.extras['metrics']['mAP'])
    assert (result.extras['n_test'], result.extras['n_queries'], result.extras['unlabelled']) == (37, 6, {'test': 2})


@pytest.mark.parametrize('options, message', [
    (dict(templates=[]), 'templates is'), (dict(templates='a {}'), 'templates is'),
    (dict(templates=['a photo']), 'where the class name goes'), (dict(prompt_average='mean'), 'prompt_average')])
def test_zero_shot_refuses(options, message):
    for kind in (ZeroShot,) if 'prompt_average' in options else (ZeroShot, ClassRetrieval):
        with pytest.raises(ConfigError, match=message):
            kind(**options)


def test_data_that_do_not_fit_are_refused():
    bank = Bank(rows(3, 8), torch.tensor([0, 1, 1]), ['cat', 'dog'])
    data = TaskData(bank={'test': bank})
    narrow = TaskData(bank={'test': Bank(rows(3, 8, 5), bank.labels, bank.class_names)})
    for kind in (ZeroShot, ClassRetrieval):
        with pytest.raises(ConfigError, match='needs an encoder of text'):
            kind().run(torch.nn.Identity(), data)
        with pytest.raises(ConfigError, match='a bank without its encoder'):
            kind().run(None, data)
        with pytest.raises(DataError, match="names has 1 names, the bank of 'test' 2 classes"):
            kind(names=['cat']).run(Encoder(), data)
        with pytest.raises(DataError, match='6 dimensions, the bank holds 5'):
            kind().run(Encoder(), narrow)


def test_zero_shot_metrics_by_loops():
    features, vectors = rows(90, 20), rows(7, 21)
    labels = torch.arange(90) % 6  # class 6 has no image
    found = ZeroShot.classify(features, vectors, labels)
    cosine = normalize(features, dim=1) @ normalize(vectors, dim=1).T
    order = cosine.argsort(1, descending=True)
    hits = (order[:, 0] == labels).double()
    assert found == pytest.approx(dict(
        top1=hits.mean().item(), top5=(order[:, :5] == labels[:, None]).any(1).double().mean().item(),
        mean_per_class=np.mean([hits[labels == each].mean().item() for each in range(6)])))


def test_a_collapsed_text_encoder_knows_nothing():
    """Also two classes of one name, as ImageNet has: neither is found for sure."""
    features, labels = rows(3000, 22, 37), torch.arange(3000) % 11
    same = rows(1, 23, 37).repeat(11, 1)
    assert ZeroShot.classify(features, same, labels) == dict(top1=0, top5=0, mean_per_class=0)
    assert ZeroShot.classify(features, same, labels, ties='expected') == pytest.approx(
        dict(top1=1 / 11, top5=5 / 11, mean_per_class=1 / 11))


def test_zero_shot_does_not_depend_on_blocks(monkeypatch):
    features, vectors, labels = rows(50, 24).round(), rows(5, 25).round(), torch.arange(50) % 5
    whole = ZeroShot.classify(features, vectors, labels)
    monkeypatch.setattr('clear.evaluation.language.zero_shot._IMAGES_PER_BLOCK', 7)
    assert ZeroShot.classify(features, vectors, labels) == whole


def test_roc_auc_of_two_classes_is_of_the_probability_of_the_second():
    features, vectors, labels = rows(40, 26), rows(2, 27), torch.arange(40) % 2
    probabilities = (10 * normalize(features, dim=1) @ normalize(vectors, dim=1).T).softmax(1)[:, 1]
    assert ZeroShot.classify(features, vectors, labels)['roc_auc'] == pytest.approx(
        roc_auc_score(labels.numpy(), probabilities.numpy()))
    assert 'roc_auc' not in ZeroShot.classify(features, vectors, labels * 0)
    bank = Bank(features, labels, ['no', 'yes'])
    result = ZeroShot(metric='roc_auc').run(Encoder(), TaskData(bank={'test': bank}))
    assert (result.metric, result.value) == ('roc_auc', result.extras['metrics']['roc_auc'])
    with pytest.raises(DataError, match='No top5 of 2 classes'):
        ZeroShot(metric='top5').run(Encoder(), TaskData(bank={'test': bank}))


@pytest.mark.parametrize('scores', ['softmax', 'cosine'])
def test_several_labels_an_image(scores):
    features, labels = rows(30, 28), [[0, 1], [2], [], *([row % 3] for row in range(27))]
    images = ImageTable.from_columns(Path(), dict(path=[f'{row}.png' for row in range(30)], labels=labels),
                                     ['cat', 'dog', 'owl', 'never shown'])
    bank = Bank(features, torch.full((30,), -1), images.class_names)
    task = ZeroShot(metric='map_11point', scores=scores)
    result = task.run(Encoder(), TaskData(bank={'test': bank}, images={'test': images}))
    vectors = class_vectors(Encoder().encode_text, images.class_names, ['a photo of a {}.'])
    logits = 100 * normalize(features.double(), dim=1) @ vectors.double().T
    ranked = logits.softmax(1) if scores == 'softmax' else logits
    seen = [row for row in range(30) if row != 1]
    each, areas = [], []
    for label in range(3):
        right = np.array([label in labels[row] for row in seen])
        own = np.array([float(ranked[row, label]) for row in seen])
        shown = [own >= score for score in own]  # a step for each score; those of a probability of 1 are one
        precision, recall = [right[part].mean() for part in shown], [part[right].mean() for part in shown]
        each.append(np.mean([max(p for p, r in zip(precision, recall) if r >= level - 1e-9)
                             for level in np.arange(11) / 10]))
        areas.append(average_precision_score(right, own))
    assert result.extras['metrics'] == pytest.approx(dict(map_11point=np.mean(each), map=np.mean(areas)))
    assert (result.metric, result.value, result.extras['n_test']) == ('map_11point', pytest.approx(np.mean(each)), 29)
    assert 'images' in task.needs and 'images' not in ZeroShot().needs


def test_a_class_called_as_another_would_be_is_refused():
    with pytest.raises(DataError, match="Class 2 would be called 'crane #2'"):
        unique_names(['crane #2', 'crane', 'crane'])
