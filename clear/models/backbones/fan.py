"""FAN: a Vision Transformer that also attends over channels, written from the paper's description."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from clear.registry import MODELS

# Width, blocks of token and channel attention, heads.
_SIZES = {'tiny': (192, 12, 4), 'small': (384, 12, 8), 'base': (448, 18, 8), 'large': (480, 24, 10),
          'xlarge': (528, 24, 11)}
_NORM_EPS = 1e-6


class ConvStem(nn.Sequential):
    """Strided 3x3 convolutions, each halving the map and followed by BatchNorm, with GELU between them.

    Shape:
        x: (N, in_channels, H, W)   returns: (N, embed_dim, H / patch_size, W / patch_size), rounded up
    """

    def __init__(self, in_channels: int, embed_dim: int, patch_size: int):
        steps = int(math.log2(patch_size))
        widths = [in_channels, *(embed_dim >> step for step in reversed(range(steps)))]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:]):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()]
        super().__init__(*layers[:-1])


class FourierPositions(nn.Module):
    """Sines and cosines of a cell's row and column, made `embed_dim` wide by a 1x1 convolution: any map size works.

    Shape:
        returns: (1, embed_dim, height, width)
    """

    def __init__(self, embed_dim: int, hidden_dim: int = 32, temperature: float = 10000.0):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.temperature = temperature
        self.project = nn.Conv2d(2 * hidden_dim, embed_dim, 1)

    def forward(self, height: int, width: int) -> Tensor:
        weight = self.project.weight
        rows, columns = (self._waves(size, weight) for size in (height, width))
        waves = torch.cat([rows[:, None, :].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1)
        return self.project(waves.permute(2, 0, 1)[None])

    def _waves(self, size: int, like: Tensor) -> Tensor:
        """(size, hidden_dim): sine and cosine of the position, scaled to a full circle, at hidden_dim / 2 speeds."""
        position = torch.arange(1, size + 1, dtype=like.dtype, device=like.device) / size * 2 * math.pi
        speed = torch.arange(self.hidden_dim // 2, dtype=like.dtype, device=like.device) * 2 / self.hidden_dim
        angle = position[:, None] / self.temperature**speed
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class TokenAttention(nn.Module):
    """Multi-head self-attention over tokens.

    Shape:
        x: (N, L, D)   returns: (N, L, D)
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, attn_drop_rate: float, drop_rate: float):
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, L, D / heads)
        rate = self.attn_drop_rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        return self.drop(self.proj(mixed.transpose(1, 2).flatten(2)))


class ClassAttention(TokenAttention):
    """Attention whose only query is the class token, the first of the sequence.

    Shape:
        x: (N, 1 + L, D)   returns: (N, 1, D)
    """

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        rate = self.attn_drop_rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q[:, :, :1], k, v, dropout_p=rate)
        return self.drop(self.proj(mixed.transpose(1, 2).flatten(2)))


class MixMLP(nn.Module):
    """Linear, depth-wise 3x3 convolution over the map of tokens, GELU, linear.

    Shape:
        x: (N, H * W, D)   returns: (N, H * W, D)
    """

    def __init__(self, dim: int, hidden_dim: int, drop_rate: float, has_conv: bool = True):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.conv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim) if has_conv else None
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        x = self.fc1(x)
        if self.conv is not None:
            x = self.conv(x.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2)
        return self.drop(self.fc2(self.drop(F.gelu(x))))


class ChannelProcessing(nn.Module):
    """An MLP whose channels are gated by how much they attend to the mean of their head.

    With both softmaxes over tokens, the gate of channel c is
    temperature * sigmoid(softmax(q_c) . mean over the head's channels of softmax(x)), one number per image.
    This costs O(L D), where attention between all pairs of channels would cost O(L D^2).

    Shape:
        x: (N, H * W, D)   returns: (N, H * W, D)
    """

    def __init__(self, dim: int, hidden_dim: int, num_heads: int, qkv_bias: bool, drop_rate: float):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1))
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.mlp = MixMLP(dim, hidden_dim, drop_rate)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        q = self.q(x).softmax(dim=1).unflatten(-1, (self.num_heads, -1))  # (N, L, heads, D / heads)
        k = x.softmax(dim=1).unflatten(-1, (self.num_heads, -1)).mean(dim=-1)  # (N, L, heads)
        gate = torch.einsum('nlhc,nlh->nhc', q, k).sigmoid() * self.temperature
        return self.mlp(x, size) * gate.flatten(1)[:, None]


class FANBlock(nn.Module):
    """Token attention, then channel processing, each with LayerNorm before it, a scale per channel and a shortcut."""

    def __init__(self, dim: int, num_heads: int, channel_heads: int, hidden_dim: int, qkv_bias: bool, drop_rate: float,
                 attn_drop_rate: float, drop_path_rate: float, eta: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = TokenAttention(dim, num_heads, qkv_bias, attn_drop_rate, drop_rate)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.channels = ChannelProcessing(dim, hidden_dim, channel_heads, qkv_bias, drop_rate)
        self.drop_path = DropPath(drop_path_rate)
        self.gamma1 = nn.Parameter(torch.full((dim,), float(eta)))
        self.gamma2 = nn.Parameter(torch.full((dim,), float(eta)))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + self.drop_path(self.gamma1 * self.attn(self.norm1(x)))
        return x + self.drop_path(self.gamma2 * self.channels(self.norm2(x), size))


class ClassAttentionBlock(nn.Module):
    """A block that changes the class token only (CaiT, Touvron et al. 2021, arXiv:2103.17239).

    Shape:
        cls_token: (N, 1, D)   x: (N, L, D)   returns: (N, 1, D)
    """

    def __init__(self, dim: int, num_heads: int, hidden_dim: int, qkv_bias: bool, drop_rate: float,
                 attn_drop_rate: float, eta: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = ClassAttention(dim, num_heads, qkv_bias, attn_drop_rate, drop_rate)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = MixMLP(dim, hidden_dim, drop_rate, has_conv=False)
        self.gamma1 = nn.Parameter(torch.full((dim,), float(eta)))
        self.gamma2 = nn.Parameter(torch.full((dim,), float(eta)))

    def forward(self, cls_token: Tensor, x: Tensor) -> Tensor:
        cls_token = cls_token + self.gamma1 * self.attn(self.norm1(torch.cat([cls_token, x], dim=1)))
        return cls_token + self.gamma2 * self.mlp(self.norm2(cls_token))


@MODELS.register_module()
class FAN(BaseBackbone):
    """Fully attentional network (Zhou et al. 2022, "Understanding The Robustness in Vision Transformers",
    arXiv:2204.12451), the FAN-ViT family.

    A convolutional stem of stride 16, Fourier positions, blocks of token attention and channel processing, and two
    blocks of class attention whose normalised class token is the output. Any image size works.

    With a linear head of 1000 classes tiny, small, base and large have 7.196, 28.097, 53.915 and 79.952 M parameters;
    the authors print 7.3, 28.0, 54.0 and 80.5 M (README of github.com/NVlabs/FAN), within 2 % of ours. For xlarge we
    know no published count of this family: width and heads are those of the authors' hybrid of that name, on 24
    blocks. Weights published by the authors do not load, names and details differ. Hybrid and hierarchical variants,
    squeeze-and-excitation MLPs and channel down-sampling are not here.

    Args:
        arch: `'tiny'`, `'small'`, `'base'`, `'large'`, `'xlarge'`, or a dict of embed_dims, num_layers, num_heads.
        patch_size: stride of the stem, a power of 2.
        mlp_ratio: width of the MLPs over the width of the tokens.
        drop_path_rate: of the last block; earlier ones have less, in equal steps from 0.
        eta: start of the scale of every branch.
        cls_attn_layers: blocks of class attention.
        use_pos_embed: add the Fourier positions.
        channel_heads: heads of the channel processing; None for as many as the attention has.

    Shape:
        x: (N, in_channels, H, W)   returns: a tuple of one (N, D) class token

    Raises:
        ValueError: if `arch` is unknown, heads do not divide the width, or `patch_size` is no power of 2.
    """

    def __init__(self, arch: str | dict = 'small', *, in_channels: int = 3, patch_size: int = 16,
                 mlp_ratio: float = 4.0, qkv_bias: bool = True, drop_rate: float = 0.0, attn_drop_rate: float = 0.0,
                 drop_path_rate: float = 0.0, eta: float = 1.0, cls_attn_layers: int = 2, use_pos_embed: bool = True,
                 channel_heads: int | None = None, init_cfg: dict | list | None = None):
        super().__init__(init_cfg)
        dim, depth, num_heads = _size(arch)
        channel_heads = channel_heads or num_heads
        if dim % num_heads or dim % channel_heads:
            raise ValueError(f'FAN: {num_heads} heads and {channel_heads} channel heads must divide the width {dim}.')
        if patch_size < 2 or patch_size & (patch_size - 1) or dim % (patch_size // 2):
            raise ValueError(f'FAN: patch_size is {patch_size}, expected a power of 2 whose half divides {dim}.')
        self.embed_dims = dim
        hidden_dim = int(dim * mlp_ratio)
        self.patch_embed = ConvStem(in_channels, dim, patch_size)
        self.positions = FourierPositions(dim) if use_pos_embed else None
        self.drop = nn.Dropout(drop_rate)
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            FANBlock(dim, num_heads, channel_heads, hidden_dim, qkv_bias, drop_rate, attn_drop_rate, rate, eta)
            for rate in rates)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.cls_blocks = nn.ModuleList(
            ClassAttentionBlock(dim, num_heads, hidden_dim, qkv_bias, drop_rate, attn_drop_rate, eta)
            for _ in range(cls_attn_layers))
        self.norm = nn.LayerNorm(dim, eps=_NORM_EPS)

    def init_weights(self) -> None:
        """Truncated normal weights (std 0.02) of linear layers and class token, zero biases; then `init_cfg`."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.patch_embed(x)
        size = (x.shape[2], x.shape[3])
        if self.positions is not None:
            x = x + self.positions(*size)
        x = self.drop(x.flatten(2).transpose(1, 2))  # (N, D, H, W) -> (N, H * W, D)
        for block in self.blocks:
            x = block(x, size)
        cls_token = self.cls_token.expand(len(x), -1, -1)
        for block in self.cls_blocks:
            cls_token = block(cls_token, x)
        return (self.norm(cls_token)[:, 0],)


def _size(arch: str | dict) -> tuple[int, int, int]:
    if isinstance(arch, str) and arch in _SIZES:
        return _SIZES[arch]
    keys = ('embed_dims', 'num_layers', 'num_heads')
    if isinstance(arch, dict) and set(arch) == set(keys):
        return tuple(arch[key] for key in keys)
    raise ValueError(f'FAN: arch is {arch!r}, expected one of {", ".join(_SIZES)}, or a dict of {", ".join(keys)}.')
