"""Which class a bare name means in a config of mmpretrain's, and what of such a config this framework does itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clear.core.configs.signatures import accepted_arguments

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.registry import Registry

THEIRS = ('mmpretrain', 'mmengine')
# What the Runner builds, and the registry of it. Those of other libraries could not be saved, resumed and stopped.
_BUILT_BY_RUNNER = dict(default_hooks='HOOKS', custom_hooks='HOOKS', optim_wrapper='OPTIM_WRAPPERS',
                        param_scheduler='PARAM_SCHEDULERS', train_cfg='LOOPS', val_cfg='LOOPS', test_cfg='LOOPS',
                        visualizer='VISUALIZERS', vis_backends='VISBACKENDS')
_BUILT_BY_LOADER = ('sampler', 'batch_sampler', 'collate_fn')
_OF_TRANSFORMS = ('pipeline', 'transforms', 'views')


@dataclass
class Notes:
    """What `settle` decided, for the plan of a run; names in the order in which they came."""

    theirs: dict[str, str] = field(default_factory=dict)  # name -> mmpretrain.name
    ours: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One line for each kind of decision that was made."""
        lines = []
        if self.theirs:
            lines.append(f'names     {", ".join(self.theirs.values())}: in a config of mmpretrain a bare name is '
                         f'theirs; ours: {", ".join(f"clear.{name}" for name in self.theirs)}')
        if self.ours:
            lines.append(f'names     {", ".join(self.ours)}: ours; the other: {", ".join(self.ours.values())}')
        if self.replaced:
            lines.append(f'replaced  {", ".join(self.replaced)}: ours of that name, so that the run is saved, stopped '
                         'and resumed')
        if self.left_out:
            lines.append(f'left out  {", ".join(self.left_out)}')
        return lines


def settle(cfg: Config | dict) -> Notes:
    """Let every name of a config mean one class, and the parts of the Runner be ours. Changes `cfg`; once is enough.

    In a config on a base of mmpretrain (`mmpretrain::...`), or with `default_scope='mmpretrain'`, a bare name of a
    model, data set, transform or metric is theirs where both libraries have one, elsewhere it is ours. The full names
    `mmpretrain.MoCo` and `clear.MoCo` mean what they say. Hooks, loops and optimiser wrappers are ours in any case.
    """
    from clear import registry

    notes, scope = Notes(), 'mmpretrain' if cfg.get('default_scope') == 'mmpretrain' else None
    for key in ('model', 'data_preprocessor'):
        _settle_names(cfg.get(key), registry.MODELS, scope, notes)
    for key in ('val_evaluator', 'test_evaluator'):
        _settle_names(cfg.get(key), registry.METRICS, scope, notes)
    for kind in ('train', 'val', 'test'):
        loader = cfg.get(f'{kind}_dataloader')
        if isinstance(loader, dict):
            _settle_names(loader.get('dataset'), registry.DATASETS, loader.pop('_scope_', scope), notes)
            for key in _BUILT_BY_LOADER:
                _drop_scope(loader.get(key))
    is_foreign = scope is not None or bool(notes.theirs)
    for key, name in _BUILT_BY_RUNNER.items():
        is_foreign |= _has_scope(cfg.get(key))
        for part in _parts(key, cfg.get(key)):
            _replace(part, getattr(registry, name), is_foreign, notes)
        _drop_scope(cfg.get(key))
    _leave_out(cfg, is_foreign, notes)
    return notes


def _settle_names(part: object, registry: Registry, scope: str | None, notes: Notes) -> None:
    from clear.registry import TRANSFORMS

    if isinstance(part, (list, tuple)):
        for item in part:
            _settle_names(item, registry, scope, notes)
    if not isinstance(part, dict):
        return
    scope = part.get('_scope_', scope)
    if scope not in (None, 'clear', *THEIRS):
        return  # of a third library, which mmengine asks
    part.pop('_scope_', None)
    kind = part.get('type')
    hidden = registry.hidden_by(kind) if isinstance(kind, str) else None
    if hidden and scope in THEIRS:
        part['type'] = notes.theirs[kind] = hidden
    elif hidden:
        notes.ours[kind] = hidden
    for key, value in part.items():
        if isinstance(value, (dict, list, tuple)):
            _settle_names(value, TRANSFORMS if key in _OF_TRANSFORMS else registry, scope, notes)


def _parts(key: str, value: object) -> Iterable[dict]:
    """The dicts below a key of the Runner that name a class: its own, those of a list, or those of a dict of dicts."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, dict):
        values = value.values() if key == 'default_hooks' else [value, *value.values()]
    return [item for item in values if isinstance(item, dict) and 'type' in item]


def _replace(part: dict, registry: Registry, is_foreign: bool, notes: Notes) -> None:
    """Put the name of ours in the place of the class that it hides, given as a class, by its full name or its scope."""
    kind = part['type']
    is_class = inspect.isclass(kind)
    name = kind.__name__ if is_class else str(kind).rpartition('.')[2]
    hidden = registry.hidden_by(name)
    if hidden is None or (registry.get(hidden) is not kind if is_class else kind not in (name, hidden)):
        return
    if not is_foreign and kind == name:
        return
    part['type'] = name
    notes.replaced[name] = None
    known = accepted_arguments(registry.require(name))
    for key in [key for key in inspect.signature(registry.get(hidden)).parameters if key in part]:
        if known is None or key in known:
            continue
        del part[key]
        notes.left_out[f'{name}.{key}'] = None


def _leave_out(cfg: Config | dict, is_foreign: bool, notes: Notes) -> None:
    randomness = cfg.get('randomness')
    if isinstance(randomness, dict):
        if randomness.pop('diff_rank_seed', None):
            notes.left_out['randomness.diff_rank_seed (each process draws noise of its own in any case)'] = None
        seeds = cfg.get('seed'), randomness.get('seed')
        if None not in seeds and seeds[0] != seeds[1]:
            notes.left_out[f'randomness.seed {seeds[1]} (seed is {seeds[0]})'] = None
    if cfg.get('resume'):
        notes.left_out['resume (--resume goes on with a run)'] = None
    if cfg.get('launcher') not in (None, 'none'):
        notes.left_out['launcher (--launcher)'] = None
    env = cfg.get('env_cfg')
    if is_foreign and isinstance(env, dict) and env.get('dist_cfg'):
        notes.left_out['env_cfg.dist_cfg (NCCL on GPUs, gloo on CPUs)'] = None


def _has_scope(part: object) -> bool:
    if isinstance(part, dict):
        return part.get('_scope_') in THEIRS or any(_has_scope(item) for item in part.values())
    return isinstance(part, (list, tuple)) and any(_has_scope(item) for item in part)


def _drop_scope(part: object) -> None:
    if isinstance(part, dict):
        part.pop('_scope_', None)
    for item in part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else ():
        _drop_scope(item)
