"""What torch says of this machine, asked in a process of its own: a broken driver may hang or kill that one alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ANSWER_S = 20.0
_QUESTIONS = '''
import json, torch
found = dict(version=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip,
             threads=torch.get_num_threads(), kernels=torch.backends.cpu.get_cpu_capability(), gpus=[], mps=False)
try:
    found['mps'] = torch.backends.mps.is_available()
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            free = torch.cuda.mem_get_info(index)[0]
            found['gpus'].append(dict(name=gpu.name, memory=gpu.total_memory, free=free, bf16=gpu.major >= 8))
except Exception as error:
    found['error'] = str(error).splitlines()[0]
print(json.dumps(found))
'''


@dataclass(frozen=True)
class Gpu:
    """Bytes of memory, free ones, and whether it computes in bfloat16."""

    name: str
    memory: int
    free: int
    bf16: bool


@dataclass(frozen=True)
class TorchReport:
    """`error` says why torch gave no answer, or none on GPUs; the rest is then empty as far as it is unknown. `late`:
    it gave none in time, and may give one later.
    """

    version: str | None = None
    cuda: str | None = None
    hip: str | None = None
    threads: int | None = None
    kernels: str | None = None
    gpus: list[Gpu] = field(default_factory=list)
    mps: bool = False
    error: str | None = None
    late: bool = False


def start_torch(code: str = _QUESTIONS) -> subprocess.Popen:
    """Begin to ask; `finish_torch` takes the answer."""
    return subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, errors='replace')


def finish_torch(process: subprocess.Popen, seconds: float = ANSWER_S) -> TorchReport:
    """What torch says, or why it says nothing."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return TorchReport(error=f'import torch and a look at the GPUs took more than {seconds:g} s', late=True)
    if process.returncode < 0:
        return TorchReport(error=f'import torch ended by signal {-process.returncode}')
    try:
        answer = json.loads(out.splitlines()[-1])
        return TorchReport(**{**answer, 'gpus': [Gpu(**gpu) for gpu in answer['gpus']]})
    except (IndexError, ValueError, TypeError, KeyError):
        return TorchReport(error=(err.strip().splitlines() or ['torch gave no answer'])[-1])


def driver(root: Path = Path('/')) -> tuple[str | None, int]:
    """The version of NVIDIA's driver, and how many GPUs it has; (None, 0) without one."""
    try:
        text = (root / 'proc/driver/nvidia/version').read_text(errors='replace')
    except OSError:
        return None, 0
    found = re.search(r'Kernel Module[^\d]*([\d.]+)', text)
    try:
        count = len(list((root / 'proc/driver/nvidia/gpus').iterdir()))
    except OSError:
        count = 0
    return found[1] if found else 'unknown', count
