"""Answers and their counts: scikit-learn's matrix, ties as in the accuracy, the classes that are shown."""

import pytest
import torch
from sklearn.metrics import confusion_matrix as peer

from clear.evaluation.metrics.confusion import answers, confusion_data, confusion_matrix
from clear.evaluation.task import classification_metrics


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
