import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_resnet import narrow_resnets
from PIL import Image
from torchvision.models import resnet18

from clear.core.files import load_tensors, save_tensors

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'convert_weights.py'
spec = importlib.util.spec_from_file_location('convert_weights', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(scope='module', autouse=True)
def narrow():
    with narrow_resnets():
        yield


@pytest.fixture
def moco(tmp_path):
    torch.manual_seed(0)
    state = {f'module.encoder_q.{key}': value for key, value in resnet18(weights=None).state_dict().items()}
    save_tensors(tmp_path / 'moco.pth.tar', {'state_dict': state | {'module.queue': torch.rand(2, 3)}})
    return tmp_path / 'moco.pth.tar'


def run(*args):
    return tool.main([str(arg) for arg in args])


def test_converts_and_says_what_it_did(tmp_path, moco, capsys):
    out = tmp_path / 'new' / 'out.pth'
    assert run(moco, out, '--arch', 'resnet18') == 0
    state, wanted = load_tensors(out), resnet18(weights=None).state_dict()
    assert set(wanted) - set(state) == {'fc.weight', 'fc.bias'}
    source = load_tensors(moco)['state_dict']
    assert all(torch.equal(value, source[f'module.encoder_q.{key}']) for key, value in state.items())
    text = capsys.readouterr().out
    assert 'moco -> torchvision resnet18' in text and 'kept 120 tensors, dropped 3' in text and f'wrote {out}' in text


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('more', [[], ['--target', 'virb'], ['--dry-run'], ['--target', 'detectron2']],
                         ids=['backbone', 'virb', 'dry', 'pickle'])
def test_weights_of_no_use_are_not_written(tmp_path, moco, capsys, bad, more):
    saved = load_tensors(moco)
    saved['state_dict']['module.encoder_q.layer2.0.conv1.weight'][1, 2, 0, 0] = bad
    save_tensors(moco, saved)
    out = tmp_path / ('out.pkl' if 'detectron2' in more else 'out.pth')
    assert run(moco, out, '--arch', 'resnet18', *more) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert 'layer2.0.conv1.weight holds NaN or infinity' in line
    assert not out.exists() and not list(tmp_path.glob('.*tmp'))


def test_a_head_that_is_left_out_may_be_broken(tmp_path, moco):
    saved = load_tensors(moco)
    saved['state_dict']['module.queue'][0] = float('nan')
    save_tensors(moco, saved)
    assert run(moco, tmp_path / 'out.pth', '--arch', 'resnet18') == 0


def test_writes_nothing_when_told_or_when_it_cannot(tmp_path, moco, capsys):
    out = tmp_path / 'out.pth'
    assert run(moco, out, '--arch', 'resnet18', '--dry-run') == 0
    assert run(moco, out, '--arch', 'resnet34') == 2
    assert run(moco, out, '--arch', 'resnet18', '--source', 'swav') == 2
    assert not out.exists() and not list(tmp_path.glob('.*tmp'))
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(line.startswith('error: Only ') for line in errors)
    assert "Try source='moco'" in errors[1]
    out.write_text('mine')
    assert run(moco, out, '--arch', 'resnet18') == 2 and out.read_text() == 'mine'
    assert run(moco, out, '--arch', 'resnet18', '--overwrite') == 0 and len(load_tensors(out)) == 120


class Evil:
    def __reduce__(self):
        return (exec, ('raise SystemExit("code ran")',))


def test_files_with_more_than_tensors_are_refused(tmp_path, capsys):
    torch.save({'state_dict': resnet18(weights=None).state_dict(), 'args': Evil()}, tmp_path / 'evil.pth')
    assert run(tmp_path / 'evil.pth', tmp_path / 'out.pth', '--arch', 'resnet18') == 2
    assert 'could run foreign code' in capsys.readouterr().err


def test_checkpoints_with_arguments_of_other_libraries_are_converted(tmp_path, capsys):
    state = resnet18(weights=None).state_dict()
    more = {'args': argparse.Namespace(out=Path('x')), 'acc': np.float64(0.7)}
    torch.save({'state_dict': state, **more}, tmp_path / 'in.pth')
    assert run(tmp_path / 'in.pth', tmp_path / 'out.pth', '--arch', 'resnet18') == 0, capsys.readouterr().err
    assert torch.equal(load_tensors(tmp_path / 'out.pth')['conv1.weight'], state['conv1.weight'])


def test_sanity_compares_with_random_weights(tmp_path, moco, capsys):
    rng = np.random.default_rng(0)
    for name, level in (('dark', 40), ('light', 200)):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for i in range(3):
            noise = rng.integers(level - 30, level + 30, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / 'images' / name / f'{i}.png')
    (tmp_path / 'images' / 'dark' / '3.png').write_bytes(b'no image')
    assert run(moco, tmp_path / 'o.pth', '--arch', 'resnet18', '--sanity', tmp_path / 'images') == 0
    text = capsys.readouterr().out
    assert '3.png is left out' in text
    assert 'on 6 images of 2 classes: 1.000, random weights' in text
    assert run(moco, tmp_path / 'p.pth', '--arch', 'resnet18', '--sanity', tmp_path / 'none') == 2
    assert 'none is no folder' in capsys.readouterr().err


def test_sources_of_the_tool_are_those_of_the_table():
    from clear.models.weights import SOURCES

    assert set(tool.SOURCES) == {'auto', *SOURCES}


def test_help_needs_no_torch():
    done = subprocess.run([sys.executable, '-X', 'importtime', TOOL, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and 'example:' in done.stdout
    assert 'torch' not in done.stderr
