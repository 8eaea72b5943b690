"""What the Runner asks models, data sets and hooks for is declared in `clear.core.contracts`, and ours keep to it."""

import ast
import inspect
from pathlib import Path

import pytest

import clear.engine
from clear.core import contracts
from clear.datasets import SelfSupervisedImages
from clear.engine.training.hooks import CheckpointHook, ProgressHook, ResultsHook
from clear.evaluation.online import OnlineKNNHook, OnlineLinearHook
from clear.models.selfsup import DINO, SelfSupervisedModel, SwAV

OURS = [(contracts.GivesFeatures, SelfSupervisedModel), (contracts.FollowsProgress, SelfSupervisedModel),
        (contracts.HoldsParameters, SwAV), (contracts.HoldsParameters, DINO),
        (contracts.Fingerprinted, SelfSupervisedImages), (contracts.ReportsBadSamples, SelfSupervisedImages),
        (contracts.Measures, OnlineKNNHook), (contracts.Measures, OnlineLinearHook),
        (contracts.Stateful, CheckpointHook), (contracts.SharesState, ResultsHook), (contracts.Closes, ProgressHook)]


def methods_of(protocol: type) -> dict:
    return {name: member for cls in protocol.__mro__ for name, member in vars(cls).items()
            if inspect.isfunction(member) and not name.startswith('_')}


@pytest.mark.parametrize('protocol, kind', OURS, ids=lambda each: each.__name__)
def test_ours_take_what_the_protocol_gives(protocol, kind):
    for name, method in methods_of(protocol).items():
        promised = inspect.signature(method).parameters.values()
        own = inspect.signature(getattr(kind, name)).parameters
        assert list(own)[:len(promised)] == [each.name for each in promised]
        assert all(each.default is not each.empty for each in list(own.values())[len(promised):])
    if protocol is contracts.Measures:
        assert kind.measures


def asked_by_name(source: str) -> set[str]:
    """Names that `hasattr(x, 'name')` and `getattr(x, 'name', default)` ask for."""
    return {node.args[1].value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name) and (node.func.id == 'hasattr' or node.func.id == 'getattr'
                                                     and len(node.args) == 3)
            and isinstance(node.args[1], ast.Constant)}


def test_the_engine_asks_no_object_for_a_name_of_ours():
    """Of other libraries: data sets, samplers, visualisers and configs of mmengine and torch, models, preprocessors and
    samples of mmpretrain, optimisers of a user, and a class of the user's that was registered as a runner (`runners`).
    """
    foreign = {'metainfo', 'get_data_info', '__getitems__', 'set_epoch', 'epoch', 'drop_last', 'batch_size',
               '_vis_backends', 'to_dict', 'logger', 'backbone', 'neck', 'head', 'fc', 'in_channels',
               'data_preprocessor', 'to_rgb', 'predict', 'gt_label', 'pred_score', 'param_groups', 'data_root'}
    folder = Path(clear.engine.__file__).parent
    asked = {name for path in folder.rglob('*.py') for name in asked_by_name(path.read_text())}
    declared = {name for protocol in vars(contracts).values() if getattr(protocol, '_is_protocol', False)
                for name in methods_of(protocol)}
    assert asked_by_name("hasattr(x, 'a') or getattr(x, 'b', None) or getattr(x, 'c') or hasattr(x, d)") == {'a', 'b'}
    assert not asked & declared
    assert asked <= foreign
