"""The command line of ProtoCLIP: by the names of ITRA, its successor, and what of it that one does not have."""

from __future__ import annotations

from typing import Protocol


class Options(Protocol):
    """Options by name, which remember that they were asked for."""

    def get(self, name: str, default: object = None) -> object: ...


def renamed(options: dict[str, object]) -> dict[str, object]:
    """The options by ITRA's names, with the defaults that differ.

    Betas of Adam follow from the model, as in CLIP's paper, unless they are given. The towers have QuickGELU only.
    """
    found = {'wd': 0.2, 'warmup': 10000, 'workers': 1, **options}
    name = str(found.pop('model', 'RN50'))
    beta2, eps = (0.98, 1e-6) if 'vit' in name.lower() else (0.999, 1e-8)
    found |= {'image-model': name, 'text-model': name, 'image-model-builder': 'openclip',
              'text-model-builder': 'openclip', 'force-quick-gelu': True, 'opt-eps': found.pop('eps', eps),
              'opt-betas': [found.pop('beta1', 0.9), found.pop('beta2', beta2)]}
    if tag := found.pop('pretrained', ''):
        found |= {'pretrained-image-model': True, 'pretrained-text-model': True, 'image-model-tag': tag,
                  'text-model-tag': tag}
    return found


def add_to(config: dict, given: Options) -> list[str]:
    """Change a config for InfoNCE into that of ProtoCLIP's code; what cannot be said in it is returned as notes."""
    groups = config['optim_wrapper']['paramwise_cfg']
    groups['two_rates'] = True
    if (rate := given.get('lr-text', -1)) >= 0:
        groups['lr_text'] = rate
    schedule, = config['param_scheduler']
    schedule['type'] = 'TwoRateCosineLR'
    notes = []
    if (start := given.get('lit-start-epoch', -1)) > 1:
        schedule['image_end'] = start - 1
    elif start == 1:  # no epoch is left in which it trains, and a schedule needs one
        config['model']['image_encoder']['trainable'] = False
        notes.append('--lit-start-epoch 1: the image tower rests from the beginning, so it is frozen')
    if (start := given.get('text-start-epoch', 0)) > 0:
        schedule['text_start'] = start
    if (end := given.get('text-end-epoch', -1)) >= 0:
        schedule['text_end'] = end
    return notes + (_add_prototypes(config, given) if given.get('add-projection-head') else [])


def _add_prototypes(config: dict, given: Options) -> list[str]:
    weights = dict(align_weight=float(given.get('w-clip', 1)), proto_weight=float(given.get('w-proto', 0)),
                   external_weight=float(given.get('w-proto-external', 0)))
    interval = given.get('clustering-frequency', -1)
    if not (weights['proto_weight'] or weights['external_weight']) or interval < 1 or given.get('episode-size', 0) < 1:
        return ['--add-projection-head: nothing trains it without --w-proto or --w-proto-external, --episode-size and '
                '--clustering-frequency']
    if 0 < given.get('lit-start-epoch', -1) <= given.get('infonce-warmup-epoch', 0) + 1:
        return ['--add-projection-head: nothing trains it, as no epoch lies between --infonce-warmup-epoch and '
                '--lit-start-epoch']
    config['model'].update(type='ProtoCLIP', **weights, projection=dict(
        type='ProtoCLIPHead', out_channels=given.get('projection-dim', 128),
        hidden_channels=given.get('projection-hidden-dim', 2048), num_layers=given.get('projection-n-layers', 1)))
    if (temperature := given.get('target-temperature', -1)) > 0:
        config['model']['target_temperature'] = float(temperature)
    if interval > 1:
        config['train_dataloader']['sampler']['interval'] = interval
    hook = dict(type='PrototypeHook', num_clusters=given.get('k', 20000), max_iter=given.get('kmeans-max-iter', 20),
                restarts=given.get('kmeans-nredo', 1), back_translation=bool(given.get('PBT')),
                external_teacher=given.get('external-teacher'), warmup_epochs=given.get('infonce-warmup-epoch', 0),
                lit_start_epoch=max(given.get('lit-start-epoch', -1), 0) or None)
    config['default_hooks']['prototypes'] = {name: value for name, value in hook.items() if value is not None}
    if (epochs := given.get('visualize-frequency', -1)) > 0:
        config['default_hooks']['figures'] = dict(type='ClusterFiguresHook', interval=max(1, epochs // interval))
    return []
