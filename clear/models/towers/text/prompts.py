"""Learnable prompt vectors in front of a text (CoOp), for open_clip's text towers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clear.core.errors import ConfigError


def add_prompt(model: nn.Module, count: int, context_length: int) -> None:
    """Register `model.prompt`, (count, width), normal with deviation 0.02 (CoOp, Zhou et al. 2022, arXiv:2109.01134).

    Raises:
        ConfigError: if the tower is no transformer of open_clip that reads its embedding at the end token, or the
            prompt leaves no room for a text.
    """
    if getattr(model, 'pool_type', None) not in ('argmax', 'eos') or model.cls_emb is not None or model.use_pad_mask:
        raise ConfigError("n_prompt: prompt vectors need a text transformer of open_clip that reads its embedding at "
                          f'the end token (ViT-B-32 and its like); this is {type(model).__name__} with '
                          f'pool_type={getattr(model, "pool_type", None)!r}.')
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= context_length - 3:
        raise ConfigError(f'n_prompt is {count!r}, expected 0 ... {context_length - 3}: start, end and one token of '
                          f'the text must fit into the {context_length} positions.')
    model.prompt = nn.Parameter(torch.randn(count, model.width) * 0.02)
    model.added_tensors = ('prompt',)  # Published weights cannot have it.


def embed_with_prompt(model: nn.Module, tokens: Tensor) -> Tensor:
    """The tower's embedding of start token, prompt, rest of the text.

    The end token is `len(prompt)` places later than its place in `tokens`; taken from the ids as they are, as one
    published system does, the embedding would be read that many tokens too early.

    Shape:
        tokens: (N, L), L + len(prompt) positions at most   returns: (N, D)
    """
    words = model.token_embedding(tokens)
    prompt = model.prompt.to(words.dtype).expand(len(words), -1, -1)
    x = torch.cat([words[:, :1], prompt, words[:, 1:]], dim=1)  # (N, L + P, W)
    x = x + model.positional_embedding[:x.shape[1]].to(x.dtype)
    mask = model.attn_mask
    x = model.transformer(x, attn_mask=None if mask is None else mask[:x.shape[1], :x.shape[1]])
    x = model.ln_final(x)
    ids = tokens if model.pool_type == 'argmax' else (tokens == model.eos_id).int()
    pooled = x[torch.arange(len(x), device=x.device), ids.argmax(dim=1) + len(model.prompt)]
    if model.text_projection is None:
        return pooled
    return model.text_projection(pooled) if isinstance(model.text_projection, nn.Module) \
        else pooled @ model.text_projection
