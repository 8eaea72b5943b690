"""Processors, memory and limits of this process, as Linux tells them. What cannot be read is None, never an error."""

from __future__ import annotations

import math
import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path

# Above this a limit is the kernel's way of saying that there is none (v1 writes 2**63 rounded to pages).
_NO_LIMIT = 1 << 60
# Flags of /proc/cpuinfo (x86, then Arm) -> what runs with them.
INSTRUCTIONS = {'avx2': ('avx2',), 'avx512': ('avx512f',), 'bf16': ('avx512_bf16', 'amx_bf16', 'bf16'),
                'amx': ('amx_tile',), 'neon': ('asimd',), 'sve': ('sve',)}
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')


@dataclass(frozen=True)
class Processor:
    """`count`: CPUs of the machine; `allowed`: those of this process; `quota`: CPUs' worth of time of its group."""

    model: str | None
    count: int
    allowed: int
    quota: float | None
    instructions: tuple[str, ...] | None
    variables: dict[str, str]

    @property
    def usable(self) -> int:
        """Threads that can run at once."""
        return max(1, min(self.allowed, math.ceil(self.quota) if self.quota else self.allowed))


@dataclass(frozen=True)
class Memory:
    """Bytes: of the machine, free in it, the limit of this process's group, and what the group uses of that."""

    total: int | None
    available: int | None
    limit: int | None
    used: int | None

    @property
    def usable(self) -> int | None:
        """What a new process can still take."""
        left = None if self.limit is None else max(0, self.limit - (self.used or 0))
        known = [value for value in (self.available, left) if value is not None]
        return min(known, default=None)


def processor(root: Path = Path('/')) -> Processor:
    """Model, number, quota and instruction sets of the processors.

    Args:
        root: where `proc` and `sys` lie.
    """
    text = _read(root / 'proc/cpuinfo') or ''
    fields = dict(re.findall(r'^([\w ]+?)\s*: (.*)$', text, re.MULTILINE))
    flags = set((fields.get('flags') or fields.get('Features') or '').split())
    found = tuple(name for name, marks in INSTRUCTIONS.items() if flags.intersection(marks)) if flags else None
    count = os.cpu_count() or 1
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        allowed = count
    variables = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    return Processor(fields.get('model name') or fields.get('CPU part'), count, allowed, cpu_quota(root), found,
                     variables)


def cpu_quota(root: Path = Path('/')) -> float | None:
    """CPUs' worth of time that the control group of this process may take; the smallest of it and those above it."""
    quotas = []
    for folder in _groups(root, 'cpu'):
        words = (_read(folder / 'cpu.max') or '').split()
        if not words:
            words = [_read(folder / 'cpu.cfs_quota_us') or '', _read(folder / 'cpu.cfs_period_us') or '']
        quota, period = (_whole(word) for word in (*words, '')[:2])
        if quota and period and quota > 0 and period > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def memory(root: Path = Path('/')) -> Memory:
    """Memory of the machine and of the control group of this process."""
    text = _read(root / 'proc/meminfo') or ''
    kilobytes = {name: int(value) for name, value in re.findall(r'^(\w+):\s+(\d+) kB$', text, re.MULTILINE)}
    limit = used = None
    for folder in _groups(root, 'memory'):
        found = _whole(_read(folder / 'memory.max') or _read(folder / 'memory.limit_in_bytes'))
        if found is not None and found < _NO_LIMIT and (limit is None or found < limit):
            limit = found
            used = _whole(_read(folder / 'memory.current') or _read(folder / 'memory.usage_in_bytes'))
            used = None if used is None else max(0, used - _reclaimable(folder))
    total, available = (kilobytes.get(name) for name in ('MemTotal', 'MemAvailable'))
    return Memory(None if total is None else total << 10, None if available is None else available << 10, limit, used)


def open_files() -> tuple[int, int]:
    """How many files this process may hold open, and up to how many it may raise that; -1 is any number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft, hard


def _reclaimable(folder: Path) -> int:
    """Bytes of a group that are copies of files, which the kernel gives up when memory is asked for."""
    found = dict(re.findall(r'^(\w+) (\d+)$', _read(folder / 'memory.stat') or '', re.MULTILINE))
    return int(found.get('inactive_file') or found.get('total_inactive_file') or 0)


def _groups(root: Path, controller: str) -> list[Path]:
    """Folders of the control groups that bind this process: its own and those above it, of version 2 and of version 1.

    In a container the path is often the host's, and only the top folder is there.
    """
    mount, folders = root / 'sys/fs/cgroup', []
    for line in (_read(root / 'proc/self/cgroup') or '').splitlines():
        number, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if controllers and controller not in controllers.split(','):
            continue
        top = mount if number == '0' and not controllers else mount / controller
        inner = Path(path.lstrip('/'))
        if '..' not in inner.parts:
            folders += [top / each for each in (inner, *inner.parents)]
    # With no list of groups at all, the usual places.
    return list(dict.fromkeys([*folders, mount, mount / controller]))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors='replace')
    except OSError:
        return None


def _whole(text: str | None) -> int | None:
    try:
        return int(text or '')
    except ValueError:
        return None
