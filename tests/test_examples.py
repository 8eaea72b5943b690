"""The examples in docstrings run and give what they say."""

import doctest
import sys

import pytest
import torch

from clear.models import losses
from clear.registry import BUFFERS, MODELS, TASKS

LOSSES = [getattr(losses, name) for name in losses.__all__]
# What reads the files of a benchmark, and is nothing without them.
WITHOUT = {'VOC07', 'VOC07Linear', 'VOC07SVM', 'ElevaterZeroShot', 'ElevaterLinear', 'ElevaterFineTune',
           'PassageRetrieval', 'TextLinearProbe', 'VisualQuestionAnswering', 'VisualEntailment'}


def ours(registry):
    registry.import_from_location()
    return [kind for kind in registry.module_dict.values() if kind.__module__.startswith('clear.')]


MEMBERS = [*LOSSES, *(kind for kind in (*ours(BUFFERS), *ours(TASKS)) if kind.__name__ not in WITHOUT)]


def test_every_registered_loss_is_here():
    registered = {kind for kind in MODELS.module_dict.values() if kind.__module__.startswith('clear.models.losses')}
    assert registered == set(LOSSES)


@pytest.mark.parametrize('kind', MEMBERS, ids=lambda kind: kind.__name__)
def test_example(kind):
    names = {**vars(sys.modules[kind.__module__]), 'torch': torch}
    examples = doctest.DocTestFinder(recurse=False).find(kind, kind.__name__, globs=names)
    assert [case for case in examples if case.examples], f'{kind.__name__} has no example'
    runner, said = doctest.DocTestRunner(verbose=False), []
    for case in examples:
        runner.run(case, out=said.append)
    assert runner.failures == 0, ''.join(said)
