"""Text encoders made from transformers: language models with a pooler, and the text side of two-tower models."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clear.core.checks import check_choice, check_flag, check_whole
from clear.core.errors import CheckpointError, ConfigError
from clear.models.adapters.library import PER_PASS, add_adapter, merged, plain_state, save_adapter, save_base
from clear.models.towers.hugging_face import HubSource, config_identity, tokenizer_fingerprint
from clear.models.towers.text.base import TextEncoder
from clear.models.towers.text.prompt_bert import PromptBERT
from clear.models.towers.text.two_towers import POOLING, load_text_side
from clear.registry import MODELS

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from clear.core.types import Options, Plain

POOLERS = ('cls', 'cls_before_pooler', 'mean', 'PromptBERT', 'logits')
_SENTENCES = ['a', 'a photo of a cat', 'two old ships on the sea, seen from the beach']
_UNKNOWN_LENGTH = 512  # tokens, where neither tokenizer nor network has a limit


@MODELS.register_module()
class HuggingFaceTextEncoder(TextEncoder):
    """A language model of transformers with a pooler, e.g. `HuggingFaceTextEncoder('weights/bert', 'mean')`.

    Of a model with two towers (CLIP, SigLIP, AltCLIP, Chinese-CLIP) it is the text side with its projection, in the
    space shared with images and not normalised; those pool as they were trained to.

    | text_pooler | embedding |
    |---|---|
    | `cls` | the pooler's output; in `encode()` the first token's last state unless `use_pooler=True` |
    | `cls_before_pooler` | the first token's last state |
    | `mean` | the mean of the last states of all tokens but padding |
    | `PromptBERT` | see `PromptBERT` |
    | `logits` | the output of the classification head |

    Args:
        model: a folder, or a name on the hub: see `HubSource`.
        text_pooler: one of `POOLERS`. Only `cls` keeps the network's own pooler.
        max_seq_length: tokens of a text, special ones included; texts are cut by the tokenizer, so the end token
            stays. The positions of the network are a limit, too. None takes that of `sentence_bert_config.json`, or
            what network and tokenizer allow.
        delta_shift: see `PromptBERT`.
        adapter: one of `clear.models.adapters.ADAPTERS`, for language models. The base is frozen and the adapter
            trains, in the mode that `train()` says; `trainable=True` trains both.
        adapter_weights: file of a trained adapter of that kind (`save` writes one); None for a new one.
        pretrained: False builds the network from the folder's config with random weights.
        allow_network, cache_dir: see `HubSource`.
        trainable: see `Tower`.

    Raises:
        ConfigError: if the folder or name cannot be read, or the pooler is not one of the network.
        CheckpointError: if weights are missing that would then be random.
    """

    def __init__(self, model: str | Path, text_pooler: str = 'cls', max_seq_length: int | None = 77,
                 delta_shift: str = 'content', adapter: str | None = None, adapter_weights: str | Path | None = None,
                 pretrained: bool = True, allow_network: bool = False, cache_dir: str | None = None,
                 trainable: bool | Options = False):
        check_choice('text_pooler', text_pooler, POOLERS)
        check_flag('pretrained', pretrained)
        if max_seq_length is not None:
            check_whole('max_seq_length', max_seq_length, 3)
        source = HubSource(model, type(self).__name__, allow_network=allow_network, cache_dir=cache_dir)
        config = source.config()
        tokenizer = source.tokenizer()
        self._is_two_towers = config.model_type in POOLING
        if self._is_two_towers:
            if text_pooler != 'cls':
                raise ConfigError(f"text_pooler='{text_pooler}': {config.model_type} pools as it was trained to; leave "
                                  'the key out.')
            network = load_text_side(source, config, tokenizer, pretrained)
        else:
            _refuse_unknown_towers(config)
            network = _load_language_model(source, config, text_pooler, pretrained)
        length = _length_limit(source, getattr(config, 'text_config', config), network, tokenizer, max_seq_length)
        super().__init__(network, embed_dim=_width(network, config, text_pooler), max_length=length,
                         identity=dict(config=config_identity(config), text_pooler=text_pooler,
                                       tokenizer=tokenizer_fingerprint(tokenizer)))
        self.tokenizer, self.text_pooler = tokenizer, text_pooler
        self._arguments = dict(text_pooler=text_pooler, max_seq_length=max_seq_length, delta_shift=delta_shift)
        self._prompt, self.adapter = None, None
        if self._is_two_towers:
            self.logit_scale, self.logit_bias = network.scale, network.bias
        inner = network.text_model if self._is_two_towers else network
        self._accepts = set(inspect.signature(inner.forward).parameters) & set(tokenizer.model_input_names)
        # SigLIP was trained without a mask and reads its last place: every text is padded to the same length.
        self._pads_fully = config.model_type.startswith('siglip')
        if self._pads_fully:
            self._accepts -= {'attention_mask'}
        if text_pooler == 'PromptBERT':
            self._prompt = PromptBERT(network, tokenizer, length, delta_shift)
            self._identity['delta_shift'] = delta_shift
        if adapter is not None:
            host = network.host_adapter(adapter) if self._is_two_towers else network
            self.added_parameters = tuple(f'model.{name}' for name in add_adapter(host, adapter, adapter_weights))
            if self._is_two_towers:
                network.adopt(host)
            self.adapter, self.has_adapter = adapter, True
            self._identity['adapter'] = adapter
        self.set_trainable(trainable)

    def set_grad_checkpointing(self, enable: bool = True) -> int:
        if enable and self.adapter in PER_PASS:
            raise ConfigError(f"grad_checkpointing: adapter='{self.adapter}' has parts that last for one forward pass; "
                              'a block cannot be computed again without them. Use another adapter.')
        return super().set_grad_checkpointing(enable)

    def _embed(self, texts: list[str], use_pooler: bool) -> Tensor:
        if self._prompt is not None:
            if not self._said_truncated:
                self._note_truncated([text for text in texts if len(text) >= self._prompt.max_length],
                                     self._prompt.max_length)
            return self._prompt(self.model, texts, self.device, lambda batch: self.model(**batch).last_hidden_state)
        batch = self.tokenizer(texts, padding='max_length' if self._pads_fully else True, truncation=True,
                               max_length=self.max_length, return_tensors='pt', return_attention_mask=True)
        mask = batch['attention_mask']
        if not self._said_truncated and mask.shape[1] == self.max_length:
            full = (mask.sum(1) == self.max_length).tolist()
            self._note_truncated([text for text, is_full in zip(texts, full) if is_full])
        inputs = {key: value.to(self.device) for key, value in batch.items() if key in self._accepts}
        outputs = self.model(**inputs)
        if self._is_two_towers:
            return outputs
        if self.text_pooler == 'logits':
            return outputs.logits
        states = outputs.last_hidden_state  # (N, L, D)
        if self.text_pooler == 'mean':
            weights = mask.to(states.device)[..., None].to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return outputs.pooler_output if self.text_pooler == 'cls' and use_pooler else states[:, 0]

    def _token_limit(self) -> int | None:
        return self.max_length if self._prompt is None else self._prompt.max_length

    def _num_tokens(self, text: str) -> int:
        return len(self.tokenizer(text, truncation=False, verbose=False).input_ids)

    def _save(self, folder: Path) -> dict[str, Plain]:
        self.tokenizer.save_pretrained(folder)
        if self.adapter is None:
            self._save_network(folder, self.model.state_dict())
            return dict(self._arguments, model='.')
        self._save_network(folder, plain_state(self.model))
        save_adapter(self.model, folder / 'adapter.safetensors')
        return dict(self._arguments, model='.', adapter=self.adapter, adapter_weights='adapter.safetensors')

    def _save_network(self, folder: Path, state: dict[str, Tensor]) -> None:
        if not self._is_two_towers:
            save_base(self.model, folder, state)
            return
        # The config of the whole, so that the names of tensors mean what they meant.
        self.model.config.save_pretrained(folder)
        state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        for name, value in (('logit_scale', self.logit_scale and math.log(self.logit_scale)),
                            ('logit_bias', self.logit_bias)):
            if value is not None:
                state[name] = torch.full(self.model.scale_shape, value)
        save_file(state, folder / 'model.safetensors', metadata={'format': 'pt'})

    def save_merged(self, folder: str | Path) -> None:
        """Write a plain encoder that computes what this one does with its adapter, which becomes part of the weights.

        What was written is read again and compared.

        Raises:
            ConfigError: without an adapter, or with one that cannot be merged.
            CheckpointError: if the two do not agree.
        """
        if self.adapter is None:
            raise ConfigError('save_merged: this encoder has no adapter. Use save().')
        folder = Path(folder)
        with merged(self.model.host if self._is_two_towers else self.model, self.adapter) as state:
            folder.mkdir(parents=True, exist_ok=True)
            self.tokenizer.save_pretrained(folder)
            self._save_network(folder, state)
        self._write_config(folder, dict(self._arguments, model='.'))
        plain = HuggingFaceTextEncoder(folder, **self._arguments)
        expected, found = (encoder.encode(_SENTENCES, use_pooler=True) for encoder in (self, plain))
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
            raise CheckpointError(f'the merged weights in {folder} give other embeddings than the encoder with its '
                                  f'adapter (largest difference {(found - expected).abs().max():.2g}).')


def _refuse_unknown_towers(config: PretrainedConfig) -> None:
    if hasattr(config, 'text_config') and hasattr(config, 'vision_config'):
        raise ConfigError(f'the text side of {config.model_type} is not known. Models with two towers that are: '
                          f'{", ".join(name for name in POOLING if not name.endswith("_text_model"))}.')


def _load_language_model(source: HubSource, config: PretrainedConfig, pooler: str, pretrained: bool) -> nn.Module:
    library = source.library
    if pooler == 'logits':
        return source.model(library.AutoModelForSequenceClassification, config, pretrained)[0]
    # The encoder of a pair alone: T5's does not say that it is one.
    is_pair = config.is_encoder_decoder or 't5' in config.model_type
    kind = library.AutoModelForTextEncoding if is_pair else library.AutoModel
    # Missing weights of a pooler are an error of their own below, or none because nobody asks it.
    network, missing = source.model(kind, config, pretrained, may_lack=('pooler.',))
    own = getattr(network, 'pooler', None)
    if pooler != 'cls':
        if own is not None:
            network.pooler = None
        return network
    if own is None or missing:
        raise ConfigError(f"text_pooler='cls' needs a pooler, and {source.name} ({type(network).__name__}) has none"
                          f"{'' if own is None else ' among its weights'}: its output would be random. Use "
                          "text_pooler='mean' or 'cls_before_pooler'.")
    return network


def _width(network: nn.Module, config: PretrainedConfig, pooler: str) -> int:
    if config.model_type in POOLING:
        return network.embed_dim
    return config.num_labels if pooler == 'logits' else config.hidden_size


def _length_limit(source: HubSource, config: PretrainedConfig, network: nn.Module, tokenizer: PreTrainedTokenizerBase,
                  wanted: int | None) -> int:
    limits = [tokenizer.model_max_length, getattr(config, 'max_position_embeddings', None)]
    if limits[1] is not None:
        table = next((module for name, module in network.named_modules() if isinstance(module, nn.Embedding)
                      and name.rpartition('.')[2] == 'position_embeddings'), None)
        padding = getattr(table, 'padding_idx', None)
        limits[1] -= 0 if padding is None else padding + 1
    known = [limit for limit in limits if limit is not None and 0 < limit < 10**6]
    if wanted is None:
        wanted = source.json('sentence_bert_config.json').get('max_seq_length') or min([*known, _UNKNOWN_LENGTH])
    return min([wanted, *known])
