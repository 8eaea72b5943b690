"""What `tools/doctor.py` shows: the machine, its libraries, and what of them limits a run."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from clear.core.machine import accelerators, host
from clear.core.machine.libraries import NAME, libraries, missing_extras
from clear.core.machine.limits import Machine, limits, obstacles, size
from clear.core.machine.places import Place, place

_VARIABLES = ('CUDA_VISIBLE_DEVICES', 'TMPDIR')
# Shown by name; the rest of the core is shown where it does not fit.
_SHOWN = ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv-lite', 'mmpretrain', 'avalanche-lib', 'open_clip_torch',
          'timm')


def examine(work_dir: str | Path = '.') -> Machine:
    """Ask everything of this machine; takes as long as importing torch does.

    Args:
        work_dir: where results would be written.
    """
    asked = accelerators.start_torch()
    version, count = accelerators.driver()
    shared = Path('/dev/shm')
    return Machine(
        python=sys.version_info[:3], libraries=libraries(), driver=version, driver_gpus=count,
        processor=host.processor(), memory=host.memory(), open_files=host.open_files(), work=place(work_dir),
        temporary=_temporary(), shared=place(shared) if shared.is_dir() else None,
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        torch=accelerators.finish_torch(asked))


def _temporary() -> Place | None:
    try:
        return place(tempfile.gettempdir())
    except FileNotFoundError:
        return None


def report(machine: Machine) -> str:
    """The page of the terminal."""
    lines = [*_versions(machine), '', *_devices(machine), '', *_room(machine), '', *_extras(machine)]
    for title, sentences, none in (('makes runs impossible', obstacles(machine), None),
                                   ('what of this will limit a run', limits(machine), 'nothing that is known of')):
        if sentences or none:
            lines += ['', title, *(f'  - {each}' for each in sentences or [none])]
    return '\n'.join(lines)


def as_plain(machine: Machine) -> dict[str, object]:
    """The same for programs: every fact, and the sentences."""
    facts = asdict(machine)
    facts['libraries'] = [{**asdict(each), 'fits': each.fits} for each in machine.libraries]
    return {**facts, 'usable_cpus': machine.processor.usable, 'usable_memory': machine.memory.usable,
            'missing_extras': {name: command(name) for name in missing_extras(machine.libraries)},
            'obstacles': obstacles(machine), 'limits': limits(machine)}


def command(extra: str) -> str:
    """What installs an extra."""
    return f"pip install '{NAME}[{extra}]'"


def _versions(machine: Machine) -> list[str]:
    rows = [('python', '.'.join(map(str, machine.python)), '>=3.11', '')]
    for each in machine.libraries:
        if not each.extra and (each.name in _SHOWN or not each.fits):
            mark = '' if each.fits else '  <- missing' if each.found is None else '  <- not in the range'
            rows.append((each.name, each.found or '-', each.wanted, mark))
    return ['versions', *(f'  {name:<18}{found:<18}{wanted}{mark}' for name, found, wanted, mark in rows)]


def _devices(machine: Machine) -> list[str]:
    cpu, torch = machine.processor, machine.torch
    quota = f', quota {cpu.quota:g}' if cpu.quota else ''
    lines = ['devices', _row('cpu', f'{cpu.model or "unknown"}, {cpu.usable} of {cpu.count} usable{quota}')]
    sets = 'unknown' if cpu.instructions is None else ' '.join(cpu.instructions) or 'none of note'
    lines.append(_row('instructions', sets + (f' (torch uses {torch.kernels})' if torch.kernels else '')))
    told = ''.join(f', {name}={value}' for name, value in cpu.variables.items())
    lines.append(_row('torch threads', f'{torch.threads or "unknown"}{told}'))
    lines += [_row(f'gpu {index}', f'{gpu.name}, {size(gpu.free)} of {size(gpu.memory)} free'
                   f'{", bfloat16" if gpu.bf16 else ""}') for index, gpu in enumerate(torch.gpus)]
    if not torch.gpus:
        lines.append(_row('gpu', 'mps' if torch.mps else 'none' if torch.version else 'unknown'))
    return [*lines, *([_row('driver', machine.driver)] if machine.driver else [])]


def _room(machine: Machine) -> list[str]:
    memory = machine.memory
    lines = ['room', _row('memory', f'{_size(memory.usable)} free of {_size(memory.total)}'
                          + (f', limit {size(memory.limit)}' if memory.limit is not None else ''))]
    for name, each in (('results', machine.work), ('temporary', machine.temporary), ('shared memory', machine.shared)):
        if each is None:
            lines.append(_row(name, 'none'))
        else:
            lines.append(_row(name, f'{_size(each.free)} free of {_size(each.total)}, {each.kind or "unknown"}, '
                              f'{each.path}' if each.answers else f'{each.path} does not answer'))
    soft, hard = ('any' if each < 0 else str(each) for each in machine.open_files)
    return [*lines, _row('open files', f'{soft}, at most {hard}')]


def _extras(machine: Machine) -> list[str]:
    missing = missing_extras(machine.libraries)
    if not missing:
        return ['extras', '  all installed']
    return ['extras that are missing or in part (needed only for what docs say of them)',
            *(f'  {command(extra):<48}{", ".join(each.name for each in lacking)}' for extra, lacking in
              missing.items())]


def _row(name: str, text: str) -> str:
    return f'  {name:<18}{text}'


def _size(count: int | None) -> str:
    return 'unknown' if count is None else size(count)
