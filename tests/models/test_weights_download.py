"""Weights from an address: named, compared, resumed, used again, refused in one message; against a host on loopback."""

import hashlib
import io
import logging
import threading
import urllib.request

import pytest
import torch
from download_server import QUICK, serving
from mmengine.config import Config
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.core.storage.fetch import TransferError, _Redirects
from clear.engine.schema import check_load_from
from clear.engine.training.weights import load_start_weights
from clear.models import load_weights
from clear.models.towers.image import TorchvisionEncoder
from clear.models.weights import local_weights


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv('CLEAR_CACHE', str(tmp_path / 'cache'))
    with serving(monkeypatch) as running:
        yield running


@pytest.fixture
def log(caplog, monkeypatch):
    logger = logging.getLogger('clear')
    monkeypatch.setattr(logger, 'handlers', [])
    monkeypatch.setattr(logger, 'propagate', True)
    with caplog.at_level('INFO', 'clear'):
        yield lambda: '\n'.join(record.getMessage() for record in caplog.records)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """The bytes of a file of weights, and the network that they are of."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    path = tmp_path_factory.mktemp('weights') / 'linear.pth'
    torch.save(dict(state_dict=network.state_dict()), path)
    return path.read_bytes(), network


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_downloaded_once_named_and_used_again(server, weights, log, tmp_path):
    content, network = weights
    server.files['linear.pth'] = content
    url = f'{server.url}/linear.pth'
    model = nn.Linear(3, 2)
    load_weights(model, url)
    assert torch.equal(model.weight, network.weight)
    text = log()
    assert f'downloading {url} to {tmp_path}/cache/weights/' in text and 'linear.pth: 0.0 MiB' in text
    assert f'SHA-256 {sha256(content)}, compared with nothing' in text
    file = local_weights(url)
    assert file.read_bytes() == content and [path.name for path in file.parent.iterdir()] == ['linear.pth']
    assert [status for _, _, status in server.log] == [200] and 'downloaded before' in log()


@pytest.mark.parametrize('name', ['linear-{}.pth', 'linear_20210831-{}.pth', 'linear-{}.pth.tar'])
def test_digits_in_a_name_are_compared(server, weights, log, name):
    right, wrong = name.format(sha256(weights[0])[:8]), name.format('0123abcd')
    server.files.update({right: weights[0], wrong: weights[0]})
    local_weights(f'{server.url}/{right}')
    assert 'compared with nothing' not in log()
    with pytest.raises(CheckpointError, match='by the name of the file, is to begin with 0123abcd.*Nothing was kept'):
        local_weights(f'{server.url}/{wrong}')


def test_a_date_in_a_name_is_no_hash(server, weights):
    server.files['linear-20210831.pth'] = weights[0]
    assert local_weights(f'{server.url}/linear-20210831.pth').is_file()


def test_given_hash(server, weights):
    server.files['linear.pth'] = weights[0]
    url = f'{server.url}/linear.pth'
    file = local_weights(url, sha256(weights[0]).upper())
    with pytest.raises(CheckpointError, match='the SHA-256 is to begin with 0000'):
        local_weights(url, '0' * 64)
    assert file.read_bytes() == weights[0] and len(list(file.parent.iterdir())) == 1  # what was right stays
    # Another file at the same address is taken if its hash is asked for.
    server.files['linear.pth'] = weights[0] + b'more'
    assert local_weights(url, sha256(weights[0] + b'more')).read_bytes().endswith(b'more')


def test_a_download_that_was_cut_goes_on(server, weights):
    server.files['linear.pth'], server.etags['linear.pth'] = weights[0], '"1"'
    server.cut_after = [100, 50, 20, 20]
    url = f'{server.url}/linear.pth'
    server.failures = [404]
    with pytest.raises(CheckpointError, match='HTTP 404 Not Found. Nothing was loaded'):
        local_weights(url, **QUICK)
    assert local_weights(url, sha256(weights[0]), **QUICK).read_bytes() == weights[0]
    assert [wanted for _, wanted, status in server.log if status == 206][0] == 'bytes=100-'


@pytest.mark.parametrize('status', [403, 404, 500])
def test_answers_that_are_errors(server, weights, status):
    server.files['linear.pth'], server.failures = weights[0], [status] * 5
    with pytest.raises(CheckpointError, match=rf'{server.url}/linear.pth: HTTP {status}'):
        local_weights(f'{server.url}/linear.pth', **QUICK)


def test_a_page_in_place_of_a_file(server):
    server.files['linear.pth'] = b'\n<!DOCTYPE html><html>Sign in</html>'
    with pytest.raises(CheckpointError, match='a page of text'):
        local_weights(f'{server.url}/linear.pth')
    assert server.files and not list(local_folder().rglob('*.pth*'))


@pytest.mark.parametrize('to', ['http://mirror/linear.pth', 'ftp://mirror/linear.pth'])
def test_a_safe_address_may_not_lead_to_one_that_is_not(to):
    # The step itself is refused: from an unsafe host the next one may well be https again.
    asked = urllib.request.Request('https://host/linear.pth')
    with pytest.raises(TransferError, match=f'it leads to {to}, which is less safe') as caught:
        _Redirects().redirect_request(asked, io.BytesIO(), 302, 'Found', {}, to)
    assert not caught.value.retry


def test_an_unsafe_address_may_lead_to_a_safe_one(server, weights):
    safe = _Redirects().redirect_request(urllib.request.Request('http://host/a.pth'), io.BytesIO(), 302, 'Found', {},
                                         'https://host/a.pth')
    assert safe.full_url == 'https://host/a.pth'
    server.files['linear.pth'], server.redirects['old.pth'] = weights[0], '/linear.pth'
    assert local_weights(f'{server.url}/old.pth').read_bytes() == weights[0]


def local_folder():
    from clear.models.weights.download import cache_folder

    return cache_folder()


def test_two_at_once_download_once(server, weights):
    server.files['linear.pth'] = weights[0]
    found = []
    threads = [threading.Thread(target=lambda: found.append(local_weights(f'{server.url}/linear.pth')))
               for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 3 and len(server.log) == 1


def test_place_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv('CLEAR_CACHE', raising=False)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert local_folder() == tmp_path / '.cache/clear'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'x'))
    assert local_folder() == tmp_path / 'x/clear'
    monkeypatch.setenv('CLEAR_CACHE', '~/y')
    assert local_folder() == tmp_path / 'y'


@pytest.mark.parametrize(('value', 'says'), [
    ('ftp://host/a.pth', 'no http'), ('s3://bucket/a.pth', 'no http'), ('https:///a.pth', 'no http'),
    ('file:///etc/passwd', 'over http or https alone'), ('https://me:secret@host/a.pth', 'user or a password'),
    (dict(path='https://host/a.pth', sha256='12'), '64 hexadecimal'),
    (dict(path='a.pth', sha256='0' * 64), 'is a file'),
    (dict(path='https://host/a.pth', sha265='0' * 64), 'sha256'),
])
def test_addresses_that_are_none(value, says):
    with pytest.raises(ConfigError, match=says):
        check_load_from(value)


@pytest.mark.parametrize('end', ['', '/', '/.hidden', '/a%00.pth', '/..'])
def test_addresses_without_a_name_of_a_file(server, end):
    with pytest.raises(ConfigError, match='ends in no name'):
        local_weights(f'{server.url}{end}')


def test_every_door_takes_an_address(server, weights, tmp_path):
    from torchvision.models import resnet18

    content, network = weights
    server.files['linear.pth'] = content
    for given in (f'{server.url}/linear.pth', dict(path=f'{server.url}/linear.pth', sha256=sha256(content))):
        check_load_from(Config(dict(load_from=given)).load_from)
        model = nn.Linear(3, 2)
        load_start_weights(model, given)
        assert torch.equal(model.weight, network.weight)
    torch.save(resnet18().state_dict(), tmp_path / 'resnet18.pth')
    server.files['resnet18.pth'] = (tmp_path / 'resnet18.pth').read_bytes()
    url = f'{server.url}/resnet18.pth'
    encoder = TorchvisionEncoder('resnet18', weights=dict(path=url, sha256=sha256(server.files['resnet18.pth'])))
    assert encoder.fingerprint() == TorchvisionEncoder('resnet18', weights=str(tmp_path / 'resnet18.pth')).fingerprint()


def test_a_hash_at_the_end_of_an_address_is_compared(server, weights):
    server.files['linear.pth'] = content = weights[0]
    url = f'{server.url}/linear.pth'
    assert local_weights(f'{url}#sha256={sha256(content)}').read_bytes() == content
    with pytest.raises(CheckpointError, match='is to begin with'):
        local_weights(f'{url}#sha256={"0" * 64}')
    for fragment, given in (('sha256=12', None), ('md5=12', None), (f'sha256={"0" * 64}', sha256(content))):
        with pytest.raises(ConfigError, match='expected #sha256=|in the address'):
            local_weights(f'{url}#{fragment}', given)
