"""What cannot be aligned: one clear message through `tools/train.py`, before anything is trained or written."""

import io
import json
import tarfile

import pytest
import torch
from PIL import Image
from short_runs import run
from tiny_text import TINY_CLIP, write_bert, write_language_model, write_two_towers

ROWS = [f'{name}/{row}.png\ta {name} picture {row}' for name in ('red', 'green') for row in range(3)]
PROTOTYPES = dict(type='DINOHead', num_layers=1, out_channels=8, bottleneck_channels=12)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('alignment')
    for name in ('red', 'green'):
        (folder / 'images' / name).mkdir(parents=True)
        for row in range(3):
            Image.new('RGB', (32, 32), name).save(folder / 'images' / name / f'{row}.png')
    return folder


@pytest.fixture(scope='module')
def texts(folder):
    """Folders of tiny language models."""
    pytest.importorskip('transformers')
    torch.manual_seed(0)
    return dict(bare=write_bert(folder / 'bare', 'BertForMaskedLM'), gpt=write_language_model(folder / 'gpt', 'GPT2'),
                siglip=write_two_towers(folder / 'siglip', 'Siglip'))


def config(folder, rows=(), header='filepath\ttitle', dataset=None, **model):
    path = folder / f'{abs(hash((tuple(rows), header)))}.tsv'
    path.write_text('\n'.join([header, *ROWS, *rows, '']))
    images = dict(type='ImageTextTable', path=str(path), root=str(folder / 'images'))
    tower = dict(arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    return dict(
        model=dict(type='ImageTextAlignment', image_encoder=dict(type='OpenCLIPImageEncoder', **tower),
                   text_encoder=dict(type='OpenCLIPTextEncoder', **tower), loss=dict(type='InfoNCELoss')) | model,
        train_dataloader=dict(batch_size=3, num_workers=0, dataset=dict(
            type='ImageTextPairs', images=images | (dataset or {}),
            transform=[dict(type='Resize', size=32), dict(type='ToTensor')])),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.002)), train_cfg=dict(by_epoch=True, max_epochs=1),
        device='cpu', threads=1, banks=dict(root=str(folder / 'banks')))


def refused(folder, tmp_path, cfg, *words):
    (tmp_path / 'c.json').write_text(json.dumps(cfg))
    done = run('train', tmp_path / 'c.json', '--work-dir', tmp_path / 'run')
    lines = done.err.splitlines()
    assert done.code == 2 and len(lines) == 1 and lines[0].startswith('error: '), done.err
    for word in words:
        assert word in lines[0], lines[0]
    assert not list(tmp_path.rglob('*.pth')) and len(lines[0]) < 500


def prototypes(**changes):
    return dict(loss=dict(type='CrossModalDINOLoss', out_dim=8), image_head=PROTOTYPES,
                text_head=PROTOTYPES) | changes


def tower(kind, **changes):
    return dict(type=kind, arch='ViT-B-32', model_args=TINY_CLIP, trainable=True) | changes


DATA = {
    'a caption column that is not there': (dict(header='filepath\ttitel'), "no column 'title', nearest: 'titel'"),
    'an image column that is not there': (dict(dataset=dict(image_key='filpath')), "nearest: 'filepath'"),
    'an empty caption': (dict(rows=['red/0.png\t  ']), 'row 7 has an empty caption'),
    'no caption at all': (dict(rows=['red/0.png\t']), '1 rows have no title, first row 7'),
    'a row whose image is missing': (dict(rows=['red/9.png\tgone']), "image 7 of 7, 'red/9.png', is not in"),
    'a misspelt key of a reader': (dict(dataset=dict(captionkey='title')), "no key 'captionkey'"),
    'labels of -1 with cross-entropy': (dict(loss=dict(type='PromptedCrossEntropyLoss')),
                                        'needs a class for every pair'),
}
PARTS = {
    'a teacher without a head': (prototypes(text_head=None), 'prototypes, so text_head must end in them'),
    'a student without a head': (prototypes(image_head=None), 'prototypes, so image_head must end in them'),
    'heads without prototypes': (prototypes(text_head=dict(type='ProjectionMLP', out_channels=8)),
                                 'text_head is a ProjectionMLP'),
    'another number of prototypes': (prototypes(loss=dict(type='ProtoCPCLoss', out_dim=9)),
                                     'scores have 8 columns, but out_dim is 9'),
    'heads of unequal size': (dict(image_head=dict(type='ProjectionMLP', out_channels=12),
                                   text_head=dict(type='ProjectionMLP', out_channels=10)),
                              'that of the image is 12, that of the text 10'),
    'a head that is a number': (dict(image_head=5), "image_head is 5; expected a head such as dict(type="),
    'a head that is text': (dict(text_head='DINOHead'), "text_head is 'DINOHead'"),
    'a head of an unknown type': (dict(image_head=dict(type='DINOHed')), "Nearest: 'DINOHead'"),
    'a joint width that nothing ends in': (dict(joint_dim=5), 'joint_dim is 5, but neither side has a head'),
    'a queue smaller than the batch': (dict(loss=dict(type='SEEDLoss', embed_dim=16, queue_size=2)),
                                       'queue_size (2) is smaller than the global batch (1 x 3 = 3)'),
    'queues smaller than the batch': (dict(loss=dict(type='CompRessLoss', num_queues=2, embed_dim=16, student_dim=16,
                                                     queue_size=2)), 'queue_size (2) is smaller'),
    'a queue of another width': (dict(loss=dict(type='SEEDLoss', embed_dim=5, queue_size=64)), 'embed_dim'),
    'keywords that lock nothing': (dict(text_encoder=tower('OpenCLIPTextEncoder', trainable=dict(
        locked=True, keywords='!resblock.9'))), "'!resblock.9' matches no parameter"),
    'an adapter on a tower that takes none': (dict(text_encoder=tower('OpenCLIPTextEncoder', adapter='lora_adapter')),
                                              'OpenCLIPTextEncoder takes no adapter'),
    'an adapter on a tower of images': (dict(image_encoder=tower('OpenCLIPImageEncoder', adapter='lora_adapter')),
                                        'OpenCLIPImageEncoder takes no adapter'),
    'a misspelt key of a tower': (dict(text_encoder=tower('OpenCLIPTextEncoder', n_promt=4)), "Nearest: 'n_prompt'"),
    'a tower of images for texts': (dict(text_encoder=tower('OpenCLIPImageEncoder')), 'is no text encoder'),
    'a tag without a network': (dict(text_encoder=tower('OpenCLIPTextEncoder', tag='openai')), 'allow_network=True'),
    'code without a network': (dict(image_encoder=dict(type='TorchHubEncoder', repo='facebookresearch/dino:main',
                                                       arch='dino_vits16')), 'allow_network=True'),
    'images in the loss of other models': (dict(loss=dict(type='MoCoLoss')), 'loss is a MoCoLoss'),
    'a logarithm for a scale': (dict(logit_scale=-2.659), 'logit_scale is -2.659; expected a number above 0'),
}
TEXT_TOWERS = {
    'a pooler that the weights lack': (dict(model='bare'), "text_pooler='cls' needs a pooler"),
    'an adapter that the library lacks': (dict(model='siglip', adapter='lora_adapter'), 'the text side of siglip'),
    'a misspelt adapter': (dict(model='gpt', text_pooler='mean', adapter='lora_adaptr'), "adapter is 'lora_adaptr'"),
    'a hub name without a network': (dict(model='somebody/some-model'), 'set allow_network=True to fetch it'),
}


@pytest.mark.parametrize('changes, message', DATA.values(), ids=DATA)
def test_data_that_cannot_be_aligned(folder, tmp_path, changes, message):
    refused(folder, tmp_path, config(folder, **changes), message)


def shard(folder, members):
    """A tar with images and texts by name; an image is written for each None."""
    with tarfile.open(folder / 'shard.tar', 'w') as tar:
        for name, text in members.items():
            content = (folder / 'images/red/0.png').read_bytes() if text is None else text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder / 'shard.tar'


@pytest.mark.parametrize('members, cut, words', [
    ({'a.png': None, 'a.txt': 'one', 'b.png': None, 'b.txt': 'two'}, 700, 'cut short or damaged'),
    ({'a.png': None, 'a.txt': 'one', 'b.png': None}, None, "'b'"), ({'a.txt': 'one'}, None, "'a'"),
    ({'a.png': None, 'a.txt': ' '}, None, 'empty')], ids=['cut short', 'no text', 'no image', 'empty text'])
def test_shards_that_are_not_whole(folder, tmp_path, members, cut, words):
    path = shard(folder, members)
    if cut:
        path.write_bytes(path.read_bytes()[:cut])
    cfg = config(folder)
    dataset = cfg['train_dataloader']['dataset']
    cfg['train_dataloader']['dataset'] = dict(type='WebDatasetPairs', shards=str(path), transform=dataset['transform'],
                                              index_dir=str(tmp_path / 'index'))
    refused(folder, tmp_path, cfg, 'shard.tar', words)


def test_more_classes_than_columns(folder, tmp_path):
    cfg = config(folder, loss=dict(type='PromptedCrossEntropyLoss'), joint_dim=1,
                 image_head=dict(type='ProjectionMLP'), text_head=dict(type='ProjectionMLP'))
    cfg['train_dataloader']['dataset']['images'] = dict(
        type='PromptedClassification', images=dict(type='ImageFolder', root=str(folder / 'images')))
    refused(folder, tmp_path, cfg, 'labels go from 0 to 1, expected classes 0 to 0, one per column')


@pytest.mark.parametrize('changes, message', PARTS.values(), ids=PARTS)
def test_parts_that_do_not_fit(folder, tmp_path, changes, message):
    refused(folder, tmp_path, config(folder, **changes), message)


@pytest.mark.parametrize('tower, message', TEXT_TOWERS.values(), ids=TEXT_TOWERS)
def test_language_models_that_do_not_fit(folder, texts, tmp_path, tower, message):
    text = dict(type='HuggingFaceTextEncoder', **{**tower, 'model': texts.get(tower['model'], tower['model'])})
    refused(folder, tmp_path, config(folder, text_encoder=text), message)


@pytest.mark.parametrize('task, words', [
    (dict(type='ZeroShot', template=['a {}']), "ZeroShot has no key 'template'. Did you mean 'templates'"),
    (dict(type='ZeroShoot'), "Nearest: 'ZeroShot'"),
    (dict(type='ZeroShot', templates=['a photo']), 'where the class name goes'),
    pytest.param(dict(type='ZeroShot', device='cuda'), "device is 'cuda', but torch sees no GPU here",
                 marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is one'))])
def test_tasks_that_cannot_be_run(folder, tmp_path, task, words):
    hook = dict(type='TaskHook', tasks=[task], data=dict(test=dict(type='ImageFolder', root=str(folder / 'images'))))
    refused(folder, tmp_path, config(folder) | dict(custom_hooks=[hook]), words)


def test_a_caption_of_ten_thousand_words_is_said_to_be_cut_before_training(folder, tmp_path):
    (tmp_path / 'c.json').write_text(json.dumps(config(folder, rows=['red/0.png\t' + 'word ' * 10_000])))
    done = run('train', tmp_path / 'c.json', '--work-dir', tmp_path / 'run', '--dry-run')
    assert done.code == 0, done.err
    said, = (line for line in done.out.splitlines() if 'is cut to' in line)
    assert 'a text of 10002 tokens is cut to 24, and so is every longer one' in said


def test_a_bank_of_other_weights_under_the_name_of_the_right_one_is_refused(folder, tmp_path):
    cfg = config(folder, text_encoder=tower('OpenCLIPTextEncoder', trainable=False))
    cfg['banks']['root'] = str(tmp_path / 'banks')
    for seed in (1, 2):  # of random weights: two banks
        (tmp_path / f'{seed}.json').write_text(json.dumps(cfg | dict(seed=seed)))
        done = run('train', tmp_path / f'{seed}.json', '--work-dir', tmp_path / f'{seed}')
        assert done.code == 0, done.err
    first, second = (tmp_path / 'banks').iterdir()
    first.rename(tmp_path / 'aside')
    second.rename(first)
    (tmp_path / 'aside').rename(second)
    done = run('train', tmp_path / '1.json', '--work-dir', tmp_path / 'run')
    assert done.code == 2 and len(done.err.splitlines()) == 1, done.err
    assert 'is another bank than the one asked for' in done.err and 'Different: encoder' in done.err
    assert not list((tmp_path / 'run').glob('*.pth'))
