"""Probes of frozen encoders, from command-line arguments to a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.engine.base import MeasuringProgram
from clear.engine.probing.keys import KNOWN, check_probe_config, with_defaults
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.probing.runner import ProbeRunner


@RUNNERS.register_module('ProbeRunner')
class ProbeProgram(MeasuringProgram):
    """Runs every task on every encoder (see `clear.engine.probing.runner`)."""

    KEYS = KNOWN
    FILES = ('results.csv', 'jobs.json', 'report.html', 'jobs/*', 'failures/*.txt', 'figures/*.png')

    @classmethod
    @building('The config')
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """See `check_probe_config`."""
        if program == 'test':
            raise ConfigError('tools/test.py evaluates checkpoints of training; run a probing config with '
                              'tools/train.py.')
        if program == 'train':
            check_probe_config(with_defaults(cfg))

    def measuring(self) -> ProbeRunner:
        """The runner of the jobs."""
        from clear.engine.probing.runner import ProbeRunner

        return ProbeRunner(self.cfg, self.work_dir, is_checked=True)
