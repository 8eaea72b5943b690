"""Answers and their counts: scikit-learn's matrix, ties as in the accuracy, the classes that are shown."""

import pytest
import torch
from sklearn.metrics import confusion_matrix as peer

from clear.evaluation.language.zero_shot import ZeroShot
from clear.evaluation.metrics.confusion import answers, confusion_data, confusion_matrix
from clear.evaluation.task import TaskData, classification_metrics
from clear.features import write_bank


@pytest.mark.parametrize('rows, classes', [(1, 1), (7, 2), (5000, 13)])
def test_equal_to_scikit_learn_and_its_diagonal_is_the_accuracy(rows, classes):
    generator = torch.Generator().manual_seed(rows)
    features, vectors = (torch.randn(count, 6, generator=generator) for count in (rows, classes))
    labels = torch.randint(classes, (rows,), generator=generator)
    found = answers(features, vectors, labels)
    scores = torch.nn.functional.normalize(features, dim=1) @ torch.nn.functional.normalize(vectors, dim=1).T
    assert torch.equal(found, scores.argmax(1))
    matrix = confusion_matrix(found, labels, classes)
    assert matrix.tolist() == peer(labels, found, labels=range(classes)).tolist()
    assert matrix.diag().sum() / rows == pytest.approx(classification_metrics(scores, labels)['top1'])


def test_a_class_that_another_equals_has_lost():
    vectors, labels = torch.tensor([[1.0, 0], [2, 0], [0, 1]]), torch.tensor([0, 1, 2])
    found = answers(torch.tensor([[1.0, 0], [1, 0], [0, 3]]), vectors, labels)
    assert found.tolist() == [1, 0, 2]


def test_of_many_classes_those_are_shown_that_are_mistaken():
    matrix = torch.tensor([[5, 0, 0, 2], [0, 9, 1, 0], [0, 0, 4, 0], [0, 0, 0, 7]])
    assert confusion_data(matrix, 'abcd', most=2) == dict(kind='confusion', matrix=[[5, 2], [0, 7]], names=['a', 'd'])
    assert confusion_data(matrix, 'abcd')['matrix'] == matrix.tolist()


def test_zero_shot_leaves_a_matrix_whose_diagonal_is_its_accuracy(tmp_path):
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(4, 5, generator=generator)
    labels = torch.arange(30) % 4

    class Encoder(torch.nn.Module):
        def encode_text(self, texts):
            return vectors[[['cat', 'dog', 'car', 'ship'].index(text) for text in texts]]

    bank = write_bank(tmp_path / 'bank', vectors[labels] + 1.5 * torch.randn(30, 5, generator=generator), labels,
                      class_names=['cat', 'dog', 'car', 'ship'])
    result = ZeroShot(templates=['{}']).run(Encoder(), TaskData(bank=dict(test=bank)))
    data = result.extras['figure_data']['confusion']
    matrix = torch.tensor(data['matrix'])
    assert data['names'] == ['cat', 'dog', 'car', 'ship'] and matrix.sum(1).tolist() == [8, 8, 7, 7]
    assert 0 < result.value < 1 and result.value == pytest.approx(matrix.diag().sum().item() / 30)
