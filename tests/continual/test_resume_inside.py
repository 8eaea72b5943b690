"""Every strategy: a run that is stopped inside an experience and resumed ends like one that was not, bit for bit."""

import multiprocessing
import random
import signal
import subprocess
import time

import pytest
import torch
import torch.distributed as torch_dist
from many_strategies import NAMES, assert_same_run, built, stopped, trained
from short_runs import FEATURE_CONFIG, environment, program, train, write_config
from tiny_runs import checkpoint, results_without_time, weights, write_stream

from clear.core.files import load_tensors
from clear.core.seeding import seed_everything

METRICS = [dict(type='accuracy_metrics', minibatch=True, epoch=True, experience=True),
           dict(type='loss_metrics', epoch=True)]
# Their outputs in training are embeddings, which Avalanche's accuracy cannot read.
WITHOUT_ACCURACY = ('SCR', 'CoPE')
# BatchNorm and dropout: running statistics and random numbers of the model must survive too.
WITHOUT_NORM = ('PackNet', 'MER')  # refuses it; trains on single rows
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def head_of(name):
    return 'hidden' if name in WITHOUT_NORM else 'noisy'


def stopping_points(whole):
    """Lists of stops, each (experience, iteration), by what they are to show."""
    last = 0 if whole.is_joint else 1
    count = whole.train_log[last]['iterations']
    epochs = whole.strategy.clock.train_exp_epochs or 1
    return {'inside an epoch': [(last, 2)], 'at the end of an epoch': [(last, count // epochs)],
            'at the last iteration': [(last, count)], 'twice': [(last, 1), (last, count - 1)],
            'in the first experience': [(0, 2)]}


def assert_file_is_plain(work_dir):
    """Written inside an experience, and of tensors and plain values only."""
    state = torch.load(work_dir / 'iteration.pth', weights_only=True)
    assert {'state_dict', 'optimizer', 'strategy', 'rng', 'inside'} <= set(state)


def resumed(name, stream, folder, stops, **options):
    """A run with stops, each in a runner of its own that other random numbers came before."""
    for number, (experience, iteration) in enumerate(stops):
        stopped(built(stream, name, folder, **options), experience, iteration, resume=number > 0)
        assert_file_is_plain(folder)
        seed_everything(987654321 + number)
    runner = trained(built(stream, name, folder, **options), resume=True)
    assert not (folder / 'iteration.pth').exists()
    return runner


@pytest.mark.parametrize('name', NAMES)
def test_resumed_inside_an_experience(name, stream, tmp_path):
    head = head_of(name)
    whole = trained(built(stream, name, tmp_path / 'whole', head=head))
    for number, stops in enumerate(stopping_points(whole).values()):
        assert_same_run(whole, resumed(name, stream, tmp_path / str(number), stops, head=head))


@pytest.mark.parametrize('name', [name for name in NAMES if name not in WITHOUT_ACCURACY])
def test_metrics_of_the_interrupted_epoch_go_on(name, stream, tmp_path):
    options = dict(head=head_of(name), metrics=METRICS)
    whole = trained(built(stream, name, tmp_path / 'whole', **options))
    parts = resumed(name, stream, tmp_path / 'parts', stopping_points(whole)['inside an epoch'], **options)
    assert_same_run(whole, parts)
    last = whole.strategy.evaluator.get_last_metrics()
    assert any(value.startswith(('Top1_Acc_Epoch', 'Top1_Acc_Exp')) for value in last)
    assert parts.strategy.evaluator.get_last_metrics() == last


def test_an_older_file_inside_an_experience_will_do(stream, tmp_path):
    """A process that is killed leaves the file of an earlier iteration, written at another interval."""
    whole = trained(built(stream, 'DER', tmp_path / 'whole', head='noisy'))
    for interval in (1, 3):
        folder = tmp_path / str(interval)
        runner = built(stream, 'DER', folder, head='noisy')
        runner.cfg['checkpoint_config'] = dict(interval=None, iter_interval=interval)
        kept = {}

        def keep(strategy, after=runner._on_iteration, folder=folder, kept=kept):
            after(strategy)
            clock = strategy.clock
            if (clock.train_exp_counter, clock.train_exp_iterations) == (1, 6):
                kept['file'] = (folder / 'iteration.pth').read_bytes()

        runner._on_iteration = keep
        stopped(runner, 1, 7)
        (folder / 'iteration.pth').write_bytes(kept['file'])
        state = load_tensors(folder / 'iteration.pth')
        assert state['inside']['loader']['position'] == {1: 1, 3: 3}[interval]  # of 4: iterations 5 and 3
        assert_same_run(whole, trained(built(stream, 'DER', folder, head='noisy'), resume=True))


def test_a_file_of_an_experience_that_is_finished_is_not_used(stream, tmp_path):
    """Killed between the writing of one file and the removal of the other."""
    whole = trained(built(stream, 'Replay', tmp_path / 'whole'))
    folder = tmp_path / 'parts'
    stopped(built(stream, 'Replay', folder), 1, 3)
    old = (folder / 'iteration.pth').read_bytes()
    stopped(built(stream, 'Replay', folder), 2, 1, resume=True)
    (folder / 'iteration.pth').write_bytes(old)
    assert checkpoint(folder)['progress']['experience'] == 2
    assert_same_run(whole, trained(built(stream, 'Replay', folder), resume=True))


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
    assert_file_is_plain(folder)
    with caplog.at_level('INFO', logger='clear'):
        parts = trained(built(stream, name, folder), resume=True)
    assert 'The checkpoint was written by 2 process(es); this run has 1.' in caplog.text
    assert whole.acc_matrix == parts.acc_matrix
    for key, value in weights(whole).items():  # rounding of float32
        torch.testing.assert_close(weights(parts)[key], value, rtol=1e-6, atol=1e-6)


# Killed, in processes of their own


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
