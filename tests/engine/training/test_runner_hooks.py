"""Checkpoints that are kept, progress that the model is told, losses that are no numbers, online evaluation."""

import json

import pytest
import torch
from mmengine.hooks import Hook
from toy_runs import StopAt, assert_same, outcome, toy_run, toy_runner

from clear.core.errors import ConfigError, DataError, Interrupted, TrainingError
from clear.engine.progress import Progress
from clear.engine.training.hooks import CheckpointHook
from clear.evaluation.online import OnlineKNNHook, OnlineLinearHook, read_images, undisturbed

pytest.importorskip('mmpretrain')


def saved(folder):
    """Name -> iteration of every checkpoint."""
    return {path.name: torch.load(path, weights_only=True)['progress']['iter'] for path in folder.glob('*.pth')}


def test_interval_max_keep_and_milestones(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, max_keep=2, milestones=[1])
    toy_run(tmp_path, train_cfg__max_epochs=5, default_hooks__checkpoint=hook)
    assert saved(tmp_path) == {'epoch_1.pth': 6, 'epoch_4.pth': 24, 'epoch_5.pth': 30, 'latest.pth': 30}


def test_a_resume_drops_what_a_kill_left_past_max_keep(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, max_keep=2)
    toy_run(tmp_path, train_cfg__max_epochs=4, default_hooks__checkpoint=hook)
    whole = saved(tmp_path)
    (tmp_path / 'epoch_2.pth').write_bytes((tmp_path / 'epoch_3.pth').read_bytes())
    toy_run(tmp_path, resume=True, train_cfg__max_epochs=4, default_hooks__checkpoint=hook)
    assert saved(tmp_path) == whole == {'epoch_3.pth': 18, 'epoch_4.pth': 24, 'latest.pth': 24}


def test_without_interval_only_latest_and_milestones(tmp_path):
    toy_run(tmp_path, default_hooks__checkpoint=dict(type='CheckpointHook', milestones=[2, 9]))
    assert saved(tmp_path) == {'epoch_2.pth': 12, 'latest.pth': 18}


def test_interval_in_iterations(tmp_path):
    toy_run(tmp_path, train_cfg=dict(by_epoch=False, max_iters=10), param_scheduler=None,
            default_hooks__checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4, max_keep=1))
    assert saved(tmp_path) == {'iter_8.pth': 8, 'latest.pth': 10}


def test_interval_inside_a_step_is_kept_at_its_end(tmp_path):
    toy_run(tmp_path, train_cfg=dict(by_epoch=False, max_iters=10), param_scheduler=None,
            optim_wrapper__accumulative_counts=4,
            default_hooks__checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3))
    # Of iterations 3, 6 and 9, all in the middle of a step. The run ends with a step, of two parts.
    assert saved(tmp_path) == {'iter_4.pth': 4, 'iter_8.pth': 8, 'iter_10.pth': 10, 'latest.pth': 10}


def test_iter_interval_saves_inside_an_epoch(tmp_path):
    seen = []

    class Look(Hook):
        priority = 'LOWEST'

        def after_whole_iter(self, runner):
            seen.append(saved(tmp_path).get('latest.pth'))

    toy_run(tmp_path, hooks=[Look()], train_cfg__max_epochs=1,
            default_hooks__checkpoint=dict(type='CheckpointHook', iter_interval=2))
    assert seen == [None, 2, 2, 4, 4, 4]  # the end of the epoch saves by itself
    assert saved(tmp_path) == {'latest.pth': 6}


@pytest.mark.parametrize('options', [dict(interval=0), dict(iter_interval=0), dict(max_keep=0), dict(milestones=[0]),
                                     dict(milestones=3), dict(rule='best')])
def test_checkpoint_hook_refuses(options):
    with pytest.raises(ConfigError):
        CheckpointHook(**options)


def test_mmengine_name_of_max_keep():
    assert CheckpointHook(max_keep_ckpts=3).max_keep == 3 and CheckpointHook(max_keep_ckpts=-1).max_keep is None


def test_model_is_told_its_progress(tmp_path):
    runner = toy_run(tmp_path, optim_wrapper__accumulative_counts=4, train_cfg__max_epochs=2)
    starts = [True, False, False, False, True, False] * 2  # a step of 4 and one of 2 micro-batches in each epoch
    assert runner.bare_model.seen == [(i, 12, 6, start) for i, start in enumerate(starts)]


def test_progress_goes_on_after_a_resume(tmp_path):
    with pytest.raises(Interrupted):
        toy_run(tmp_path, hooks=[StopAt(8)])
    assert [item[0] for item in toy_run(tmp_path, resume=True).bare_model.seen] == list(range(8, 18))


def test_nan_loss_stops_and_keeps_the_last_checkpoint(tmp_path):
    poison = dict(train_dataloader__dataset__poison=(1, 3), model__has_bn=False)
    with pytest.raises(TrainingError, match=r'iteration \d+ \(epoch 2, batch \d\): loss=nan') as raised:
        toy_run(tmp_path, **poison)
    assert str(tmp_path / 'latest.pth') in str(raised.value) and '(epoch 1, iteration 6)' in str(raised.value)
    state = torch.load(tmp_path / 'latest.pth', weights_only=True)
    assert state['progress']['iter'] == 6
    assert all(tensor.isfinite().all() for tensor in state['state_dict'].values())


def test_nan_weights_are_never_saved(tmp_path):
    """A finite loss with a gradient that is none: the weights are looked at before they are saved."""

    class Poison(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 11:
                with torch.no_grad():
                    runner.bare_model.predictor.bias[0] = float('inf')

    with pytest.raises(TrainingError, match='weights are not finite') as raised:
        toy_run(tmp_path, hooks=[Poison()])
    assert '(epoch 1, iteration 6)' in str(raised.value) and saved(tmp_path) == {'latest.pth': 6}


def labelled(count, seed):
    """Images of two classes that differ in one channel, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    images[labels == 1, 0] += 130
    return images, labels


@pytest.mark.parametrize('cls', [OnlineKNNHook, OnlineLinearHook])
def test_online_evaluation_does_not_disturb_training(tmp_path, cls):
    plain = outcome(toy_run(tmp_path / 'plain'))
    hook = cls(train=labelled(40, 0), test=labelled(30, 1), interval=2, at_start=True,
               **(dict(k=5) if cls is OnlineKNNHook else dict(epochs=4)))
    watched = outcome(toy_run(tmp_path / 'watched', hooks=[hook]))
    name = {'OnlineKNNHook': 'knn_top1', 'OnlineLinearHook': 'linear_top1'}[cls.__name__]
    log = watched[2]['extras']['train_log']
    assert [name in entry for entry in log] == [False, True, True]  # every second epoch, and the last
    assert watched[2]['metrics'].pop(name) == log[-1][name] > 0.8
    assert 0 <= watched[2]['extras'].pop('before_training')[name] <= 1
    for entry in log:
        entry.pop(name, None)
    assert_same(plain, watched)


def test_online_knn_is_what_the_task_gives(tmp_path):
    from torch.nn.functional import normalize

    train, test = labelled(20, 0), labelled(11, 1)
    runner = toy_run(tmp_path, hooks=[OnlineKNNHook(train=train, test=test, k=1, mean=(0, 0, 0), std=(1, 1, 1))])
    model = runner.bare_model.eval()
    with torch.no_grad():
        base, queries = (normalize(model.encoder(images.float() / 255)) for images, _ in (train, test))
    nearest = torch.stack([(base @ query).argmax() for query in queries])
    expected = (train[1][nearest] == test[1]).float().mean().item()
    assert runner.train_log[-1]['knn_top1'] == pytest.approx(expected)


def test_resumed_run_measures_the_same(tmp_path):
    def hooks():
        return [OnlineKNNHook(train=labelled(40, 0), test=labelled(30, 1), k=5, at_start=True)]

    expected = outcome(toy_run(tmp_path / 'whole', hooks=hooks()))
    with pytest.raises(Interrupted):
        toy_run(tmp_path / 'stopped', hooks=[*hooks(), StopAt(8)])
    assert_same(expected, outcome(toy_run(tmp_path / 'stopped', resume=True, hooks=hooks())))


def test_undisturbed_restores_modes_and_generators():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout())
    model[0].eval()  # frozen, as fine-tuning has it
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with undisturbed(model):
        assert not model[1].training and not torch.is_grad_enabled()
        torch.rand(5)
    assert model[1].training and not model[0].training
    assert torch.equal(torch.rand(3), expected)


def test_classes_are_matched_by_name():
    from types import SimpleNamespace

    images, labels = labelled(4, 0)
    train = SimpleNamespace(images=images, labels=labels, class_names=['cat', 'dog', 'fox'])
    test = SimpleNamespace(images=images, labels=labels, class_names=['dog', 'fox'])
    assert read_images(train, test)['test'][1].tolist() == [1, 2, 1, 2]
    with pytest.raises(DataError, match='train lacks: cat'):
        read_images(test, train)
    with pytest.raises(ConfigError, match='expected'):
        read_images((images[:2], labels), (images, labels))


def test_online_evaluation_counts_epochs(tmp_path):
    images, labels = labelled(4, 0)
    hook = OnlineKNNHook((images, labels), (images, labels), k=1)
    with pytest.raises(ConfigError, match='by_epoch=False. Use by_epoch=True'):
        toy_runner(tmp_path, hooks=[hook], train_cfg=dict(by_epoch=False, max_iters=4), param_scheduler=None)


def test_online_evaluation_needs_features(tmp_path):
    runner = toy_runner(tmp_path)

    class Bare(torch.nn.Linear):
        pass

    hook = OnlineKNNHook(train=labelled(4, 0), test=labelled(4, 1))
    runner.model = Bare(1, 1)
    with pytest.raises(ConfigError, match='model.features, which Bare'):
        hook.before_run(runner)


def test_long_histories_end(tmp_path, monkeypatch):
    monkeypatch.setattr('clear.engine.training.hooks.runtime_info.HISTORY', 4)
    runner = toy_run(tmp_path)
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) <= 6 + 4
    json.dumps(runner.train_log)
    runner = toy_run(tmp_path / 'iterations', train_cfg=dict(by_epoch=False, max_iters=20), param_scheduler=None)
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) <= 4 + 4


# Before training, and after the epoch


@pytest.mark.parametrize(('options', 'message'), [
    (dict(k=5), r'OnlineKNNHook.k.* is 5; expected a whole number of at least 1, at most 4'),
    (dict(k=1, classes=3), 'test has the label 2, which no train image has')])
def test_what_cannot_be_measured_is_refused_before_training(tmp_path, options, message):
    images, labels = labelled(4, 0)
    test = torch.tensor([0, 1, options.pop('classes', 2) - 1, 0])
    with pytest.raises((ConfigError, DataError), match=message):
        toy_run(tmp_path, hooks=[OnlineKNNHook((images, torch.tensor([0, 1, 0, 1])), (images, test), **options)])
    assert saved(tmp_path) == {}


def test_a_measurement_that_fails_comes_after_the_epoch_is_saved(tmp_path):
    class Failing(OnlineKNNHook):
        def score(self, data):
            raise DataError('no such neighbour')

    images, _ = labelled(4, 0)
    labels = torch.tensor([0, 1, 0, 1])
    with pytest.raises(DataError, match='no such neighbour'):
        toy_run(tmp_path, hooks=[Failing((images, labels), (images, labels), k=1, interval=2)])
    assert saved(tmp_path) == {'latest.pth': 12}
    toy_run(tmp_path, resume=True)
    assert saved(tmp_path) == {'latest.pth': 18}


class Steps(Hook):
    """Measures the number of finished epochs, and a detail that is no measure of its own."""

    measures = ('steps',)

    def before_train(self, runner):
        runner.measured_at_start.update(steps=0.5, steps_detail=9.0)

    def after_train_epoch(self, runner):
        runner.add_measurements(dict(steps=float(runner.epoch + 1), steps_detail=9.0))


def test_curves_of_what_a_hook_measures_begin_before_training(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr('clear.visualization.figures.write_figures', lambda figures, folder: drawn.update(figures))
    toy_run(tmp_path, hooks=[Steps()], default_hooks=dict())
    assert {*drawn} == {'loss', 'measured'}
    (line,) = drawn['measured'].axes[0].lines
    assert (line.get_label(), line.get_xydata().tolist()) == ('steps', [[0, 0.5], [1, 1], [2, 2], [3, 3]])
    assert [list(line.get_xdata()) for line in drawn['loss'].axes[0].lines] == [[1, 2, 3]] * 3


def test_progress_shows_the_loss_and_the_rate(tmp_path, monkeypatch):
    """Those of the last iteration; with several optimisers the rate of the first."""
    seen = []
    monkeypatch.setattr(Progress, 'step', lambda bar, where, numbers: seen.append((where, numbers())))
    runner = toy_run(tmp_path, train_cfg__max_epochs=2)
    losses = runner.message_hub.get_scalar('train/loss').data[0].tolist()
    assert [numbers['loss'] for _, numbers in seen] == pytest.approx(losses, abs=1e-6) and len(seen) == 12
    assert seen[0][0] == 'epoch 1/2' and seen[-1][1]['lr'] < seen[0][1]['lr'] == pytest.approx(0.05)
