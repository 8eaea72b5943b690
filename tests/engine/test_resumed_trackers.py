"""TensorBoard and W&B after a stop have what a run that was not stopped has, each step once."""

from types import SimpleNamespace

import pytest
import wandb
from clear_trees import write_clear_tree
from event_files import recorded
from quick_runs import built, config, stop, trained
from torch.utils.tensorboard import SummaryWriter

from clear.core.storage.tracking import WANDB_ID, cut_events, event_sizes, wandb_run_id

METRICS = [dict(type='accuracy_metrics', epoch=True, experience=True), dict(type='loss_metrics', minibatch=True)]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


@pytest.mark.parametrize('place', [(0, 2), (1, 5)])
def test_tensorboard_has_every_step_once(place, root, tmp_path):
    """Also where a kill left events behind the checkpoint, in the file of the run and in another, and half a record."""
    cfg = config(root, loggers=[dict(type='TensorboardLogger')], metrics=METRICS)
    trained(cfg, tmp_path / 'whole')
    stop(built(cfg, tmp_path / 'run'), *place)
    folder = tmp_path / 'run' / 'tensorboard'
    first, = folder.glob('events*')
    with SummaryWriter(str(folder), filename_suffix='.later') as writer:
        writer.add_scalar('Loss_MB/train_phase/train_stream/Task000', 99.0, 99)
    later, = folder.glob('*.later')
    first.write_bytes(first.read_bytes() + later.read_bytes() + b'\x07\x00half')
    trained(cfg, tmp_path / 'run', resume=True)
    assert recorded(folder) == recorded(tmp_path / 'whole' / 'tensorboard')
    losses = recorded(folder)
    for task in range(3):  # six iterations in each bucket
        steps = [step for step, _ in losses[f'Loss_MB/train_phase/train_stream/Task00{task}']]
        assert steps == list(range(6 * task, 6 * task + 6))


def test_only_event_files_are_cut(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    for name in ('events.out.tfevents.1', 'events.out.tfevents.2'):
        (tmp_path / name).write_bytes(b'12345')
    sizes = {'events.out.tfevents.1': 3, 'events.out.tfevents.0': 9}
    cut_events(tmp_path, sizes, is_shared=True)
    assert event_sizes(tmp_path, [*sizes, 'events.out.tfevents.2']) == {'events.out.tfevents.1': 3,
                                                                        'events.out.tfevents.2': 5}
    cut_events(tmp_path, sizes, is_shared=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['events.out.tfevents.1', 'notes.txt']


def test_a_folder_that_runs_share_keeps_what_others_write(root, tmp_path):
    shared = tmp_path / 'shared'
    cfg = config(root, loggers=[dict(type='TensorboardLogger', tb_log_dir=str(shared))], metrics=METRICS)
    stop(built(cfg, tmp_path / 'run'), 1, 5)
    with SummaryWriter(str(shared), filename_suffix='.other') as writer:
        writer.add_scalar('other', 1.0, 1)
    other, = shared.glob('*.other')
    before = other.read_bytes()
    trained(cfg, tmp_path / 'run', resume=True)
    found = recorded(shared)
    assert other.read_bytes() == before and found.pop('other') == [(1, 1.0)]
    trained(config(root, loggers=[dict(type='TensorboardLogger')], metrics=METRICS), tmp_path / 'whole')
    assert found == recorded(tmp_path / 'whole' / 'tensorboard')


@pytest.fixture
def wandb_calls(monkeypatch):
    """Stands in for W&B: the arguments of `init`, and what is logged."""
    calls = SimpleNamespace(starts=[], logged=[])
    monkeypatch.delenv('WANDB_RUN_ID', raising=False)
    monkeypatch.setattr(wandb, 'init', lambda **kwargs: calls.starts.append(kwargs))
    monkeypatch.setattr(wandb, 'run', SimpleNamespace(_label=lambda **kwargs: None))
    monkeypatch.setattr(wandb, 'log', lambda values, step=None: calls.logged.append((values, step)))
    return calls


def test_wandb_goes_on_in_the_same_run(root, tmp_path, wandb_calls):
    cfg = config(root, loggers=[dict(type='WandBLogger')], metrics=METRICS)
    experiences = []
    for folder in ('whole', 'run'):
        wandb_calls.logged.clear()
        if folder == 'run':
            stop(built(cfg, tmp_path / 'run'), 1, 5)
        trained(cfg, tmp_path / folder, resume=folder == 'run')
        experiences.append([values['TrainingExperience'] for values, _ in wandb_calls.logged
                            if 'TrainingExperience' in values])
    assert experiences == [[0, 1, 2]] * 2
    whole, first, second = wandb_calls.starts
    assert first['id'] == second['id'] != whole['id'] and first['resume'] == second['resume'] == 'allow'
    assert wandb_run_id(tmp_path / 'run') == first['id']
    # By default W&B gives a second run of one process, such as of another seed, the first one's.
    assert all(start['reinit'] == 'finish_previous' for start in (whole, first, second))


def test_an_id_that_was_asked_for_is_kept(root, tmp_path, wandb_calls, monkeypatch):
    built(config(root, loggers=[dict(type='WandBLogger', params=dict(id='mine'))]), tmp_path)
    assert wandb_calls.starts[0]['id'] == 'mine' and not (tmp_path / WANDB_ID).exists()
    monkeypatch.setenv('WANDB_RUN_ID', 'theirs')
    built(config(root, loggers=[dict(type='WandBLogger')]), tmp_path)
    assert wandb_calls.starts[1]['id'] == 'theirs' and not (tmp_path / WANDB_ID).exists()


def test_a_damaged_id_is_made_anew(tmp_path):
    (tmp_path / WANDB_ID).write_text('a b/../c\n')
    first = wandb_run_id(tmp_path)
    assert first.isalnum() and wandb_run_id(tmp_path) == first
