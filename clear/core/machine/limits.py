"""In sentences, what of a machine stops a run, and what limits one."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from clear.core.machine.accelerators import TorchReport
from clear.core.machine.host import Memory, Processor
from clear.core.machine.libraries import NAME, Library
from clear.core.machine.places import Place

GIB = 1 << 30
OLDEST_PYTHON = (3, 11)
# A process of an image run before it has read any data, with torch, mmpretrain and Avalanche imported: 1.0 GB seen.
PROCESS_BYTES = GIB
LEAST_MEMORY, LEAST_DISK, LEAST_SHARED = 4 * GIB, 5 * GIB, GIB
# mmap-ed banks, shards and loader workers each hold files open; 1,024 is what many systems give.
LEAST_FILES = 4096


@dataclass(frozen=True)
class Machine:
    """What the probes found; `clear.core.machine.doctor.examine` fills it."""

    python: tuple[int, int, int]
    libraries: list[Library]
    torch: TorchReport
    driver: str | None
    driver_gpus: int
    processor: Processor
    memory: Memory
    open_files: tuple[int, int]
    work: Place
    temporary: Place | None
    shared: Place | None
    variables: dict[str, str] = field(default_factory=dict)


def obstacles(machine: Machine) -> list[str]:
    """What makes every run impossible here; empty if nothing does."""
    found = []
    if machine.python[:2] < OLDEST_PYTHON:
        version = '.'.join(map(str, machine.python))
        found.append(f'This is Python {version}; the framework needs 3.11 or newer.')
    absent = [each for each in machine.libraries if not each.extra and each.found is None]
    if absent:
        names = ', '.join(each.name for each in absent)
        found.append(f"Missing: {names}. pip install '{NAME}' brings them.")
    elif machine.torch.version is None and not machine.torch.late:
        found.append(f'torch is installed and cannot be used: {machine.torch.error}.')
    if machine.temporary is None:
        found.append('No folder for temporary files can be written, and reading a config makes one: set TMPDIR.')
    usable = machine.memory.usable
    if usable is not None and usable < PROCESS_BYTES:
        found.append(f'{size(usable)} of memory are free; a run takes about 1 GiB before it has read any data.')
    return found


def limits(machine: Machine) -> list[str]:
    """What slows a run here, or ends one that asks for more; empty if nothing does."""
    return [*_of_libraries(machine), *_of_devices(machine), *_of_processors(machine), *_of_memory(machine),
            *_of_places(machine), *_of_files(machine)]


def _of_libraries(machine: Machine) -> Iterator[str]:
    for each in machine.libraries:
        if not each.extra and each.found is not None and not each.fits:
            yield (f'{each.name} is {each.found}; this version was tested with {each.wanted}. Runs may fail, or give '
                   f"other numbers: pip install '{each.name}{each.wanted}'.")


def _of_devices(machine: Machine) -> Iterator[str]:
    torch, visible = machine.torch, machine.variables.get('CUDA_VISIBLE_DEVICES')
    if torch.late:
        yield (f'{torch.error}: a first import from a slow disk, a busy machine, or a driver that hangs. Ask again; if '
               'it stays so, runs wait as long, or for ever.')
    elif torch.error and torch.version:
        yield f'torch cannot look at the GPUs: {torch.error}.'
    if not torch.gpus and machine.driver:
        if torch.version and torch.cuda is None:
            yield (f'There is a driver of NVIDIA ({machine.driver}), but this torch ({torch.version}) is built for '
                   'CPUs alone. Install the build that pytorch.org names for this driver.')
        elif visible is not None:
            yield f"CUDA_VISIBLE_DEVICES is '{visible}', and torch sees no GPU; without the variable it may see one."
        elif torch.version:
            yield (f'There is a driver of NVIDIA ({machine.driver}), but torch ({torch.version}, CUDA {torch.cuda}) '
                   'sees no GPU: the driver may be too old for that CUDA, or the container was started without GPUs.')
    elif torch.gpus and machine.driver_gpus > len(torch.gpus):
        yield f'The driver has {machine.driver_gpus} GPUs; torch sees {len(torch.gpus)}, so no run takes more.'
    if torch.mps:
        yield 'The GPU of this Mac is not used unless a run says --device mps, which is not tested.'
    elif torch.version and not torch.gpus:
        yield ('No GPU: everything runs on the CPU. Heads on stored features and small nets take minutes; pretraining '
               'a ResNet-50 on a million images takes months.')
    if torch.gpus and not all(gpu.bf16 for gpu in torch.gpus):
        yield 'A GPU here has no bfloat16: --amp takes float16 with a loss scale.'
    for gpu in torch.gpus:
        if gpu.free < gpu.memory // 2:
            yield f'{gpu.name}: {size(gpu.free)} of {size(gpu.memory)} are free; another process holds the rest.'


def _of_processors(machine: Machine) -> Iterator[str]:
    cpu, threads = machine.processor, machine.torch.threads
    if cpu.usable < cpu.count:
        why = f'a quota of {cpu.quota:g}' if cpu.quota and cpu.quota < cpu.allowed else f'{cpu.allowed} allowed'
        yield (f'This process may use {cpu.usable} of {cpu.count} CPUs ({why}): num_workers and threads beyond that '
               'wait for each other.')
    if threads and threads > cpu.usable:
        yield (f'torch would start {threads} threads for {cpu.usable} CPUs, which is slower than {cpu.usable}: set '
               f'OMP_NUM_THREADS={cpu.usable}, or threads={cpu.usable} in the config.')
    elif threads and threads < cpu.usable // 2:
        named = [name for name in cpu.variables if cpu.variables[name] == str(threads)]
        yield (f'torch uses {threads} of {cpu.usable} CPUs{f", as {named[0]} says" if named else ""}: threads='
               f'{cpu.usable} in the config uses all of them in a run.')
    if cpu.instructions is None:
        return
    if 'avx2' not in cpu.instructions and 'neon' not in cpu.instructions:
        yield 'The CPU has no AVX2: products of matrices run many times slower than on any server of today.'
    elif 'avx2' in cpu.instructions and 'avx512' not in cpu.instructions:
        yield ('The CPU has AVX2 and no AVX-512: the speeds of the docs are of AVX-512. Numbers may differ in their '
               'last digits from those of another kind of CPU.')
    if 'bf16' not in cpu.instructions and not machine.torch.gpus:
        yield 'The CPU has no bfloat16 instructions: --amp is slower here than without.'


def _of_memory(machine: Machine) -> Iterator[str]:
    memory, usable = machine.memory, machine.memory.usable
    if memory.limit is not None and memory.total is not None and memory.limit < memory.total:
        yield (f'The control group allows {size(memory.limit)} of the machine\'s {size(memory.total)} of memory: a run '
               'that takes more is killed without a message. scenario.cache and num_workers are what takes it.')
    if usable is not None and PROCESS_BYTES <= usable < LEAST_MEMORY:
        yield (f'{size(usable)} of memory are free; a run takes about 1 GiB before it has read any data, and so does '
               'each process of tools/dist_train.sh.')


def _of_places(machine: Machine) -> Iterator[str]:
    places = {'The folder for results': machine.work, 'The folder for temporary files': machine.temporary}
    for what, place in places.items():
        if place is None:
            continue
        if not place.answers:
            yield f'{what} ({place.path}) does not answer: its file system hangs.'
            continue
        if not place.writable:
            yield (f'{what} ({place.path}) cannot be written: '
                   f'{"choose another --work-dir" if place is machine.work else "set TMPDIR"}.')
        if place.free is not None and place.free < LEAST_DISK and place is machine.work:
            yield (f'{size(place.free)} are free for results ({place.path}); one checkpoint of a ResNet-50 with SGD '
                   'takes 0.2 GiB, and there is one after every bucket (checkpoint_config.max_keep keeps fewer).')
        if place.is_remote and place is machine.work:
            yield (f'{what} ({place.path}) lies on a network ({place.kind}): keep banks and images on a local disk, '
                   'and start no two runs in one folder from two machines.')
        if place.locks is False:
            yield f'{what} ({place.path}) has no locks: nothing keeps two runs apart that write into one folder.'
    shared = machine.shared
    if shared is not None and shared.answers and shared.free is not None and shared.free < LEAST_SHARED:
        yield (f'{size(shared.free)} of shared memory ({shared.path}); a batch of 256 images of 224 pixels takes '
               '0.14 GiB, and each loader worker holds two: num_workers=0, or start the container with --shm-size=8g.')


def _of_files(machine: Machine) -> Iterator[str]:
    soft, hard = machine.open_files
    if 0 <= soft < LEAST_FILES:
        more = LEAST_FILES if hard < 0 else min(LEAST_FILES, hard)
        remedy = f': ulimit -n {more}' if more > soft else ', and so is the most it may ask for'
        yield f'A process may hold {soft} files open ({errno.errorcode[errno.EMFILE]} beyond), which many loader ' \
              f'workers reach{remedy}.'


def size(count: int) -> str:
    """Bytes for people: '3.1 GiB'."""
    for unit, name in ((1 << 40, 'TiB'), (GIB, 'GiB'), (1 << 20, 'MiB')):
        if count >= unit:
            return f'{count / unit:.1f} {name}'
    return f'{count} bytes'
