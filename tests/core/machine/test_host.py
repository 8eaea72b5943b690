"""Processors, memory and limits as the files of /proc and /sys tell them, in all the forms that these have."""

import os

import pytest

from clear.core.machine import host

V1_NO_LIMIT = '9223372036854771712'


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize('files, quota', [
    ({}, None),
    ({'sys/fs/cgroup/cpu.max': 'max 100000\n'}, None),
    ({'sys/fs/cgroup/cpu.max': '250000 100000\n'}, 2.5),
    ({'proc/self/cgroup': '0::/a/b\n', 'sys/fs/cgroup/a/cpu.max': '400000 100000',
      'sys/fs/cgroup/a/b/cpu.max': 'max 100000'}, 4.0),  # the group above binds too
    ({'proc/self/cgroup': '0::/a/b\n', 'sys/fs/cgroup/a/cpu.max': '400000 100000',
      'sys/fs/cgroup/a/b/cpu.max': '150000 100000'}, 1.5),
    ({'proc/self/cgroup': '0::/docker/of/the/host\n', 'sys/fs/cgroup/cpu.max': '100000 50000'}, 2.0),
    ({'proc/self/cgroup': '4:cpu,cpuacct:/job\n', 'sys/fs/cgroup/cpu/job/cpu.cfs_quota_us': '300000\n',
      'sys/fs/cgroup/cpu/job/cpu.cfs_period_us': '100000\n'}, 3.0),
    ({'proc/self/cgroup': '4:cpu,cpuacct:/job\n', 'sys/fs/cgroup/cpu/job/cpu.cfs_quota_us': '-1\n',
      'sys/fs/cgroup/cpu/job/cpu.cfs_period_us': '100000\n'}, None),
    ({'proc/self/cgroup': 'nonsense\n0::/../../etc\n', 'sys/fs/cgroup/cpu.max': 'many of\n'}, None),
    ({'sys/fs/cgroup/cpu.max': '100000 0'}, None),
])
def test_cpu_quota_is_the_smallest_of_the_groups(tmp_path, files, quota):
    assert host.cpu_quota(write(tmp_path, files)) == quota


@pytest.mark.parametrize('files, limit, used', [
    ({'sys/fs/cgroup/memory.max': 'max'}, None, None),
    ({'sys/fs/cgroup/memory.max': '8000000000', 'sys/fs/cgroup/memory.current': '3000000000',
      'sys/fs/cgroup/memory.stat': 'anon 5\ninactive_file 1000000000\n'}, 8_000_000_000, 2_000_000_000),
    ({'proc/self/cgroup': '3:memory:/job\n', 'sys/fs/cgroup/memory/job/memory.limit_in_bytes': '4000',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': V1_NO_LIMIT,
      'sys/fs/cgroup/memory/job/memory.usage_in_bytes': '1000'}, 4000, 1000),
    ({'sys/fs/cgroup/memory/memory.limit_in_bytes': V1_NO_LIMIT}, None, None),
    ({'sys/fs/cgroup/memory.max': ''}, None, None),
])
def test_memory_of_the_group(tmp_path, files, limit, used):
    found = host.memory(write(tmp_path, {**files, 'proc/meminfo': 'MemTotal:  9000 kB\nMemAvailable:   7000 kB\n'}))
    assert (found.total, found.available, found.limit, found.used) == (9000 << 10, 7000 << 10, limit, used)
    assert found.usable == min(7000 << 10, 7000 << 10 if limit is None else limit - used)


def test_memory_of_an_odd_system_is_unknown(tmp_path):
    assert host.memory(tmp_path) == host.Memory(None, None, None, None)
    assert host.memory(tmp_path).usable is None


@pytest.mark.parametrize('text, model, instructions', [
    ('model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16\n', 'AMD EPYC', ('avx2', 'avx512', 'bf16')),
    ('model name\t: Xeon\nflags\t\t: avx2 avx512f amx_bf16 amx_tile\n', 'Xeon', ('avx2', 'avx512', 'bf16', 'amx')),
    ('CPU part\t: 0xd40\nFeatures\t: fp asimd bf16 sve\n', '0xd40', ('bf16', 'neon', 'sve')),
    ('model name\t: Old\nflags\t\t: sse2\n', 'Old', ()),
    ('', None, None),
])
def test_instruction_sets(tmp_path, monkeypatch, text, model, instructions):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    monkeypatch.delenv('MKL_NUM_THREADS', raising=False)
    found = host.processor(write(tmp_path, {'proc/cpuinfo': text}))
    assert (found.model, found.instructions) == (model, instructions)
    assert found.variables == {'OMP_NUM_THREADS': '3'}


@pytest.mark.parametrize('allowed, quota, usable', [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (2, 6.0, 2), (4, 0.1, 1)])
def test_usable_cpus(allowed, quota, usable):
    assert host.Processor(None, 64, allowed, quota, None, {}).usable == usable


def test_this_machine():
    found = host.processor()
    assert 1 <= found.usable <= found.count == os.cpu_count()
    assert host.open_files()[0] != 0
