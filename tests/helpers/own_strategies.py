"""Runs of our own strategies: their configs, a look into what they do, and what is in their memories."""

import pytest
from tiny_runs import config

from clear.continual.samples import SampleIndex

HEAD = 'StackedLinearClsHead'


def places(runner, dataset):
    """(experience, row) of each sample of a data set."""
    experience, rows = SampleIndex([item.dataset for item in runner.experiences]).locate(dataset)
    return list(zip(experience.tolist(), rows.tolist()))


def plugin(runner, name):
    return next(item for item in runner.strategy.plugins if type(item).__name__ == name)


def spy(runner, hook, look):
    """Call `look(strategy)` before a method of the strategy's, in a runner that was built."""
    strategy, inner = runner.strategy, getattr(runner.strategy, hook)

    def wrapped(*args, **kwargs):
        look(strategy)
        return inner(*args, **kwargs)

    setattr(type(strategy), hook, lambda self, *args, **kwargs: wrapped(*args, **kwargs))


def run(runner):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('clear.visualization.draw_figures', lambda *args, **kwargs: [])
        patch.setattr('clear.visualization.write_report', lambda *args, **kwargs: None)
        runner.train()
    return runner


def derpp(root, **options):
    cfg = config(root, **options)
    cfg['cl_strategy'].update(type='DERpp', mem_size=11, alpha=0.3, beta=0.7, batch_size_mem=5)
    return cfg


def gdumb(root, buffer='BiasedReservoirSamplingBuffer', reset=False, max_size=28, **options):
    cfg = config(root, 'GDumb')
    del cfg['cl_strategy']['mem_size']
    cfg['cl_strategy'].update(buffer=dict(type=buffer, max_size=max_size, **options), reset=reset)
    return cfg


def best(root, head='LinearClsHead', strategy='Naive', epochs=4, **options):
    return config(root, strategy, head=head, train_epochs=epochs, plugins=[dict(type='LoadBest', **options)])
