"""The recipes of zero-shot classification: each task can be made, and the demo runs to its end and again."""

import csv
import json
from pathlib import Path

import pytest
import torchvision.datasets
from short_runs import CONFIGS, run

from clear.core.config import load_config
from clear.datasets.make.demo import write_demo
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.evaluation.language.prompts import Prompting

RECIPES = ['zero_shot', 'zero_shot_itra', 'zero_shot_clip_lists', 'zero_shot_demo', 'zero_shot_photos']
# What torchvision, or the archive of the set, calls some classes.
CLASSES = {
    'mnist': torchvision.datasets.MNIST.classes, 'flowers102': torchvision.datasets.Flowers102.classes,
    'svhn': [str(row) for row in range(10)], 'gtsrb': [str(row) for row in range(43)],
    'fer2013': [str(row) for row in range(7)], 'patch_camelyon': ['0', '1'],
    'eurosat': ['AnnualCrop', 'Forest', 'HerbaceousVegetation', 'Highway', 'Industrial', 'Pasture', 'PermanentCrop',
                'Residential', 'River', 'SeaLake'],
    'clevr_counts': [str(row) for row in range(3, 11)], 'kitti_distance': [str(row) for row in range(4)]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with lists as they come out of CLIP's page, in the order of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    Path('data/prompts').mkdir(parents=True)
    lists = {name: dict(names=['10', '3', '4'] if name == 'CLEVRCounts' else ['Barn Owl', 'Crow'], templates=['a {}'])
             for name in ('Birdsnap', 'UCF101', 'Kinetics700', 'RESISC45', 'CLEVRCounts')}
    Path('data/prompts/clip.json').write_text(json.dumps(lists))


def tasks_of(recipe):
    return {task['name']: task for task in load_config(CONFIGS / 'evaluation' / f'{recipe}.py')[0].to_dict()['tasks']}


def prompting(task):
    return Prompting(**{key: task[key] for key in ('names', 'templates', 'match') if key in task})


@pytest.mark.parametrize('recipe', RECIPES)
def test_every_task_can_be_made(recipe):
    cfg, _ = load_config(CONFIGS / 'evaluation' / f'{recipe}.py')
    check_probe_config(with_defaults(cfg))


@pytest.mark.parametrize('recipe', ['zero_shot', 'zero_shot_itra'])
def test_values_and_averages_are_those_that_are_said(recipe):
    tasks = tasks_of(recipe)
    by_class = {name for name, task in tasks.items() if task.get('metric') == 'mean_per_class'}
    assert by_class == {'fgvc_aircraft', 'flowers102', 'oxford_pets', 'caltech101'} & set(tasks)
    assert {task.get('prompt_average') for task in tasks.values()} == {'raw' if recipe == 'zero_shot_itra' else None}


def test_lists_fit_the_classes_of_the_data():
    tasks = tasks_of('zero_shot')
    for name, known in CLASSES.items():
        found = prompting(tasks[name]).of(known)
        assert len(found.names) == len(known) and not found.is_unseen, name
    assert prompting(tasks['fer2013']).of(CLASSES['fer2013']).names[4:] == ['sad', 'surprised', 'neutral']
    assert prompting(tasks['eurosat']).of(CLASSES['eurosat']).names[9] == 'lake or sea'
    imagenet = prompting(tasks['imagenet'])
    folders = [ids[0] for ids in imagenet.list.known_as]
    assert folders == sorted(folders) and imagenet.of(folders).origin['match'] == 'names'


def test_lists_of_a_page_are_put_into_the_order_of_the_folders():
    tasks = tasks_of('zero_shot_clip_lists')
    assert prompting(tasks['clevr_counts']).of(['3', '4', '10']).names == ['3', '4', '10']
    assert prompting(tasks['birdsnap']).of(['Crow']).names == ['Crow']


def test_without_its_lists_a_recipe_says_what_makes_them():
    Path('data/prompts/clip.json').unlink()
    done = run('train', CONFIGS / 'evaluation' / 'zero_shot_clip_lists.py', '--dry-run')
    assert done.code == 2 and 'data/prompts/clip.json does not exist' in done.err
    assert 'tools/dataset_converters/prompt_tables.py CLIP/data/prompts.md --out data/prompts/clip.json' in done.err


def test_the_demo_runs_and_stops_where_nothing_is_left_to_do():
    write_demo('data/demo', seeds=[0], limit=100)
    config = CONFIGS / 'evaluation' / 'zero_shot_demo.py'
    found = run('train', config, '--work-dir', 'out', '--cfg-options', 'threads=1')
    assert found.code == 0, found.err
    results = json.loads(Path('out/results.json').read_text())
    before = Path('out/results.csv').read_bytes()
    values = {row['task']: float(row['value']) for row in csv.DictReader(before.decode().splitlines())
              if row['metric'] == 'top1'}
    assert set(values) == {'one_template', 'five_templates', 'five_raw', 'six_of_svhn', 'mnist'}
    # Weights are random: of ten classes a tenth is right, give or take.
    assert all(value < 0.35 for value in values.values())
    assert "'svhn' of clip-benchmark" in json.dumps(results)
    again = run('train', config, '--work-dir', 'out', '--resume', '--cfg-options', 'threads=1')
    assert again.code == 0 and Path('out/results.csv').read_bytes() == before
