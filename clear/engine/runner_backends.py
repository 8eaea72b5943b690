"""What mmengine's W&B backend does beside logging, and ours does not."""

from __future__ import annotations

from types import MethodType
from typing import Any

from mmengine.visualization import Visualizer, WandbVisBackend


def log_no_code(visualizer: Visualizer) -> Visualizer:
    """Let W&B have the config of a run, without every Python file below the current folder.

    mmengine's backend copies all of them into the user's home and uploads them where there is a key: from the folder
    of a project, with its environment, 250 MB. `log_code_name` asks for it. The commit is in `results.json`.
    """
    for backend in (getattr(visualizer, '_vis_backends', None) or {}).values():
        if isinstance(backend, WandbVisBackend) and backend._log_code_name is None:
            backend.add_config = MethodType(_add_config, backend)
    return visualizer


def _add_config(backend: WandbVisBackend, config: Any, **_: Any) -> None:
    run = backend.experiment.run
    run.config.update(config.to_dict(), allow_val_change=backend._init_kwargs.get('allow_val_change', False))
