"""What strategies declare of their batches, against what torch says to a batch of one sample where one is due."""

import pytest
from toy_streams import (
    CLASS_INCREMENTAL,
    DOMAIN,
    GENERATOR,
    MEMORY,
    built,
    class_stream,
    model,
    train,
    uneven_stream,
)

from clear.continual.strategies.build import strategy_class
from clear.continual.training.traits import trait

# Batches of 8: 25 samples leave one, on which a hidden layer with BatchNorm cannot train; 32 leave none.
REST, NO_REST = 25, 32
# Forms whose batches are others than those of the strategy by default.
FORMS = {
    'CWRStar, all trained': ('CWRStar', dict(freeze_remaining_model=False)),
    'CWRStar, legacy': ('CWRStar', dict(legacy=True)),
    'GenerativeReplay, weighted': ('GenerativeReplay', dict(generator=GENERATOR, generator_epochs=1,
                                                            is_weighted_replay=True)),
    'LFL, legacy': ('LFL', dict(lambda_e=1.0, legacy=True)),
    'MIR, legacy': ('MIR', dict(**MEMORY, subsample=6, legacy=True)),
    'Naive with RWalk': ('Naive', dict(plugins=[dict(type='RWalkPlugin', delta_t=2)])),
    'Naive with Replay': ('Naive', dict(plugins=[dict(type='ReplayPlugin', mem_size=8)])),
    'DERpp': ('DERpp', dict(mem_size=8)),
    # One pass over its memory goes with a bucket; where that ends earlier, later batches are unmixed as well.
    'CoPE': ('CoPE', dict(mem_size=32, p_size=5)),
    'ICaRL': ('ICaRL', dict(memory_size=6))}  # 25 new samples and 6 memories are batches of 8 and one of 7
CASES = {**{name: (name, options) for name, options in (CLASS_INCREMENTAL | DOMAIN).items()}, **FORMS}
# Their batches are no rest of a bucket: of all buckets, of a memory, of what is not held out, parts of a batch, two
# views of each sample; or their network has no BatchNorm, or is in eval mode.
SILENT = {'JointTraining', 'GDumb', 'BiC', 'LaMAML', 'LaMAMLHigher', 'MER', 'SCR', 'PNNStrategy', 'PackNet',
          'LearningToPrompt', 'StreamingLDA'}


def stream(name, sizes):
    if name in CLASS_INCREMENTAL and name not in DOMAIN:
        return class_stream(len(sizes), sizes).train_stream
    return uneven_stream(sizes).train_stream


def refused_in(name, sizes):
    """The experience in which torch refuses a batch, None if all are trained; and where batches are unmixed."""
    kind, options = CASES[name]
    strategy = built(kind, options, model('noisy'))
    declared = {trait(part, 'unmixed_batches') for part in (strategy, *strategy.plugins)} - {None}
    try:
        train(strategy, stream(name, sizes))
    except ValueError as error:
        assert 'Expected more than 1 value per channel' in str(error)
        return strategy.clock.train_exp_counter, declared
    return None, declared


def test_those_that_say_nothing_are_known():
    for name, (kind, _) in CASES.items():
        assert (strategy_class(kind).unmixed_batches is None) == (name in SILENT), name


@pytest.mark.parametrize('name', [name for name in CASES if name not in SILENT])
def test_a_rest_of_one_sample_is_a_batch_where_it_is_declared(name):
    found, declared = refused_in(name, [REST, NO_REST])
    assert declared and found == 0
    found, declared = refused_in(name, [NO_REST, REST])
    assert found == (None if 'first' in declared else 1), declared
