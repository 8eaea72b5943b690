"""State files with damaged inner parts: one error that names file and key, never another exception."""

import copy
import shutil

import pytest
import torch
from clear_trees import write_clear_tree
from quick_runs import built, config, stop, trained, without_figures
from toy_runs import StopAt, toy_run, toy_runner

from clear.core.errors import CheckpointError, Interrupted, TrainingError
from clear.core.files import load_tensors, save_tensors

OPTIONS = dict(mem_size=7, scheduler=dict(type='StepLR', step_size=1))
DROP = 'dropped'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


@pytest.fixture(scope='module')
def stopped(root, tmp_path_factory):
    """Replay, stopped inside the second of three experiences: latest.pth, exp_0.pth and iteration.pth."""
    folder = tmp_path_factory.mktemp('stopped')
    stop(built(config(root, 'Replay', OPTIONS), folder), 1, 2)
    return folder


@pytest.fixture(scope='module')
def stopped_toy(tmp_path_factory):
    """The toy of the Runner, stopped inside the second of three epochs."""
    folder = tmp_path_factory.mktemp('toy')
    with pytest.raises(Interrupted):
        toy_run(folder, hooks=[StopAt(8)])
    return folder


def places(value, depth, path=()):
    """Paths of all keys of nested dicts (and first items of lists), down to a depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        if depth > 1:
            yield from places(item, depth - 1, (*path, key))


def altered(value, path, new):
    """A copy with the value at `path` replaced, or dropped."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is DROP:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def continued(root, stopped, folder, how, name, content):
    """Whether a run was refused: resumed or branched in a copy of the stopped one, or its weights measured."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stopped, folder)
    save_tensors(folder / name, content)
    runner = built(config(root, 'Replay', dict(OPTIONS, **({'mem_size': 5} if how == 'branch' else {}))), folder)
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        try:
            if how == 'test':
                runner.test(folder / name)
            else:
                runner.train(**{how: True if how == 'resume' else str(folder / name)})
        except CheckpointError as error:
            assert name in str(error), error
            return True
    return False


REFUSED = [(('rng',), DROP), (('rng', 'numpy', 'keys'), DROP), (('rng', 'torch'), torch.zeros(3)), (('strategy',), 'x'),
           (('progress', 'experience'), 99), (('progress', 'experience'), -1), (('progress', 'experience'), True),
           (('progress', 'experience'), 'one'), (('progress', 'train_log'), {}), (('progress', 'timing'), DROP),
           (('progress', 'streaming_matrix'), [[1.0]]), (('progress', 'streaming_matrix'), DROP),
           (('progress', 'train_log'), DROP), (('acc_matrix',), DROP), (('acc_matrix',), [[2.0] * 3] * 3),
           (('acc_matrix', 0), []),
           (('config',), None), (('optimizer', 'param_groups', 0, 'lr'), DROP), (('optimizer', 'param_groups'), {}),
           (('optimizer', 'param_groups', 0, 'lr'), 'fast'), (('scheduler',), DROP),
           (('state_dict', 'head.fc.weight'), DROP),
           (('strategy', 'plugins', '1:ReplayPlugin', 'fields'), DROP), (('data_fingerprint',), 5)]


@pytest.mark.parametrize(('path', 'new'), REFUSED, ids=str)
def test_a_continual_checkpoint_that_is_damaged_inside_is_refused(path, new, root, stopped, tmp_path):
    content = load_tensors(stopped / 'latest.pth')
    path = tuple(next((name for name in content['strategy']['plugins'] if name.endswith(part.split(':')[1])), part)
                 if isinstance(part, str) and ':' in part else part for part in path)
    assert continued(root, stopped, tmp_path / 'run', 'resume', 'latest.pth', altered(content, path, new))


@pytest.mark.parametrize(('path', 'new'), [
    (('inside',), DROP), (('inside', 'loader'), DROP), (('inside', 'loader', 'position'), 999),
    (('inside', 'loader', 'position'), 0), (('inside', 'training'), []), (('inside', 'gradients'), {}),
    (('inside', 'sums'), None), (('progress', 'experience'), 3), (('progress', 'experience'), -1),
    (('strategy', 'plugins'), {})], ids=str)
def test_so_is_one_inside_an_experience(path, new, root, stopped, tmp_path):
    content = load_tensors(stopped / 'iteration.pth')
    assert continued(root, stopped, tmp_path / 'run', 'resume', 'iteration.pth', altered(content, path, new))


@pytest.mark.parametrize('name', ['latest.pth', 'iteration.pth'])
def test_a_folder_is_no_checkpoint(name, root, stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / 'run')
    (tmp_path / 'run' / name).unlink()
    (tmp_path / 'run' / name).mkdir()
    with pytest.raises(CheckpointError, match=name):
        trained(config(root, 'Replay', OPTIONS), tmp_path / 'run', resume=True)


@pytest.mark.parametrize(('path', 'new'), [
    (('rng',), DROP), (('rng',), []), (('hooks',), []), (('hooks', 0), 'x'), (('progress', 'epoch'), 99),
    (('progress', 'iter'), -1), (('progress', 'batch'), 5), (('progress', 'stop_training'), 1), (('message',), DROP),
    (('message', 'scalars'), []), (('scheduler',), []), (('scheduler', 0, 'last_step'), 'x'), (('optimizer',), {}),
    (('optimizer', 'param_groups', 0, 'momentum'), DROP), (('state_dict', 'average'), DROP), (('config',), 3),
    (('progress', 'timing'), 'long'), (('hooks', 0, 'ResultsHook', 'counts'), 'x')], ids=str)
def test_a_checkpoint_of_the_runner_too(path, new, stopped_toy, tmp_path):
    shutil.copytree(stopped_toy, tmp_path / 'run')
    save_tensors(tmp_path / 'run/latest.pth', altered(load_tensors(stopped_toy / 'latest.pth'), path, new))
    with pytest.raises(CheckpointError, match='latest.pth'):
        toy_run(tmp_path / 'run', resume=True)


def outcomes(content, depth, attempt, skip=()):
    """What no run may do with a file that has a key dropped or replaced: another exception than ours, or going on
    without a key of the file's first level.
    """
    faults = []
    for path in places(content, depth):
        if path[0] in skip and len(path) > 2:
            continue
        for new in (DROP, 'text', -7, {}):
            try:
                was_refused = attempt(altered(content, path, new))
            except Exception as error:  # whatever it is, it is a fault: the others are tried all the same
                faults.append((path, new, repr(error)[:200]))
            else:
                if not was_refused and len(path) == 1 and new is DROP:
                    faults.append((path, 'dropped', 'went on'))
    # Replay's batch sizes are None at first, whose place anything may take.
    return [fault for fault in faults if fault[0][-1] not in ('batch_size', 'batch_size_mem')
            and (fault[0][0] not in ('settings', 'optimizer_parameters') or fault[2] != 'went on')]


@pytest.mark.slow
@pytest.mark.parametrize('how', ['resume', 'inside', 'branch', 'test'])
def test_every_key_dropped_and_replaced(how, root, stopped, tmp_path):
    """Either the run is refused, or it goes on: what a value means beyond its kind no file can tell."""
    name = dict(inside='iteration.pth', branch='exp_0.pth').get(how, 'latest.pth')
    content = load_tensors(stopped / name)
    program = 'resume' if how == 'inside' else how
    faults = outcomes(content, 2 if how in ('branch', 'test') else 5,
                      lambda changed: continued(root, stopped, tmp_path / 'run', program, name, changed),
                      skip=('config', 'settings'))
    if how == 'test':  # which reads the weights alone, of files without our `format` too
        faults = [fault for fault in faults if fault[0][0] == 'state_dict']
    assert not faults, '\n'.join(map(str, faults))


@pytest.mark.slow
def test_every_key_of_the_runner_dropped_and_replaced(stopped_toy, tmp_path):
    def attempt(changed):
        shutil.rmtree(tmp_path / 'run', ignore_errors=True)
        (tmp_path / 'run').mkdir()
        save_tensors(tmp_path / 'run/latest.pth', changed)
        try:
            toy_runner(tmp_path / 'run').train(resume=True)
        except CheckpointError as error:
            assert 'latest.pth' in str(error)
            return True
        except TrainingError:  # a rate of -7 is a number
            return False
        return False

    faults = outcomes(load_tensors(stopped_toy / 'latest.pth'), 5, attempt, skip=('config',))
    assert not faults, '\n'.join(map(str, faults))
