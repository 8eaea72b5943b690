"""Names of ViRB's files (Kotar et al. 2021, arXiv:2103.14005, and its code): flat, `model.` before torchvision's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

PREFIX = 'model.'
# What its six conversion scripts turn into `model.`, after the wrapper's `module.`, and whether they keep the rest.
_SCRIPTS = {'swav': ('', False), 'moco': ('encoder_q.', False), 'clsa': ('encoder_q.', False),
            'simsiam': ('encoder.', False), 'pirl': ('_feature_blocks.', False),
            'exemplar': ('_feature_blocks.', False), 'humantorch': ('feature_extractor.resnet.', True)}


def to_virb(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor] | None:
    """The tensors of a published checkpoint as ViRB's script for it names them, projections included.

    Args:
        tensors: by their names in the file, without `module.`.
        source: whose checkpoint it is.

    Returns:
        None for a source that has no script.
    """
    if source not in _SCRIPTS:
        return None
    prefix, keeps_rest = _SCRIPTS[source]
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            renamed[PREFIX + name.removeprefix(prefix)] = tensor
        elif keeps_rest:
            renamed[name] = tensor
    return renamed
