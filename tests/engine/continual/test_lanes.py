"""Runs in one lane: killed and resumed to the same bits; what a sweep writes, and what it refuses."""

import csv
from pathlib import Path

import pytest
import torch
from lane_rows import checkpoint_of, lane_config, run_together, tensors_of
from short_runs import read_results, run, train

from clear.core.errors import Interrupted
from clear.core.files import read_json
from clear.engine.continual.lanes import LaneRun
from clear.engine.continual.runner import ContinualRunner
from clear.engine.continual.state import RunState
from clear.engine.continual.sweeps import plan_sweep, with_values

SEEDS = (3, 1, 2)


class Killed(BaseException):
    """What ends a run at once."""


def after_calls(monkeypatch, owner, name, count, act):
    """Call `act` in place of the call number `count` of a method."""
    method, calls = getattr(owner, name), []

    def counted(self, *args, **options):
        calls.append(None)
        return act(self) if len(calls) == count else method(self, *args, **options)

    monkeypatch.setattr(owner, name, counted)


def raise_killed(_):
    raise Killed


def bits_of(folders):
    """Everything that the last checkpoints hold but the time that training took."""
    return [tensors_of(checkpoint_of(folder)) for folder in folders]


def check_same(folders, whole):
    for mine, other in zip(bits_of(folders), bits_of(whole), strict=True):
        assert list(mine) == list(other)
        assert all(torch.equal(value, other[name]) for name, value in mine.items())
    for mine, other in zip(folders, whole):
        results = [read_results(folder) for folder in (mine, other)]
        assert results[0]['acc_matrix'] == results[1]['acc_matrix']
        assert results[0]['extras']['train_log'] == results[1]['extras']['train_log']
        assert results[0]['extras']['lane'] == 3


@pytest.mark.parametrize('kind, method, count', [('Replay', 'save_experience', 5), ('DERpp', '_common', 3)])
def test_a_kill_between_the_files_of_an_experience(kind, method, count, tmp_path, monkeypatch):
    """Some runs have saved it and others have not: these catch up, in the places that they had."""
    cfg = lane_config(kind)
    whole = run_together(cfg, tmp_path / 'whole', SEEDS)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        after_calls(patch, RunState, method, count, raise_killed)
        run_together(cfg, tmp_path / 'killed', SEEDS)
    check_same(run_together(cfg, tmp_path / 'killed', SEEDS, resume=True), whole)


@pytest.mark.parametrize('kind', ['Replay', 'EWC', 'DERpp'])
def test_a_stop_inside_an_experience(kind, tmp_path, monkeypatch):
    cfg = lane_config(kind, scheduler=dict(type='StepLR', step_size=1, gamma=0.9))
    whole = run_together(cfg, tmp_path / 'whole', SEEDS)

    def stop(lane_run):
        lane_run._request_stop()
        lane_run._after_epoch()

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match='continue with --resume'):
        after_calls(patch, LaneRun, '_after_epoch', 3, stop)
        run_together(cfg, tmp_path / 'stopped', SEEDS)
    assert all((tmp_path / 'stopped' / f'seed_{seed}' / 'iteration.pth').is_file() for seed in SEEDS)
    check_same(run_together(cfg, tmp_path / 'stopped', SEEDS, resume=True), whole)


def test_a_kill_between_the_files_inside_an_experience(tmp_path, monkeypatch):
    """Two of three have theirs: all begin the experience anew."""
    cfg = lane_config()
    whole = run_together(cfg, tmp_path / 'whole', SEEDS)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        after_calls(patch, LaneRun, '_after_epoch', 3, lambda lane_run: (lane_run._request_stop(),
                                                                         lane_run._after_epoch()))
        after_calls(patch, RunState, 'write_iteration', 3, raise_killed)
        run_together(cfg, tmp_path / 'killed', SEEDS)
    folders = run_together(cfg, tmp_path / 'killed', SEEDS, resume=True)
    assert not any((folder / 'iteration.pth').exists() for folder in folders)
    check_same(folders, whole)


def test_a_run_of_a_lane_can_be_finished_alone(tmp_path, monkeypatch):
    """Its files are those of a single run."""
    cfg = lane_config('EWC')
    with monkeypatch.context() as patch, pytest.raises(Killed):
        after_calls(patch, RunState, 'save_experience', 5, raise_killed)
        run_together(cfg, tmp_path, SEEDS)
    write(tmp_path / 'config.py', cfg)
    train(tmp_path / 'config.py', '--seed', 3, '--work-dir', tmp_path / 'seed_3', '--resume')
    assert read_results(tmp_path / 'seed_3')['acc_matrix'][2][2] is not None
    tested = run('test', tmp_path / 'config.py', tmp_path / 'seed_1' / 'latest.pth')
    assert tested.code == 0 and 'mean' in tested.out


def write(path, cfg, **more):
    text = ''.join(f'{key} = {value!r}\n' for key, value in {**cfg.to_dict(), **more}.items())
    Path(path).write_text(text)
    return path


def test_a_diverging_value_is_given_up_alone(tmp_path):
    cfg = write(tmp_path / 'config.py', lane_config(), sweep={'cl_strategy.optimizer.lr': [0.1, 1e200, 0.01]})
    finished = train(cfg, '--work-dir', tmp_path / 'runs')
    assert 'lr_1e+200 is given up: The training loss is' in finished.out and '3 runs in one lane' in finished.out
    summary = read_json(tmp_path / 'runs/summary.json')
    assert [entry['values'] for entry in summary['sweep']] == [{'cl_strategy.optimizer.lr': value}
                                                               for value in (0.1, 1e200, 0.01)]
    assert 'error' in summary['sweep'][1] and not summary['sweep'][1]['metrics']
    for entry in (summary['sweep'][0], summary['sweep'][2]):
        own = read_results(tmp_path / 'runs' / entry['folder'])['metrics']
        assert entry['metrics'] and all(own[name] == value for name, value in entry['metrics'].items())
    assert 'no value is called the best' in finished.out


def test_values_share_the_order_and_equal_runs_alone(tmp_path):
    options = lane_config('LwF').to_dict()
    sweep = {'cl_strategy.optimizer.lr': [0.1, 0.05], 'cl_strategy.temperature': [1.0, 2.0]}
    cfg = write(tmp_path / 'config.py', lane_config('LwF'), sweep=sweep)
    train(cfg, '--work-dir', tmp_path / 'runs')
    options['cl_strategy'] |= dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9), temperature=2.0)
    alone = write(tmp_path / 'alone.py', type(lane_config())(options))
    train(alone, '--work-dir', tmp_path / 'alone')
    one, other = (tensors_of(checkpoint_of(tmp_path / name)['state_dict'])
                  for name in ('runs/lr_0.05-temperature_2.0', 'alone'))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-5)
    assert read_results(tmp_path / 'alone')['config_hash'] == \
        read_results(tmp_path / 'runs/lr_0.05-temperature_2.0')['config_hash']


def test_seeds_and_values_together_with_keys_that_no_lane_has(tmp_path):
    cfg = write(tmp_path / 'config.py', lane_config('Replay'), seeds=[0, 1],
                sweep={'cl_strategy.optimizer.lr': [0.1, 0.05], 'cl_strategy.mem_size': [9, 17]})
    finished = train(cfg, '--work-dir', tmp_path / 'runs')
    assert 'a lane has one value of cl_strategy.mem_size' in finished.out
    summary = read_json(tmp_path / 'runs/summary.json')
    assert summary['seeds'] == [0, 1] and len(summary['sweep']) == 4
    entry = summary['sweep'][2]
    assert entry['folder'] == 'lr_0.05-mem_size_9'
    own = read_json(tmp_path / 'runs' / entry['folder'] / 'summary.json')
    assert own['metrics'] == entry['metrics'] and own['seeds'] == [0, 1]
    rows = list(csv.DictReader((tmp_path / 'runs/sweep.csv').open()))
    assert float(rows[2]['in_domain']) == entry['metrics']['in_domain']['mean']
    again = train(cfg, '--work-dir', tmp_path / 'runs', '--resume')
    assert '2 runs in one lane' in again.out and read_json(tmp_path / 'runs/summary.json') == summary


@pytest.mark.parametrize('lane', [True, False])
def test_overwriting_a_sweep_trains_it_again(lane, tmp_path):
    """Its finished runs are those of another config."""
    cfg, sweep = lane_config(), {'cl_strategy.optimizer.lr': [0.1, 0.05]}
    cfg.update(lane=lane, report=True)
    train(write(tmp_path / 'config.py', cfg, sweep=sweep), '--work-dir', tmp_path / 'runs')
    kept = train(tmp_path / 'config.py', '--work-dir', tmp_path / 'runs', '--resume')
    assert kept.out.count('is finished: ') == 2
    cfg['cl_strategy']['train_epochs'] = 1
    train(write(tmp_path / 'config.py', cfg, sweep=sweep), '--work-dir', tmp_path / 'runs', '--overwrite')
    for name in ('lr_0.1', 'lr_0.05'):
        assert checkpoint_of(tmp_path / 'runs' / name)['config']['cl_strategy']['train_epochs'] == 1
    train(tmp_path / 'config.py', '--work-dir', tmp_path / 'runs', '--resume')


@pytest.mark.parametrize('lane, owner, method', [(True, LaneRun, 'run'), (False, ContinualRunner, 'train')])
def test_an_interrupted_overwriting_is_resumed(lane, owner, method, tmp_path, monkeypatch):
    """What it finished is kept, what it had not reached is still replaced: the old runs are those of another config."""
    cfg = lane_config('Replay')
    sweep = {'cl_strategy.mem_size': [9, 17, 25], 'cl_strategy.optimizer.lr': [0.1, 0.05]}  # a lane for each size
    cfg.update(lane=lane, report=True)
    command = (tmp_path / 'config.py', '--work-dir', tmp_path / 'runs')
    train(write(command[0], cfg, sweep=sweep), *command[1:])
    cfg['cl_strategy']['train_epochs'] = 1
    train(write(command[0], cfg, sweep=sweep), '--work-dir', tmp_path / 'whole')
    calls = 2 if lane else 3
    for how in ('--overwrite', '--resume'):  # interrupted twice, before the third size is reached
        with monkeypatch.context() as patch, pytest.raises(Killed):
            after_calls(patch, owner, method, calls if how == '--overwrite' else 1, raise_killed)
            train(*command, how)
    refused = run('train', *command)
    assert refused.code == 2 and 'Continue it with --resume' in refused.err
    finished = (tmp_path / 'runs/mem_size_9-lr_0.1/results.json').stat().st_mtime_ns
    resumed = train(*command, '--resume')
    assert 'mem_size_9-lr_0.05 is finished' in resumed.out and 'mem_size_25-lr_0.05 is finished' not in resumed.out
    assert (tmp_path / 'runs/mem_size_9-lr_0.1/results.json').stat().st_mtime_ns == finished
    assert read_json(tmp_path / 'runs/summary.json') == read_json(tmp_path / 'whole/summary.json')
    assert not list((tmp_path / 'runs').rglob('.outdated'))


def test_an_overwriting_that_cannot_begin_leaves_every_run_as_it_was(tmp_path):
    cfg, sweep = lane_config(), {'cl_strategy.optimizer.lr': [0.1, 0.05]}
    command = (tmp_path / 'config.py', '--work-dir', tmp_path / 'runs')
    train(write(command[0], cfg, sweep=sweep), *command[1:])
    before = {path: path.read_bytes() for path in (tmp_path / 'runs').rglob('*') if path.is_file()}
    cfg['scenario']['num_buckets'] = 'none'
    refused = run('train', write(command[0], cfg, sweep=sweep), *command[1:], '--overwrite')
    assert refused.code == 2
    assert {path: path.read_bytes() for path in (tmp_path / 'runs').rglob('*') if path.is_file()} == before


@pytest.mark.parametrize('sweep, says', [
    ({'cl_strategy.loss': [dict(type='CrossEntropyLoss'), dict(type='LabelSmoothLoss', label_smooth_val=0.3)]},
     'the loss is LabelSmoothLoss'),
    ({'cl_strategy.plugins': [[], [dict(type='MASPlugin', lambda_reg=1.0, alpha=0.5)]]}, 'it has cl_strategy.plugins')],
    ids=['loss', 'plugins'])
def test_values_that_no_lane_has_are_trained_alone(sweep, says, tmp_path):
    """The first value could go into a lane; the others say that they cannot."""
    options = lane_config(loss=dict(type='CrossEntropyLoss'))
    cfg = write(tmp_path / 'config.py', options, sweep={'cl_strategy.optimizer.lr': [0.05, 0.02], **sweep})
    finished = train(cfg, '--work-dir', tmp_path / 'runs')
    assert '2 runs in one lane' in finished.out and f'one run after the other: {says}' in finished.out
    train(cfg, '--work-dir', tmp_path / 'alone', '--cfg-options', 'lane=False')
    entries = read_json(tmp_path / 'runs/summary.json')['sweep']
    weights = []
    for entry in entries:
        one, other = (tensors_of(checkpoint_of(tmp_path / name / entry['folder'])['state_dict'])
                      for name in ('runs', 'alone'))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        weights.append(one['.head.fc.weight'])
    assert all(not torch.allclose(one, weights[0]) for one in weights[1:])


@pytest.mark.parametrize('sweep, says', [
    ({'cl_strategy.optimzer.lr': [0.1]}, "'cl_strategy.optimzer' is not in the config. Did you mean 'optimizer'"),
    ({'cl_stratgy.optimizer.lr': [0.1]}, "nobody reads 'cl_stratgy.optimizer.lr'. Did you mean 'cl_strategy'"),
    ({'cl_strategy.optimizer.lrr': [0.1]}, "lr"), ({'cl_strategy.optimizer.lr': []}, 'expected a list of values'),
    ({'cl_strategy.optimizer.lr': 0.1}, 'expected a list of values'),
    ({'cl_strategy.optimizer.lr': [0.1, 0.2, 1e-1]}, 'has 0.1 twice'),
    ({'cl_strategy.optimizer.lr': [0.1, -1.0]}, 'cl_strategy.optimizer.lr=-1.0'),
    ({'cl_strategy.optimizer.lr': ['a']}, "cl_strategy.optimizer.lr='a'"), ({'seed': [0, 1]}, 'seeds=[0, 1, 2]'),
    ({'threads': [1, 2]}, 'does not decide the result'), ({}, 'expected lists by key'), (3, 'expected lists by key'),
    ({'model.head.type.x': [1]}, "'model.head.type' is 'LinearClsHead'"),
    ({'cl_strategy.optimizer.lr': [0.1], 'cl_strategy.optimizer': [dict(type='Adam')]}, 'sweep one of them'),
    ({'metrics.9.epoch': [True]}, "'metrics.9' is not in the config")])
def test_sweeps_that_cannot_be(sweep, says, tmp_path):
    finished = run('train', write(tmp_path / 'config.py', lane_config(), sweep=sweep), '--work-dir', tmp_path / 'runs')
    assert finished.code == 2 and says in finished.err and len(finished.err.strip().splitlines()) == 1
    assert not (tmp_path / 'runs').exists()


def test_folders_of_values_are_told_apart():
    cfg = lane_config()
    cfg['sweep'] = {'cl_strategy.optimizer.lr': [0.1], 'cl_strategy.optimizer.weight_decay': [0.0, 0.5]}
    assert [point.folder for point in plan_sweep(cfg)] == ['lr_0.1-weight_decay_0.0', 'lr_0.1-weight_decay_0.5']


def test_keys_of_a_sweep_on_the_command_line_and_inside_lists():
    cfg = lane_config()
    cfg['cl_strategy']['plugins'] = [dict(type='ReplayPlugin', mem_size=5)]
    cfg['sweep'] = {'cl_strategy.optimizer.lr': [0.1], 'cl_strategy': dict(
        optimizer=dict(lr=[0.2]), plugins={'0': dict(mem_size=[5, 10])})}
    values = [point.values for point in plan_sweep(cfg)]
    assert values == [{'cl_strategy.optimizer.lr': 0.2, 'cl_strategy.plugins.0.mem_size': size} for size in (5, 10)]
    assert with_values(cfg, values[1])['cl_strategy']['plugins'][0]['mem_size'] == 10
    assert cfg['cl_strategy']['plugins'][0]['mem_size'] == 5


def test_a_dry_run_tries_every_value_and_names_every_run(tmp_path):
    cfg = write(tmp_path / 'config.py', lane_config('EWC'), seeds=[0, 1])
    shown = train(cfg, '--work-dir', tmp_path / 'runs', '--dry-run', '--cfg-options',
                  'sweep.cl_strategy.ewc_lambda=[1.0,2.0]')
    assert 'ewc_lambda_2.0/seed_1' in shown.out and '4 runs like this one' in shown.out
    assert shown.out.count('2 runs in one lane') == 2
    refused = run('train', cfg, '--work-dir', tmp_path / 'runs', '--dry-run', '--cfg-options',
                  'sweep.cl_strategy.ewc_lambda=[1.0,-1.0]')
    assert refused.code == 2 and 'ewc_lambda is -1.0' in refused.err
    refused = run('train', cfg, '--work-dir', tmp_path / 'runs', '--dry-run', '--branch', 'exp_0.pth')
    assert refused.code == 2 and '--branch none of one run' in refused.err
    assert not (tmp_path / 'runs').exists()


def test_other_seeds_and_single_runs_do_not_mix_with_what_is_there(tmp_path):
    cfg = write(tmp_path / 'config.py', lane_config())
    train(cfg, '--work-dir', tmp_path / 'runs', '--cfg-options', 'seeds=[0,1]')
    for more in (['--seed', 5], ['--cfg-options', 'seeds=[2,3]'],
                 ['--cfg-options', 'sweep.cl_strategy.optimizer.lr=[1,2]']):
        refused = run('train', cfg, '--work-dir', tmp_path / 'runs', *more)
        assert refused.code == 2 and 'already holds a run' in refused.err
