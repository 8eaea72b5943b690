"""All tasks of the probing suite on three encoders and rendered scenes: one command, three kills, the same table."""

import csv
import signal
from pathlib import Path

import pytest
import torch
from killed_runs import die_after, die_before, run_in_fork
from short_runs import CONFIGS, read_results, run

from clear.core.config import load_config
from clear.core.files import read_json
from clear.datasets.make.demo_scenes import write_demo_scenes
from clear.engine.probing.finder import DataFinder
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.runner import TABLE_FILE, ProbeRunner
from clear.evaluation.dense.training.job_files import JobFiles

SMOKE = CONFIGS / 'probing' / 'suites' / 'smoke.py'
TASKS = {path.stem for path in (CONFIGS / '_base_' / 'tasks' / 'virb').glob('*.py')}
_COMMON = dict(preprocess=dict(squash=True, resize=64, crop=64, interpolation='bilinear'))
# Those of the suite are wider, and one of them has to be trained first.
ENCODERS = dict(
    narrow=dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
                info=dict(method='random'), **_COMMON),
    wider=dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=18, stem_channels=16, base_channels=16),
               **_COMMON),
    mobile=dict(type='TimmEncoder', arch='mobilenetv3_small_050', **_COMMON))


def write_config(name, encoders, tasks=TASKS):
    """The suite with small encoders, some of its tasks, and two epochs of the heads for pixels."""
    cfg = load_config(SMOKE)[0].to_dict()
    chosen = [entry for entry in cfg['tasks'] if Path(entry['suite']).stem in tasks]
    for entry in chosen:
        if 'recipe' in entry.get('options', {}):
            entry['options']['epochs'] = 2
    cfg.update(tasks=chosen, encoders={encoder: ENCODERS[encoder] for encoder in encoders},
               banks=dict(root=f'banks_{name}'), device='cpu')
    Path(f'{name}.py').write_text(''.join(f'{key} = {value!r}\n' for key, value in cfg.items() if key[0] != '_'))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_demo_scenes(tmp_path / 'data' / 'demo_scenes', train=24, test=12, edge=32)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_suite_has_every_task_and_three_encoders():
    cfg = with_defaults(load_config(SMOKE)[0])
    check_probe_config(cfg)
    assert {task['name'] for task in cfg['tasks']} == TASKS and len(cfg['tasks']) == len(TASKS) >= 25
    assert list(cfg['encoders']) == ['random', 'mocov2', 'efficientnet_lite0']
    roots = [str(source['root']) for task in cfg['tasks'] for source in task['data'].values()]
    assert all(root.startswith('data/demo_scenes/') for root in roots)


DEATHS = {'data': lambda count: die_before(DataFinder, 'find', count),
          'table': lambda count: die_before(Path, 'replace', lambda _, to: Path(to).name == TABLE_FILE and count()),
          'epoch': lambda count: die_after(JobFiles, 'save_state', count)}


def _run(moment, number, workers=0):
    torch.set_num_threads(1)
    calls = [0]

    def count(*_):
        calls[0] += 1
        return calls[0] == number

    if moment is not None:
        DEATHS[moment](count)
    cfg = load_config('parts.py')[0].to_dict()
    runner = ProbeRunner(dict(cfg, workers=workers), Path('parts'))
    if Path('parts/jobs.json').is_file():
        runner.resume()
    runner.run()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_three_times_and_ended_by_two_workers_it_is_the_same_table(folder):
    for name in ('whole', 'parts'):
        write_config(name, ENCODERS)
    done = run('train', 'whole.py', '--work-dir', 'whole')
    assert done.code == 0, done.err
    with Path('whole/results.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert {(row['encoder'], row['task']) for row in rows} == {
        (encoder, task) for encoder in ENCODERS for task in TASKS}
    assert {(row['level'], row['kind']) for row in rows} == {
        (level, kind) for level in ('image', 'pixel') for kind in ('semantic', 'structural')}
    # In an image-level task, between two jobs, and in the middle of a pixelwise one.
    for moment, number in (('data', 12), ('table', 16), ('epoch', 25)):
        run_in_fork(_run, moment, number, code=-signal.SIGKILL)
    states = [job['state'] for job in read_json('parts/jobs.json')['jobs'].values()]
    assert len(states) == 3 * len(TASKS) and 15 < states.count('done') < len(states)
    run_in_fork(_run, None, 0, 2, timeout_s=900)
    assert Path('parts/results.csv').read_bytes() == Path('whole/results.csv').read_bytes()
    assert read_results('parts')['metrics'] == read_results('whole')['metrics']


@pytest.mark.slow
def test_a_broken_data_set_fails_alone(folder):
    Path('data/demo_scenes/CLEVR/scenes/CLEVR_val_scenes.json').write_text('{"scenes": [')
    mask = next(Path('data/demo_scenes/nyu/test/walkable').iterdir())
    mask.write_bytes(mask.read_bytes()[:40])
    write_config('broken', ['narrow'], ('eurosat', 'clevr_num_objects', 'nyu_walkable'))
    done = run('train', 'broken.py', '--work-dir', 'broken')
    assert done.code != 0 and '2 of 3 jobs failed' in done.err
    states = {key: job['state'] for key, job in read_json('broken/jobs.json')['jobs'].items()}
    assert states == {'narrow--eurosat': 'done', 'narrow--clevr_num_objects': 'failed',
                      'narrow--nyu_walkable--seed0': 'failed'}
    for key, file in (('narrow--clevr_num_objects', 'CLEVR_val_scenes.json'),
                      ('narrow--nyu_walkable--seed0', mask.name)):
        text = Path(f'broken/failures/{key}.txt').read_text()
        assert 'Traceback' in text and file in text
