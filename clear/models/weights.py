"""Load weights from a file into a model: names are translated, what fits is counted, too little is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from torch import Tensor, nn

from clear.core.errors import CheckpointError, ConfigError, nearest
from clear.core.files import load_tensors
from clear.models.converters.rules import SOURCES

# Keys under which checkpoints keep their weights, tried in this order.
_STATE_KEYS = ('state_dict', 'model_state', 'model_state_dict', 'model', 'network', 'net')
# Where VISSL's checkpoints (PIRL, exemplar networks) keep the backbone.
_NESTED_STATE = ('classy_state_dict', 'base_model', 'model', 'trunk')
# Put in front of every name by a wrapper (data parallel, torch.compile) around the saved model.
_WRAPPERS = ('module.', '_orig_mod.')


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's tensors. Names are the model's, those of `unexpected` the file's.

    Args:
        source: the format that was used, a key of `SOURCES`.
        missing: tensors of the model that the file does not have.
        unexpected: tensors of the file that the model has no place for.
        shape_mismatch: (name, shape in the file, shape in the model), not loaded.
        dropped: tensors of a head's layer that fit, but whose layer has another that does not; not loaded.
        resized: loaded after the backbone had interpolated them to its own size.
    """

    path: str
    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shape_mismatch: tuple[tuple[str, tuple, tuple], ...]
    dropped: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.shape_mismatch) + len(self.dropped)
        lines = [f'{self.path} ({self.source}): {len(self.matched)} of {total} tensors of the model loaded.']
        shapes = [f'{name} {found} in the file, {wanted} in the model' for name, found, wanted in self.shape_mismatch]
        for title, names in (('missing', self.missing), ('unexpected', self.unexpected), ('other shape', shapes),
                             ('left out with its layer', self.dropped), ('resized', self.resized)):
            if names:
                more = f' and {len(names) - 4} more' if len(names) > 4 else ''
                lines.append(f'  {title} ({len(names)}): {", ".join(names[:4])}{more}')
        return '\n'.join(lines)


@dataclass(frozen=True)
class _Plan:
    """One way to read the file: the tensors to load and the report on them."""

    state: dict[str, Tensor]
    report: LoadReport
    num_required: int
    num_found: int

    @property
    def share(self) -> float:
        return self.num_found / self.num_required if self.num_required else 0.0


def load_weights(model: nn.Module, path: str | Path, *, source: str = 'auto',
                 prefix_map: Mapping[str, str] | None = None, min_matched: float = 0.9) -> LoadReport:
    """Load the tensors of a file that fit the model by name and shape; freezes nothing.

    Reads `.safetensors`, and files of torch that hold tensors and plain values only: a state dict, or a checkpoint
    with one in it (ours, mmengine's, MoCo's ...). A head for other classes is left out and listed, one that fits is
    loaded. Position embeddings of another image size are resized where the model's backbone knows how to.

    Args:
        source: format of the names, a key of `SOURCES`; `'auto'` takes the one that fits best.
        prefix_map: `{'old.': 'new.'}`, applied before that; the longest prefix that fits a name is replaced.
        min_matched: least share, 0 ... 1, of the required tensors that must match: those of the model outside its
            head, or all if it has no backbone. Counters of BatchNorm, buffers that a backbone computes itself, and
            what was added to a network after its pretraining (adapters, LoRA) may be missing.

    Raises:
        CheckpointError: if the file cannot be read or too little matches. The model is then unchanged.
        ConfigError: if `source` is unknown or an entry of `prefix_map` fits no tensor.
    """
    if not 0 <= min_matched <= 1:
        raise ConfigError(f'load_from: min_matched is {min_matched}, expected a share from 0 to 1.')
    if source != 'auto' and source not in SOURCES:
        near = nearest(source, SOURCES) or ', '.join(f"'{name}'" for name in ('auto', *SOURCES))
        raise ConfigError(f"load_from: no source '{source}' is known. Nearest: {near}.")
    tensors = _apply_prefix_map(_read_state(path), prefix_map or {}, path)
    plans = [_plan(model, tensors, name, path) for name in (SOURCES if source == 'auto' else [source])]
    best = max(plans, key=lambda plan: (plan.share, len(plan.report.matched), -len(plan.report.unexpected)))
    if best.share < min_matched or not best.state:
        raise CheckpointError(_refusal(best, model, tensors, source, min_matched))
    with _quiet_hooks():
        model.load_state_dict(best.state, strict=False)
    return best.report


def _read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in the file, names without wrappers."""
    value = _read_safetensors(path) if str(path).endswith('.safetensors') else load_tensors(path)
    state = _find_state(value)
    if state is None:
        held = f'a dict with the keys {list(value)[:6]}' if isinstance(value, dict) else type(value).__name__
        raise CheckpointError(f'{path} holds no state dict, but {held}. '
                              f'Expected tensors by name, or those under one of {list(_STATE_KEYS)}.')
    names = {key: _strip_wrappers(key) for key in state}
    if len(set(names.values())) < len(names):
        # Both `module.x` and `x`: which one is meant is not ours to guess.
        names = {key: key for key in state}
    return {names[key]: value for key, value in state.items()}


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    import safetensors
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise CheckpointError(f'Checkpoint {path} does not exist.')
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f'{path} is damaged or no safetensors file: {error}') from error


def _find_state(value: Any) -> dict[str, Tensor] | None:
    if not isinstance(value, Mapping):
        return None
    inner = [value[key] for key in _STATE_KEYS if isinstance(value.get(key), Mapping)]
    inner += [nested for nested in [_below(value, _NESTED_STATE)] if nested is not None]
    if not inner and len(value) == 1:
        inner = list(value.values())  # {'anything': state dict}
    for candidate in inner:
        found = _find_state(candidate)
        if found is not None:
            return found
    return {key: item for key, item in value.items() if isinstance(item, Tensor)} or None


def _below(value: Any, keys: Sequence[str]) -> Mapping | None:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else None


def _strip_wrappers(key: str) -> str:
    while key.startswith(_WRAPPERS):
        key = key.split('.', 1)[1]
    return key


def _apply_prefix_map(tensors: dict[str, Tensor], prefix_map: Mapping[str, str], path: str | Path) -> dict[str, Tensor]:
    prefixes = {_strip_wrappers(old): new for old, new in prefix_map.items()}
    for old in prefixes:
        if not any(key.startswith(old) for key in tensors):
            first = ', '.join([*tensors][:3])
            raise ConfigError(f"prefix_map: no tensor in {path} starts with '{old}'. First names: {first}.")
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        old = max((prefix for prefix in prefixes if key.startswith(prefix)), key=len, default=None)
        name = key if old is None else prefixes[old] + key.removeprefix(old)
        if name in renamed:
            raise ConfigError(f"prefix_map: two tensors in {path} would be called '{name}'.")
        renamed[name] = tensor
    return renamed


def _plan(model: nn.Module, tensors: dict[str, Tensor], source: str, path: str | Path) -> _Plan:
    wanted = model.state_dict()
    placed, unexpected = _place(tensors, SOURCES[source], wanted)
    state, computed = _resize(model, placed)
    mismatch = [(name, tuple(tensor.shape), tuple(wanted[name].shape)) for name, tensor in state.items()
                if tensor.shape != wanted[name].shape]
    bad = {name for name, _, _ in mismatch}
    bad_head_layers = {_layer_of(name) for name in bad if _in_head(name)}
    dropped = tuple(name for name in state if name not in bad and _layer_of(name) in bad_head_layers)
    fits = {name: tensor for name, tensor in state.items() if name not in bad and name not in dropped}
    missing = tuple(name for name in wanted if name not in state and name not in computed)
    added = _added(model)
    required = [name for name in _required(model, wanted) if name not in computed
                and not (name in missing and (name in added or name.endswith('num_batches_tracked')))]
    resized = tuple(name for name in fits if fits[name] is not placed[name])
    report = LoadReport(Path(path).name, source, tuple(fits), missing, tuple(unexpected), tuple(mismatch), dropped,
                        resized)
    return _Plan(fits, report, len(required), sum(name in fits for name in required))


def _place(tensors: dict[str, Tensor], rename: Callable[[str], str | None],
           wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under the model's names, and the file's names of those without a place."""
    state: dict[str, Tensor] = {}
    homeless = []
    # Exact names first, so that `backbone.x` keeps its place before an `x` that could also go there.
    for key in sorted(tensors, key=lambda key: key not in wanted):
        name = rename(key)
        # A bare backbone takes the tensors of a whole model's backbone, and the other way round.
        places = () if name is None else (name, f'backbone.{name}', name.removeprefix('backbone.'))
        place = next((place for place in places if place in wanted and place not in state), None)
        if place is None:
            homeless.append(key)
        else:
            state[place] = tensors[key]
    return state, homeless


def _resize(model: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """Let the backbone adapt position tables to its own size; also returns the names it computes itself.

    mmpretrain's backbones do this in hooks that run before a state dict is loaded. They must run before shapes are
    compared, hence here.
    """
    adapted = dict(state)
    hooks = [(f'{prefix}.' if prefix else '', hook) for prefix, module in model.named_modules()
             for hook in module._load_state_dict_pre_hooks.values()]
    try:
        with _quiet_hooks():
            for prefix, hook in hooks:
                hook(adapted, prefix, {}, True, [], [], [])
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError):
        # Tables of another kind of model: compared as they are, their shapes tell what is wrong.
        return state, set()
    return {name: tensor for name, tensor in adapted.items() if name in state}, set(state) - set(adapted)


@contextmanager
def _quiet_hooks() -> Iterator[None]:
    # Hooks log every table they touch, once for each format that is tried; the report lists them instead.
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _required(model: nn.Module, wanted: Mapping[str, Tensor]) -> list[str]:
    has_backbone = getattr(model, 'backbone', None) is not None
    return [name for name in wanted if not (has_backbone and _in_head(name))]


def _added(model: nn.Module) -> set[str]:
    """Tensors that weights of the network as published cannot have: what modules list in `added_tensors`."""
    return {f'{prefix}.{name}' if prefix else name for prefix, module in model.named_modules()
            for name in getattr(module, 'added_tensors', ())}


def _in_head(name: str) -> bool:
    return name.startswith('head.')


def _layer_of(name: str) -> str:
    return name.rpartition('.')[0]


def _refusal(best: _Plan, model: nn.Module, tensors: dict[str, Tensor], source: str, min_matched: float) -> str:
    report = best.report
    part = 'tensors' if getattr(model, 'backbone', None) is None else 'tensors outside the head'
    message = [f'Only {best.num_found} of {best.num_required} {part} matched in {report.path}, '
               f'{min_matched:.0%} are needed; nothing was loaded.']
    added = _added(model)
    absent = [name for name in report.missing if name in _required(model, model.state_dict()) and name not in added]
    shapes = [f'{name} {found}, expected {want}' for name, found, want in report.shape_mismatch]
    message += [f'First {title}: {names[0]}.' for title, names in (
        ('missing', absent), ('unexpected', report.unexpected), ('of another shape', shapes)) if names]
    if source != 'auto':
        others = {name: _plan(model, tensors, name, report.path).share for name in SOURCES}
        likely = max(others, key=others.get)
        if others[likely] >= min_matched:
            return ' '.join([*message, f"Try source='{likely}'."])
    return ' '.join([*message, "Wrong file, or its names need prefix_map={'old.': 'new.'}."])
