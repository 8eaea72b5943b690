"""What the classes of a checkpoint are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.contracts import GivesFeatures
from clear.core.errors import ClearError
from clear.core.files import load_tensors
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, read_results
from clear.datasets.readers.clear.clear_files import read_class_names

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict
    from torch import nn

    from clear.core.types import Options


def class_names_of(cfg: Config | dict, checkpoint: Path, num_classes: int) -> list[str]:
    """The name of each class of a continual run: from the results beside its checkpoint, or that, else from the data.

    Where they are nowhere, or are of another number of classes, the places are the names, and the log says so. A model
    whose outputs grow may have fewer of them than the stream has classes.
    """
    scenario = cfg['scenario']
    return first_names([lambda: of_the_run(checkpoint), lambda: of_the_checkpoint(checkpoint),
                        lambda: beside_the_data(scenario), lambda: _of_the_bank(scenario),
                        lambda: _of_the_scenario(scenario)], num_classes)


def first_names(places: Iterable[Callable[[], object]], num_classes: int) -> list[str]:
    """The first list of names that is long enough, else numbers."""
    for read in places:
        try:
            names = read()
        except ClearError:
            continue  # not there; the next place may have them
        if isinstance(names, (list, tuple)) and len(names) >= num_classes:
            return [str(name) for name in names]
    logger.warning('No class names beside the checkpoint (%s) nor with the data: classes are called by their place.',
                   RESULTS_FILE)
    return [str(index) for index in range(num_classes)]


def is_classifier(model: nn.Module) -> bool:
    """Whether the model of an ordinary run tells classes; others are trained to give features."""
    return hasattr(model, 'predict') and not isinstance(model, GivesFeatures)


def of_the_run(checkpoint: Path) -> object:
    """Those in the results beside a checkpoint."""
    return read_results(checkpoint.parent / RESULTS_FILE).extras.get('class_names')


def of_the_checkpoint(checkpoint: Path) -> object:
    """Those that `publish` or mmengine has put into it; None without."""
    saved = load_tensors(checkpoint)
    if 'class_names' in saved:
        return saved['class_names']
    meta = saved.get('meta')
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    return dataset_meta.get('classes') if isinstance(dataset_meta, dict) else None


def of_the_data_set(dataset: object) -> list[str]:
    """Those that a built data set of mmengine's kind knows."""
    return [str(name) for name in (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()]


def beside_the_data(data: Options) -> list[str] | None:
    """Those of the `class_names.txt` in the `data_root` of a scenario or data set; None without one."""
    if not data.get('data_root'):
        return None
    root = Path(data['data_root'])
    places = [path for path in (root / 'class_names.txt', root / 'train' / 'class_names.txt') if path.is_file()]
    return read_class_names(places[0]) if places else None


def _of_the_bank(scenario: Options) -> list[str] | None:
    from clear.features import FeatureBank

    bank = (scenario.get('feature') or {}).get('bank')
    return None if bank is None else FeatureBank.open(bank).class_names


def _of_the_scenario(scenario: ConfigDict) -> list[str] | None:
    from clear.continual.scenarios import build_scenario

    if scenario.get('feature'):
        # A bank may have to be extracted first; the same stream of images has the names too, and reads none of them.
        as_tensor = [dict(type='ToTensor')]
        scenario = {**scenario, 'feature': None, 'train_transform': as_tensor, 'eval_transform': as_tensor}
    return build_scenario(scenario).info.class_names
