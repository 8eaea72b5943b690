"""torchrun with another end: the exit code of the process that failed, and no traceback of its own.

    python -m clear.core.programs.launcher --standalone --nproc_per_node 2 tools/train.py CONFIG --launcher pytorch
"""

from __future__ import annotations

import logging
import signal
import sys

from clear.core.programs.program import run_program

# Of a process that has said itself what was wrong.
_TOLD = (2, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    """Start processes as torchrun does, hand signals on to them, and wait; the exit code."""
    return run_program(lambda: _launch(argv))


def _launch(argv: list[str] | None) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logging.disable(logging.ERROR)  # the processes log for themselves
    try:
        torchrun(argv)
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as failed:
        codes = [failure.exitcode for failure in failed.failures.values()]
        code = next((code for code in _TOLD if code in codes), None)
        # torchrun stops the others once one has ended.
        if code is not None and all(each in (code, -signal.SIGTERM, 128 + signal.SIGTERM) for each in codes):
            return code
        sys.stderr.write(f'{failed}\n')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
