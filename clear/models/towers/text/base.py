"""The contract of every text encoder: a list of strings in, one embedding each out; tokenizing happens inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.core.modes import evaluation_mode
from clear.models.towers.base import Tower

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

CONFIG_FILE = 'text_encoder.json'


class TextEncoder(Tower):
    """Texts in, one embedding each out, whatever the other texts of the batch are (but for rounding).

    A text longer than `max_length` is cut, which is said once. Texts without a letter are an error: no caption is
    empty on purpose.

    Args:
        model: the network.
        embed_dim: D of its embedding.
        max_length: tokens of a text that it reads, its own special ones included; None if there is no limit.
        identity: what makes the embedding besides the weights, in plain values without paths.

    Attributes:
        logit_scale, logit_bias: what the weights' own training multiplied cosines by and added to them, as numbers;
            None where they say nothing.

    Shape:
        texts: list of N strings   returns: (N, embed_dim), float32

    Raises:
        DataError: for a text without a letter, or what is no list of texts.
    """

    drops_out_with_adapter = True
    logit_scale: float | None = None
    logit_bias: float | None = None

    def __init__(self, model: nn.Module, *, embed_dim: int, max_length: int | None, identity: Options):
        super().__init__()
        self.model = model
        self.embed_dim = embed_dim
        self.max_length = max_length
        self._identity = dict(identity, max_length=max_length)
        self._said_truncated = False

    def forward(self, texts: Sequence[str]) -> Tensor:
        embedded = self._embed(_checked(texts), True)
        return embedded.to(torch.promote_types(embedded.dtype, torch.float32))

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 32, use_pooler: bool = False) -> Tensor:
        """Embeddings in the order of the texts, on the CPU, in eval mode and without gradients.

        Args:
            batch_size: texts of one forward pass. They are sorted by length first, so that little is padding.
            use_pooler: only for `text_pooler='cls'` of `HuggingFaceTextEncoder`: the pooler's output as `forward`
                gives it, and not the first token's state.

        Shape:
            returns: (N, embed_dim), float32; N may be 0
        """
        if batch_size < 1:
            raise ConfigError(f'batch_size is {batch_size}, expected at least 1.')
        texts = _checked(texts, may_be_none=True)
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        features = torch.empty(len(texts), self.embed_dim)
        with evaluation_mode(self):
            for start in range(0, len(order), batch_size):
                rows = order[start:start + batch_size]
                features[rows] = self._embed([texts[row] for row in rows], use_pooler).float().cpu()
        return features

    def num_truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts have more tokens than are read."""
        limit = self._token_limit()
        if limit is None:
            return 0
        # A token of an ASCII text is a character or more; around it are the special ones and those of a prompt.
        added = self._num_tokens('a')
        return sum(self._num_tokens(text) > limit for text in texts
                   if len(text) + added > limit or not text.isascii())

    def save(self, folder: str | Path) -> None:
        """Write weights, tokenizer and arguments into a folder that `build_text_encoder(folder)` reads.

        Raises:
            ConfigError: if weights have LoRA changes, which a checkpoint of the training keeps.
        """
        if any(name.endswith('lora_up') for name, _ in self.model.named_parameters()):
            raise ConfigError('save: this encoder has LoRA changes, which such a folder cannot hold. Put them into the '
                              'weights first: encoder.model = clear.models.adapters.merged_copy(encoder.model).')
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._write_config(folder, self._save(folder))

    @property
    def device(self) -> torch.device:
        """Where the weights are; texts are tokenized on the CPU and moved there."""
        return next(self.parameters()).device

    def _probe(self) -> Tensor:
        return self._embed(['a'], True)

    def _embed(self, texts: list[str], use_pooler: bool) -> Tensor:
        """(N, embed_dim) of texts that are checked already."""
        raise NotImplementedError

    def _save(self, folder: Path) -> dict[str, Plain]:
        """Write what the constructor reads; its arguments, where the folder itself is written `'.'`."""
        raise NotImplementedError

    def _write_config(self, folder: Path, arguments: dict[str, Plain]) -> None:
        (folder / CONFIG_FILE).write_text(json.dumps(dict(type=type(self).__name__, **arguments), indent=1))

    def _token_limit(self) -> int | None:
        """Most of `_num_tokens` that are read."""
        return self.max_length

    def _num_tokens(self, text: str) -> int:
        """Tokens of a text without a limit, special ones included."""
        raise NotImplementedError

    def _note_truncated(self, texts: Sequence[str], limit: int | None = None) -> None:
        """Say once that a text is cut. Call it with those whose tokens reach the limit."""
        limit = limit or self.max_length
        for text in () if self._said_truncated else texts:
            count = self._num_tokens(text)
            if count > limit:
                self._said_truncated = True
                logger.warning("%s: a text of %d tokens is cut to %d, and so is every longer one (said once); it "
                               "begins with '%.40s'.", type(self).__name__, count, limit, text)
                return


def _checked(texts: Sequence[str], may_be_none: bool = False) -> list[str]:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise DataError(f'a text encoder takes a list of strings, got {type(texts).__name__}.')
    if not texts and not may_be_none:
        raise DataError('a text encoder got no texts.')
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f'text {row} of {len(texts)} is {text!r} ({type(text).__name__}), expected a string.')
        if not text.strip():
            raise DataError(f'text {row} of {len(texts)} is empty ({text!r}). Leave such captions out of the table.')
    return list(texts)
