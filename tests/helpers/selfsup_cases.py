"""Every self-supervised algorithm, small enough to run in milliseconds, for several test files."""

import torch
from torch import nn

from clear.registry import MODELS

DIM, EMBED, BATCH = 6, 5, 4


class TinyBackbone(nn.Module):
    """Convolution, BatchNorm unless told otherwise, ReLU: maps (N, C, H / 2, W / 2), as a tuple, like mmpretrain's."""

    def __init__(self, norm=True, channels=DIM):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels) if norm else nn.Identity()

    def forward(self, images):
        return (torch.relu(self.bn(self.conv(images))),)


def mlp(in_channels=DIM, out_channels=EMBED, **options):
    return dict(type='ProjectionMLP', in_channels=in_channels, hidden_channels=7, out_channels=out_channels, **options)


# Name: arguments besides the backbone; sides of the views.
CASES = {
    'MoCo': (dict(neck=mlp(), queue_size=10, momentum=0.9), (8, 8)),
    'CLSA': (dict(neck=mlp(), queue_size=10, momentum=0.9, num_weak=2, num_strong=2, clsa_t=0.3, alpha=0.5),
             (8, 8, 6, 8, 6)),
    'SimCLR': (dict(neck=mlp(norm=True), temperature=0.2), (8, 8)),
    'BYOL': (dict(neck=mlp(norm=True), predictor=mlp(EMBED, norm=True), momentum=0.9), (8, 8)),
    'SimSiam': (dict(neck=mlp(norm=True, last_norm=True, last_affine=False), predictor=mlp(EMBED, norm=True)), (8, 8)),
    'BarlowTwins': (dict(neck=mlp(norm=True), lambd=0.02), (8, 8)),
    'VICReg': (dict(neck=mlp(norm=True)), (8, 8)),
    'SwAV': (dict(neck=mlp(norm=True), num_prototypes=3, queue_size=6), (8, 8, 6)),
    'DINO': (dict(neck=dict(type='DINOHead', in_channels=DIM, out_channels=8, hidden_channels=7,
                            bottleneck_channels=EMBED, norm=True), momentum=0.9), (8, 8, 6)),
}


def build(name, norm=True, seed=0, **changes):
    """A case's model, in train mode, in float64; with `norm=False` without any BatchNorm."""
    torch.manual_seed(seed)
    options = {**CASES[name][0], **changes}
    if not norm:
        options = {key: without_norm(value) if isinstance(value, dict) else value for key, value in options.items()}
    return MODELS.build(dict(type=name, backbone=TinyBackbone(norm), **options)).double().train()


def without_norm(part):
    return {key: value for key, value in part.items() if key not in ('norm', 'last_norm', 'last_affine')}


def make_views(name, step=0, batch=BATCH, sizes=None):
    generator = torch.Generator().manual_seed(1000 + step)
    return [torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64)
            for size in sizes or CASES[name][1]]


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def train(model, views_of_steps, lr=0.1):
    """SGD over the views of each step; the losses."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=1e-4)
    losses = []
    for views in views_of_steps:
        loss = total(model(views, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)
