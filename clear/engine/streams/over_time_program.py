"""An encoder over time, from command-line arguments to finished matrices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.engine.base import MeasuringProgram
from clear.engine.streams.over_time_keys import KNOWN, check_over_time_config, with_defaults
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.streams.over_time import RepresentationOverTime


@RUNNERS.register_module('OverTimeRunner')
class OverTimeProgram(MeasuringProgram):
    """Probes every checkpoint on every time bucket (see `clear.engine.streams.over_time`)."""

    KEYS = KNOWN
    FILES = ('results.csv', 'cells.json', 'figures/*.png', 'report.html')

    @classmethod
    @building('The config')
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """See `check_over_time_config`."""
        if program == 'test':
            raise ConfigError('tools/test.py evaluates checkpoints of training; run a config of an encoder over time '
                              'with tools/train.py.')
        if program == 'train':
            check_over_time_config(with_defaults(cfg))
            if cfg.get('name') and not cfg.get('work_dir'):
                # The folder that such a config had before it had a runner; what is finished lies there.
                cfg['work_dir'] = str(Path('work_dirs') / cfg['name'])

    def measuring(self) -> RepresentationOverTime:
        """What fills the matrices."""
        from clear.engine.streams.over_time import RepresentationOverTime

        return RepresentationOverTime(self.cfg, self.work_dir, is_checked=True)
