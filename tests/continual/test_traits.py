"""What a strategy says of itself is heard: a toy strategy with each attribute; and no table of names comes back."""

import ast
from pathlib import Path

import avalanche.training.supervised as supervised
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.supervised import Naive
from clear_trees import write_clear_tree
from quick_runs import CLASSES, DIM, built, config, trained
from torch import nn

from clear.continual.samples import SampleIndex
from clear.continual.state import strategy_state
from clear.continual.strategies.build import strategy_class
from clear.continual.training.traits import AVALANCHE, Traits, rebuilt_fields, trait
from clear.continual.training.versions import method_versions
from clear.core.errors import ConfigError, TrainingError
from clear.engine.continual.plan import _num_unmixed
from clear.registry import BUFFERS, PLUGINS, STRATEGIES

PACKAGE = Path(__file__).parents[2] / 'clear'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Three buckets of 21 training features."""
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=DIM, num_classes=CLASSES, per_class=10,
                            images=False)


@pytest.fixture
def toy(monkeypatch):
    """Register a strategy `Toy`, Naive but for what it declares."""
    def register(base=Naive, **declared):
        kind = type('Toy', (base,), declared)
        monkeypatch.setitem(STRATEGIES.module_dict, 'Toy', kind)
        return kind

    STRATEGIES.import_from_location()
    return register


def test_one_that_says_nothing_has_the_defaults(toy):
    kind = toy()
    names = [name for name in vars(Traits) if not name.startswith('_')]
    assert {'division', 'own_loss', 'rebuilt', 'check_stream', 'prepare_model'} < {*names}
    assert set(Traits.__annotations__) <= {*names}
    for name in Traits.__annotations__:
        assert trait(kind, name) == getattr(Traits, name), f'{name}: that of Naive is not its own'
        if name != 'rebuilt':
            assert getattr(strategy_class('Toy'), name) == getattr(Traits, name)


@pytest.mark.parametrize('division, mode', [('shard', 'gather'), ('gather', 'gather'), ('replicate', 'replicate')])
def test_division(division, mode, toy, root):
    toy(division=division)
    assert built(config(root, 'Toy'))._choose_mode() == mode
    toy(base=toy(division=division))
    assert built(config(root, 'Toy'))._choose_mode() == 'replicate', 'a subclass says nothing for itself'


def test_own_loss(toy, root):
    toy(own_loss=True)
    with pytest.raises(ConfigError, match='cl_strategy.loss: Toy is defined by its own loss'):
        built(config(root, 'Toy', dict(loss=dict(type='CrossEntropyLoss'))))
    toy(own_loss='CrossEntropyLoss')
    built(config(root, 'Toy', dict(loss=dict(type='CrossEntropyLoss'))))

    class Own(Naive):
        def __init__(self, *, criterion=None, **kwargs):
            assert criterion is None, 'the loss is its own'
            super().__init__(criterion=nn.MultiMarginLoss(), **kwargs)

    toy(base=Own, own_loss=True)
    assert isinstance(built(config(root, 'Toy')).strategy._criterion, nn.MultiMarginLoss)


def test_needs_optimizer(toy, root):
    class WithOne(Naive):
        def __init__(self, *, model, **kwargs):
            super().__init__(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
                             criterion=nn.CrossEntropyLoss(), **kwargs)

    toy(base=WithOne, needs_optimizer=False)
    cfg = config(root, 'Toy')
    del cfg['cl_strategy']['optimizer']
    assert built(cfg).strategy.optimizer.param_groups[0]['lr'] == 0.5
    toy()
    with pytest.raises(ConfigError, match='cl_strategy.optimizer needs a dict'):
        built(cfg)


def test_embeds_in_training(toy, root):
    metrics = [dict(type='accuracy_metrics', minibatch=True), dict(type='loss_metrics', minibatch=True)]
    for says, kept, accuracy in ((True, 1, False), (False, 2, True)):
        toy(embeds_in_training=says)
        runner = built(config(root, 'Toy', metrics=metrics))
        assert len(runner.strategy.evaluator.metrics) == kept
        runner = trained(config(root, 'Toy'))
        value = runner.record.train_log[0]['accuracy']
        assert (value == value) == accuracy  # NaN, or a number


def test_is_classifier(toy, root):
    toy(is_classifier=False)
    with pytest.raises(ConfigError, match='Toy trains a generator'):
        built(config(root, 'Toy'))


def test_is_joint(toy, root):
    toy(base=supervised.JointTraining, is_joint=True)
    runner = trained(config(root, 'Toy'))
    assert runner.is_joint and len(runner.record.train_log) == 1
    assert len({tuple(row) for row in runner.record.acc_matrix}) == 1, 'one model stands for all'


def test_is_cumulative(toy, root):
    toy(is_cumulative=True)
    with pytest.raises(ConfigError, match='Toy divides each batch over the buckets .* is 2, but there are 3 buckets'):
        built(config(root, 'Toy', dict(train_mb_size=2)))
    counts = [len(bucket) for bucket in built(config(root, 'Naive')).info.train]
    planned = [built(config(root, kind, dict(train_mb_size=1 + 2 * (kind == 'Toy'), train_epochs=1))).iterations
               for kind in ('Naive', 'Toy')]
    assert planned == [counts, [-(-sum(counts[:number]) // 3) for number in (1, 2, 3)]]


def test_samples_at_most_and_check_stream(toy, root):
    def refuse(cls, options, num_buckets):
        if num_buckets > options['train_epochs']:
            raise ConfigError(f'{num_buckets} buckets are too many')

    toy(samples_at_most=classmethod(lambda cls, options: options['train_mb_size']), check_stream=classmethod(refuse))
    assert built(config(root, 'Toy', dict(train_epochs=3))).iterations == [3, 3, 3]
    with pytest.raises(ConfigError, match='3 buckets are too many'):
        built(config(root, 'Toy'))


def test_prepare_model(toy, root):
    def prepare(model, *, device, **options):
        model.was_prepared = sorted(options)
        return model

    toy(prepare_model=staticmethod(prepare))
    assert built(config(root, 'Toy')).model.was_prepared == ['eval_mb_size', 'train_epochs', 'train_mb_size']


def test_penalty_keys(toy, root):
    class Exploding(SupervisedPlugin):
        def before_backward(self, strategy, **kwargs):
            strategy.loss = strategy.loss + (float('inf') if strategy.clock.train_exp_counter else 0)

    def init(self, *, plugins=(), **kwargs):
        Naive.__init__(self, plugins=[*plugins, Exploding()], **kwargs)

    for keys, advice in ((('beta',), 'The likely cause is beta: the penalty'), ((), 'Try a smaller learning rate.')):
        toy(penalty_keys=keys, __init__=init)
        with pytest.raises(TrainingError, match=advice):
            trained(config(root, 'Toy'))


@pytest.mark.parametrize('says, number', [('every', 3), ('first', 1), (None, 0)])
def test_unmixed_batches(says, number, toy, root):
    toy(unmixed_batches=says)
    cfg = config(root, 'Toy')
    assert _num_unmixed(cfg['cl_strategy'], built(cfg).strategy, 3) == number


def test_method_version(toy, root):
    toy(method_version=2)
    assert method_versions(built(config(root, 'Toy')).strategy) == {'Toy': 2}


def test_rebuilt_and_saved_elsewhere(toy, root):
    class Plugin(SupervisedPlugin):
        rebuilt = ('cache',)

        def __init__(self):
            super().__init__()
            self.cache, self.kept = object(), 1

    class Silent(Plugin):
        is_saved_elsewhere = True

    def init(self, *, plugins=(), **kwargs):
        Naive.__init__(self, plugins=[*plugins, Plugin(), Silent()], **kwargs)
        self.scratch, self.kept = object(), 2

    kind = toy(rebuilt=('scratch',), __init__=init)
    toy(base=kind, rebuilt=('more',))
    strategy = built(config(root, 'Toy')).strategy
    strategy.more = object()
    state = strategy_state(strategy, SampleIndex([]))
    assert state['fields'] == {'kept': 2}
    plugin, = (value for name, value in state['plugins'].items() if 'Plugin' in name)
    assert plugin['fields'] == {'kept': 1} and not any('Silent' in name for name in state['plugins'])
    assert rebuilt_fields(type(strategy)) > {'scratch', 'more', 'scaler'}


def test_plugins_say_what_they_bring_and_need(monkeypatch, root):
    class Brings(SupervisedPlugin):
        eval_classifier = 'ncm'

        def prepare_model(self, model):
            model.shows = self

    monkeypatch.setitem(PLUGINS.module_dict, 'Brings', Brings)
    cfg = config(root, 'Naive', dict(plugins=[dict(type='Brings', classifier=dict(normalize=False))]))
    strategy = built(cfg).strategy
    assert strategy.model.eval_classifier.normalize is False
    assert isinstance(strategy.model.shows, Brings)
    Brings.eval_classifier = None
    with pytest.raises(ConfigError, match='classifier'):
        built(cfg)


def test_a_memory_that_takes_the_model_gets_it(monkeypatch, root):
    class Looks(ReservoirSamplingBuffer):
        def __init__(self, model, max_size):
            super().__init__(max_size)
            self.seen = model

    monkeypatch.setitem(BUFFERS.module_dict, 'Looks', Looks)
    for kind, key in (('Replay', 'storage_policy'), ('GDumb', 'buffer')):
        strategy = built(config(root, kind, {key: dict(type='Looks', max_size=6)})).strategy
        memory, = (plugin.storage_policy for plugin in strategy.plugins if hasattr(plugin, 'storage_policy'))
        assert memory.seen is strategy.model


# The one table


def test_the_table_is_of_avalanche_s_classes_and_of_known_traits():
    import avalanche.evaluation.metrics  # noqa: F401
    from avalanche.training import storage_policy

    known = {cls.__name__ for cls in _classes(object) if str(cls.__module__).startswith('avalanche.')}
    assert set(AVALANCHE) <= known | {*vars(storage_policy)}
    for name, declared in AVALANCHE.items():
        assert set(declared) <= set(Traits.__annotations__), name
    assert not any(STRATEGIES.get_own(name) for name in AVALANCHE), 'what is ours says it itself'


def _classes(base):
    import avalanche.training.plugins
    import avalanche.training.supervised  # noqa: F401

    seen, waiting = set(), list(type.__subclasses__(base))
    while waiting:
        cls = waiting.pop()
        if cls not in seen:
            seen.add(cls)
            waiting += type.__subclasses__(cls)
    return seen


# Files that may name strategies: registries, the table, faces, Avalanche's own mended (in messages), an old key.
ALLOWED = ('registry.py', 'continual/training/traits.py', 'continual/repairs/', 'continual/strategies/__init__.py',
           'core/config.py')


def strategy_names():
    STRATEGIES.import_from_location()
    return {*STRATEGIES.module_dict, *(name for name in dir(supervised) if isinstance(getattr(supervised, name), type))}


def named_in(text):
    names = strategy_names()
    return sorted({node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)
                   and isinstance(node.value, str) and node.value in names})


@pytest.mark.parametrize('path', sorted(PACKAGE.rglob('*.py')), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_file_names_a_strategy(path):
    place = path.relative_to(PACKAGE).as_posix()
    if place.startswith(ALLOWED):
        return
    assert not named_in(path.read_text()), 'let the class say what it is, see clear/continual/training/traits.py'


def test_the_check_sees_a_table():
    assert named_in("SHARDED = {'Naive', 'Replay'}\nif kind == 'AGEM':\n    x = 'a Naive text'") == \
        ['AGEM', 'Naive', 'Replay']
