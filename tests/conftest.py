"""Settings of every test: no network, one thread, no display; and what ends a run that would not end by itself."""

import faulthandler
import gc
import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('WANDB_MODE', 'offline')
os.environ.setdefault('MPLBACKEND', 'Agg')
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('CLEAR_SILENCE_S', '0')  # a busy machine would add lines to what programs are expected to say

sys.path.insert(0, str(Path(__file__).parent / 'helpers'))  # imported by name, from every folder of tests

import pytest  # noqa: E402
from _pytest.faulthandler import fault_handler_stderr_fd_key  # noqa: E402

COLLECTION_TIMEOUT_S = 300
_lost_workers = []

# The libraries make some million objects and no garbage. Looking through them while they are imported, again and
# again in the tests, and last when the process ends takes a tenth of its time.
gc.disable()


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Few cores run several test processes: more threads, unless asked for, would only wait for each other."""
    import torch

    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))


@pytest.fixture(scope='module', autouse=True)
def frozen_imports():
    """A program called in this process would thaw what is frozen, and every later collection look through it."""
    from clear.core.programs import startup

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(startup, 'gc', SimpleNamespace(disable=gc.disable, enable=gc.enable, freeze=lambda: None,
                                                     unfreeze=lambda: None))
        yield


@pytest.fixture(scope='module', autouse=True)
def no_garbage_left():
    """Models in cycles are few objects and many bytes: the collector, which counts objects, would let them pile up."""
    yield
    gc.collect()


@pytest.fixture(scope='module', autouse=True)
def blank_figures():
    """Runs draw no figures. What tests figures makes this a fixture that does nothing, or asks for `drawn_figures`."""
    from blank_figures import BLANK, drawing_by

    with drawing_by(BLANK):
        yield


@pytest.fixture
def drawn_figures():
    from blank_figures import DRAWN, drawing_by

    with drawing_by(DRAWN):
        yield


@pytest.fixture(scope='module', autouse=True)
def unformatted_configs():
    """Runs keep their config as one long line per value: yapf takes longer than a tiny training.

    Where the form matters, a test asks for `formatted_configs`.
    """
    from mmengine.config import config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, 'FormatCode', lambda text, **options: (text, True))
        yield


@pytest.fixture
def formatted_configs(monkeypatch):
    from mmengine.config import config
    from yapf.yapflib.yapf_api import FormatCode

    monkeypatch.setattr(config, 'FormatCode', FormatCode)


# pytest-timeout's signal is not heard inside C code, and after a failure it is switched off while fixtures are torn
# down. So each step of a test also starts a clock of C's own, which prints all stacks and ends the process.


def _end_process_after(config, seconds):
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[fault_handler_stderr_fd_key])


def _watch(item):
    mark = item.get_closest_marker('timeout')
    asked, default = item.config.getoption('timeout'), item.config.getini('timeout')
    limit = float(mark.args[0] if mark and mark.args else default if asked is None else asked)
    if limit > 0:
        _end_process_after(item.config, 1.1 * limit + 5)  # later than the signal, which only fails the test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    _watch(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    _watch(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    _watch(item)


def pytest_runtest_logfinish():
    faulthandler.cancel_dump_traceback_later()


def pytest_collection(session):
    """In a worker; the process that waits for workers collects nothing."""
    if not session.config.pluginmanager.hasplugin('dsession'):
        _end_process_after(session.config, COLLECTION_TIMEOUT_S)


def pytest_collection_finish():
    faulthandler.cancel_dump_traceback_later()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    gc.freeze()


# A worker that died takes its test file with it: pytest-xdist may wait for ever for somebody to run it.


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    if report.when == '???':  # pytest-xdist's report of the test that a worker was at when it died
        pytest.exit(report.longrepr, returncode=1)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    if error:
        _lost_workers.append(node.gateway.id)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """A worker that died between two tests fails the run too."""
    if _lost_workers and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
