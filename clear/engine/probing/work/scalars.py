"""The histories of jobs as scalars of TensorBoard."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from clear.core.errors import DataError
from clear.core.files import parse_json, read_text
from clear.engine.probing.work.folders import MAKING

SCALARS, HISTORY_FILE = 'tensorboard', 'history.jsonl'
TAGS = dict(train_loss='TrainLoss', train_metric='TrainAccuracy', val_loss='ValLoss', val_metric='ValAccuracy',
            test_loss='TestLoss', test_metric='TestAccuracy')


def write_scalars(job_folder: Path, task: str, out: Path) -> None:
    """Write `TrainLoss/<task>` and the like over the epochs of a job's history, a run of TensorBoard per setting.

    They are there as a whole or not at all; what `out` held of an earlier attempt goes. A job without a history leaves
    nothing.

    Args:
        out: the folder of this job, for TensorBoard.

    Raises:
        DataError: for a history that cannot be read, naming the line.
    """
    shutil.rmtree(out, ignore_errors=True)
    lines = read_history(job_folder / HISTORY_FILE)
    if not lines:
        return
    from torch.utils.tensorboard import SummaryWriter

    making = out.with_name(f'{MAKING}{out.name}')
    shutil.rmtree(making, ignore_errors=True)
    settings: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        settings.setdefault(str(line.get('setting', 'setting')), []).append(line)
    for place, (setting, own) in enumerate(settings.items(), 1):
        name = re.sub(r'[^A-Za-z0-9_=+-]+', '_', setting)[:80]
        with SummaryWriter(str(making / f'{place:02}_{name}')) as writer:
            for line in own:
                for key, tag in TAGS.items():
                    if isinstance(line.get(key), (int, float)):
                        writer.add_scalar(f'{tag}/{task}', line[key], line['epoch'])
    making.rename(out)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a `history.jsonl`; none if there is no file.

    Raises:
        DataError: for a line that is no object with a whole number as `epoch`.
    """
    if not path.is_file():
        return []
    found = []
    for number, text in enumerate(read_text(path).splitlines(), 1):
        line = parse_json(text, f'{path}:{number}')
        if not isinstance(line, dict) or not isinstance(line.get('epoch'), int):
            raise DataError(f"{path}:{number} is no line of a history: an object with a whole number as 'epoch'.")
        found.append(line)
    return found
