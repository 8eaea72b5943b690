"""The worked examples of docs/zero_shot.md: what we, and packages, make of ties and of classes without images."""

import importlib.metadata

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, recall_score, top_k_accuracy_score
from timm.utils import accuracy
from torchmetrics.classification import BinaryAveragePrecision, MulticlassAccuracy

from clear.evaluation.language.zero_shot import ZeroShot

ONE = torch.ones(1, 2)


def test_three_equal_scores():
    """One image that is as much like each of three classes; its class is 0, then 1, then 2."""
    vectors, scores = ONE.repeat(3, 1), torch.full((1, 3), 0.5)
    found = {}
    for label in range(3):
        target = torch.tensor([label])
        found[label] = (ZeroShot.classify(ONE, vectors, target)['top1'],
                        pytest.approx(ZeroShot.classify(ONE, vectors, target, ties='expected')['top1']),
                        top_k_accuracy_score([label], scores.numpy(), k=1, labels=[0, 1, 2]),
                        accuracy(scores, target)[0].item() / 100,
                        MulticlassAccuracy(num_classes=3, average='micro')(scores, target).item())
    assert found == {0: (0, 1 / 3, 0, 1, 1), 1: (0, 1 / 3, 0, 0, 0), 2: (0, 1 / 3, 1, 0, 0)}


@pytest.mark.filterwarnings('ignore:y_pred contains classes')
def test_a_class_without_images():
    """Truth 0, 0, 1, 1, found 0, 2, 1, 1: class 2 has no image."""
    truth, found = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, 1])
    images = torch.nn.functional.one_hot(found).float()
    assert ZeroShot.classify(images, torch.eye(3), truth)['mean_per_class'] == 0.75
    assert balanced_accuracy_score(truth, found) == 0.75
    assert recall_score(truth, found, average='macro', zero_division=0) == 0.5
    assert MulticlassAccuracy(num_classes=3, average='macro')(found, truth) == 0.5


@pytest.mark.parametrize('first', [True, False])
def test_equal_scores_of_four_images(first):
    """One of four images of equal scores shows the class, the first in the data or the last."""
    shown = [1, 0, 0, 0] if first else [0, 0, 0, 1]
    targets = np.array([[each, 0] for each in shown])
    assert ZeroShot.classify_multi_label(ONE.repeat(4, 1), torch.eye(2), targets) == dict(map_11point=0.25, map=0.25)
    scores = torch.full((4,), 0.5)
    assert average_precision_score(shown, scores) == 0.25 == BinaryAveragePrecision()(scores, torch.tensor(shown))
    if not any(found.name == 'clip-benchmark' for found in importlib.metadata.distributions()):
        pytest.skip("needs pip install 'clear-framework[zeroshot]'")
    from clip_benchmark.metrics.zeroshot_classification import average_precision_per_class

    peer = average_precision_per_class(scores[:, None], torch.tensor(shown)[:, None])
    assert peer.item() == (1.0 if first else 0.25)
