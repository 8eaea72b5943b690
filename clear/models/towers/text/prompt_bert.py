"""PromptBERT: a text in a template, read at its mask token, less what the template says without a text."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice
from clear.core.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SENTENCE_OF = 'The sentence of {quote}{text}{quote} means {mask}.'
THIS_SENTENCE = 'This sentence : {quote}{text}{quote} means {mask}.'
# Where the published system begins to shift positions: after start token, three words and a quote.
_REFERENCE_SLOT = 5
DELTA_SHIFTS = ('content', 'with_special')


class PromptBERT:
    """Embed texts by a prompt (Jiang et al. 2022, arXiv:2201.04337).

    BERT is asked `The sentence of "X" means [MASK].`; in training half of the texts, drawn from torch's generator, get
    `This sentence : "X" means [MASK].` Other networks have the two the other way round, with single quotes. From the
    state at the mask comes off that of the first template around a blank, without gradient, whose tokens after the
    blank have the positions that they have around X.

    Args:
        network: gives `last_hidden_state` and takes `position_ids`.
        max_length: tokens of X, special ones included, as everywhere; the template comes on top.
        delta_shift: by how much positions after the blank move: `'content'`, the tokens of X, as in the paper's code;
            `'with_special'` counts the two special tokens too, as one published system does.

    Raises:
        ConfigError: if the network has no mask token or takes no positions.
    """

    def __init__(self, network: nn.Module, tokenizer: PreTrainedTokenizerBase, max_length: int, delta_shift: str):
        check_choice('delta_shift', delta_shift, DELTA_SHIFTS)
        name = type(network).__name__
        if tokenizer.mask_token is None:
            raise ConfigError("text_pooler='PromptBERT' reads the state at the mask token, and this tokenizer has "
                              'none. Use a masked language model (BERT, RoBERTa).')
        if 'position_ids' not in inspect.signature(network.forward).parameters:
            raise ConfigError(f"text_pooler='PromptBERT' gives positions to the network, and {name} takes none. Use "
                              'BERT or RoBERTa.')
        self.tokenizer, self.delta_shift = tokenizer, delta_shift
        is_bert = network.config.model_type == 'bert'
        self.quote = '"' if is_bert else "'"
        self.templates = (SENTENCE_OF, THIS_SENTENCE) if is_bert else (THIS_SENTENCE, SENTENCE_OF)
        table = getattr(getattr(network, 'embeddings', None), 'position_embeddings', None)
        padding = getattr(table, 'padding_idx', None)
        self.first_position = 0 if padding is None else padding + 1  # RoBERTa begins after its padding's position.
        places = getattr(table, 'num_embeddings', None)
        if places is not None:
            # Two more for the reference's longer shift.
            taken = max(len(self._ids(self._fill(' ', template))) for template in self.templates)
            max_length = min(max_length, places - self.first_position - taken - 2)
        if max_length < 3:
            raise ConfigError(f'{name} has too few positions for the template of PromptBERT and a text.')
        self.max_length = max_length

    def __call__(self, network: nn.Module, texts: list[str], device: torch.device,
                 run: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """(N, D).

        Args:
            run: what a batch of the tokenizer -> last hidden states (N, L, D).
        """
        cut = self.tokenizer(texts, truncation=True, max_length=self.max_length).input_ids
        # Unknown words are special tokens too and do not come back in the decoded text.
        special, added = set(self.tokenizer.all_special_ids), self.tokenizer.num_special_tokens_to_add()
        lengths = torch.tensor([sum(token not in special for token in ids) + added for ids in cut])
        bare = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in cut]
        chosen = torch.rand(len(texts)) < 0.5 if network.training else torch.zeros(len(texts), dtype=torch.bool)
        filled = [self._fill(text, self.templates[int(second)]) for text, second in zip(bare, chosen)]
        batch = self._batch(filled, device)
        states = _at(run(batch), batch['input_ids'], self.tokenizer.mask_token_id)
        with torch.no_grad():
            template = self._batch([self._fill(' ', self.templates[0])], device)
            template = {key: value.expand(len(texts), -1) for key, value in template.items()}
            template['position_ids'] = self._positions(template['input_ids'].shape[1], lengths).to(device)
            delta = _at(run(template), template['input_ids'], self.tokenizer.mask_token_id)
        return states - delta

    def _positions(self, length: int, lengths: Tensor) -> Tensor:
        """(N, length) positions of the empty template's tokens for texts of these many tokens, special ones counted."""
        slot = _REFERENCE_SLOT
        if self.delta_shift == 'content':
            lengths = lengths - self.tokenizer.num_special_tokens_to_add()
            prefix = self.templates[0].partition('{text}')[0].format(quote=self.quote)
            # The start token comes before it, the end token does not.
            slot = len(self._ids(prefix)) - 1
        positions = torch.arange(length).expand(len(lengths), -1).clone()
        positions[:, slot:] += lengths[:, None]
        return positions + self.first_position

    def _fill(self, text: str, template: str) -> str:
        return template.format(quote=self.quote, text=text, mask=self.tokenizer.mask_token)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids

    def _batch(self, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        return dict(self.tokenizer(texts, padding=True, return_tensors='pt').to(device))


def _at(states: Tensor, input_ids: Tensor, token: int) -> Tensor:
    """(N, D): the state at the first place of a token in each row."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, (input_ids == token).int().argmax(1)]
