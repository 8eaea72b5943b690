"""What mmengine's back ends for TensorBoard and W&B do not do: go on after a stop, and leave the code alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, TypeVar

from mmengine.visualization import BaseVisBackend, TensorboardVisBackend, Visualizer, WandbVisBackend

from clear.core import dist
from clear.core.storage.tracking import cut_events, event_file, event_sizes, wandb_run_id

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.training.runner import Runner


Backend = TypeVar('Backend', bound=BaseVisBackend)


def prepare_wandb(visualizer: Visualizer, work_dir: str) -> Visualizer:
    """Let W&B go on in the run of `work_dir` after a resume, and have its config, without every Python file below the
    current folder.

    mmengine's backend copies all of them into the user's home and uploads them where there is a key: from the folder
    of a project, with its environment, 250 MB. `log_code_name` asks for it. The commit is in `results.json`. An id of
    its own among `init_kwargs` is left as it is.
    """
    for backend in _backends(visualizer, WandbVisBackend):
        if backend._log_code_name is None:
            backend.add_config = MethodType(_add_config, backend)
        if dist.is_main() and 'id' not in (backend._init_kwargs or {}):
            backend._init_kwargs = {'resume': 'allow', 'reinit': 'finish_previous', **(backend._init_kwargs or {}),
                                    'id': wandb_run_id(work_dir)}
    return visualizer


def tensorboard_state(runner: Runner) -> dict[str, int]:
    """Name -> bytes of the event files that a run has written so far, for a checkpoint."""
    sizes: dict[str, int] = {}
    for backend in _backends(runner.visualizer, TensorboardVisBackend):
        backend.experiment.flush()
        sizes |= event_sizes(backend._save_dir, {*runner.known_events, event_file(backend.experiment)})
    return sizes


def resume_tensorboard(runner: Runner, sizes: dict[str, int]) -> None:
    """Cut the event files back to what a checkpoint knew of; the next number begins another file.

    Outside the work_dir files that the checkpoint does not know may be those of other runs, and stay.
    """
    runner.known_events = set(sizes)
    for backend in _backends(runner.visualizer, TensorboardVisBackend):
        folder = Path(backend._save_dir)
        opened = folder / event_file(backend.experiment)
        backend.experiment.close()
        opened.unlink()  # of this start, with the config that is there already
        cut_events(folder, sizes, is_shared=Path(runner.work_dir).resolve() not in folder.resolve().parents)
        backend._env_initialized = False


def _backends(visualizer: Visualizer, kind: type[Backend]) -> Iterator[Backend]:
    return (backend for backend in (getattr(visualizer, '_vis_backends', None) or {}).values()
            if isinstance(backend, kind))


def _add_config(backend: WandbVisBackend, config: Config, **_: object) -> None:
    run = backend.experiment.run
    run.config.update(config.to_dict(), allow_val_change=backend._init_kwargs.get('allow_val_change', False))
