"""Encoders from a folder with a `hubconf.py`, such as a clone of a paper's repository."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from clear.core.errors import ConfigError
from clear.models.towers.base import building, plain
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.preprocess import Preprocess
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options


@MODELS.register_module()
class TorchHubEncoder(ImageEncoder):
    """What an entry of a `hubconf.py` builds. This runs the code of that folder: use only what you trust.

    Args:
        repo: the folder; or, with `allow_network`, `'owner/name[:branch]'` on GitHub, which is downloaded and run.
        arch: name of the entry, a function of `hubconf.py`.
        weights: see `ImageEncoder`. An entry may also load weights itself, if its `model_args` tell it to.
        preprocess: values that replace some of: resize 256, crop 224, bilinear, mean and std of ImageNet.
        model_args: arguments of the entry.
        allow_network: whether `repo` may be a name on GitHub.
        classifier: see `strip_classifier`.
        trainable: see `ImageEncoder`.
    """

    def __init__(self, repo: str | Path, arch: str, weights: str | Path | Mapping | None = None,
                 preprocess: Options | Preprocess | None = None, model_args: Options | None = None,
                 allow_network: bool = False, classifier: str | Iterable[str] | None = 'auto',
                 trainable: bool | Options = False):
        model_args = dict(model_args or {})
        model = _build(str(repo), arch, model_args, allow_network)
        super().__init__(model, preprocess=Preprocess().changed(preprocess), weights=weights, classifier=classifier,
                         identity=dict(arch=arch, model_args=plain(model_args, 'model_args')), trainable=trainable)


def _build(repo: str, arch: str, model_args: Options, allow_network: bool) -> nn.Module:
    import torch

    is_local = (Path(repo) / 'hubconf.py').is_file()
    if not is_local and not allow_network:
        raise ConfigError(f'repo {repo} is no folder with a hubconf.py. Clone the repository there, or set '
                          'allow_network=True to have torch.hub fetch it from GitHub and run it.')
    with building(f"'{arch}' of {repo}"):
        if is_local:
            model = torch.hub.load(repo, arch, source='local', **model_args)
        else:
            model = torch.hub.load(repo, arch, source='github', trust_repo=True, **model_args)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"'{arch}' of {repo} gives {type(model).__name__}, expected a module.")
    return model
