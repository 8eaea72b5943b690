"""A run inside somebody else's process, such as a notebook's: everything global is afterwards as it was before."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import random
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from clear.core.errors import BusyError
from clear.core.logs import logger

_inside = threading.RLock()


@contextmanager
def as_guest(wait_s: float = 0.0) -> Iterator[None]:
    """Run the block with torch's own settings, and put back what it changes, however it ends.

    That is: the log's handlers, the states of the random generators, torch's settings, the garbage collector, the
    current folder, `sys.path`, the environment, filters of warnings, the start method of processes, threads of OpenCV,
    what mmengine keeps by name, and matplotlib's settings. What was imported stays imported.

    Args:
        wait_s: how long to wait for another thread of this process that is inside.

    Raises:
        BusyError: if it stays there: random numbers and signals are the process's.
    """
    if not _inside.acquire(timeout=wait_s):
        raise BusyError('Another run is under way in this process, and random numbers belong to the process. Wait for '
                        'it, or start a process for each.')
    try:
        with ExitStack() as stack:
            for keeper in (_process, _logging, _mmengine, _matplotlib, _torch, _random_numbers, _collector):
                stack.enter_context(keeper())
            yield
    finally:
        _inside.release()


@contextmanager
def _process() -> Iterator[None]:
    environment, path, folder = dict(os.environ), [*sys.path], Path.cwd()
    method, has_opencv = multiprocessing.get_start_method(allow_none=True), 'cv2' in sys.modules
    with warnings.catch_warnings():
        try:
            yield
        finally:
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
            sys.path[:] = path
            with suppress(FileNotFoundError):  # whoever removed it meant to
                os.chdir(folder)
            if multiprocessing.get_start_method(allow_none=True) != method:
                multiprocessing.set_start_method(method, force=True)
            if not has_opencv and 'cv2' in sys.modules:
                sys.modules['cv2'].setNumThreads(-1)  # as many as it begins with


@contextmanager
def _logging() -> Iterator[None]:
    kept = {log: (log.handlers[:], log.propagate, log.level) for log in (logger, logging.getLogger())}
    try:
        yield
    finally:
        for log, (handlers, propagate, level) in kept.items():
            for handler in log.handlers:
                if handler not in handlers and isinstance(handler, logging.FileHandler):
                    handler.close()
            log.handlers[:], log.propagate = handlers, propagate
            log.setLevel(level)


@contextmanager
def _mmengine() -> Iterator[None]:
    """Scopes, loggers, visualizers and message hubs, which mmengine finds by name or takes the newest of."""
    from mmengine.utils.manager import ManagerMixin

    kept = {kind: OrderedDict(kind._instance_dict) for kind in _below(ManagerMixin)}
    try:
        yield
    finally:
        for kind in _below(ManagerMixin):
            kind._instance_dict.clear()
            kind._instance_dict.update(kept.get(kind, {}))


def _below(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


@contextmanager
def _matplotlib() -> Iterator[None]:
    library = sys.modules.get('matplotlib')
    # Item by item and without its own reading, which would choose a backend.
    kept = dict(dict.items(library.rcParams)) if library is not None else None
    try:
        yield
    finally:
        if kept is not None:
            dict.update(library.rcParams, kept)


@contextmanager
def _torch() -> Iterator[None]:
    """A run begins with torch's own dtype, device and gradients, as in a process of its own."""
    kept = [(read, read(), write) for read, write in _settings()]
    device = torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    if device.type != 'cpu':
        torch.set_default_device(None)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for read, value, write in kept:
            if read() != value:
                write(value)
        if torch.get_default_device() != device:
            torch.set_default_device(device)


def _settings() -> Iterator[tuple[Callable[[], object], Callable[[object], None]]]:
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly
    yield torch.multiprocessing.get_sharing_strategy, torch.multiprocessing.set_sharing_strategy
    yield torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    for name in ('benchmark', 'deterministic', 'enabled'):
        yield (lambda name=name: getattr(torch.backends.cudnn, name),
               lambda value, name=name: setattr(torch.backends.cudnn, name, value))
    if 'cv2' in sys.modules:
        yield sys.modules['cv2'].getNumThreads, sys.modules['cv2'].setNumThreads


@contextmanager
def _random_numbers() -> Iterator[None]:
    # Asking a GPU that nobody has used would take some of its memory.
    has_cuda = torch.cuda.is_initialized()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    on_gpus = torch.cuda.get_rng_state_all() if has_cuda else []
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if has_cuda:
            torch.cuda.set_rng_state_all(on_gpus)


@contextmanager
def _collector() -> Iterator[None]:
    is_enabled, num_frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        yield
    finally:
        (gc.enable if is_enabled else gc.disable)()
        if num_frozen and not gc.get_freeze_count():
            gc.freeze()
