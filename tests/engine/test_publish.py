"""Published weights are the checkpoint's, under a name that says their hash."""

import hashlib

import pytest
import torch
from tiny_runs import built, config, train, write_stream

from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors, save_tensors
from clear.engine.checkpoint import load_model_weights
from clear.engine.prediction.class_names import class_names_of
from clear.engine.publish import publish


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp('publish')
    cfg = config(write_stream(root / 'data'))
    return cfg, train(cfg, root / 'run')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_published_weights(run, tmp_path, suffix):
    cfg, runner = run
    written = publish(runner.work_dir / 'latest.pth', tmp_path / 'new' / f'model-01234567{suffix}')
    digits = hashlib.sha256(written.read_bytes()).hexdigest()[:8]
    assert written == tmp_path / 'new' / f'model-{digits}{suffix}'
    assert [path.name for path in written.parent.iterdir()] == [written.name]
    other = built({**cfg, 'seed': 77})
    load_model_weights(other.model, written)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name


def test_nothing_but_weights_and_names(run, tmp_path):
    _, runner = run
    written = load_tensors(publish(runner.work_dir / 'latest.pth', tmp_path / 'model.pth'))
    assert set(written) <= {'state_dict', 'format', 'published', 'class_names'}
    assert written['class_names'] == runner.info.class_names


def test_names_of_classes_go_with_it(run, tmp_path):
    _, runner = run
    written = publish(runner.work_dir / 'latest.pth', tmp_path / 'model.pth')
    elsewhere = dict(scenario=dict(data_root=str(tmp_path)))
    assert class_names_of(elsewhere, written, len(runner.info.class_names)) == runner.info.class_names


def test_no_run_is_resumed_from_it(run, tmp_path):
    cfg, runner = run
    written = publish(runner.work_dir / 'latest.pth', tmp_path / 'model.pth')
    with pytest.raises(CheckpointError, match='was published: it holds weights alone'):
        built(cfg, tmp_path / 'again').train(resume=str(written))
    from_it = built({**cfg, 'load_from': str(written)})
    assert all(torch.equal(value, from_it.model.state_dict()[name])
               for name, value in runner.model.state_dict().items())


def test_what_is_not_published(tmp_path):
    save_tensors(tmp_path / 'bad.pth', dict(state_dict=dict(weight=torch.tensor([1.0, float('nan')]))))
    with pytest.raises(CheckpointError, match='weight holds NaN'):
        publish(tmp_path / 'bad.pth', tmp_path / 'out.pth')
    save_tensors(tmp_path / 'empty.pth', dict(state_dict={}))
    with pytest.raises(CheckpointError, match='no state_dict'):
        publish(tmp_path / 'empty.pth', tmp_path / 'out.pth')
    with pytest.raises(ConfigError, match='should end with .pth or .safetensors'):
        publish(tmp_path / 'empty.pth', tmp_path / 'out.ckpt')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bad.pth', 'empty.pth']


def test_a_view_does_not_take_its_memory_along(tmp_path):
    save_tensors(tmp_path / 'a.pth', dict(state_dict=dict(weight=torch.zeros(1_000_000)[:10])))
    assert publish(tmp_path / 'a.pth', tmp_path / 'b.pth').stat().st_size < 10_000
