import os
import signal

import pytest
import torch
from pixel_tables import SIZE, StridedEncoder, class_table

from clear.core.errors import CheckpointError, Interrupted
from clear.core.programs.signals import stoppable
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.dense.training.job_files import JobFiles
from clear.evaluation.dense.training.learner import Learner
from clear.evaluation.task import TaskData

# 8 to learn from, so 3 batches an epoch: 12 iterations.
ITERATIONS = 12


class Killed(BaseException):
    pass


def task_of(**changes):
    head = dict(type='LinearPixelHead', levels=[0, 2], dropout=0.2)
    return PixelwiseProbe(**dict(
        dict(head=head, loss=dict(type='cross_entropy'), metric='miou', lrs=[0.03, 0.1], epochs=2, batch_size=3,
             recipe=dict(size=(SIZE, SIZE), mirror=0.5, jitter=(0.2, 0.2, 0.2, 0.1)), checkpoint_every=1), **changes))


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp('resume')
    return dict(train=class_table(root / 'train', 9), test=class_table(root / 'test', 3, seed=1))


def run(tables, folder, **changes):
    return task_of(**changes).run(StridedEncoder(), TaskData(images=tables, folder=folder))


@pytest.fixture(scope='module')
def whole(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    return run(tables, folder), folder


def kill_at(monkeypatch, owner, name, count, before=True):
    """Let the `count`-th call of a method, counted from 1, be the last."""
    calls, method = [], getattr(owner, name)

    def watched(self, *args, **kwargs):
        calls.append(name)
        if before and len(calls) == count:
            raise Killed
        found = method(self, *args, **kwargs)
        if len(calls) == count:
            raise Killed
        return found

    monkeypatch.setattr(owner, name, watched)


def same(result, folder, whole):
    expected, other = whole
    assert result == expected
    assert (folder / 'history.jsonl').read_bytes() == (other / 'history.jsonl').read_bytes()
    one, two = (torch.load(each / 'head.pth', weights_only=True) for each in (folder, other))
    assert one.keys() == two.keys() and all(torch.equal(one['state_dict'][name], value)
                                            for name, value in two['state_dict'].items())


@pytest.mark.parametrize('owner, name, count, before, every', [
    (Learner, 'step', 2, False, 1), (Learner, 'step', 3, False, 2), (Learner, 'step', 5, True, None),
    (Learner, 'step', 7, True, 1), (Learner, 'step', ITERATIONS, False, 2), (JobFiles, 'save_head', 1, True, None),
    (JobFiles, 'save_head', 1, False, 1), (JobFiles, 'write_history', 2, True, 2),
    (JobFiles, 'write_history', 4, False, 1), (JobFiles, 'save_state', 1, True, None),
    (JobFiles, 'save_state', 1, False, None), (JobFiles, 'write_examples', 1, True, 1),
    (JobFiles, 'write_examples', 1, False, None)])
def test_going_on_gives_the_bits_of_one_that_never_stopped(tables, whole, tmp_path, monkeypatch, owner, name, count,
                                                           before, every):
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, count, before)
        with pytest.raises(Killed):
            run(tables, tmp_path, checkpoint_every=every)
    same(run(tables, tmp_path, checkpoint_every=every), tmp_path, whole)


def test_no_step_is_done_twice(tables, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, Learner, 'step', 5)
        with pytest.raises(Killed):
            run(tables, tmp_path)
    steps = []
    method = Learner.step
    monkeypatch.setattr(Learner, 'step', lambda *args: steps.append(1) or method(*args))
    result = run(tables, tmp_path)
    assert len(steps) == ITERATIONS - 4
    assert run(tables, tmp_path) == result and len(steps) == ITERATIONS - 4  # it is done: nothing is trained


@pytest.mark.parametrize('count', [1, 4, ITERATIONS])
def test_a_signal_keeps_the_state(tables, whole, tmp_path, monkeypatch, count):
    steps, method = [], Learner.step

    def watched(self, *args):
        steps.append(1)
        if len(steps) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return method(self, *args)

    with monkeypatch.context() as patch, stoppable():
        patch.setattr(Learner, 'step', watched)
        with pytest.raises(Interrupted, match='Its state is kept'):
            run(tables, tmp_path, checkpoint_every=None)
    assert len(steps) == count  # stopped at once
    same(run(tables, tmp_path, checkpoint_every=None), tmp_path, whole)


def test_a_signal_during_validation_keeps_the_epoch(tables, whole, tmp_path, monkeypatch):
    from clear.evaluation.dense.training.loop import PixelTraining

    method, looks = PixelTraining.evaluate, []

    def watched(self, *args, **kwargs):
        looks.append(1)
        if len(looks) == 4:  # of the second epoch: on training images, then on those that validate
            os.kill(os.getpid(), signal.SIGINT)
        return method(self, *args, **kwargs)

    with monkeypatch.context() as patch, stoppable():
        patch.setattr(PixelTraining, 'evaluate', watched)
        with pytest.raises(Interrupted):
            run(tables, tmp_path, checkpoint_every=None)
    same(run(tables, tmp_path, checkpoint_every=None), tmp_path, whole)


def test_a_state_of_another_training_is_refused(tables, tmp_path):
    run(tables, tmp_path)
    with pytest.raises(CheckpointError, match='another training: arguments differ'):
        run(tables, tmp_path, seed=1)
    with pytest.raises(CheckpointError, match='another training: encoder differ'):
        task_of().run(StridedEncoder(1), TaskData(images=tables, folder=tmp_path))
    (tmp_path / 'state.pth').write_bytes((tmp_path / 'state.pth').read_bytes()[:100])
    with pytest.raises(CheckpointError, match='state.pth.*Delete it to start this job over'):
        run(tables, tmp_path)


def test_the_state_of_what_is_done_is_small(tables, tmp_path):
    run(tables, tmp_path)
    assert torch.load(tmp_path / 'state.pth', weights_only=True)['learner'] is None
    assert {path.name for path in tmp_path.iterdir()} == {'examples.npz', 'head.pth', 'history.jsonl', 'state.pth'}
