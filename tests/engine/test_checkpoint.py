import pytest
import torch
from torch import nn

from clear.core.errors import CheckpointError
from clear.core.seeding import get_rng_state
from clear.engine.checkpoint import (
    FORMAT,
    cpu_copy,
    experience_checkpoints,
    find_checkpoint,
    load_checkpoint,
    load_model_weights,
    save_checkpoint,
)


def checkpoint(value, **more):
    """Everything that a continual run writes, of a run that measured nothing."""
    strategy = dict(plugins={}, fields={}, metrics=[], last_metrics={}, model_extras={})
    progress = dict(experience=1, timing=dict(train_s=0.0, eval_s=0.0), strategy='Naive', train_log=[],
                    streaming_matrix=[])
    return dict(format=FORMAT, state_dict={'weight': torch.full((2,), float(value))}, optimizer={}, strategy=strategy,
                scheduler=dict(scheduler=None, first_settings=None), rng=get_rng_state(), progress=progress,
                acc_matrix=[], config=dict(seed=0, model={}, cl_strategy=dict(type='Naive')), config_hash='0',
                data_fingerprint='0') | more


def test_every_experience_keeps_its_own_weights(tmp_path):
    for experience in range(3):
        save_checkpoint(tmp_path, checkpoint(experience), experience, keep_as_experience=experience != 1)
    assert {path.name for path in tmp_path.iterdir()} == {'latest.pth', 'exp_0.pth', 'exp_2.pth'}
    for name, value in (('exp_0.pth', 0.0), ('exp_2.pth', 2.0), ('latest.pth', 2.0)):
        assert load_checkpoint(tmp_path / name)['state_dict']['weight'].tolist() == [value] * 2


def test_oldest_are_removed_by_number_not_by_name(tmp_path):
    for experience in range(12):
        save_checkpoint(tmp_path, checkpoint(experience), experience, keep_as_experience=True, max_keep=3)
    assert [path.name for path in experience_checkpoints(tmp_path)] == ['exp_9.pth', 'exp_10.pth', 'exp_11.pth']


def test_foreign_files_are_no_checkpoints_of_experiences(tmp_path):
    for name in ('exp_final.pth', 'exp_1.pth.bak', 'myexp_1.pth'):
        (tmp_path / name).touch()
    assert experience_checkpoints(tmp_path) == []


@pytest.mark.parametrize('has_links', [True, False])
def test_failed_save_leaves_what_was_there(tmp_path, monkeypatch, has_links):
    if not has_links:
        def no_link(*_):
            raise OSError('not on this file system')

        monkeypatch.setattr('os.link', no_link)
    save_checkpoint(tmp_path, checkpoint(0), 0, keep_as_experience=True)
    with pytest.raises(AttributeError):  # an object that cannot be pickled, in the middle of the file
        save_checkpoint(tmp_path, checkpoint(1, rng=lambda: None), 1, keep_as_experience=True)
    assert {path.name for path in tmp_path.iterdir()} == {'latest.pth', 'exp_0.pth'}
    assert load_checkpoint(tmp_path / 'latest.pth')['state_dict']['weight'].tolist() == [0, 0]


@pytest.mark.parametrize('content, words', [
    ({'weight': torch.zeros(2)}, "load_from='"),
    (checkpoint(0, format=99), 'format 1'),
    ({key: value for key, value in checkpoint(0).items() if key not in ('rng', 'strategy')},
     "is damaged: no key 'rng'"),
    (checkpoint(0, progress=dict(kind='Runner')), 'was written by a Runner, not by a continual run'),
], ids=['state dict', 'other format', 'keys missing', 'other runner'])
def test_other_files_cannot_be_resumed_from(tmp_path, content, words):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / 'other.pth')


def test_half_a_file_is_damaged(tmp_path):
    save_checkpoint(tmp_path, checkpoint(0), 0, keep_as_experience=False)
    path = tmp_path / 'latest.pth'
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match='damaged'):
        load_checkpoint(path)


def test_resume_finds_the_given_file_else_the_latest(tmp_path):
    (tmp_path / 'latest.pth').touch()
    (tmp_path / 'exp_1.pth').touch()
    assert find_checkpoint(True, tmp_path) == tmp_path / 'latest.pth'
    assert find_checkpoint(str(tmp_path / 'exp_1.pth'), tmp_path / 'elsewhere') == tmp_path / 'exp_1.pth'
    with pytest.raises(CheckpointError, match='Nothing to resume'):
        find_checkpoint(True, tmp_path / 'elsewhere')


@pytest.mark.parametrize('names, wanted', [
    (['epoch_1.pth'], 'epoch_1.pth'), (['iter_30.pth', 'iter_200.pth'], 'iter_200.pth'),
    (['exp_9.pth', 'exp_10.pth'], 'exp_10.pth'), (['exp_0.pth', 'iteration.pth'], 'iteration.pth'),
    (['epoch_2.pth', 'latest.pth', 'iteration.pth'], 'latest.pth')])
def test_without_a_latest_checkpoint_a_run_goes_on_from_the_last_that_is_kept(names, wanted, tmp_path):
    for name in (*names, 'epoch_x.pth', 'best.pth'):
        (tmp_path / name).touch()
    assert find_checkpoint(True, tmp_path) == tmp_path / wanted


def test_model_weights_come_from_ours_and_from_bare_files(tmp_path):
    wanted = nn.Linear(3, 2)
    torch.save(checkpoint(0, state_dict=wanted.state_dict()), tmp_path / 'ours.pth')
    torch.save(wanted.state_dict(), tmp_path / 'bare.pth')
    for name in ('ours.pth', 'bare.pth'):
        model = nn.Linear(3, 2)
        load_model_weights(model, tmp_path / name)
        assert torch.equal(model.weight, wanted.weight) and torch.equal(model.bias, wanted.bias)
    with pytest.raises(CheckpointError, match=r"another model than the config's: Missing key.*\"0.weight\""):
        load_model_weights(nn.Sequential(nn.Linear(3, 2)), tmp_path / 'ours.pth')


def test_copy_shares_nothing_with_the_state():
    state = {'a': [torch.zeros(2), (torch.ones(1, requires_grad=True), 'text')], 'b': {'c': 3}}
    copied = cpu_copy(state)
    state['a'][0] += 1
    state['b']['c'] = 4
    assert copied['a'][0].tolist() == [0, 0] and copied['b'] == {'c': 3}
    assert isinstance(copied['a'][1], tuple) and not copied['a'][1][0].requires_grad


@pytest.mark.parametrize('has_links', [True, False])
def test_a_kill_between_the_two_names_is_made_up_for(tmp_path, monkeypatch, has_links):
    """`latest.pth` is there and `exp_1.pth` is not: resuming gives it its second name, and drops what is too old."""
    from clear_trees import write_clear_tree
    from quick_runs import config, trained

    if not has_links:
        monkeypatch.setattr('os.link', lambda *_: (_ for _ in ()).throw(OSError('not on this file system')))
    root = write_clear_tree(tmp_path / 'data', features=8, per_class=10, images=False)
    cfg = config(root, checkpoint_config=dict(interval=1, max_keep=2))
    trained(cfg, tmp_path / 'run')
    latest, last = (tmp_path / 'run' / name for name in ('latest.pth', 'exp_2.pth'))
    last.unlink()
    (tmp_path / 'run' / 'exp_0.pth').write_bytes(b'older')
    trained(cfg, tmp_path / 'run', resume=True)
    assert last.read_bytes() == latest.read_bytes()
    assert [path.name for path in experience_checkpoints(tmp_path / 'run')] == ['exp_1.pth', 'exp_2.pth']
