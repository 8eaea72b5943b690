"""Runs of earlier versions are read and continued; see `fixtures/make_v0.py` and `make_v1.py`."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from quick_runs import trained, weights_of, without_figures
from short_runs import run

FIXTURES = Path(__file__).parents[1] / 'fixtures'
sys.path.insert(0, str(FIXTURES))
import make_v0  # noqa: E402
import make_v1  # noqa: E402
from voc_tree import write_voc  # noqa: E402

from clear.core.config import config_hash  # noqa: E402
from clear.core.errors import CheckpointError  # noqa: E402
from clear.core.files import load_tensors, read_json, write_json  # noqa: E402
from clear.core.results import read_results  # noqa: E402
from clear.engine.probing.runner import ProbeRunner  # noqa: E402
from clear.engine.repeats import is_finished  # noqa: E402
from clear.engine.streams.over_time_keys import with_defaults  # noqa: E402
from clear.engine.training.runner import Runner  # noqa: E402
from clear.features import FeatureBank  # noqa: E402

# Methods that compute what they did.
UNCHANGED = ('naive', 'ewc', 'agem')
# The fixture was written on one processor, whose last digits another one does not repeat.
CLOSE = dict(rtol=1e-4, atol=1e-5)


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the old runs, which is the current folder."""
    shutil.copytree(FIXTURES / 'v0', tmp_path / 'v0')
    monkeypatch.chdir(tmp_path / 'v0')
    return tmp_path / 'v0'


@pytest.mark.parametrize('name', UNCHANGED)
def test_continual_run_ends_as_one_of_now(old, name):
    """Two experiences were finished by the old version; `naive` stands inside the second one."""
    resumed = trained(make_v0.continual_config(name), old / name, resume=True)
    whole = trained(make_v0.continual_config(name), old / 'whole')
    assert resumed.found.acc_matrix == whole.found.acc_matrix
    assert [entry['iterations'] for entry in resumed.record.train_log] == [6, 6, 6]
    torch.testing.assert_close(weights_of(old / name), weights_of(old / 'whole'), **CLOSE)


def test_replay_is_continued_with_the_shares_it_began_with(old):
    with pytest.raises(CheckpointError, match='form 1 of ExperienceBalancedBuffer.*legacy=True'):
        trained(make_v0.continual_config('replay'), old / 'replay', resume=True)
    cfg = make_v0.continual_config('replay')
    cfg['cl_strategy']['legacy'] = True
    resumed, whole = trained(cfg, old / 'replay', resume=True), trained(cfg, old / 'whole')
    assert resumed.found.acc_matrix == whole.found.acc_matrix
    torch.testing.assert_close(weights_of(old / 'replay'), weights_of(old / 'whole'), **CLOSE)


@pytest.mark.parametrize('name', UNCHANGED)
def test_continual_run_can_be_branched_from(old, name):
    # Of `naive` one experience is finished, of the others two.
    branched = trained(make_v0.continual_config(name), old / 'branch', branch=str(old / name / 'latest.pth'))
    assert branched.record.branched_from['experiences'] == (1 if name == 'naive' else 2)
    torch.testing.assert_close(weights_of(old / 'branch'), trained(
        make_v0.continual_config(name), old / 'whole').model.state_dict(), **CLOSE)


def test_finished_seed_is_kept(old):
    folder = old / 'seeds' / 'seed_0'
    assert is_finished(folder)
    whole = trained(make_v0.continual_config('naive', seed=0), old / 'whole')
    assert read_results(folder / 'results.json').acc_matrix == whole.found.acc_matrix
    before = (folder / 'latest.pth').read_bytes()
    assert trained(make_v0.continual_config('naive', seed=0), folder, resume=True).found.acc_matrix == \
        whole.found.acc_matrix
    assert (folder / 'latest.pth').read_bytes() == before


def moco(work_dir, resume=False):
    runner = Runner.from_cfg(Config(make_v0.moco_config(work_dir)))
    runner.build()
    runner.train(resume=resume)
    return runner


def test_pretraining_ends_as_one_of_now(old):
    """Stopped after 5 of 9 iterations, inside the second of three epochs."""
    assert load_tensors(old / 'moco' / 'latest.pth')['progress']['iter'] == 5
    (old / 'whole').mkdir()
    whole, resumed = moco(old / 'whole'), moco(old / 'moco', resume=True)
    torch.testing.assert_close(resumed.bare_model.state_dict(), whole.bare_model.state_dict(), rtol=1e-3, atol=1e-4)
    assert [entry['loss'] for entry in resumed.train_log] == pytest.approx(
        [entry['loss'] for entry in whole.train_log], rel=1e-4)


def test_bank_is_read(old):
    from sklearn.datasets import load_digits

    bank, digits = FeatureBank.open(old / 'bank' / 'train'), load_digits()
    assert (len(bank), bank.dim, bank.meta['dtype'], bank.class_names) == (60, 64, 'float16', list('0123456789'))
    assert (bank.features == digits.data[:60]).all() and (bank.labels == digits.target[:60]).all()
    assert bank.index['bucket'].to_pylist() == ['1'] * 60


def test_finished_probe_is_kept_and_the_other_done(old, monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    before = read_json(old / 'probe' / 'jobs.json')['jobs']['pixels--knn']
    runner = ProbeRunner(make_v0.probe_config(), old / 'probe')
    assert runner.resume() == 1
    results = runner.run()
    assert read_json(old / 'probe' / 'jobs.json')['jobs']['pixels--knn'] == before
    assert results.metrics['pixels/knn/top1'] == before['result']['value']
    assert results.metrics['pixels/ncm/top1'] > 0.5


@pytest.mark.parametrize(('key', 'value'), [
    ('attempts', None), ('attempts', 'x'), ('state', 'finished'), ('banks', []), ('banks', dict(train=3)),
    ('result', 'x'), ('result', {}), ('hash', 5), ('encoder_hash', 1), ('time_s', 'long')], ids=str)
def test_a_damaged_job_list_is_refused(key, value, old):
    jobs = read_json(old / 'probe' / 'jobs.json')
    record = jobs['jobs']['pixels--knn']
    record.pop(key) if value is None else record.update({key: value})
    write_json(old / 'probe' / 'jobs.json', jobs)
    with pytest.raises(CheckpointError, match=f'jobs.json is damaged: .*pixels--knn.{key}'):
        ProbeRunner(make_v0.probe_config(), old / 'probe').resume()


# What commit 256812c left, through the programs


@pytest.fixture
def newer(tmp_path, monkeypatch):
    """A copy of the runs of version 1, which is the current folder."""
    shutil.copytree(FIXTURES / 'v1', tmp_path / 'v1')
    monkeypatch.chdir(tmp_path / 'v1')
    return tmp_path / 'v1'


def finish(cfg, work_dir, *options, program='train'):
    """Run a program on a config; its results, if it writes such."""
    make_v1.write_config('config.py', cfg)
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        done = run(program, 'config.py', '--work-dir', work_dir, '--device', 'cpu', *options)
    assert done.code == 0, done.err
    path = Path(work_dir) / 'results.json'
    return read_results(path) if path.is_file() else None


@pytest.mark.parametrize('name', make_v1.STOPPED)
def test_strategy_stopped_inside_an_experience(newer, name):
    cfg = make_v1.continual_config(name)
    resumed, whole = finish(cfg, name, '--resume'), finish(cfg, 'whole')
    assert resumed.acc_matrix == whole.acc_matrix
    torch.testing.assert_close(weights_of(newer / name), weights_of(newer / 'whole'), **CLOSE)


def test_seeds_of_which_one_is_finished_and_one_was_stopped(newer):
    before = (newer / 'seeds/seed_0/latest.pth').read_bytes()
    cfg = make_v1.seeds_config()
    finish(cfg, 'seeds', '--resume')
    finish(cfg, 'whole')
    assert (newer / 'seeds/seed_0/latest.pth').read_bytes() == before
    resumed, whole = (read_json(newer / folder / 'summary.json') for folder in ('seeds', 'whole'))
    assert resumed['metrics'] == whole['metrics']
    for seed in range(3):
        torch.testing.assert_close(weights_of(newer / f'seeds/seed_{seed}'), weights_of(newer / f'whole/seed_{seed}'),
                                   **CLOSE)


def test_stream_of_pretraining(newer):
    """The first of two buckets was finished, the second one stopped inside its first epoch."""
    before = (newer / 'stream/bucket_1/latest.pth').read_bytes()
    make_v1.write_config('config.py', make_v1.stream_config())
    for work_dir, options in (('stream', ['--resume']), ('whole', [])):
        done = run('train', 'config.py', '--work-dir', work_dir, *options)
        assert done.code == 0, done.err
    assert (newer / 'stream/bucket_1/latest.pth').read_bytes() == before
    assert [each['bucket'] for each in read_json(newer / 'stream/stream.json')['buckets']] == ['1', '2']
    torch.testing.assert_close(weights_of(newer / 'stream/bucket_2'), weights_of(newer / 'whole/bucket_2'),
                               rtol=1e-3, atol=1e-4)


def test_encoder_over_time_measures_only_what_is_missing(newer):
    tool = 'analysis_tools/representation_over_time'
    cells = read_json(newer / 'over_time/cells.json')['cells']
    first = read_results(newer / 'over_time/results.json')
    assert config_hash(with_defaults(make_v1.over_time_config(1))) == first.config_hash
    banks = {path: path.stat().st_mtime_ns for path in (newer / 'banks').rglob('*.npy')}
    resumed = finish(make_v1.over_time_config(), 'over_time', program=tool)
    after = read_json(newer / 'over_time/cells.json')['cells']
    # Every bucket's probe on its own test part, and the first one's on the two others.
    assert len(cells) == 5 and len(after) == 10 and cells.items() <= after.items()
    assert {path: path.stat().st_mtime_ns for path in (newer / 'banks').rglob('*.npy')} == banks
    assert resumed.extras['matrices'].items() >= first.extras['matrices'].items()
    assert resumed.metrics == finish(make_v1.over_time_config(), 'whole', program=tool).metrics


def test_probe_finds_its_banks_and_the_finished_task(newer):
    before = read_json(newer / 'probe/jobs.json')['jobs']['tiny--knn']
    banks = {path: path.stat().st_mtime_ns for path in (newer / 'banks').rglob('*.npy')}
    resumed = finish(make_v1.probe_config(), 'probe', '--resume')
    assert read_json(newer / 'probe/jobs.json')['jobs']['tiny--knn'] == before
    assert {path: path.stat().st_mtime_ns for path in (newer / 'banks').rglob('*.npy')} == banks
    assert resumed.metrics == finish(make_v1.probe_config(), 'whole').metrics


@pytest.mark.parametrize('protocol', ['svm', 'clsa'])
def test_voc07_gives_the_numbers_that_it_gave(newer, protocol):
    write_voc(newer / 'voc', per_class=(2, 1, 1))
    found = finish(make_v1.voc_config(protocol), 'again', program='analysis_tools/voc07_classification')
    stored = read_results(newer / f'voc_{protocol}/results.json')
    # It is a task of a ProbeRunner now, whose metrics have the names of encoder and task in front.
    metrics = {name.removeprefix(f'encoder/{protocol}/'): value for name, value in found.metrics.items()}
    assert metrics == pytest.approx(stored.metrics, abs=1e-6)
    assert found.seeds == stored.seeds
    again, before = found.extras['jobs'][f'encoder--{protocol}']['result'], stored.extras['result']
    assert again['value'] == pytest.approx(before['value'], abs=1e-6)
    assert again['extras'].keys() == before['extras'].keys()
    assert again['extras']['per_class'] == pytest.approx(before['extras']['per_class'], abs=1e-6)


def test_voc07_of_a_program_of_its_own_is_not_overwritten_unasked(newer):
    write_voc(newer / 'voc', per_class=(2, 1, 1))
    make_v1.write_config('config.py', make_v1.voc_config('svm'))
    tool, options = 'analysis_tools/voc07_classification', ['config.py', '--work-dir', 'voc_svm', '--device', 'cpu']
    done = run(tool, *options)
    assert done.code == 2 and 'already holds a run' in done.err
    assert read_results(newer / 'voc_svm/results.json').runner == 'voc07_classification'


@pytest.mark.parametrize('folder', ['replay', 'seeds/seed_0', 'probe', 'over_time'])
def test_report_is_made_of_it(newer, folder):
    done = run('analysis_tools/make_report', folder)
    assert done.code == 0 and (newer / folder / 'report.html').stat().st_size > 5000, done.err


@pytest.mark.parametrize(('folder', 'value'), [('voc_svm', 'map 0.403'), ('voc_clsa', 'map_per_image 0.223')])
def test_report_is_made_of_voc07(newer, folder, value):
    done = run('analysis_tools/make_report', folder)
    assert done.code == 0 and value in done.out, done.err
    assert value.split()[1] in (newer / folder / 'report.html').read_text()
