"""Everything a strategy remembers, as tensors and plain values.

A walk over the plugins of a strategy encodes what it meets by kind: tensors, Avalanche's parameter records,
containers, modules (state, modes, gradient flags), data sets (as experience and row of every sample) and
Avalanche's small stateful objects. An unknown kind is an error that names its path, never skipped.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from clear.core.errors import CheckpointError

KIND = '__kind__'
# Fields that the strategy's own prologue makes anew, by class name.
REBUILT = {
    'AGEMPlugin': ('buffer_dataloader', 'buffer_dliter', 'reference_gradients'),
    'RepairedSynapticIntelligencePlugin': ('_device',),
    'SynapticIntelligencePlugin': ('_device',),
}
# Fields of the strategy itself that are state. Everything else on it is built or belongs to one batch.
STRATEGY_FIELDS = ('dataset', '_is_fitted')
SKIPPED_PLUGINS = ('EvaluationPlugin', 'PeriodicEval', 'SchedulePlugin')


class SampleIndex:
    """Finds the (experience, row) of every sample of an Avalanche data set, and makes data sets from them.

    Args:
        experiences: the Avalanche data set of each training experience.
    """

    def __init__(self, experiences: list):
        self.experiences = experiences
        self._owner = {}
        for index, dataset in enumerate(experiences):
            bottoms, _ = _resolve(dataset)
            for bottom in bottoms:
                self._owner[id(bottom)] = index

    def locate(self, dataset) -> tuple[torch.Tensor, torch.Tensor]:
        """Experience and row of each sample, in order."""
        bottoms, (which, rows) = _resolve(dataset)
        try:
            owners = np.array([self._owner[id(bottom)] for bottom in bottoms], dtype=np.int64)
        except KeyError:
            raise CheckpointError('A strategy remembers samples that belong to no training experience; '
                                  'they cannot be saved.') from None
        experience = owners[which] if len(which) else np.empty(0, dtype=np.int64)
        return torch.from_numpy(experience), torch.from_numpy(rows)

    def dataset(self, experience: torch.Tensor, rows: torch.Tensor):
        """The data set whose samples are those rows, in that order."""
        from avalanche.benchmarks.utils.utils import concat_datasets

        if not len(rows):
            return concat_datasets([])
        change = torch.nonzero(experience[1:] != experience[:-1]).reshape(-1) + 1
        parts = []
        for part in torch.tensor_split(torch.arange(len(rows)), change):
            parts.append(self.experiences[int(experience[part[0]])].subset(rows[part].tolist()))
        return parts[0] if len(parts) == 1 else concat_datasets(parts)


def _resolve(dataset) -> tuple[list, tuple[np.ndarray, np.ndarray]]:
    """The data sets at the bottom of Avalanche's tree, and for each sample which of them and its row there."""
    from avalanche.benchmarks.utils.data import AvalancheDataset
    from avalanche.benchmarks.utils.flat_data import FlatData

    flat = dataset._flat_data if isinstance(dataset, AvalancheDataset) else dataset
    if not isinstance(flat, FlatData):
        return [flat], (np.zeros(len(flat), dtype=np.int64), np.arange(len(flat), dtype=np.int64))
    bottoms: list[Dataset] = []
    which, rows = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for child in flat._datasets:
        child_bottoms, (child_which, child_rows) = _resolve(child)
        which.append(child_which + len(bottoms))
        rows.append(child_rows)
        bottoms += child_bottoms
    which, rows = np.concatenate(which), np.concatenate(rows)
    if flat._indices is not None:
        indices = np.asarray(list(flat._indices), dtype=np.int64)
        which, rows = which[indices], rows[indices]
    return bottoms, (which, rows)


def strategy_state(strategy, index: SampleIndex) -> dict[str, Any]:
    """What `strategy` (Avalanche, under the engine's mix-in) remembers between experiences."""
    plugins = {}
    for position, plugin in enumerate(strategy.plugins):
        if type(plugin).__name__ not in SKIPPED_PLUGINS:
            plugins[f'{position}:{type(plugin).__name__}'] = _encode_object(plugin, index, type(plugin).__name__)
    fields = {name: encode(getattr(strategy, name), index, name) for name in STRATEGY_FIELDS if hasattr(strategy, name)}
    metrics = [_encode_object(metric, index, f'metrics[{position}]')
               for position, metric in enumerate(strategy.evaluator.metrics)]
    return dict(plugins=plugins, fields=fields, metrics=metrics, schedule=strategy.schedule.state_dict())


def load_strategy_state(strategy, state: dict[str, Any], index: SampleIndex) -> None:
    """Put `strategy_state`'s result back into a freshly built strategy of the same config.

    Raises:
        CheckpointError: if the plugins differ from those that were saved.
    """
    present = {f'{position}:{type(plugin).__name__}': plugin for position, plugin in enumerate(strategy.plugins)
               if type(plugin).__name__ not in SKIPPED_PLUGINS}
    if set(present) != set(state['plugins']) or len(strategy.evaluator.metrics) != len(state['metrics']):
        raise CheckpointError(f"The checkpoint holds the state of {', '.join(sorted(state['plugins']))}; this run has "
                              f"{', '.join(sorted(present))}. Resume with the config that wrote it.")
    decoder = _Decoder(index, strategy.model)
    for name, plugin in present.items():
        decoder.into_object(plugin, state['plugins'][name])
    for name, value in state['fields'].items():
        setattr(strategy, name, decoder.value(value, getattr(strategy, name, None)))
    for metric, value in zip(strategy.evaluator.metrics, state['metrics']):
        decoder.into_object(metric, value)
    strategy.schedule.load_state_dict(state['schedule'], strategy.optimizer)
    # None would tell Avalanche to wipe the optimiser's state at the next experience.
    strategy.optimized_param_id = dict(strategy.model.named_parameters())
    _rebuild_loaders(strategy)


def _rebuild_loaders(strategy) -> None:
    """Make the loaders that Avalanche creates after an experience and that hold no state but their data sets."""
    for plugin in strategy.plugins:
        if type(plugin).__name__ == 'AGEMPlugin' and plugin.buffers:
            from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader

            plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(
                plugin.buffers, batch_size=plugin.sample_size // len(plugin.buffers), num_workers=0, pin_memory=False)
            plugin.buffer_dliter = iter(plugin.buffer_dataloader)


def encode(value: Any, index: SampleIndex, path: str) -> Any:
    """`value` as tensors and plain values.

    Raises:
        CheckpointError: naming `path` if `value` is of a kind that cannot be saved.
    """
    from avalanche.benchmarks.utils.data import AvalancheDataset
    from avalanche.training.utils import ParamData

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, ParamData):
        return {KIND: 'param', 'name': value.name, 'data': encode(value.data, index, path), 'device': str(value.device)}
    if isinstance(value, nn.Module):
        return {KIND: 'module', 'state': {key: encode(item, index, key) for key, item in value.state_dict().items()},
                'training': [module.training for module in value.modules()],
                'requires_grad': [parameter.requires_grad for parameter in value.parameters()]}
    if isinstance(value, AvalancheDataset):
        experience, rows = index.locate(value)
        return {KIND: 'dataset', 'experience': experience, 'rows': rows}
    if isinstance(value, dict):
        return {KIND: 'dict', 'items': [[encode(key, index, path), encode(item, index, f'{path}[{key!r}]')]
                                        for key, item in value.items()]}
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind)).__name__
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return {KIND: kind, 'items': [encode(item, index, f'{path}[{number}]') for number, item in enumerate(items)]}
    if _is_stateful(value):
        return _encode_object(value, index, path)
    raise CheckpointError(f'{path}: a {type(value).__name__} cannot be saved in a checkpoint.')


def _is_stateful(value: Any) -> bool:
    return type(value).__module__.split('.')[0] in ('avalanche', 'clear') and hasattr(value, '__dict__')


def _encode_object(value: Any, index: SampleIndex, path: str) -> dict:
    skipped = REBUILT.get(type(value).__name__, ())
    fields = {name: encode(item, index, f'{path}.{name}') for name, item in vars(value).items() if name not in skipped}
    return {KIND: 'object', 'class': f'{type(value).__module__}.{type(value).__qualname__}', 'fields': fields}


class _Decoder:
    """Turns encoded values back, into the existing object where there is one of the same kind.

    Args:
        index: makes data sets from experiences and rows.
        model: the live model; a saved module (a teacher) is a copy of its shape.
    """

    def __init__(self, index: SampleIndex, model: nn.Module):
        self.index = index
        self.model = model
        # Kinds of objects that a strategy makes while it runs. Nothing else is ever constructed from a file.
        from avalanche.training.storage_policy import ReservoirSamplingBuffer

        self.classes = {f'{cls.__module__}.{cls.__qualname__}': cls for cls in (ReservoirSamplingBuffer,)}

    def value(self, encoded: Any, existing: Any = None) -> Any:
        if not isinstance(encoded, dict):
            return encoded
        return getattr(self, f'_{encoded[KIND]}')(encoded, existing)

    def into_object(self, target: Any, encoded: dict) -> Any:
        for name, item in encoded['fields'].items():
            setattr(target, name, self.value(item, getattr(target, name, None)))
        return target

    def _object(self, encoded: dict, existing: Any) -> Any:
        name = encoded['class']
        if existing is None or f'{type(existing).__module__}.{type(existing).__qualname__}' != name:
            if name not in self.classes:
                raise CheckpointError(f'The checkpoint holds a {name}, which this strategy does not have.')
            existing = object.__new__(self.classes[name])
        return self.into_object(existing, encoded)

    def _param(self, encoded: dict, _existing: Any) -> Any:
        from avalanche.training.utils import ParamData

        return ParamData(encoded['name'], init_tensor=encoded['data'].to(encoded['device']), device=encoded['device'])

    def _module(self, encoded: dict, existing: Any) -> nn.Module:
        module = existing if isinstance(existing, nn.Module) else copy.deepcopy(self.model)
        module.load_state_dict(encoded['state'])
        for part, training in zip(module.modules(), encoded['training']):
            part.training = training
        for parameter, requires_grad in zip(module.parameters(), encoded['requires_grad']):
            parameter.requires_grad_(requires_grad)
            parameter.grad = None
        return module

    def _dataset(self, encoded: dict, _existing: Any) -> Any:
        return self.index.dataset(encoded['experience'], encoded['rows'])

    def _dict(self, encoded: dict, existing: Any) -> dict:
        # Kept where it is, so that a defaultdict keeps its factory and aliases stay aliases.
        old = dict(existing) if isinstance(existing, dict) else {}
        target = existing if isinstance(existing, dict) else {}
        target.clear()
        for key, item in encoded['items']:
            target[self.value(key)] = self.value(item, old.get(self.value(key)))
        return target

    def _list(self, encoded: dict, existing: Any) -> list:
        old = list(existing) if isinstance(existing, (list, tuple)) else []
        old += [None] * (len(encoded['items']) - len(old))
        return [self.value(item, was) for item, was in zip(encoded['items'], old)]

    def _tuple(self, encoded: dict, existing: Any) -> tuple:
        return tuple(self._list(encoded, existing))

    def _set(self, encoded: dict, _existing: Any) -> set:
        return {self.value(item) for item in encoded['items']}

    def _frozenset(self, encoded: dict, _existing: Any) -> frozenset:
        return frozenset(self._set(encoded, None))
