"""The schedule that is drawn is the one that training goes through."""

import math

import pytest
from mmengine.config import Config
from short_runs import CONFIGS
from tiny_runs import built, config, write_stream

from clear.core.config import load_config
from clear.core.errors import ConfigError
from clear.engine.inspection.schedules import read_schedule, schedule_figure
from clear.engine.training.program import TrainingProgram

MOCO = CONFIGS / 'selfsup' / 'mocov2_resnet18_1xb64-cos-4e_demo.py'


def runner_config(path, **options):
    cfg, _ = load_config(path, options)
    TrainingProgram.check(cfg)
    cfg['name'], cfg['work_dir'] = 'run', 'unused'
    return cfg


@pytest.mark.parametrize('scheduler', [
    dict(type='StepLR', step_size=1, gamma=0.5),
    dict(type='CosineAnnealingLR', T_max=4),
    dict(type='OneCycleLR', max_lr=0.3, total_steps=8, by_epoch=False)], ids=lambda item: item['type'])
@pytest.mark.parametrize('policy', ['reset', 'continue'])
def test_continual_schedule_is_the_one_of_training(tmp_path, scheduler, policy):
    if policy == 'continue' and scheduler['type'] == 'OneCycleLR':
        scheduler = {**scheduler, 'total_steps': 24}  # one that ends with the stream
    cfg = config(write_stream(tmp_path), scheduler=scheduler, scheduler_policy=policy)
    schedule = read_schedule(load_like(cfg))
    runner, seen = built(cfg), []
    before = runner.strategy._unpack_minibatch

    def note():
        before()
        seen.append(runner.strategy.optimizer.param_groups[0]['lr'])

    runner.strategy._unpack_minibatch = note
    runner._measure = lambda experience: ([0.0] * 3, [None] * 3)
    runner.finish = lambda: None
    runner.train()
    assert schedule.groups['lr'] == seen
    assert schedule.starts == [0, 8, 16] and schedule.part == 'experience'


def test_a_budget_leaves_the_epochs_as_long_as_they_are(tmp_path):
    cfg = {**config(write_stream(tmp_path), scheduler=dict(type='StepLR', step_size=1, gamma=0.5)),
           'max_iters_per_experience': 6}  # of two epochs of four
    assert read_schedule(load_like(cfg)).groups['lr'] == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05] * 3


def load_like(cfg):
    return Config({**cfg, 'name': 'run', 'work_dir': 'unused'})


def test_ordinary_schedule_is_the_published_formula():
    cfg = runner_config(MOCO)
    schedule = read_schedule(cfg, dataset_size=640)  # ten iterations per epoch, and a rate for each
    base, total = cfg['optim_wrapper']['optimizer']['lr'], 10 * cfg['train_cfg']['max_epochs']
    by_hand = [base * (1 + math.cos(math.pi * number / total)) / 2 for number in range(total)]
    assert schedule.groups['lr'] == pytest.approx(by_hand)
    assert schedule.starts == list(range(0, total, 10))


def test_groups_with_other_rates_are_lines_of_their_own():
    cfg = runner_config(CONFIGS / 'selfsup' / 'simsiam_resnet18_1xb64-cos-4e_demo.py')
    schedule = read_schedule(cfg, dataset_size=128)
    assert len(schedule.groups) == 2
    constant = [values for values in schedule.groups.values() if len(set(values)) == 1]
    assert len(constant) == 1  # the predictor keeps its rate
    assert len(schedule_figure(schedule, 'run').axes[0].lines) == 2


def test_other_settings():
    cfg = runner_config(MOCO)
    decay = cfg['optim_wrapper']['optimizer']['weight_decay']
    assert set(read_schedule(cfg, 'weight_decay', 64).groups['weight_decay']) == {decay}
    with pytest.raises(ConfigError, match='has no .rate.. It has: .*lr, momentum'):
        read_schedule(cfg, 'rate', 64)


def test_what_has_no_schedule(tmp_path):
    with pytest.raises(ConfigError, match='--dataset-size is 0'):
        read_schedule(runner_config(MOCO), dataset_size=0)
    cfg = config(write_stream(tmp_path), scheduler=dict(type='ReduceLROnPlateau'))
    with pytest.raises(ConfigError, match='ReduceLROnPlateau'):
        read_schedule(load_like(cfg))
    with pytest.raises(ConfigError, match='--dataset-size is for ordinary'):
        read_schedule(load_like(cfg), dataset_size=10)
    stream, _ = load_config(CONFIGS / 'selfsup' / 'continual_mocov2-finetune_resnet18_1xb64-cos-2e_demo.py')
    with pytest.raises(ConfigError, match='say one with --dataset-size'):
        read_schedule(stream)
