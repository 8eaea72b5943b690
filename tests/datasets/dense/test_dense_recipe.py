import json

import pytest
from mmengine.config import Config

from clear.core.errors import ConfigError
from clear.datasets.dense import DenseRecipe


def test_from_a_config_and_back():
    config = dict(size=[224, 200], jitter=[.4, .4, .4, .2], gray=.2, scale=[.5, 2], mirror=.5, crop=90,
                  crop_classes=dict(least=2, tries=11), hole=[6, 16])
    recipe = DenseRecipe.of(config)
    assert recipe.size == (224, 200) and recipe.crop == (90, 90) and recipe.is_random and recipe.is_one_size
    assert DenseRecipe.of(recipe.to_dict()) == recipe and DenseRecipe.of(recipe) is recipe
    assert recipe.for_eval() == DenseRecipe(size=(224, 200), hole=(6, 16))
    assert not recipe.for_eval().is_random and recipe.for_eval().is_one_size


def test_from_a_config_file(tmp_path):
    text = 'recipe = dict(crop=[9, 8], scale=(1, 2), crop_classes=dict(least=2, tries=3))'
    (tmp_path / 'config.py').write_text(text)
    recipe = DenseRecipe.of(Config.fromfile(str(tmp_path / 'config.py')).recipe)
    assert recipe == DenseRecipe(crop=(9, 8), scale=(1, 2), crop_classes=dict(least=2, tries=3))
    assert type(recipe.crop_classes) is dict and json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()


def test_nothing_at_all():
    recipe = DenseRecipe.of(None)
    assert recipe == DenseRecipe() == recipe.for_eval() and not recipe.is_random and not recipe.is_one_size
    assert recipe.size_of(7, 9) == (7, 9)


@pytest.mark.parametrize('name, value', [('jitter', (.4, .4, .4, .2)), ('gray', .2), ('scale', (.5, 2)), ('mirror', .5),
                                         ('crop', 9)])
def test_each_of_these_is_random(name, value):
    assert DenseRecipe.of({name: value}).is_random


def test_sizes():
    assert DenseRecipe(size=64).size_of(100, 151) == (64, 96)  # the longer side is rounded down
    assert DenseRecipe(size=64).size_of(100, 151, 0.5) == (32, 48)
    assert DenseRecipe(size=(10, 20)).size_of(100, 150, 1.26) == (13, 25)
    assert DenseRecipe(size=(1, 1)).size_of(100, 150, 0.1) == (1, 1)
    assert not DenseRecipe(size=64).is_one_size and not DenseRecipe(size=(9, 9), scale=(1, 2)).is_one_size


@pytest.mark.parametrize('config, said', [
    (dict(sizes=9), "no key 'sizes'. Nearest: 'size'"), ([9], 'recipe is'), (dict(size=0), 'recipe.size'),
    (dict(size=(9,)), r'expected \(height, width\)'), (dict(size=(9, True)), 'recipe.size'),
    (dict(crop=(0, 1)), 'recipe.crop'), (dict(scale=(2, 1)), 'low <= high'), (dict(scale=.5), 'expected 2 numbers'),
    (dict(jitter=(1, 1, 1, .6)), 'the last at most 0.5'), (dict(jitter=(.4, .4)), 'expected 4 numbers'),
    (dict(gray=2), 'recipe.gray'), (dict(mirror=True), 'recipe.mirror'), (dict(hole=(9, 9)), 'first < last'),
    (dict(hole=(.5, 9)), 'recipe.hole'), (dict(size=(64, 99), hole=(60, 65)), 'ends outside an image of 99 x 64'),
    (dict(crop_classes=dict(least=2, tries=11)), 'needs recipe.crop'),
    (dict(crop=9, crop_classes=dict(least=2)), 'tries=11'),
    (dict(crop=9, crop_classes=dict(least=2, tries=0)), 'crop_classes.tries'),
    (dict(interpolation='area'), 'recipe.interpolation'), (dict(target_at='end'), 'recipe.target_at'),
    (dict(crop=9, target_at='original'), 'goes with recipe.size alone')])
def test_what_cannot_be(config, said):
    with pytest.raises(ConfigError, match=said):
        DenseRecipe.of(config)
