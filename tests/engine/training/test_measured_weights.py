"""Only weights that all come from the file, and are finite, are measured."""

import pytest
import torch
from clear_trees import write_clear_tree
from short_runs import IMAGE_CONFIG, run, write_config

from clear.core.config import load_config
from clear.engine.continual.runner import ContinualRunner

CLASSIFIER = """
_pipe = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
device = 'cpu'
model = dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4),
             neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
             data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, num_classes=3))
test_dataloader = dict(batch_size=8, num_workers=0, dataset=dict(type='CustomDataset', data_root={root!r},
                       pipeline=_pipe), sampler=dict(type='DefaultSampler', shuffle=False))
test_cfg, test_evaluator = dict(), dict(type='Accuracy', topk=(1,))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A continual config on grey images of 32 pixels, and its untrained weights."""
    folder = tmp_path_factory.mktemp('weights')
    root = write_clear_tree(folder / 'data', per_class=4, image_size=32)
    write_config(folder / 'config.py', IMAGE_CONFIG, root)
    runner = ContinualRunner(load_config(folder / 'config.py')[0])
    runner.build_model()
    torch.save(runner.model.state_dict(), folder / 'whole.pth')
    return folder


def broken(state, how):
    """The weights with a fault, and the tensor that the error must name."""
    state = {name: value.clone() for name, value in state.items()}
    head = next(name for name in state if name.endswith('fc.weight'))
    first = next(iter(state))
    if how == 'no head':
        return {name: value for name, value in state.items() if 'fc.' not in name}, head
    if how == '7 classes':
        bias = head.replace('weight', 'bias')
        return {**state, head: torch.zeros(7, state[head].shape[1]), bias: torch.zeros(7)}, head
    state[first].view(-1)[0] = float(how)
    return state, first


@pytest.mark.parametrize(('how', 'ours'), [('no head', False), ('7 classes', False), ('nan', True), ('inf', False)])
@pytest.mark.parametrize('program', ['test', 'predict'])
def test_what_is_not_in_the_file_is_not_measured(program, how, ours, folder, tmp_path):
    """Bare weights as well as our checkpoints of another model."""
    state, name = broken(torch.load(folder / 'whole.pth'), how)
    torch.save(dict(format=1, state_dict=state) if ours else state, tmp_path / 'weights.pth')
    image = next((folder / 'data').rglob('*.jpg'))
    finished = run(program, folder / 'config.py', tmp_path / 'weights.pth', *([image] if program == 'predict' else []))
    assert finished.code == 2 and finished.err.startswith('error: '), (finished.out, finished.err)
    assert name in finished.err and 'mean' not in finished.out


@pytest.mark.parametrize('program', ['test', 'predict'])
def test_whole_weights_are(program, folder):
    image = next((folder / 'data').rglob('*.jpg'))
    finished = run(program, folder / 'config.py', folder / 'whole.pth', *([image] if program == 'predict' else []))
    assert finished.code == 0, finished.err


@pytest.mark.parametrize('how', ['no head', '7 classes', 'nan', 'inf'])
def test_the_runner_measures_no_other_weights(how, folder, tmp_path):
    from clear.registry import MODELS

    config = write_config(tmp_path / 'config.py', CLASSIFIER, next((folder / 'data').rglob('*.jpg')).parents[1])
    model = MODELS.build(load_config(config)[0].model.to_dict())
    state, name = broken(model.state_dict(), how)
    torch.save(model.state_dict(), tmp_path / 'whole.pth')
    torch.save(state, tmp_path / 'weights.pth')
    finished = run('test', config, tmp_path / 'weights.pth')
    assert finished.code == 2 and name in finished.err, (finished.out, finished.err)
    if how == 'nan':
        assert run('test', config, tmp_path / 'whole.pth').code == 0
