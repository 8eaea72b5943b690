"""Every shipped strategy: it trains, and a run that was stopped and resumed ends like one that was not."""

import copy

import pytest
import torch
from matplotlib import pyplot
from tiny_runs import (
    STRATEGIES,
    built,
    checkpoint,
    config,
    results_without_time,
    same_weights,
    stop_in,
    train,
    weights,
    write_stream,
)
from torch.utils.data import DataLoader

from clear.continual.strategies import EngineMixin, build_strategy
from clear.continual.strategies.build import check_strategy, strategy_class, torch_class
from clear.core.errors import ConfigError, Interrupted, RegistryError
from clear.core.seeding import seed_everything

# A hidden layer with BatchNorm and dropout: statistics and random numbers must survive a resume too.
HEAD = 'StackedLinearClsHead'


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def equal(one, other):
    """Nested states, tensors compared bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(equal(*pair) for pair in zip(one, other))
    return one == other


def run_in_two_parts(cfg, work_dir):
    """Stop in the middle of experience 1 (of the only one under joint training, after it was saved); resume."""
    runner = built(cfg, work_dir)
    if runner.is_joint:
        def finish():
            raise Interrupted('stopped before the report')

        runner.finish = finish
    else:
        stop_in(runner, experience=1)
    with pytest.raises(Interrupted):
        runner.train()
    assert checkpoint(work_dir)['progress']['experience'] == 1
    seed_everything(987654321)  # a fresh process starts with other random numbers
    return train(cfg, work_dir, resume=True)


def assert_resumes_exactly(cfg, folder):
    whole, parts = train(cfg, folder / 'whole'), run_in_two_parts(cfg, folder / 'parts')
    assert same_weights(weights(whole), weights(parts))
    assert whole.record.acc_matrix == parts.record.acc_matrix
    assert results_without_time(folder / 'whole') == results_without_time(folder / 'parts')
    states = [checkpoint(folder / name) for name in ('whole', 'parts')]
    for state in states:
        state['progress'].pop('timing')
    assert equal(*states)
    return whole, parts


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_every_trained_parameter_moves_and_stays_finite(strategy, stream):
    runner = built(config(stream, strategy))
    assert isinstance(runner.strategy, EngineMixin) and type(runner.strategy).__name__ == strategy
    before = weights(runner)
    runner.train()
    after = weights(runner)
    assert all(value.isfinite().all() for value in after.values())
    still = [name for name, _ in runner.model.named_parameters() if torch.equal(before[name], after[name])]
    assert not still
    assert all(0 <= value <= 1 for row in runner.record.acc_matrix for value in row)


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_resumed_run_equals_uninterrupted_one(strategy, stream, tmp_path):
    assert_resumes_exactly(config(stream, strategy, head=HEAD), tmp_path)


@pytest.mark.parametrize('strategy', ['Naive', 'SynapticIntelligence'])
def test_momentum_survives_a_resume_if_the_policy_keeps_it(strategy, stream, tmp_path):
    whole, _ = assert_resumes_exactly(config(stream, strategy, optimizer_policy='continue'), tmp_path)
    assert not same_weights(weights(whole), weights(train(config(stream, strategy))))


@pytest.mark.parametrize('scheduler', [
    dict(type='StepLR', step_size=3, gamma=0.5),
    dict(type='OneCycleLR', max_lr=0.3, total_steps=40, by_epoch=False),
    dict(type='CosineAnnealingWarmRestarts', T_0=4),
    dict(type='ReduceLROnPlateau', patience=0, threshold=0.5)], ids=lambda value: value['type'])
def test_schedule_survives_a_resume_if_the_policy_keeps_it(scheduler, stream, tmp_path):
    cfg = config(stream, scheduler=scheduler, scheduler_policy='continue')
    whole, parts = assert_resumes_exactly(cfg, tmp_path)
    groups = [runner.strategy.optimizer.param_groups[0] for runner in (whole, parts)]
    assert groups[0]['lr'] == groups[1]['lr'] != cfg['cl_strategy']['optimizer']['lr']
    restarted = train(config(stream, scheduler=scheduler, scheduler_policy='reset'))
    assert not same_weights(weights(whole), weights(restarted))


@pytest.mark.parametrize('scheduler', [dict(type='OneCycleLR', max_lr=0.3, total_steps=8, by_epoch=False),
                                       dict(type='ReduceLROnPlateau', patience=0), None],
                         ids=['OneCycleLR', 'ReduceLROnPlateau', 'constant'])
def test_schedule_that_begins_anew_survives_a_resume(scheduler, stream, tmp_path):
    assert_resumes_exactly(config(stream, scheduler=scheduler), tmp_path)


def test_metrics_that_remember_earlier_experiences_survive_a_resume(stream, tmp_path):
    metrics = [dict(type='accuracy_metrics', epoch=True, experience=True, stream=True),
               dict(type='bwt_metrics', stream=True), dict(type='forgetting_metrics', experience=True, stream=True)]
    whole, parts = assert_resumes_exactly(config(stream, metrics=metrics), tmp_path)
    last = [runner.strategy.evaluator.get_last_metrics() for runner in (whole, parts)]
    remembered = [name for name in last[0] if 'Forgetting' in name or 'BWT' in name]
    # Forgetting of bucket 0 needs its accuracy after experience 0, which only the first part measured.
    assert {'StreamForgetting/eval_phase/test_stream', 'StreamBWT/eval_phase/test_stream'} < set(remembered)
    assert any('ExperienceForgetting' in name and 'Exp000' in name for name in remembered)
    assert {name: last[0][name] for name in remembered} == {name: last[1][name] for name in remembered}


@pytest.mark.parametrize('metric', [
    dict(type='topk_acc_metrics', top_k=2, epoch=True, trained_experience=True),
    dict(type='class_accuracy_metrics', epoch=True, stream=True), dict(type='amca_metrics'),
    dict(type='loss_metrics', epoch_running=True, stream=True), dict(type='MAC_metrics', epoch=True),
    dict(type='accuracy_matrix_metrics'),
    dict(type='confusion_matrix_metrics', num_classes=4, save_image=False, stream=True),
    dict(type='labels_repartition_metrics', on_train=True), dict(type='mean_scores_metrics'),
    dict(type='timing_metrics', epoch=True, stream=True), dict(type='cpu_usage_metrics', epoch=True, experience=True),
    dict(type='ram_usage_metrics', every=0.05, experience=True)], ids=lambda metric: metric['type'])
def test_a_run_with_any_metric_can_be_resumed(metric, stream, tmp_path):
    cfg = config(stream, metrics=[metric], train_epochs=1)
    whole, parts = train(cfg), run_in_two_parts(cfg, tmp_path)
    last = [runner.strategy.evaluator.get_last_metrics() for runner in (whole, parts)]
    # What was measured in the last experience; figures and measured times are other objects or numbers.
    numbers = [name for name, value in last[1].items() if isinstance(value, (int, float, torch.Tensor))]
    is_timed = metric['type'].startswith(('timing', 'cpu', 'ram'))
    assert numbers or is_timed or metric['type'] in ('labels_repartition_metrics', 'mean_scores_metrics')
    if not is_timed:
        assert equal({name: last[0][name] for name in numbers}, {name: last[1][name] for name in numbers})
    assert same_weights(weights(whole), weights(parts))
    pyplot.close('all')


def test_resuming_twice_changes_nothing(stream, tmp_path):
    cfg = config(stream, 'Replay')
    whole = train(cfg, tmp_path / 'whole')
    for experience in (1, 2):
        runner = built(cfg, tmp_path / 'parts')
        stop_in(runner, experience)
        with pytest.raises(Interrupted):
            runner.train(experience > 1)
    assert same_weights(weights(whole), weights(train(cfg, tmp_path / 'parts', resume=True)))


def test_a_finished_run_resumes_to_itself(stream, tmp_path):
    cfg = config(stream, 'EWC')
    train(cfg, tmp_path)
    first = results_without_time(tmp_path)
    train(cfg, tmp_path, resume=True)
    assert results_without_time(tmp_path) == first


# Building


def test_building_leaves_the_config_alone_and_turns_its_lists_into_plain_ones(stream):
    cfg = config(stream, 'LwF')['cl_strategy']
    before = copy.deepcopy(cfg)
    strategy = build_strategy(cfg, torch.nn.Linear(2, 2), device=torch.device('cpu'))
    assert cfg == before
    lwf = next(plugin for plugin in strategy.plugins if hasattr(plugin, 'lwf')).lwf
    assert type(lwf.alpha) is list and lwf.alpha[9] == 2.0 and lwf.temperature == 1.0


@pytest.mark.parametrize('changes, expected', [
    (dict(train_mb_sise=4), r"Naive has no key 'train_mb_sise'.*Did you mean 'train_mb_size'"),
    (dict(model='x'), "no key 'model'"),
    (dict(train_epochs=0), 'train_epochs is 0; expected a whole number'),
    (dict(train_mb_size=True), 'train_mb_size is True'),
    (dict(scheduler_policy='restart'), "scheduler_policy is 'restart'; expected 'reset' or 'continue'"),
    (dict(optimizer=None), 'optimizer needs a dict with a type'),
    (dict(optimizer=dict(type='SGD', momentun=0.9)), "SGD has no key 'momentun'. Did you mean 'momentum'"),
    (dict(scheduler=dict(type='StepLR', step=3)), "cl_strategy.scheduler: StepLR has no key 'step'"),
    (dict(loss=dict(type='CrossEntropyLoss', weigth=1.0)), "cl_strategy.loss: CrossEntropyLoss has no key 'weigth'")])
def test_a_wrong_value_is_refused_before_anything_is_built(changes, expected, stream):
    with pytest.raises(ConfigError, match=expected):
        check_strategy({**config(stream)['cl_strategy'], **changes})


@pytest.mark.parametrize('changes, expected', [
    (dict(type='Replai'), r"no type 'Replai' is registered. Nearest: 'Replay' \(clear\)"),
    (dict(optimizer=dict(type='Adan')), "cl_strategy.optimizer: no type 'Adan'. Nearest: 'Adam'"),
    (dict(scheduler=dict(type='StepLr')), "cl_strategy.scheduler: no type 'StepLr'. Nearest: 'StepLR'")])
def test_an_unknown_type_names_the_nearest(changes, expected, stream):
    with pytest.raises(RegistryError, match=expected):
        check_strategy({**config(stream)['cl_strategy'], **changes})


@pytest.mark.parametrize('changes, expected', [
    (dict(optimizer=dict(type='SGD', lr=float('inf'))), r'cl_strategy.optimizer.lr is inf; expected a number'),
    (dict(optimizer=dict(type='SGD', lr=float('nan'))), r'cl_strategy.optimizer.lr is nan; expected a number'),
    (dict(optimizer=dict(type='SGD', lr='abc')), r"cl_strategy.optimizer.lr is 'abc'; expected a number"),
    (dict(optimizer=dict(type='SGD', lr=-1.0)), r'cl_strategy.optimizer \(SGD\): Invalid learning rate'),
    (dict(type='EWC', mode='offline', ewc_lambda=1.0), r'cl_strategy \(EWC\): Mode must be'),
    (dict(type='EWC'), r'cl_strategy \(EWC\):.*ewc_lambda')])
def test_a_value_that_a_constructor_refuses_is_a_user_error(changes, expected, stream):
    cfg = {**config(stream)['cl_strategy'], **changes}
    with pytest.raises(ConfigError, match=expected):
        build_strategy(cfg, torch.nn.Linear(2, 2), device=torch.device('cpu'))


def test_a_scheduler_argument_that_is_missing_is_a_user_error(stream):
    runner = built(config(stream, scheduler=dict(type='StepLR')))
    with pytest.raises(ConfigError, match=r'cl_strategy.scheduler \(StepLR\).*step_size'):
        runner.train()


def test_names_are_resolved_lazily_and_only_to_classes():
    assert torch_class('AdamW', torch.optim, 'optimizer') is torch.optim.AdamW
    with pytest.raises(RegistryError):
        torch_class('lr_scheduler', torch.optim, 'optimizer')  # a module
    with pytest.raises(RegistryError, match="no type 'DataLoader'"):
        strategy_class(DataLoader.__name__)


def test_a_batch_smaller_than_the_number_of_processes_is_refused(stream, monkeypatch):
    monkeypatch.setattr('clear.core.dist.world_size', lambda: 2)
    with pytest.raises(ConfigError, match='train_mb_size is 1, the global batch, but there are 2 processes'):
        built(config(stream, train_mb_size=1))


@pytest.mark.parametrize('strategy, options, expected', [
    ('Cumulative', dict(train_mb_size=2), 'train_mb_size is 2, but there are 3 buckets'),
    ('AGEM', dict(sample_size=2), 'sample_size is 2, but there are 3 buckets'),
    ('LwF', dict(alpha=[0.0, 1.0]), 'alpha of LwF has 2 values for 3 experiences')])
def test_settings_that_do_not_fit_the_stream_are_refused(strategy, options, expected, stream):
    with pytest.raises(ConfigError, match=expected):
        built(config(stream, strategy, **options))


@pytest.mark.parametrize('name', ['SCR', 'CoPE'])
def test_strategies_that_train_embeddings_run_with_the_default_metrics(name, tmp_path, caplog):
    """Their training output is no logits, which Avalanche's accuracy would take it for."""
    import many_strategies
    from tiny_runs import write_stream

    from clear.engine.continual.keys import DEFAULTS

    root = write_stream(tmp_path / 'data')
    run = train(many_strategies.settings(root, name, metrics=DEFAULTS['metrics']))
    assert [len(run.strategy.evaluator.metrics), 'accuracy_metrics' in caplog.text] == [1, True]
    for log in run.record.train_log:
        assert log['loss'] > 0 and log['accuracy'] != log['accuracy']  # not known
    assert all(value is not None for row in run.record.acc_matrix for value in row)
