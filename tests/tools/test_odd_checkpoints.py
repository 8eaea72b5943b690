"""Every program that reads a checkpoint x every odd one: one user error that names the file, and nothing written."""

import os
from pathlib import Path

import pytest
import torch
from clear_trees import write_clear_tree
from safetensors.torch import save_file
from short_runs import FEATURE_CONFIG, run, train, write_config

# A program that waits is stopped; most of the first one's time are its imports.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

HEAD = {'head.fc.weight': torch.ones(3, 8), 'head.fc.bias': torch.ones(3)}


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    at = content.index(torch.ones(3, 8).numpy().tobytes())
    content[at + 9] ^= 1
    path.write_bytes(content)


def holding_itself():
    value = dict(state_dict={})
    value['state_dict'] = value
    return value


def saved(make):
    return lambda path: torch.save(make(), path)


def then(*steps):
    def write(path):
        for step in steps:
            step(path)
    return write


ODD = {
    'absent.pth': lambda path: None, 'folder.pth': Path.mkdir, 'pipe.pth': os.mkfifo, 'empty.pth': Path.touch,
    'device.pth': lambda path: path.symlink_to('/dev/zero'), 'text.pth': lambda path: path.write_text('hello' * 99),
    'nul\0.pth': lambda path: None, 'cut.pth': then(saved(lambda: HEAD), lambda path: cut(path, 900)),
    'flipped.pth': then(saved(lambda: HEAD), flip_a_bit), 'int keys.pth': saved(lambda: {0: torch.ones(2)}),
    'inner int keys.pth': saved(lambda: {'state_dict': {0: torch.ones(2), 'a': torch.ones(1)}}),
    'list.pth': saved(lambda: [1, 2]), 'itself.pth': saved(holding_itself),
    'meta.pth': saved(lambda: {key: value.to('meta') for key, value in HEAD.items()}),
    'sparse.pth': saved(lambda: {key: value.to_sparse() for key, value in HEAD.items()}),
    'expanded.pth': saved(lambda: {'head.fc.weight': torch.ones(1).expand(10**6, 10**6)}),
    'empty.safetensors': Path.touch, 'text.safetensors': lambda path: path.write_text('hello' * 99),
    'folder.safetensors': Path.mkdir, 'pipe.safetensors': os.mkfifo,
    'cut.safetensors': then(lambda path: save_file(HEAD, path), lambda path: cut(path, 40)),
    'no data.safetensors': then(lambda path: save_file(HEAD, path), lambda path: cut(path, -8))}

PROGRAMS = {
    'test': ['test', 'config.py', '{}'],
    'resume': ['train', 'config.py', '--work-dir', 'run', '--resume', '{}'],
    'branch': ['train', 'config.py', '--work-dir', 'run', '--branch', '{}'],
    'load_from': ['train', 'config.py', '--work-dir', 'run', '--cfg-options', 'load_from={}'],
    'convert': ['model_converters/convert_weights', '{}', 'run/out.pth', '--arch', 'resnet18'],
    'predict': ['predict', 'config.py', '{}', 'image.jpg']}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=6, images=False)


@pytest.mark.parametrize('program', PROGRAMS)
@pytest.mark.parametrize('name', ODD)
def test_an_odd_checkpoint_is_one_user_error(program, name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config('config.py', FEATURE_CONFIG, data)
    ODD[name](tmp_path / name)
    finished = run(*[argument.format(name) for argument in PROGRAMS[program]])
    lines = finished.err.splitlines()
    assert finished.code == 2 and lines and lines[0].startswith('error: '), finished
    assert program == 'predict' or name.replace('\0', '') in finished.err.replace(r'\x00', ''), finished.err
    assert 'Traceback' not in finished.err and not list(Path().glob('run/*.pth'))


def test_the_same_programs_take_the_whole_file(data, tmp_path, monkeypatch):
    """What the table above changes is what is refused."""
    monkeypatch.chdir(tmp_path)
    write_config('config.py', FEATURE_CONFIG, data)
    for name, write in (('whole.pth', torch.save), ('whole.safetensors', save_file)):
        write(HEAD, name)
        assert run('test', 'config.py', name).code == 0
        train('config.py', '--work-dir', 'run', '--overwrite', '--cfg-options', f'load_from={name}')
