"""Every pretraining recipe runs through `tools/train.py` on data of its kind, and one epoch trains every parameter."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from short_runs import CONFIGS, read_results, train

from clear.core.config import load_config
from clear.core.files import load_tensors
from clear.datasets.make.demo import write_demo

FOLDER = CONFIGS / 'selfsup'
# The one on what a curation fetched is run by test_pretraining_from_shards.py.
RECIPES = {path.stem: path for path in sorted(FOLDER.glob('*.py'))
           if not path.stem.startswith('continual_') and not path.stem.endswith('_curated-b0')}
DEMOS = [name for name in RECIPES if name.endswith('_demo')]
PHOTOS = [name for name in RECIPES if name.endswith('_photos')]
SCENES = [name for name in RECIPES if name.endswith('_scenes')]
PUBLISHED = [name for name in RECIPES if name not in (*DEMOS, *PHOTOS, *SCENES)]
ALGORITHMS = {'mocov1': 'MoCo', 'mocov2': 'MoCo', 'clsa-single': 'CLSA', 'clsa-multi': 'CLSA', 'simclr': 'SimCLR',
              'byol': 'BYOL', 'simsiam': 'SimSiam', 'barlowtwins': 'BarlowTwins', 'vicreg': 'VICReg', 'swav': 'SwAV',
              'dino': 'DINO'}
# <method>_<net>_<gpus>xb<batch>[-...]-<schedule>-<epochs>e_<data>
NAME = re.compile(r'(?P<method>[a-z0-9-]+)_(?P<net>[a-z0-9-]+)_(?P<gpus>\d)xb(?P<batch>\d+)'
                  r'(-accum(?P<accum>\d+))?(-mcrop)?'
                  r'-(?P<schedule>cos|step)-(?P<epochs>\d+)e_(?P<data>imagenet|yfcc-b0|demo|photos|scenes)')
# What the first epoch leaves alone: see test_recipes.py for residual branches that begin with a scale of 0; what comes
# before a BatchNorm or a softmax over rows has no effect by its bias; SwAV and DINO hold their last layer at first.
STILL = {'swav': r'prototypes\.weight', 'dino': r'(student|teacher)\.neck\.last_layer'}


def write_photos(folder, count=4, side=72):
    """Noise of low frequency, so that crops differ."""
    generator = np.random.default_rng(0)
    for name in ('a', 'b'):
        (folder / name).mkdir(parents=True)
        for number in range(count // 2):
            pixels = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((side, side)).save(folder / name / f'{number}.png')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_demo(root / 'demo', limit=100)
    for split in ('train', 'test'):
        write_photos(root / 'photos' / split, count=24)
    write_photos(root / 'imagenet' / 'train')
    write_photos(root / 'yfcc' / '2004' / 'x')
    return root


def options(name, data):
    """Two iterations of the recipe on two images each."""
    small = ['train_dataloader.batch_size=2', 'train_dataloader.num_workers=0', 'train_cfg.max_epochs=1',
             'train_dataloader.persistent_workers=False', 'threads=1', 'device=cpu']
    if name in DEMOS:
        return ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=32',
                f'train_dataloader.dataset.data_root={data}/demo',
                f'custom_hooks.0.train.data_root={data}/demo', f'custom_hooks.0.test.data_root={data}/demo']
    if name in (*PHOTOS, *SCENES):
        return ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=8',
                f'train_dataloader.dataset.data_root={data}/photos/train',
                *(f'custom_hooks.0.{split}.data_root={data}/photos/{split}' for split in ('train', 'test'))]
    folder = 'yfcc' if name.endswith('yfcc-b0') else 'imagenet/train'
    more = ['train_dataloader.dataset.layout=folder'] if name.endswith('yfcc-b0') else []
    # The first steps of a warm-up move a weight of 1 by less than float32 can tell.
    cfg = load_config(RECIPES[name])[0]
    more += ['param_scheduler.0.start_factor=1.0'] if cfg.param_scheduler[0].type == 'LinearLR' else []
    accumulated = ['optim_wrapper.accumulative_counts=1'] if 'accum' in name else []
    return [*small, *more, *accumulated, f'train_dataloader.dataset.data_root={data}/{folder}']


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_is_what_its_name_says(name):
    found = NAME.fullmatch(name)
    assert found, name
    cfg = load_config(RECIPES[name])[0]
    assert cfg.model.type == ALGORITHMS[found['method']]
    assert cfg.train_dataloader.batch_size == int(found['batch'])
    assert cfg.train_cfg.max_epochs == int(found['epochs'])
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == int(found['accum'] or 1)
    ends = [each.get('end', each.get('T_max', 0)) for each in cfg.param_scheduler]
    if found['schedule'] == 'cos':
        assert max(ends) == int(found['epochs']), 'the schedule ends with the training'
    if name in PUBLISHED:
        global_batch = int(found['gpus']) * int(found['batch']) * int(found['accum'] or 1)
        assert cfg.auto_scale_lr.base_batch_size == global_batch


def test_every_algorithm_has_all_kinds_of_recipes():
    for kind in (DEMOS, PHOTOS, PUBLISHED):
        methods = {NAME.fullmatch(name)['method'] for name in kind}
        assert methods >= set(ALGORITHMS) - {'mocov1'}
    for crops in ('single', 'multi'):
        for epochs in (200, 800):
            assert f'clsa-{crops}_resnet50_8xb32-cos-{epochs}e_imagenet' in PUBLISHED
    assert 'mocov2_resnet50_8xb32-cos-200e_yfcc-b0' in PUBLISHED


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in ('mocov2_resnet18_1xb64-cos-4e_demo',) else [pytest.mark.slow])
    for name in RECIPES if '800e' not in name])
def test_recipe_trains_every_parameter(name, data, tmp_path):
    from clear.registry import MODELS

    seed = ['seed=3']
    train(RECIPES[name], '--work-dir', tmp_path / 'run', '--cfg-options', *seed, *options(name, data))
    results = read_results(tmp_path / 'run')
    assert np.isfinite(results['metrics']['loss'])
    state = load_tensors(tmp_path / 'run' / 'latest.pth')['state_dict']
    cfg = load_config(RECIPES[name])[0]
    method = NAME.fullmatch(name)['method']
    with torch.random.fork_rng():
        torch.manual_seed(3)
        fresh = MODELS.build(cfg.model)
        fresh.init_weights()
    trained = {key for key, value in fresh.named_parameters() if value.requires_grad}
    assert trained
    assert trained <= set(state)
    still = [key for key in trained if torch.equal(state[key], fresh.state_dict()[key])]
    allowed = STILL.get(method)
    assert not [key for key in still if not (allowed and re.fullmatch(allowed, key))], still
