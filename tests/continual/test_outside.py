"""A buffer, plugins and a strategy in a folder outside the package, found by `custom_imports`: stopped and resumed."""

import signal
import sys
from pathlib import Path

import pytest
from clear_trees import write_clear_tree
from doc_pages import python_files
from short_runs import FEATURE_CONFIG, IMAGE_CONFIG, read_results, run, train, without_timing, write_config

from clear import registry
from clear.core.files import load_tensors
from clear.engine.continual.runner import ContinualRunner

# A plugin and what it holds, of no class of Avalanche's or ours; the strategy that brings them is an ordinary one.
COUNTED = '''
import torch
from avalanche.training.supervised import Naive
from clear.registry import PLUGINS, STRATEGIES


class Mean:
    """The running mean of what was seen, and a cache that is no state."""

    def __init__(self):
        self.count, self.total, self.cache = 0, torch.zeros(3), lambda: None

    def add(self, value):
        self.count, self.total = self.count + 1, self.total + value.detach().mean(0)

    def state_dict(self):
        return dict(count=self.count, total=self.total)

    def load_state_dict(self, state):
        self.count, self.total = state['count'], state['total']


@PLUGINS.register_module()
class DecayPlugin:
    supports_distributed = False

    def __init__(self):
        self.steps, self.mean = 0, Mean()

    def __getattr__(self, name):
        if name.startswith(('before_', 'after_')):
            return lambda strategy, **kwargs: None
        raise AttributeError(name)

    def before_backward(self, strategy, **kwargs):
        strategy.loss = strategy.loss + 0.01 * (strategy.mb_output - self.mean.total).square().mean() * self.steps

    def after_update(self, strategy, **kwargs):
        self.steps += 1
        self.mean.add(strategy.mb_output)


@STRATEGIES.register_module()
class Counted(Naive):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = Mean()

    def forward(self):
        output = super().forward()
        if self.is_training:
            self.mean.add(output)
            output = output + 0.1 * self.mean.total / self.mean.count
        return output
'''
MODULES = {'counted': COUNTED, **{name: python_files()[f'{name}.py'] for name in ('anchored', 'newest', 'speckle')}}
STRATEGY = 'cl_strategy.update(type={!r}, {})\n'
CASES = {
    'a plugin and a helper of its own': ('counted', 'Naive', "plugins=[dict(type='DecayPlugin')]"),
    'a strategy with a helper of its own': ('counted', 'Counted', ''),
    'a strategy of the docs': ('anchored', 'Anchored', 'strength=0.5'),
    'a buffer of the docs': ('newest', 'Replay', "storage_policy=dict(type='Newest', max_size=10)"),
    'a buffer of the docs in another strategy': ('newest', 'GDumb', "buffer=dict(type='Newest', max_size=10)"),
    'all at once': ('newest', 'Anchored', "plugins=[dict(type='DecayPlugin'), dict(type='ReplayPlugin', mem_size=10, "
                    "storage_policy=dict(type='Newest', max_size=10))]")}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with the modules; nothing of them stays in this process."""
    folder = tmp_path / 'outside'
    folder.mkdir()
    for name, text in MODULES.items():
        (folder / f'{name}.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    registries = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    for each in registries:
        each.import_from_location()
    before = [dict(each.module_dict) for each in registries]
    monkeypatch.setattr('clear.visualization.draw_figures', lambda *args, **options: [])
    monkeypatch.setattr('clear.visualization.write_report',
                        lambda results, path, **options: Path(path).write_text('report'))
    yield folder
    for each, items in zip(registries, before):
        each.module_dict.clear()
        each.module_dict.update(items)
    for name in MODULES:
        sys.modules.pop(name, None)


def written(outside, root, case):
    module, kind, options = CASES[case]
    wanted = sorted(MODULES) if case == 'all at once' else [module]
    return write_config(outside / 'config.py', FEATURE_CONFIG, root, STRATEGY.format(kind, options) +
                        f'custom_imports = dict(imports={wanted})\n')


def stop_at(patch, experience, iteration):
    original = ContinualRunner._on_iteration

    def on_iteration(self, strategy):
        original(self, strategy)
        if (strategy.clock.train_exp_counter, strategy.clock.train_exp_iterations) == (experience, iteration):
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(ContinualRunner, '_on_iteration', on_iteration)


@pytest.mark.parametrize('case', CASES)
def test_stopped_inside_an_experience_and_resumed(case, outside, root, monkeypatch):
    config = written(outside, root, case)
    train(config, '--work-dir', 'whole')
    with monkeypatch.context() as patch:
        stop_at(patch, 1, 3)
        stopped = run('train', config, '--work-dir', 'parts')
    assert stopped.code == 143, stopped.err
    assert Path('parts/iteration.pth').is_file()
    train(config, '--work-dir', 'parts', '--resume')
    assert without_timing(read_results('whole')) == without_timing(read_results('parts'))
    whole, parts = (load_tensors(Path(folder) / 'latest.pth') for folder in ('whole', 'parts'))
    assert str(whole['strategy']) == str(parts['strategy'])
    assert all(tensor.equal(parts['state_dict'][name]) for name, tensor in whole['state_dict'].items())


def test_they_change_the_result(outside, root):
    """Or a resume that forgets them would pass above."""
    for number, case in enumerate(('a plugin and a helper of its own', 'a buffer of the docs')):
        train(written(outside, root, case), '--work-dir', f'run_{number}')
    train(write_config(outside / 'config.py', FEATURE_CONFIG, root), '--work-dir', 'plain')
    weights = [load_tensors(Path(folder) / 'latest.pth')['state_dict']['head.fc.weight']
               for folder in ('run_0', 'run_1', 'plain')]
    assert not weights[0].equal(weights[2]) and not weights[1].equal(weights[2])


def test_a_transform_stopped_inside_an_experience_and_resumed(outside, tmp_path, monkeypatch):
    images = write_clear_tree(tmp_path / 'images', per_class=10, image_size=32)
    more = """custom_imports = dict(imports=['speckle'])
scenario.update(train_transform=[*_transform, dict(type='Speckle', p=0.7)])
cl_strategy.update(train_mb_size=8, train_epochs=2)
"""
    config = write_config(outside / 'config.py', IMAGE_CONFIG, images, more)
    train(config, '--work-dir', 'whole')
    with monkeypatch.context() as patch:
        stop_at(patch, 1, 3)
        assert run('train', config, '--work-dir', 'parts').code == 143
    train(config, '--work-dir', 'parts', '--resume')
    plain = write_config(outside / 'plain.py', IMAGE_CONFIG, images, more.replace('p=0.7', 'p=0.0'))
    train(plain, '--work-dir', 'plain')
    whole, parts, plain = (load_tensors(Path(folder) / 'latest.pth')['state_dict']
                           for folder in ('whole', 'parts', 'plain'))
    assert all(tensor.equal(parts[name]) for name, tensor in whole.items())
    assert not whole['head.fc.weight'].equal(plain['head.fc.weight'])
    assert without_timing(read_results('whole')) == without_timing(read_results('parts'))
    assert run('analysis_tools/make_report', 'parts').code == 0
