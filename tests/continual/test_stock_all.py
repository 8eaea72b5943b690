"""Every strategy that runs in Avalanche: our engine ends with the weights and the matrix of Avalanche alone.

The same class, given our order of samples and nothing else of ours: its own loaders, loop and evaluation.
"""

import pytest
import torch
from avalanche.models import BaseModel
from avalanche.training import supervised
from many_strategies import built, trained
from tiny_runs import STRATEGIES, write_stream
from toy_streams import CLASS_INCREMENTAL, DOMAIN

from clear.continual.strategies import build as building
from clear.continual.strategies import quiet_avalanche
from clear.core.seeding import derive_seed, seed_everything
from clear.registry import STRATEGIES as REGISTRY

# Avalanche 0.6 cannot run them on these streams with these libraries, or ours have another model or memory on
# purpose (docs/strategies.md): there is nothing to compare with.
NOT_IN_STOCK = {
    'AR1', 'BiC', 'CWRStar', 'CoPE', 'ER_AML', 'ExpertGateStrategy', 'FeatureReplay', 'GSS_greedy', 'GenerativeReplay',
    'ICaRL', 'IL2M', 'LaMAML', 'LaMAMLHigher',
    'LearningToPrompt', 'OnlineNaive', 'PNNStrategy', 'PackNet', 'SCR', 'StreamingLDA'}
# Ours repairs a defect; this keeps it.
LEGACY = ('SynapticIntelligence', 'LwF', 'LFL', 'MIR')
BY_BATCH = {'EWC': dict(fisher='batch'), 'MAS': dict(importance='batch')}
# The same sums in another order.
ROUNDED = ('ER_ACE',)
NAMES = [name for name in dict.fromkeys([*STRATEGIES, *DOMAIN]) if name not in NOT_IN_STOCK]
NAMES += [f'{name} on classes' for name in CLASS_INCREMENTAL if name not in NOT_IN_STOCK]
ACCURACY = [dict(type='accuracy_metrics', experience=True)]
# Avalanche warns about its own calls; outside our runner nobody hides that.
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning', 'ignore:Call to deprecated function')


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


class Seeded:
    """All that a plain strategy gets from us: the seeds of experiences and epochs."""

    run_seed = 3

    def __init__(self, *, fisher=None, **kwargs):
        super().__init__(**kwargs)  # the shipped config of EWC names Avalanche's form, which is the only one there

    def _before_training_exp(self, **kwargs):
        seed_everything(derive_seed(self.run_seed, 'experience', self.clock.train_exp_counter))
        super()._before_training_exp(**kwargs)

    def _before_training_epoch(self, **kwargs):
        super()._before_training_epoch(**kwargs)
        seed_everything(derive_seed(self.run_seed, 'epoch', self.clock.train_exp_counter, self.clock.train_exp_epochs))


def stock_class(name):
    """Avalanche's own class, with the seeds; for a method on features on a model that shows them in Avalanche's way."""
    cls, ours = getattr(supervised, name), REGISTRY.require(name)
    assert cls.__module__.startswith('avalanche.')

    def prepare_model(model, **options):
        model = ours.prepare_model(model, **options)
        model.__class__ = type('ShowsFeatures', (type(model), BaseModel), {})
        return model

    return type(name, (Seeded, cls), dict(prepare_model=prepare_model) if hasattr(ours, 'prepare_model') else {})


def stock_run(stream, name, head):
    """Weights and accuracy matrix of Avalanche's strategy in its own loop, by its own evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, 'strategy_class', stock_class)
        runner = built(stream, name, head=head, metrics=ACCURACY)
    strategy, matrix = runner.strategy, []
    assert not hasattr(strategy, 'attach')
    with quiet_avalanche():
        for data in [runner.experiences] if runner.is_joint else runner.experiences:
            strategy.train(data, eval_streams=[], reset_optimizer_state=True)
            found = strategy.eval(runner.test_experiences)
            row = [found[key] for key in sorted(found) if key.startswith('Top1_Acc_Exp/eval_phase/test_stream')]
            assert len(row) == len(runner.info.test)
            matrix += [row] * (len(runner.info.test) if runner.is_joint else 1)
    return strategy.model.state_dict(), matrix


def compare(stream, name, head):
    kind = name.removesuffix(' on classes')
    options = dict(legacy=True) if kind in LEGACY else BY_BATCH.get(kind, {})
    ours = trained(built(stream, name, head=head, **options))
    expected, matrix = stock_run(stream, name, head)
    # GDumb gives the strategy another model at every experience.
    found = ours.strategy.model.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if kind in ROUNDED:
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)
        else:
            assert torch.equal(found[key], value), key
    torch.testing.assert_close(torch.tensor(ours.record.acc_matrix), torch.tensor(matrix), rtol=0, atol=1e-6)
    return ours


@pytest.mark.parametrize('name', [name for name in NAMES if name not in ('LFL', 'MER')])
def test_a_linear_head_is_trained_as_by_avalanche(name, stream):
    ours = compare(stream, name, 'linear')
    assert len({value for row in ours.record.acc_matrix for value in row}) > 1


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_a_hidden_layer_is_trained_as_by_avalanche(name, stream):
    compare(stream, name, 'hidden')


@pytest.mark.slow
@pytest.mark.parametrize('name', ['Naive', 'Replay', 'LwF', 'EWC', 'AGEM', 'DER', 'GDumb', 'MAS', 'ER_ACE'])
def test_batch_norm_is_trained_as_by_avalanche(name, stream):
    compare(stream, name, 'norm')
