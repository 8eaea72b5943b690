"""What a pixelwise job keeps: the state that it goes on from, its best head, its history, some predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clear.core.errors import CheckpointError
from clear.core.files import atomic_writer, load_tensors, remove_left_overs, save_tensors, write_text

FORMAT = 1
STATE_FILE, HEAD_FILE, HISTORY_FILE, EXAMPLES_FILE = 'state.pth', 'head.pth', 'history.jsonl', 'examples.npz'


class JobFiles:
    """The folder of a job; without one the best head stays in memory and nothing else is kept.

    Every file is whole or absent at any moment.

    ::

        state.pth      where training is, with the model and the optimiser; small when it is done
        head.pth       the chosen head: dict(format, state_dict, setting, epoch, classes)
        history.jsonl  one line for each setting and epoch
        examples.npz   a few test images with targets and predictions

    Args:
        plan: plain values that say which training this is; a state of another one is refused.
    """

    def __init__(self, folder: Path | None, plan: dict[str, Any]):
        self.folder, self.plan = folder, plan
        self._head: dict[str, Any] | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            remove_left_overs(folder, (STATE_FILE, HEAD_FILE, HISTORY_FILE, EXAMPLES_FILE))

    def save_state(self, state: dict[str, Any]) -> None:
        if self.folder is not None:
            save_tensors(self.folder / STATE_FILE, dict(format=FORMAT, plan=self.plan, **state))

    def load_state(self) -> dict[str, Any] | None:
        """What was saved last; None if there is nothing.

        Raises:
            CheckpointError: if it is damaged, or of another training.
        """
        if self.folder is None or not (self.folder / STATE_FILE).is_file():
            return None
        path = self.folder / STATE_FILE
        try:
            state = load_tensors(path)
        except CheckpointError as error:
            raise CheckpointError(f'{error} Delete it to start this job over.') from error
        if not isinstance(state, dict) or state.get('format') != FORMAT:
            raise CheckpointError(f'{path} is no state of format {FORMAT}. Delete it to start over.')
        other = [key for key in {*self.plan, *state['plan']} if self.plan.get(key) != state['plan'].get(key)]
        if other:
            raise CheckpointError(f'{path} is of another training: {", ".join(sorted(other))} differ. Delete the '
                                  'folder to start over.')
        return state

    def save_head(self, state_dict: dict[str, Tensor], **about: object) -> None:
        """Keep a head; the one before goes."""
        head = dict(format=FORMAT, state_dict=state_dict, **about)
        if self.folder is not None:
            save_tensors(self.folder / HEAD_FILE, head)
        else:
            self._head = {**head, 'state_dict': {name: value.detach().clone() for name, value in state_dict.items()}}

    def load_head(self) -> dict[str, Any]:
        """The head kept last.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        return load_tensors(self.folder / HEAD_FILE) if self.folder is not None else self._head

    def write_history(self, lines: Iterable[dict[str, object]]) -> None:
        if self.folder is not None:
            write_text(self.folder / HISTORY_FILE, ''.join(json.dumps(line, allow_nan=False) + '\n' for line in lines))

    def write_examples(self, **arrays: np.ndarray) -> None:
        if self.folder is not None:
            with atomic_writer(self.folder / EXAMPLES_FILE) as file:
                np.savez_compressed(file, **arrays)
