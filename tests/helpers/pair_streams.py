"""Pairs in three buckets of time, and a stream of two tiny towers over them."""

from mmengine.config import Config
from PIL import Image
from tiny_text import TINY_CLIP

COLOURS = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210))
BUCKETS = ('2020', '2021', '2022')
TEMPLATES = ['a {} picture', 'all {}']


def write_pairs(folder, per_colour=2):
    """Coloured images in `<time>/<colour>/<row>.png`, and `pairs.csv` of them with dates."""
    rows = []
    for time, name in enumerate(BUCKETS):
        for colour, values in COLOURS.items():
            for row in range(per_colour):
                path = folder / name / colour / f'{row}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new('RGB', (36, 40), tuple(value + 5 * row + 9 * time for value in values)).save(path)
                rows.append(f'{path.relative_to(folder)},a {colour} picture,{name}-0{row + 1}-01')
    (folder / 'pairs.csv').write_text('\n'.join(['filepath,title,day', *reversed(rows)]) + '\n')
    return folder


def by_table(root):
    return dict(type='ImageTextTable', path=str(root / 'pairs.csv'), time_key='day', freq='year')


def by_class(root):
    return dict(type='PromptedClassification', templates=TEMPLATES,
                images=dict(type='BucketImages', data_root=str(root), layout='folder', split='all', buckets=[0, 1, 2]))


def tower(kind):
    return dict(type=f'OpenCLIP{kind}Encoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)


def stream_config(images, work_dir, **stream):
    return Config(dict(
        runner_type='StreamRunner', stream=dict(buckets=[0, 1, 2], **stream),
        model=dict(type='ImageTextAlignment', image_encoder=tower('Image'), text_encoder=tower('Text'),
                   loss=dict(type='InfoNCELoss')),
        train_dataloader=dict(batch_size=3, num_workers=0, dataset=dict(
            type='ImageTextPairs', images=images,
            transform=[dict(type='RandomResizedCrop', size=32, scale=(0.5, 1.0)), dict(type='ToTensor')])),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.002)), train_cfg=dict(by_epoch=True, max_epochs=1),
        seed=3, device='cpu', threads=1, work_dir=str(work_dir)))
