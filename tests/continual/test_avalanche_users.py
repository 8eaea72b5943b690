"""Plugins, memories and strategies as users of Avalanche write them: stopped inside an experience, resumed alike."""

from pathlib import Path

import pytest
from many_strategies import assert_same_run, settings, stopped, trained
from tiny_runs import same_weights, weights, write_stream

from clear.continual.plain_kinds import unplain
from clear.core.errors import CheckpointError, ConfigError
from clear.core.seeding import seed_everything
from clear.engine.continual.runner import ContinualRunner

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning', 'ignore:Call to deprecated function')


def plugin(name, **options):
    return dict(plugins=[dict(type=f'avalanche_user.{name}', **options)])


def memory(name):
    return dict(type='Replay', mem_size=11, storage_policy=dict(type=f'avalanche_user.{name}', max_size=11))


CASES = {name: plugin(name) for name in ('CustomReplay', 'SlowWeights', 'SecondOptimizer', 'OwnDraws', 'GlobalDraws',
                                         'HoldsParts', 'ManyKinds')}
CASES |= {name: memory(name) for name in ('HardestBuffer', 'HalvesBuffer')}
CASES |= {name: dict(type=f'avalanche_user.{name}') for name in ('OwnCumulative', 'TwoRates', 'OwnMemory',
                                                                       'TwoPasses')}
CASES['several'] = dict(type='avalanche_user.OwnMemory', plugins=[
    dict(type=f'avalanche_user.{name}') for name in ('CustomReplay', 'SlowWeights', 'SecondOptimizer', 'OwnDraws')])
CASES['own rates'] = dict(optimizer=dict(type='avalanche_user.Boosted', lr=0.05, boost=3.0),
                          scheduler=dict(type='avalanche_user.Drops', share=0.3))
QUICK = ('own rates', 'SecondOptimizer', 'OwnDraws', 'HoldsParts', 'ManyKinds', 'OwnMemory', 'TwoPasses')


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / 'fixtures'))
    monkeypatch.chdir(tmp_path)


def built(stream, options, work_dir=None):
    runner = ContinualRunner(settings(stream, 'Naive', **options), work_dir)
    runner.build()
    return runner


@pytest.mark.parametrize('name', [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in CASES])
def test_stopped_inside_an_experience_and_resumed(name, stream, tmp_path):
    whole = trained(built(stream, CASES[name], tmp_path / 'whole'))
    stopped(built(stream, CASES[name], tmp_path / 'parts'), 1, 3)
    seed_everything(987654321)
    assert_same_run(whole, trained(built(stream, CASES[name], tmp_path / 'parts'), resume=True))
    assert not same_weights(weights(whole), weights(trained(built(stream, {}))))  # or a resume may forget it


@pytest.mark.parametrize('iteration', [5, 9, 16])
def test_stopped_in_either_pass_over_an_experience(iteration, stream, tmp_path):
    """Of 28 samples in batches of 8: inside the second epoch, and in the second pass inside one and at its end."""
    whole = trained(built(stream, CASES['TwoPasses'], tmp_path / 'whole'))
    assert whole.strategy.clock.train_exp_iterations == 16
    stopped(built(stream, CASES['TwoPasses'], tmp_path / 'parts'), 1, iteration)
    assert_same_run(whole, trained(built(stream, CASES['TwoPasses'], tmp_path / 'parts'), resume=True))


def test_resumed_behind_an_experience(stream, tmp_path):
    """Nothing of what is inside: `iteration.pth` is lost."""
    options = CASES['several']
    whole = trained(built(stream, options, tmp_path / 'whole'))
    stopped(built(stream, options, tmp_path / 'parts'), 1, 3)
    (tmp_path / 'parts' / 'iteration.pth').unlink()
    seed_everything(987654321)
    assert_same_run(whole, trained(built(stream, options, tmp_path / 'parts'), resume=True))


def test_an_optimiser_and_a_schedule_by_their_module(stream):
    by_torch = dict(optimizer=dict(type='torch.optim.SGD', lr=0.15, momentum=0.5),
                    scheduler=dict(type='ExponentialLR', gamma=0.3))
    mine, other = (weights(trained(built(stream, options))) for options in (CASES['own rates'], by_torch))
    assert all(value.allclose(other[name], rtol=1e-5) for name, value in mine.items())
    for key in ('optimizer', 'scheduler'):
        with pytest.raises(ConfigError, match=f'cl_strategy.{key}: avalanche_user.SlowWeights is no'):
            built(stream, {key: dict(type='avalanche_user.SlowWeights')})


def test_what_a_plugin_holds_on_to_are_the_very_parts_again(stream, tmp_path):
    stopped(built(stream, plugin('HoldsParts'), tmp_path / 'run'), 1, 3)
    strategy = trained(built(stream, plugin('HoldsParts'), tmp_path / 'run'), resume=True).strategy
    held = next(each for each in strategy.plugins if type(each).__name__ == 'HoldsParts')
    assert held.strategy is strategy and held.model is strategy.model and held.rates is strategy.optimizer
    assert all(mine is other for mine, other in zip(held.weights, strategy.model.parameters(), strict=True))
    assert held in held.others


def test_an_open_file_is_refused_before_anything_is_trained(stream, tmp_path):
    runner = built(stream, plugin('OpenFile'), tmp_path / 'run')
    with pytest.raises(CheckpointError, match=r"OpenFile.file: an open file cannot be saved.*rebuilt = \('file',\)"):
        runner.train()
    assert runner.strategy.clock.train_iterations == 0


def test_a_file_opened_late_is_refused_in_the_first_iteration(stream, tmp_path):
    runner = built(stream, plugin('LateFile'), tmp_path / 'run')
    with pytest.raises(CheckpointError, match='LateFile.file: an open file'):
        runner.train()
    assert runner.strategy.clock.train_iterations == 1
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_declared_file_goes_on(stream, tmp_path):
    stopped(built(stream, plugin('DeclaredFile', path='parts.txt'), tmp_path / 'parts'), 1, 3).strategy.plugins[1]
    trained(built(stream, plugin('DeclaredFile', path='parts.txt'), tmp_path / 'parts'), resume=True)
    trained(built(stream, plugin('DeclaredFile', path='whole.txt'), tmp_path / 'whole'))
    assert sorted(Path('parts.txt').read_text().split()) == sorted(Path('whole.txt').read_text().split())


@pytest.mark.parametrize('kind, message', [
    ('optimizer', 'LateState.late came to hold an optimiser while training.*Make it in the constructor'),
    ('module', r"LateState.late\['expert'\] came to hold a module"),
    ('factory', 'LateState.late came to hold a defaultdict'), ('object', r'LateState.late\[0\] came to hold a Custom')])
def test_what_no_checkpoint_can_make_is_refused_in_the_first_iteration(kind, message, stream, tmp_path):
    runner = built(stream, plugin('LateState', kind=kind), tmp_path / 'run')
    with pytest.raises(CheckpointError, match=message):
        runner.train()
    assert runner.strategy.clock.train_iterations == 1


@pytest.mark.parametrize('kind, message', [('local', 'Local is defined inside a function'),
                                           ('reader', 'a generator cannot be saved')])
def test_what_cannot_be_saved_is_said_early_and_stops_at_the_end_of_the_experience(kind, message, stream, tmp_path):
    runner = built(stream, plugin('LateState', kind=kind), tmp_path / 'run')
    with pytest.raises(CheckpointError, match=message):
        runner.train()
    assert runner.strategy.clock.train_exp_counter == 1 and (tmp_path / 'run' / 'matrix.jsonl').is_file()


@pytest.mark.parametrize('kind, name, parts', [
    ('dtype', None, 'load'), ('numpy_generator', None, '{"bit_generator": "Generator", "state": {}}'),
    ('dataclass', 'os:system', {}), ('enum', 'pathlib:Path', 'x'), ('namedtuple', 'nowhere:Thing', [])])
def test_a_checkpoint_chooses_nothing_that_is_called(kind, name, parts):
    with pytest.raises(CheckpointError, match='The checkpoint holds'):
        unplain(kind, name, parts, None)
