"""Whether what a user's strategy or plugin holds can be put back: asked while it trains, not when it is resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clear.continual.encoding import KIND, Decoder, Encoded
from clear.continual.training.traits import users_parts
from clear.core.errors import CheckpointError

if TYPE_CHECKING:
    from clear.continual.samples import SampleIndex
    from clear.continual.state import StrategyState
    from clear.continual.training.mixin import EngineMixin
    from clear.core.types import State

_ADVICE = "Make it in the constructor, or name it in `rebuilt` of its class if every experience makes it anew (a run " \
          'that is stopped inside an experience then goes on without what it held).'


def check_restorable(strategy: EngineMixin, state: StrategyState, settings: dict[str, State], index: SampleIndex
                     ) -> None:
    """Refuse objects that came while training, which no file alone can make.

    Args:
        state: of `strategy_state`.
        settings: of `settings_of`, before anything was trained.

    Raises:
        CheckpointError: naming the attribute, and what to do.
    """
    parts = users_parts(strategy)
    if not parts:
        return
    walk = _Walk(Decoder(index, strategy.model).makers, _shapes(strategy.model.state_dict()))
    for name in sorted(parts - {'fields'}):
        if name in state['plugins']:
            walk.value(state['plugins'][name], settings['plugins'].get(name), name)
    for name, value in state['fields'].items() if 'fields' in parts else ():
        walk.value(value, settings['fields'].get(name), name)


def _shapes(state: dict[str, object]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)}


class _Walk:
    """Goes through an encoded value beside the one at the start."""

    def __init__(self, makers: dict, model: dict[str, list[int]]):
        self.makers = makers
        self.model = model

    def value(self, now: Encoded, start: Encoded, path: str) -> None:
        if isinstance(now, list):
            begun = start if isinstance(start, list) else []
            for number, item in enumerate(now):
                self.value(item, begun[number] if number < len(begun) else None, f'{path}[{number}]')
        if not isinstance(now, dict) or KIND not in now:
            return
        kind = now[KIND]
        begun = start if isinstance(start, dict) and start.get(KIND) == kind else {}
        if kind == 'dict':
            self._dict(now, begun, path)
        elif kind == 'object':
            if begun.get('class') != now['class'] and now['class'] not in self.makers:
                raise CheckpointError(f"{path} came to hold a {now['class'].rpartition('.')[2]} while training; a "
                                      f'checkpoint fills objects and makes none. {_ADVICE}')
            for name, item in now['fields'].items():
                self.value(item, begun.get('fields', {}).get(name), f'{path}.{name}')
        elif kind == 'optimizer' and not begun:
            raise CheckpointError(f'{path} came to hold an optimiser while training; a checkpoint fills one and makes '
                                  f'none. {_ADVICE}')
        elif kind == 'module' and not begun and _shapes(now['state']) != self.model:
            raise CheckpointError(f'{path} came to hold a module while training that is no copy of the model; a '
                                  f'checkpoint fills modules and makes no others. {_ADVICE}')
        else:
            self.value(now.get('items', now.get('parts')), begun.get('items', begun.get('parts')), path)

    def _dict(self, now: dict, begun: dict, path: str) -> None:
        if now.get('as') == 'defaultdict':
            if not begun:
                raise CheckpointError(f'{path} came to hold a defaultdict while training whose factory is no type of '
                                      f'Python. {_ADVICE}')
            return  # its factory makes what is not there
        was = {repr(key): item for key, item in begun.get('items', ())}
        for key, item in now['items']:
            self.value(item, was.get(repr(key)), f'{path}[{key!r}]')
