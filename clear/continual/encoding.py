"""Values of a strategy as tensors and plain values, by kind, and back.

Kinds are tensors, Avalanche's parameter records, containers, modules (state, modes, gradient flags), data sets (as
experience and row of every sample), parts of the strategy itself (by name) and objects. One that has `state_dict` and
`load_state_dict` (`contracts.Stateful`) is asked; of Avalanche's and ours, and of registered ones, every attribute is
saved. Another kind is an error that names its path, never skipped.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import io
import operator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import nn

from clear.continual.plain_kinds import PLAIN_KINDS, empty_dict, kind_of_dict, plain, unplain
from clear.continual.samples import SampleIndex, attribute_values
from clear.continual.training.loaders import BatchIterator, IndexLoader
from clear.continual.training.traits import rebuilt_fields
from clear.continual.training.versions import VERSION_FIELDS
from clear.core.contracts import Stateful
from clear.core.errors import CheckpointError
from clear.core.storage.damage import is_alike
from clear.registry import BUFFERS, MODELS, PLUGINS

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset
    from avalanche.training.utils import ParamData

# What `encode` gives: tensors and plain values, and dicts with a `KIND` for all others.
Encoded: TypeAlias = 'None | bool | int | float | str | torch.Tensor | list[Encoded] | dict[str, Encoded]'
Kept = TypeVar('Kept')

KIND = '__kind__'
# In place of the fields of an object that was asked for its state; no attribute can have this name.
ASKED = 'state_dict()'
KINDS = ('live', 'param', 'module', 'dataset', 'batches', 'array', 'scalar', 'leaf', 'optimizer', 'dict', 'list',
         'tuple', 'set', 'frozenset', 'object', *PLAIN_KINDS)
LOADER_OPTIONS = ('shuffle', 'drop_last', 'terminating', 'oversample', 'repeat', 'num_workers', 'pin_memory')


class OpenFileError(CheckpointError):
    """An open file among what is to be saved."""


def encode(value: object, index: SampleIndex, path: str) -> Encoded:
    """`value` as tensors and plain values.

    Raises:
        CheckpointError: naming `path` if `value` is of a kind that cannot be saved.
    """
    from avalanche.benchmarks.utils.data import AvalancheDataset
    from avalanche.training.utils import ParamData

    if isinstance(value, np.generic):
        # A float32 computes in other numbers than a float of Python's, which is a float64.
        is_alike = isinstance(value, (np.float64, np.int64)) or not isinstance(value, np.number)
        return value.item() if is_alike else {KIND: 'scalar', 'data': _of_array(np.asarray(value), path)}
    if value is None or isinstance(value, (bool, int, float, str)) and not isinstance(value, enum.Enum):
        return value
    if id(value) in index.live_names:
        return {KIND: 'live', 'name': index.live_names[id(value)]}
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().clone()
        is_leaf = value.requires_grad and value.is_leaf  # an optimiser may hold it
        return {KIND: 'leaf', 'data': data, 'grad': encode(value.grad, index, path)} if is_leaf else data
    if isinstance(value, np.ndarray):
        return {KIND: 'array', 'data': _of_array(value, path)}
    if isinstance(value, io.IOBase):
        raise OpenFileError(f'{path}: an open file cannot be saved in a checkpoint. Declare it in its class, '
                            f"rebuilt = ({path.rpartition('.')[2]!r},), and open it where it is there again after a "
                            'resume: in the constructor or before_training_exp. Or open it for every write.')
    if isinstance(value, ParamData):
        return {KIND: 'param', 'name': value.name, 'data': encode(value.data, index, path), 'device': str(value.device)}
    if isinstance(value, nn.Module):
        return {KIND: 'module', 'state': {key: encode(item, index, key) for key, item in value.state_dict().items()},
                'extras': module_extras(value, index, path),
                'training': [module.training for module in value.modules()],
                'requires_grad': [parameter.requires_grad for parameter in value.parameters()]}
    if isinstance(value, AvalancheDataset):
        experience, rows = index.locate(value)
        return {KIND: 'dataset', 'experience': experience, 'rows': rows, 'attributes': _tensor_attributes(value)}
    if isinstance(value, (IndexLoader, BatchIterator)):
        return _encode_batches(value, index, path)
    if isinstance(value, torch.optim.Optimizer):
        return {KIND: 'optimizer', 'state': encode(value.state_dict(), index, path)}
    # Records of Avalanche's and ours are saved as the objects that they are.
    parts = None if dataclasses.is_dataclass(value) and _is_stateful(value) else plain(value, path)
    if parts is not None:
        return {KIND: parts['kind'], 'class': parts.get('cls'), 'parts': encode(parts['parts'], index, path)}
    if isinstance(value, dict):
        kind = kind_of_dict(value)
        items = [[encode(key, index, path), encode(item, index, f'{path}[{key!r}]')] for key, item in value.items()]
        return {KIND: 'dict', **({'as': kind} if kind else {}), 'items': items}
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind)).__name__
        items = sorted(value, key=_order) if isinstance(value, (set, frozenset)) else value
        return {KIND: kind, 'items': [encode(item, index, f'{path}[{number}]') for number, item in enumerate(items)]}
    if _says_its_state(value) or _is_stateful(value):
        return encode_object(value, index, path)
    advice = ' Give its class state_dict() and load_state_dict(state).' if _is_plain_object(value) else ''
    raise CheckpointError(f'{path}: a {type(value).__name__} cannot be saved in a checkpoint.{advice}')


def _of_array(value: np.ndarray, path: str) -> torch.Tensor:
    try:
        return torch.from_numpy(value.copy())
    except TypeError as error:
        raise CheckpointError(f'{path}: a NumPy array of {value.dtype} cannot be saved in a checkpoint.') from error


def _order(item: object) -> tuple[str, object]:
    # Of one type by value, as sets are saved since the first checkpoints; of several by type first.
    return type(item).__name__, item if isinstance(item, (int, float, str, bytes, tuple)) else repr(item)


def _tensor_attributes(dataset) -> dict[str, torch.Tensor]:
    """What a data set remembers of each sample beside label and task, e.g. the logits of DER."""
    return {attribute.name: attribute_values(attribute) for attribute in dataset._data_attributes.values()
            if attribute.use_in_getitem and attribute.name != 'targets_task_labels'}


def _encode_batches(value: IndexLoader | BatchIterator, index: SampleIndex, path: str) -> dict:
    loader = value.loader if isinstance(value, BatchIterator) else value
    options = {name: getattr(loader, name) for name in LOADER_OPTIONS}
    return {KIND: 'batches', 'datasets': [encode(dataset, index, path) for dataset in loader.datasets],
            'batch_sizes': list(loader.batch_sizes), 'options': options,
            'iterator': value.state_dict() if isinstance(value, BatchIterator) else None}


def module_extras(module: nn.Module, index: SampleIndex, path: str) -> dict[str, dict]:
    """State of Avalanche's and our modules that no state dict holds: class means, sets of seen classes ..."""
    extras = {}
    for name, part in module.named_modules():
        if not _is_stateful(part):
            continue
        kept = part._parameters.keys() | part._modules.keys()
        fields = {key: value for key, value in vars(part).items()
                  if not key.startswith('_') and key not in kept and _is_kept(value)}
        fields.update(part._buffers)
        if fields:
            extras[name] = {key: encode(value, index, f'{path}.{name}.{key}') for key, value in fields.items()}
    return extras


def _is_kept(value: object) -> bool:
    # Flags, such as `training`, belong to the construction or are saved elsewhere.
    return isinstance(value, (dict, set, torch.Tensor, int, float)) and not isinstance(value, bool)


def _with_attributes(dataset, attributes: dict[str, torch.Tensor]):
    from avalanche.benchmarks.utils import make_avalanche_dataset
    from avalanche.benchmarks.utils.data_attribute import DataAttribute
    from avalanche.benchmarks.utils.flat_data import FlatData

    return make_avalanche_dataset(dataset, data_attributes=[
        DataAttribute(FlatData([values]), name=name, use_in_getitem=True) for name, values in attributes.items()])


def _says_its_state(value: object) -> bool:
    # An optimiser of a plugin has a kind of its own; the strategy's is saved with the names of its parameters.
    return isinstance(value, Stateful) and not isinstance(value, (nn.Module, torch.optim.Optimizer, type))


def _is_plain_object(value: object) -> bool:
    return hasattr(value, '__dict__') and not is_callable_config(value)


def _is_stateful(value: object) -> bool:
    """An object of Avalanche's, of ours, or of a class of the user's that derives from one or is registered.

    Avalanche's have no `state_dict` to be asked for, and of a module `state_dict` leaves sets and numbers out. Of ours
    the attributes are saved as of Avalanche's, which most derive from: checkpoints hold them so.
    """
    if not hasattr(value, '__dict__'):
        return False
    kind = type(value)
    return any(base.__module__.split('.')[0] in ('avalanche', 'clear') for base in kind.__mro__) or \
        any(kind is item for registry in (BUFFERS, MODELS, PLUGINS) for item in registry.module_dict.values())


def encode_object(value: object, index: SampleIndex, path: str) -> dict:
    if _says_its_state(value):
        state = encode(dict(value.state_dict()), index, f'{path}.{ASKED}')
        _refuse_objects(state, f'{path}.{ASKED}')
        return {KIND: 'object', 'class': class_name(type(value)), 'fields': {ASKED: state}}
    skipped = rebuilt_fields(type(value)) | VERSION_FIELDS
    fields = {name: encode(item, index, f'{path}.{name}') for name, item in vars(value).items()
              if name not in skipped and not _is_empty_iterator(item)}
    return {KIND: 'object', 'class': class_name(type(value)), 'fields': fields}


def _refuse_objects(encoded: Encoded, path: str) -> None:
    # `load_state_dict` gets values: none of these could be made of a file alone.
    if isinstance(encoded, dict):
        if encoded.get(KIND) in ('object', 'module', 'batches'):
            what = encoded.get('class', encoded[KIND])
            raise CheckpointError(f'{path} holds a {what}; expected tensors, plain values and data sets. Give back the '
                                  'state of it.')
        for item in encoded.values():
            _refuse_objects(item, path)
    elif isinstance(encoded, list):
        for item in encoded:
            _refuse_objects(item, path)


def _is_empty_iterator(value: object) -> bool:
    # Avalanche's placeholder, `iter([])`.
    return isinstance(value, type(iter([]))) and operator.length_hint(value) == 0


def class_name(cls: type) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


def is_saved_as(cls: type, name: str) -> bool:
    """Whether `name` in a checkpoint is that class; files of ours may have moved since it was written, and a class of
    ours may stand where Avalanche's of the same name did.
    """
    own = class_name(cls)
    return own == name or (own.startswith('clear.') and short_name(own) == short_name(name) and (
        name.startswith('clear.') or name in map(class_name, cls.__mro__)))


def short_name(class_name: str) -> str:
    return class_name.rpartition('.')[2]


class Decoder:
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
        from avalanche.training.storage_policy import ReservoirSamplingBuffer, _ParametricSingleBuffer

        from clear.continual.buffers.balanced import RankedExemplars
        from clear.continual.buffers.flat import FlatReservoir

        self.makers = {class_name(cls): partial(cls, *arguments) for cls, *arguments in (
            (ReservoirSamplingBuffer, 0), (FlatReservoir, 0), (RankedExemplars, 0), (_ParametricSingleBuffer, 0),
            (AverageMeanClassAccuracy,))}

    def value(self, encoded: Encoded, existing: object = None) -> Any:
        if not isinstance(encoded, dict):
            return encoded
        kind = encoded.get(KIND)
        if kind not in KINDS:
            raise CheckpointError(f'The checkpoint holds a value of unknown kind {kind!r}: it is damaged, or a newer '
                                  'version wrote it.')
        if kind in PLAIN_KINDS:
            return self._plain(encoded, existing)
        return getattr(self, f'_{kind}')(encoded, existing)

    def into_object(self, target: Kept, encoded: dict) -> Kept:
        if ASKED in encoded['fields']:
            if not _says_its_state(target):
                raise CheckpointError(f'The checkpoint holds what state_dict() of {type(target).__name__} returned, '
                                      'but the class has no state_dict and load_state_dict any more.')
            target.load_state_dict(self.value(encoded['fields'][ASKED]))
            return target
        for name, item in encoded['fields'].items():
            self.into_field(target, name, item)
        return target

    def into_field(self, target: object, name: str, encoded: Encoded) -> None:
        existing = getattr(target, name, None)
        if not isinstance(encoded, dict) and not is_alike(existing, encoded):
            raise ValueError(f'{type(target).__name__}.{name} was saved as {str(encoded)[:40]!r}')
        setattr(target, name, self.value(encoded, existing))

    def _object(self, encoded: dict, existing: object) -> object:
        name = encoded['class']
        if existing is None or not is_saved_as(type(existing), name):
            if name not in self.makers:
                raise CheckpointError(f'The checkpoint holds a {name}, which this strategy does not have.')
            existing = self.makers[name]()
        return self.into_object(existing, encoded)

    def _live(self, encoded: dict, _existing: object) -> object:
        if (name := encoded['name']) not in self.index.live:
            raise CheckpointError(f'The checkpoint refers to {name}, which this strategy does not have.')
        return self.index.live[name]

    def _param(self, encoded: dict, _existing: object) -> ParamData:
        from avalanche.training.utils import ParamData

        device = torch.device(encoded['device'])
        if device.type != 'cpu':  # that of the process that wrote it; another rank, or another machine, has its own
            device = next(self.model.parameters()).device
        return ParamData(encoded['name'], init_tensor=encoded['data'].to(device), device=device)

    def _scalar(self, encoded: dict, _existing: object) -> np.generic:
        return encoded['data'].numpy()[()]

    def _leaf(self, encoded: dict, existing: object) -> torch.Tensor:
        data = encoded['data']
        if not (isinstance(existing, torch.Tensor) and existing.is_leaf and existing.shape == data.shape):
            existing = data.requires_grad_()
        with torch.no_grad():
            existing.copy_(data)  # in place: an optimiser may hold it
        grad = self.value(encoded['grad'])
        existing.grad = None if grad is None else grad.to(existing.device)
        return existing

    def _optimizer(self, encoded: dict, existing: object) -> torch.optim.Optimizer:
        if not isinstance(existing, torch.optim.Optimizer):
            raise CheckpointError('The checkpoint holds an optimiser of a plugin, which the constructor does not make.')
        existing.load_state_dict(self.value(encoded['state']))
        return existing

    def _array(self, encoded: dict, _existing: object) -> np.ndarray:
        return encoded['data'].numpy()

    def _module(self, encoded: dict, existing: object) -> nn.Module:
        module = existing if isinstance(existing, nn.Module) else copy.deepcopy(self.model)
        self.load_module(module, encoded['state'], encoded['extras'])
        for part, training in zip(module.modules(), encoded['training'], strict=True):
            part.training = training
        for parameter, requires_grad in zip(module.parameters(), encoded['requires_grad'], strict=True):
            parameter.requires_grad_(requires_grad)
            parameter.grad = None
        return module

    def load_module(self, module: nn.Module, state: dict[str, torch.Tensor], extras: dict[str, dict]) -> None:
        """Weights, then extras: a model that grows gets its new parts from the weights."""
        parts = dict(module.named_modules())
        for name, fields in extras.items():
            for key, value in fields.items():
                # Buffers that are None until the first experience: torch would not expect them in the state.
                if name in parts and parts[name]._buffers.get(key, value) is None:
                    setattr(parts[name], key, self.value(value))
        module.load_state_dict(state)
        self.load_extras(module, extras)

    def load_extras(self, module: nn.Module, extras: dict[str, dict]) -> None:
        parts = dict(module.named_modules())
        for name, fields in extras.items():
            for key, value in fields.items():
                setattr(parts[name], key, self.value(value, getattr(parts[name], key, None)))

    def _dataset(self, encoded: dict, _existing: object) -> AvalancheDataset:
        dataset = self.index.dataset(encoded['experience'], encoded['rows'])
        return _with_attributes(dataset, encoded['attributes']) if encoded['attributes'] else dataset

    def _batches(self, encoded: dict, _existing: object) -> IndexLoader | BatchIterator:
        datasets = [self.value(dataset) for dataset in encoded['datasets']]
        loader = IndexLoader(datasets, encoded['batch_sizes'], **encoded['options'])
        return loader if encoded['iterator'] is None else BatchIterator(loader, encoded['iterator'])

    def _dict(self, encoded: dict, existing: object) -> dict:
        # Kept where it is, so that a defaultdict keeps its factory and aliases stay aliases.
        old, target = (dict(existing), existing) if isinstance(existing, dict) else ({}, empty_dict(encoded.get('as')))
        # Metrics keep one object per task in a defaultdict, whose own factory makes those that are not there yet.
        make = getattr(existing, 'default_factory', None) or (lambda: None)
        target.clear()
        for key, item in encoded['items']:
            key = self.value(key)
            target[key] = self.value(item, old[key] if key in old else make())
        return target

    def _plain(self, encoded: dict, existing: object) -> object:
        return unplain(encoded[KIND], encoded.get('class'), self.value(encoded['parts']), existing)

    def _list(self, encoded: dict, existing: object) -> list:
        old = list(existing) if isinstance(existing, (list, tuple)) else []
        old += [None] * (len(encoded['items']) - len(old))
        return [self.value(item, was) for item, was in zip(encoded['items'], old)]

    def _tuple(self, encoded: dict, existing: object) -> tuple:
        return tuple(self._list(encoded, existing))

    def _set(self, encoded: dict, _existing: object) -> set:
        return {self.value(item) for item in encoded['items']}

    def _frozenset(self, encoded: dict, _existing: object) -> frozenset:
        return frozenset(self._set(encoded, None))


def is_callable_config(value: object) -> bool:
    """Functions and classes that a strategy was built with; they are no state."""
    return inspect.isroutine(value) or inspect.isclass(value)
