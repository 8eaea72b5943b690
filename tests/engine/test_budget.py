"""A budget of each experience, in iterations or seconds: training ends where it is used up, also over a resume."""

import copy

import pytest
import torch
from clear_trees import write_clear_tree
from quick_runs import built, config, stop, trained, weights_of

from clear.core.errors import ConfigError
from clear.core.files import read_json


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """21 training samples in each of three buckets: 3 iterations per epoch, 6 in all."""
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


def iterations(runner):
    return [entry['iterations'] for entry in runner.record.train_log]


def weights_after(root, count):
    """Weights of a run without a budget after that many iterations of the first experience."""
    runner, seen = built(config(root)), {}
    after = runner._on_iteration

    def note(strategy):
        after(strategy)
        seen.setdefault((strategy.clock.train_exp_counter, strategy.clock.train_exp_iterations),
                        copy.deepcopy(strategy.model.state_dict()))

    runner._on_iteration = note
    runner.train()
    return seen[0, count]


@pytest.mark.parametrize('budget', [1, 3, 4])
def test_training_ends_after_that_many_iterations(budget, root, tmp_path):
    runner = trained(config(root, max_iters_per_experience=budget), tmp_path)
    assert iterations(runner) == [budget] * 3 and runner.iterations == [budget] * 3
    assert f'{3 * budget} iterations' in runner.describe()
    expected = weights_after(root, budget)
    assert all(torch.equal(value, expected[key]) for key, value in weights_of(tmp_path, 'exp_0.pth').items())
    assert read_json(tmp_path / 'results.json')['extras']['budget'] == {'max_iters_per_experience': budget}
    assert all(None not in row for row in runner.record.acc_matrix)


def test_a_budget_that_is_not_reached_changes_nothing(root):
    free, wide = trained(config(root)), trained(config(root, max_iters_per_experience=7, max_time_per_experience=1e6))
    assert free.record.acc_matrix == wide.record.acc_matrix and iterations(wide) == [6] * 3 == iterations(free)
    assert free.found.config_hash != wide.found.config_hash
    assert wide.found.extras['budget'] == dict(max_iters_per_experience=7, max_time_per_experience=1e6)
    assert 'budget' not in free.found.extras


class Clock:
    """Stands in for `time.monotonic`: every batch takes a second."""

    def __init__(self, runner):
        self.now, unpack = 1000.0, runner.strategy._unpack_minibatch

        def take_a_second():
            unpack()
            self.now += 1.0

        runner.strategy._unpack_minibatch = take_a_second

    def monotonic(self):
        return self.now


@pytest.mark.parametrize('seconds, count', [(0.5, 1), (1, 1), (2.5, 3), (4, 4), (100, 6)])
def test_training_ends_when_time_is_up(seconds, count, root, monkeypatch):
    """The time is looked at after each iteration."""
    runner = built(config(root, max_time_per_experience=seconds))
    monkeypatch.setattr('clear.continual.training.mixin.time', Clock(runner))
    runner.train()
    assert iterations(runner) == [count] * 3
    assert runner.results().extras['budget'] == {'max_time_per_experience': seconds}


def test_time_goes_on_where_a_run_was_stopped(root, tmp_path, monkeypatch):
    cfg = config(root, max_time_per_experience=3.5)
    runs = []
    for number, folder in enumerate((None, tmp_path, tmp_path)):  # not stopped; stopped; resumed
        runner = built(cfg, folder)
        monkeypatch.setattr('clear.continual.training.mixin.time', Clock(runner))
        if number == 1:
            stop(runner, 1, 2)
            assert runner.strategy.seconds_used == 2.0
        else:
            runner.train(resume=number == 2)
        runs.append(runner)
    assert iterations(runs[2]) == iterations(runs[0]) == [4, 4, 4]
    assert runs[2].record.acc_matrix == runs[0].record.acc_matrix


@pytest.mark.parametrize('iteration', [2, 4])
def test_a_budget_of_iterations_survives_a_resume(iteration, root, tmp_path):
    cfg = config(root, max_iters_per_experience=4)
    trained(cfg, tmp_path / 'whole')
    stop(built(cfg, tmp_path / 'parts'), 1, iteration)
    trained(cfg, tmp_path / 'parts', resume=True)
    one, other = (read_json(tmp_path / name / 'results.json') for name in ('whole', 'parts'))
    assert {**one, 'timing': 0} == {**other, 'timing': 0}
    expected = weights_of(tmp_path / 'whole')
    assert all(torch.equal(value, expected[key]) for key, value in weights_of(tmp_path / 'parts').items())


@pytest.mark.parametrize('key, value, expected', [
    ('max_iters_per_experience', 0, 'max_iters_per_experience is 0; expected a whole number of at least 1'),
    ('max_iters_per_experience', 2.5, 'max_iters_per_experience is 2.5'),
    ('max_time_per_experience', 0, 'max_time_per_experience, in seconds, is 0; expected a number above 0'),
    ('max_time_per_experience', '1h', "in seconds, is '1h'"),
    ('max_time_per_experience', True, 'in seconds, is True')])
def test_a_budget_that_is_none_is_refused(key, value, expected, root):
    with pytest.raises(ConfigError, match=expected):
        built(config(root, **{key: value}))
