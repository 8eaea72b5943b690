"""Everything a strategy remembers, as tensors and plain values.

A walk over the plugins of a strategy encodes what it meets by kind: tensors, Avalanche's parameter records,
containers, modules (state, modes, gradient flags), data sets (as experience and row of every sample) and
Avalanche's small stateful objects. An unknown kind is an error that names its path, never skipped.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from clear.core.errors import CheckpointError

KIND = '__kind__'
KINDS = ('param', 'module', 'dataset', 'dict', 'list', 'tuple', 'set', 'frozenset', 'object')
# Fields that a constructor or the strategy's own prologue makes anew, by class name.
REBUILT = {
    'AGEMPlugin': ('buffer_dataloader', 'buffer_dliter', 'reference_gradients'),
    'CPUUsage': ('_process_handle', '_first_update'),
    'LabelsRepartitionPlugin': ('image_creator', 'strategy'),
    'MaxGPU': ('thread',),
    'MaxRAM': ('_process_handle', 'thread'),
    'MeanScoresEvalPluginMetric': ('image_creator',),
    'MeanScoresTrainPluginMetric': ('image_creator',),
    'RepairedSynapticIntelligencePlugin': ('_device',),
    'StreamConfusionMatrix': ('_image_creator',),
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
        # Of each data set at the bottom: which experience every row belongs to, and as which row of it.
        self._places: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for number, dataset in enumerate(experiences):
            bottoms, (which, rows) = _resolve(dataset)
            for position, bottom in enumerate(bottoms):
                if id(bottom) not in self._places:
                    self._places[id(bottom)] = (np.full(len(bottom), -1), np.full(len(bottom), -1))
                owner, row_there = self._places[id(bottom)]
                here = np.flatnonzero(which == position)
                owner[rows[here]], row_there[rows[here]] = number, here

    def locate(self, dataset) -> tuple[torch.Tensor, torch.Tensor]:
        """Experience and row of each sample, in order.

        Raises:
            CheckpointError: if a sample belongs to no training experience.
        """
        bottoms, (which, rows) = _resolve(dataset)
        experience, row_there = np.full(len(rows), -1), np.full(len(rows), -1)
        for position, bottom in enumerate(bottoms):
            if id(bottom) in self._places:
                owner, place = self._places[id(bottom)]
                here = which == position
                experience[here], row_there[here] = owner[rows[here]], place[rows[here]]
        if (experience < 0).any():
            raise CheckpointError('A strategy remembers samples that belong to no training experience; '
                                  'they cannot be saved.')
        return torch.from_numpy(experience), torch.from_numpy(row_there)

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
    return {KIND: 'object', 'class': _class_name(type(value)), 'fields': fields}


def _class_name(cls: type) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


class _Decoder:
    """Turns encoded values back, into the existing object where there is one of the same kind.

    Args:
        index: makes data sets from experiences and rows.
        model: the live model; a saved module (a teacher) is a copy of its shape.
    """

    def __init__(self, index: SampleIndex, model: nn.Module):
        self.index = index
        self.model = model
        # Kinds of objects that a strategy or metric makes while it runs, with how to make an empty one. Nothing else
        # is ever constructed from a file.
        from avalanche.evaluation.metrics.amca import AverageMeanClassAccuracy
        from avalanche.training.storage_policy import ReservoirSamplingBuffer

        self.makers = {_class_name(cls): partial(cls, *arguments) for cls, *arguments in (
            (ReservoirSamplingBuffer, 0), (AverageMeanClassAccuracy,))}

    def value(self, encoded: Any, existing: Any = None) -> Any:
        if not isinstance(encoded, dict):
            return encoded
        kind = encoded.get(KIND)
        if kind not in KINDS:
            raise CheckpointError(f'The checkpoint holds a value of unknown kind {kind!r}: it is damaged, or a newer '
                                  'version wrote it.')
        return getattr(self, f'_{kind}')(encoded, existing)

    def into_object(self, target: Any, encoded: dict) -> Any:
        for name, item in encoded['fields'].items():
            setattr(target, name, self.value(item, getattr(target, name, None)))
        return target

    def _object(self, encoded: dict, existing: Any) -> Any:
        name = encoded['class']
        if existing is None or _class_name(type(existing)) != name:
            if name not in self.makers:
                raise CheckpointError(f'The checkpoint holds a {name}, which this strategy does not have.')
            existing = self.makers[name]()
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
        # Metrics keep one object per task in a defaultdict, whose own factory makes those that are not there yet.
        make = getattr(existing, 'default_factory', None) or (lambda: None)
        target.clear()
        for key, item in encoded['items']:
            key = self.value(key)
            target[key] = self.value(item, old[key] if key in old else make())
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
