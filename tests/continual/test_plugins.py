"""Plugins, memories, selection rules and losses that are configs inside `cl_strategy`."""

import math

import pytest
import torch
from avalanche.training import plugins as avalanche_plugins
from toy_streams import DIM, GENERATOR, built, class_stream, config, domain_stream, model, plugin_of, tensors_of, train

from clear import registry as registries
from clear.continual.strategies import build_strategy
from clear.continual.training.traits import AVALANCHE
from clear.core.errors import ConfigError
from clear.registry import PLUGINS

RESERVOIR = dict(type='ReservoirSamplingBuffer', max_size=8)
NO_TUKEY = dict(tukey=False)
# Every plugin of Avalanche that a config can add, with its arguments.
ALL = {
    'AGEMPlugin': dict(patterns_per_experience=6, sample_size=4), 'CWRStarPlugin': {},
    'CoPEPlugin': dict(p_size=5, n_classes=4),
    'EarlyStoppingPlugin': dict(patience=1), 'EWCPlugin': dict(ewc_lambda=1.0), 'FeatureDistillationPlugin': {},
    'FromScratchTrainingPlugin': {}, 'GDumbPlugin': dict(mem_size=8),
    'GEMPlugin': dict(patterns_per_experience=6, memory_strength=0.5),
    'GenerativeReplayPlugin': dict(generator=GENERATOR, generator_epochs=1), 'TrainGeneratorAfterExpPlugin': {},
    'GSS_greedyPlugin': dict(mem_size=8), 'LFLPlugin': dict(lambda_e=1.0), 'LwFPlugin': dict(alpha=1.0),
    'MASPlugin': {}, 'MIRPlugin': dict(mem_size=8, batch_size_mem=4, subsample=6),
    'RARPlugin': dict(batch_size_mem=4, mem_size=8), 'ReplayPlugin': dict(mem_size=8), 'RWalkPlugin': {},
    'SynapticIntelligencePlugin': dict(si_lambda=1.0), 'CurrentDataFeCAMUpdate': {},
    'MemoryFeCAMUpdate': dict(mem_size=40),
    'FeCAMOracle': dict(classifier=NO_TUKEY), 'CurrentDataNCMUpdate': {}, 'MemoryNCMUpdate': dict(mem_size=8),
    'NCMOracle': dict(classifier=dict(normalize=False))}
# For streams of disjoint classes.
DISJOINT = {'BiCPlugin': dict(mem_size=20, stage_2_epochs=1), 'IL2MPlugin': dict(mem_size=8)}
LEFT_OUT = {'SupervisedPlugin', *(name for name, says in AVALANCHE.items() if 'built_in' in says)}


def test_the_list_holds_all_of_avalanches_plugins():
    found = {name for name, value in vars(avalanche_plugins).items() if isinstance(value, type)} - {'PPPloss'}
    assert found - LEFT_OUT == {*ALL, *DISJOINT} - {'IL2MPlugin'}
    assert {*ALL, *DISJOINT} - {'IL2MPlugin'} <= set(PLUGINS.known_names())


@pytest.mark.parametrize('kind', [*ALL, *DISJOINT])
def test_plugin_is_built_from_a_config_and_trains(kind):
    strategy = built('Naive', dict(plugins=[dict(type=kind, **{**ALL, **DISJOINT}[kind])]))
    assert strategy.plugins[0] is strategy.schedule and strategy.plugins[1] is plugin_of(strategy, kind)
    stream = class_stream() if kind in DISJOINT else domain_stream(2)
    losses = train(strategy, stream.train_stream)
    assert losses and all(math.isfinite(loss) for loss in losses)
    strategy.model.eval()
    assert not torch.isnan(strategy.model(tensors_of(next(iter(stream.test_stream)))[0])).any()


@pytest.mark.parametrize('plugins, expected', [
    ([dict(type='RWalkPlugin', delta=3)], r"plugins\[0\]: RWalkPlugin has no key 'delta'. Did you mean 'delta_t'"),
    ([dict(type='RWalk')], "no type 'RWalk' is registered. Nearest: 'RWalkPlugin'"),
    ([dict(delta_t=3)], r'plugins\[0\] needs a dict with a type'),
    ('RWalkPlugin', 'expected a list of dicts'),
    ([dict(type='EvaluationPlugin')], 'every strategy has EvaluationPlugin already; use loggers and metrics'),
    ([dict(type='LRSchedulerPlugin')], 'use cl_strategy.scheduler'),
    ([dict(type='ReplayPlugin', storage_policy=dict(type='ReservoirSamplingBufer'))],
     "Nearest: 'ReservoirSamplingBuffer'"),
    ([dict(type='ReplayPlugin', storage_policy=dict(**RESERVOIR, size=3))], r'plugins\[0\].storage_policy: .* no key'),
    ([dict(type='ReplayPlugin', mem_size=9, storage_policy=RESERVOIR)], 'max_size == self.mem_size'),
    ([dict(type='ReplayPlugin', storage_policy=dict(type='ExemplarsBuffer'))], 'is abstract'),
    ([dict(type='NCMOracle', classifier=dict(norm=1))], "NCMOracle: classifier: .*'norm'"),
    ([dict(type='NCMOracle'), dict(type='FeCAMOracle')], 'another part has brought one already'),
    ([dict(type='EarlyStoppingPlugin', patience=1, peval_mode='iteration')], 'known after an epoch'),
])
def test_a_wrong_plugin_is_one_message(plugins, expected):
    with pytest.raises((ConfigError, LookupError), match=expected):
        build_strategy(config('Naive', plugins=plugins), model(), device=torch.device('cpu'))


def test_fecam_refuses_features_that_its_power_turns_into_nan():
    strategy = built('Naive', dict(plugins=[dict(type='CurrentDataFeCAMUpdate')]), model('linear'))
    with pytest.raises(ConfigError, match=r'classifier=dict\(tukey=False\)'):
        train(strategy, domain_stream(1).train_stream)


def test_ncm_classifies_by_the_nearest_mean():
    strategy = built('Naive', dict(plugins=[dict(type='NCMOracle', classifier=dict(normalize=False))]))
    stream = domain_stream(2)
    train(strategy, stream.train_stream)
    net = strategy.model.eval()
    x, y = (torch.cat(parts) for parts in zip(*[tensors_of(experience) for experience in stream.train_stream]))
    with torch.no_grad():
        features = net.get_features(x)
        means = torch.stack([features[y == label].mean(0) for label in range(4)])
        expected = [min(range(4), key=lambda c: float((row - means[c]).norm())) for row in features]
        assert net(x).argmax(1).tolist() == expected


# Memories

BUFFERS = {
    'reservoir': RESERVOIR, 'experience': dict(type='ExperienceBalancedBuffer', max_size=8),
    'class': dict(type='ClassBalancedBuffer', max_size=8),
    'class-fixed': dict(type='ClassBalancedBuffer', max_size=8, adaptive_size=False, total_num_classes=4),
    **{f'parametric-{group}': dict(type='ParametricBuffer', max_size=8, groupby=group)
       for group in (None, 'class', 'task', 'experience')},
    **{name: dict(type='ParametricBuffer', max_size=8, groupby='class', selection_strategy=dict(type=name, **options))
       for name, options in (('RandomExemplarsSelectionStrategy', {}),
                             ('HerdingSelectionStrategy', dict(layer_name='head.layers.0')),
                             ('ClosestToCenterSelectionStrategy', dict(layer_name='head.layers.0')))}}


@pytest.mark.slow
@pytest.mark.parametrize('name', BUFFERS)
def test_memory_is_built_from_a_config(name):
    plugin = dict(type='ReplayPlugin', mem_size=8, storage_policy=BUFFERS[name])
    strategy = built('Naive', dict(plugins=[plugin]))
    train(strategy, domain_stream(2).train_stream)
    memory = plugin_of(strategy, 'ReplayPlugin').storage_policy
    assert type(memory).__name__ == BUFFERS[name]['type'] and len(memory.buffer) == 8
    if 'selection_strategy' in BUFFERS[name]:
        assert type(memory.selection_strategy).__name__ == BUFFERS[name]['selection_strategy']['type']


def test_memory_with_logits_gives_them_with_each_sample():
    policy = dict(type='ClassBalancedBufferWithLogits', max_size=8)
    strategy = built('Naive')
    memory = registries.BUFFERS.build(policy)
    strategy.experience = next(iter(domain_stream(1).train_stream))
    memory.update(strategy)
    x, *others = memory.buffer[0]
    assert x.shape == (DIM,)
    assert [value.shape for value in others if isinstance(value, torch.Tensor)] == [(4,)]


def test_the_config_stays_as_it_was():
    cfg = config('Naive', plugins=[dict(type='NCMOracle', classifier=dict(normalize=False)),
                                   dict(type='ReplayPlugin', mem_size=8, storage_policy=RESERVOIR)])
    before = repr(cfg)
    build_strategy(cfg, model(), device=torch.device('cpu'))
    assert repr(cfg) == before


# Losses


@pytest.mark.parametrize('loss, kind', [
    (dict(type='MaskedCrossEntropy', mask='all'), 'MaskedCrossEntropy'), (dict(type='ICaRLLoss'), 'ICaRLLossPlugin'),
    (dict(type='ICaRLLossPlugin'), 'ICaRLLossPlugin'), (dict(type='CrossEntropyLoss'), 'CrossEntropyLoss')])
def test_loss_helpers_train(loss, kind):
    strategy = built('Naive', dict(loss=loss))
    assert type(strategy._criterion).__name__ == kind
    assert all(math.isfinite(value) for value in train(strategy, domain_stream(2).train_stream))


def test_contrastive_loss_is_built_from_a_config():
    strategy = built('Naive', dict(loss=dict(type='SCRLoss', temperature=0.5)))
    assert strategy._criterion.temperature == 0.5


@pytest.mark.parametrize('loss, expected', [
    (dict(type='SCRLos'), "no type 'SCRLos' is registered"),
    (dict(type='SCRLoss', temp=1), "SCRLoss has no key 'temp'"),
    ('SCRLoss', 'needs a dict with a type')])
def test_a_wrong_loss_is_one_message(loss, expected):
    with pytest.raises((ConfigError, LookupError), match=expected):
        build_strategy(config('Naive', loss=loss), model(), device=torch.device('cpu'))


# Early stopping


def test_early_stopping_watches_the_training_loss():
    plugin = dict(type='EarlyStoppingPlugin', patience=2)
    strategy = built('Naive', dict(plugins=[plugin], train_epochs=9, optimizer=dict(type='SGD', lr=0.0)))
    train(strategy, domain_stream(1).train_stream)
    # The rate is 0: the first epoch is the best, and two more do not improve on it.
    assert strategy.clock.train_iterations == 3 * 3


def test_early_stopping_on_a_metric_that_nobody_computes_says_so():
    plugin = dict(type='EarlyStoppingPlugin', patience=2, metric_name='Top1_Acc_Stream')
    strategy = built('Naive', dict(plugins=[plugin]))
    with pytest.raises(ConfigError, match="watches 'Top1_Acc_Stream/eval_phase/test_stream', which this run does not"):
        train(strategy, domain_stream(1).train_stream)
