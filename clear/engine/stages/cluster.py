"""Workers on many machines: the tasks of a stage as tasks of Ray, on a cluster of this machine's or an existing one."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clear import __version__
from clear.core.errors import ClearError, ConfigError
from clear.core.logs import logger
from clear.core.programs.signals import SIGNALS

if TYPE_CHECKING:
    from types import ModuleType

    from ray import ObjectRef

T = TypeVar('T')
RETRIES = 3  # of a task whose worker or machine is lost; what a task itself raises ends the run
_ANSWER_S, _LOOK_S = 120.0, 1.0
_SOCKETS = 60  # of the 107 characters of a socket's path Ray itself needs some fifty
_STORE_BYTES = 80 << 20  # workers return counts: close to the least that Ray takes


@contextmanager
def cluster(folder: Path, workers: int, address: str | None = None, gpus: float = 0) -> Iterator[Cluster]:
    """Workers of a Ray cluster; one on this machine is started without an address, and ended with the block.

    Args:
        folder: what every machine must see under this path, and finds a token in.
        workers: tasks at once; 0 = as many as an existing cluster has processors.
        address: of an existing cluster: 'auto', 'HOST:PORT' or 'ray://HOST:PORT'.
        gpus: of each task, as Ray counts them.

    Raises:
        ConfigError: if Ray is not installed, the cluster cannot be reached, or one of its machines sees another folder
            or has another version of this package.
    """
    ray = _ray(address)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='ray.', dir=_short(), ignore_cleanup_errors=True) as sockets:
        _connect(ray, workers, address, gpus, sockets)
        try:
            for number, handler in handlers.items():  # Ray puts its own in place, which leaves at once
                signal.signal(number, handler)
            made = Cluster(ray, workers or int(ray.cluster_resources().get('CPU', 1)), gpus, folder.absolute())
            made.check()
            logger.info('ray       %d workers on %d machines, ready after %.1f s', made.workers, len(made.nodes),
                        time.monotonic() - started)
            yield made
        finally:
            ray.shutdown()
            if address is None:
                shutil.rmtree(sockets, ignore_errors=True)


class Cluster:
    """A cluster that is connected to; see `cluster`."""

    def __init__(self, ray: ModuleType, workers: int, gpus: float, folder: Path):
        self.workers = workers
        self.folder = folder
        self.nodes = [node for node in ray.nodes() if node['Alive'] and node['Resources'].get('CPU')]
        self._ray, self._gpus, self._cwd = ray, gpus, str(Path.cwd())

    def check(self) -> None:
        """Let every machine look for a token that is written into the folder here.

        Raises:
            ConfigError: naming the machine.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token = secrets.token_hex(16)
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob('.seen.*'):
            left.unlink()
        path = self.folder / f'.seen.{token[:8]}'
        path.write_text(token)
        try:
            asked = [self._ray.remote(_probe()).options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node['NodeID'], soft=False)
            ).remote(str(path), self._cwd, sys.path) for node in self.nodes]
            answers = self._ray.get(asked, timeout=_ANSWER_S)
        except self._ray.exceptions.GetTimeoutError as error:
            raise ConfigError(f'a machine of the Ray cluster does not answer within {_ANSWER_S:.0f} s; look at '
                              '`ray status`.') from error
        finally:
            path.unlink()
        for host, seen, has_cwd, version, python in answers:
            if seen != token:
                raise ConfigError(f'{host} does not see {self.folder}. Ray needs a work_dir on a disk that every '
                                  'machine mounts under the same path.')
            if not has_cwd:
                raise ConfigError(f'{host} has no folder {self._cwd}, to which the relative paths of a config belong. '
                                  'Start from one that every machine has.')
            if (version, python) != (__version__, platform.python_version()):
                raise ConfigError(f'{host} has clear-framework {version} and Python {python}, this machine '
                                  f'{__version__} and {platform.python_version()}. Install the same on every machine.')

    def run(self, work: Callable[[T], int], tasks: Sequence[T], most: int) -> Iterator[int]:
        """Call `work` on every task; yields what it returns as each ends, and 0 now and then.

        A task whose worker or machine is lost is done again elsewhere.

        Args:
            most: tasks at once.

        Raises:
            ClearError: the first that a task raises, or if one is lost again and again.
        """
        waiting, left = [], list(reversed(tasks))
        while waiting or left:
            while left and len(waiting) < most:
                waiting.append(self.start(work, left.pop()))
            done = self.ended(waiting)
            waiting = [task for task in waiting if task not in done]
            yield sum(self.result(task) for task in done)

    def start(self, work: Callable[[T], object], task: T) -> ObjectRef:
        """Have `work` called on a task somewhere."""
        remote = self._ray.remote(_in_folder()).options(num_cpus=1, num_gpus=self._gpus, max_retries=RETRIES,
                                                      retry_exceptions=False)
        return remote.remote(pickle.dumps((work, task)), self._cwd, sys.path)

    def ended(self, started: Sequence[ObjectRef]) -> list[ObjectRef]:
        """Those that have ended, after a second at the most."""
        return self._ray.wait([*started], timeout=_LOOK_S)[0]

    def result(self, started: ObjectRef) -> Any:
        """What `work` returned.

        Raises:
            ClearError: what it raised, or if it was lost again and again.
        """
        try:
            return self._ray.get(started)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ClearError):
                raise error.cause from None
            raise ClearError(f'a worker of the Ray cluster failed: {error}') from error
        except self._ray.exceptions.RayError as error:
            raise ClearError(f'A worker of the Ray cluster was lost {RETRIES + 1} times, most often because memory ran '
                             f'out. What is finished is kept: go on with --resume, with fewer workers. '
                             f'({str(error).splitlines()[0]})') from error


def _ray(address: str | None) -> ModuleType:
    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    if address is None and 'ray' not in sys.modules:  # it looks at them as it is imported, and when a cluster starts
        os.environ.setdefault('RAY_AUTH_MODE', 'token')  # nobody else gets in
        os.environ.setdefault('RAY_AUTH_TOKEN', secrets.token_hex(32))
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError("engine='ray' needs Ray: pip install 'clear-framework[ray]'.") from error
    return ray


def _connect(ray: ModuleType, workers: int, address: str | None, gpus: float, sockets: str) -> None:
    quiet = dict(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    try:
        if address is None:
            ray.init(address='local', num_cpus=workers, num_gpus=None if gpus else 0, include_dashboard=False,
                     object_store_memory=_STORE_BYTES, _temp_dir=sockets,
                     _system_config=dict(task_oom_retries=RETRIES, worker_niceness=0), **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = f'the Ray cluster at {address!r} cannot be reached' if address else 'Ray cannot be started here'
        raise ConfigError(f'{where}: {str(error).strip().splitlines()[0]}') from error


def _short() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) + _SOCKETS < 107 else '/tmp'


# Ray sends the functions that are made in these two whole, so that they run before this package is found.


def _probe() -> Callable[[str, str, list[str]], tuple[str, str, bool, str, str]]:
    def look(path: str, cwd: str, modules: list[str]) -> tuple[str, str, bool, str, str]:
        import platform
        import sys
        from pathlib import Path

        try:
            seen = Path(path).read_text()
        except OSError:
            seen = ''
        sys.path += [place for place in modules if place not in sys.path]
        try:
            from clear import __version__ as version
        except ImportError:
            version = 'not installed'
        return platform.node(), seen, Path(cwd).is_dir(), version, platform.python_version()

    return look


def _in_folder() -> Callable[[bytes, str, list[str]], int]:
    def perform(call: bytes, cwd: str, modules: list[str]) -> int:
        import os
        import pickle
        import sys

        import pyarrow

        os.chdir(cwd)
        sys.path += [place for place in modules if place not in sys.path]
        pyarrow.set_cpu_count(1)
        pyarrow.set_io_thread_count(1)
        work, task = pickle.loads(call)
        return work(task)

    return perform
