"""One config as several runs: its seeds, the values of its sweep, or both; in lanes where they can be."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import ConfigError, TrainingError
from clear.core.logs import logger
from clear.engine.checkpoint import is_begun
from clear.engine.continual.keys import with_defaults
from clear.engine.continual.sweeps import Point, plan_sweep, value_at, with_values, write_sweep
from clear.engine.repeats import built_runners, check_finished, check_seeds, is_finished, seed_folder, write_summary
from clear.engine.work_dir import held, outdate_runs, refuse_run, replacing

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.continual.lanes import Seat

# Trains one config in its folder, as `--resume` or anew; then calls what it was given, when the run is built.
RunAlone = Callable[['Config', Path, bool, Callable[[], None]], None]


def run_several(cfg: Config, work_dir: Path, args: argparse.Namespace, run_alone: RunAlone) -> None:
    """Train a config once for every seed and value, and write what is said of all of them.

    Raises:
        ConfigError: for seeds or values that cannot be, before anything is read or written.
        TrainingError: if the training of a seed diverged. Of a sweep such a value is noted, unless all of them did.
    """
    seeds, points, groups = _plan(cfg, work_dir, args)
    seats = [seat for group in groups for seat in group]
    is_sweep = cfg.get('sweep') is not None
    with held(work_dir):
        if not args.resume and not args.overwrite:
            refuse_run(work_dir, [seat.folder for seat in seats])
        if args.resume:
            check_finished([(seat.cfg, seat.folder) for seat in seats])
        is_replaced = args.overwrite and not args.resume
        # A later value of a sweep may turn out to be none that can be built: what it would replace stays till then.
        parts, waiting = ([], [seat.folder for seat in seats]) if is_sweep else ([seat.folder for seat in seats], [])
        with replacing(work_dir, is_replaced, parts) as remove_old:

            def built() -> None:
                if is_replaced:
                    outdate_runs(waiting)
                    waiting.clear()
                remove_old()

            for lane, reason in _lanes(list(points[0].values), seats):
                _run_group(lane, reason, bool(args.resume), built, run_alone, is_sweep)
        _conclude(cfg, points, groups, seeds, work_dir)


def describe_several(cfg: Config, work_dir: Path, args: argparse.Namespace) -> None:
    """Build the first run of every value, and say what the first of all would do and how many there are.

    Raises:
        ConfigError: for seeds or values that cannot be.
    """
    from clear.features import planned_banks

    _, points, groups = _plan(cfg, work_dir, args)
    seats = [seat for group in groups for seat in group]
    with planned_banks():
        for number, runner in enumerate(built_runners(group[0].cfg for group in groups)):
            if number == 0:
                runner.work_dir = seats[0].folder
                logger.info('%s\n%s', seats[0].label, runner.describe())
    logger.info('\n%d runs like this one, in %s: %s', len(seats), work_dir,
                '  '.join(str(seat.folder.relative_to(work_dir)) for seat in seats))
    for lane, reason in _lanes(list(points[0].values), seats):
        if reason is not None:
            logger.info('one run after the other: %s', reason)
        elif len(lane) > 1:
            logger.info('%d runs in one lane', len(lane))
    logger.info('dry run: nothing was trained or written')


def _plan(cfg: Config, work_dir: Path,
          args: argparse.Namespace) -> tuple[list[int] | None, list[Point], list[list[Seat]]]:
    """Seeds, choices of values, and for each of these the runs of all seeds."""
    seeds = check_seeds(cfg['seeds']) if cfg.get('seeds') is not None else None
    points = plan_sweep(cfg)
    if args.resume not in (None, False, True) or args.branch:
        raise ConfigError('seeds and sweep: --resume takes no checkpoint, and --branch none of one run; finished runs '
                          'are kept and the others continued. Use --seed N for one of the seeds.')
    return seeds, points, [_seats(cfg, point, seeds, work_dir) for point in points]


def _seats(cfg: Config, point: Point, seeds: Sequence[int] | None, work_dir: Path) -> list[Seat]:
    from clear.engine.continual.lanes import Seat

    folder = work_dir / point.folder if point.folder else work_dir
    seats = []
    for seed in [None] if seeds is None else seeds:
        one = with_values(cfg, point.values)
        for key in ('seeds', 'sweep'):
            one.pop(key, None)
        one['seed'] = one.get('seed', 0) if seed is None else seed
        place = folder if seed is None else seed_folder(folder, seed)
        one['work_dir'] = str(place)
        label = '  '.join(filter(None, [point.folder, None if seed is None else f'seed {seed}']))
        seats.append(Seat(one, place, label))
    return seats


def _lanes(swept: Sequence[str], seats: list[Seat]) -> list[tuple[list[Seat], str | None]]:
    """Runs that go together, with the reason why they cannot be trained as a lane, if there is one.

    Each is asked by its own config: a value of the sweep may be what no lane has, such as another loss.
    """
    from clear.continual.lane.support import differing_keys, obstacle
    from clear.engine.continual.lanes import MOST_RUNS

    groups: dict[tuple[str | None, str], list[Seat]] = {}
    apart: set[str] = set()
    for seat in seats:
        one = with_defaults(seat.cfg)
        reason, kind = obstacle(one), ''
        if reason is None:
            fixed = [key for key in swept if key not in differing_keys(one)]
            apart.update(fixed)
            # What the runs of a lane have in common: of a sweep the seed, so the order of samples.
            kind = repr([*((key, value_at(seat.cfg, key)) for key in fixed), seat.cfg['seed'] if swept else None])
        groups.setdefault((reason, kind), []).append(seat)
    if apart:
        logger.info('one value after the other: a lane has one value of %s', ' and of '.join(sorted(apart)))
    lanes = []
    for (reason, _), same in groups.items():
        size = MOST_RUNS if reason is None else len(same)
        lanes += [(same[start:start + size], reason) for start in range(0, len(same), size)]
    return lanes


def _run_group(seats: list[Seat], reason: str | None, resume: bool, built: Callable[[], None], run_alone: RunAlone,
               is_sweep: bool) -> None:
    from clear.continual.lane.pool import NoLane
    from clear.engine.continual.lanes import run_lane

    if reason is None and len(seats) > 1:
        try:
            run_lane(seats, resume, built)
        except NoLane as obstacle:
            reason = str(obstacle)
    if reason is not None:
        logger.info('one run after the other: %s', reason)
    for position, seat in enumerate(seats if reason is not None or len(seats) == 1 else ()):
        logger.info('\n%s (%d of %d)', seat.label, position + 1, len(seats))
        _run_seat(seat, resume, built, run_alone, is_sweep)
    for seat in seats:
        seat.runner = None  # and the data with it
        if seat.error is not None and not is_sweep:
            raise TrainingError(f'{seat.label}: {seat.error} The other runs are finished.')


def _run_seat(seat: Seat, resume: bool, built: Callable[[], None], run_alone: RunAlone, is_sweep: bool) -> None:
    if resume and is_finished(seat.folder):  # else it is one that is about to be replaced
        logger.info('%s is finished: %s', seat.label, seat.folder)
        return
    try:
        run_alone(seat.cfg, seat.folder, resume and is_begun(seat.folder), built)
    except TrainingError as error:
        if not is_sweep:
            raise
        seat.error = error
        logger.warning('%s is given up: %s', seat.label, error)
    gc.collect()  # A runner is a circle, which would keep its data until the collector next looks at everything.


def _conclude(cfg: Config, points: Sequence[Point], groups: Sequence[Sequence[Seat]], seeds: Sequence[int] | None,
              work_dir: Path) -> None:
    failed = [seat for group in groups for seat in group if seat.error is not None]
    if failed and len(failed) == sum(map(len, groups)):
        raise TrainingError(f'No value of the sweep could be trained. {failed[0].label}: {failed[0].error}')
    if seeds is not None:
        for point, group in zip(points, groups):
            if all(seat.error is None for seat in group):
                write_summary([seat.folder for seat in group], work_dir / point.folder)
    if cfg.get('sweep') is not None:
        write_sweep(cfg, points, [[(seat.folder, seat.error) for seat in group] for group in groups], seeds, work_dir)
