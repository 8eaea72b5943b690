"""The text side of transformers' image-text classes: encoder, pooling and projection, under the names of the whole."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.models.towers.hugging_face import HubSource
from clear.models.towers.text.open_clip import SIGLIP_BIAS, SIGLIP_SCALE

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# model_type of a config -> how its text embedding is pooled: the end token's state, the first one's, or the encoder's
# own pooler. The entries with `_text_model` are folders of the text side alone.
POOLING = {
    'clip': 'end', 'metaclip_2': 'end', 'clip_text_model': 'end', 'altclip': 'pooler', 'chinese_clip': 'first',
    'siglip': 'pooler', 'siglip2': 'pooler', 'siglip_text_model': 'pooler', 'siglip2_text_model': 'pooler',
}
_ALONE = {'clip_text_model': 'CLIPTextModelWithProjection', 'siglip_text_model': 'SiglipTextModel',
          'siglip2_text_model': 'Siglip2TextModel'}


class TextSide(nn.Module):
    """Token ids -> embedding in the space shared with images, not normalised.

    Args:
        model: CLIPModel, SiglipModel, AltCLIPModel, ChineseCLIPModel or the like, of which the image half is dropped.
        end_id: the tokenizer's end token.

    Attributes:
        scale, bias: what the model multiplies cosines by and adds to them. A SigLIP model that was never trained has
            1 and 0 in transformers; those of the paper, 10 and -10, are given instead.
    """

    def __init__(self, model: nn.Module, pooling: str, end_id: int | None):
        super().__init__()
        self.text_model, self.pooling, self.end_id = model.text_model, pooling, end_id
        self.text_projection = getattr(model, 'text_projection', None)
        if pooling == 'end' and end_id is None:
            raise ConfigError('the tokenizer has no end token, where this network reads its embedding.')
        scale, bias = getattr(model, 'logit_scale', None), getattr(model, 'logit_bias', None)
        self.scale_shape = () if scale is None else tuple(scale.shape)
        self.scale = None if scale is None else float(scale.detach().exp())
        self.bias = None if bias is None else float(bias.detach())
        if (self.scale, self.bias) == (1.0, 0.0):
            self.scale, self.bias = SIGLIP_SCALE, SIGLIP_BIAS
        self.config = model.config

    @property
    def embed_dim(self) -> int:
        if self.text_projection is not None:
            return self.text_projection.out_features
        head = getattr(self.text_model, 'head', None)
        return head.out_features if isinstance(head, nn.Linear) else self.text_model.config.hidden_size

    @property
    def host(self) -> nn.Module | None:
        """The module that the library of adapters knows; its parts are those of this one."""
        return self.__dict__.get('_host')

    def host_adapter(self, kind: str) -> nn.Module:
        """The same parts as a class that the library of adapters knows.

        Raises:
            ConfigError: if it knows none for this model.
        """
        if self.config.model_type not in ('clip', 'clip_text_model'):
            raise ConfigError(f"adapter='{kind}': the text side of {self.config.model_type} takes none; that of CLIP, "
                              'and language models such as BERT and RoBERTa, do.')
        from transformers import CLIPTextModelWithProjection

        config = copy.deepcopy(getattr(self.config, 'text_config', self.config))
        config.projection_dim = self.embed_dim
        with torch.device('meta'):
            host = CLIPTextModelWithProjection(config)
        host.text_model, host.text_projection = self.text_model, self.text_projection
        self.__dict__['_host'] = host  # Not as a module: its tensors would have two names.
        return host

    def adopt(self, host: nn.Module) -> None:
        """Take over what an adapter put beside the parts: Compacter's shared rule."""
        for name, module in host.named_children():
            if name not in ('text_model', 'text_projection'):
                self.add_module(name, module)

    def forward(self, input_ids: Tensor, **inputs: Tensor) -> Tensor:
        if self.host is None:
            return self._pooled(input_ids, inputs)
        from adapters.context import ForwardContext

        # What the library hands out for one pass, it hands out to a whole model only.
        with ForwardContext(self.host, input_ids=input_ids, **inputs):
            return self._pooled(input_ids, inputs)

    def _pooled(self, input_ids: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        outputs = self.text_model(input_ids=input_ids, **inputs)
        if self.pooling == 'end':
            # By the tokenizer's id: the library takes position 0, the same for every text, where it finds none, and
            # the largest id where the config names 2.
            rows = torch.arange(len(input_ids), device=input_ids.device)
            pooled = outputs.last_hidden_state[rows, (input_ids == self.end_id).int().argmax(1)]
        elif self.pooling == 'first':
            pooled = outputs.last_hidden_state[:, 0]
        else:
            pooled = outputs.pooler_output
        return pooled if self.text_projection is None else self.text_projection(pooled)


def load_text_side(source: HubSource, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase,
                   pretrained: bool) -> TextSide:
    """The text half of what a folder holds; the other half may be missing from its weights."""
    kind = _ALONE.get(config.model_type)
    cls = source.library.AutoModel if kind is None else getattr(source.library, kind)
    model, _ = source.model(cls, config, pretrained, may_lack=('vision_model.', 'visual_projection.', 'logit_'))
    return TextSide(model, POOLING[config.model_type], tokenizer.eos_token_id)
