"""The pixelwise tasks of ViRB as configs: their data, recipe, loss and metric fit each other, on rendered scenes."""

import pytest
import torch
from short_runs import CONFIGS

from clear.core.config import load_config
from clear.core.errors import DataError
from clear.datasets import read_images
from clear.datasets.dense import DenseRecipe, DenseSamples, batches
from clear.datasets.dense.targets import check_targets
from clear.datasets.make.demo_scenes import write_demo_scenes
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.evaluation.dense.scores import pixel_scores
from clear.evaluation.metrics.pixel_losses import pixel_loss
from clear.models.towers.image.preprocess import Preprocess

FOLDER = CONFIGS / '_base_' / 'tasks' / 'virb'
# Name -> kind of target, head, level, and what ViRB's all.yaml has: learning rate and epochs (None where it has none).
TASKS = {
    'pets_detection': ('mask', 'PixelWiseHead', 'semantic', 1e-4, 100),
    'egohands': ('classes', 'DeepLabHead', 'semantic', 3e-4, 25),
    'cityscapes': ('classes', 'DeepLabHead', 'semantic', 3e-4, 100),
    'thor_depth': ('depth', 'PixelWiseHead', 'structural', 3e-4, 50),
    'nyu_depth': ('depth', 'PixelWiseHead', 'structural', 3e-4, 250),
    'nyu_walkable': ('mask', 'PixelWiseHead', 'structural', 1e-4, 250),
    'taskonomy_depth': ('depth', 'PixelWiseHead', 'structural', 1e-4, 50),
    'kitti_flow': ('flow', 'SiameseHead', 'structural', 3e-4, 250),
    'taskonomy_edges': ('edges', 'PixelWiseHead', 'structural', None, None),
    'taskonomy_inpainting': ('image', 'PixelWiseHead', 'structural', None, None),
    'coco_detection': ('classes', 'PixelWiseHead', 'semantic', None, None),
    'voc2012_linear': ('classes', 'LinearPixelHead', 'semantic', None, None),
    'ade20k_linear': ('classes', 'LinearPixelHead', 'semantic', None, None)}
CHANNELS = dict(mask=1, depth=1, edges=1, flow=2, image=3)
SMALL = {224: 64, 512: 64, 450: 48, 513: 48}


def task_of(name):
    [task] = load_config(FOLDER / f'{name}.py')[0].to_dict()['tasks']
    return task


def names_of(suite):
    config = with_defaults(load_config(CONFIGS / 'probing' / 'suites' / f'{suite}.py')[0].to_dict())
    check_probe_config(config)
    return [task['name'] for task in config['tasks']]


def smaller(recipe):
    """The same at a few dozen pixels."""
    def small(value):
        return [SMALL[each] for each in value] if isinstance(value, (list, tuple)) else SMALL[value]

    changed = {key: small(value) if key in ('size', 'crop') else value for key, value in recipe.items()}
    return changed | ({'hole': (20, 40)} if 'hole' in recipe else {})


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Few scenes; of each layout that a task reads, when it is first asked for."""
    root = tmp_path_factory.mktemp('scenes')
    written = set()

    def folder(source):
        name = source['root'].split('/')[1]
        if name not in written:
            write_demo_scenes(root / name, only=[name if name != 'VOCdevkit' else 'VOCdevkit/VOC2012'], train=4, test=2,
                              edge=40, seed=0)
            written.add(name)
        return root / name / source['root'].removeprefix('data/')
    return folder


@pytest.mark.parametrize('name', TASKS)
def test_settings_are_those_of_virb(name):
    kind, head, level, lr, epochs = TASKS[name]
    task = task_of(name)
    assert (task['type'], task['name'], task['level'], task['kind']) == ('PixelwiseProbe', name, 'pixel', level)
    assert task['head'] == dict(type=head) and task['batch_size'] == 16
    if lr is not None:
        assert task['lrs'] == [lr] and task['optimizers'] == ['adam'] and task['epochs'] == epochs
    colours = name in ('pets_detection', 'thor_depth', 'nyu_depth', 'nyu_walkable', 'taskonomy_depth',
                       'taskonomy_edges')
    recipe = DenseRecipe.of(task['recipe'])
    expected = ((.4, .4, .4, .2), .2) if colours else (None, 0)
    assert name.endswith('_linear') or (recipe.jitter, recipe.gray) == expected


@pytest.mark.parametrize('name', TASKS)
def test_data_recipe_loss_and_metric_fit(name, scenes):
    kind = TASKS[name][0]
    task = task_of(name)
    recipes = dict(train=smaller(task['recipe']), test=smaller(task.get('test_recipe', task['recipe'])))
    loss = pixel_loss(task['loss'])
    assert {*task['data']} - {'val'} == {'train', 'test'}
    for split, source in task['data'].items():
        table = read_images({**source, 'root': str(scenes(source))})
        assert table.target_kind == kind
        check_targets(table)
        train = split == 'train'
        samples = DenseSamples(table, recipes.get(split, recipes['test']), Preprocess(), train=train)
        classes = len(table.target_names)
        scores = pixel_scores(kind, classes or None, task['metric'], **task.get('metric_options', {}))
        for batch in batches(samples, samples.rows[:3], 0, 2):
            assert batch.images.ndim == (5 if kind == 'flow' else 4)
            channels = classes or CHANNELS[kind]
            outputs = torch.randn(len(batch), channels, *batch.values.shape[-2:])
            if not train:
                scores.update(outputs, batch.values, batch.valid)
            value = loss(outputs, batch.values, batch.valid)
            assert value.isfinite() and value > 0
        if not train:
            assert torch.tensor(scores.values()[task['metric']]).isfinite()


def test_suites_hold_every_task():
    pixelwise = names_of('pixelwise')
    assert pixelwise == list(TASKS)
    assert names_of('all') == [*names_of('image_level'), *pixelwise]
    assert {path.stem for path in FOLDER.glob('*.py')} == {*names_of('all')}


def test_egohands_needs_its_48_videos(tmp_path):
    (tmp_path / 'images' / 'one').mkdir(parents=True)
    (tmp_path / 'labels').mkdir()
    with pytest.raises(DataError, match='holds 1 videos, expected 48'):
        read_images({**task_of('egohands')['data']['train'], 'root': str(tmp_path)})
