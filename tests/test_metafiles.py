"""The metafiles, in OpenMMLab's form, name recipes that exist and say the figures of the pages."""

from pathlib import Path

import pytest
import yaml
from short_runs import ROOT

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
MODELS = [(path, model) for path in INDEX for model in yaml.safe_load((ROOT / path).read_text())['Models']]
# What the tables call a recipe, where it is not its file.
ROWS = {'naive': 'Naive', 'cumulative': 'Cumulative', 'joint': 'JointTraining', 'replay': 'Replay', 'gdumb': 'GDumb',
        'ewc': 'EWC', 'lwf': 'LwF', 'agem': 'AGEM', 'si': 'SynapticIntelligence', 'mas': 'MAS', 'lfl': 'LFL',
        'featuredistillation': 'FeatureDistillationPlugin', 'rwalk': 'RWalkPlugin', 'derpp': 'DERpp'}
WHOLE_ROWS = {'efficientnet_lite0_cifar10-small': 'EfficientNet-Lite0, ImageNet'}


def names_of(config):
    """What a row of a table may begin with, or have as its second cell, for a recipe."""
    stem = Path(config).stem
    first = stem.split('_')[0]
    short = stem.removeprefix('continual_clip-').split('_')[0]
    more = {ROWS[first]} if stem == f'{first}_lenet5_demo' else {WHOLE_ROWS[stem]} if stem in WHOLE_ROWS else set()
    return {f'`{stem}.py`', f'`{config}`', f'`{short}`'} | more


def labels_of(result):
    """What the row begins with in a table that is of one recipe alone: a row for each task, or for each data set."""
    return {result['Task'], f"`{result['Task']}`", result['Dataset']}


def test_every_metafile_is_in_the_index():
    assert sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('metafile.yml')) == INDEX


@pytest.mark.parametrize('path', INDEX)
def test_collections_and_names(path):
    content = yaml.safe_load((ROOT / path).read_text())
    collections = {each['Name'] for each in content['Collections']}
    names = [model['Name'] for model in content['Models']]
    assert len(names) == len(set(names)) and {model['In Collection'] for model in content['Models']} <= collections
    for each in content['Collections']:
        assert (ROOT / each['README']).is_file()


@pytest.mark.parametrize('path, model', MODELS, ids=[model['Name'] for _, model in MODELS])
def test_figures_are_those_of_the_page(path, model):
    config = ROOT / model['Config']
    assert config.is_file() and config.stem == model['Name'] and config.parent == (ROOT / path).parent
    page = (ROOT / model['README']).read_text()
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in page.splitlines() if line.startswith('|')]
    own = [row for row in rows if names_of(model['Config']) & set(row[:2])]
    is_told = model['Config'] in page
    assert own or is_told, f'{model["README"]} does not say how {model["Name"]} is run'
    for result in model['Results']:
        figures = list(result['Metrics'].values())
        told = [*own, *(row for row in rows if is_told and row[0] in labels_of(result))]
        assert figures and any(_holds(row, figures) for row in told), f'no row of {model["README"]} says {figures}'


def _holds(row, figures):
    numbers = [number.strip('*()') for cell in row for number in cell.replace(',', ' ').split()]
    return all(any(_is(number, figure) for number in numbers) for figure in figures)


def _is(text, figure):
    try:
        return float(text) == figure
    except ValueError:
        return False
