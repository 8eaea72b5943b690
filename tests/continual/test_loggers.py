"""Avalanche's loggers and metrics from a config."""

import re

import pytest
from tiny_runs import config, train, write_stream

from clear.continual.loggers import (
    build_evaluator,
    check_loggers_and_metrics,
    needs_evaluation_pass,
    text_logger,
    wandb_logger,
)
from clear.core.errors import ConfigError, RegistryError
from clear.core.storage.tracking import wandb_run_id


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


# Files


def test_text_logger_names_itself_by_time(stream, tmp_path):
    cfg = config(stream, metrics=[dict(type='loss_metrics', epoch=True)]) | dict(loggers=[dict(type='TextLogger')])
    train(cfg, tmp_path)
    log, = tmp_path.glob('*.log')
    assert re.fullmatch(r'\d{8}_\d{6}\.log', log.name)
    lines = re.findall(r'Loss_Epoch/train_phase/train_stream/Task00\d = \d', log.read_text())
    assert len(lines) == 3 * 2  # experiences x epochs


def test_text_logger_appends_to_a_given_file_and_makes_its_folder(tmp_path):
    path = tmp_path / 'logs' / 'run.txt'
    for text in ('one\n', 'two\n'):
        text_logger(file=str(path), work_dir='elsewhere').file.write(text)
    assert path.read_text() == 'one\ntwo\n'


def test_other_loggers_write_below_the_work_dir(stream, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loggers = [dict(type='CSVLogger'), dict(type='TensorboardLogger')]
    cfg = config(stream, metrics=[dict(type='accuracy_metrics', epoch=True, experience=True),
                                  dict(type='loss_metrics', epoch=True, experience=True)], train_epochs=1)
    train(cfg | dict(loggers=loggers), tmp_path / 'run')
    assert len((tmp_path / 'run' / 'csv' / 'training_results.csv').read_text().splitlines()) > 1
    assert list((tmp_path / 'run' / 'tensorboard').glob('events.out.tfevents.*'))
    assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_a_folder_of_ones_own_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = build_evaluator([dict(type='CSVLogger', log_folder=str(tmp_path / 'mine'))], [], tmp_path / 'run')
    assert not list(tmp_path.iterdir())  # what a resumed run left there must not be emptied
    built.loggers[0].print_train_metrics(0, 1, 1.0, 0, 0.5, 0)
    assert (tmp_path / 'mine' / 'training_results.csv').exists() and not (tmp_path / 'run').exists()


def test_a_run_without_a_folder_writes_nothing(stream, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(config(stream) | dict(loggers=[dict(type='TextLogger'), dict(type='CSVLogger')]))
    assert not list(tmp_path.iterdir())


# Weights & Biases


@pytest.fixture
def wandb_calls(monkeypatch, tmp_path):
    """Stands in for Avalanche's logger, which would start a service; keeps the arguments."""
    calls = []
    monkeypatch.setattr('clear.continual.resumable_loggers.ResumableWandBLogger',
                        lambda **kwargs: calls.append(kwargs) or 'logger')
    monkeypatch.setenv('NETRC', str(tmp_path / 'netrc'))
    for name in ('WANDB_MODE', 'WANDB_API_KEY', 'WANDB_RUN_ID'):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_wandb_without_a_key_is_offline_and_stays_in_the_work_dir(wandb_calls, tmp_path):
    assert wandb_logger(project_name='demo', run_name='one', params=dict(entity='me'), work_dir=str(tmp_path / 'run')) \
        == 'logger'
    call, = wandb_calls
    assert call['params'] == dict(entity='me', mode='offline', resume='allow', id=wandb_run_id(tmp_path / 'run'),
                                  reinit='finish_previous')
    assert call['dir'] == str(tmp_path / 'run') and (tmp_path / 'run').is_dir()
    assert (call['project_name'], call['run_name'], call['save_code']) == ('demo', 'one', False)


@pytest.mark.parametrize('way', ['variable', 'netrc', 'params', 'mode'])
def test_wandb_with_a_key_or_a_mode_does_what_the_user_set(way, wandb_calls, tmp_path, monkeypatch):
    params = dict(mode='disabled') if way == 'params' else {}
    if way == 'variable':
        monkeypatch.setenv('WANDB_API_KEY', 'x' * 40)
    if way == 'mode':
        monkeypatch.setenv('WANDB_MODE', 'dryrun')
    if way == 'netrc':
        (tmp_path / 'netrc').write_text('machine api.wandb.ai login user password x')
    wandb_logger(params=params, dir=str(tmp_path))
    assert wandb_calls[0]['params'] == params | dict(reinit='finish_previous')
    assert params == (dict(mode='disabled') if way == 'params' else {})


def test_wandb_gets_the_config_and_the_name_of_the_run(wandb_calls, tmp_path, recwarn):
    build_evaluator([dict(type='WandBLogger', project_name='p')], [], tmp_path / 'my_run', {'seed': 3})
    build_evaluator([dict(type='WandBLogger', run_name='mine')], [], tmp_path / 'my_run', {'seed': 3})
    assert [call['run_name'] for call in wandb_calls] == ['my_run', 'mine']
    assert all(call['config'] == {'seed': 3} for call in wandb_calls)


# Refusals


@pytest.mark.parametrize('loggers, metrics, error, expected', [
    ([dict(type='TextLoger')], [], RegistryError, r"logger: no type 'TextLoger'.*'TextLogger' \(clear\)"),
    ([], [dict(type='acuracy_metrics')], RegistryError, r"'accuracy_metrics' \(avalanche.evaluation.metrics\)"),
    ([dict(type='TextLogger', fil='x')], [], ConfigError,
     r"loggers\[0\]: TextLogger has no key 'fil'. Did you mean 'file'"),
    ([dict(type='TextLogger', work_dir='x')], [], ConfigError, r"loggers\[0\]: TextLogger has no key 'work_dir'"),
    ([], [dict(type='loss_metrics'), dict(type='accuracy_metrics', epochs=True)], ConfigError,
     r"metrics\[1\]: accuracy_metrics has no key 'epochs'. Did you mean 'epoch'"),
    (['TextLogger'], [], ConfigError, r"loggers\[0\] needs a dict with a type, got 'TextLogger'"),
    ([], [dict(epoch=True)], ConfigError, r'metrics\[0\] needs a dict with a type'),
    ([], [dict(type='gpu_usage_metrics')], ConfigError, r'metrics\[0\]: gpu_usage_metrics needs gpu_id'),
    ([], [dict(type='forward_transfer_metrics', stream=True)], ConfigError, 'needs an evaluation before training')])
def test_wrong_entries_are_refused_before_anything_is_built(loggers, metrics, error, expected):
    with pytest.raises(error, match=expected):
        check_loggers_and_metrics(loggers, metrics)


# The evaluation pass


@pytest.mark.parametrize('metrics, needed', [
    ([], False),
    ([dict(type='accuracy_metrics', minibatch=True, epoch=True), dict(type='loss_metrics', epoch_running=True)], False),
    ([dict(type='timing_metrics', epoch=True)], False),
    ([dict(type='accuracy_metrics', epoch=True, experience=True)], True),
    ([dict(type='loss_metrics', stream=True)], True),
    ([dict(type='accuracy_metrics', trained_experience=True)], True),
    ([dict(type='forgetting_metrics', experience=True)], True),
    ([dict(type='bwt_metrics', stream=True)], True),
    ([dict(type='confusion_matrix_metrics', num_classes=3, stream=True)], True)],
    ids=lambda value: '+'.join(metric['type'] for metric in value) if isinstance(value, list) else str(value))
def test_avalanches_evaluation_runs_only_if_a_metric_listens(metrics, needed, recwarn):
    evaluator = build_evaluator([], metrics, None)
    assert needs_evaluation_pass(evaluator) is needed
    assert len(evaluator.metrics) >= len(metrics)
