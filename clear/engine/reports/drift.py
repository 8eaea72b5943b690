"""The work of `tools/analysis_tools/drift_report.py`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.curation.download.images import TOO_MANY_PIXELS
from clear.curation.download.kept import final_outcomes
from clear.curation.download.shards.verdicts import ASPECT, DUPLICATE, TOO_SMALL_BYTES, TOO_SMALL_EDGE
from clear.curation.download.shards.writing import OUTCOMES
from clear.curation.filters import KEPT
from clear.curation.images import files_of, image_table
from clear.curation.manifest import MANIFEST, Finished
from clear.datasets.images.decode import UnreadableImage, decode_image, file_below, read_file
from clear.engine.progress import Progress
from clear.evaluation.drift import (
    FEWEST_ROWS,
    MOST_ROWS,
    Sample,
    adjusted,
    compare_buckets,
    drifting_classes,
    examples,
    samples,
    suggested_edges,
)
from clear.evaluation.metrics.drift import enough_permutations
from clear.features.bank import META_FILE, FeatureBank
from clear.visualization.drift import class_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from clear.core.types import Plain

_MOST_SHEETS = 8
_NOT_TRIED = ('bad_date', 'video')
_GONE = ('http_4xx', 'placeholder')
# What was left out after it had come.
_CAME = (KEPT, DUPLICATE, TOO_SMALL_EDGE, ASPECT, TOO_SMALL_BYTES, TOO_MANY_PIXELS)


def open_banks(args: argparse.Namespace) -> list[FeatureBank]:
    """The banks that the command line names; that of a config is made if it is not there.

    Raises:
        ConfigError, DataError: if there is none.
    """
    banks: list[FeatureBank] = []
    for source in args.source:
        path = Path(source)
        if path.suffix == '.py' or not path.exists():
            if len(args.source) > 1:
                raise ConfigError('a config is the only SOURCE; of banks there may be several.')
            return [_bank_of_config(args, source)]
        if (path / MANIFEST).is_file():
            banks += [FeatureBank.open(file.parent) for file in Finished(path).files(f'bank/{META_FILE}')]
            if not banks:
                raise DataError(f'{path} is a stage without banks; expected one of Features.')
        else:
            banks.append(FeatureBank.open(path))
    return banks


def drift_of(banks: Sequence[FeatureBank], every: str, edges: int | None, seed: int
             ) -> tuple[dict[str, Plain], dict[str, Sample]]:
    """What a report says, plain, and the samples that it was found in."""
    buckets = samples(banks, every)
    enough = [name for name, sample in buckets.items() if len(sample) >= FEWEST_ROWS]
    if len(enough) < 2:
        raise DataError(f'buckets with {FEWEST_ROWS} readable images: {", ".join(enough) or "none"}; at least two are '
                        f'compared. Found {", ".join(f"{name} ({len(each)})" for name, each in buckets.items())}.')
    progress = Progress(len(enough) * (len(enough) - 1) // 2)
    comparisons = compare_buckets(buckets, seed, lambda pair: progress.step(f'comparing {pair}'))
    progress.close()
    p_values = adjusted(comparisons)
    pairs = [dict(first=first, last=last, **asdict(each), mmd_p_adjusted=p_values[first, last][0],
                  frechet_p_adjusted=p_values[first, last][1]) for (first, last), each in comparisons.items()]
    names = banks[0].class_names
    classes = [dict(label=each.label, first=each.first, last=each.last, mmd2=each.mmd2, p_adjusted=each.p,
                    **{'class': names[each.label] if each.label < len(names) else str(each.label)})
               for each in drifting_classes(buckets, seed)]
    found = suggested_edges(buckets, edges or len(buckets))
    starts = None if found is None else dict(starts=[_text(each) for each in found.starts], explained=found.explained)
    return dict(seed=seed, most_rows=MOST_ROWS, permutations=enough_permutations(len(pairs)),
                buckets={name: _span(sample) for name, sample in buckets.items()},
                left_out=[name for name in buckets if name not in enough], pairs=pairs, classes=classes,
                suggested_edges=starts), buckets


def links_of(stage: str) -> dict[str, dict[str, int]]:
    """Year of upload -> how many addresses a Download stage tried, got an image from, found gone, and failed to get
    otherwise."""
    finished = Finished(stage)
    files_of(finished, OUTCOMES, 'outcomes of addresses')
    years: dict[str, dict[str, int]] = {}
    for shard in range(len(finished)):
        table = final_outcomes(finished, shard)
        names = np.array([str(time.year) if time is not None else 'no time' for time in
                          table['uploaded_at'].to_pylist()])
        outcomes = np.array(table['outcome'].to_pylist())
        tried = ~np.isin(outcomes, _NOT_TRIED)
        gone, ok = np.isin(outcomes, _GONE), np.isin(outcomes, _CAME)
        for year in np.unique(names[tried]):
            here = tried & (names == year)
            counts = years.setdefault(str(year), dict(tried=0, ok=0, gone=0, other=0))
            for name, mask in (('tried', tried), ('ok', ok), ('gone', gone), ('other', ~ok & ~gone)):
                counts[name] += int((here & mask).sum())
    return dict(sorted(years.items()))


def sheets_of(found: Mapping[str, Plain], buckets: Mapping[str, Sample], class_names: Sequence[str], images: str
              ) -> dict[str, Figure]:
    """File stem -> the most typical pictures of each of the classes that move most, a line for each bucket.

    Args:
        images: what the paths of a bank are relative to, or the folder of a finished stage with images.
    """
    root = Path(images)
    if not root.is_dir():
        raise ConfigError(f'--images: {root} is no folder.')
    table = image_table(Finished(root)) if (root / MANIFEST).is_file() else None
    rows = None if table is None else {name: row for row, name in enumerate(table.texts('id'))}

    def picture(sample: Sample, row: int) -> Image | None:
        try:
            if table is not None:
                return table.open_image(rows[sample.ids[row]])
            return decode_image(read_file(file_below(root, sample.paths[row])))
        except (UnreadableImage, KeyError):
            return None

    sheets = {}
    for each in found['classes'][:_MOST_SHEETS]:
        pictures = {name: [picture(sample, row) for row in examples(sample, each['label'])]
                    for name, sample in buckets.items()}
        pictures = {name: found for name, found in pictures.items() if found}
        sheets[f'class_{each["label"]}'] = class_sheet(each['class'], pictures, f'MMD² {each["mmd2"]:.3f} from bucket '
                                                       f'{each["first"]} to {each["last"]}')
    return sheets


def _bank_of_config(args: argparse.Namespace, config: str) -> FeatureBank:
    from clear.features.program import make_bank

    logger.info('features of %s', config)
    return make_bank(argparse.Namespace(config=config, encoder=None, data=args.data, out=None, device=None, resume=True,
                                        overwrite=False, dry_run=False, cfg_options=args.cfg_options))


def _span(sample: Sample) -> dict[str, Plain]:
    times = sample.times[~np.isnat(sample.times.view('datetime64[us]'))]
    first, last = (_text(int(times.min())), _text(int(times.max()))) if len(times) else (None, None)
    return dict(rows=len(sample), first=first, last=last)


def _text(micros: int) -> str:
    return f'{datetime.fromtimestamp(micros // 1_000_000, UTC):%Y-%m-%d %H:%M:%S}'
