import csv
import logging
import os
import shutil
import signal

import pytest
import torch
from banks import blobs  # noqa: E402
from PIL import Image  # noqa: E402
from tiny_encoder import write_images  # noqa: E402
from torchvision.models import squeezenet1_1  # noqa: E402

from clear.core.errors import ConfigError, Interrupted, TrainingError  # noqa: E402
from clear.core.files import read_json, save_tensors  # noqa: E402
from clear.core.results import read_results  # noqa: E402
from clear.engine.probing.runner import ProbeRunner  # noqa: E402
from clear.engine.probing.table import COLUMNS  # noqa: E402
from clear.engine.probing.work.execution import Executor  # noqa: E402
from clear.evaluation import KNN, NearestClassMean  # noqa: E402
from clear.features import write_bank  # noqa: E402

TASKS = [dict(type='KNN', name='knn', k=3), dict(type='NearestClassMean', name='ncm', kind='structural'),
         dict(type='LinearProbe', name='linear', epochs=3)]
DATA = dict(train='train', test='test')
GRID = dict(lrs=[1e-2, 1e-1], optimizers=['sgd', 'adam'], seeds=2)


def write_banks(root, spread=2.0):
    """Two banks with labels a, b, c; the training bank has two buckets and an unreadable row."""
    features, labels = blobs(60, spread=spread)
    valid = torch.ones(60, dtype=torch.bool)
    valid[5] = False
    write_bank(root / 'train', features, labels, class_names=['a', 'b', 'c'], valid=valid.tolist(),
               buckets=['1'] * 30 + ['2'] * 30, encoder='sha256:0123456789abcdef0123')
    features, labels = blobs(31, spread=spread, seed=1)
    write_bank(root / 'test', features, labels, class_names=['a', 'b', 'c'], encoder='sha256:0123456789abcdef0123')


@pytest.fixture
def cfg(tmp_path):
    """Two encoders, each a folder of banks, on three tasks."""
    encoders = {}
    for name, spread in (('good', 1.0), ('poor', 6.0)):
        write_banks(tmp_path / name, spread)
        encoders[name] = dict(bank=str(tmp_path / name), info=dict(method='blobs', epochs=7))
    return dict(encoders=encoders, tasks=[dict(task) for task in TASKS], data=dict(DATA), grid=GRID, device='cpu',
                name='suite')


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch, request):
    """Drawing is most of the time of these tiny runs; one test draws."""
    if request.node.name != 'test_every_encoder_on_every_task':
        monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})


def rows_of(work_dir):
    with (work_dir / 'results.csv').open() as file:
        return list(csv.DictReader(file))


def without_time(work_dir):
    return {key: value for key, value in read_json(work_dir / 'results.json').items() if key != 'timing'}


def test_every_encoder_on_every_task(cfg, tmp_path, drawn_figures):
    work_dir = tmp_path / 'run'
    results = ProbeRunner(cfg, work_dir).run()
    stored = read_results(work_dir / 'results.json')
    assert stored.metrics == results.metrics and stored.protocol == 'clear/probe/v1'
    assert {key.rsplit('/', 1)[0] for key in results.metrics} == {
        f'{encoder}/{task}' for encoder in ('good', 'poor') for task in ('knn', 'ncm', 'linear')}
    assert results.metrics['good/knn/top1'] > results.metrics['poor/knn/top1']
    jobs = read_json(work_dir / 'jobs.json')['jobs']
    assert [job['state'] for job in jobs.values()] == ['done'] * 6
    assert {path.name for path in (work_dir / 'figures').iterdir()} == {
        'tasks_by_encoders.png', 'accuracy_bars.png', 'lr_sensitivity_linear.png', 'learning_curves_linear.png'}
    assert 'good/linear/top1' in (work_dir / 'report.html').read_text()
    assert not (work_dir / 'failures').exists()


def test_table_is_tidy(cfg, tmp_path):
    ProbeRunner(cfg, tmp_path / 'run').run()
    rows = rows_of(tmp_path / 'run')
    assert tuple(rows[0]) == COLUMNS
    linear = [row for row in rows if (row['encoder'], row['task'], row['metric']) == ('poor', 'linear', 'top1')]
    assert [row['seed'] for row in linear] == ['0', '1']
    mean = read_results(tmp_path / 'run' / 'results.json').metrics['poor/linear/top1']
    assert sum(float(row['value']) for row in linear) / 2 == pytest.approx(mean)
    ncm = next(row for row in rows if row['task'] == 'ncm')
    assert (ncm['kind'], ncm['level'], ncm['method'], ncm['epochs'], ncm['pretrain_dataset'], ncm['seed']) == (
        'structural', 'image', 'blobs', '7', '', '')
    assert (ncm['n_train'], ncm['n_test'], ncm['encoder_hash']) == ('59', '31', '0123456789abcdef')
    assert len({row['config'] for row in rows}) == 6


def test_failed_job_is_recorded_and_the_others_go_on(cfg, tmp_path, monkeypatch):
    def fail(self, encoder_name, banks):
        raise RuntimeError('the lights went out')

    monkeypatch.setattr(NearestClassMean, 'run', fail)
    work_dir = tmp_path / 'run'
    with pytest.raises(TrainingError, match='2 of 6 jobs failed.*--resume') as caught:
        ProbeRunner(cfg, work_dir).run()
    assert 'good--ncm: RuntimeError: the lights went out' in str(caught.value)
    states = {key: job['state'] for key, job in read_json(work_dir / 'jobs.json')['jobs'].items()}
    assert [key for key, state in states.items() if state == 'failed'] == ['good--ncm', 'poor--ncm']
    assert sum(state == 'done' for state in states.values()) == 4
    text = (work_dir / 'failures' / 'good--ncm.txt').read_text()
    assert 'Traceback' in text and 'the lights went out' in text
    assert 'good/linear/top1' in read_results(work_dir / 'results.json').metrics
    monkeypatch.undo()

    monkeypatch.setattr(KNN, 'run', fail)  # finished: must not run again
    runner = ProbeRunner(cfg, work_dir)
    assert runner.resume() == 4
    runner.run()
    assert not list((work_dir / 'failures').iterdir())
    assert read_json(work_dir / 'jobs.json')['jobs']['good--ncm']['attempts'] == 2


def test_resumed_run_equals_an_uninterrupted_one(cfg, tmp_path, monkeypatch):
    ProbeRunner(cfg, tmp_path / 'whole').run()
    count = iter(range(10))
    do = Executor.do

    def stop_after_two(self, job, keep):
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        do(self, job, keep)

    monkeypatch.setattr(Executor, 'do', stop_after_two)
    with pytest.raises(Interrupted, match='--resume'):
        ProbeRunner(cfg, tmp_path / 'cut').run()
    monkeypatch.undo()
    runner = ProbeRunner(cfg, tmp_path / 'cut')
    assert runner.resume() == 2
    runner.run()
    assert without_time(tmp_path / 'cut') == without_time(tmp_path / 'whole')


def test_signal_inside_a_job_leaves_it_pending(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(KNN, 'run', lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        ProbeRunner(cfg, tmp_path / 'run').run()
    states = {job['state'] for job in read_json(tmp_path / 'run' / 'jobs.json')['jobs'].values()}
    assert states == {'pending'}


def test_resume_does_what_is_new_or_changed(cfg, tmp_path):
    ProbeRunner(cfg, tmp_path / 'run').run()
    cfg['tasks'][0]['k'] = 5
    cfg['tasks'].append(dict(type='NearestClassMean', name='euclidean', distance='euclidean'))
    runner = ProbeRunner(cfg, tmp_path / 'run')
    assert runner.resume() == 4
    assert [job.key for job in runner.jobs if job.state == 'pending'] == [
        'good--knn', 'good--euclidean', 'poor--knn', 'poor--euclidean']


def test_bank_that_changed_is_not_taken_for_the_old_one(cfg, tmp_path):
    ProbeRunner(cfg, tmp_path / 'run').run()
    features, labels = blobs(31, seed=9)
    write_bank(tmp_path / 'poor' / 'test', features, labels, class_names=['a', 'b', 'c'], overwrite=True)
    runner = ProbeRunner(cfg, tmp_path / 'run')
    assert runner.resume() == 3
    assert {job.encoder for job in runner.jobs if job.state == 'pending'} == {'poor'}


def test_result_of_images_or_weights_that_changed_is_not_taken_for_the_new_one(cfg, tmp_path, caplog):
    for split in ('train', 'test'):
        write_images(tmp_path / split, count=8)
    weights = tmp_path / 'weights.pth'
    torch.manual_seed(0)
    save_tensors(weights, squeezenet1_1(weights=None).state_dict())
    cfg['encoders'] = {'net': dict(type='TorchvisionEncoder', arch='squeezenet1_1', weights=str(weights),
                                   preprocess=dict(resize=32, crop=32))}
    cfg['data'] = {split: dict(type='ImageFolder', root=str(tmp_path / split)) for split in ('train', 'test')}
    cfg.update(tasks=[dict(type='NearestClassMean', name='ncm')], banks=dict(root=str(tmp_path / 'banks')))

    def resumed():
        runner = ProbeRunner(cfg, tmp_path / 'run')
        return runner.resume(), runner

    ProbeRunner(cfg, tmp_path / 'run').run()
    assert resumed()[0] == 1
    Image.new('RGB', (50, 40)).save(tmp_path / 'test' / 'bus' / '000.png')
    count, runner = resumed()
    assert count == 0
    runner.run()
    assert resumed()[0] == 1
    torch.manual_seed(1)
    save_tensors(weights, squeezenet1_1(weights=None).state_dict())
    assert resumed()[0] == 0
    shutil.rmtree(tmp_path / 'test')
    with caplog.at_level(logging.WARNING, logger='clear'):
        assert resumed()[0] == 1
    assert 'its result is kept' in caplog.text and 'does not exist' in caplog.text


def test_bucket_of_a_bank_by_path(cfg, tmp_path):
    path = str(tmp_path / 'good' / 'train')
    cfg['data'] = dict(train=dict(bank=path, bucket='1'), test=dict(bank=path, bucket='2'))
    cfg['tasks'] = cfg['tasks'][:1]
    ProbeRunner(cfg, tmp_path / 'run').run()
    assert {(row['n_train'], row['n_test']) for row in rows_of(tmp_path / 'run')} == {('29', '30')}


def test_one_missing_bank_fails_only_its_jobs(cfg, tmp_path):
    cfg['tasks'][1]['data'] = dict(train='train', test='tset')
    with pytest.raises(TrainingError, match='2 of 6 jobs failed'):
        ProbeRunner(cfg, tmp_path / 'run').run()
    assert 'tset is no feature bank' in (tmp_path / 'run' / 'failures' / 'good--ncm.txt').read_text()


def image_config(cfg, folder, **source):
    write_images(folder)
    data = dict(type='ImageFolder', root=str(folder))
    return dict(cfg, encoders=dict(net=dict(type='TorchvisionEncoder', arch='squeezenet1_1')),
                data=dict(train=data, test={**data, **source}))


def test_a_plan_reads_the_sources_and_makes_no_bank(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ProbeRunner(cfg).plan()
    before = sorted(tmp_path.rglob('*'))
    runner = ProbeRunner(image_config(cfg, tmp_path / 'images'))
    runner.plan()
    written = set(tmp_path.rglob('*')) - set(before)
    assert all((tmp_path / 'images') in (path, *path.parents) for path in written)
    assert {job.state for job in runner.jobs} == {'pending'}


@pytest.mark.parametrize('source, says', [
    (dict(type=['ImageFolder']), 'data.type is'), (dict(type='ImageFoldr'), "nearest: 'ImageFolder'"),
    (dict(rot='x'), "Did you mean 'root'"), (dict(root=[1]), 'data.root is [1]; expected text')])
def test_a_plan_refuses_sources_that_cannot_be_read(cfg, tmp_path, source, says):
    with pytest.raises(ConfigError) as refused:
        ProbeRunner(image_config(cfg, tmp_path / 'images', **source)).plan()
    assert says in str(refused.value)


def test_a_plan_names_the_jobs_whose_data_are_missing(cfg, tmp_path, caplog):
    shutil.rmtree(tmp_path / 'poor' / 'test')
    with caplog.at_level(logging.WARNING, logger='clear'):
        ProbeRunner(cfg).plan()
    assert [record.getMessage().partition(' would fail: ')[0] for record in caplog.records] == [
        f'poor--{name}' for name in ('knn', 'ncm', 'linear')]
    assert all(str(tmp_path / 'poor' / 'test') in record.getMessage() for record in caplog.records)


def test_a_plan_refuses_an_encoder_that_cannot_be_built(cfg, tmp_path):
    wrong = image_config(cfg, tmp_path / 'images')
    wrong['encoders']['net']['preprocess'] = dict(resize='large')
    with pytest.raises(ConfigError, match='resize'):
        ProbeRunner(wrong).plan()


def test_grid_and_seed_are_defaults_of_the_tasks(cfg):
    cfg['seed'] = 4
    runner = ProbeRunner(cfg)
    linear = next(job for job in runner.jobs if job.task == 'linear')
    assert linear.options == dict(type='LinearProbe', seed=4, epochs=3, **GRID)
    assert 'seed' not in next(job for job in runner.jobs if job.task == 'ncm').options
    cfg['tasks'][2]['lrs'] = [1.0]
    assert next(job for job in ProbeRunner(cfg).jobs if job.task == 'linear').options['lrs'] == [1.0]


@pytest.mark.parametrize('change, message', [
    (dict(encoders={}), "needs 'encoders'"),
    (dict(tasks=[]), "needs 'tasks'"),
    (dict(tasks=[dict(type='KN')]), "'KNN'"),
    (dict(tasks=[dict(type='KNN', kk=3)]), "no key 'kk'. Did you mean 'k'"),
    (dict(tasks=[dict(type='KNN', k=0)]), 'k is 0'),
    (dict(tasks=[dict(type='KNN'), dict(type='KNN')]), "Two tasks are called 'KNN'"),
    (dict(tasks=[dict(type='KNN', name='a/b')]), "'a/b' is no name"),
    (dict(tasks=[dict(type='KNN', level='pixl')]), r"tasks\[0\].level is 'pixl'; expected 'image' or 'pixel'"),
    (dict(tasks=[dict(type='KNN', kind='semantik')]), r"tasks\[0\].kind is 'semantik'"),
    (dict(data=None), r'tasks\[0\].data is None'),
    (dict(data=dict(train='train')), 'data is'),
    (dict(data=dict(train='train', test='test', tets='test')), "'tets'"),
    (dict(data=dict(train='train', test=dict(type='ImageFolder', root='x'))), 'cannot encode'),
    (dict(grid=dict(lr=[0.1])), "no key 'lr'"),
    (dict(banks=dict(dir='x')), "no key 'dir'"),
    (dict(encoders=dict(e=dict(path='x'))), r'expected one of dict\(type=...\), dict\(bank='),
    (dict(encoders=dict(e=dict(type='TorchvisionEncoder', arch='resnet18'))), 'is no folder of banks'),
    (dict(encoders=dict(e=dict(type='TorchvisionEncoder', arhc='resnet18'))), "'arch'"),
    (dict(encoders=dict(e=dict(bank='x', info=dict(methd='a')))), "'method'"),
    (dict(seed=-1), 'seed is -1')])
def test_wrong_configs_are_refused_before_anything_runs(cfg, change, message):
    from clear.core.errors import USER_ERRORS

    with pytest.raises(USER_ERRORS, match=message):
        ProbeRunner({**cfg, **change})


def test_config_is_not_changed(cfg, tmp_path):
    import copy

    before = copy.deepcopy(cfg)
    ProbeRunner(cfg, tmp_path / 'run').run()
    assert cfg == before


def test_several_processes_are_refused(cfg, monkeypatch):
    monkeypatch.setattr('clear.core.dist.world_size', lambda: 2)
    with pytest.raises(ConfigError, match='one process'):
        ProbeRunner(cfg)
