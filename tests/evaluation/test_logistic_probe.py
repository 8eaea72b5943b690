import numpy as np
import pytest
import torch
from banks import blob_data, blobs, digit_banks, digits

from clear.core.errors import ConfigError
from clear.evaluation import LogisticProbe, fit_logistic
from clear.evaluation.image.logistic_probe import _mean_loss
from clear.evaluation.task import TaskData


@pytest.mark.parametrize('num_classes', [2, 4])
@pytest.mark.parametrize('c', [0.01, 1.0, 100.0])
def test_fit_is_that_of_scikit_learn(c, num_classes):
    from sklearn.linear_model import LogisticRegression

    features, labels = blobs(90, num_classes=num_classes, spread=4.0)
    fit = fit_logistic(features.double(), labels, num_classes, c, tolerance=1e-8)
    peer = LogisticRegression(C=c, tol=1e-10, max_iter=5000).fit(features.double().numpy(), labels.numpy())
    assert fit.converged
    expected = peer.decision_function(features.double().numpy())
    if num_classes == 2:
        expected = np.stack([-expected / 2, expected / 2], 1)
    # A constant added to all logits of a row, or all biases, changes no probability.
    logits = fit.logits(features.double()).numpy()
    np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True),
                               atol=2e-4 * np.abs(expected).max())


def test_digits_accuracy_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    features, labels = digits()
    peer = LogisticRegression(C=1.0, max_iter=1000).fit(features[:1200].numpy(), labels[:1200].numpy())
    expected = peer.score(features[1200:].numpy(), labels[1200:].numpy())
    result = LogisticProbe(cs=[1.0], scale='none').run(None, TaskData(bank=digit_banks()))
    assert abs(result.value - expected) <= 2 / 597
    assert result.extras['candidates'][0]['converged']


def test_gradient_in_chunks_matches_autograd(monkeypatch):
    monkeypatch.setattr('clear.evaluation.image.logistic_probe._LOGITS_PER_CHUNK', 3 * 7)
    features, labels = blobs(25)
    features = features.double()
    head = torch.randn(3, 6, dtype=torch.float64, generator=torch.manual_seed(0), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(features @ head[:, :5].T + head[:, 5], labels)
    loss.backward()
    found, grad = _mean_loss(features, labels, head.detach())
    assert found == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(grad, head.grad, rtol=1e-10, atol=1e-12)


def test_c_is_selected_on_validation_smaller_first():
    data = blob_data(90, 40, spread=5.0)
    result = LogisticProbe(cs=[100.0, 1e-4, 1.0]).fit(data)
    table = result.extras['candidates']
    assert [entry['c'] for entry in table] == [1e-4, 1.0, 100.0]
    best = max(entry['val_top1'] for entry in table)
    assert result.extras['selected']['c'] == min(entry['c'] for entry in table if entry['val_top1'] == best)


def test_warm_start_ends_where_a_cold_start_does():
    features, labels = blobs(60, spread=4.0)
    features = features.double()
    first = fit_logistic(features, labels, 3, 0.01, tolerance=1e-9)
    warm, cold = (fit_logistic(features, labels, 3, 1.0, start=start, tolerance=1e-9) for start in (first, None))
    torch.testing.assert_close(warm.weight, cold.weight, rtol=1e-4, atol=1e-6)


def test_running_out_of_iterations_is_reported():
    features, labels = digits()
    assert not fit_logistic(features[:200], labels[:200], 10, 1e4, max_iterations=2).converged


def test_wrong_strengths():
    for wrong in ([], [0.0], [-1], [1.0, 1.0], ['a'], [float('inf')]):
        with pytest.raises(ConfigError, match='cs'):
            LogisticProbe(cs=wrong)
