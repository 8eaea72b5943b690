import pytest
import torch
from banks import blob_data, blobs

from clear.core.errors import ConfigError
from clear.evaluation import NearestClassMean, nearest_mean_scores
from clear.evaluation.image.nearest_class_mean import class_means


def predict_by_loops(queries, features, labels, num_classes, distance):
    if distance == 'cosine':
        features = [row / row.norm() for row in features]
    means = []
    for label in range(num_classes):
        rows = [row for row, own in zip(features, labels) if own == label]
        means.append(sum(rows) / len(rows))
    predicted = []
    for query in queries:
        if distance == 'cosine':
            scores = [float(query @ mean / query.norm() / mean.norm()) for mean in means]
        else:
            scores = [-float((query - mean).square().sum()) for mean in means]
        predicted.append(max(range(num_classes), key=lambda label: scores[label]))
    return predicted


@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
@pytest.mark.parametrize('num_rows', [3, 40])
def test_predictions_match_loops(distance, num_rows):
    features, labels = blobs(num_rows, spread=4.0)
    queries, targets = blobs(50, spread=4.0, seed=7)
    scores = nearest_mean_scores(queries, features, labels, 3, distance)
    expected = predict_by_loops(queries.double(), features.double(), labels, 3, distance)
    assert scores.argmax(1).tolist() == expected


def test_task_reports_the_accuracy():
    data = blob_data(40, 50, spread=4.0)
    expected = predict_by_loops(data.test.features, data.train.features, data.train.labels, 3, 'cosine')
    hits = sum(own == label for own, label in zip(expected, data.test.labels.tolist()))
    assert NearestClassMean().fit(data).value == hits / 50


def test_class_without_samples_never_wins():
    features, labels = blobs(20, num_classes=2)
    scores = nearest_mean_scores(features, features, labels, 4, 'euclidean')
    assert (scores[:, 2:] == -torch.inf).all() and (scores.argmax(1) < 2).all()
    means, has_samples = class_means(features, labels, 4)
    assert has_samples.tolist() == [True, True, False, False] and not means[2:].any()


def test_euclidean_survives_a_large_common_offset():
    features, labels = blobs(40, spread=0.5)
    plain = nearest_mean_scores(features, features, labels, 3, 'euclidean').argmax(1)
    assert torch.equal(nearest_mean_scores(features + 1e4, features + 1e4, labels, 3, 'euclidean').argmax(1), plain)


def test_wrong_distance():
    with pytest.raises(ConfigError, match="'cosine', 'euclidean'"):
        NearestClassMean(distance='l1')
