"""`best.pth`: the epoch that validation or an online evaluation found best, also after a crash or a resume."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from ranks import run_ranks
from toy_runs import StopAt, ToyPairs, toy_run, toy_runner

from clear.core.errors import ConfigError, Interrupted
from clear.core.files import load_tensors
from clear.evaluation.online import OnlineKNNHook
from clear.registry import METRICS, MODELS

pytest.importorskip('mmpretrain')


@MODELS.register_module()
class ToyScored(ToyPairs):
    """Answers a validation with anything: what it measures is written down before."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return list(inputs[0]) if mode == 'predict' else super().forward(inputs, data_samples, mode)


@METRICS.register_module()
class Written(BaseMetric):
    """The values of `written`, in turn, as other/loss; their negatives as accuracy/top1, the first of the two."""

    written: list = []

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        value = self.written.pop(0)
        return {'accuracy/top1': -value, 'other/loss': value}


class WrittenOnline(Hook):
    """An online evaluation of given values, which only the first process has."""

    measures = ('score',)

    def __init__(self, values):
        self.values = values

    def after_train_epoch(self, runner):
        from clear.core import dist
        if dist.is_main() and self.values[runner.epoch] is not None:
            runner.add_measurements(dict(score=self.values[runner.epoch]))


def keep(save_best, **options):
    return dict(type='CheckpointHook', save_best=save_best, interval=1, **options)


def best(folder):
    """Epoch and remembered value of best.pth, which has the weights of that epoch."""
    found = load_tensors(folder / 'best.pth')
    epoch = found['progress']['epoch']
    expected = load_tensors(folder / f'epoch_{epoch}.pth')
    torch.testing.assert_close(found['state_dict'], expected['state_dict'], rtol=0, atol=0)
    return epoch, found['hooks'][0]['CheckpointHook']['best']


def online(folder, values, hooks=(), resume=None, save_best='score', **options):
    return toy_run(folder, resume=resume, hooks=[WrittenOnline(values), *hooks], train_cfg__max_epochs=len(values),
                   default_hooks__checkpoint=keep(save_best, **options))


NAN = float('nan')


@pytest.mark.parametrize(('values', 'options', 'expected'), [
    ([0.2, 0.6, 0.4, 0.6], {}, (2, 0.6)), ([0.2, 0.6, 0.4, 0.6], dict(rule='less'), (1, 0.2)),
    ([NAN, 0.1, None, 0.3, NAN], {}, (4, 0.3)), ([0.5, 0.1], dict(save_best='auto'), (1, 0.5))])
def test_best_of_an_online_evaluation(tmp_path, values, options, expected):
    online(tmp_path, values, **options)
    assert best(tmp_path) == expected


def test_no_best_where_nothing_was_a_number(tmp_path):
    online(tmp_path, [NAN, NAN])
    assert not (tmp_path / 'best.pth').exists()


@pytest.mark.parametrize('stop', [8, 12, 15, 18])
def test_best_is_kept_over_a_resume(tmp_path, stop):
    """Best is epoch 2; stopped before it, at its end, after it, and at the end of an epoch after it."""
    values = [0.2, 0.6, 0.4, 0.5]
    with pytest.raises(Interrupted):
        online(tmp_path, values, [StopAt(stop)])
    online(tmp_path, values, resume=True)
    assert best(tmp_path) == (2, 0.6)


@pytest.mark.parametrize('links', [0, 1])
def test_best_survives_a_crash_while_it_is_saved(tmp_path, monkeypatch, links):
    from clear.engine.training.hooks import checkpoint

    link, done = checkpoint.link_checkpoint, []

    def crash(source, target):
        if load_tensors(source)['progress']['epoch'] == 2:
            if len(done) == links:
                raise KeyboardInterrupt
            done.append(target)
        link(source, target)

    values = [0.2, 0.6, 0.4]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, 'link_checkpoint', crash)
        with pytest.raises(KeyboardInterrupt):
            online(tmp_path, values)
    assert load_tensors(tmp_path / 'latest.pth')['progress']['epoch'] == 1
    online(tmp_path, values, resume=True)
    assert best(tmp_path) == (2, 0.6)


def knn(save_best='knn_top1'):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (60, 3, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 2
    images[labels == 1, 0] //= 2
    return dict(hooks=[OnlineKNNHook((images[:40], labels[:40]), (images[40:], labels[40:]), k=5)],
                default_hooks__checkpoint=keep(save_best), train_cfg__max_epochs=5)


def test_best_by_nearest_neighbours(tmp_path):
    measured = [entry['knn_top1'] for entry in toy_run(tmp_path, **knn()).train_log]
    assert best(tmp_path) == (measured.index(max(measured)) + 1, max(measured))


def validated(folder, values, save_best, monkeypatch, **changes):
    monkeypatch.setattr(Written, 'written', list(values))
    data = dict(batch_size=24, num_workers=0, dataset=dict(type='ToyDraws'),
                collate_fn=dict(type='default_collate'), sampler=dict(type='DefaultSampler', shuffle=False))
    options = dict(model=dict(type='ToyScored'), train_cfg=dict(by_epoch=True, max_epochs=len(values)))
    return toy_runner(folder, default_hooks__checkpoint=keep(save_best), val_dataloader=data, val_cfg={},
                      val_evaluator=dict(type='Written'), **{**options, **changes})


@pytest.mark.parametrize(('save_best', 'expected'), [('accuracy/top1', (3, -1.0)), ('auto', (3, -1.0)),
                                                     ('other/loss', (3, 1.0))])
def test_best_of_a_validation(tmp_path, monkeypatch, save_best, expected):
    validated(tmp_path, [3.0, 2.0, 1.0, 4.0], save_best, monkeypatch).train()
    assert best(tmp_path) == expected


def test_best_of_a_validation_between_iterations(tmp_path, monkeypatch):
    """Validation at 3, 6, 9, 12; steps of two micro-batches end at 2, 4, ...: the best of 9 is saved at 10."""
    runner = validated(tmp_path, [3.0, 2.0, 1.0, 4.0], 'other/loss', monkeypatch, param_scheduler=None,
                       train_cfg=dict(by_epoch=False, max_iters=12, val_interval=3),
                       optim_wrapper__accumulative_counts=2)
    runner.train()
    assert load_tensors(tmp_path / 'best.pth')['progress']['iter'] == 10


def test_unknown_names_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="'accuracy/top1', but there is no validation.*measure nothing"):
        toy_runner(tmp_path, default_hooks__checkpoint=keep('accuracy/top1'))
    with pytest.raises(ConfigError, match="'auto', but there is no validation"):
        toy_runner(tmp_path, default_hooks__checkpoint=keep('auto'))
    with pytest.raises(ConfigError, match='online evaluations measure knn_top1'):
        toy_runner(tmp_path, **knn('knn'))
    with pytest.raises(ConfigError, match=r"'acc', but the validation measures accuracy/top1, other/loss"):
        validated(tmp_path, [1.0], 'acc', monkeypatch).train()
    with pytest.raises(ConfigError, match='name of one metric'):
        toy_runner(tmp_path, default_hooks__checkpoint=keep(['knn_top1']))


def on_rank(rank, folder):
    try:
        online(folder, [0.2, 0.6, 0.4], [StopAt(15)])
    except Interrupted:
        online(folder, [0.2, 0.6, 0.4], resume=True)
    return True


def test_two_processes_keep_the_best_of_the_first(tmp_path):
    (tmp_path / 'meeting').mkdir()
    run_ranks(on_rank, 2, tmp_path / 'meeting', tmp_path)
    assert best(tmp_path) == (2, 0.6)
