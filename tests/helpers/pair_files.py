"""Checkpoints of pairs as other systems write them, from networks of libraries and heads by hand."""

import numpy as np
import torch
import torch.nn.functional as F
from tiny_text import TEXTS, TINY_CLIP
from torch import nn

from clear.models import ImageTextAlignment
from clear.models.converters.pairs import convert_pair

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def scattered(module, seed=0):
    """Every weight, BatchNorm's statistics too, away from where libraries begin."""
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value += 0.1 * torch.rand(value.shape, generator=generator)
    return module.eval()


def clip(kind='CLIP', **more):
    import open_clip

    torch.manual_seed(1)
    model = getattr(open_clip, kind)(embed_dim=16, text_cfg=TINY_CLIP['text_cfg'], vision_cfg=TINY_CLIP['vision_cfg'],
                                     **more)
    return scattered(model)


class PeerHead(nn.Module):
    """DINO's head by its paper, with torch's weight norm of that time."""

    def __init__(self, in_dim, hidden, bottleneck, layers, prototypes=None):
        super().__init__()
        widths = [in_dim, *[hidden] * (layers - 1), bottleneck]
        parts = [nn.Linear(*pair) for pair in zip(widths, widths[1:])]
        self.mlp = nn.Identity() if not layers else parts[0] if layers == 1 else nn.Sequential(
            *(each for part in parts[:-1] for each in (part, nn.GELU())), parts[-1])
        self.last_layer = nn.Identity()
        if prototypes:
            self.last_layer = nn.utils.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
            self.last_layer.weight_g.data.fill_(1)

    def forward(self, features):
        return self.last_layer(F.normalize(self.mlp(features), dim=-1))


def prefixed(prefix, module):
    return {f'{prefix}.{name}': value for name, value in module.state_dict().items()}


def write_run(path, state, ddp=True):
    """A checkpoint as both systems write theirs: rates of the optimiser are numbers of numpy."""
    holder = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(holder.parameters(), lr=0.5 * (1 + np.cos(1.0)))
    holder(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save(dict(epoch=3, name='L[RN50-h0]_U[bert-h2]', optimizer=optimizer.state_dict(),
                    scaler=torch.amp.GradScaler('cpu', enabled=False).state_dict(),
                    state_dict={f'module.{name}' if ddp else name: value for name, value in state.items()}), path)
    return path


def converted(path, config, **how):
    """An alignment with the weights of the file, and what the conversion said."""
    torch.manual_seed(7)
    done = convert_pair(path, config, **how)
    model = ImageTextAlignment(**{key: value for key, value in config.items() if key != 'type'})
    model.load_state_dict(done.state)
    return model.eval(), done


def assert_embeds(model, image, text, images=IMAGES):
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(images), image, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.encode_text(TEXTS), text, rtol=1e-5, atol=1e-6)
