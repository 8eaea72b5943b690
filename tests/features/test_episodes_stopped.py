"""Runs with episodes that were stopped or killed and resumed, or are divided between processes: the same ends."""

import json
import multiprocessing
import os
import signal

import pytest
import torch
from proto_runs import RESNET, config, seen_by, trained, write_shapes, write_teacher
from quick_runs import weights_of
from ranks import run_ranks
from short_runs import read_results, run

from clear.core.files import load_tensors
from clear.features.episodes.prototypes import Prototypes


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('shapes') / 'images')


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp('teacher') / 'rows.npy')


@pytest.fixture
def ends_at(monkeypatch):
    """Called with an iteration: the next run gets SIGTERM in it; with None: it goes on to its end."""
    from mmengine.hooks import IterTimerHook

    def ends(self, runner, *args, **kwargs):
        after(self, runner, *args, **kwargs)
        if runner.iter + 1 == int(os.environ.get('ENDS_AT', 0)):
            os.kill(os.getpid(), signal.SIGTERM)

    after = IterTimerHook.after_train_iter
    monkeypatch.setattr(IterTimerHook, 'after_train_iter', ends)
    monkeypatch.setenv('ENDS_AT', '0')
    return lambda iteration: monkeypatch.setenv('ENDS_AT', str(iteration or 0))


@pytest.mark.parametrize('sampler, hooks, stops', [
    (dict(), [], [6]), pytest.param(dict(interval=2), [], [6, 8, 10], marks=pytest.mark.slow),
    pytest.param(dict(interval=3), ['EMAHook'], [8, 10], marks=pytest.mark.slow),
    pytest.param(dict(), ['ClusterFiguresHook'], [6, 8], marks=pytest.mark.slow)])
def test_stopped_inside_and_between_episodes_and_resumed(root, tmp_path, ends_at, sampler, hooks, stops):
    cfg = config(root, sampler=sampler, custom_hooks=[dict(type=name) for name in hooks])
    (tmp_path / 'c.json').write_text(json.dumps(cfg))
    command = ('train', tmp_path / 'c.json', '--work-dir')
    assert run(*command, tmp_path / 'whole').code == 0
    for stop in stops:
        folder = tmp_path / f'{stop}'
        ends_at(stop)
        assert run(*command, folder).code == 143
        ends_at(None)
        saved = load_tensors(folder / 'latest.pth')
        is_inside = stop % 4 or (stop // 4) % sampler.get('interval', 1)
        assert ('prototypes' in saved) == bool(is_inside)
        done = run(*command, folder, '--resume')
        assert done.code == 0, done.err
        torch.testing.assert_close(weights_of(folder), weights_of(tmp_path / 'whole'), rtol=0, atol=0)
        assert read_results(folder)['extras']['train_log'] == read_results(tmp_path / 'whole')['extras']['train_log']


def test_the_image_tower_rests_from_lit_start_epoch_on(root, tmp_path, ends_at):
    cfg = config(root, model=dict(image_encoder=dict(type='OpenCLIPImageEncoder', **RESNET)),
                 hook=dict(warmup_epochs=0, lit_start_epoch=2),
                 optim_wrapper=dict(constructor='AlignmentOptimConstructor', paramwise_cfg=dict(two_rates=True),
                                    optimizer=dict(type='AdamW', lr=0.003)),
                 param_scheduler=[dict(type='TwoRateCosineLR', warmup=1, by_epoch=True, T_max=3, image_end=1,
                                       convert_to_iter_based=True)],
                 default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    (tmp_path / 'c.json').write_text(json.dumps(cfg))
    command = ('train', tmp_path / 'c.json', '--work-dir')
    assert run(*command, tmp_path / 'whole').code == 0
    first, *later = (load_tensors(tmp_path / 'whole' / f'epoch_{epoch}.pth')['state_dict'] for epoch in (1, 2, 3))
    image = {name for name in first if name.startswith('image_encoder.')}
    counts = [first[name].item() for name in image if name.endswith('num_batches_tracked')]
    assert counts and {*counts} == {4}, 'of the first epoch alone'
    for state in later:
        assert all(torch.equal(state[name], first[name]) for name in image)
        assert not all(torch.equal(state[name], first[name]) for name in first if name.startswith('text_encoder.'))
    ends_at(10)
    assert run(*command, tmp_path / 'parts').code == 143
    ends_at(None)
    done = run(*command, tmp_path / 'parts', '--resume')
    assert done.code == 0, done.err
    torch.testing.assert_close(weights_of(tmp_path / 'parts'), weights_of(tmp_path / 'whole'), rtol=0, atol=0)


DIES = """
import os
import signal

from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class DiesAt(Hook):
    priority = 'LOWEST'

    def after_whole_iter(self, runner):
        if runner.iter == int(os.environ.get('DIES_AT', 0)):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_killed_inside_an_episode_and_resumed(root, tmp_path, monkeypatch):
    (tmp_path / 'dies.py').write_text(DIES)
    cfg = config(root, custom_hooks=[dict(type='DiesAt')], custom_imports=dict(imports=['dies']),
                 default_hooks=dict(checkpoint=dict(type='CheckpointHook', iter_interval=2)))
    (tmp_path / 'c.json').write_text(json.dumps(cfg))
    command = ('train', tmp_path / 'c.json', '--work-dir')
    assert run(*command, tmp_path / 'whole').code == 0
    monkeypatch.setenv('DIES_AT', '7')
    dying = multiprocessing.get_context('fork').Process(target=run, args=(*command, tmp_path / 'parts'))
    dying.start()
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    monkeypatch.setenv('DIES_AT', '0')
    assert load_tensors(tmp_path / 'parts' / 'latest.pth')['progress']['iter'] == 6
    done = run(*command, tmp_path / 'parts', '--resume')
    assert done.code == 0, done.err
    torch.testing.assert_close(weights_of(tmp_path / 'parts'), weights_of(tmp_path / 'whole'), rtol=0, atol=0)


@pytest.mark.parametrize('wrong', [None, dict(first_epoch=1, tensors={}), 'shape'])
def test_a_checkpoint_without_the_prototypes_of_its_episode_is_refused(root, tmp_path, ends_at, wrong):
    (tmp_path / 'c.json').write_text(json.dumps(config(root)))
    command = ('train', tmp_path / 'c.json', '--work-dir', tmp_path / 'run')
    ends_at(6)
    assert run(*command).code == 143
    saved = load_tensors(tmp_path / 'run' / 'latest.pth')
    if wrong == 'shape':
        saved['prototypes']['tensors']['labels_text'] = torch.zeros(23, dtype=torch.int64)
    elif wrong is None:
        del saved['prototypes']
    else:
        saved['prototypes'] = wrong
    torch.save(saved, tmp_path / 'run' / 'latest.pth')
    done = run(*command, '--resume')
    assert done.code not in (0, 1) and 'prototypes' in done.err and 'Traceback' not in done.err, done.err


def of_ranks(rank, cfg, work_dir):
    with pytest.MonkeyPatch.context() as patch:
        made = seen_by(patch, Prototypes, 'find')
        runner = trained(cfg, work_dir)
    return dict(weights=dict(runner.bare_model.state_dict()), made=[each[2].tensors for each in made],
                log=[{name: value for name, value in entry.items() if name.startswith(('accuracy', 'modality'))}
                     for entry in runner.train_log])


@pytest.mark.slow
def test_two_processes_train_as_one(root, teacher, tmp_path):
    # Not Adam: it would make steps of the rounding in gradients that are zero, as those of the keys' biases are.
    cfg = config(root, model=dict(external_weight=0.5), sync_bn=True, optim_wrapper=dict(optimizer=dict(
                     type='SGD', lr=0.02, momentum=0.9)),
                 hook=dict(external_teacher=str(teacher), batch_size=5))
    (tmp_path / 'ranks').mkdir()
    one = of_ranks(0, cfg, tmp_path / 'one')
    cfg['train_dataloader'] = dict(cfg['train_dataloader'], batch_size=3)
    two = run_ranks(of_ranks, 2, tmp_path / 'ranks', cfg, str(tmp_path / 'two'))
    for rank in two:
        torch.testing.assert_close(rank['weights'], one['weights'], rtol=1e-3, atol=1e-4)
        for found, expected in zip(rank['made'], one['made'], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    for found, expected in zip(two[0]['log'], one['log'], strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    assert all(torch.equal(value, two[1]['made'][-1][name]) for name, value in two[0]['made'][-1].items())
