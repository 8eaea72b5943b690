"""Two toy sets in zip layout through all four modes to validated submissions, by the shipped programs and config."""

import json

import pytest
from elevater_sets import MULTI, SINGLE
from short_runs import CONFIGS, run, train

pytestmark = pytest.mark.slow  # a dozen seconds, half of it imports
DEMO = CONFIGS / 'evaluation' / 'elevater_toy_demo.py'
MODES = ('finetuning_5_two_lr', 'linear_probe_5', 'linear_probe_full', 'zeroshot_eval')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    """The folder in which the demo was run."""
    place = tmp_path_factory.mktemp('demo')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        made = run('dataset_converters/make_elevater_toy', 'data/elevater_toy')
        assert made.code == 0, made.err
        finished = train(DEMO, '--work-dir', 'work_dirs/demo')
        assert finished.code == 0, finished.err
        yield place


def test_every_mode_ends_in_a_submission_that_is_in_order(done):
    folders = sorted((done / 'work_dirs/toy/tiny/predictions').iterdir())
    assert [folder.name.startswith(mode) for folder, mode in zip(folders, MODES)] == [True] * 4
    for folder in folders:
        assert run('analysis_tools/elevater_submission', 'combine', str(folder)).code == 0
        found = run('analysis_tools/elevater_submission', 'validate', str(folder), '--own', f'{SINGLE}=30x3',
                    f'{MULTI}=66x4:multi', '--allow-missing')
        assert found.code == 0 and 'in order' in found.out + found.err


def test_what_is_learnt_is_more_than_what_text_knew(done):
    metrics = json.loads((done / 'work_dirs/demo/results.json').read_text())['metrics']
    for mode in ('linear_5', 'linear_full', 'fine_tune_5'):
        assert metrics[f'tiny/{SINGLE}-{mode}/top1'] > metrics[f'tiny/{SINGLE}-zero_shot/top1'], metrics
    assert metrics[f'tiny/{SINGLE}-linear_full/top1'] == 1


def test_nothing_is_done_twice(done, monkeypatch):
    before = (done / 'work_dirs/demo/results.csv').read_bytes()
    files = {path: path.stat().st_mtime_ns for path in (done / 'work_dirs/toy').rglob('*.json')}
    monkeypatch.chdir(done)
    finished = train(DEMO, '--work-dir', 'work_dirs/demo', '--resume')
    assert finished.code == 0, finished.err
    assert (done / 'work_dirs/demo/results.csv').read_bytes() == before
    assert files == {path: path.stat().st_mtime_ns for path in files}
