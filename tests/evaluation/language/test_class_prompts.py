"""Class vectors of prompts: averages, groups of classes, and what zero-shot reports of the lists it used."""

import pytest
import torch
from torch.nn.functional import normalize

from clear.core.errors import ConfigError, DataError
from clear.evaluation.language.class_retrieval import ClassRetrieval
from clear.evaluation.language.prompts import class_vectors, prompt_vectors
from clear.evaluation.language.zero_shot import ZeroShot
from clear.evaluation.task import TaskData

# Of an earlier system (ITRA): nine embeddings, of each of the classes in each of the templates, and its class vectors.
CLASSES, TEMPLATES = ['cat', 'black dog', 'car'], ['a photo of a {}.', 'a {}.', 'art of the {}, {}.']
EMBEDDINGS = """
-0.4830 -3.7244 1.9481 3.6221 -4.2403 2.9267 3.1490 3.3479 1.0688 -1.2264 -0.2816 2.5937
-0.5339 -2.6356 -2.2287 0.6445 -2.5939 -0.7918 -3.0983 0.7129 -1.5891 2.7617 -0.2117 1.3735
-1.0921 -0.9998 -1.6285 2.5122 -0.2433 -1.1750 3.2587 -1.0714 -0.2797 4.6938 3.9922 1.0981
-6.8565 -4.7432 -2.2460 -1.0962 1.7806 -4.0473 -1.6745 3.0353 4.7584 -3.0875 -1.3715 5.9580
-2.7853 -0.9368 -2.1336 1.7388 1.5170 1.9413 -4.0985 3.0531 -3.2842 -1.5040 -0.2094 -1.0419
0.6725 2.9919 -2.1582 -2.8164 0.7024 -1.2543 0.1499 -3.2171 -1.2730 -1.4027 -2.2488 -1.4712
0.3477 0.4066 -0.5945 0.3334 -3.3601 -1.4623 2.1910 -2.0543 2.0037 5.4742 5.3894 0.0629
-1.2952 0.0591 -0.0348 0.7635 -6.0250 -3.7725 2.7184 1.7205 -6.3737 2.0865 -0.8531 -3.8517
-1.3665 -0.8647 -0.0854 0.4769 2.6909 -7.8092 0.3539 -1.4605 5.4623 -1.1797 3.5126 0.2614
-2.6480 -2.4093 1.2329 0.2645 0.4227 0.6293 -1.5748 -1.2647 -0.8720 2.2499 -0.3238 0.7938
-0.7663 0.6809 -1.7429 1.0255 -1.0733 1.0890 2.8906 1.7182 -4.2628 2.9202 1.0622 2.7583
2.1756 4.6779 0.0640 -0.1356 4.3991 -1.0439 -1.1343 -8.0649 -6.6135 0.9257 -1.3828 -3.9751
"""
CLASSIFIER = """
-0.1600 0.0085 0.1355 0.2590 -0.6047 0.0451 0.0330 0.1728 0.0838 -0.2991 -0.1709 0.3881
0.1898 -0.3288 -0.0163 0.2637 -0.0042 0.1748 0.1813 -0.0754 -0.0560 0.0318 -0.3398 0.1249
-0.4772 -0.2593 0.1019 0.0539 -0.4825 0.1925 -0.0437 -0.4644 -0.2977 0.1535 -0.0342 0.1127
0.2284 -0.0504 0.0054 -0.0459 0.5201 -0.0882 0.0363 -0.3876 -0.5910 -0.0226 0.1567 -0.1139
"""


def numbers(text):
    return torch.tensor([float(word) for word in text.split()]).reshape(-1, 16)


class Bank:
    def __init__(self, features, labels, names):
        self.features, self.labels, self.class_names = features, labels, list(names)

    def tensors(self):
        return self.features, self.labels


class Encoder(torch.nn.Module):
    """Each text has a vector of its own; reads no more than 12 characters, and remembers how many texts it got."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def encode_text(self, texts):
        self.calls.append(len(texts))
        return torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, text))))
                            for text in texts])

    def num_truncated(self, texts):
        return sum(len(text) > 12 for text in texts)


class Noisy(Encoder):
    """Whose rounding differs from call to call."""

    def encode_text(self, texts):
        return super().encode_text(texts) + 1e-6 * len(self.calls)


def test_class_vectors_are_those_of_the_earlier_system_for_raw_averages():
    table = dict(zip([template.replace('{}', name) for name in CLASSES for template in TEMPLATES], numbers(EMBEDDINGS)))

    def encode(texts):
        return torch.stack([table[text] for text in texts])

    found = class_vectors(encode, CLASSES, TEMPLATES, 'raw')
    torch.testing.assert_close(found, numbers(CLASSIFIER), atol=1e-4, rtol=0)
    assert (class_vectors(encode, CLASSES, TEMPLATES) - found).abs().max() > 0.01


def test_class_vectors_are_those_of_clip_benchmark():
    metrics = pytest.importorskip('clip_benchmark.metrics.zeroshot_classification', reason='clip-benchmark is missing')
    encoder = Encoder()

    class Model:
        encode_text = staticmethod(lambda texts: encoder.encode_text(texts.texts))

    class Texts:  # what its tokenizer gives
        def __init__(self, texts):
            self.texts = texts

        def to(self, device):
            return self

    names, templates = [f'name {row}' for row in range(7)], ['a {c}.', 'the {c}', '{c}, {c}']
    expected = metrics.zero_shot_classifier(Model, Texts, names, templates, 'cpu', amp=False).T
    torch.testing.assert_close(class_vectors(encoder.encode_text, names, templates), expected, atol=1e-6, rtol=0)
    ragged = {name: [f'{name} {text}' for text in range(1 + row % 3)] for row, name in enumerate(names)}
    expected = metrics.zero_shot_classifier(Model, Texts, names, ragged, 'cpu', amp=False).T
    found = prompt_vectors(encoder.encode_text, list(ragged.values()))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('average', ['normalised', 'raw'])
def test_the_size_of_groups_changes_no_bit_and_bounds_what_is_held(average):
    prompts = [[f'text {row} {text}' for text in range(1 + row % 4)] for row in range(11)]
    encoder = Encoder()
    expected = prompt_vectors(encoder.encode_text, prompts, average)
    assert encoder.calls == [sum(map(len, prompts))]
    for at_once in (1, 2, 4, 5, 9):
        encoder = Encoder()
        assert torch.equal(prompt_vectors(encoder.encode_text, prompts, average, at_once), expected)
        assert max(encoder.calls) <= max(at_once, 4) and sum(encoder.calls) == sum(map(len, prompts))
    for row, texts in enumerate(prompts):
        each = encoder.encode_text(texts)
        mean = (normalize(each, dim=1) if average == 'normalised' else each).sum(0)
        torch.testing.assert_close(expected[row], mean / mean.norm())


def test_a_thousand_classes_with_eighty_templates_are_never_held_at_once():
    sizes = []

    def encode(texts):
        sizes.append(len(texts))
        return torch.ones(len(texts), 4)

    found = prompt_vectors(encode, [[f'a text {row}'] * 80 for row in range(1000)])
    assert found.shape == (1000, 4) and max(sizes) <= 4096 and sum(sizes) == 80_000


def test_the_same_prompts_are_encoded_once_for_all_tasks_of_an_encoder():
    encoder, labels = Encoder(), torch.tensor([0, 1, 0])
    data = TaskData(bank={'test': Bank(torch.randn(3, 8), labels, ['cat', 'dog'])})
    first = ZeroShot(templates=['a {}', 'the {}']).run(encoder, data)
    again = ZeroShot(names=['cat', 'dog'], templates=['a {c}', 'the {c}'], metric='mean_per_class').run(encoder, data)
    assert encoder.calls == [4] and again.extras['metrics'] == first.extras['metrics']
    for options in (dict(prompt_average='raw'), dict(names=['Cat', 'dog'])):
        ZeroShot(**{'templates': ['a {}', 'the {}'], **options}).run(encoder, data)
    assert encoder.calls == [4, 4, 4]
    # What measures a model that trains gives new data each time.
    ZeroShot(templates=['a {}', 'the {}']).run(encoder, TaskData(bank=data.bank))
    assert encoder.calls == [4, 4, 4, 4]


def test_zero_shot_says_which_list_it_used_and_what_was_cut(caplog):
    features, labels = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
    bank = Bank(features, labels, ['grey_cat', 'dog', 'barn/owl'])
    data = TaskData(bank={'test': bank})
    result = ZeroShot(names=[['Grey cat', 'tabby'], 'dog', 'barn owl'], templates=['a {c}', 'the big {}']).run(
        Encoder(), data)
    assert result.extras['prompts_from'] == dict(names='the config', templates='the config', match='names')
    assert result.extras['names'] == ['Grey cat', 'dog', 'barn owl']
    assert result.extras['templates'] == ['a {}', 'the big {}'] and result.extras['prompts_per_class'] == 2
    assert result.extras['n_truncated'] == 2  # 'the big Grey cat', 'the big barn owl'
    assert '2 of 6 prompts are longer than the text encoder reads' in caplog.text
    vectors = class_vectors(Encoder().encode_text, ['Grey cat', 'dog', 'barn owl'], ['a {}', 'the big {}'])
    assert result.extras['metrics'] == ZeroShot.classify(features, vectors, labels)
    own = ZeroShot().run(Encoder(), data).extras
    assert own['prompts_from'] == dict(names='the data', templates='the default')
    assert own['names'] == ['grey cat', 'dog', 'barn owl'] and own['templates'] == ['a photo of a {}.']


def test_a_list_for_classes_without_names_is_taken_with_a_warning(caplog):
    features = torch.eye(8)[[0, 1, 2, 3, 4, 5, 6, 7, 0, 1]]
    data = TaskData(bank={'test': Bank(features, torch.arange(10), [str(row) for row in range(10)])})
    result = ZeroShot(names='svhn').run(Encoder(), data)
    assert result.extras['prompts_from']['match'] == 'numbers' and result.extras['names'][:2] == ['zero', 'one']
    assert 'may be in another order than the list \'svhn\' of clip-benchmark' in caplog.text
    caplog.clear()
    assert ZeroShot(names='svhn', match='order').run(Encoder(), data).value == result.value
    assert ZeroShot(names='mnist').run(Encoder(), data).extras['prompts_from']['match'] == 'names'
    assert 'another order' not in caplog.text


def test_classes_of_the_same_prompts_are_named(caplog):
    bank = Bank(torch.eye(8)[:4], torch.arange(4), ['657', '744', '836', '837'])
    result = ZeroShot(names=['missile', 'missile', 'sunglasses', 'sunglasses']).run(Encoder(), TaskData({'test': bank}))
    assert result.extras['same_prompts'] == [[0, 1], [2, 3]]
    assert '4 classes have the same prompts as another, the first is missile (class 0)' in caplog.text
    vectors = prompt_vectors(Noisy().encode_text, [['missile'], ['owl'], ['missile']], texts_at_once=1)
    assert torch.equal(vectors[0], vectors[2])
    images, labels = vectors.repeat(40, 1), torch.arange(3).repeat(40)
    assert ZeroShot.classify(images, vectors, labels)['top1'] == 1 / 3
    assert ZeroShot.classify(images, vectors, labels, ties='expected')['top1'] == pytest.approx(2 / 3)


def test_descriptions_are_prompts_of_their_class(tmp_path):
    path = tmp_path / 'mine.json'
    path.write_text('{"descriptions": {"dog": ["It barks.", "It has a wet nose."], "Grey Cat": ["It purrs."]}}')
    features, labels = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 1, 0, 1])
    data = TaskData(bank={'test': Bank(features, labels, ['grey_cat', 'dog'])})
    result = ZeroShot(templates=dict(file=str(path))).run(Encoder(), data)
    vectors = prompt_vectors(Encoder().encode_text, [['It purrs.'], ['It barks.', 'It has a wet nose.']])
    assert result.extras['metrics'] == ZeroShot.classify(features, vectors, labels)
    assert result.extras['prompts_per_class'] == [1, 2] and result.extras['templates'] == []
    queries = ClassRetrieval(templates=dict(file=str(path))).run(Encoder(), data)
    assert queries.extras['n_queries'] == 3
    other = TaskData(bank={'test': Bank(features, labels, ['grey_cat', 'wolf'])})
    with pytest.raises(DataError, match="mine.json has no description of the class 'wolf'"):
        ZeroShot(templates=dict(file=str(path))).run(Encoder(), other)


@pytest.mark.parametrize('options, message', [
    (dict(names='cat'), "There is no list of prompts 'cat'"),
    (dict(templates='a {c}'), r"expected a list such as \['a"),
    (dict(names=[]), 'names is'), (dict(names=['cat', ' ']), 'a class without a name'), (dict(match='any'), 'match'),
    (dict(names=dict(file='x.json', lists='y')), "no key 'lists'"), (dict(names=dict(list='y')), 'expected dict'),
    (dict(templates=['a photo of {name}']), 'where the class name goes')])
def test_wrong_arguments_are_refused_when_the_task_is_made(options, message):
    for kind in (ZeroShot, ClassRetrieval):
        with pytest.raises(ConfigError, match=message):
            kind(**options)


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    path = tmp_path / 'mine.json'
    seen = set()
    for text in ('{"names": ["cat", "dog"]}', '{"names": ["dog", "cat"]}', '{"names": ["a"], "templates": ["a {}"]}'):
        path.write_text(text)
        seen.add(ZeroShot(names=dict(file=str(path))).files_fingerprint())
        assert ZeroShot(names=dict(file=str(path))).files_fingerprint() in seen
    assert len(seen) == 3
