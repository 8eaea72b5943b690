import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.datasets import read_clear
from clear.features import FeatureBank

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'extract_features.py'
ENCODER = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


extract_features = load(TOOL)
convert_features = load(ROOT / 'tools' / 'dataset_converters' / 'convert_features.py')


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clear_tree('tree', num_buckets=2)
    Path('features.py').write_text(f"encoder = dict(**{ENCODER!r})\ndata = dict(type='CLEAR', data_root='tree')\n"
                                   "batch_size = 4\nblock_size = 8\nthreads = 1\n")
    return 'features.py'


def test_bank_at_the_place_that_training_looks_for(config, capsys):
    assert extract_features([config]) == 0
    text = capsys.readouterr().out
    folder, = Path('work_dirs/banks').iterdir()
    bank = FeatureBank.open(folder)
    assert f'fingerprint {bank.fingerprint}' in text and '24 images' in text and folder.name in text
    assert (bank.meta['batch_size'], bank.meta['block_size'], len(bank), bank.dim) == (4, 8, 24, 512)


def test_dry_run_writes_nothing(config, capsys):
    before = set(Path().rglob('*'))
    assert extract_features([config, '--dry-run']) == 0
    assert set(Path().rglob('*')) == before and 'nothing was encoded' in capsys.readouterr().out


def test_the_image_side_of_a_pair_has_a_bank(config, capsys):
    Path('pair.py').write_text(f"_base_ = ['features.py']\nencoder = dict(_delete_=True, image_encoder={ENCODER!r})\n")
    assert extract_features(['pair.py', '--out', 'pair']) == 0 and extract_features([config, '--out', 'alone']) == 0
    pair, alone = FeatureBank.open('pair'), FeatureBank.open('alone')
    np.testing.assert_array_equal(pair.features, alone.features)
    Path('text.py').write_text("_base_ = ['features.py']\nencoder = dict(_delete_=True, text_encoder=dict("
                               "type='OpenCLIPTextEncoder', arch='RN50', model_args=dict(text_cfg=dict(layers=1))))\n")
    assert extract_features(['text.py', '--out', 'text']) == 2
    assert 'This encoder has no image side' in capsys.readouterr().err and not Path('text').exists()


def test_encoder_and_data_from_the_command_line(config):
    Path('other.py').write_text(f'encoder = {ENCODER | dict(arch="squeezenet1_0")!r}\n')
    for encoder, out in (('other.py', 'one'), ('TorchvisionEncoder:squeezenet1_0', 'two')):
        assert extract_features([config, '--encoder', encoder, '--data', 'tree/labeled_images/1', '--out', out]) == 0
    one, two = FeatureBank.open('one'), FeatureBank.open('two')
    assert one.meta['source'] == 'ImageFolder' and len(one) == 12 and one.class_names == sorted(one.class_names)
    assert (one.meta['identity']['preprocess']['crop'], two.meta['identity']['preprocess']['crop']) == (32, 224)


def test_options_change_what_the_command_line_brought(config, capsys):
    Path('other.py').write_text(f'encoder = {ENCODER | dict(arch="squeezenet1_0")!r}\n'
                                "data = dict(type='ImageFolder', root='nowhere')\n")
    for encoder, out in (('other.py', 'one'), ('TorchvisionEncoder:squeezenet1_0', 'two')):
        assert extract_features([config, '--encoder', encoder, '--data', 'other.py', '--out', out, '--cfg-options',
                                 'encoder.preprocess.crop=24', 'data.root=tree/labeled_images/1', 'batch_size=2']) == 0
        bank = FeatureBank.open(out)
        assert (bank.meta['identity']['preprocess']['crop'], bank.meta['batch_size']) == (24, 2)
    assert extract_features([config, '--encoder', 'other.py', '--cfg-options', 'encoder.crop=24']) == 2
    assert "unexpected keyword argument 'crop'" in capsys.readouterr().err


@pytest.mark.parametrize('arguments, message', [
    (['--encoder', 'resnet18'], 'expected TYPE:ARCH'), (['--encoder', 'TimmEncoders:resnet18'], 'TimmEncoder'),
    (['--data', 'nowhere'], 'no folder, list'), (['--cfg-options', 'batchsize=3'], "'batch_size'"),
    (['--cfg-options', 'data.root=tree'], "no key 'root'"), (['--cfg-options', 'threads=0'], 'threads is 0'),
    (['--cfg-options', 'dtype=float8'], 'float8'), (['--device', 'abacus'], 'abacus'),
    (['--cfg-options', 'encoder=None'], 'no encoder=dict')])
def test_errors_are_one_line(config, arguments, message, capsys):
    assert extract_features([config, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('error: ') and message in error
    assert not Path('work_dirs').exists()


def test_bank_of_another_encoder_needs_overwrite(config, capsys):
    assert extract_features([config, '--out', 'bank']) == 0
    first = FeatureBank.open('bank').fingerprint
    other = [config, '--out', 'bank', '--cfg-options', 'encoder.preprocess.resize=40']
    assert extract_features(other) == 2
    assert first in capsys.readouterr().err
    assert extract_features([*other, '--overwrite']) == 0
    assert FeatureBank.open('bank').fingerprint != first


def test_help_is_quick_and_has_an_example():
    started = time.monotonic()
    done = subprocess.run([sys.executable, '-X', 'importtime', TOOL, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and 'example:' in done.stdout and 'torch' not in done.stderr
    assert time.monotonic() - started < 10  # far above one second, for a busy machine; torch alone takes longer


# Older feature files


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_convert_to_a_bank_and_back(tmp_path, monkeypatch, layout, capsys):
    monkeypatch.chdir(tmp_path)
    write_clear_tree('tree', layout=layout, features=5, num_buckets=2)
    assert convert_features(['tree', 'bank', '--to', 'bank', '--dry-run']) == 0 and not Path('bank').exists()
    assert convert_features(['tree', 'bank', '--to', 'bank']) == 0
    assert convert_features(['bank', 'tree', '--to', layout, '--feature-type', 'again']) == 0
    read = [read_clear('tree', feature_type=name, seed=0) for name in (FEATURE_TYPE, 'again')]
    for one, other in zip(*(data.train + data.test for data in read)):
        assert np.array_equal(one.features, other.features)
    assert convert_features(['bank', 'tree', '--to', layout]) == 2
    assert '--feature-type' in capsys.readouterr().err


# Fresh processes


def command(config, out, *launcher):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    start = [sys.executable, *launcher, str(TOOL), config, '--out', out]
    return subprocess.Popen([*start, '--launcher', 'pytorch'] if launcher else start, env=environment,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.slow
def test_program_killed_twice_and_two_processes_give_the_same_bank(config):
    write_clear_tree('tree', num_buckets=3, per_class=100)
    settings = Path(config).read_text().replace('batch_size = 4', 'batch_size = 2').replace('size = 8', 'size = 4')
    Path(config).write_text(settings.replace('crop=32', 'crop=96').replace("'resize': 32, 'crop': 32",
                                                                          "'resize': 96, 'crop': 96"))
    assert command(config, 'whole').wait(300) == 0
    for kill in range(2):
        process = command(config, 'bank')
        done = Path('bank.partial/done')
        while not done.is_dir() or len(list(done.iterdir())) < 20 * (kill + 1):
            assert process.poll() is None, 'finished before it was killed'
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not Path('bank').exists()
    assert command(config, 'bank').wait(300) == 0
    torchrun = ('-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', '29571')
    assert command(config, 'two', *torchrun).wait(300) == 0
    assert json.loads((Path('whole') / 'meta.json').read_text())['count'] == 900
    assert files('whole') == files('bank') == files('two')
