"""Every strategy: a run that is killed inside an experience and resumed ends like one that was not, bit for bit."""

import functools
import gc
import multiprocessing
import random
import signal
import subprocess
import time

import pytest
import torch
import torch.distributed as torch_dist
from killed_runs import Death, assert_same_end, finished, killed
from many_strategies import NAMES, built, stopped, trained
from short_runs import FEATURE_CONFIG, environment, program, train, write_config
from tiny_runs import checkpoint, results_without_time, weights, write_stream

from clear.engine import continual_runner

METRICS = [dict(type='accuracy_metrics', minibatch=True, epoch=True, experience=True),
           dict(type='loss_metrics', epoch=True)]
# Their outputs in training are embeddings, which Avalanche's accuracy cannot read.
WITHOUT_ACCURACY = ('SCR', 'CoPE')
# BatchNorm and dropout: running statistics and random numbers of the model must survive too.
WITHOUT_NORM = ('PackNet', 'MER')  # refuses it; trains on single rows
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    root = write_stream(tmp_path_factory.mktemp('stream'))
    with pytest.MonkeyPatch.context() as patch:
        # Asked at every save and the same all along; the forked processes inherit the answers.
        for name in ('git_state', 'library_versions'):
            patch.setattr(continual_runner, name, functools.cache(getattr(continual_runner, name)))
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


def two_ranks(rank, root, folder, name):
    torch.set_num_threads(1)
    torch_dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    stopped(built(root, name, folder), 1, 3)
    torch_dist.destroy_process_group()


@pytest.mark.parametrize('name', ['Naive', 'Replay', 'DER'])
def test_two_processes_stop_and_one_goes_on(name, stream, tmp_path, caplog):
    whole = trained(built(stream, name, tmp_path / 'whole'))
    folder = tmp_path / 'parts'
    folder.mkdir()
    processes = [multiprocessing.get_context('fork').Process(target=two_ranks, args=(rank, stream, folder, name))
                 for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert 'inside' in checkpoint(folder, 'iteration.pth')
    with caplog.at_level('INFO', logger='clear'):
        parts = trained(built(stream, name, folder), resume=True)
    assert 'The checkpoint was written by 2 process(es); this run has 1.' in caplog.text
    assert whole.acc_matrix == parts.acc_matrix
    for key, value in weights(whole).items():  # rounding of float32
        torch.testing.assert_close(weights(parts)[key], value, rtol=1e-6, atol=1e-6)


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
