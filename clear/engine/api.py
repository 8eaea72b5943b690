"""Calls for notebooks and scripts, with the results of the programs in `tools/`; they leave the process as it was.

`clear.train` is `tools/train.py`, `clear.extract` `tools/extract_features.py`, `clear.evaluate` `tools/test.py`, and
`clear.Predictor` `tools/predict.py`. What those print is printed; what they report as an error is raised.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import ConfigError
from clear.core.files import read_json
from clear.core.results import Results, software
from clear.engine import launch
from clear.engine.base import MeasuringProgram
from clear.engine.notebook.calls import NO_CONFIG, arguments, as_file, called
from clear.engine.notebook.views import Bank, Run

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


def train(config: str | Path | Mapping, work_dir: str | Path | None = None, *, resume: bool | str = False,
          overwrite: bool = False, branch: str | Path | None = None, dry_run: bool = False, **options: object) -> Run:
    """Train from a config as `tools/train.py` does, to the same bits.

    Ctrl-C (the stop button of a notebook) and SIGTERM save what is done and end the call; with `resume=True` the same
    call goes on. A call of a finished run with `resume=True` returns it.

    Args:
        config: a file, the name of a shipped one, a `Config`, or a dict, which may have `_base_`.
        work_dir: where results are written; None takes the config's, else `work_dirs/<name>`.
        resume: go on from the latest checkpoint there, or from the one of this path.
        overwrite: replace the run that the folder holds.
        branch: checkpoint of another continual run to begin behind.
        dry_run: say what would happen, train nothing.
        options: further keys of the config, `seed=1` or `cl_strategy=dict(train_epochs=2)`; what a dict does not name
            stays. `**{'cl_strategy.train_epochs': 2}` is the same.

    Raises:
        ClearError: what the program would report, among it `ConfigError` if the folder holds a run and neither
            `resume` nor `overwrite` is set, and `Interrupted`.
    """
    with called():
        args = arguments(config, options, work_dir=work_dir, resume=resume, overwrite=overwrite, branch=branch,
                          dry_run=dry_run)
        with as_file(args):
            runner = launch.run(args)
        if dry_run and not runner.work_dir.is_dir():
            return Run(None, Results(runner.cfg['name'], type(runner).__name__, 'dry run'))
        return Run(runner.work_dir)


def evaluate(config: str | Path | Mapping = NO_CONFIG, checkpoint: str | Path | None = None,
             work_dir: str | Path | None = None, *, resume: bool = False, overwrite: bool = False,
             **options: object) -> Run:
    """Measure a checkpoint of training as `tools/test.py` does, or frozen encoders on tasks as probing configs do.

    Args:
        config: as of `train`. Of a probing config all may stand in options: `evaluate(encoders=..., tasks=...)`.
        checkpoint: of a run of this config; None for a probing config.
        work_dir, resume, overwrite: of probes, see `train`.
        options: see `train`.

    Raises:
        ClearError: what the program would report.
    """
    with called():
        args = arguments(config, options, work_dir=work_dir, resume=resume, overwrite=overwrite)
        if checkpoint is None:
            with as_file(args):
                runner = launch.runner_of(launch.read_run_config(args))
                if not isinstance(runner, MeasuringProgram):
                    raise ConfigError("evaluate: give checkpoint='work_dirs/.../latest.pth'. Without one it runs "
                                      'probing configs, which have encoders and tasks.')
                runner.run(args)
            return Run(runner.work_dir)
        with as_file(args), tempfile.TemporaryDirectory() as scratch:
            args.checkpoint, args.out = str(checkpoint), str(Path(scratch) / 'measured.json')
            cfg = launch.read_run_config(args, 'test')
            launch.runner_of(cfg).test(args)
            return Run(None, _as_results(cfg, read_json(args.out)))


def extract(encoder: str | Mapping | nn.Module, data: str | Path | Mapping | None = None,
            out: str | Path | None = None, *, root: str | Path | None = None, resume: bool = True,
            overwrite: bool = False, **options: object) -> Bank:
    """Encode a data set into a feature bank as `tools/extract_features.py` does, or open it if it is there.

    Args:
        encoder: its config, 'TYPE:ARCH', or the encoder itself; with `data=None` an extraction config with both.
        data: config of a data source, or a CLEAR tree, an image folder, a list or a table.
        out: folder of the bank; None finds a place below `root` by what the features depend on.
        root: where banks are kept; None for `work_dirs/banks`.
        resume: False throws unfinished work away.
        overwrite: replace another bank at `out`.
        options: dtype, batch_size, block_size, maps, num_workers, device, max_bad_fraction.

    Raises:
        ClearError: what the program would report.
    """
    from clear.features.program import bank_of, read_extraction

    with called():
        cfg = read_extraction(encoder, data, options)
        place = out if out is not None else cfg.get('out')
        return Bank(bank_of(cfg, place, root=root, resume=resume, overwrite=overwrite))


def _as_results(cfg: Config, measured: dict[str, object]) -> Results:
    """What `tools/test.py` writes, as results: an accuracy per bucket and their mean, or what evaluators gave."""
    metrics = measured['metrics'] if 'metrics' in measured else {'mean': measured.get('mean'), **measured['accuracy']}
    return Results(name=str(cfg['name']), runner=launch.runner_type(cfg),
                   protocol=str(measured.get('protocol', 'test')), metrics=dict(metrics), **software(),
                   extras={key: measured[key] for key in ('checkpoint', 'split') if key in measured})
