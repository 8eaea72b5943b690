"""`tools/dist_train.sh` and `dist_test.sh`: two processes over gloo compute what one process computes."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from short_runs import CONFIGS, TOOLS, environment, read_results, train

from clear.core.files import read_json
from clear.datasets.make.demo import write_demo

NAIVE = CONFIGS / 'demo' / 'naive_lenet5_demo.py'
TIMEOUT_S = 280


def shell(script, *arguments, timeout=TIMEOUT_S, **variables):
    return subprocess.run([str(TOOLS / script), *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          env=environment(**variables))


def largest_difference(first, second):
    a, b = (torch.load(Path(folder) / 'latest.pth', weights_only=True)['state_dict'] for folder in (first, second))
    assert a.keys() == b.keys()
    return max((a[key] - b[key]).abs().max().item() for key in a)


def assert_same_results(one, two):
    """Matrix and training loss of a run in two processes are those of a run in one."""
    first, second = read_results(one), read_results(two)
    assert (first['world_size'], second['world_size']) == (1, 2)
    for row, other in zip(first['acc_matrix'], second['acc_matrix'], strict=True):
        assert other == pytest.approx(row, abs=1e-6)
    assert first['config_hash'] == second['config_hash']
    for entry, other in zip(first['extras']['train_log'], second['extras']['train_log'], strict=True):
        assert other == pytest.approx(entry, abs=1e-4)


@pytest.fixture
def small_demo(tmp_path, monkeypatch):
    """71 training digits per bucket: in batches of 10 the last one has one row, which leaves a process without any."""
    monkeypatch.chdir(tmp_path)
    write_demo('demo', seeds=[0], limit=100)
    return ['--cfg-options', 'scenario.data_root=demo', 'cl_strategy.train_mb_size=10', 'cl_strategy.train_epochs=2',
            'report=False']


def test_two_processes_equal_one(small_demo):
    done = shell('dist_train.sh', NAIVE, 2, '--work-dir', 'two', *small_demo)
    assert done.returncode == 0, done.stderr
    assert '2 process(es)' in done.stdout and done.stdout.count('in_domain') == 1
    train(NAIVE, '--work-dir', 'one', *small_demo)
    assert len(read_results('one')['acc_matrix'][0]) == 10
    assert read_results('one')['metrics']['in_domain'] > 0.3, 'nothing learned, nothing compared'
    assert_same_results('one', 'two')
    # Sums in another order: rounding of float32, amplified a little by 160 steps.
    assert largest_difference('one', 'two') < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_equal_one_on_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_demo('demo', seeds=[0])
    options = ['--cfg-options', 'scenario.data_root=demo']
    done = shell('dist_train.sh', NAIVE, 2, '--work-dir', 'two', *options, timeout=600)
    assert done.returncode == 0, done.stderr
    train(NAIVE, '--work-dir', 'one', *options)
    assert_same_results('one', 'two')
    print('largest difference of a weight:', largest_difference('one', 'two'))  # noqa: T201


@pytest.mark.slow
def test_evaluation_in_two_processes_counts_every_image_once(small_demo):
    train(NAIVE, '--work-dir', 'one', *small_demo)
    done = shell('dist_test.sh', NAIVE, 'one/latest.pth', 2, '--out', 'accuracy.json', *small_demo)
    assert done.returncode == 0, done.stderr
    assert list(read_json('accuracy.json')['accuracy'].values()) == read_results('one')['acc_matrix'][-1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_number_of_processes_may_change_on_the_way(small_demo):
    """One process begins, two branch from it, and one goes on with what the two left; with the default metrics."""
    train(NAIVE, '--work-dir', 'one', *small_demo)
    done = shell('dist_train.sh', NAIVE, 2, '--work-dir', 'two', '--branch', 'one/exp_7.pth', *small_demo)
    assert done.returncode == 0, done.stderr
    assert 'The checkpoint was written by 1 process(es); this run has 2.' in done.stdout
    assert largest_difference('one', 'two') < 1e-4
    assert read_results('two')['acc_matrix'] == read_results('one')['acc_matrix']
    shutil.copyfile('two/exp_8.pth', 'two/latest.pth')
    train(NAIVE, '--work-dir', 'two', '--resume', *small_demo)
    assert largest_difference('one', 'two') < 1e-4
    assert read_results('two')['world_size'] == 1
    shutil.copyfile('one/exp_8.pth', 'one/latest.pth')
    done = shell('dist_train.sh', NAIVE, 2, '--work-dir', 'one', '--resume', *small_demo)
    assert done.returncode == 0, done.stderr
    assert '9 of 10 experiences are finished' in done.stdout
    assert largest_difference('one', 'two') < 1e-4
    assert read_results('one')['acc_matrix'] == read_results('two')['acc_matrix']


@pytest.mark.slow
@pytest.mark.parametrize('option, words', [
    ('cl_strategy.train_mb_size=1', 'train_mb_size is 1, the global batch, but there are 2 processes'),
    ('model.head.num_classes=3', 'num_classes=3'),
], ids=['batch', 'classes'])
def test_errors_are_told_once(small_demo, option, words):
    done = shell('dist_train.sh', NAIVE, 2, '--work-dir', 'two', *small_demo, option)
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if line.startswith('error: ') and words in line]) == 1
    assert not list(Path().rglob('*.pth'))


# What would be started

@pytest.fixture
def python(tmp_path):
    """A python that only says how it was called."""
    path = tmp_path / 'python'
    path.write_text('#!/bin/sh\necho "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_train_script_says_what_it_would_start(python):
    done = shell('dist_train.sh', 'a.py', 8, '--dry-run', PYTHON=python)
    assert done.returncode == 0, done.stderr
    would, does = done.stdout.splitlines()
    start, rest = would.split(' --standalone ')
    assert start == f'would start: {python} -m clear.core.programs.launcher --nnodes 1 --nproc_per_node 8'
    assert rest.endswith('tools/train.py a.py --dry-run --launcher pytorch')
    # One process is enough for a dry run, and needs no GPUs.
    assert does.endswith('tools/train.py a.py --dry-run') and 'torch.distributed' not in does


def test_slurm_script_says_what_it_would_start(python):
    done = shell('slurm_train.sh', 'part', 'job', 'a.py', '--dry-run', GPUS='16', SRUN_ARGS='--qos=low', PYTHON=python)
    assert done.returncode == 0, done.stderr
    would, does = done.stdout.splitlines()
    for words in ('srun -p part --job-name=job --gres=gpu:8 --ntasks=16 --ntasks-per-node=8', '--cpus-per-task=5',
                  '--qos=low', 'tools/train.py a.py --dry-run --launcher slurm'):
        assert words in would
    assert does.endswith('tools/train.py a.py --dry-run')


def test_slurm_script_starts_srun(tmp_path, python):
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\necho srun "$@"\n')
    srun.chmod(0o755)
    path = f"{srun.parent}:{environment()['PATH']}"
    done = shell('slurm_train.sh', 'part', 'job', 'a.py', '--seed', 3, GPUS='4', PYTHON=python, PATH=path)
    assert done.returncode == 0, done.stderr
    assert '--gres=gpu:4 --ntasks=4 --ntasks-per-node=4' in done.stdout
    assert done.stdout.strip().endswith('tools/train.py a.py --seed 3 --launcher slurm')


@pytest.mark.parametrize('variables, words', [
    ({}, '--standalone'),
    ({'PORT': '29511'}, '--node_rank 0 --master_addr 127.0.0.1 --master_port 29511'),
    ({'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'first.host'},
     '--nnodes 2 --nproc_per_node 4 --node_rank 1 --master_addr first.host --master_port 29500'),
], ids=['one machine', 'port', 'two machines'])
@pytest.mark.parametrize('script, before', [('dist_train.sh', []), ('dist_test.sh', ['latest.pth'])])
def test_scripts_honour_the_variables(python, script, before, variables, words):
    done = shell(script, 'a.py', *before, 4, '--seed', 3, PYTHON=python, **variables)
    assert done.returncode == 0, done.stderr
    command = done.stdout.strip()
    assert command.startswith('-m clear.core.programs.launcher') and words in command
    name = script.removeprefix('dist_').replace('.sh', '.py')
    assert command.endswith(' '.join([f'tools/{name}', 'a.py', *before, '--seed 3 --launcher pytorch']))


def test_slurm_script_without_slurm_says_so(tmp_path, python):
    for name in ('bash', 'dirname'):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = shell('slurm_train.sh', 'part', 'job', 'a.py', PYTHON=python, PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'error: there is no srun here: this starts runs on a Slurm cluster.\n'


def test_scripts_explain_how_to_call_them():
    assert 'usage: tools/dist_train.sh CONFIG GPUS' in shell('dist_train.sh', 'a.py').stderr
    assert 'usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS' in shell('dist_test.sh', 'a.py', 2).stderr
    assert 'usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG' in shell('slurm_train.sh', 'part').stderr
    for number in ('0', 'two', '-1', ''):
        done = shell('dist_train.sh', 'a.py', number)
        assert done.returncode == 2 and f"number of GPUs is '{number}'" in done.stderr
