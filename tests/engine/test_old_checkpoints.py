"""Runs of an earlier version are read and continued; see `fixtures/make_v0.py`."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from quick_runs import trained, weights_of

FIXTURES = Path(__file__).parents[1] / 'fixtures'
sys.path.insert(0, str(FIXTURES))
import make_v0  # noqa: E402

from clear.core.errors import CheckpointError  # noqa: E402
from clear.core.files import load_tensors, read_json, write_json  # noqa: E402
from clear.core.results import read_results  # noqa: E402
from clear.engine.probe_runner import ProbeRunner  # noqa: E402
from clear.engine.repeats import is_finished  # noqa: E402
from clear.engine.runner import Runner  # noqa: E402
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
    assert [entry['iterations'] for entry in resumed.train_log] == [6, 6, 6]
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
    assert branched.branched_from['experiences'] == (1 if name == 'naive' else 2)
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
