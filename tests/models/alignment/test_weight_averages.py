"""WiSE-FT by hand: floating numbers between two models, everything else of the second."""

import pytest
import torch
from tiny_text import TINY_CLIP
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.models import AlignedEncoder, ImageTextAlignment
from clear.models.alignment.weight_averages import interpolate, other_weights

MODEL = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), **{
    f'{side.lower()}_encoder': dict(type=f'OpenCLIP{side}Encoder', arch='ViT-B-32', model_args=TINY_CLIP)
    for side in ('Image', 'Text')})


def test_numbers_are_averaged_and_counts_are_not():
    start = dict(w=torch.tensor([1.0, 3.0]), count=torch.tensor(2), mask=torch.tensor([True, False]))
    end = dict(w=torch.tensor([2.0, -1.0]), count=torch.tensor(9), mask=torch.tensor([False, False]))
    found = interpolate(start, end, 0.25)
    torch.testing.assert_close(found['w'], torch.tensor([1.25, 2.0]))
    assert found['count'] == 9 and not found['mask'].any()
    for alpha, of in ((0, start), (1, end)):
        assert torch.equal(interpolate(start, end, alpha)['w'], of['w'])
    with pytest.raises(ValueError, match='only one has .*mask'):
        interpolate(start, dict(w=end['w'], count=end['count']), 0.5)


def test_other_weights_go_away_again():
    model = nn.BatchNorm1d(2)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    other = {name: value + 3 for name, value in own.items()}
    with pytest.raises(KeyError), other_weights(model, other):
        torch.testing.assert_close(dict(model.state_dict()), other)
        raise KeyError
    torch.testing.assert_close(dict(model.state_dict()), own, rtol=0, atol=0)


def test_an_encoder_between_two_checkpoints(tmp_path):
    models = []
    for row in range(2):
        torch.manual_seed(row)
        models.append(ImageTextAlignment(**{key: value for key, value in MODEL.items() if key != 'type'}))
        torch.save(models[-1].state_dict(), tmp_path / f'{row}.pth')
    files = [str(tmp_path / f'{row}.pth') for row in range(2)]
    found = AlignedEncoder(MODEL, files[1], wise_ft=0.3, start_weights=files[0])
    for name, value in found.model.named_parameters():
        torch.testing.assert_close(value, 0.7 * models[0].get_parameter(name) + 0.3 * models[1].get_parameter(name))
    ends = AlignedEncoder(MODEL, files[1]), AlignedEncoder(MODEL, files[1], wise_ft=1.0)
    assert ends[0].model.logit_scale == ends[1].model.logit_scale
    assert ends[0].fingerprint() == ends[1].fingerprint() != found.fingerprint()


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='give the trained ones'):
        AlignedEncoder(MODEL, wise_ft=0.5)
    with pytest.raises(ConfigError, match='give wise_ft'):
        AlignedEncoder(MODEL, 'x.pth', start_weights='y.pth')
    with pytest.raises(ConfigError, match='wise_ft is 1.5'):
        AlignedEncoder(MODEL, 'x.pth', wise_ft=1.5)


@pytest.mark.parametrize('saved', [[torch.ones(2)], torch.ones(2), dict(state_dict=[1])])
def test_files_of_something_else_are_no_checkpoint(tmp_path, saved):
    torch.save(saved, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'x.pth is no checkpoint of this model'):
        AlignedEncoder(MODEL, tmp_path / 'x.pth')
