"""A run that another form of a method began is not continued without a word."""

import pytest
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import Naive
from clear_trees import write_clear_tree
from quick_runs import built, config, stop, trained, weights_of

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors
from clear.registry import STRATEGIES


class Shift(SupervisedPlugin):
    """Adds 1 to its count after every experience; form 2 adds 10. `counts` stands for what a method computes."""

    def __init__(self, legacy=False):
        super().__init__()
        self.count = 0
        if legacy:
            self.method_version = 1

    def after_training_exp(self, strategy, **kwargs):
        self.count += 1 if getattr(self, 'method_version', 1) == 1 else 10


@STRATEGIES.register_module()
class Shifted(Naive):
    """Naive with a `Shift`."""

    def __init__(self, *, legacy: bool = False, plugins=None, **kwargs):
        super().__init__(plugins=[*(plugins or []), Shift(legacy)], **kwargs)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


def changed(monkeypatch, remedy='cl_strategy.legacy=True brings the earlier form back', owner=Shift):
    """From now on the default is form 2."""
    monkeypatch.setattr(owner, 'method_version', 2, raising=False)
    monkeypatch.setattr(owner, 'method_remedy', remedy, raising=False)


def count(runner):
    return next(plugin.count for plugin in runner.strategy.plugins if isinstance(plugin, Shift))


def test_checkpoints_note_the_forms_that_are_not_the_first(root, tmp_path, monkeypatch):
    trained(config(root, 'Shifted'), tmp_path / 'first')
    assert 'methods' not in load_tensors(tmp_path / 'first' / 'latest.pth')['progress']
    changed(monkeypatch)
    trained(config(root, 'Shifted'), tmp_path / 'second')
    assert load_tensors(tmp_path / 'second' / 'latest.pth')['progress']['methods'] == {'Shift': 2}
    trained(config(root, 'Shifted', dict(legacy=True)), tmp_path / 'third')
    assert 'methods' not in load_tensors(tmp_path / 'third' / 'latest.pth')['progress']
    monkeypatch.setattr(Shifted, 'method_version', 3, raising=False)
    trained(config(root, 'Shifted'), tmp_path / 'fourth')
    assert load_tensors(tmp_path / 'fourth' / 'latest.pth')['progress']['methods'] == {'Shifted': 3, 'Shift': 2}


@pytest.mark.parametrize('place', [(1, 2), (1, 6)])
def test_resume_refuses_and_the_key_brings_the_form_back(place, root, tmp_path, monkeypatch):
    """Also inside an experience; the run then ends as it would have."""
    whole = trained(config(root, 'Shifted'), tmp_path / 'whole')
    stop(built(config(root, 'Shifted'), tmp_path / 'run'), *place)
    changed(monkeypatch)
    before = weights_of(tmp_path / 'run')
    with pytest.raises(CheckpointError, match=r'latest.pth was written by form 1 of Shift; this run would compute form '
                                              r'2, another method. cl_strategy.legacy=True brings the earlier form'):
        built(config(root, 'Shifted'), tmp_path / 'run').train(resume=True)
    assert all((value == before[name]).all() for name, value in weights_of(tmp_path / 'run').items())
    resumed = trained(config(root, 'Shifted', dict(legacy=True)), tmp_path / 'run', resume=True)
    assert count(resumed) == count(whole) == 3
    assert all((value == weights_of(tmp_path / 'run')[name]).all()
               for name, value in weights_of(tmp_path / 'whole').items())


def test_any_other_new_key_is_another_config(root, tmp_path, monkeypatch):
    stop(built(config(root, 'Shifted'), tmp_path), 1, 2)
    changed(monkeypatch)
    with pytest.raises(CheckpointError, match='another config: cl_strategy.eval_mb_size: 8 -> 4'):
        built(config(root, 'Shifted', dict(legacy=True, eval_mb_size=4)), tmp_path).train(resume=True)
    with pytest.raises(CheckpointError, match='another config: cl_strategy.legacy: None -> False'):
        built(config(root, 'Shifted', dict(legacy=False)), tmp_path).train(resume=True)


def test_branch_refuses_too(root, tmp_path, monkeypatch):
    trained(config(root, 'Shifted'), tmp_path / 'first')
    changed(monkeypatch)
    with pytest.raises(CheckpointError, match='written by form 1 of Shift'):
        built(config(root, 'Shifted'), tmp_path / 'new').train(branch=str(tmp_path / 'first' / 'exp_0.pth'))
    branched = trained(config(root, 'Shifted', dict(legacy=True)), tmp_path / 'new',
                       branch=str(tmp_path / 'first' / 'exp_0.pth'))
    assert count(branched) == 3


def test_where_nothing_brings_it_back_it_says_so(root, tmp_path, monkeypatch):
    stop(built(config(root, 'Shifted'), tmp_path), 1, 2)
    changed(monkeypatch, remedy='', owner=Shifted)
    with pytest.raises(CheckpointError, match='form 1 of Shifted; .* There is no way back to the earlier form: start '):
        built(config(root, 'Shifted'), tmp_path).train(resume=True)


def test_a_later_form_is_not_continued_as_an_earlier_one(root, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        changed(patch)
        stop(built(config(root, 'Shifted'), tmp_path), 1, 2)
    with pytest.raises(CheckpointError, match='form 2 of Shift; this run would compute form 1.*newer version'):
        built(config(root, 'Shifted'), tmp_path).train(resume=True)
