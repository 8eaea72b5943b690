"""ResNet weights for detectron2: its names of tensors, in the pickle that its checkpointer reads."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from clear.core.files import atomic_writer

# torchvision's name -> detectron2's, applied in turn. Stages first: a name without one belongs to the stem.
_RENAMES = (
    (re.compile(r'^(?!layer)'), 'stem.'),
    (re.compile(r'^layer([1-4])\.'), lambda found: f'res{int(found[1]) + 1}.'),
    (re.compile(r'\bbn([123])\.'), r'conv\1.norm.'),
    (re.compile(r'\bdownsample\.0\.'), 'shortcut.'),
    (re.compile(r'\bdownsample\.1\.'), 'shortcut.norm.'),
)


def to_detectron2(name: str) -> str:
    """detectron2's name of a tensor of torchvision's ResNet, e.g. 'layer1.0.bn1.bias' -> 'res2.0.conv1.norm.bias'."""
    for pattern, new in _RENAMES:
        name = pattern.sub(new, name, count=1)
    return name


def write_detectron2(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Write the tensors of a ResNet backbone, by torchvision's names, as a model file of detectron2.

    The pickle holds a dict of arrays: `model`, `__author__` as in MoCo's files, and `matching_heuristics`, which lets
    detectron2 find the place of names that begin inside the backbone. Pickle is what detectron2 reads; nothing
    here ever reads one.
    """
    # contiguous: a pickled view of a larger tensor, or one in channels_last, would keep its memory layout.
    arrays = {to_detectron2(name): tensor.detach().cpu().contiguous().numpy() for name, tensor in state.items()}
    with atomic_writer(path) as file:
        pickle.dump({'model': arrays, '__author__': 'MOCO', 'matching_heuristics': True}, file)
