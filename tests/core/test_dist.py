import contextlib
import io
import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from ranks import run_ranks

from clear.core import dist
from clear.core.errors import ConfigError
from clear.core.programs.program import run_program


@pytest.fixture
def group(tmp_path):
    """A process group of one, over a file: the collectives are real, and nothing else is needed."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    dist.stop()


def test_one_process_needs_no_group():
    assert (dist.rank(), dist.world_size(), dist.is_main()) == (0, 1, True)
    tensor = torch.tensor([1.5, 2.0])
    assert dist.sum_over_ranks(tensor) is tensor and tensor.tolist() == [1.5, 2.0]
    assert dist.any_rank(True) is True and dist.any_rank(False) is False
    dist.sum_flat([tensor])
    dist.barrier()
    dist.start('none')
    dist.stop()
    assert not torch.distributed.is_initialized() and tensor.tolist() == [1.5, 2.0]


@pytest.mark.parametrize('missing', ['RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'])
def test_a_launcher_that_did_not_launch_is_named(missing, monkeypatch):
    for name, value in dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='1').items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigError, match=f'--launcher pytorch, but {missing} is not set. Start with'):
        dist.start('pytorch')


def test_slurm_without_slurm_is_a_user_error(monkeypatch):
    for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'):
        monkeypatch.delenv(name, raising=False)
    default = multiprocessing.get_start_method()
    with pytest.raises(ConfigError, match='--launcher slurm, but .SLURM_PROCID. is not set'):
        dist.start('slurm')
    assert multiprocessing.get_start_method() == default


def test_a_launcher_leaves_the_start_method_of_workers_alone():
    """mmengine sets 'spawn' where none is set yet, so this needs a fresh process."""
    code = """if True:
        import multiprocessing, os
        from clear.core import dist
        from clear.core.errors import ConfigError
        try:
            dist.start('slurm')
        except ConfigError:
            print(multiprocessing.get_start_method(), multiprocessing.get_all_start_methods()[0])
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith('SLURM')}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment)
    used, default = done.stdout.split()
    assert used == default


def test_local_rank_comes_from_the_launcher(monkeypatch):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    assert dist.local_rank() == 0
    monkeypatch.setenv('LOCAL_RANK', '3')
    assert dist.local_rank() == 3


def test_collectives_of_a_group_of_one_change_nothing(group):
    tensors = [torch.arange(6.0).view(2, 3), torch.tensor(2.5), torch.arange(3), torch.zeros(0), torch.ones(2).half()]
    before = [tensor.clone() for tensor in tensors]
    dist.sum_flat(tensors)
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(tensors, before))
    assert dist.any_rank(True) is True and dist.any_rank(False) is False
    dist.start('pytorch')  # a second start is no second group
    assert dist.world_size() == 1


def test_many_tensors_are_summed_in_place_with_one_call_per_dtype(group, monkeypatch):
    """Doubling stands in for a second rank with the same numbers; every value must come back to its own place."""
    calls = []

    def double(flat):
        calls.append((flat.dtype, flat.numel()))
        flat *= 2

    monkeypatch.setattr('torch.distributed.all_reduce', double)
    base = torch.arange(12.0).view(3, 4)
    tensors = [base.t(), torch.tensor(5), torch.tensor([[1.0], [3.0]]), torch.tensor([7, 8])]
    assert not tensors[0].is_contiguous()
    dist.sum_flat(iter(tensors))
    assert base.tolist() == [[2.0 * value for value in range(row * 4, row * 4 + 4)] for row in range(3)]
    assert [tensor.tolist() for tensor in tensors[1:]] == [10, [[2.0], [6.0]], [14, 16]]
    assert calls == [(torch.float32, 14), (torch.int64, 3)]


def left_alone(rank):
    """What a process says whose peer ends after both have begun."""
    tensor = torch.zeros(1)
    torch.distributed.broadcast(tensor, 0)
    if rank == 0:
        return None
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = run_program(lambda: [torch.distributed.all_reduce(tensor) for _ in range(3)] and 0)
    return dict(code=code, err=err.getvalue())


def test_a_process_whose_peer_has_ended_says_so_in_a_line(tmp_path):
    _, found = run_ranks(left_alone, 2, tmp_path)
    assert found['code'] == 2 and found['err'].splitlines() == [
        'error: Another process of this run has ended, and this one cannot go on without it; its message says why.']
