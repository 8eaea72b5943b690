"""The journal of a run, and streams too long to write their whole matrix after every experience."""

import json
import shutil

import pytest
import torch
from clear_trees import write_clear_tree
from quick_runs import built, config, stop, trained, weights_of
from short_runs import run

import clear
from clear.continual.journal import read_entries, read_run
from clear.core.errors import CheckpointError
from clear.core.files import load_tensors, read_json
from clear.core.results import read_results


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


@pytest.fixture
def long(monkeypatch):
    """Three buckets count as a long stream, whose results are written once and at the end."""
    monkeypatch.setattr('clear.continual.journal.SELF_CONTAINED', 2)
    monkeypatch.setattr('clear.engine.continual.runner.SECONDS_BETWEEN_RESULTS', 1e9)


@pytest.fixture(scope='module')
def whole(root, tmp_path_factory):
    """A run as short streams are."""
    folder = tmp_path_factory.mktemp('whole')
    return trained(config(root), folder)


def untimed(path):
    return {**read_json(path), 'timing': None}


def test_the_journal_holds_the_rows_of_the_matrix(whole):
    entries = read_entries(whole.work_dir)
    assert [entry['row'] for entry in entries] == whole.found.acc_matrix
    assert [entry['log'] for entry in entries] == whole.record.train_log
    assert load_tensors(whole.work_dir / 'latest.pth')['acc_matrix'] == whole.found.acc_matrix


@pytest.mark.parametrize('place', [(0, 2), (1, 2), (2, 6)])
def test_a_long_stream_is_resumed_from_its_journal(place, root, whole, long, tmp_path):
    stop(built(config(root), tmp_path), *place)
    checkpoint = 'iteration.pth' if place[0] == 0 else 'latest.pth'
    assert load_tensors(tmp_path / checkpoint)['acc_matrix'] is None
    assert load_tensors(tmp_path / checkpoint)['progress']['train_log'] is None
    trained(config(root), tmp_path, resume=True)
    assert untimed(tmp_path / 'results.json') == untimed(whole.work_dir / 'results.json')
    assert (tmp_path / 'matrix.jsonl').read_bytes() == (whole.work_dir / 'matrix.jsonl').read_bytes()
    assert all(map(torch.equal, weights_of(tmp_path).values(), weights_of(whole.work_dir).values()))


@pytest.mark.parametrize('tail', ['{"experience": 1, "row": [0.5', '', 'an entry', 'no entry', '[' * 3000])
def test_what_a_kill_left_behind_the_checkpoint_is_dropped(tail, root, whole, long, tmp_path):
    """A torn line; or a whole one, where the kill came before the checkpoint."""
    stop(built(config(root), tmp_path), 1, 2)
    entry = json.dumps(dict(experience=1, row=[0.1] * 3, whole_buckets=[None] * 3, log=dict(loss=1.0))) + '\n'
    with (tmp_path / 'matrix.jsonl').open('a') as file:
        file.write({'an entry': entry, 'no entry': '[]\n'}.get(tail, tail))
    trained(config(root), tmp_path, resume=True)
    assert (tmp_path / 'matrix.jsonl').read_bytes() == (whole.work_dir / 'matrix.jsonl').read_bytes()


def test_a_run_that_begins_anew_begins_its_journal_anew(root, whole, tmp_path):
    (tmp_path / 'matrix.jsonl').write_text('{"experience": 0}\n')
    trained(config(root), tmp_path)
    assert (tmp_path / 'matrix.jsonl').read_bytes() == (whole.work_dir / 'matrix.jsonl').read_bytes()


def test_the_results_of_a_killed_run_are_completed_by_who_reads_them(root, long, tmp_path):
    runner, written = built(config(root), tmp_path), []
    measure = runner._save
    runner._save = lambda experience: (measure(experience), written.append((tmp_path / 'results.json').read_bytes()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, '_write_report', lambda results: None)
        runner.train()
    assert written[0] == written[1] == written[2]  # once, then not before a long time has passed
    final = untimed(tmp_path / 'results.json')
    (tmp_path / 'results.json').write_bytes(written[0])
    assert read_results(tmp_path / 'results.json').progress == (1, 3)
    assert read_run(tmp_path).acc_matrix == final['acc_matrix']
    assert untimed(tmp_path / 'results.json') == final
    (tmp_path / 'results.json').write_bytes(written[0])
    assert clear.Run(tmp_path).results.acc_matrix == final['acc_matrix']
    (tmp_path / 'results.json').write_bytes(written[0])
    finished = run('analysis_tools/make_report', tmp_path, '--dry-run')
    assert finished.code == 0 and 'in_domain' in finished.out
    assert untimed(tmp_path / 'results.json') == final
    (tmp_path / 'results.json').write_bytes(written[0])
    finished = run('analysis_tools/compare_runs', tmp_path, '--dry-run', '--out', tmp_path / 'out')
    assert finished.code == 0 and untimed(tmp_path / 'results.json') == final


def test_a_stopped_long_stream_has_its_results(root, long, tmp_path):
    stop(built(config(root), tmp_path), 2, 1)
    assert read_results(tmp_path / 'results.json').progress == (2, 3)


def test_a_long_stream_can_be_branched_from(root, whole, long, tmp_path):
    trained(config(root), tmp_path / 'first')
    branched = trained(config(root), tmp_path / 'second', branch=str(tmp_path / 'first' / 'exp_0.pth'))
    assert branched.found.acc_matrix == whole.found.acc_matrix
    assert (tmp_path / 'second/matrix.jsonl').read_bytes() == (whole.work_dir / 'matrix.jsonl').read_bytes()


def test_its_checkpoint_without_the_journal_is_refused(root, long, tmp_path):
    trained(config(root), tmp_path / 'first')
    (tmp_path / 'second').mkdir()
    shutil.copy(tmp_path / 'first' / 'exp_1.pth', tmp_path / 'second' / 'latest.pth')
    with pytest.raises(CheckpointError, match=r'latest.pth was written after 2 experiences.*matrix.jsonl beside it, '
                                              r'which has 0\. Keep the two together'):
        built(config(root), tmp_path / 'second').train(resume=True)


def test_a_short_stream_needs_no_journal(root, whole, tmp_path):
    """Neither does a run of an earlier version, which has none."""
    stop(built(config(root), tmp_path), 2, 2)
    (tmp_path / 'matrix.jsonl').unlink()
    trained(config(root), tmp_path, resume=True)
    assert (tmp_path / 'matrix.jsonl').read_bytes() == (whole.work_dir / 'matrix.jsonl').read_bytes()
