"""What was wrong in Avalanche 0.6's class-incremental strategies and classifiers by means, and is not any more."""

import copy

import numpy as np
import pytest
import torch
from toy_streams import (
    CLASS_INCREMENTAL,
    DOMAIN,
    MEMORY,
    built,
    class_stream,
    domain_stream,
    model,
    plugin_of,
    tensors_of,
    train,
)

from clear.continual.repairs.rehearsal.class_incremental import BiasCorrection, ScoreRectification
from clear.continual.repairs.split_model import SeenNCM, split
from clear.core.errors import ConfigError, TrainingError


def test_the_features_and_the_last_layer_are_the_model():
    net, x = model(), torch.randn(5, 8)
    names, logits = list(net.state_dict()), net(x)
    same = split(net, 'test')
    assert same is net and list(net.state_dict()) == names
    assert torch.equal(net(x), logits) and torch.equal(net.train_classifier(net.feature_extractor(x)), logits)
    teacher = copy.deepcopy(net)  # of a model that has features with a graph
    assert teacher.features is None and torch.equal(teacher(x), logits)


def test_nearest_mean_never_answers_with_a_class_it_has_not_seen():
    means = {1: torch.tensor([1.0, 0.0]), 3: torch.tensor([-1.0, 0.0])}
    query = torch.tensor([[0.1, 1.0], [-0.1, 1.0]])  # more than 60 degrees from both: the zero vector is nearer
    for legacy in (False, True):
        classifier = SeenNCM(legacy=legacy)
        classifier.replace_class_means_dict(means)
        assert classifier(query).argmax(1).tolist() == ([0, 0] if legacy else [1, 3])
    with pytest.raises(TrainingError, match='mean of class 2 is NaN'):
        SeenNCM().replace_class_means_dict({2: torch.tensor([float('nan'), 0.0])})
    assert not torch.isnan(classifier(torch.zeros(1, 2))).all() or classifier.legacy


def test_icarl_saves_its_means_in_the_state_dict():
    stream = class_stream()
    strategy = built('ICaRL', CLASS_INCREMENTAL['ICaRL'])
    train(strategy, stream.train_stream)
    other = built('ICaRL', CLASS_INCREMENTAL['ICaRL'], seed=2)
    other.model.load_state_dict(strategy.model.state_dict())
    x, _ = tensors_of(next(iter(stream.test_stream)))
    assert torch.equal(other.model.eval()(x), strategy.model.eval()(x))


def test_bias_correction_is_linear_on_the_new_classes():
    layer, logits = BiasCorrection(4), torch.randn(3, 4)
    layer.restart([1, 3])
    layer.alpha.data.fill_(2.0)
    layer.beta.data.fill_(0.5)
    expected = [[value * 2 + 0.5 if column in (1, 3) else value for column, value in enumerate(row)]
                for row in logits.tolist()]
    assert torch.allclose(layer(logits), torch.tensor(expected)) and layer.clss.tolist() == [1, 3]


def test_bic_corrects_evaluation_only_and_leaves_the_experience_whole():
    stream = class_stream()
    strategy = built('BiC', dict(mem_size=40, stage_2_epochs=20, val_percentage=0.2, lr=0.05))
    train(strategy, stream.train_stream)
    net = strategy.model
    assert [len(experience.dataset) for experience in stream.train_stream] == [24, 24]
    assert net.output_correction.clss.tolist() == [2, 3] and net.output_correction.alpha.item() != 1
    x, _ = tensors_of(list(stream.test_stream)[1])
    raw, corrected = net.train()(x), net.eval()(x)
    assert torch.equal(raw[:, :2], corrected[:, :2]) and not torch.allclose(raw[:, 2:], corrected[:, 2:])
    teacher = plugin_of(strategy, 'BiCPlugin').model_old
    assert torch.equal(teacher(x), raw), 'the teacher gives outputs that are not corrected'


class Bare(torch.nn.Module):
    """A classifier that shows nothing but its logits."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize('kind', [
    'BiC', 'IL2M', 'ICaRL', 'SCR', 'CoPE', 'LFL', 'ER_AML', 'FeatureReplay', 'CWRStar', 'AR1', 'PackNet',
    'PNNStrategy', 'ExpertGateStrategy', 'LearningToPrompt', 'StreamingLDA'])
def test_a_bare_module_works_or_is_refused_by_name(kind):
    options = {**DOMAIN, **CLASS_INCREMENTAL}[kind]
    try:
        built(kind, options, Bare())
    except ConfigError as error:
        assert 'Bare' in str(error) or 'head' in str(error)


@pytest.mark.parametrize('kind', ['BiCPlugin', 'CoPEPlugin', 'IL2MPlugin'])
def test_a_plugin_that_reads_features_refuses_a_bare_module(kind):
    with pytest.raises(ConfigError, match='reads the features of the model, which a Bare does not show'):
        built('Naive', dict(plugins=[dict(type=kind, mem_size=8)]), Bare())


def test_rwalk_gives_no_penalty_to_parameters_that_came_later():
    class Grows(torch.nn.Module):
        """Gets a second layer when the first experience is over."""

        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 4)])

        def forward(self, x):
            return sum(layer(x) for layer in self.layers)

    net = Grows()
    strategy = built('Naive', dict(plugins=[dict(type='RWalkPlugin', delta_t=2)]), net)
    plugin = plugin_of(strategy, 'RWalkPlugin')
    first, second, third = domain_stream(3).train_stream
    train(strategy, [first])
    known = {f'layers.0.{name}' for name in ('weight', 'bias')}
    assert set(plugin.exp_penalties) == known
    net.layers.append(torch.nn.Linear(8, 4))
    losses = train(strategy, [second, third])
    assert set(plugin.exp_penalties) == known and all(map(np.isfinite, losses))


def test_il2m_raises_past_classes_where_a_new_one_is_predicted():
    part = ScoreRectification(3)
    part.factors[:] = torch.tensor([4.0, 1.0, 1.0])
    part.is_new[2] = True
    logits = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
    scores = logits.softmax(1)
    scores[0, 0] *= 4  # only in the first row is the new class on top
    assert torch.allclose(part(logits), scores.log(), atol=1e-6)
    assert part(logits).argmax(1).tolist() == [0, 0]


def test_il2m_factors_are_ratios_of_mean_scores_and_confidences():
    stream = class_stream()
    strategy = built('IL2M', dict(mem_size=48, batch_size_mem=4))
    kept = {}
    strategy.on_epoch = lambda running: kept.update({running.clock.train_exp_counter: copy.deepcopy(running.model)})
    train(strategy, stream.train_stream)
    (x0, y0), (x1, _) = (tensors_of(experience) for experience in stream.train_stream)
    for net in kept.values():
        net.output_correction = torch.nn.Identity()
    first, second = kept[0].eval()(x0).softmax(1), kept[1].eval()(x0).softmax(1)
    confidence = kept[1].eval()(x1).softmax(1).max(1).values.mean() / first.max(1).values.mean()
    for label in (0, 1):
        own = y0 == label  # the memory holds all of the first experience
        expected = first[own, label].mean() / second[own, label].mean() * confidence
        assert strategy.model.output_correction.factors[label].item() == pytest.approx(expected.item(), rel=1e-4)
    assert strategy.model.output_correction.is_new.tolist() == [False, False, True, True]


def moved_by_momentum(prototypes, vectors, labels):
    """Each prototype 0.9 times itself and 0.1 times the direction of the mean of its class, on the unit sphere."""
    result = prototypes.clone()
    for label in set(labels.tolist()):
        mean = vectors[labels == label].mean(0)
        moved = 0.9 * prototypes[label] + 0.1 * mean / mean.norm()
        result[label] = moved / moved.norm()
    return result


@pytest.mark.parametrize('options', [{}, dict(legacy=True), dict(max_it_cnt=2)])
def test_cope_prototypes_move_by_momentum_and_classify(options):
    """After every batch; with `legacy`, or where the experience is the batch, once at the end of the experience."""
    strategy = built('CoPE', dict(mem_size=8, p_size=5, alpha=0.9, **options))
    classifier, batches, start = strategy.model.eval_classifier, [], []
    begin = strategy._before_training_iteration

    def note_start(**kwargs):
        if not start:
            start.append(classifier.prototypes.clone())
        begin(**kwargs)

    strategy._before_training_iteration = note_start
    train(strategy, domain_stream(1).train_stream, lambda running: batches.append(
        (running.mb_output.detach().clone(), running.mb_y.clone(), classifier.prototypes.clone())))
    expected = start[0]
    assert len(batches) == (2 if 'max_it_cnt' in options else 6)
    for vectors, labels, prototypes in batches:
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)
        if not options:
            expected = moved_by_momentum(expected, vectors, labels)
        assert torch.allclose(prototypes, expected, atol=1e-5)
    if options:
        expected = moved_by_momentum(expected, *(torch.cat(parts) for parts in list(zip(*batches))[:2]))
    assert torch.allclose(classifier.prototypes, expected, atol=1e-5)


def test_cope_prototypes_leave_their_random_start():
    cosines = {}
    for legacy in (False, True):
        strategy = built('CoPE', dict(mem_size=8, p_size=5, alpha=0.9, train_epochs=9, legacy=legacy))
        starts, begin = [], strategy._before_training_exp

        def note(begin=begin, strategy=strategy, starts=starts, **kwargs):
            begin(**kwargs)
            starts.append(strategy.model.eval_classifier.prototypes.clone())

        strategy._before_training_exp = note
        train(strategy, domain_stream(2).train_stream)
        cosines[legacy] = (starts[0] * strategy.model.eval_classifier.prototypes).sum(1).mean()
    assert cosines[False] < 0.9 and cosines[True] > 0.95


@pytest.mark.parametrize('legacy', [False, True])
def test_scr_means_are_those_of_the_memory_by_the_present_encoder(legacy):
    strategy = built('SCR', dict(**MEMORY, projection_dim=5, legacy=legacy))
    for experience in domain_stream(3).train_stream:
        train(strategy, [experience])
        memory = plugin_of(strategy, 'ReplayPlugin').storage_policy.buffer
        rows = [memory[row] for row in range(len(memory))]
        x, y = torch.stack([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
        features = strategy.model.eval().get_features(x)
        features = features / features.norm(dim=1, keepdim=True)
        means = torch.stack([features[y == label].mean(0) for label in range(4)])
        means = means / means.norm(dim=1, keepdim=True)
        difference = (strategy.model.eval_classifier.class_means - means).abs().max()
        assert (difference < 1e-5) == (not legacy or experience.current_experience == 0)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('kind', ['MemoryFeCAMUpdate', 'FeCAMOracle'])
def test_fecam_means_and_covariances_are_those_of_the_present_encoder(kind, legacy):
    memory = dict(mem_size=60) if kind == 'MemoryFeCAMUpdate' else {}
    plugin = dict(type=kind, legacy=legacy, classifier=dict(tukey=False, shrinkage=False, covnorm=False), **memory)
    strategy, seen = built('Naive', dict(plugins=[plugin])), []
    for experience in domain_stream(2).train_stream:
        train(strategy, [experience])
        seen.append(tensors_of(experience))
        x, y = (torch.cat(parts) for parts in zip(*seen))  # the memory holds all of them
        features = strategy.model.eval().get_features(x).detach()
        found = strategy.model.eval_classifier
        for label in range(4):
            own = features[y == label]
            equal = [torch.allclose(found.class_means_dict[label], own.mean(0), atol=1e-5),
                     torch.allclose(found.class_cov_dict[label], own.T.cov(), atol=1e-5)]
            assert equal == [not legacy or len(seen) == 1] * 2


@pytest.mark.parametrize('legacy', [False, True])
def test_scr_contrasts_projections_of_norm_1(legacy):
    strategy = built('SCR', dict(**MEMORY, projection_dim=5, legacy=legacy))
    norms = []
    train(strategy, domain_stream(1).train_stream,
          lambda running: norms.append(running.mb_output.detach().norm(dim=2).flatten()))
    norms = torch.cat(norms)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5) == (not legacy)


def test_scr_augments_every_sample_by_itself():
    flips = [dict(type='RandomHorizontalFlip', p=0.5)]
    strategy = built('SCR', dict(**MEMORY, augmentations=flips))
    torch.manual_seed(0)
    batch = torch.arange(40 * 3 * 4 * 4.0).view(40, 3, 4, 4)
    views = strategy.augmentations(batch)
    flipped = [torch.equal(view, sample.flip(-1)) for view, sample in zip(views, batch)]
    assert 5 < sum(flipped) < 35
    assert all(torch.equal(view, sample) for view, sample, was in zip(views, batch, flipped) if not was)
