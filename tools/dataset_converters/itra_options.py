"""Print the config that does what a command line of ITRA (or of its ancestor ProtoCLIP) does."""

import argparse
import math
import sys

EPILOG = """example:
  python tools/dataset_converters/itra_options.py -- --train-data pairs.csv --images-dir data/cc --loss InfoNCE \\
      --image-model-builder openclip --image-model RN50 --text-model-builder openclip --text-model RN50 --lr 1e-3 \\
      > configs/my/clip.py

What has no counterpart is a comment in the config; docs/alignment.md has a table of all options.
"""

TEXT, NUMBER, WHOLE, FLAG, NUMBERS = str, float, int, None, list
# Option -> its kind. Names with - and _ are one, as in argparse.
OPTIONS = {
    **dict.fromkeys((
        'text-model-builder', 'text-model', 'text-model-tag', 'text-pooler', 'image-model-builder',
        'image-model', 'image-model-tag', 'adapter', 'lock-text-partial', 'lock-image-partial', 'cache-dir',
        'cache-teacher', 'loss', 'teacher', 'train-data', 'augmentation', 'datasets-dir', 'csv-separator',
        'csv-img-key', 'csv-caption-key', 'images-dir', 'opt', 'precision', 'resume', 'logs', 'name',
        'report-to', 'retrieval-data', 'retrieval-csv-separator', 'retrieval-csv-img-key', 'retrieval-csv-caption-key',
        'retrieval-images-dir', 'linear-prob-mode', 'external-teacher', 'model', 'pretrained', 'pretrained-text',
        'eval-data-dir'), TEXT),
    **dict.fromkeys((
        'text-head-n-layers', 'image-head-n-layers', 'max-seq-length', 'n-prompt', 'image-resolution',
        'joint-projection-dim', 'dataset-size', 'episode-size', 'workers', 'batch-size', 'epochs', 'warmup',
        'save-frequency', 'zeroshot-eval-frequency', 'retrieval-eval-frequency', 'linear-eval-frequency',
        'nlp-eval-frequency', 'visualize-frequency', 'seed', 'lock-image-unlocked-groups', 'projection-dim',
        'projection-hidden-dim', 'projection-n-layers', 'k', 'kmeans-max-iter', 'kmeans-nredo', 'clustering-frequency',
        'infonce-warmup-epoch', 'lit-start-epoch', 'text-start-epoch', 'text-end-epoch', 'zeroshot-frequency',
        'retrieval-frequency', 'linear-frequency'), WHOLE),
    **dict.fromkeys((
        'w-rkd-d', 'w-rkd-a', 'dino-teacher-temp', 'w-simcse', 'w-align', 'logit-scale', 'opt-eps', 'momentum', 'lr',
        'weight-decay', 'wd', 'layer-decay-image', 'layer-decay-text', 'backbone-decay', 'max-grad-norm',
        'model-ema-decay', 'eval-with-wise-ft', 'C', 'target-temperature', 'w-clip', 'w-proto', 'w-proto-external',
        'lr-text', 'beta1', 'beta2', 'eps'), NUMBER),
    'opt-betas': NUMBERS,
    **dict.fromkeys((
        'pretrained-text-model', 'pretrained-image-model', 'prompt', 'lock-text-model', 'lock-image-model',
        'local-loss', 'gather-with-grad', 'use-bn-sync', 'model-ema', 'model-ema-force-cpu', 'eval-first',
        'save-most-recent', 'restart', 'force-quick-gelu', 'grad-checkpointing', 'lock-image-freeze-bn-stats',
        'torchscript', 'trace', 'ddp-static-graph', 'find-unused-parameters', 'lock-image', 'add-projection-head',
        'PBT', 'pretrained-image', 'skip-scheduler', 'copy-codebase', 'log-local', 'debug'), FLAG)}
LOSSES = {'InfoNCE': dict(type='InfoNCELoss'), 'UniCL': dict(type='UniCLLoss'),
          'CrossEntropy': dict(type='PromptedCrossEntropyLoss'), 'SimReg': dict(type='SimRegLoss'),
          'SimReg-L1': dict(type='SimRegLoss', norm='l1'), 'SimReg-SmoothL1': dict(type='SimRegLoss', norm='smooth_l1'),
          'RKD': dict(type='RKDLoss'), 'VICReg': dict(type='VICRegLoss'), 'BarlowTwins': dict(type='BarlowTwinsLoss'),
          'CompRess-1q': dict(type='CompRessLoss', num_queues=1),
          'CompRess-2q': dict(type='CompRessLoss', num_queues=2),
          'SEED': dict(type='SEEDLoss'), 'DINO': dict(type='CrossModalDINOLoss'), 'ProtoCPC': dict(type='ProtoCPCLoss')}
# Data that are classes, and how torchvision calls the part that was trained on where that is not its default.
CLASSIFICATION = {**dict.fromkeys((
    'MNIST', 'CIFAR10', 'CIFAR100', 'STL10', 'StanfordCars', 'DTD', 'Food101', 'Flowers102', 'OxfordIIITPet', 'GTSRB',
    'ImageNet', 'ImageNet-50k', 'RenderedSST2'), {}), 'FGVCAircraft': dict(split='train')}
PRECISIONS = {'amp': True, 'fp16': 'fp16', 'fp32': False}
GATHERING = ('InfoNCELoss', 'UniCLLoss')
PROTOTYPES = ('CrossModalDINOLoss', 'ProtoCPCLoss')
LIGHT = 'protoclip-light-augmentation'
IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
# What the framework always does, or does in another way that needs no key; the rest of the unused ones is named.
SILENT = {'save-most-recent', 'torchscript', 'trace', 'ddp-static-graph', 'logs', 'cache-dir', 'datasets-dir',
          'copy-codebase', 'log-local', 'debug'}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('options', nargs='*', help='the options of that system, after --')
    parser.add_argument('--out', metavar='FILE', help='write the config there (default: print it)')
    return parser.parse_args(argv)


def read_options(words: list[str]) -> dict:
    """Option -> value, by the names of `OPTIONS`."""
    from clear.core.errors import ConfigError, nearest

    found, place = {}, 0
    while place < len(words):
        word, _, value = words[place].partition('=')
        name = word.removeprefix('--').replace('_', '-')
        if not word.startswith('--') or name not in OPTIONS:
            near = nearest(name, OPTIONS)
            raise ConfigError(f"'{words[place]}' is no option of that system{f', nearest: {near}' if near else ''}.")
        kind = OPTIONS[name]
        place += 1
        if kind is FLAG:
            if '=' in words[place - 1]:
                raise ConfigError(f'--{name} takes no value; leave it out for False.')
            found[name] = True
            continue
        values = [value] if '=' in words[place - 1] else words[place:place + 1]
        place += len(values) - ('=' in words[place - 1])
        while kind is NUMBERS and place < len(words) and not words[place].startswith('--'):
            values.append(words[place])
            place += 1
        if not values:
            raise ConfigError(f'--{name} needs a value.')
        read = [text if kind is TEXT else _number(name, text, kind) for text in values]
        found[name] = read if kind is NUMBERS else read[0]
    return found


def _number(name: str, text: str, kind: type) -> float | int:
    from clear.core.errors import ConfigError

    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or kind is WHOLE and not number.is_integer():
        raise ConfigError(f'--{name} is {text!r}, expected a {"whole " if kind is WHOLE else ""}number.')
    return int(number) if kind is WHOLE or number.is_integer() and not {'e', '.'} & {*text} else number


class Taken(dict):
    """Options; those that were looked at are remembered."""

    def __init__(self, options: dict):
        super().__init__(options)
        self.used = set()

    def get(self, name: str, default=None):
        self.used.add(name)
        return super().get(name, default)


def convert(options: dict) -> tuple[dict, list[str]]:
    """The config as a dict of its top-level keys, and what of the options it does not say.

    Raises:
        ConfigError: for a builder, loss or teacher that is unknown, models or data that are missing, or a number out of
            range.
    """
    from clear.core.checks import check_choice, check_number
    from clear.core.errors import ConfigError

    # ITRA names both models; its ancestor has one name for the pair.
    is_protoclip = 'image-model' not in options and bool({'model', 'add-projection-head'} & set(options))
    if is_protoclip:
        from clear.models.converters import protoclip_options

        options = protoclip_options.renamed(options)
    given, notes = Taken(options), []
    for name in ('train-data', 'image-model', 'text-model'):
        if not options.get(name):
            raise ConfigError(f'--{name} is missing.')
    check_choice('--teacher', options.get('teacher', 'text'), ('text', 'image'))
    check_number('--logit-scale', options.get('logit-scale', 1), above=0)
    if len(options.get('opt-betas', [0, 0])) != 2:
        raise ConfigError(f'--opt-betas is {options["opt-betas"]}, expected two numbers.')
    check_choice('--precision', options.get('precision', 'amp'), tuple(PRECISIONS))
    check_number('--warmup', options.get('warmup', 0), 0)
    loss = _loss(given)
    model = dict(type='ImageTextAlignment', image_encoder=_image_tower(given, notes),
                 text_encoder=_text_tower(given, notes),
                 loss=loss, teacher=given.get('teacher', 'text'))
    for side in ('image', 'text'):
        layers = given.get(f'{side}-head-n-layers', 0)
        if layers or loss['type'] in PROTOTYPES:
            model[f'{side}_head'] = dict(type='DINOHead', num_layers=layers, out_channels=65536 if loss['type'] in
                                         PROTOTYPES else None)
    if given.get('joint-projection-dim', -1) > 0:
        if {'image_head', 'text_head'} & set(model):
            model['joint_dim'] = given['joint-projection-dim']
        else:
            notes.append('--joint-projection-dim: no side has a head that could end in it')
    if 'logit-scale' in given and loss['type'] in ('InfoNCELoss', 'UniCLLoss'):
        model['logit_scale'] = 1 / given.get('logit-scale')
        if not 1 <= model['logit_scale'] <= 100:
            model['max_logit_scale'] = None
    for key, name in (('simcse_weight', 'w-simcse'), ('align_weight', 'w-align')):
        if name in given:
            model[key] = float(given.get(name))
    config = dict(model=model, train_dataloader=_data(given, notes), **_schedule(given, notes))
    if is_protoclip:
        notes += protoclip_options.add_to(config, given)
    for name in sorted(set(options) - given.used - SILENT):
        notes.append(f'--{name} {options[name]}: no counterpart was written')
    return config, notes


def _loss(given: Taken) -> dict:
    from clear.core.errors import ConfigError, nearest

    name = given.get('loss', 'InfoNCE')
    if name not in LOSSES:
        raise ConfigError(f"--loss is '{name}', nearest: {nearest(name, LOSSES)}. Known: {', '.join(LOSSES)}.")
    loss = dict(LOSSES[name])
    if loss['type'] == 'RKDLoss':
        loss.update(distance_weight=float(given.get('w-rkd-d', 0.5)), angle_weight=float(given.get('w-rkd-a', 1.0)))
    if loss['type'] == 'CrossModalDINOLoss':
        loss['teacher_temp'] = given.get('dino-teacher-temp', 0.04)
    if loss['type'] in GATHERING and (given.get('local-loss') or given.get('gather-with-grad')):
        loss.update(local_loss=bool(given.get('local-loss')), gather_with_grad=bool(given.get('gather-with-grad')))
    return loss


def _trainable(given: Taken, side: str):
    locked, partial = bool(given.get(f'lock-{side}-model')), given.get(f'lock-{side}-partial', '')
    found = dict(locked=locked, keywords=partial) if partial else not locked
    if side == 'image' and given.get('lock-image'):  # ProtoCLIP's
        found = dict(unlocked_groups=given.get('lock-image-unlocked-groups', 0),
                     freeze_bn_stats=bool(given.get('lock-image-freeze-bn-stats')))
    if given.get('grad-checkpointing') and found:
        found = dict(found if isinstance(found, dict) else dict(locked=False), grad_checkpointing=True)
    return found


def _image_tower(given: Taken, notes: list[str]) -> dict:
    from clear.core.errors import ConfigError

    builder, name = given.get('image-model-builder'), given.get('image-model')
    tower = dict(trainable=_trainable(given, 'image'))
    if builder == 'openclip':
        tower = dict(type='OpenCLIPImageEncoder', arch=name.replace('/', '-'), **tower)
        if given.get('force-quick-gelu'):
            tower['quick_gelu'] = True
        if given.get('pretrained-image-model'):
            tower.update(tag=given.get('image-model-tag', 'openai'), allow_network=True)
    elif builder == 'torchvision':
        size = given.get('image-resolution', 224)
        tower = dict(type='TorchvisionEncoder', arch=name, preprocess=dict(
            resize=round(size / 0.875), crop=size), **tower)
        if given.get('pretrained-image-model'):
            notes.append('--pretrained-image-model: give the file of the weights, model.image_encoder.weights=...')
    elif builder == 'torchhub':
        repo = given.get('image-model-tag', 'openai')
        tower = dict(type='TorchHubEncoder', repo=repo, arch=name, allow_network=True, **tower)
        notes.append('--image-model-builder torchhub runs code of that repository')
    elif builder == 'chineseclip':
        tower = dict(type='HuggingFaceImageEncoder', model=name, **tower)
    else:
        raise ConfigError(f'--image-model-builder is {builder!r}, expected openclip, chineseclip, torchvision or '
                          'torchhub.')
    return tower


def _text_tower(given: Taken, notes: list[str]) -> dict:
    from clear.core.errors import ConfigError

    builder, name = given.get('text-model-builder'), given.get('text-model')
    tower = dict(trainable=_trainable(given, 'text'))
    if builder == 'openclip':
        tower = dict(type='OpenCLIPTextEncoder', arch=name.replace('/', '-'), **tower)
        if given.get('force-quick-gelu'):
            tower['quick_gelu'] = True
        if given.get('prompt'):
            tower['n_prompt'] = given.get('n-prompt', 4)
        if given.get('pretrained-text-model'):
            tower.update(tag=given.get('text-model-tag', 'openai'), allow_network=True)
    elif builder in ('huggingface', 'chineseclip'):
        tower = dict(type='HuggingFaceTextEncoder', model=name, **tower)
        if builder == 'huggingface':
            tower.update(text_pooler=given.get('text-pooler', 'cls'), max_seq_length=given.get('max-seq-length', 77))
        if given.get('adapter'):
            tower['adapter'] = given['adapter']
            if tower['trainable'] is True:
                notes.append('--adapter: the base is frozen, as by default here; trainable=True in text_encoder trains '
                             'it too, as that system did without --lock-text-model')
            if tower['trainable'] in (True, False):
                tower.pop('trainable')
    elif builder == 'sbert':
        tower = dict(type='SentenceTransformerEncoder', model=name, **tower)
    else:
        raise ConfigError(f'--text-model-builder is {builder!r}, expected openclip, chineseclip, huggingface or sbert.')
    return tower


def _data(given: Taken, notes: list[str]) -> dict:
    root = given.get('datasets-dir', 'data')
    parts = []
    for name in str(given.get('train-data', '')).split(','):
        if name not in CLASSIFICATION:
            parts.append(_captions(given, name, root, ''))
        else:
            images = dict(type='TorchVision', dataset=name.removesuffix('-50k'), root=root, **CLASSIFICATION[name])
            if name == 'ImageNet-50k':
                images = dict(type='Subset', images=images, every=25)
            parts.append(dict(type='PromptedClassification', images=images))
    images = parts[0] if len(parts) == 1 else dict(type='ConcatPairs', parts=parts)
    if given.get('dataset-size'):
        images = dict(type='Subset', images=images, max_rows=given['dataset-size'])
    size = given.get('image-resolution', 224)
    builder = given.get('image-model-builder')
    augmentation = {'torchvision': 'crop_flip', 'torchhub': 'crop_flip', 'chineseclip': 'none'}.get(builder, 'crop')
    transform = dict(type='TowerAugment', crop=size, augmentation=augmentation)
    if augmentation == 'crop_flip':
        transform.update(interpolation='bilinear', **IMAGENET)
    if given.get('augmentation') == LIGHT:
        transform['augmentation'] = 'light'
    elif 'augmentation' in given:
        notes.append(f"--augmentation {given['augmentation']}: it is not known; TowerAugment has {LIGHT} as 'light'")
    loader = dict(batch_size=given.get('batch-size', 64), num_workers=given.get('workers', 8), dataset=dict(
        type='ImageTextPairs', images=images, transform=[transform]))
    if given.get('episode-size', 0) > 0:
        loader.update(sampler=dict(type='EpisodicSampler', episode_size=given['episode-size']),
                      batch_sampler=dict(type='GlobalBatchSampler', drop_last=True),
                      collate_fn=dict(type='default_collate'))
    return loader


def _captions(given: Taken, name: str, root: str, prefix: str, split: str = 'train') -> dict:
    """COCO or a table; `prefix` is that of the options which say how tables are read."""
    if name.startswith('mscoco_captions'):
        part = dict(type='CocoCaptions', data_root=root, year=2014 if '2014' in name else 2017)
        part.update(dict(split=split) if split != 'train' else {})
        return dict(type='Subset', images=part, fraction=0.1) if name.endswith('_x0.1') else part
    part = dict(type='ImageTextTable', path=name, root=given.get(f'{prefix}images-dir') or None,
                separator=given.get(f'{prefix}csv-separator', '\t').replace('\\t', '\t'),
                image_key=given.get(f'{prefix}csv-img-key', 'filepath'),
                caption_key=given.get(f'{prefix}csv-caption-key', 'title'))
    return {**part, **(dict(encoding='gb18030') if 'rsicd' in name else {})}


def _hooks(given: Taken) -> list[dict]:
    hooks = []
    if given.get('model-ema'):
        hooks.append(dict(type='EMAHook', momentum=round(1 - given.get('model-ema-decay', 0.9999), 12)))
    if 'retrieval-data' in given and given.get('retrieval-eval-frequency', 0) > 0:
        images = _captions(given, given.get('retrieval-data'), given.get('datasets-dir', 'data'), 'retrieval-', 'val')
        if images['type'] == 'ImageTextTable':
            images['merge'] = True  # all captions of an image are right
        hooks.append(dict(type='TaskHook', tasks=[dict(type='ImageTextRetrieval')], data=dict(test=images),
                          interval=given.get('retrieval-eval-frequency'), at_start=bool(given.get('eval-first'))))
    return hooks


def _schedule(given: Taken, notes: list[str]) -> dict:
    kinds = {'adamw': 'AdamW', 'adam': 'Adam', 'sgd': 'SGD', 'nesterov': 'SGD', 'momentum': 'SGD'}
    name, epochs, warmup = given.get('opt', 'adamw'), given.get('epochs', 32), given.get('warmup', 0)
    optimizer = dict(type=kinds.get(name, f'timm/{name}'), lr=given.get('lr', 5e-4),
                     weight_decay=given.get('weight-decay', given.get('wd', 0.05)))
    if name.startswith('fused') or name == 'adahessian':
        notes.append(f'--opt {name}: it is refused here, take another')
    if optimizer['type'] == 'SGD':
        optimizer.update(momentum=given.get('momentum', 0.9), nesterov=name != 'momentum')
    elif 'opt-eps' in given:
        optimizer['eps'] = given.get('opt-eps')
    if 'opt-betas' in given and 'adam' in optimizer['type'].lower():
        optimizer['betas'] = given.get('opt-betas')
    rates = {f'layer_decay_{side}': given.get(f'layer-decay-{side}') for side in ('image', 'text')}
    rates['backbone_decay'] = given.get('backbone-decay')
    wrapper = dict(optimizer=optimizer, constructor='AlignmentOptimConstructor',
                   paramwise_cfg={key: value for key, value in rates.items() if value is not None})
    if 'max-grad-norm' in given:
        wrapper['clip_grad'] = dict(max_norm=given.get('max-grad-norm'))
    schedule = [dict(type='WarmupCosineLR', warmup=warmup, by_epoch=True, T_max=epochs, convert_to_iter_based=True)]
    found = dict(optim_wrapper=wrapper, param_scheduler=schedule, train_cfg=dict(by_epoch=True, max_epochs=epochs),
                 default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=given.get('save-frequency', 1))),
                 amp=PRECISIONS[given.get('precision', 'amp')], seed=given.get('seed', 0))
    hooks = _hooks(given)
    if hooks:
        found['custom_hooks'] = hooks
    if 'eval-with-wise-ft' in given:
        notes.append(f"--eval-with-wise-ft: wise_ft={given.get('eval-with-wise-ft')} of TaskHook or AlignedEncoder")
    if given.get('use-bn-sync'):
        found['sync_bn'] = True
    if given.get('name'):
        found['name'] = given['name']
    return found


def write(config: dict, notes: list[str]) -> str:
    """The text of a config file."""
    from mmengine.config import Config

    return '\n'.join([*(f'# {" ".join(note.splitlines())}.' for note in notes), Config(config).pretty_text])


def run(args: argparse.Namespace) -> None:
    text = write(*convert(read_options(args.options)))
    if args.out is None:
        print(text, end='')
        return
    from clear.core.files import write_new

    write_new(args.out, text)
    print(f'wrote {args.out}')


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
