"""Weights that an ordinary run starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors
from clear.core.logs import logger
from clear.engine.checkpoint import FORMAT
from clear.models import load_weights
from clear.models.weights import local_weights

if TYPE_CHECKING:
    from clear.core.types import Options


def load_start_weights(model: nn.Module, load_from: str | Options) -> None:
    """Put the weights of `load_from` into a model; optimiser, schedules and position start anew.

    A checkpoint of the same algorithm is taken whole, with heads, momentum encoder and queue. Of any other file what
    fits is taken, by the rules of `load_weights`.

    Args:
        load_from: a path or http(s) address, or a dict of it as `path` and arguments of `load_weights`.

    Raises:
        CheckpointError: if the file cannot be read, or too little of it fits.
    """
    options = dict(load_from) if isinstance(load_from, dict) else dict(path=load_from)
    if 'path' not in options:
        raise CheckpointError('load_from lacks path.')
    path = local_weights(options.pop('path'), options.pop('sha256', None))
    if not options and not path.name.endswith('.safetensors'):
        state = load_tensors(path)
        if isinstance(state, dict) and state.get('format') == FORMAT and \
                set(state['state_dict']) == set(model.state_dict()):
            try:
                model.load_state_dict(state['state_dict'])
            except RuntimeError as error:
                raise CheckpointError(f'load_from {path}: {error}') from error
            logger.info('load_from %s: all %d tensors', path, len(state['state_dict']))
            return
    logger.info('load_from %s\n%s', path, load_weights(model, path, **options))
