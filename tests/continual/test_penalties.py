"""Weights of penalties: what is refused and what a run that diverges says; and the versions of methods."""

import pytest
from toy_streams import CLASS_INCREMENTAL, MEMORY, built, domain_stream, train

from clear.continual.training.versions import method_versions
from clear.core.errors import ConfigError, TrainingError


@pytest.mark.parametrize('kind, options, key', [
    ('EWC', dict(ewc_lambda=1e9), 'ewc_lambda'), ('MAS', dict(lambda_reg=1e9), 'lambda_reg'),
    ('SynapticIntelligence', dict(si_lambda=1e12), 'si_lambda'), ('LFL', dict(lambda_e=1e12), 'lambda_e'),
    ('Naive', dict(plugins=[dict(type='RWalkPlugin', ewc_lambda=1e12, delta_t=2)]), 'ewc_lambda')])
def test_a_loss_that_is_not_finite_names_the_weight_of_the_penalty(kind, options, key):
    options = dict(options, train_epochs=30)
    with pytest.raises(TrainingError, match=f'in experience 1.* The likely cause is {key}: '):
        train(built(kind, options), domain_stream(2).train_stream)


@pytest.mark.parametrize('kind, options', [('Naive', {}), ('EWC', dict(ewc_lambda=1.0))])
def test_a_loss_that_is_not_finite_in_the_first_bucket_is_the_rates(kind, options):
    options = dict(options, train_epochs=30, optimizer=dict(type='SGD', lr=1e20))
    with pytest.raises(TrainingError, match=r'in experience 0.* Try a smaller learning rate\. The last'):
        train(built(kind, options), domain_stream(2).train_stream)


@pytest.mark.parametrize('value', [-1.0, float('nan'), 'much', True])
@pytest.mark.parametrize('kind, key', [
    ('EWC', 'ewc_lambda'), ('SynapticIntelligence', 'si_lambda'), ('SynapticIntelligence', 'eps'),
    ('MAS', 'lambda_reg'), ('MAS', 'alpha'), ('LwF', 'alpha'), ('LwF', 'temperature'), ('LFL', 'lambda_e'),
    ('DER', 'alpha'), ('DER', 'beta'), ('AR1', 'ewc_lambda'), ('AR1', 'rm_sz'), ('BiC', 'T'), ('ICaRL', 'memory_size')])
def test_strengths_that_cannot_be_are_refused(kind, key, value):
    known = {'LwF': dict(alpha=1.0, temperature=2.0), 'EWC': dict(ewc_lambda=1.0),
             'SynapticIntelligence': dict(si_lambda=1.0), **CLASS_INCREMENTAL}
    with pytest.raises(ConfigError, match=f'{key} is .*; expected a (whole )?number'):
        built(kind, {**known.get(kind, {}), key: value})
    if (kind, key) in (('LwF', 'alpha'), ('SynapticIntelligence', 'si_lambda'), ('LFL', 'lambda_e')):
        with pytest.raises(ConfigError, match=rf'{key}\[1\] is '):
            built(kind, {**known.get(kind, {}), key: [1.0, value]})


# Another default is another method


@pytest.mark.parametrize('kind, options, versions', [
    ('EWC', dict(ewc_lambda=1.0), 2), ('EWC', dict(ewc_lambda=1.0, fisher='sample'), 1),
    ('EWC', dict(ewc_lambda=1.0, fisher='batch'), 1), ('MAS', {}, 2), ('MAS', dict(importance='batch'), 1),
    ('SynapticIntelligence', dict(si_lambda=1.0), 2), ('SynapticIntelligence', dict(si_lambda=1.0, legacy=True), 1),
    ('LwF', dict(alpha=1.0, temperature=1.0), 2), ('CWRStar', {}, 2), ('CWRStar', dict(legacy=True), 1),
    ('ICaRL', dict(memory_size=8), 2), ('ICaRL', dict(memory_size=8, legacy=True), 1), ('BiC', dict(mem_size=20), 2),
    ('BiC', dict(mem_size=20, legacy=True), 1), ('AR1', dict(ewc_lambda=1.0), 1), ('DER', {}, 2),
    ('DER', dict(legacy=True), 1),
    ('DER', dict(legacy=True, loss=dict(type='CrossEntropyLoss', loss_weight=3.0)), 2),
    ('DER', dict(legacy=True, mem_size=4), 2), ('ER_ACE', dict(legacy=True), 1), ('Replay', {}, 2),
    ('Replay', dict(legacy=True), 1),
    ('Replay', dict(storage_policy=dict(type='ReservoirSamplingBuffer', max_size=9)), 1),
    ('MIR', dict(**MEMORY, subsample=6), 2), ('MIR', dict(**MEMORY, subsample=6, legacy=True), 1), ('SCR', {}, 2),
    ('SCR', dict(legacy=True), 1), ('CoPE', {}, 2), ('CoPE', dict(legacy=True), 1), ('GDumb', {}, 2),
    ('GDumb', dict(legacy=True), 1), ('FeatureReplay', MEMORY, 2), ('FeatureReplay', dict(**MEMORY, legacy=True), 1),
    ('Naive', {}, 1)])
def test_a_changed_default_has_a_version_of_its_own(kind, options, versions):
    assert max(method_versions(built(kind, options)).values(), default=1) == versions
