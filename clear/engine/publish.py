"""A checkpoint made ready to be given away: its weights alone, in a file named by its own hash."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch

from clear.core.errors import CheckpointError, ConfigError, DataError
from clear.core.files import load_tensors, save_tensors, sha256_of
from clear.core.results import RESULTS_FILE, read_results
from clear.core.storage.damage import TENSORS, check_finite, check_shape
from clear.engine.checkpoint import FORMAT

# Digits of the hash in a file's name; torch.hub and OpenMMLab's downloads check as many.
DIGITS = 8
SUFFIXES = ('.pth', '.safetensors')


def publish(checkpoint: str | Path, out: str | Path) -> Path:
    """Write `<stem of out>-<first 8 hex digits of the file's SHA-256><suffix>`.

    Of ours it holds the weights and, where the results lie beside the checkpoint, the names of the classes: nothing
    of optimiser, data, paths or machine. It is measured (`tools/test.py`), used (`load_from`, encoders) and served as
    the checkpoint was, and no run can be resumed from it. Of other files every tensor of the state dict is kept.

    Args:
        out: `.pth`, or `.safetensors` for tensors alone; a hash that its name ends with already is replaced.

    Returns:
        The file.

    Raises:
        CheckpointError: if there are no weights in the file, or some are NaN or infinite.
        ConfigError: for another suffix.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"{out} should end with {' or '.join(SUFFIXES)}.")
    saved = load_tensors(checkpoint)
    state = saved.get('state_dict', saved) if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f'{checkpoint} holds no state_dict.')
    check_shape(checkpoint, dict(state_dict=state), dict(state_dict=TENSORS))
    check_finite(checkpoint, state, 'such weights should not be published.')
    # Contiguous copies: a view would take the memory that it looks into along.
    state = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.publish-') as folder:
        draft = Path(folder) / f'weights{out.suffix}'
        if out.suffix == '.safetensors':
            from safetensors.torch import save_file

            save_file(state, draft, metadata=dict(format='pt'))
        else:
            published: dict[str, object] = dict(state_dict=state)
            if saved.get('format') == FORMAT and 'state_dict' in saved:
                published.update(format=FORMAT, published=True)
            if names := _class_names(checkpoint):
                published['class_names'] = names
            save_tensors(draft, published)
        digits = sha256_of(draft)[:DIGITS]
        stem = re.sub(rf'-[0-9a-f]{{{DIGITS}}}$', '', out.stem)
        final = out.with_name(f'{stem}-{digits}{out.suffix}')
        draft.replace(final)
    return final


def _class_names(checkpoint: Path) -> list[str]:
    try:
        names = read_results(checkpoint.parent / RESULTS_FILE).extras.get('class_names')
    except DataError:
        return []  # not beside results, or not those of a classifier
    return [str(name) for name in names] if isinstance(names, list) else []
