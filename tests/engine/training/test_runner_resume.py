"""A run that was stopped ends as one that was not, and a resume that makes no sense is refused."""

import collections

import pytest
import torch
from mmengine.hooks import Hook
from toy_runs import StopAt, assert_same, outcome, toy_run

from clear.core.errors import CheckpointError, Interrupted
from clear.core.files import load_tensors

pytest.importorskip('mmpretrain')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The run that nobody stops: 3 epochs of 6 iterations."""
    return outcome(toy_run(tmp_path_factory.mktemp('whole')))


@pytest.mark.parametrize('stop', [1, 4, 6, 11, 12])
def test_stopped_run_ends_as_one_that_was_not(whole, tmp_path, stop):
    with pytest.raises(Interrupted, match='--resume'):
        toy_run(tmp_path, hooks=[StopAt(stop)])
    assert load_tensors(tmp_path / 'latest.pth')['progress']['iter'] == stop
    assert_same(whole, outcome(toy_run(tmp_path, resume=True)))


def test_workers_do_not_matter(whole, tmp_path):
    with pytest.raises(Interrupted):
        toy_run(tmp_path, hooks=[StopAt(8)], train_dataloader__num_workers=2)
    assert_same(whole, outcome(toy_run(tmp_path, resume=True, train_dataloader__num_workers=2)))


def test_stopped_twice_inside_one_epoch(whole, tmp_path):
    for stop in (8, 10):
        with pytest.raises(Interrupted):
            toy_run(tmp_path, resume=stop > 8, hooks=[StopAt(stop)])
    assert_same(whole, outcome(toy_run(tmp_path, resume=True)))


def test_accumulation_saves_at_the_end_of_a_step(tmp_path):
    options = dict(optim_wrapper__accumulative_counts=4)
    expected = outcome(toy_run(tmp_path / 'whole', **options))
    with pytest.raises(Interrupted):
        toy_run(tmp_path / 'stopped', hooks=[StopAt(8)], **options)  # the second of four micro-batches
    # Epochs of 6 have steps of 4 and 2 micro-batches: the one that iteration 8 belongs to ends at 10.
    assert load_tensors(tmp_path / 'stopped/latest.pth')['progress']['iter'] == 10
    assert_same(expected, outcome(toy_run(tmp_path / 'stopped', resume=True, **options)))


def test_bf16_and_adamw_resume(tmp_path):
    options = dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=dict(type='AdamW', lr=1e-2),
                                      clip_grad=dict(max_norm=0.5)))
    expected = outcome(toy_run(tmp_path / 'whole', **options))
    with pytest.raises(Interrupted):
        toy_run(tmp_path / 'stopped', hooks=[StopAt(5)], **options)
    assert_same(expected, outcome(toy_run(tmp_path / 'stopped', resume=True, **options)))


def test_loop_of_iterations_resumes(tmp_path):
    options = dict(train_cfg=dict(by_epoch=False, max_iters=15), param_scheduler=None)
    expected = outcome(toy_run(tmp_path / 'whole', **options))
    with pytest.raises(Interrupted):
        toy_run(tmp_path / 'stopped', hooks=[StopAt(8)], **options)
    assert_same(expected, outcome(toy_run(tmp_path / 'stopped', resume=True, **options)))


def test_foreign_data_set_and_sampler_resume(tmp_path):
    """What mmpretrain's configs have: a data set that draws from the global generators, mmengine's sampler."""
    options = dict(train_dataloader=dict(
        batch_size=4, num_workers=0, dataset=dict(type='ToyDraws'), sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'), drop_last=True))
    expected = outcome(toy_run(tmp_path / 'whole', **options))
    with pytest.raises(Interrupted):
        toy_run(tmp_path / 'stopped', hooks=[StopAt(8)], **options)
    options['train_dataloader']['num_workers'] = 2
    assert_same(expected, outcome(toy_run(tmp_path / 'stopped', resume=True, **options)))


def test_finished_run_is_left_as_it_is(whole, tmp_path):
    toy_run(tmp_path)
    (tmp_path / 'results.json').unlink()
    assert_same(whole, outcome(toy_run(tmp_path, resume=True)))


def test_skipped_batches_are_not_read(tmp_path, monkeypatch):
    from toy_runs import ToyViews

    with pytest.raises(Interrupted):
        toy_run(tmp_path, hooks=[StopAt(16)])
    asked = []
    read = ToyViews.__getitem__
    monkeypatch.setattr(ToyViews, '__getitem__', lambda self, key: asked.append(key) or read(self, key))
    toy_run(tmp_path, resume=True)
    assert len(asked) == 2 * 4  # the last two batches of four


def test_checkpoint_holds_tensors_and_plain_values(tmp_path):
    toy_run(tmp_path, param_scheduler=[dict(type='MultiStepLR', milestones=[1])])
    checkpoint = torch.load(tmp_path / 'latest.pth', weights_only=True)

    def check(value):
        if isinstance(value, dict):
            assert type(value) in (dict, collections.OrderedDict)
            for item in value.values():
                check(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                check(item)
        else:
            assert value is None or isinstance(value, (torch.Tensor, bool, int, float, str)), type(value)

    check(checkpoint)
    assert checkpoint['format'] == 1 and len(checkpoint['rng']) == 1
    assert len(checkpoint['message']['scalars']['train/loss']['values']) == 18


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(optim_wrapper__optimizer__lr=0.1), r'another config: optim_wrapper\.optimizer\.lr: 0\.05 -> 0\.1'),
    (dict(train_dataloader__batch_size=8), r'global_batch_size: 4 -> 8.*batch_size'),
    (dict(train_dataloader__dataset__size=28), 'other data'),
    (dict(model__type='ToyOther'), 'written by ToyPairs; this config trains ToyOther'),
    (dict(seed=4), 'seed: 3 -> 4'),
])
def test_resume_refuses(tmp_path, changes, message):
    with pytest.raises(Interrupted):
        toy_run(tmp_path, hooks=[StopAt(4)])
    before = (tmp_path / 'latest.pth').read_bytes()
    with pytest.raises(CheckpointError, match=message):
        toy_run(tmp_path, resume=True, **changes)
    assert (tmp_path / 'latest.pth').read_bytes() == before


def test_execution_may_change(whole, tmp_path):
    with pytest.raises(Interrupted):
        toy_run(tmp_path, hooks=[StopAt(4)])
    changed = toy_run(tmp_path, resume=True, default_hooks__logger=dict(type='LoggerHook', interval=3),
                      train_dataloader__persistent_workers=False)
    assert_same(whole, outcome(changed))


def test_foreign_checkpoint_is_refused(tmp_path):
    torch.save(dict(format=1, state_dict={}, strategy={}), tmp_path / 'latest.pth')
    with pytest.raises(CheckpointError, match='was written by a continual run, not by a Runner'):
        toy_run(tmp_path, resume=True)


def test_hooks_of_an_iteration_come_before_its_checkpoint(tmp_path):
    """Whatever a hook does after an iteration is part of what is saved."""

    class Shift(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            with torch.no_grad():
                runner.bare_model.average.add_(1)

    expected = outcome(toy_run(tmp_path / 'whole', hooks=[Shift()]))
    with pytest.raises(Interrupted):
        toy_run(tmp_path / 'stopped', hooks=[Shift(), StopAt(4)])
    assert_same(expected, outcome(toy_run(tmp_path / 'stopped', resume=True, hooks=[Shift()])))


def test_scalars_are_not_logged_twice(tmp_path):
    import json

    logger = dict(default_hooks__logger=dict(type='LoggerHook', interval=1),
                  default_hooks__checkpoint=dict(type='CheckpointHook', iter_interval=2))

    class Crash(Hook):
        def after_whole_iter(self, runner):
            if runner.iter == 5:
                raise RuntimeError('crash')

    with pytest.raises(RuntimeError, match='crash'):
        toy_run(tmp_path, hooks=[Crash()], **logger)
    toy_run(tmp_path, resume=True, **logger)
    lines = [json.loads(line) for line in (tmp_path / 'vis_data/scalars.json').read_text().splitlines()]
    assert [line['iter'] for line in lines] == list(range(1, 19))


def test_online_measurements_are_logged_once(tmp_path):
    """Killed after the measurement of the second epoch, before its checkpoint."""
    import json

    from clear.evaluation.online import OnlineKNNHook

    def knn():
        images = torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        labelled = (images, torch.arange(12) % 3)
        return OnlineKNNHook(labelled, labelled, k=3, at_start=True)

    class Crash(Hook):
        priority = 'LOWEST'

        def after_train_epoch(self, runner):
            if runner.epoch == 1:
                raise RuntimeError('crash')

    def lines(folder):
        entries = [json.loads(line) for line in (tmp_path / folder / 'vis_data/scalars.json').read_text().splitlines()]
        return [{key: value for key, value in entry.items() if 'time' not in key} for entry in entries]

    toy_run(tmp_path / 'whole', hooks=[knn()])
    with pytest.raises(RuntimeError, match='crash'):
        toy_run(tmp_path / 'run', hooks=[knn(), Crash()])
    toy_run(tmp_path / 'run', resume=True, hooks=[knn()])
    assert lines('run') == lines('whole')
    measured = [(line['step'], line['iter']) for line in lines('run') if 'knn_top1' in line]
    assert measured == [(0, 0), (1, 6), (2, 12), (3, 18)]
