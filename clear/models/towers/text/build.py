"""Build a text encoder from a config or from the folder that one was saved to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.config import to_plain
from clear.core.errors import ConfigError
from clear.models.towers.base import refused
from clear.models.towers.text.base import CONFIG_FILE, TextEncoder
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

# Arguments that are files or folders: of them an encoder's config keeps the last part of the name.
_PATHS = ('model', 'weights', 'tokenizer', 'adapter_weights')


def build_text_encoder(cfg: Options | str | Path | TextEncoder, **changes: object) -> TextEncoder:
    """The encoder of a config such as `dict(type='HuggingFaceTextEncoder', model='weights/bert')`, on the CPU.

    Args:
        cfg: or the folder of `TextEncoder.save`; an encoder that is built already is returned as it is.
        changes: arguments that replace those of a config or folder (`trainable=True`).

    Raises:
        ConfigError: if the type is no text encoder or its arguments do not fit.
        CheckpointError: if its weights do not fit.
    """
    if isinstance(cfg, TextEncoder):
        return cfg
    if isinstance(cfg, (str, Path)):
        cfg = _read_folder(Path(cfg))
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError("text encoder must be a dict with a type, such as dict(type='HuggingFaceTextEncoder', "
                          f"model='weights/bert'), or a folder that one was saved to, got {cfg!r}.")
    kind = MODELS.require(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']
    if not (isinstance(kind, type) and issubclass(kind, TextEncoder)):
        raise ConfigError(f'type: {getattr(kind, "__name__", kind)} is no text encoder. There are '
                          'OpenCLIPTextEncoder, HuggingFaceTextEncoder, SentenceTransformerEncoder.')
    cfg = {**cfg, **changes}
    try:
        encoder = MODELS.build(cfg)
    except TypeError as error:
        raise refused('text encoder', kind, cfg, error) from error
    encoder.config = _without_folders({**cfg, 'type': kind.__name__})
    return encoder


def _read_folder(folder: Path) -> dict[str, Plain]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f'{folder} holds no text encoder that was saved with save() ({CONFIG_FILE}: {error}). For '
                          "a folder of Hugging Face write dict(type='HuggingFaceTextEncoder', model=...).") from error
    here = {key: str(folder if config[key] == '.' else folder / config[key]) for key in _PATHS if config.get(key)}
    return {**config, **here}


def _without_folders(cfg: Options) -> dict[str, Plain]:
    plain = to_plain(dict(cfg))
    for key in _PATHS:
        value = cfg.get(key)
        if isinstance(value, Mapping) and value.get('path'):
            plain[key]['path'] = Path(value['path']).name
        elif isinstance(value, (str, Path)) and (isinstance(value, Path) or Path(value).exists()):
            plain[key] = Path(value).name
    return plain
