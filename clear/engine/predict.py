"""Classifying images with a checkpoint of a continual run, and what its classes are called."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import ClearError, ConfigError
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, read_results
from clear.datasets.readers.clear.clear_files import read_class_names

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict
    from torch import nn

    from clear.core.types import Options


def predict(cfg: Config, args: argparse.Namespace) -> None:
    """Print the `args.top` likeliest classes of every image of `args.images` by `args.checkpoint`.

    Raises:
        ConfigError: if the config trains on features, an image is missing or cannot be read, or `args.task` does not
            name a task of a model with a head for each.
    """
    from clear.continual.evaluate import evaluation_mode
    from clear.continual.multitask import call, grows
    from clear.datasets.images.decode import UnreadableImage, decode_image
    from clear.datasets.transforms import build_transform
    from clear.engine.checkpoint import load_model_weights
    from clear.engine.continual.runner import ContinualRunner

    if not cfg['scenario'].get('eval_transform'):
        raise ConfigError('The config has no scenario.eval_transform: it trains on stored features, not on images.')
    missing = [path for path in args.images if not Path(path).is_file()]
    if missing:
        raise ConfigError(f"No such image: {', '.join(missing)}.")
    cfg['load_from'] = None
    runner = ContinualRunner(cfg, is_checked=True)
    runner.build_model()
    load_model_weights(runner.model, Path(args.checkpoint))
    _check_task(runner.model, args.task)
    num_classes = None if grows(runner.model) else runner.model.num_classes
    names = class_names_of(cfg, Path(args.checkpoint), num_classes)
    transform = build_transform(cfg['scenario']['eval_transform'])
    with evaluation_mode(runner.model):
        for path in args.images:
            try:
                image = transform(decode_image(path))
            except UnreadableImage as error:
                raise ConfigError(f'{path} cannot be read as an image: {error}') from error
            scores = call(runner.model, image[None].to(runner.device), args.task).softmax(1)[0]
            top = scores.topk(min(args.top, len(scores)))
            logger.info('%s  %s', path, '  '.join(f'{names[index] if names else index} {value:.3f}' for value, index in
                                                   zip(top.values.tolist(), top.indices.tolist())))


def _check_task(model: nn.Module, task: int | None) -> None:
    from clear.continual.multitask import known_tasks, takes_tasks

    if not takes_tasks(model):
        if task is not None:
            raise ConfigError('--task is for models with a head for each task; this one has one head.')
        return
    known = known_tasks(model)
    if task not in known:
        lacks = '' if task is None else f', and none for task {task}'
        choice = ', '.join(map(str, sorted(known)))
        raise ConfigError(f'The model has a head for each task{lacks}: say with --task which one answers, of {choice}.')


def class_names_of(cfg: Config | dict, checkpoint: Path, num_classes: int | None) -> list[str]:
    """The name of each class index: from the results beside the checkpoint, else from the data, else the numbers.

    Args:
        num_classes: None for a model whose outputs grow; there are no names then where none are found.
    """
    for read in (lambda: read_results(checkpoint.parent / RESULTS_FILE).extras.get('class_names'),
                 lambda: _beside_the_data(cfg['scenario']), lambda: _of_the_scenario(cfg['scenario'])):
        try:
            names = read()
        except ClearError:
            continue  # not there; the next place may have them
        if isinstance(names, list) and num_classes in (None, len(names)):
            return [str(name) for name in names]
    logger.warning('No class names beside the checkpoint (%s) nor with the data: classes are called by their place.',
                   RESULTS_FILE)
    return [str(index) for index in range(num_classes or 0)]


def _beside_the_data(scenario: Options) -> list[str] | None:
    root = Path(scenario.get('data_root') or '.')
    places = [path for path in (root / 'class_names.txt', root / 'train' / 'class_names.txt') if path.is_file()]
    return read_class_names(places[0]) if places else None


def _of_the_scenario(scenario: ConfigDict) -> list[str] | None:
    from clear.continual.scenarios import build_scenario

    # A bank of features may have to be extracted first; names are not worth that.
    return None if scenario.get('feature') else build_scenario(scenario).info.class_names
