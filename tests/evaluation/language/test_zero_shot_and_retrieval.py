"""Zero-shot classification, retrieval both ways, and the measures of a ranking, against loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn.functional import normalize

from clear.core.errors import ConfigError, DataError
from clear.datasets.prompts import class_prompts, readable
from clear.evaluation.language.class_retrieval import ClassRetrieval
from clear.evaluation.language.prompts import class_vectors
from clear.evaluation.language.retrieval import ImageTextRetrieval
from clear.evaluation.language.zero_shot import ZeroShot
from clear.evaluation.metrics.retrieval import first_hits, ranking_precision, recall_at
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


def by_hand(queries, candidates, query_groups, candidate_groups):
    """Place of the first right candidate of each query, by a loop over sorted pairs."""
    places = []
    for query, group in zip(queries, query_groups):
        cosine = [float(query @ candidate / query.norm() / candidate.norm()) for candidate in candidates]
        order = sorted(range(len(candidates)), key=lambda index: (-cosine[index], index))
        places.append(next(place for place, index in enumerate(order) if candidate_groups[index] == group))
    return places


def test_first_hits_are_those_of_a_loop():
    queries, candidates = rows(1100, 0).double(), rows(37, 1).double()
    query_groups, candidate_groups = torch.arange(1100) % 7, torch.arange(37) % 7
    found = first_hits(queries, candidates, query_groups, candidate_groups)
    expected = by_hand(queries, candidates, query_groups, candidate_groups)
    assert found.tolist() == expected
    for k in (1, 5, 10, 100):
        assert recall_at(found, [k]) == {k: sum(place < k for place in expected) / 1100}


def test_equal_similarities_are_in_the_order_of_the_candidates():
    candidates = torch.eye(2)[[0, 1, 0, 0]]
    found = first_hits(torch.eye(2)[[0, 0, 0]], candidates, torch.tensor([0, 1, 2]), torch.tensor([5, 2, 0, 1]))
    assert found.tolist() == [1, 2, 3]


def test_ranking_precision_is_that_of_scikit_learn_and_of_a_loop():
    queries, candidates = rows(9, 2).double(), rows(50, 3).double()
    query_groups, candidate_groups = torch.arange(9) % 3, torch.arange(50) % 3
    average, among_r = ranking_precision(queries, candidates, query_groups, candidate_groups)
    cosine = (normalize(queries, dim=1) @ normalize(candidates, dim=1).T).numpy()
    right = (query_groups[:, None] == candidate_groups).numpy()
    assert average == pytest.approx(np.mean([average_precision_score(*pair) for pair in zip(right, cosine)]))
    by_loop = []
    for scores, is_right in zip(cosine, right):
        order = sorted(range(50), key=lambda index: -scores[index])[:is_right.sum()]
        by_loop.append(sum(is_right[order]) / len(order))
    assert among_r == pytest.approx(sum(by_loop) / len(by_loop))


@pytest.mark.parametrize('change, message', [
    (dict(queries=rows(3, 0) * torch.nan), 'queries are not finite'), (dict(queries=rows(3, 0, 5)), '5 dimensions'),
    (dict(query_groups=torch.tensor([0, 1, 9])), 'query 2 has no right candidate: none is of its group 9'),
    (dict(candidate_groups=torch.zeros(3, dtype=torch.int64)), 'candidates')])
def test_what_has_no_ranking_is_refused(change, message):
    options = dict(queries=rows(3, 0), candidates=rows(4, 1), query_groups=torch.arange(3),
                   candidate_groups=torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match=message):
        first_hits(**{**options, **change})


def test_retrieval_of_images_with_one_to_five_captions():
    images, texts = rows(4, 5), rows(7, 6)
    owners = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    metrics = ImageTextRetrieval(ks=[1, 2]).measure(images, texts, owners)
    cosine = normalize(images, dim=1) @ normalize(texts, dim=1).T
    for k in (1, 2):
        top = cosine.topk(k, dim=1).indices
        hit = [any(owners[text] == image for text in top[image]) for image in range(4)]
        assert metrics[f'image2text_R@{k}'] == sum(hit) / 4
        top = cosine.T.topk(k, dim=1).indices
        hit = [owners[text] in top[text] for text in range(7)]
        assert metrics[f'text2image_R@{k}'] == pytest.approx(sum(hit) / 7)
    assert metrics['mean_recall'] == pytest.approx(sum(value for name, value in metrics.items() if 'R@' in name) / 4)


def test_retrieval_task_takes_every_caption_and_no_unreadable_image():
    bank, encoder = Bank(rows(4, 5), torch.zeros(4)), Encoder()
    captions = [['a cat', 'a dog'], 'never read', ['an owl'], 'a photo that has one caption']
    result = ImageTextRetrieval(ks=(1, 5)).run(encoder, TaskData(bank={'test': bank}, text={'test': captions}))
    texts = encoder.encode_text(['a cat', 'a dog', 'an owl', 'a photo that has one caption'])
    assert result.extras['metrics'] == ImageTextRetrieval(ks=(1, 5)).measure(
        bank.features[[0, 2, 3]], texts, torch.tensor([0, 0, 1, 2]))
    assert (result.extras['n_test'], result.extras['n_captions']) == (3, 4)
    captions[2] = None
    with pytest.raises(DataError, match="Image 2 of 'test' has no caption"):
        ImageTextRetrieval().run(encoder, TaskData(bank={'test': bank}, text={'test': captions}))


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
        with pytest.raises(ConfigError, match='needs an encoder of images and of text'):
            kind().run(torch.nn.Identity(), data)
        with pytest.raises(ConfigError, match='a bank without its encoder'):
            kind().run(None, data)
        with pytest.raises(DataError, match="names has 1 names, the bank of 'test' 2 classes"):
            kind(names=['cat']).run(Encoder(), data)
        with pytest.raises(DataError, match='6 dimensions, the bank holds 5'):
            kind().run(Encoder(), narrow)
    with pytest.raises(ConfigError, match='ks'):
        ImageTextRetrieval(ks=[0])
