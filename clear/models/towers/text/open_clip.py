"""Text encoders made from the text towers of open_clip."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.models.towers.base import building, load_tower_weights, plain, require_library
from clear.models.towers.open_clip import open_clip_config, tag_weights
from clear.models.towers.text.base import TextEncoder
from clear.models.towers.text.prompts import add_prompt, embed_with_prompt
from clear.models.weights.load import read_state
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

WEIGHTS_FILE = 'weights.safetensors'
# Token ids that a tokenizer remembers, 4 bytes each: 54,000 texts of 77.
REMEMBERED_IDS = 2**22
# SigLIP (Zhai et al. 2023, arXiv:2303.15343, section 3.2); open_clip's own config sets the bias only.
SIGLIP_SCALE, SIGLIP_BIAS = 10.0, -10.0


@MODELS.register_module()
class OpenCLIPTextEncoder(TextEncoder):
    """The text tower of an open_clip model with its projection, e.g. `OpenCLIPTextEncoder('ViT-B-32')`.

    The embedding is in the space shared with images and is not normalised. Tensors have open_clip's names without
    `text.`.

    Args:
        arch: a name of `open_clip.list_models()`.
        weights: a file of the text tower or of the whole model, or `dict(path=..., ...)` with the options of
            `load_weights`; None for random ones.
        tag, allow_network, cache_dir, quick_gelu: as in `OpenCLIPImageEncoder`.
        model_args: values that replace some of the model's config, e.g.
            `dict(embed_dim=32, text_cfg=dict(width=64, heads=2, layers=2, context_length=32))`.
        tokenizer: folder of a Hugging Face tokenizer, for models that name one which is not here (SigLIP).
        n_prompt: learnable vectors after the start token (CoOp, Zhou et al. 2022, arXiv:2109.01134), which train
            also where the rest is frozen; texts are cut `n_prompt` tokens earlier.
        trainable: see `Tower`.

    Attributes:
        custom_text: whether open_clip's model of both towers is a `CustomTextCLIP`, with this one below `text.`.

    Raises:
        ConfigError: if there is no such model, tag or tokenizer.
        CheckpointError: if the weights do not fit.
    """

    def __init__(self, arch: str, weights: str | Path | Mapping | None = None, tag: str | None = None,
                 allow_network: bool = False, cache_dir: str | None = None, quick_gelu: bool | None = None,
                 model_args: Options | None = None, tokenizer: str | Path | None = None, n_prompt: int = 0,
                 trainable: bool | Options = False):
        config = open_clip_config(arch, model_args)
        if tag is not None:
            if weights is not None:
                raise ConfigError('OpenCLIPTextEncoder takes either tag or weights, not both.')
            weights, published = tag_weights(arch, tag, allow_network, cache_dir)
            quick_gelu = bool(published.get('quick_gelu', False)) if quick_gelu is None else quick_gelu
        quick_gelu = bool(config.get('quick_gelu', False)) if quick_gelu is None else quick_gelu
        model = _build_tower(arch, config, quick_gelu, allow_network)
        length = config['text_cfg'].get('context_length', 77)
        self._arguments = dict(arch=arch, quick_gelu=quick_gelu, model_args=plain(model_args, 'model_args'),
                               n_prompt=n_prompt)
        if n_prompt:
            add_prompt(model, n_prompt, length)
        identity = {key: value for key, value in self._arguments.items() if value or key in ('arch', 'quick_gelu')}
        load_report = load_tower_weights(model, weights, None, source='openclip_text')
        scale, bias = _scale_of(config, weights)
        tokens = _Tokenizer(arch, config, length - n_prompt, tokenizer, allow_network)
        with torch.no_grad():
            model.eval()
            width = _features(model, tokens(['a']), n_prompt).shape[1]
        super().__init__(model, embed_dim=width, max_length=length - n_prompt,
                         identity=dict(identity, tokenizer=tokens.fingerprint))
        self.load_report, self.tokenizer, self.n_prompt = load_report, tokens, n_prompt
        self.custom_text = bool(config.get('custom_text') or config['text_cfg'].get('hf_model_name'))
        self.added_parameters = ('model.prompt',) if n_prompt else ()
        self.logit_scale, self.logit_bias = scale, bias
        self.set_trainable(trainable)

    def _embed(self, texts: list[str], use_pooler: bool) -> Tensor:
        tokens = self.tokenizer(texts)
        if not self._said_truncated:
            full = (tokens[:, -1] != self.tokenizer.pad_id).tolist()
            self._note_truncated([text for text, is_full in zip(texts, full) if is_full])
        return _features(self.model, tokens.to(self.device), self.n_prompt)

    def _num_tokens(self, text: str) -> int:
        return self.tokenizer.count(text)

    def _save(self, folder: Path) -> dict[str, Plain]:
        state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        for name, value in (('logit_scale', self.logit_scale and math.log(self.logit_scale)),
                            ('logit_bias', self.logit_bias)):
            if value is not None:
                state[name] = torch.tensor(value)
        save_file(state, folder / WEIGHTS_FILE)
        arguments = dict(self._arguments, weights=WEIGHTS_FILE)
        return dict(arguments, tokenizer='.') if self.tokenizer.save(folder) else arguments


def _build_tower(arch: str, config: Options, quick_gelu: bool, allow_network: bool) -> nn.Module:
    # The tower alone, and never with weights that its own library would fetch.
    from open_clip.model import _build_text_tower

    text = {**config['text_cfg'], 'output_tokens': False, 'hf_model_pretrained': False}
    if text.get('hf_model_name'):
        require_library('transformers', f"the text tower of open_clip's '{arch}'")
        if not allow_network and not Path(text['hf_model_name']).is_dir():
            raise ConfigError(f"the text tower of open_clip's '{arch}' is '{text['hf_model_name']}' of Hugging Face, "
                              'whose config may be fetched: set allow_network=True, or give a folder as '
                              'model_args=dict(text_cfg=dict(hf_model_name=..., hf_tokenizer_name=...)).')
    with building(f"the text tower of open_clip's '{arch}'"):
        return _build_text_tower(config['embed_dim'], text, quick_gelu)


def _features(model: nn.Module, tokens: Tensor, n_prompt: int) -> Tensor:
    return embed_with_prompt(model, tokens) if n_prompt else model(tokens)


def _scale_of(config: Options, weights: str | Path | Mapping | None) -> tuple[float, float | None]:
    """Factor and bias of the weights' own training, or those to begin with."""
    path = weights.get('path') if isinstance(weights, Mapping) else weights
    state = {} if path is None or str(path).startswith('package:') else read_state(path)
    scale, bias = state.get('logit_scale'), state.get('logit_bias')
    if scale is not None:
        return float(scale.exp()), None if bias is None else float(bias)
    if config.get('init_logit_bias') is not None:
        return SIGLIP_SCALE, SIGLIP_BIAS
    return math.exp(config.get('init_logit_scale', math.log(1 / 0.07))), None


class _Tokenizer:
    """open_clip's tokenizer of a model: texts -> (N, length) token ids, padded with its own padding.

    It is written in Python and takes 5 ms for 64 captions, so texts that come again are remembered.
    """

    def __init__(self, arch: str, config: Options, length: int, folder: str | Path | None,
                 allow_network: bool):
        from open_clip import tokenizer as library

        text, self.length = config['text_cfg'], length
        options = copy.deepcopy(text.get('tokenizer_kwargs', {}))
        name = str(folder) if folder is not None else text.get('hf_tokenizer_name')
        if name:
            require_library('transformers', f"the tokenizer of open_clip's '{arch}'")
            try:
                self.inner = library.HFTokenizer(name, context_length=length, local_files_only=not allow_network,
                                                 tokenizer_mode=text.get('tokenizer_mode'), **options)
            except (OSError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise ConfigError(f"open_clip's '{arch}' uses the tokenizer '{name}', which is not here ({reason}). "
                                  'Give its folder as tokenizer=...') from error
        else:
            self.inner = library.SimpleTokenizer(context_length=length, **options)
        self.pad_id = self.inner.tokenizer.pad_token_id if name else 0
        self.fingerprint = _fingerprint(self.inner, options)
        self._rows: dict[str, int] = {}
        self._known = torch.empty(0, length, dtype=torch.int32)  # of its first rows, (texts, length)

    def __call__(self, texts: list[str]) -> Tensor:
        most = REMEMBERED_IDS // self.length
        if len(texts) > most:
            return self.inner(texts, context_length=self.length)
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if len(self._rows) + len(new) > most:
            self._rows.clear()
            new = [*dict.fromkeys(texts)]
        if new:
            self._remember(new)
        return self._known[[self._rows[text] for text in texts]].long()

    def _remember(self, texts: list[str]) -> None:
        count = len(self._rows)
        if count + len(texts) > len(self._known):
            size = min(2 * (count + len(texts)), REMEMBERED_IDS // self.length)
            longer = self._known.new_empty(size, self.length)
            longer[:count] = self._known[:count]
            self._known = longer
        self._known[count:count + len(texts)] = self.inner(texts, context_length=self.length)
        self._rows.update(zip(texts, range(count, count + len(texts))))

    def count(self, text: str) -> int:
        if hasattr(self.inner, 'encode'):
            return len(self.inner.encode(text)) + 2  # start and end
        return len(self.inner.tokenizer(text, truncation=False, verbose=False).input_ids)

    def save(self, folder: Path) -> bool:
        """Write the tokenizer's files; False if it comes with open_clip."""
        if hasattr(self.inner, 'encode'):
            return False
        self.inner.save_pretrained(folder)
        return True


def _fingerprint(inner: Callable[[list[str]], Tensor], options: Options) -> list[Plain]:
    if not hasattr(inner, 'tokenizer'):
        return [type(inner).__name__, dict(options)]
    from clear.models.towers.hugging_face import tokenizer_fingerprint

    return [tokenizer_fingerprint(inner.tokenizer), dict(options)]
