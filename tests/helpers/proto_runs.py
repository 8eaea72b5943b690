"""Runs of ProtoCLIP with tiny towers on four kinds of coloured shapes."""

import numpy as np
from PIL import Image, ImageDraw
from tiny_text import TINY_CLIP

from clear.engine.training.program import build_runner

SHAPES = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210), grey=(128, 128, 120))
TOWER = dict(arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
RESNET = dict(arch='RN50', trainable=True, model_args=dict(TINY_CLIP, vision_cfg=dict(
    width=8, layers=[1, 1, 1, 1], image_size=32, head_width=8)))
TEMPLATES = ['a {} picture', 'all {}']


def write_shapes(folder, per_class=6):
    """`<colour>/<row>.png`: a disc, a square, a bar or a cross of that colour, here and there on white."""
    draws = np.random.default_rng(0)
    for kind, (name, colour) in enumerate(SHAPES.items()):
        (folder / name).mkdir(parents=True)
        for row in range(per_class):
            image = Image.new('RGB', (36, 40), 'white')
            draw, (x, y) = ImageDraw.Draw(image), draws.integers(0, 6, 2).tolist()
            fill = tuple(value + 5 * row for value in colour)
            paint = (draw.ellipse, draw.rectangle, draw.rectangle, draw.rectangle)[kind]
            paint((x, y, x + 28, y + (12 if kind == 2 else 28)), fill=fill)
            if kind == 3:
                draw.rectangle((x + 10, y, x + 18, y + 34), fill=fill)
            image.save(folder / name / f'{row}.png')
    return folder


def config(root, *, hook=None, model=None, sampler=None, dataset=None, **changes):
    """Three episodes of 24 draws in batches of 6; the first is a warm-up."""
    images = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(root)), templates=TEMPLATES)
    hooks = changes.pop('custom_hooks', [])
    return dict(
        model=dict(type='ProtoCLIP', loss=dict(type='InfoNCELoss'), target_temperature=0.1,
                   projection=dict(type='ProtoCLIPHead', out_channels=8, hidden_channels=12),
                   image_encoder=dict(type='OpenCLIPImageEncoder', **TOWER),
                   text_encoder=dict(type='OpenCLIPTextEncoder', **TOWER)) | (model or {}),
        train_dataloader=dict(batch_size=6, num_workers=0, sampler=dict(
            type='EpisodicSampler', episode_size=24) | (sampler or {}), dataset=dict(
            type='ImageTextPairs', images=images, max_bad_fraction=0.1,
            transform=[dict(type='RandomResizedCrop', size=32, scale=(0.7, 1.0)), dict(type='ToTensor')])
            | (dataset or {})),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.003)), train_cfg=dict(by_epoch=True, max_epochs=3),
        custom_hooks=[dict(type='PrototypeHook', num_clusters=4, warmup_epochs=1, back_translation=True, restarts=5)
                      | (hook or {}), *hooks],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)), threads=1, seed=3, device='cpu') | changes


def write_teacher(path, num_rows=24):
    """Rows that lie in three places, one for each image."""
    rows = np.eye(3, 5)[np.arange(num_rows) % 3] + np.random.default_rng(0).normal(0, 0.01, (num_rows, 5))
    np.save(path, rows.astype(np.float16))
    return path


def trained(cfg, work_dir):
    runner = build_runner(dict(cfg, work_dir=str(work_dir)))
    runner.train()
    return runner


def seen_by(monkeypatch, owner, name):
    """What each call of `owner.name` was given and gave, from now on."""
    calls, original = [], getattr(owner, name)

    def noted(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.append((args, kwargs, result))
        return result

    monkeypatch.setattr(owner, name, noted)
    return calls
