"""Each limit has its sentence, and a machine without limits has none."""

from dataclasses import replace

import pytest

from clear.core.machine.accelerators import Gpu, TorchReport
from clear.core.machine.host import Memory, Processor
from clear.core.machine.libraries import Library
from clear.core.machine.limits import GIB, Machine, limits, obstacles, size
from clear.core.machine.places import Place

GPU = Gpu('H200', 140 * GIB, 139 * GIB, True)
DISK = Place('/work', True, 500 * GIB, 900 * GIB, 'ext4', True, True)
CPU = Processor('EPYC', 16, 16, None, ('avx2', 'avx512', 'bf16'), {})
TORCH = TorchReport('2.14.1', '13.0', None, 16, 'AVX512', [GPU])
GOOD = Machine((3, 12, 1), [Library('torch', '>=2.9,<2.15', '2.14.1', '')], TORCH, '550.1', 1, CPU,
               Memory(128 * GIB, 120 * GIB, None, None), (20000, 20000), DISK, replace(DISK, path='/tmp'),
               Place('/dev/shm', True, 64 * GIB, 64 * GIB, 'tmpfs', True, True))


def test_a_good_machine_limits_nothing():
    assert limits(GOOD) == [] and obstacles(GOOD) == []


@pytest.mark.parametrize('change, text', [
    (dict(python=(3, 10, 2)), 'Python 3.10.2'),
    (dict(libraries=[Library('torch', '>=2.9', None, '')]), 'Missing: torch'),
    (dict(torch=TorchReport(error='libcudart.so.13')), 'cannot be used: libcudart.so.13.'),
    (dict(temporary=None), 'TMPDIR'),
    (dict(memory=Memory(8 * GIB, 8 * GIB, GIB, GIB // 2)), '512.0 MiB of memory'),
])
def test_what_makes_runs_impossible(change, text):
    [sentence] = obstacles(replace(GOOD, **change))
    assert text in sentence


@pytest.mark.parametrize('change, text', [
    (dict(libraries=[Library('timm', '==1.0.31', '1.1', '')]), "pip install 'timm==1.0.31'"),
    (dict(torch=replace(TORCH, error='no cuda', gpus=[]), driver=None), 'cannot look at the GPUs: no cuda'),
    (dict(torch=TorchReport(error='took more than 20 s', late=True), driver=None), 'took more than 20 s: '),
    (dict(torch=replace(TORCH, gpus=[], cuda=None)), 'built for CPUs alone'),
    (dict(torch=replace(TORCH, gpus=[])), 'may be too old for that CUDA'),
    (dict(torch=replace(TORCH, gpus=[]), variables={'CUDA_VISIBLE_DEVICES': ''}), "CUDA_VISIBLE_DEVICES is ''"),
    (dict(torch=replace(TORCH, gpus=[]), driver=None), 'No GPU'),
    (dict(torch=replace(TORCH, gpus=[], mps=True), driver=None), '--device mps'),
    (dict(driver_gpus=8), 'The driver has 8 GPUs; torch sees 1'),
    (dict(torch=replace(TORCH, gpus=[replace(GPU, bf16=False)])), 'no bfloat16: --amp takes float16'),
    (dict(torch=replace(TORCH, gpus=[replace(GPU, free=GIB)])), '1.0 GiB of 140.0 GiB are free'),
    (dict(processor=replace(CPU, quota=4.0), torch=replace(TORCH, threads=4)), '4 of 16 CPUs (a quota of 4)'),
    (dict(processor=replace(CPU, allowed=4), torch=replace(TORCH, threads=4)), '4 of 16 CPUs (4 allowed)'),
    (dict(processor=replace(CPU, quota=4.0)), 'OMP_NUM_THREADS=4, or threads=4'),
    (dict(processor=replace(CPU, variables={'OMP_NUM_THREADS': '1'}), torch=replace(TORCH, threads=1)),
     'torch uses 1 of 16 CPUs, as OMP_NUM_THREADS says'),
    (dict(processor=replace(CPU, instructions=('bf16',))), 'no AVX2'),
    (dict(processor=replace(CPU, instructions=('avx2', 'bf16'))), 'no AVX-512'),
    (dict(processor=replace(CPU, instructions=('avx2', 'avx512')), torch=replace(TORCH, gpus=[]), driver=None),
     'no bfloat16 instructions'),
    (dict(memory=Memory(128 * GIB, 120 * GIB, 16 * GIB, GIB)), "allows 16.0 GiB of the machine's 128.0 GiB"),
    (dict(memory=Memory(8 * GIB, 2 * GIB, None, None)), '2.0 GiB of memory are free'),
    (dict(work=Place('/work', answers=False)), 'does not answer'),
    (dict(work=replace(DISK, writable=False)), 'choose another --work-dir'),
    (dict(temporary=replace(DISK, writable=False)), 'set TMPDIR'),
    (dict(work=replace(DISK, free=GIB)), '1.0 GiB are free for results'),
    (dict(work=replace(DISK, kind='nfs4')), 'network (nfs4)'),
    (dict(work=replace(DISK, locks=False)), 'has no locks'),
    (dict(shared=replace(DISK, path='/dev/shm', free=64 << 20)), '64.0 MiB of shared memory'),
    (dict(open_files=(1024, 500000)), 'ulimit -n 4096'),
    (dict(open_files=(256, 256)), 'the most it may ask for'),
])
def test_what_limits_a_run(change, text):
    machine = replace(GOOD, **change)
    found = limits(machine)
    assert sum(text in each for each in found) == 1, found
    assert obstacles(machine) == []


@pytest.mark.parametrize('change', [
    dict(memory=Memory(None, None, None, None), shared=None, open_files=(-1, -1), driver=None),
    dict(processor=replace(CPU, model=None, instructions=None)),
    dict(work=replace(DISK, free=None, total=None, kind=None, locks=None)),
])
def test_what_is_unknown_limits_nothing(change):
    assert limits(replace(GOOD, **change)) == [] == obstacles(replace(GOOD, **change))


@pytest.mark.parametrize('count, text', [(5, '5 bytes'), (1 << 20, '1.0 MiB'), (3 * GIB // 2, '1.5 GiB'),
                                         (1 << 41, '2.0 TiB')])
def test_sizes(count, text):
    assert size(count) == text
