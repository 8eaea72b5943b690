"""Beginning a run where another one was left, with other options."""

import sys

import pytest
import torch
from clear_trees import write_clear_tree
from quick_runs import built, config, stop, trained, weights_of, without_figures
from ranks import run_ranks
from short_runs import FEATURE_CONFIG, run, write_config

from clear.core.config import configs_folder, load_config
from clear.core.errors import CheckpointError
from clear.core.files import load_tensors, read_json, save_tensors

MEMORY = dict(mem_size=7)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


@pytest.fixture(scope='module')
def origin(root, tmp_path_factory):
    """A finished run of Replay whose momentum and schedule go on through the stream."""
    folder = tmp_path_factory.mktemp('origin')
    trained(config(root, 'Replay', dict(MEMORY, optimizer_policy='continue')), folder)
    return folder


def branched(root, folder, checkpoint, kind='Replay', strategy=(), **changes):
    options = dict(MEMORY if kind == 'Replay' else {}, optimizer_policy='continue') | dict(strategy)
    return trained(config(root, kind, options, **changes), folder, branch=str(checkpoint))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize('experience', [0, 1])
def test_without_changes_it_ends_as_the_other_run(experience, root, origin, tmp_path):
    """Weights, memory and momentum are taken over, or the rest of the stream would go another way."""
    branched(root, tmp_path, origin / f'exp_{experience}.pth')
    assert same(weights_of(tmp_path), weights_of(origin))
    found, expected = read_json(tmp_path / 'results.json'), read_json(origin / 'results.json')
    origin_of_branch = found['extras'].pop('branched_from')
    assert {**found, 'timing': 0} == {**expected, 'timing': 0}
    assert origin_of_branch == dict(checkpoint=f'exp_{experience}.pth', config_hash=expected['config_hash'],
                                    experiences=experience + 1, changes=[])
    assert not (tmp_path / 'exp_0.pth').exists() and (tmp_path / 'exp_2.pth').exists()


def test_changed_options_hold_from_there_on(root, origin, tmp_path):
    """With a rate of 0 the weights stay what the checkpoint holds; the finished row is the other run's."""
    runner = branched(root, tmp_path, origin / 'exp_0.pth', strategy=dict(optimizer=dict(type='SGD', lr=0.0)))
    assert same(weights_of(tmp_path), weights_of(origin, 'exp_0.pth'))
    matrix = read_json(origin / 'results.json')['acc_matrix']
    assert runner.record.acc_matrix == [matrix[0]] * 3
    assert runner.found.extras['branched_from']['changes'] == [
        'cl_strategy.optimizer.lr: 0.1 -> 0.0', 'cl_strategy.optimizer.momentum: 0.9 -> None']


def test_another_memory_size_holds_from_there_on(root, origin, tmp_path):
    runner = branched(root, tmp_path, origin / 'exp_1.pth', strategy=dict(mem_size=5))
    policy = next(plugin for plugin in runner.strategy.plugins if hasattr(plugin, 'storage_policy')).storage_policy
    assert runner.found.extras['branched_from']['changes'] == ['cl_strategy.mem_size: 7 -> 5']
    assert len(policy.buffer) == policy.max_size == 5


@pytest.mark.parametrize('kind, old, new, held', [
    ('EWC', dict(ewc_lambda=1.0), dict(ewc_lambda=0.0), 'ewc_lambda'),
    ('LwF', dict(alpha=[0.0, 1.0, 2.0], temperature=1.0), dict(alpha=[0.0, 1.0, 0.0], temperature=1.0), 'lwf'),
    ('DER', dict(mem_size=9, batch_size_mem=4, beta=0.0), dict(mem_size=9, batch_size_mem=4, beta=2.0), 'beta')])
def test_factors_of_a_strategy_can_be_changed(kind, old, new, held, root, tmp_path):
    """What it remembers is taken over, its settings are those of the new config."""
    trained(config(root, kind, old), tmp_path / 'first')
    checkpoint = tmp_path / 'first' / 'exp_1.pth'
    same_settings = trained(config(root, kind, old), tmp_path / 'same', branch=str(checkpoint))
    assert same(weights_of(tmp_path / 'same'), weights_of(tmp_path / 'first'))
    other = trained(config(root, kind, new), tmp_path / 'other', branch=str(checkpoint))
    if kind == 'DER':
        assert other.strategy.beta == 2.0
    else:
        plugin = next(plugin for plugin in other.strategy.plugins if hasattr(plugin, held))
        assert getattr(plugin, 'ewc_lambda', 0.0) == 0.0 and getattr(plugin, 'lwf', None) is None or \
            plugin.lwf.alpha == [0.0, 1.0, 0.0]
        # Without its penalty the last experience is fine-tuned from the same weights.
        naive = built(config(root), tmp_path / 'naive')
        naive.model.load_state_dict(weights_of(tmp_path / 'first', 'exp_1.pth'))
        naive.strategy.clock.train_exp_counter = 2
        naive.strategy.attach(seed=0, context=naive.info.context)
        naive.strategy.train(naive.experiences[2], eval_streams=[])
        assert same(weights_of(tmp_path / 'other'), naive.model.state_dict())
    assert not same(weights_of(tmp_path / 'other'), weights_of(tmp_path / 'same'))
    assert same_settings.record.acc_matrix[:2] == other.record.acc_matrix[:2]


def test_another_kind_of_optimiser_begins_anew(root, origin, tmp_path):
    runner = branched(root, tmp_path, origin / 'exp_1.pth', strategy=dict(optimizer=dict(type='Adam', lr=0.01)))
    assert type(runner.strategy.optimizer) is torch.optim.Adam
    assert {int(state['step']) for state in runner.strategy.optimizer.state.values()} == {6}  # of the last experience
    assert runner.found.extras['branched_from']['changes'][0] == 'cl_strategy.optimizer.lr: 0.1 -> 0.01'


def test_a_branch_can_be_resumed(root, origin, tmp_path):
    options = dict(MEMORY, optimizer_policy='continue', train_epochs=3)
    whole = trained(config(root, 'Replay', options), tmp_path / 'whole', branch=str(origin / 'exp_0.pth'))
    runner = built(config(root, 'Replay', options), tmp_path / 'parts')
    train = runner.train
    runner.train = lambda: train(branch=str(origin / 'exp_0.pth'))
    stop(runner, 2, 4)
    parts = trained(config(root, 'Replay', options), tmp_path / 'parts', resume=True)
    assert same(weights_of(tmp_path / 'parts'), weights_of(tmp_path / 'whole'))
    assert parts.found.extras['branched_from'] == whole.found.extras['branched_from']
    assert parts.found.acc_matrix == whole.found.acc_matrix


def test_what_no_branch_can_begin_from_is_refused(root, origin, tmp_path):
    stop(built(config(root, 'Replay', MEMORY), tmp_path / 'stopped'), 1, 2)
    other = write_clear_tree(tmp_path / 'other', features=8, per_class=7, images=False)
    for checkpoint, cfg, expected in [
            (origin / 'exp_0.pth', config(root), 'was written by Replay; this config asks for Naive.*load_from'),
            (origin / 'exp_0.pth', config(other, 'Replay', MEMORY), 'was written on other data'),
            (tmp_path / 'stopped' / 'iteration.pth', config(root, 'Replay', MEMORY), 'written inside an experience'),
            (origin / 'exp_7.pth', config(root, 'Replay', MEMORY), 'exp_7.pth does not exist')]:
        with pytest.raises(CheckpointError, match=expected):
            built(cfg, tmp_path / 'new').train(branch=str(checkpoint))
    assert not list((tmp_path / 'new').glob('*'))


def in_processes(world_size, folder, work, *arguments):
    folder.mkdir()
    return run_ranks(work, world_size, folder, *arguments) if world_size > 1 else [work(0, *arguments)]


def run_with_metrics(_rank, root, folder, mode, checkpoint=None):
    metrics = load_config(configs_folder() / '_base_' / 'default_runtime.py')[0].to_dict()['metrics']
    options = dict(MEMORY, optimizer_policy='continue', train_mb_size=9, scheduler=dict(type='StepLR', step_size=1))
    runner = built(config(root, 'Replay', options, metrics=metrics), folder)
    runner._choose_mode = lambda: mode
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        results = runner.train(branch=checkpoint)
    return dict(weights=dict(runner.model.state_dict()), matrix=results.acc_matrix, log=runner.record.train_log)


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['gather', 'shard'])
@pytest.mark.parametrize('first, second', [(1, 2), (2, 1), (2, 3)])
def test_another_number_of_processes_branches(first, second, mode, root, tmp_path, caplog):
    """With the metrics of the shipped configs, which several processes do not compute."""
    whole, *_ = in_processes(first, tmp_path / 'ranks', run_with_metrics, root, tmp_path / 'origin', mode)
    with caplog.at_level('INFO', logger='clear'):
        branches = in_processes(second, tmp_path / 'others', run_with_metrics, root, tmp_path / 'branch', mode,
                                str(tmp_path / 'origin' / 'exp_0.pth'))
    for branch in branches:
        assert branch['matrix'] == whole['matrix']
        for entry, other in zip(branch['log'], whole['log'], strict=True):
            assert entry == pytest.approx(other, abs=1e-6)
        for key, value in whole['weights'].items():  # rounding of float32
            torch.testing.assert_close(branch['weights'][key], value, rtol=1e-6, atol=1e-6)
    if second == 1:
        assert 'The checkpoint was written by 2 process(es); this run has 1.' in caplog.text


def test_a_finished_run_leaves_nothing_to_branch_into(root, origin, tmp_path):
    for name in ('exp_2.pth', 'latest.pth'):
        with pytest.raises(CheckpointError, match=f'{name} was written after the last of 3 experience.*nothing is left '
                                                  'to train. Branch from an earlier checkpoint, e.g. exp_1.pth'):
            branched(root, tmp_path / 'new', origin / name)
    alone = tmp_path / 'copy' / 'last.pth'
    alone.parent.mkdir()
    alone.write_bytes((origin / 'latest.pth').read_bytes())
    with pytest.raises(CheckpointError, match=r'checkpoint_config.interval=1 keeps exp_0.pth'):
        branched(root, tmp_path / 'new', alone)
    trained(config(root, 'JointTraining'), tmp_path / 'joint')
    with pytest.raises(CheckpointError, match='Joint training is one experience'):
        branched(root, tmp_path / 'new', tmp_path / 'joint' / 'latest.pth', 'JointTraining')
    assert not list((tmp_path / 'new').glob('*'))


def test_a_branch_with_other_metrics_is_refused_by_their_names(root, origin, tmp_path):
    with pytest.raises(CheckpointError, match=r'state of the metrics \(none\); this run has EpochLoss\. Resume'):
        branched(root, tmp_path, origin / 'exp_0.pth', metrics=[dict(type='loss_metrics', epoch=True)])


def test_branch_from_the_command_line(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config('config.py', FEATURE_CONFIG, root)
    options = ['--cfg-options', 'checkpoint_config.interval=1']
    assert run('train', 'config.py', '--work-dir', 'first', *options).code == 0
    finished = run('train', 'config.py', '--work-dir', 'second', '--branch', 'first/exp_0.pth', *options,
                   'cl_strategy.train_epochs=1')
    assert finished.code == 0, finished.err
    said = 'branched from first/exp_0.pth after 1 experiences; changed: cl_strategy.train_epochs: 2 -> 1'
    assert said in finished.out
    assert [entry['iterations'] for entry in read_json('second/results.json')['extras']['train_log']] == [6, 3, 3]
    assert load_tensors(tmp_path / 'second' / 'latest.pth')['progress']['branched_from']['experiences'] == 1
    last = run('train', 'config.py', '--work-dir', 'third', '--branch', 'first/exp_2.pth')
    assert last.code == 2 and 'nothing is left to train' in last.err and 'e.g. exp_1.pth' in last.err
    both = run('train', 'config.py', '--work-dir', 'third', '--branch', 'first/exp_0.pth', '--resume')
    assert both.code == 2 and '--branch starts a new run from a checkpoint, --resume continues one' in both.err
    again = run('train', 'config.py', '--work-dir', 'second', '--branch', 'first/exp_0.pth')
    assert again.code == 2 and 'already holds a run' in again.err
    missing = run('train', 'config.py', '--work-dir', 'fourth', '--branch', 'first/exp_9.pth')
    assert missing.code == 2 and 'first/exp_9.pth does not exist' in missing.err


CALLED = []


def marker(*args, **kwargs):
    """What a hostile checkpoint names: it must never run."""
    CALLED.append((args, kwargs))


PLACES = [('model', 'backbone'), ('model', 'head'), ('model', 'neck'), ('cl_strategy', 'loss'),
          ('cl_strategy', 'plugins'), ('cl_strategy', 'type'), ('cl_strategy', 'storage_policy'),
          ('cl_strategy', 'optimizer'), ('cl_strategy', 'scheduler')]


@pytest.mark.parametrize('is_old', [False, True])
@pytest.mark.parametrize('place', PLACES)
def test_nothing_that_a_checkpoint_names_is_called(place, is_old, root, origin, tmp_path, monkeypatch):
    """Its config is compared, whether or not the file says what the strategy's settings were."""
    monkeypatch.setattr('test_branch.CALLED', [], raising=False)
    named = dict(type=f'{__name__}.marker')
    checkpoint = load_tensors(origin / 'exp_0.pth')
    value = {'plugins': [named], 'type': named['type']}.get(place[1], named)
    checkpoint['config'][place[0]][place[1]] = value
    checkpoint['config']['cl_strategy']['mem_size'] = 9  # so that there is something to compare
    if is_old:
        del checkpoint['settings']
    path = tmp_path / 'theirs.pth'
    save_tensors(path, checkpoint)
    text = FEATURE_CONFIG.replace("dict(type='Naive',", "dict(type='Replay', mem_size=7, optimizer_policy='continue',")
    cfg = write_config(tmp_path / 'config.py', text, root)
    finished = run('train', cfg, '--work-dir', tmp_path / 'run', '--branch', path)
    assert not CALLED and not sys.modules[__name__].CALLED
    if is_old and place[1] not in ('loss', 'optimizer', 'scheduler'):
        assert finished.code == 2 and 'error: ' in finished.err and 'was written by an earlier version' in finished.err
    else:
        assert finished.code == 0, finished.err


def without_settings(path, copy, **changes):
    """The checkpoint as the version before this one wrote it."""
    checkpoint = load_tensors(path)
    del checkpoint['settings']
    save_tensors(copy, checkpoint)
    return copy


@pytest.mark.parametrize(('kind', 'old', 'new'), [
    ('Replay', dict(mem_size=7), dict(mem_size=5)), ('EWC', dict(ewc_lambda=1.0), dict(ewc_lambda=0.0)),
    ('EWC', dict(ewc_lambda=1.0), dict(ewc_lambda=1.0, mode='online', decay_factor=0.5)),
    ('LwF', dict(alpha=[0.0, 1.0, 2.0], temperature=1.0), dict(alpha=[0.0, 1.0, 0.0], temperature=1.0)),
    ('DER', dict(mem_size=9, batch_size_mem=4, beta=0.0), dict(mem_size=9, batch_size_mem=4, beta=2.0))])
def test_a_checkpoint_that_notes_no_settings_gives_the_same(kind, old, new, root, tmp_path):
    trained(config(root, kind, old), tmp_path / 'first')
    noted = tmp_path / 'first' / 'exp_1.pth'
    plain = without_settings(noted, tmp_path / 'plain.pth')
    first = trained(config(root, kind, new), tmp_path / 'noted', branch=str(noted))
    second = trained(config(root, kind, new), tmp_path / 'unnoted', branch=str(plain))
    assert same(first.model.state_dict(), second.model.state_dict())
    assert first.found.acc_matrix == second.found.acc_matrix


def test_another_model_is_refused_where_no_settings_are_noted(root, origin, tmp_path):
    path = without_settings(origin / 'exp_0.pth', tmp_path / 'old.pth')
    cfg = config(root, 'Replay', dict(mem_size=5))
    cfg['model']['head'] = dict(type='CosineDistanceHead', num_classes=3, in_channels=8)
    with pytest.raises(CheckpointError, match='earlier version.*its model is another than that of this config'):
        built(cfg, tmp_path / 'new').train(branch=str(path))
