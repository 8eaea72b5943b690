"""ELEVATER's twenty sets as tasks: what each is measured by, and how its images are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clear.core.checks import check_choice, check_flag
from clear.core.errors import DataError
from clear.datasets.readers.elevater.sets import STORED_SETS, StoredSet, require_set, stored_set

METRICS = ('top1', 'mean_per_class', 'roc_auc', 'map_11point')
REFERENCE_ONLY = 'imagenet-1k'
_METRIC_OF = {**dict.fromkeys(('caltech-101', 'fgvc-aircraft-2013b-variants102', 'oxford-flower-102',
                               'oxford-iiit-pets'), 'mean_per_class'),
              'hateful-memes': 'roc_auc', 'voc-2007-classification': 'map_11point'}
# Templates of each set in the toolkit's tables, in the order of `STORED_SETS`.
_TEMPLATES = (34, 18, 18, 5, 8, 3, 6, 2, 1, 1, 3, 1, 1, 1, 1, 1, 1, 18, 8, 1, 80)
_UNCROPPED = ('kitti-distance',)
_SYNONYMS = ('fer-2013',)


@dataclass(frozen=True)
class BenchmarkSet:
    """How a set is measured (Li et al. 2022, arXiv:2204.08790, and their code).

    Attributes:
        name: as submissions have it.
        metric: one of `METRICS`.
        center_crop: whether the shorter side is resized and the centre cut out; else the whole image is squeezed into
            the square, since what it asks for may lie at an edge.
        num_classes, num_templates: of the toolkit's lists of names and prompts; None for a set of one's own.
        has_synonyms: whether those names are lists, of which zero-shot uses the first.
        stored: how the set lies on a disk; None for one of one's own.
    """

    name: str
    metric: str
    center_crop: bool = True
    num_classes: int | None = None
    num_templates: int | None = None
    has_synonyms: bool = False
    stored: StoredSet | None = None

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may show several classes."""
        return self.metric == 'map_11point'


BENCHMARK = tuple(
    BenchmarkSet(each.name, _METRIC_OF.get(each.name, 'top1'), each.name not in _UNCROPPED, each.num_classes, templates,
                 each.name in _SYNONYMS, each)
    for each, templates in zip(STORED_SETS, _TEMPLATES, strict=True))
# The score of the benchmark is the mean over these; ImageNet is shown beside them.
AVERAGED = tuple(each.name for each in BENCHMARK if each.name != REFERENCE_ONLY)


def benchmark_set(name: str, metric: str | None = None, center_crop: bool | None = None) -> BenchmarkSet:
    """A set of ELEVATER's by the name of its config or of the benchmark; with `metric`, also one of one's own.

    Args:
        metric, center_crop: for a set of one's own; one of ELEVATER's refuses another value than its own.

    Raises:
        ConfigError: for an unknown name without a metric, with the nearest, or another value than the benchmark's.
    """
    if metric is not None:
        check_choice('metric', metric, METRICS)
    if center_crop is not None:
        check_flag('center_crop', center_crop)
    known = stored_set(name) if metric is not None else require_set(name)
    if known is None:
        return BenchmarkSet(name, metric, center_crop is not False)
    found = BENCHMARK[STORED_SETS.index(known)]
    if metric is not None:
        check_choice(f"metric of ELEVATER's '{found.name}'", metric, (found.metric,))
    if center_crop is not None:
        check_choice(f"center_crop of ELEVATER's '{found.name}'", center_crop, (found.center_crop,))
    return found


def first_names(names: Sequence[str | Sequence[str]]) -> list[str]:
    """Class names of which some are lists of synonyms: of these the first.

    Raises:
        DataError: for an empty list.
    """
    empty = next((index for index, name in enumerate(names) if not isinstance(name, str) and not len(name)), None)
    if empty is not None:
        raise DataError(f'class {empty} has no name: its list of synonyms is empty.')
    return [name if isinstance(name, str) else name[0] for name in names]
