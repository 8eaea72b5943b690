import torch
from PIL import Image
from tiny_encoder import TinyEncoder, write_images
from torch import nn

from clear.datasets import read_images
from clear.features import FeatureBank, extract
from clear.features.build import make_encoder
from clear.models.towers.image.build import without_folders

# A random network of the library that is quick to build and to run.
CFG = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))


class Counter:
    """Counts the forward passes of every module that is called while it hooks."""

    def __init__(self):
        self.count = 0
        self.handle = nn.modules.module.register_module_forward_hook(self)

    def __call__(self, module, *args):
        self.count += type(module).__name__ == 'TorchvisionEncoder'


def test_bank_is_made_once_and_found_again(tmp_path):
    data = dict(type='ImageFolder', root=str(write_images(tmp_path / 'images', count=6)))
    counter = Counter()
    try:
        first = extract(CFG, data, root=tmp_path / 'banks', batch_size=4)
        assert counter.count == 2
        state = torch.random.get_rng_state()
        second = extract(CFG, data, root=tmp_path / 'banks', batch_size=3)
        assert counter.count == 2 and second.path == first.path
        # Random weights are drawn from a seed of their own: the caller's generator is not moved.
        assert torch.equal(torch.random.get_rng_state(), state)
        Image.new('RGB', (20, 20)).save(tmp_path / 'images' / 'bus' / '000.png')
        third = extract(CFG, data, root=tmp_path / 'banks')
        assert counter.count == 3 and third.path != first.path
    finally:
        counter.handle.remove()
    assert first.meta['encoder'] == {'type': 'TorchvisionEncoder', 'config': CFG}
    assert sorted(path.name for path in (tmp_path / 'banks').iterdir()) == sorted([first.path.name, third.path.name])


def test_name_says_what_it_is(tmp_path):
    source = read_images(dict(type='ImageFolder', root=str(write_images(tmp_path / 'my images', count=2))))
    bank = extract(TinyEncoder(), source, root=tmp_path / 'banks')
    assert bank.path.name == f'my_images_TinyEncoder_{bank.fingerprint[:16]}'
    assert FeatureBank.open(bank.path, expect=bank.fingerprint).dim == 6


def test_meta_does_not_tell_where_weights_lay():
    assert without_folders(dict(type='A', weights='/home/me/moco.pth')) == dict(type='A', weights='moco.pth')
    described = without_folders(dict(type='A', weights=dict(path='/home/me/moco.pth', source='moco')))
    assert described['weights'] == dict(path='moco.pth', source='moco')
    assert without_folders(dict(type='A', weights='package:efficientnet-lite0'))['weights'] == \
        'package:efficientnet-lite0'


def test_random_encoder_is_the_same_every_time():
    torch.manual_seed(3)
    first = make_encoder(CFG)
    torch.manual_seed(4)
    assert make_encoder(CFG).fingerprint() == first.fingerprint()
