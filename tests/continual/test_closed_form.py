"""Learners that are solved: against loops, Avalanche and scikit-learn, and as runs on a stream of features."""

import pytest
import torch
from avalanche.training.supervised import StreamingLDA as AvalancheStreamingLDA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from tiny_runs import DIM, NUM_CLASSES, built, same_weights, stop_in, train, weights, write_stream

from clear.continual.strategies.prototype import PrototypeLearner
from clear.continual.strategies.ranpac import RIDGES, RidgeLearner, solve_ridge
from clear.continual.strategies.streaming_lda import StreamingLDALearner
from clear.core.errors import ConfigError, Interrupted
from clear.models import build_classifier
from clear.registry import STRATEGIES

pytestmark = pytest.mark.filterwarnings('ignore:No loggers specified')

HEADS = {'LinearClsHead': {}, 'CosineDistanceHead': dict(temperature=2.0), 'RandomProjectionHead': dict(dim=40)}
KINDS = {'Prototype': 'CosineDistanceHead', 'PrototypePlus': 'CosineDistanceHead', 'NCM': 'LinearClsHead',
         'StreamingLDA': 'LinearClsHead', 'RanPAC': 'RandomProjectionHead'}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def config(root, kind, head=None, **options):
    """A run of a closed-form learner, without optimiser, schedule or loss."""
    head = head or KINDS[kind]
    return dict(
        scenario=dict(type='CLEAR', data_root=str(root), feature_type='moco_b0', seed=0),
        model=dict(head=dict(type=head, num_classes=NUM_CLASSES, in_channels=DIM, **HEADS[head])),
        cl_strategy=dict(type=kind, train_mb_size=8, eval_mb_size=5, **options), loggers=[], metrics=[], device='cpu',
        seed=3)


def buckets(root):
    """Features and labels of each training bucket, as the scenario gives them."""
    info = built(config(root, 'NCM')).info
    return [(bucket.inputs, bucket.labels) for bucket in info.train]


def head_of(kind, num_classes=3, dim=4, **options):
    return build_classifier(dict(head=dict(type=kind, num_classes=num_classes, in_channels=dim,
                                           **{**HEADS[kind], **options}))).head


def samples(count, num_classes=3, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, num_classes, (count,), generator=generator)
    return torch.randn(count, dim, generator=generator) + 2 * targets[:, None], targets


def feed(learner, head, experiences, batch=5):
    """Let a learner see experiences in batches and solve after each."""
    for features, targets in experiences:
        learner.before_training_exp(None)
        for part in torch.arange(len(targets)).split(batch):
            learner.observe(features[part], targets[part], head)
        learner.solve(head)
    return head


# Prototypes


@pytest.mark.parametrize('batch', [1, 4, 100])
@pytest.mark.parametrize('kind', ['LinearClsHead', 'CosineDistanceHead'])
def test_prototypes_are_the_class_means_of_the_current_bucket(kind, batch):
    first, second = samples(20), samples(15, seed=1)
    head = feed(PrototypeLearner(cumulate=False), head_of(kind), [first, second], batch)
    for label in range(3):
        rows = [feature for feature, target in zip(*second) if target == label]
        torch.testing.assert_close(head.fc.weight[label], sum(rows) / len(rows))


@pytest.mark.parametrize('batch', [1, 4, 100])
def test_prototypes_of_the_stream_count_every_sample_once(batch):
    experiences = [samples(20), samples(3, seed=1), samples(15, seed=2)]
    head = feed(PrototypeLearner(cumulate=True), head_of('LinearClsHead'), experiences, batch)
    features, targets = (torch.cat(column) for column in zip(*experiences))
    means = torch.stack([features[targets == label].mean(0) for label in range(3)])
    torch.testing.assert_close(head.fc.weight.data, means)
    # The highest logit is the nearest mean.
    points = torch.randn(50, 4) * 3
    nearest = torch.cdist(points, means).argmin(1)
    assert torch.equal(head((points,)).argmax(1), nearest)


@pytest.mark.parametrize('cumulate', [False, True])
def test_a_class_missing_from_a_bucket_keeps_its_prototype_and_is_named(cumulate, caplog):
    (first, targets), (second, others) = samples(20), samples(15, seed=1)
    head = head_of('LinearClsHead', num_classes=4)
    with caplog.at_level('WARNING'):
        feed(PrototypeLearner(cumulate), head, [(first, targets), (second[others > 0], others[others > 0])])
    torch.testing.assert_close(head.fc.weight[0], first[targets == 0].mean(0))
    assert 'class 0 in this experience: they keep their earlier prototypes' in caplog.text
    assert 'class 3 in this experience: they were never seen' in caplog.text
    assert head.fc.weight.isfinite().all()
    assert not (head((torch.randn(100, 4) * 50,)).argmax(1) == 3).any()


def test_legacy_prototypes_are_the_means_of_the_last_batch():
    features, targets = samples(20)
    head = head_of('LinearClsHead')
    bias = head.fc.bias.clone()
    targets[14] = 1
    feed(PrototypeLearner(False, legacy=True), head, [(features, targets)], batch=15)
    last, labels = features[15:], targets[15:]
    for label in range(3):
        expected = last[labels == label].mean(0)  # NaN without a sample
        torch.testing.assert_close(head.fc.weight[label], expected, equal_nan=True)
    assert torch.equal(head.fc.bias, bias)


def test_legacy_prototypes_of_the_stream_are_added_to_the_first_weights():
    first, second = samples(30), samples(30, seed=1)
    head = head_of('CosineDistanceHead')
    expected = head.fc.weight.data.clone()
    assert expected.abs().max() > 0
    feed(PrototypeLearner(True, legacy=True), head, [first, second], batch=30)
    for features, targets in (first, second):
        expected += torch.stack([features[targets == label].mean(0) for label in range(3)])
    torch.testing.assert_close(head.fc.weight.data, expected)


# Streaming LDA


def covariance_by_loops(features, targets, legacy):
    """Hayes and Kanan's update, one sample at a time."""
    features = features.double()
    means, counts = torch.zeros(3, features.shape[1]).double(), [0, 0, 0]
    covariance = torch.ones(features.shape[1], features.shape[1]).double()
    for time, (z, y) in enumerate(zip(features, targets.tolist())):
        d = z - means[y]
        if counts[y] == 0 and not legacy:
            d = torch.zeros_like(d)
        covariance = (time * covariance + torch.outer(d, d) * time / (time + 1)) / (time + 1)
        means[y] += (z - means[y]) / (counts[y] + 1)
        counts[y] += 1
    return covariance, means


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('batch', [1, 7, 40])
def test_lda_in_batches_equals_the_update_of_single_samples(batch, legacy):
    features, targets = samples(40)
    learner = StreamingLDALearner(1e-4, legacy)
    feed(learner, head_of('LinearClsHead'), [(features[:23], targets[:23]), (features[23:], targets[23:])], batch)
    covariance, means = covariance_by_loops(features, targets, legacy)
    torch.testing.assert_close(learner.covariance(), covariance)
    torch.testing.assert_close(learner.means, means)


def test_legacy_lda_equals_avalanches():
    features, targets = samples(40)
    stock = AvalancheStreamingLDA(slda_model=torch.nn.Identity(), criterion=torch.nn.CrossEntropyLoss(), input_size=4,
                                  num_classes=3, shrinkage_param=1e-2, evaluator=None)
    for name in ('muK', 'cK', 'Sigma'):
        setattr(stock, name, getattr(stock, name).double())
    for z, y in zip(features.double(), targets):
        stock.fit(z[None], y[None])
    head = feed(StreamingLDALearner(1e-2, legacy=True), head_of('LinearClsHead'), [(features, targets)])
    points = torch.randn(20, 4)
    torch.testing.assert_close(head((points,)), stock.predict(points.double()).float(), rtol=1e-4, atol=1e-4)


def test_lda_of_many_samples_is_scikit_learns():
    features, targets = samples(6000)
    head = feed(StreamingLDALearner(1e-6), head_of('LinearClsHead'), [(features, targets)], batch=500)
    # With equal priors, because streaming LDA has none. Its covariance differs by O(classes / samples).
    peer = LinearDiscriminantAnalysis(solver='lsqr', priors=[1 / 3] * 3).fit(features.numpy(), targets.numpy())
    points = torch.randn(200, 4) + 2
    logits, expected = head((points,)).detach(), torch.from_numpy(peer.decision_function(points.numpy())).float()
    expected = expected - expected.mean(1, keepdim=True)
    torch.testing.assert_close(logits - logits.mean(1, keepdim=True), expected, rtol=0.03, atol=0.03)
    assert (logits.argmax(1).numpy() == peer.predict(points.numpy())).mean() > 0.985


def test_lda_with_one_sample_of_each_class_is_nearest_mean():
    features, targets = samples(3)
    targets = torch.arange(3)
    head = feed(StreamingLDALearner(1e-4), head_of('LinearClsHead'), [(features, targets)])
    points = torch.randn(50, 4) * 3
    assert torch.equal(head((points,)).argmax(1), torch.cdist(points, features).argmin(1))


# Ridge on random projections


@pytest.mark.parametrize('ridge', [0.1, 100.0])
def test_ranpac_is_ridge_regression_of_everything_seen(ridge):
    experiences = [samples(30), samples(25, seed=1)]
    head = feed(RidgeLearner(ridge), head_of('RandomProjectionHead'), experiences)
    features, targets = (torch.cat(column) for column in zip(*experiences))
    projected = torch.clamp(features @ head.projection, min=0).double().numpy()
    peer = Ridge(alpha=ridge, fit_intercept=False).fit(projected, torch.eye(3)[targets].numpy())
    torch.testing.assert_close(head.fc.weight.data, torch.from_numpy(peer.coef_).float(), rtol=1e-4, atol=1e-5)
    points = torch.randn(9, 4)
    expected = torch.clamp(points @ head.projection, min=0) @ torch.from_numpy(peer.coef_).float().T
    torch.testing.assert_close(head((points,)), expected, rtol=1e-4, atol=1e-4)


def test_the_ridge_is_the_one_with_the_smallest_error_on_held_out_samples():
    features, targets = samples(60)
    head = head_of('RandomProjectionHead')
    torch.manual_seed(4)
    learner = RidgeLearner(None)
    feed(learner, head, [(features, targets)], batch=60)
    torch.manual_seed(4)
    held_out = torch.rand(60) < 0.2
    assert 0 < held_out.sum() < 30
    projected, labels = torch.clamp(features @ head.projection, min=0).double(), torch.eye(3).double()[targets]
    errors = {}
    for ridge in RIDGES:
        fitted = projected[~held_out]
        solution = solve_ridge(fitted.T @ fitted, fitted.T @ labels[~held_out], ridge)
        if solution is not None:
            errors[ridge] = float((projected[held_out] @ solution - labels[held_out]).square().mean())
    assert learner.ridge == min(errors, key=errors.get)
    assert max(errors.values()) > 2 * min(errors.values())
    # The solution itself uses the held-out samples too.
    peer = Ridge(alpha=learner.ridge, fit_intercept=False).fit(projected.numpy(), labels.numpy())
    torch.testing.assert_close(head.fc.weight.data, torch.from_numpy(peer.coef_).float(), rtol=1e-3, atol=1e-4)


def test_too_few_samples_keep_the_ridge_and_say_so(caplog):
    learner = RidgeLearner(None)
    with caplog.at_level('WARNING'):
        torch.manual_seed(0)  # the one draw is above 0.2
        feed(learner, head_of('RandomProjectionHead'), [samples(1)])
    assert learner.ridge == 1.0 and '1 samples are too few to choose a ridge' in caplog.text


# Runs


@pytest.mark.parametrize('kind', KINDS)
def test_a_run_without_optimizer_learns_the_stream(kind, root):
    runner = train(config(root, kind))
    assert type(runner.strategy).__name__ == kind
    assert runner.record.acc_matrix[-1][-1] > 0.6
    assert runner.strategy.optimizer.param_groups[0]['lr'] == 0.0
    assert runner.strategy.clock.train_iterations == 3 * 4  # 28 samples in batches of 8, once


def test_runs_write_the_statistics_of_the_stream_into_the_head(root):
    runner = train(config(root, 'NCM'))
    features, targets = (torch.cat(column) for column in zip(*buckets(root)))
    means = torch.stack([features[targets == label].mean(0) for label in range(NUM_CLASSES)])
    torch.testing.assert_close(runner.model.head.fc.weight.data, means)
    last = buckets(root)[-1]
    runner = train(config(root, 'Prototype', shot=7))
    assert runner.strategy.train_mb_size == 7 * NUM_CLASSES
    expected = torch.stack([last[0][last[1] == label].mean(0) for label in range(NUM_CLASSES)])
    torch.testing.assert_close(runner.model.head.fc.weight.data, expected)


@pytest.mark.parametrize('kind', KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(kind, root, tmp_path):
    cfg = config(root, kind)
    whole = train(cfg)
    runner = built(cfg, tmp_path)
    stop_in(runner, experience=1)
    with pytest.raises(Interrupted):
        runner.train()
    torch.manual_seed(99)
    parts = train(cfg, tmp_path, resume=True)
    assert same_weights(weights(whole), weights(parts)) and whole.record.acc_matrix == parts.record.acc_matrix


@pytest.mark.parametrize('kind, head, options, expected', [
    ('NCM', None, dict(train_epochs=2), 'one pass over each experience; cl_strategy.train_epochs is 2'),
    ('StreamingLDA', 'CosineDistanceHead', {}, 'model.head must be LinearClsHead; it is CosineDistanceHead'),
    ('StreamingLDA', None, dict(shrinkage_param=0.0), 'shrinkage_param is 0.0; expected a number above 0'),
    ('RanPAC', 'LinearClsHead', {}, "RanPAC needs model.head=dict.type='RandomProjectionHead'"),
    ('RanPAC', None, dict(ridge=-1.0), 'ridge is -1.0; expected a number above 0'),
    ('Prototype', None, dict(shot=0), 'shot is 0; expected a whole number of at least 1')])
def test_settings_that_cannot_work_are_refused(kind, head, options, expected, root):
    with pytest.raises(ConfigError, match=expected):
        built(config(root, kind, head, **options))


def test_a_model_without_a_linear_head_is_refused():
    with pytest.raises(ConfigError, match='LinearClsHead or CosineDistanceHead; it is StackedLinearClsHead'):
        STRATEGIES.get('NCM')(model=build_classifier(dict(head=dict(
            type='StackedLinearClsHead', num_classes=3, in_channels=4, mid_channels=[5]))), criterion=None)
