import pytest
import torch
from pixel_tables import class_table
from torch import nn

from clear.core.errors import ConfigError
from clear.evaluation.dense.fine_tune import FineTuned
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.dense.training.learner import Learner
from clear.evaluation.dense.training.settings import Setting
from clear.evaluation.task import TaskData
from clear.models.towers.image import build_encoder


@pytest.fixture(scope='module')
def encoder():
    torch.manual_seed(0)
    return build_encoder(dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32)))


def task_of(**changes):
    return PixelwiseProbe(**dict(dict(
        head=dict(type='LinearPixelHead', levels=[1]), loss=dict(type='cross_entropy'), metric='miou', lrs=[0.001],
        epochs=2, batch_size=2, recipe=dict(size=(32, 32)), train_encoder=True), **changes))


def data_of(root, folder=None):
    images = dict(train=class_table(root / 'train', 5, size=32), test=class_table(root / 'test', 2, size=32))
    return TaskData(images=images, folder=folder)


def test_a_copy_trains_in_train_mode_and_is_measured_in_eval_mode(encoder, tmp_path, monkeypatch):
    modes, forward = [], FineTuned.forward

    def watched(self, images, size):
        kinds = {type(layer).__name__: layer.training for layer in self.modules()}
        modes.append((kinds['BatchNorm2d'], torch.is_grad_enabled()))
        return forward(self, images, size)

    monkeypatch.setattr(FineTuned, 'forward', watched)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    result = task_of().run(encoder, data_of(tmp_path, tmp_path / 'job'))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not encoder.training and not any(value.requires_grad for value in encoder.parameters())
    eval_mode = (False, False)
    # A look; twice an epoch of two batches, some training images and one that validates; the test and two examples.
    assert modes == [eval_mode, *[*[(True, True)] * 2, *[eval_mode] * 2] * 2, *[eval_mode] * 3]
    kept = torch.load(tmp_path / 'job/head.pth')['state_dict']
    assert not torch.equal(kept['maps.encoder.model.conv1.weight'], before['model.conv1.weight'])
    assert kept['maps.encoder.model.bn1.num_batches_tracked'] > 0 and result.extras['cache'] == []


@pytest.mark.parametrize('encoder_lr, decay, rates', [
    (None, None, {'conv1': 0.1, 'layer1': 0.1, 'layer4': 0.1}), (0.01, None, {'conv1': 0.01, 'layer4': 0.01}),
    (0.01, 0.5, {'conv1': 0.01 / 32, 'layer1': 0.01 / 16, 'layer2': 0.01 / 8, 'layer4': 0.01 / 2})])
def test_rates_fall_towards_the_input(encoder, encoder_lr, decay, rates):
    model = FineTuned(encoder, nn.Conv2d(3, 2, 1), (4,))
    groups = model.groups(Setting('a', 0.1), encoder_lr, decay)
    found = {id(value): group['lr'] for group in groups for value in group['params']}
    for name, value in model.maps.encoder.model.named_parameters():
        wanted = next((rate for part, rate in rates.items() if name.startswith(part)), None)
        assert wanted is None or found[id(value)] == pytest.approx(wanted), name
    assert found[id(model.head.weight)] == 0.1
    assert sum(len(group['params']) for group in groups) == len({*found})


def test_it_goes_on_after_a_kill(encoder, tmp_path, monkeypatch):
    whole = task_of().run(encoder, data_of(tmp_path, tmp_path / 'whole'))
    steps, step = [], Learner.step

    def watched(self, *args):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, 'step', watched)
        with pytest.raises(KeyboardInterrupt):
            task_of(checkpoint_every=1).run(encoder, data_of(tmp_path, tmp_path / 'killed'))
    assert task_of(checkpoint_every=1).run(encoder, data_of(tmp_path, tmp_path / 'killed')) == whole
    one, two = (torch.load(tmp_path / name / 'head.pth')['state_dict'] for name in ('whole', 'killed'))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_dilated_stage_of_an_encoder_that_trains_trains_too(encoder, tmp_path):
    result = task_of(head=dict(type='DeepLabHead', width=4), epochs=1).run(encoder, data_of(tmp_path))
    assert result.extras['stage4'] == 'dilated copy, trained'


def test_a_decay_needs_a_chain_of_blocks(tmp_path):
    from pixel_tables import StridedEncoder

    with pytest.raises(ConfigError, match='chain of blocks'):
        task_of(layer_decay=0.5).run(StridedEncoder(crop=32), data_of(tmp_path))
