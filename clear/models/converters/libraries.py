"""Write trained towers as the libraries that they came from write theirs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from clear.core.checks import check_choice
from clear.core.errors import ConfigError
from clear.core.storage.damage import check_finite
from clear.models.adapters import merged_copy
from clear.models.alignment import ImageTextAlignment
from clear.models.alignment.image_text import TOWERS
from clear.models.converters.convert import write_weights
from clear.models.towers.export import open_clip_state, save_hugging_face
from clear.models.towers.image import HuggingFaceImageEncoder, ImageEncoder, OpenCLIPImageEncoder
from clear.models.towers.text import HuggingFaceTextEncoder, OpenCLIPTextEncoder, TextEncoder
from clear.models.towers.text.base import CONFIG_FILE

SIDES = ('both', *TOWERS)
_SUFFIXES = ('.pt', '.pth', '.safetensors')
_MODEL_FILES = (CONFIG_FILE, 'config.json', 'modules.json')  # one of which every folder of a model holds


def export_towers(model: ImageTextAlignment, out: str | Path, *, side: str = 'both', merge: bool = False,
                  drop_heads: bool = False) -> str:
    """Write the towers of a trained pair for their libraries, and say in words what was written.

    | towers | written |
    |---|---|
    | both of one model of open_clip | a file of its tensors (.pt, .safetensors), scale and bias too |
    | both of one two-tower model of transformers | a folder that `from_pretrained` reads |
    | `side='text'` | a folder: that of transformers or sentence-transformers, with ours (`build_text_encoder`) beside |
    | `side='image'` | a file of its tensors under its library's names |

    Args:
        out: a file or a folder, as above. A folder is new as a whole: what had its name is replaced, if that was a file
            or a folder of a model.
        merge: LoRA, and those adapters that can be, become part of the weights first. Without it LoRA is refused; an
            adapter of a text tower lies beside its base.
        drop_heads: heads have no place in any of these; without this a pair with heads is refused.

    Raises:
        ConfigError: if there is no such form for these towers, or it has no place for a part of them.
        CheckpointError: for weights that are NaN or infinite.
    """
    check_choice('side', side, SIDES)
    out = Path(out)
    sides = TOWERS if side == 'both' else (side,)
    heads = [name for name, part in model.named_children() if part is not None and name.endswith('_head')
             and name.startswith(sides)]
    if heads and not drop_heads:
        raise ConfigError(f'the model has {" and ".join(heads)}, for which the library has no place. Leave heads out '
                          'with --drop-heads; what is written then gives the embeddings before them.')
    image, text = model.image_encoder, model.text_encoder
    if merge:
        for each in sides:
            _merge_lora(model.tower(each))
    kept = {name: value for name, value in model.state_dict().items() if name.startswith((*sides, 'logit_'))}
    check_finite('the model', kept, 'nobody could use what is written. Take an earlier checkpoint.')
    if side == 'image':
        return _write_image(image, out)
    if side == 'text':
        return _write_text(text, out, merge)
    scales = dict(logit_scale=None if model.logit_scale is None else model.logit_scale.exp().item(),
                  logit_bias=None if model.logit_bias is None else model.logit_bias.item())
    if isinstance(image, OpenCLIPImageEncoder) and isinstance(text, OpenCLIPTextEncoder):
        _check_suffix(out)
        write_weights(out, open_clip_state(image, text, **scales))
        return f"weights of open_clip's {'CustomTextCLIP' if text.custom_text else 'CLIP'}"
    if isinstance(image, HuggingFaceImageEncoder) and isinstance(text, HuggingFaceTextEncoder):
        with _new_folder(out) as new, tempfile.TemporaryDirectory() as folder:
            save_hugging_face(image, _without_adapter(text, Path(folder)) if merge else text, new, **scales)
        return 'a folder of transformers'
    raise ConfigError(f'{type(image).__name__} and {type(text).__name__} are no two sides of one model of a library. '
                      'Write one at a time: --side image, --side text.')


def _write_text(text: TextEncoder, out: Path, merge: bool) -> str:
    with _new_folder(out) as new:
        if merge and isinstance(text, HuggingFaceTextEncoder) and text.adapter is not None:
            text.save_merged(new)
        else:
            text.save(new)
    return f'a folder of {type(text).__name__}'


def _write_image(image: ImageEncoder, out: Path) -> str:
    _check_suffix(out)
    _refuse_lora(image.model)
    state: Mapping[str, Tensor] = image.model.state_dict()
    # The wrapper around networks of transformers has one part.
    state = {name.removeprefix('network.') if isinstance(image, HuggingFaceImageEncoder) else name:
             value.detach().cpu().contiguous().clone() for name, value in state.items()}
    write_weights(out, state)
    return f'weights of {type(image).__name__}'


def _merge_lora(tower: ImageEncoder | TextEncoder) -> None:
    if any(name.endswith('lora_up') for name, _ in tower.model.named_parameters()):
        tower.model = merged_copy(tower.model)


def _refuse_lora(network: nn.Module) -> None:
    found = next((name for name, _ in network.named_parameters() if name.endswith('lora_up')), None)
    if found is not None:
        raise ConfigError(f'the image tower has {found}, for which the library has no place. Put LoRA into the weights '
                          'with --merge.')


def _without_adapter(text: HuggingFaceTextEncoder, folder: Path) -> HuggingFaceTextEncoder:
    if text.adapter is None:
        return text
    text.save_merged(folder)
    return HuggingFaceTextEncoder(folder)


def _check_suffix(out: Path) -> None:
    if out.suffix not in _SUFFIXES:
        raise ConfigError(f'{out} is to be a file of weights; its name must end with {", ".join(_SUFFIXES)}.')
    if out.is_dir():
        raise ConfigError(f'{out} is a folder, and is to be a file of weights. Choose another name.')


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to write to, which gets the name `out` if the block ends without an error."""
    if out.suffix in _SUFFIXES:
        raise ConfigError(f'{out} is to be a folder, not a file: leave {out.suffix} out.')
    out = out.absolute()
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in _MODEL_FILES):
        raise ConfigError(f'{out} holds something else than a model, and is not replaced. Choose another name.')
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.', suffix='.tmp') as place:
        new = Path(place, 'new')
        new.mkdir()
        yield new
        if out.exists() or out.is_symlink():
            out.rename(Path(place, 'old'))
        new.rename(out)
