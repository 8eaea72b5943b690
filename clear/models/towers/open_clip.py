"""What both towers of an open_clip model need: its config, a published tag, the scale that came with weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, nearest
from clear.models.towers.base import changed_config

if TYPE_CHECKING:
    from clear.core.types import Options, Plain


def open_clip_config(arch: str, model_args: Options | None = None) -> dict[str, Plain]:
    """The config of an open_clip model, a copy.

    Args:
        model_args: values that replace some of it, e.g. `dict(embed_dim=32, text_cfg=dict(width=64, heads=2))`.

    Raises:
        ConfigError: naming the nearest known names, if there is no such model, or no such value in its config.
    """
    import open_clip

    config = open_clip.get_model_config(arch)
    if config is None:
        near = nearest(arch, open_clip.list_models()) or 'none; see open_clip.list_models()'
        raise ConfigError(f"open_clip has no model '{arch}'. Nearest: {near}.")
    _check_args(model_args or {})
    return changed_config(copy.deepcopy(config), model_args, 'model_args')


def _check_args(model_args: Options) -> None:
    """A tower takes its own part of the config alone; a misspelt key of the other would go unseen."""
    from open_clip.coca_model import MultimodalCfg
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    accepted = accepted_arguments(CLIP) | {'custom_text', 'multimodal_cfg', 'preprocess_cfg'}
    check_keys('model_args', model_args, accepted, "open_clip's model")
    for key, kind in (('vision_cfg', CLIPVisionCfg), ('text_cfg', CLIPTextCfg), ('multimodal_cfg', MultimodalCfg)):
        if isinstance(model_args.get(key), Mapping):
            check_keys(f'model_args.{key}', model_args[key], accepted_arguments(kind), f"open_clip's {key}")


def tag_weights(arch: str, tag: str, allow_network: bool,
                cache_dir: str | None = None) -> tuple[Path, dict[str, Plain]]:
    """The file of a published tag, fetched if it is not in the cache, and what open_clip says of it.

    Raises:
        ConfigError: if there is no such tag, the network is not allowed or the file cannot be fetched.
    """
    import open_clip
    from open_clip.pretrained import download_pretrained

    known = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in known:
        near = nearest(tag, known) or ', '.join(known) or 'none; this model has no tags'
        raise ConfigError(f"open_clip has no weights '{tag}' of '{arch}'. Nearest: {near}.")
    if not allow_network:
        raise ConfigError(f"tag='{tag}' of open_clip's '{arch}' may be fetched from the network: set "
                          'allow_network=True, or give the file as weights=... instead.')
    published = open_clip.get_pretrained_cfg(arch, tag)
    try:
        return Path(download_pretrained(published, cache_dir=cache_dir)), published
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"open_clip's weights '{tag}' of '{arch}' cannot be fetched ({reason}). Without a network "
                          'give a file as weights=...') from error
