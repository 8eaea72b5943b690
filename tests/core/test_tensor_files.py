"""What `load_tensors` takes and refuses: checksums, objects of other libraries, values that stand for too much."""

import argparse
import os
import time
import types
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from torch.serialization import set_crc32_options

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors, save_tensors
from clear.core.storage import tensor_files
from clear.core.storage.tensor_files import Record

VALUE = {'format': 1, 'state_dict': {'a': torch.arange(5000.), 'b': torch.arange(300)}, 'rng': [1, 2]}


def members(path):
    """Name -> (first byte, bytes) of what a zip file holds, found in its bytes."""
    content, found = path.read_bytes(), {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name, extra = (int.from_bytes(content[member.header_offset + at:][:2], 'little') for at in (26, 28))
            found[member.filename] = (member.header_offset + 30 + name + extra, member.file_size)
    return found


def first_byte(path, part):
    return next(begin for name, (begin, _) in members(path).items() if name.endswith(f'/{part}'))


def flip(path, byte, bit=0):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


# Checksums


@pytest.mark.parametrize('bit', [0, 7])
@pytest.mark.parametrize('part', ['data/0', 'data/1', 'data.pkl', 'version', 'byteorder', '.data/serialization_id'])
def test_a_flipped_bit_is_seen_wherever_it_is(part, bit, tmp_path):
    path = tmp_path / 'x.pth'
    save_tensors(path, VALUE)
    whole = path.read_bytes()
    begin, size = next(place for name, place in members(path).items() if name.endswith(f'/{part}'))
    for byte in {begin, begin + size // 2, begin + size - 1}:
        path.write_bytes(whole)
        assert torch.equal(load_tensors(path)['state_dict']['a'], VALUE['state_dict']['a'])
        flip(path, byte, bit)
        with pytest.raises(CheckpointError, match=r'x\.pth'):
            load_tensors(path)


def test_a_flipped_bit_of_a_tensor_names_file_and_remedy(tmp_path):
    save_tensors(tmp_path / 'x.pth', VALUE)
    flip(tmp_path / 'x.pth', first_byte(tmp_path / 'x.pth', 'data/0') + 77)
    with pytest.raises(CheckpointError, match=r'x\.pth is damaged: .*data/0 does not match its checksum\. Take'):
        load_tensors(tmp_path / 'x.pth')


@pytest.mark.parametrize('piece', [1, 7, 1000, 1 << 18])
def test_tensors_longer_than_a_piece_are_read_and_summed(piece, monkeypatch, tmp_path):
    monkeypatch.setattr(tensor_files, '_PIECE_BYTES', piece)
    save_tensors(tmp_path / 'x.pth', VALUE)
    assert torch.equal(load_tensors(tmp_path / 'x.pth')['state_dict']['a'], VALUE['state_dict']['a'])
    flip(tmp_path / 'x.pth', first_byte(tmp_path / 'x.pth', 'data/0') + 19_999)
    with pytest.raises(CheckpointError, match='checksum'):
        load_tensors(tmp_path / 'x.pth')


@pytest.fixture
def without_sums():
    set_crc32_options(False)
    yield
    set_crc32_options(True)


def test_files_without_sums_go_on_loading(without_sums, tmp_path):
    torch.save(VALUE, tmp_path / 'x.pth')
    torch.save(VALUE, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    for name in ('x.pth', 'old.pth'):
        loaded = load_tensors(tmp_path / name)
        assert torch.equal(loaded['state_dict']['b'], VALUE['state_dict']['b']) and loaded['rng'] == [1, 2]


def test_each_byte_is_read_once(tmp_path):
    def bytes_read():
        return int(Path('/proc/self/io').read_text().split('rchar: ')[1].split()[0])

    value = {str(index): torch.randn(100_000) for index in range(20)}  # 8 MB
    save_tensors(tmp_path / 'x.pth', value)
    load_tensors(tmp_path / 'x.pth')
    before = bytes_read()
    load_tensors(tmp_path / 'x.pth')
    assert bytes_read() - before < 1.1 * (tmp_path / 'x.pth').stat().st_size


# Objects of other libraries


def history():
    from mmengine.logging import HistoryBuffer

    buffer = HistoryBuffer()
    for value in (1.0, 2.0):
        buffer.update(value)
    return buffer


FOREIGN = [lambda: argparse.Namespace(lr=0.1, out=Path('x'), nested=argparse.Namespace()), lambda: np.float64(0.7),
           lambda: [np.int64(3), np.float32(2), np.bool_(True)], lambda: np.arange(3.), history, lambda: Path('a/b'),
           lambda: [PurePosixPath('a'), PureWindowsPath('b')], lambda: types.SimpleNamespace(a=1)]


@pytest.mark.parametrize('make', FOREIGN)
def test_objects_of_other_libraries_come_as_records(make, tmp_path):
    torch.save(dict(VALUE, other=make()), tmp_path / 'x.pth')
    loaded = load_tensors(tmp_path / 'x.pth')
    assert torch.equal(loaded['state_dict']['a'], VALUE['state_dict']['a'])
    found = loaded['other'] if isinstance(loaded['other'], list) else [loaded['other']]
    assert all(type(each) is Record for each in found)


def test_a_record_holds_what_the_file_says(tmp_path):
    torch.save(argparse.Namespace(lr=0.1, data='x'), tmp_path / 'x.pth')
    assert load_tensors(tmp_path / 'x.pth').state == dict(lr=0.1, data='x')


def test_a_checkpoint_as_mmengines_runner_writes_it_loads(tmp_path):
    from mmengine.logging import MessageHub
    from mmengine.optim import OptimWrapper

    layer = torch.nn.Linear(2, 1)
    wrapper = OptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9))
    wrapper.update_params(layer(torch.ones(1, 2)).sum())
    hub = MessageHub.get_instance('records')
    hub.update_scalars({'train/loss': torch.tensor(1.), 'time': 0.5})
    hub.update_info('iter', 1)
    torch.save(dict(meta=dict(epoch=1, iter=1, cfg='x = 1', seed=0, experiment_name='x'), state_dict=layer.state_dict(),
                    message_hub=hub.state_dict(), optimizer=wrapper.state_dict(), param_schedulers=[]),
               tmp_path / 'epoch_1.pth')
    loaded = load_tensors(tmp_path / 'epoch_1.pth')
    assert torch.equal(loaded['state_dict']['weight'], layer.weight.detach())
    assert type(loaded['message_hub']['log_scalars']['train/loss']) is Record


class Attack:
    """Leaves a mark if it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ('EXECUTED',)


@pytest.mark.parametrize('wrap', [lambda each: each, lambda each: argparse.Namespace(x=each),
                                  lambda each: [np.float64(1), each]])
def test_a_callable_is_still_refused(wrap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(VALUE, other=wrap(Attack())), 'x.pth')
    with pytest.raises(CheckpointError, match='not loaded'):
        load_tensors('x.pth')
    assert not Path('EXECUTED').exists()


def test_records_are_not_called(tmp_path, monkeypatch):
    """`getattr` of a known name and a call of what it would give: the call is refused."""

    class Call:
        def __reduce__(self):
            return getattr, (argparse.Namespace, 'mark')

    calls = []
    monkeypatch.setattr(argparse.Namespace, 'mark', lambda *args: calls.append(args), raising=False)
    torch.save(Call(), tmp_path / 'x.pth')
    assert type(load_tensors(tmp_path / 'x.pth')) is Record and calls == []


# Values that stand for too much


def holding_itself():
    value = dict(VALUE)
    value['state_dict'] = value
    return value


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(levels):
    value = [1, 2]
    for _ in range(levels):
        value = [value, value]
    return value


ODD = {
    'holds itself': (holding_itself, 'holds itself'), 'deep': (lambda: nested(250), 'nested more than'),
    'doubled': (lambda: doubled(40), 'stands for more than'),
    'meta': (lambda: {'a': torch.empty(3, device='meta')}, 'meta tensor'),
    'sparse': (lambda: {'a': torch.eye(3).to_sparse()}, 'sparse or nested tensor'),
    'quantised': (lambda: {'a': torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, 'quantised tensor'),
    'expanded': (lambda: {'a': torch.zeros(1).expand(10**6, 10**6)}, 'far larger than the file'),
    'many expanded': (lambda: {str(index): torch.zeros(1).expand(10**6) for index in range(50)}, 'far larger')}


@pytest.mark.parametrize('name', ODD)
@pytest.mark.parametrize('zipped', [True, False])
def test_values_that_no_reader_could_use_are_refused_at_once(name, zipped, tmp_path):
    make, says = ODD[name]
    torch.save(make(), tmp_path / 'x.pth', _use_new_zipfile_serialization=zipped)
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=f'x.pth.*{says}'):
        load_tensors(tmp_path / 'x.pth')
    assert time.monotonic() - start < 1


def test_a_member_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, 'FREE_BYTES', 0)
    torch.save({'a': torch.zeros(50_000)}, tmp_path / 'x.pth')
    with (zipfile.ZipFile(tmp_path / 'x.pth') as before,
          zipfile.ZipFile(tmp_path / 'y.pth', 'w', zipfile.ZIP_DEFLATED) as after):
        for member in before.infolist():
            after.writestr(member.filename, before.read(member))
    with pytest.raises(CheckpointError, match='y.pth has .* bytes, but stands for'):
        load_tensors(tmp_path / 'y.pth')


def test_views_and_tied_tensors_load(tmp_path):
    table = torch.randn(1000, 100)
    value = {'whole': table, 'rows': list(table), 'tied': table, 'expanded': torch.ones(1).expand(5, 4),
             'strided': table[::2, ::3], 'scalar': torch.tensor(1), 'empty': torch.zeros(0, 5)}
    save_tensors(tmp_path / 'x.pth', value)
    loaded = load_tensors(tmp_path / 'x.pth')
    assert torch.equal(torch.stack(loaded['rows']), table) and torch.equal(loaded['strided'], table[::2, ::3])


# Other forms


def write_safetensors(path, tensors):
    from safetensors.torch import save_file

    save_file(tensors, path)


def test_safetensors_are_read_and_damage_is_named(tmp_path):
    path = tmp_path / 'x.safetensors'
    write_safetensors(path, {'a': torch.arange(4.)})
    assert load_tensors(path)['a'].tolist() == [0, 1, 2, 3]
    whole = path.read_bytes()
    for content in (b'', whole[:4], whole[:20], whole[:-3], b'\xff' * 8 + whole[8:], whole[:8] + b'x' + whole[9:],
                    b'{}'):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r'x\.safetensors is damaged or no safetensors file'):
            load_tensors(path)


@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
@pytest.mark.parametrize('make', [Path.mkdir, os.mkfifo, lambda path: path.symlink_to('/dev/zero')])
def test_what_is_no_regular_file_is_refused_unopened(name, make, tmp_path):
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match='is not a regular file'):
        load_tensors(tmp_path / name)
