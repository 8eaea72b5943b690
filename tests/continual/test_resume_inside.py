"""Every strategy: a run that is killed inside an experience and resumed ends like one that was not, bit for bit."""

import gc
import random
import signal
import subprocess
import time

import pytest
import torch
from killed_runs import Death, assert_same_end, finished, killed
from many_strategies import NAMES, built, stopped, trained
from ranks import run_ranks
from short_runs import FEATURE_CONFIG, environment, program, train, write_config
from tiny_runs import checkpoint, results_without_time, weights, write_stream

from clear.core.config import configs_folder, load_config

METRICS = [dict(type='accuracy_metrics', minibatch=True, epoch=True, experience=True),
           dict(type='loss_metrics', epoch=True)]
DEFAULT_METRICS = load_config(configs_folder() / '_base_' / 'default_runtime.py')[0].to_dict()['metrics']
# Their outputs in training are embeddings, which Avalanche's accuracy cannot read.
WITHOUT_ACCURACY = ('SCR', 'CoPE')
# BatchNorm and dropout: running statistics and random numbers of the model must survive too.
WITHOUT_NORM = ('PackNet', 'MER')  # refuses it; trains on single rows
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    root = write_stream(tmp_path_factory.mktemp('stream'))
    trained(built(root, 'Naive'))  # imports, before the first fork, what each process would have to import
    gc.collect()
    gc.freeze()  # else a collection in a forked process would write to, and so copy, all of its memory
    yield root
    gc.unfreeze()


def head_of(name):
    return 'hidden' if name in WITHOUT_NORM else 'noisy'


def deaths(whole):
    """Lists of deaths, one per process in a row, by what they are to show; `whole` is what `finished` returned."""
    last = whole['last']
    count = whole['iterations'][last]
    in_epoch = count // whole['epochs']
    kept = min(2, in_epoch - 1)
    return {'inside an epoch': [Death('iteration', last, min(kept + 2, in_epoch), kept)],
            'at the end of an epoch': [Death('epoch end', last, in_epoch, in_epoch)],
            'at the end of an experience': [Death(moment, last, count, count)
                                            for moment in ('experience end', 'half saved')],
            'twice': [Death('rename', last, 2, 1), Death('iteration', last, count, count - 1)],
            'in the first experience': [Death('iteration', 0, 3, 2)]}


def resumed(name, stream, folder, moments, **options):
    """The end of a run that died at each of those moments, in turn."""
    for number, death in enumerate(moments):
        killed(stream, name, folder, death, number=number, resume=number > 0, **options)
    return finished(stream, name, folder, number=len(moments), resume=True, **options)


@pytest.mark.parametrize('name', NAMES)
def test_killed_and_resumed(name, stream, tmp_path):
    head = head_of(name)
    whole = finished(stream, name, tmp_path / 'whole', head=head)
    for number, moments in enumerate(deaths(whole).values()):
        assert_same_end(whole, resumed(name, stream, tmp_path / str(number), moments, head=head))


@pytest.mark.parametrize('name', [name for name in NAMES if name not in WITHOUT_ACCURACY])
def test_metrics_of_the_interrupted_epoch_go_on(name, stream, tmp_path):
    options = dict(head=head_of(name), metrics=METRICS)
    whole = finished(stream, name, tmp_path / 'whole', **options)
    assert any(metric.startswith(('Top1_Acc_Epoch', 'Top1_Acc_Exp')) for metric in whole['metrics'])
    assert_same_end(whole, resumed(name, stream, tmp_path / 'parts', deaths(whole)['inside an epoch'], **options))


@pytest.mark.parametrize('kept', [3, 5])  # 4 iterations are an epoch
def test_an_older_file_inside_an_experience_will_do(kept, stream, tmp_path):
    """Of the epoch before the one in which the process died, and of that one."""
    whole = finished(stream, 'DER', tmp_path / 'whole', head='noisy')
    assert whole['iterations'] == [8, 8, 8]
    parts = resumed('DER', stream, tmp_path / 'parts', [Death('iteration', 1, 6, kept)], head='noisy')
    assert_same_end(whole, parts)


def test_a_file_of_an_experience_that_is_finished_is_not_used(stream, tmp_path):
    """Killed between the writing of one file and the removal of the other."""
    whole = finished(stream, 'Replay', tmp_path / 'whole')
    killed(stream, 'Replay', tmp_path / 'parts', Death('half saved', 1, 8, 6), number=0, resume=False)
    assert checkpoint(tmp_path / 'parts')['progress']['experience'] == 2
    assert checkpoint(tmp_path / 'parts', 'iteration.pth')['progress']['experience'] == 1
    assert_same_end(whole, finished(stream, 'Replay', tmp_path / 'parts', number=1, resume=True))


# Other numbers of processes


def first_part(_rank, root, folder, name, mode, options):
    # In the last epoch, whose loss is what the log of the run keeps.
    stopped(in_mode(built(root, name, folder, **options), mode), 1, 6)


def second_part(_rank, root, folder, name, mode, options, resume=True):
    runner = trained(in_mode(built(root, name, folder, **options), mode), resume=resume)
    return dict(weights=weights(runner), matrix=runner.record.acc_matrix, log=runner.record.train_log)


def in_mode(runner, mode):
    """The runner, whose processes divide the work in that mode; None is the one that it chooses."""
    if mode is not None:
        runner._choose_mode = lambda: mode
    return runner


def in_processes(world_size, work, folder, *arguments):
    """What each process returned; one process is this one."""
    folder.mkdir()
    return run_ranks(work, world_size, folder, *arguments) if world_size > 1 else [work(0, *arguments)]


def assert_same_but_for_rounding(whole, parts):
    """Results of `second_part`; rounding of float32, over some 24 steps of rate 0.1."""
    assert whole['matrix'] == parts['matrix']
    for entry, other in zip(whole['log'], parts['log'], strict=True):
        assert other == pytest.approx(entry, abs=1e-6)
    for key, value in whole['weights'].items():
        torch.testing.assert_close(parts['weights'][key], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('name, mode, head', [
    ('Naive', 'gather', 'hidden'), ('Naive', 'shard', 'hidden'), ('Replay', 'shard', 'norm'),
    ('EWC', 'shard', 'hidden'), ('DER', None, 'hidden'), ('GSS_greedy', None, 'hidden')])
@pytest.mark.parametrize('first, second', [(1, 2), (2, 1), (2, 2), (2, 3)])
def test_another_number_of_processes_goes_on(first, second, name, mode, head, stream, tmp_path, caplog):
    """With the metrics of the shipped configs, which several processes do not compute."""
    # 28 = 4 x 7, in shards of 4 and 3, or 3, 2 and 2: BatchNorm takes no batch of one row.
    options = dict(metrics=DEFAULT_METRICS, head=head, train_mb_size=7)
    folder = tmp_path / 'parts'
    whole = second_part(0, stream, tmp_path / 'whole', name, mode, options, resume=None)
    in_processes(first, first_part, tmp_path / 'first', stream, folder, name, mode, options)
    assert len(checkpoint(folder, 'iteration.pth')['strategy']['metrics']) == (2 if first == 1 else 0)
    with caplog.at_level('INFO', logger='clear'):
        parts = in_processes(second, second_part, tmp_path / 'second', stream, folder, name, mode, options)
    for each in parts:
        assert_same_but_for_rounding(whole, each)
    if second == 1:
        said = 'The checkpoint was written by 2 process(es); this run has 1.'
        assert said in caplog.text and "state of Avalanche's metrics is not taken over" in caplog.text


# Killed from outside, in fresh processes


def kill_soon(config, folder, options, moment, resume):
    """Start a run in its own process and kill it some time after it has saved inside an experience."""
    file = folder / 'iteration.pth'
    before = file.stat().st_mtime_ns if file.exists() else 0
    process = subprocess.Popen(
        [*program('train'), str(config), '--work-dir', str(folder), *(['--resume'] if resume else []),
         '--cfg-options', *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 120
    while not file.exists() or file.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, 'nothing was saved in two minutes'
        time.sleep(0.01)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, 'the run was over before it could be killed'


@pytest.mark.parametrize('options', [
    ['cl_strategy.type=Naive'], ['cl_strategy.type=Replay', 'cl_strategy.mem_size=11'],
    ['cl_strategy.type=DER', 'cl_strategy.mem_size=12', 'cl_strategy.batch_size_mem=4']],
    ids=lambda value: value[0].removeprefix('cl_strategy.type='))
def test_killed_twice_at_random_moments(options, stream, tmp_path):
    config = write_config(tmp_path / 'config.py', FEATURE_CONFIG, stream)
    options = [*options, 'model.head.num_classes=4', 'cl_strategy.optimizer.momentum=0.9',
               'cl_strategy.train_epochs=60', 'cl_strategy.scheduler.step_size=40', 'checkpoint_config.iter_interval=1']
    moments = random.Random(len(options[0]))
    for resume in (False, True):
        kill_soon(config, tmp_path / 'parts', options, moments.uniform(0, 1.0), resume)
        for path in (tmp_path / 'parts').glob('*.pth'):
            torch.load(path, weights_only=True)
    train('--work-dir', tmp_path / 'parts', config, '--resume', '--cfg-options', *options)
    train('--work-dir', tmp_path / 'whole', config, '--cfg-options', *options)
    assert results_without_time(tmp_path / 'parts') == results_without_time(tmp_path / 'whole')
    states = [checkpoint(tmp_path / folder)['state_dict'] for folder in ('parts', 'whole')]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
