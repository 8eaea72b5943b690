"""ViRB's files: written as its six scripts write them, and read again, from the command line and by an encoder."""

import importlib.util
from pathlib import Path

import pytest
import torch
from narrow_resnet import DIM, narrow_resnets
from torchvision.models import resnet18

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors, save_tensors
from clear.models.towers.image import TorchvisionEncoder
from clear.models.weights.load import read_state
from clear.models.weights.virb import to_virb

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'convert_weights.py'
SMALL = dict(resize=64, crop=64)
# What each script of the earlier system wrote for some names of its source: recorded from them.
TRUNK = ('conv1.weight', 'bn1.running_mean', 'layer1.0.conv1.weight', 'layer1.0.downsample.0.weight',
         'layer4.2.bn3.bias')
SCRIPTS = {
    'swav': ('module.', {'module.projection_head.0.weight': 'model.projection_head.0.weight',
                         'module.prototypes.weight': 'model.prototypes.weight'}),
    'moco': ('module.encoder_q.', {'module.encoder_q.fc.0.weight': 'model.fc.0.weight',
                                   'module.encoder_q.fc.2.bias': 'model.fc.2.bias'}),
    'simsiam': ('module.encoder.', {'module.encoder.fc.0.weight': 'model.fc.0.weight',
                                    'module.encoder.fc.6.bias': 'model.fc.6.bias'}),
    'pirl': ('_feature_blocks.', {}),
    'exemplar': ('_feature_blocks.', {}),
    'humantorch': ('feature_extractor.resnet.', {'head.weight': 'head.weight'}),
}
# What a checkpoint has besides, of which the scripts keep nothing.
DROPPED = {'swav': (), 'moco': ('module.encoder_k.conv1.weight', 'module.queue'),
           'simsiam': ('module.predictor.0.bias',), 'pirl': ('clf.weight',), 'exemplar': ('clf.weight',),
           'humantorch': ()}


def nested(source, state):
    """The state where a checkpoint of that project has it."""
    if source in ('pirl', 'exemplar'):
        return dict(classy_state_dict=dict(base_model=dict(model=dict(trunk=state))))
    return dict(state_dict=state)


@pytest.mark.parametrize('source', SCRIPTS)
def test_names_are_those_of_the_scripts(tmp_path, source):
    prefix, more = SCRIPTS[source]
    wanted = {prefix + name: f'model.{name}' for name in TRUNK} | more
    state = {name: torch.tensor(float(number)) for number, name in enumerate([*wanted, *DROPPED[source]])}
    save_tensors(tmp_path / 'in.pth', nested(source, state))
    done = to_virb(read_state(tmp_path / 'in.pth'), source)
    assert done == {wanted[name]: state[name] for name in wanted}


@pytest.fixture(scope='module')
def trunk():
    with narrow_resnets():
        torch.manual_seed(0)
        state = resnet18(weights=None).state_dict()
        yield {name: torch.rand_like(value) + 0.5 if value.is_floating_point() else value
               for name, value in state.items() if not name.startswith('fc.')}


def tool():
    spec = importlib.util.spec_from_file_location('convert_weights', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('source', SCRIPTS)
def test_every_source_from_the_command_line_to_an_encoder(tmp_path, trunk, source, capsys):
    prefix, more = SCRIPTS[source]
    state = {prefix + name: value for name, value in trunk.items()} | {name: torch.rand(3, DIM) for name in more}
    save_tensors(tmp_path / 'in.pth', nested(source, state))
    arguments = [str(tmp_path / 'in.pth'), str(tmp_path / 'out.pt'), '--source', source, '--arch', 'resnet18']
    assert tool().main([*arguments, '--target', 'virb']) == 0, capsys.readouterr().err
    assert f'{source} -> virb resnet18' in capsys.readouterr().out
    written = load_tensors(tmp_path / 'out.pt')
    assert all(torch.equal(written[f'model.{name}'], value) for name, value in trunk.items())
    assert {*written} - {f'model.{name}' for name in trunk} == {*more.values()}
    for chosen in ('auto', 'virb'):
        encoder = TorchvisionEncoder('resnet18', preprocess=SMALL,
                                     weights=dict(path=tmp_path / 'out.pt', source=chosen))
        assert (encoder.load_report.source, encoder.load_report.missing) == ('virb', ())
        assert all(torch.equal(value, trunk[name]) for name, value in encoder.model.state_dict().items())


def test_our_weights_can_go_to_virb(tmp_path, trunk):
    save_tensors(tmp_path / 'in.pth', trunk)
    assert tool().main([str(tmp_path / 'in.pth'), str(tmp_path / 'out.pt'), '--arch', 'resnet18', '--target',
                        'virb']) == 0
    assert load_tensors(tmp_path / 'out.pt').keys() == {f'model.{name}' for name in trunk}


@pytest.mark.parametrize('prefix', ['model.model.', 'encoder.', 'net.'])
def test_a_wrong_prefix_is_no_random_encoder(tmp_path, trunk, prefix):
    save_tensors(tmp_path / 'in.pt', {prefix + name: value for name, value in trunk.items()})
    with pytest.raises(CheckpointError, match='Only 0 of 100 '):
        TorchvisionEncoder('resnet18', preprocess=SMALL, weights=dict(path=tmp_path / 'in.pt', source='virb'))
