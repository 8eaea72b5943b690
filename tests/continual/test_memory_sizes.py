"""A memory, or a batch of it, of no whole number of samples is refused before anything is built."""

import math

import pytest
import torch
from toy_streams import CLASS_INCREMENTAL, DOMAIN, built, config, domain_stream, model, plugin_of, train

from clear.continual.strategies import build_strategy
from clear.continual.strategies.build import check_strategy
from clear.core.errors import ConfigError

BAD = [0, -5, 600.0, math.nan, True, '9']
# Every strategy with a memory, and what its size is called; beside it the batches that are taken from it.
MEMORIES = {
    'Replay': ('mem_size', 'batch_size_mem'), 'GDumb': ('mem_size',), 'GSS_greedy': ('mem_size', 'mem_strength'),
    'MIR': ('mem_size', 'batch_size_mem', 'subsample'), 'DER': ('mem_size', 'batch_size_mem'),
    'ER_ACE': ('mem_size', 'batch_size_mem'), 'ER_AML': ('mem_size', 'batch_size_mem'),
    'FeatureReplay': ('mem_size', 'batch_size_mem'), 'SCR': ('mem_size', 'batch_size_mem'), 'CoPE': ('mem_size',),
    'AGEM': ('patterns_per_exp', 'sample_size'), 'GEM': ('patterns_per_exp',), 'AR1': ('rm_sz',),
    'MER': ('mem_size', 'batch_size_mem'), 'LaMAML': ('max_buffer_size', 'buffer_mb_size'),
    'ICaRL': ('memory_size',), 'BiC': ('mem_size',), 'IL2M': ('mem_size', 'batch_size_mem'),
    'DERpp': ('mem_size', 'batch_size_mem'), 'GenerativeReplay': ('replay_size',)}
OPTIONS = {**DOMAIN, **CLASS_INCREMENTAL, 'DERpp': {}}


@pytest.mark.parametrize('kind, key', [(kind, key) for kind, keys in MEMORIES.items() for key in keys])
def test_a_size_that_is_none_is_refused(kind, key):
    check_strategy(config(kind, **OPTIONS[kind]))
    for value in BAD:
        with pytest.raises(ConfigError, match=rf'cl_strategy\.{key} is .*whole number of at least 1'):
            build_strategy(config(kind, **{**OPTIONS[kind], key: value}), model(), device=torch.device('cpu'))


@pytest.mark.parametrize('place, key', [
    ('plugins[0]', 'mem_size'), ('plugins[0]', 'batch_size_mem'), ('plugins[0].storage_policy', 'max_size')])
def test_a_size_inside_a_plugin_is_refused(place, key):
    plugin = dict(type='ReplayPlugin', mem_size=8, storage_policy=dict(type='ClassBalancedBuffer', max_size=8))
    for value in BAD:
        (plugin['storage_policy'] if 'storage' in place else plugin)[key] = value
        with pytest.raises(ConfigError, match=f'cl_strategy.{place}.{key} is'.replace('[', r'\[').replace(']', r'\]')):
            check_strategy(config('Naive', plugins=[plugin]))


@pytest.mark.parametrize('kind, key', [
    ('DER', 'alpha'), ('DER', 'beta'), ('DERpp', 'alpha'), ('DERpp', 'beta'), ('CoPE', 'alpha'), ('CoPE', 'T'),
    ('SCR', 'temperature'), ('ER_AML', 'temp'), ('ER_AML', 'base_temp'), ('GEM', 'memory_strength')])
def test_a_negative_weight_is_refused(kind, key):
    for value in (-0.1, math.nan, '1'):
        with pytest.raises(ConfigError, match=f'{key} is .*expected a number'):
            built(kind, {**OPTIONS[kind], key: value})


def test_a_memory_of_three_places_serves_ten_buckets():
    """Any three of the buckets, not the first ones for ever."""
    strategy = built('Replay', dict(mem_size=3), model('linear'), seed=0)
    stream, kept = domain_stream(3), []
    for _ in range(10):
        train(strategy, list(stream.train_stream)[:1])
        kept.append([group for group, part in plugin_of(strategy, 'ReplayPlugin').storage_policy.buffer_groups.items()
                     if len(part.buffer)])
    assert [len(groups) for groups in kept] == [1, 2] + [3] * 8 and kept[-1] != [0, 1, 2]
