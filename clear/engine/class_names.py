"""What the classes of a checkpoint are called, for whoever prints its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clear.core.errors import ClearError
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, read_results
from clear.datasets.readers.clear.clear_files import read_class_names


def class_names_of(cfg: dict[str, Any], checkpoint: Path, num_classes: int) -> list[str]:
    """The name of each class index: from the results beside the checkpoint, else from the data, else the numbers."""
    for read in (lambda: read_results(checkpoint.parent / RESULTS_FILE).extras.get('class_names'),
                 lambda: _beside_the_data(cfg['scenario']), lambda: _of_the_scenario(cfg['scenario'])):
        try:
            names = read()
        except ClearError:
            continue  # not there; the next place may have them
        if isinstance(names, list) and len(names) == num_classes:
            return [str(name) for name in names]
    logger.warning('No class names beside the checkpoint (%s) nor with the data: classes are called by their place.',
                   RESULTS_FILE)
    return [str(index) for index in range(num_classes)]


def _beside_the_data(scenario: dict[str, Any]) -> list[str] | None:
    root = Path(scenario.get('data_root') or '.')
    places = [path for path in (root / 'class_names.txt', root / 'train' / 'class_names.txt') if path.is_file()]
    return read_class_names(places[0]) if places else None


def _of_the_scenario(scenario: dict[str, Any]) -> list[str] | None:
    from clear.continual.scenarios import build_scenario

    # A bank of features may have to be extracted first; names are not worth that.
    return None if scenario.get('feature') else build_scenario(scenario).info.class_names
