"""Text encoders made from models of sentence-transformers, those of word vectors among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.models.towers.base import model_place, require_library
from clear.models.towers.hugging_face import tokenizer_fingerprint
from clear.models.towers.text.base import TextEncoder
from clear.registry import MODELS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from clear.core.types import Options, Plain


@MODELS.register_module()
class SentenceTransformerEncoder(TextEncoder):
    """The sentence embedding of a model of sentence-transformers, e.g. `SentenceTransformerEncoder('weights/minilm')`.

    Whatever its modules do (pooling, a dense layer, normalising) belongs to the embedding, and its default prompt, if
    it names one, is put in front of every text. For training `HuggingFaceTextEncoder` with `text_pooler='mean'` is
    plainer. A model of word vectors (GloVe, Komninos) gives zeros for a text of unknown words.

    Args:
        model: a folder, or a name on the hub, read from the cache of downloaded models.
        max_seq_length: tokens of a text; None leaves the model's own limit. The library never cuts
            the texts of word vectors.
        allow_network: whether a name that is not in the cache is fetched.
        cache_dir: where fetched files lie; None is the library's own place.
        trainable: see `Tower`; trains word vectors too, whatever the model's `update_embeddings` says.

    Raises:
        ConfigError: if the model cannot be read or gives no sentence embedding.
    """

    def __init__(self, model: str | Path, max_seq_length: int | None = None, allow_network: bool = False,
                 cache_dir: str | None = None, trainable: bool | Options = False):
        model = model_place(model)
        name = str(model)
        is_local = Path(model).is_dir()
        library = require_library('sentence_transformers', type(self).__name__)
        if not is_local and (isinstance(model, Path) or name.startswith(('.', '/', '~')) or name.count('/') > 1):
            raise ConfigError(f'SentenceTransformerEncoder: model={name!r} is no folder. Give a folder with '
                              'modules.json, or a name on the hub.')
        try:
            network = library.SentenceTransformer(name, device='cpu', cache_folder=cache_dir,
                                                  local_files_only=is_local or not allow_network)
        except (OSError, ValueError, LookupError, RuntimeError, TypeError, ImportError) as error:
            lines = str(error).strip().splitlines()
            way = 'its files cannot be read' if is_local else 'there may be no network' if allow_network else \
                'it is no folder here, and not in the cache of downloaded models; set allow_network=True to fetch it'
            raise ConfigError(f"SentenceTransformerEncoder: '{name}': {way}: "
                              f'{lines[0] if lines else type(error).__name__}') from error
        if max_seq_length is not None:
            network.max_seq_length = check_whole('max_seq_length', max_seq_length, 3)
        if hasattr(network.tokenizer, 'padding_side'):
            network.tokenizer.padding_side = 'right'  # Absolute positions must not move.
        network = network.float().eval()
        prompt = network.prompts.get(network.default_prompt_name) if network.default_prompt_name else None
        with torch.no_grad():
            features = _embedding(network, ['a'], prompt)
        # Word vectors are not cut, whatever limit their config names.
        limit = network.max_seq_length if hasattr(network[0], 'auto_model') else None
        super().__init__(network, embed_dim=features.shape[1], max_length=limit,
                         identity=dict(modules=_modules(network), tokenizer=_tokenizer(network.tokenizer),
                                       prompt=prompt))
        self.prompt = prompt
        self._max_seq_length = max_seq_length
        self.set_trainable(trainable)

    def _embed(self, texts: list[str], use_pooler: bool) -> Tensor:
        if self.max_length is not None and not self._said_truncated:
            self._note_truncated([text for text in texts if len(text) >= self.max_length])
        return _embedding(self.model, texts, self.prompt)

    def _num_tokens(self, text: str) -> int:
        return len(self.model.tokenizer((self.prompt or '') + text, truncation=False, verbose=False).input_ids)

    def _save(self, folder: Path) -> dict[str, Plain]:
        self.model.save(str(folder), create_model_card=False)
        return dict(model='.', max_seq_length=self._max_seq_length)


def _embedding(network: SentenceTransformer, texts: list[str], prompt: str | None) -> Tensor:
    batch = network.preprocess(list(texts), prompt=prompt)
    device = next(network.parameters()).device
    batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    outputs = network(batch)
    if 'sentence_embedding' not in outputs:
        raise ConfigError('this model of sentence-transformers gives no sentence embedding; it needs a pooling module.')
    return outputs['sentence_embedding']


def _modules(network: SentenceTransformer) -> list[list[Plain]]:
    """Each module by its class and its own config."""
    described = []
    for module in network:
        config = module.get_config_dict() if hasattr(module, 'get_config_dict') else {}
        described.append([type(module).__name__, json.loads(json.dumps(config, sort_keys=True, default=str))])
    return described


def _tokenizer(tokenizer: object) -> str | list[Plain]:
    if hasattr(tokenizer, 'special_tokens_map'):
        return tokenizer_fingerprint(tokenizer)
    return [type(tokenizer).__name__, list(tokenizer.get_vocab()), sorted(getattr(tokenizer, 'stop_words', ())),
            getattr(tokenizer, 'do_lower_case', False)]
