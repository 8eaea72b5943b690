"""Load weights from a file into a model: names are translated, what fits is counted, too little is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from clear.core.checks import check_number
from clear.core.errors import CheckpointError, ConfigError, nearest
from clear.core.files import load_tensors
from clear.core.logs import logger
from clear.models.resizing import quiet_hooks, resize_tables
from clear.models.weights.download import local_weights
from clear.models.weights.rules import COMPUTED, SOURCES, TRANSLATED, adapted, without_a_place

# Keys under which checkpoints keep their weights, tried in this order. DINO's hold student and teacher; the paper
# evaluates the teacher.
_STATE_KEYS = ('state_dict', 'model_state', 'model_state_dict', 'model', 'network', 'net', 'teacher')
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
        resized: loaded after the backbone's library had interpolated them to its own size.
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
    """One way to read the file: the tensors to load and the report on them.

    Args:
        required: tensors of the model that the file should have; `lacking` are those of them that it has not, or not
            in the right shape.
        larger: weights of the file that belong to a larger network of this kind.
        foreign: other tensors of a translated file that mmpretrain's network does not have.
    """

    state: dict[str, Tensor]
    report: LoadReport
    required: list[str]
    lacking: list[str]
    larger: list[str]
    foreign: list[str]

    @property
    def share(self) -> float:
        return 1 - len(self.lacking) / len(self.required) if self.required else 0.0


def load_weights(model: nn.Module, path: str | Path, *, source: str = 'auto',
                 prefix_map: Mapping[str, str] | None = None, min_matched: float | None = None,
                 removed: Sequence[str] | None = None, sha256: str | None = None) -> LoadReport:
    """Load the tensors of a file that fit the model by name and shape; freezes nothing.

    Reads `.safetensors`, and files of torch that hold tensors and plain values only: a state dict, or a checkpoint
    with one in it (ours, mmengine's, MoCo's ...). A head for other classes is left out and listed, one that fits is
    loaded. Position tables of another image size are resized as the model's library does it.

    Required are the tensors of the model outside its head, or all if it has no backbone. Counters and other buffers
    of whole numbers, buffers that a backbone computes itself, and what was added to a network after its pretraining
    (adapters, LoRA) may be missing.

    Args:
        path: a file, or an http(s) address, which `local_weights` downloads.
        source: format of the names, a key of `SOURCES`; `'auto'` takes the one that fits best.
        prefix_map: `{'old.': 'new.'}`, applied before that; the longest prefix that fits a name is replaced.
        min_matched: None wants every required tensor, and no weights of a larger network of the same kind in the
            file. A share, 0 ... 1, of the required tensors is enough if it is given: what stays as it was is then
            named in a warning.
        removed: for a frozen network: the modules that were taken off it. Everything that is left is then required,
            layers of its head and what was added to it among them.
        sha256: of the file at an address.

    Raises:
        CheckpointError: if the file cannot be read or too little matches. The model is then unchanged.
        ConfigError: if `source` or `min_matched` is impossible, or an entry of `prefix_map` fits no tensor.
    """
    if min_matched is not None:
        check_number('min_matched', min_matched, 0, 1)
    if source != 'auto' and source not in SOURCES:
        near = nearest(source, SOURCES) or ', '.join(f"'{name}'" for name in ('auto', *SOURCES))
        raise ConfigError(f"load_from: no source '{source}' is known. Nearest: {near}.")
    path = local_weights(path, sha256)
    tensors = _apply_prefix_map(read_state(path), prefix_map or {}, path)
    plans = [_plan(model, tensors, name, path, removed) for name in (SOURCES if source == 'auto' else [source])]
    best = max(plans, key=lambda plan: (plan.share, len(plan.report.matched), -len(plan.report.unexpected)))
    if best.share < (1 if min_matched is None else min_matched) or not best.state:
        others = [] if source == 'auto' else [_plan(model, tensors, name, path, removed) for name in SOURCES]
        raise CheckpointError(_refusal(best, model, others, min_matched))
    if best.larger and min_matched is None:
        raise CheckpointError(f'{Path(path).name} holds {len(best.larger)} weights that {type(model).__name__} has no '
                              f'place for, first {best.larger[0]}: they are those of a larger network. Build that one, '
                              'or spell out min_matched (a share of the tensors) to take the part that fits.')
    if best.foreign and min_matched is None:
        raise CheckpointError(f"{Path(path).name} (source '{best.report.source}') holds {best.foreign[0]}, for which "
                              f'{_backbone_of(model)} has no place as it is configured: the network of the file '
                              'computes something else. Configure or take the one that it is of, or spell out '
                              'min_matched (a share of the tensors) to leave such tensors out.')
    _warn(best, model, removed)
    with quiet_hooks():
        model.load_state_dict(best.state, strict=False)
    return best.report


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in the file, names without wrappers."""
    value = load_tensors(path)
    state = _find_state(value)
    if state is None:
        held = f'a dict with the keys {list(value)[:6]}' if isinstance(value, dict) else type(value).__name__
        raise CheckpointError(f'{path} holds no state dict, but {held}. '
                              f'Expected tensors by name, or those under one of {list(_STATE_KEYS)}.')
    odd = [key for key in state if not isinstance(key, str)]
    if odd:
        raise CheckpointError(f'{path} holds a tensor called {odd[0]!r}; names of tensors are text.')
    names = {key: _strip_wrappers(key) for key in state}
    if len(set(names.values())) < len(names):
        # Both `module.x` and `x`: which one is meant is not ours to guess.
        names = {key: key for key in state}
    return {names[key]: value for key, value in state.items()}


def _find_state(value: object) -> dict[str, Tensor] | None:
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


def _below(value: object, keys: Sequence[str]) -> Mapping | None:
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


def _plan(model: nn.Module, tensors: dict[str, Tensor], source: str, path: str | Path,
          removed: Sequence[str] | None) -> _Plan:
    wanted = model.state_dict()
    placed, unexpected = _place(tensors, source, wanted)
    state, computed = resize_tables(model, placed)
    mismatch = [(name, tuple(tensor.shape), tuple(wanted[name].shape)) for name, tensor in state.items()
                if tensor.shape != wanted[name].shape]
    bad = {name for name, _, _ in mismatch}
    bad_head_layers = {_layer_of(name) for name in bad if _in_head(name)} if removed is None else set()
    dropped = tuple(name for name in state if name not in bad and _layer_of(name) in bad_head_layers)
    fits = {name: tensor for name, tensor in state.items() if name not in bad and name not in dropped}
    missing = tuple(name for name in wanted if name not in state and name not in computed)
    # A frozen network is not trained on: what was added to it, too, would stay random.
    may_be_missing = _added(model) if removed is None else set()
    may_be_missing |= {name for name, value in model.named_buffers()
                       if not value.is_floating_point() or name.endswith(COMPUTED)}
    required = [name for name in _required(model, wanted, removed) if name not in computed
                and not (name in missing and name in may_be_missing)]
    resized = tuple(name for name in fits if fits[name] is not placed[name])
    report = LoadReport(Path(path).name, source, tuple(fits), missing, tuple(unexpected), tuple(mismatch), dropped,
                        resized)
    larger = _weights_of_larger(wanted, report, removed or ())
    left = without_a_place(unexpected, source, removed or ()) if source in TRANSLATED else []
    return _Plan(fits, report, required, [name for name in required if name not in fits], larger,
                 [name for name in left if name not in larger])


def _place(tensors: dict[str, Tensor], source: str,
           wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under the model's names, and the file's names of those without a place."""
    state: dict[str, Tensor] = {}
    homeless = []
    # Exact names first, so that `backbone.x` keeps its place before an `x` that could also go there.
    for key in sorted(tensors, key=lambda key: key not in wanted):
        name = SOURCES[source](key)
        # A bare backbone takes the tensors of a whole model's backbone, and the other way round.
        places = () if name is None else (name, f'backbone.{name}', name.removeprefix('backbone.'))
        place = next((place for place in places if place in wanted and place not in state), None)
        if place is None:
            homeless.append(key)
        else:
            state[place] = adapted(tensors[key], source, name, wanted[place].shape)
    return state, homeless


def _required(model: nn.Module, wanted: Mapping[str, Tensor], removed: Sequence[str] | None) -> list[str]:
    may_lack_head = removed is None and getattr(model, 'backbone', None) is not None
    return [name for name in wanted if not (may_lack_head and _in_head(name))]


def _weights_of_larger(wanted: Mapping[str, Tensor], report: LoadReport, removed: Sequence[str]) -> list[str]:
    """Weights of the file that lie in a part of the backbone which the model has too, but not with so many layers."""
    known = {_bare(name) for name in wanted if not _in_head(name)}
    parts = {name.split('.')[0] for name in known}
    found = []
    for name in without_a_place(report.unexpected, report.source, removed):
        new = _bare(SOURCES[report.source](name) or '')
        # One that is known has lost its place to another tensor of the file.
        if new.endswith(('.weight', '.bias')) and new.split('.')[0] in parts and new not in known:
            found.append(name)
    return found


def _backbone_of(model: nn.Module) -> str:
    return type(getattr(model, 'backbone', None) or model).__name__


def _bare(name: str) -> str:
    return name.removeprefix('backbone.')


def _warn(plan: _Plan, model: nn.Module, removed: Sequence[str] | None) -> None:
    if plan.lacking:
        logger.warning('%s: %d tensors of %s are not in it or have another shape and stay as they were: %s.',
                       plan.report.path, len(plan.lacking), type(model).__name__, ', '.join(plan.lacking))
    foreign = plan.larger + plan.foreign if removed is None else without_a_place(
        plan.report.unexpected, plan.report.source, removed)
    if foreign:
        logger.warning('%s holds %d tensors that %s has no place for, first %s: is it the weights of a larger one?',
                       plan.report.path, len(foreign), type(model).__name__, foreign[0])


def _added(model: nn.Module) -> set[str]:
    """Tensors that weights of the network as published cannot have: what modules list in `added_tensors`."""
    return {f'{prefix}.{name}' if prefix else name for prefix, module in model.named_modules()
            for name in getattr(module, 'added_tensors', ())}


def _in_head(name: str) -> bool:
    return name.startswith('head.')


def _layer_of(name: str) -> str:
    return name.rpartition('.')[0]


def _refusal(best: _Plan, model: nn.Module, others: Sequence[_Plan], min_matched: float | None) -> str:
    report = best.report
    is_whole = getattr(model, 'backbone', None) is None or any(map(_in_head, best.required))
    part = 'tensors' if is_whole else 'tensors outside the head'
    needed = 'all are needed' if min_matched is None else f'{min_matched:.0%} are needed'
    found = len(best.required) - len(best.lacking)
    message = [f'Only {found} of {len(best.required)} {part} matched in {report.path}, {needed}; nothing was loaded.']
    absent = [name for name in best.lacking if name in report.missing]
    shapes = [f'{name} {found}, expected {want}' for name, found, want in report.shape_mismatch]
    strange = report.unexpected if absent else best.foreign
    message += [f'First {title}: {names[0]}.' for title, names in (
        ('missing', absent), ('unexpected', strange), ('of another shape', shapes)) if names]
    enough = 1 if min_matched is None else min_matched
    likely = max(others, key=lambda plan: plan.share, default=None)
    if likely is not None and likely.share >= enough:
        return ' '.join([*message, f"Try source='{likely.report.source}'."])
    if not absent:
        return ' '.join([*message, f"Its names fit (source '{report.source}'): it is of another size or configuration "
                                   f'of {_backbone_of(model)}.'])
    return ' '.join([*message, "Wrong file, or its names need prefix_map={'old.': 'new.'}."])
