import csv
import subprocess
import sys
import time

import pytest
from clear_trees import write_clear_tree
from short_runs import ROOT, run

from clear.core.results import read_results

TOOL = 'analysis_tools/representation_over_time'
CONFIG = ROOT / 'configs' / 'probing' / 'representation_over_time_demo.py'


def options(root, tmp_path):
    return ['--work-dir', tmp_path / 'run', '--device', 'cpu', '--cfg-options', f'data.data_root={root}',
            'data.data_name=None', 'tasks.0.k=3', 'tasks.1.epochs=1', f'banks.root={tmp_path / "banks"}']


def test_help_answers_at_once_and_has_an_example():
    started = time.monotonic()
    done = subprocess.run([sys.executable, ROOT / 'tools' / f'{TOOL}.py', '--help'], capture_output=True, text=True,
                          check=True)
    assert time.monotonic() - started < 2  # one second on a machine that does nothing else
    assert 'python tools/analysis_tools/representation_over_time.py configs/' in done.stdout


def test_dry_run_writes_nothing_and_the_run_writes_matrices(tmp_path):
    root = write_clear_tree(tmp_path / 'tree', num_buckets=2, num_classes=2, per_class=5)
    dry = run(TOOL, CONFIG, *options(root, tmp_path), '--dry-run')
    assert dry.code == 0 and 'nothing was encoded' in dry.out, dry.err
    assert not (tmp_path / 'run').exists() and not (tmp_path / 'banks').exists()
    done = run(TOOL, CONFIG, *options(root, tmp_path))
    assert done.code == 0, done.err
    results = read_results(tmp_path / 'run' / 'results.json')
    assert set(results.extras['matrices']) == {f'{task}/{protocol}' for task in ('KNN', 'LinearProbe')
                                               for protocol in ('probe_per_bucket', 'probe_of_own_bucket')}
    with (tmp_path / 'run' / 'results.csv').open() as file:
        assert len(list(csv.DictReader(file))) == 4  # two tasks, two buckets: a random network has no own bucket
    assert 'not defined: in_domain' in done.out and 'results.json' in done.out


def test_a_missing_checkpoint_is_one_line(tmp_path):
    root = write_clear_tree(tmp_path / 'tree', num_buckets=2, num_classes=2, per_class=5)
    failed = run(TOOL, CONFIG, *options(root, tmp_path), f'checkpoints={tmp_path / "nowhere"}')
    assert failed.code == 2 and failed.err.count('\n') == 1 and 'nowhere' in failed.err


# By `tools/train.py`

ROUGHNESS = """
from clear.evaluation import TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class Roughness:
    needs = ('bank',)

    def __init__(self, *, factor: float = 1.0):
        self.factor = factor

    def run(self, encoder, data):
        features, labels = data.bank['test'].tensors()
        return TaskResult('roughness', self.factor * float(features.std()) - 5)
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_clear_tree(tmp_path / 'tree', num_buckets=2, num_classes=2, per_class=5)


def test_train_runs_the_same_config(tree, tmp_path):
    dry = run('train', CONFIG, *options(tree, tmp_path), '--dry-run')
    assert dry.code == 0 and 'nothing was encoded' in dry.out and not (tmp_path / 'run').exists(), dry.err
    done = run('train', CONFIG, *options(tree, tmp_path))
    assert done.code == 0 and 'not defined: in_domain' in done.out, done.err
    assert {path.name for path in (tmp_path / 'run').iterdir()} >= {
        'results.json', 'results.csv', 'cells.json', 'figures', 'config.py', 'env.txt', 'run.log'}
    one = read_results(tmp_path / 'run' / 'results.json')
    again = run('train', CONFIG, *options(tree, tmp_path))
    assert again.code == 2 and 'already holds a run. Continue it with --resume' in again.err
    # The program of its own goes on without being asked.
    for name, more in ((TOOL, []), ('train', ['--resume']), ('train', ['--overwrite'])):
        cells = (tmp_path / 'run' / 'cells.json').stat().st_mtime_ns
        done = run(name, CONFIG, *options(tree, tmp_path), *more)
        assert done.code == 0, done.err
        assert ('resumed: 4 cells are there' in done.out) == (more != ['--overwrite'])
        assert (cells == (tmp_path / 'run' / 'cells.json').stat().st_mtime_ns) == (more != ['--overwrite'])
        other = read_results(tmp_path / 'run' / 'results.json')
        assert (one.metrics, one.acc_matrix, one.extras, one.config_hash) == (
            other.metrics, other.acc_matrix, other.extras, other.config_hash)


@pytest.mark.parametrize(('more', 'says'), [
    (['--amp'], '--amp: heads on frozen features'), (['--resume', 'x.pth'], 'takes no checkpoint for a OverTimeRunner'),
    (['--cfg-options', 'protocol=x'], "nobody reads 'protocol'. Did you mean 'protocols'"),
    (['--cfg-options', 'tasks.0.kk=1'], "Did you mean 'k'"), (['--cfg-options', 'encoder.type=Nix'], 'Nix'),
    (['--cfg-options', 'encoder.backbon.depth=18'], "Did you mean 'backbone'")])
def test_train_refuses_in_one_line(more, says, tree, tmp_path):
    arguments = options(tree, tmp_path)
    failed = run('train', CONFIG, *arguments, *more) if more[0] != '--cfg-options' else run(
        'train', CONFIG, *arguments, more[1])
    assert failed.code == 2 and failed.err.count('\n') == 1 and says in failed.err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('program', ['train', TOOL])
def test_a_misspelt_key_of_the_file_is_an_error_and_a_helper_is_none(program, tree, tmp_path):
    text = CONFIG.read_text()
    (tmp_path / 'helper.py').write_text(f'some_helper = 3\n{text}')
    (tmp_path / 'misspelt.py').write_text(f"bucket = ['1']\n{text}")
    done = run(program, tmp_path / 'helper.py', *options(tree, tmp_path), '--dry-run')
    assert done.code == 0, done.err
    failed = run(program, tmp_path / 'misspelt.py', *options(tree, tmp_path), '--dry-run')
    assert failed.code == 2 and "Did you mean 'buckets'" in failed.err


def test_a_config_of_before_needs_no_runner_type_and_keeps_its_folder(tree, tmp_path):
    text = CONFIG.read_text().replace("runner_type = 'OverTimeRunner'\n", '')
    (tmp_path / 'old.py').write_text(f"name = 'by_name'\n{text}")
    done = run(TOOL, tmp_path / 'old.py', *options(tree, tmp_path)[2:])
    assert done.code == 0, done.err
    assert (tmp_path / 'work_dirs' / 'by_name' / 'cells.json').is_file()


def test_a_task_from_outside_is_measured(tree, tmp_path):
    (tmp_path / 'roughness.py').write_text(ROUGHNESS)
    (tmp_path / 'mine.py').write_text(CONFIG.read_text() + """
custom_imports = dict(imports=['roughness'])
tasks = [dict(type='Roughness', name='rough', factor=2.0), dict(type='Clustering', restarts=1)]
""")
    arguments = [*options(tree, tmp_path)[:-3], f'banks.root={tmp_path / "banks"}']
    done = run('train', tmp_path / 'mine.py', *arguments)
    assert done.code == 0, done.err
    results = read_results(tmp_path / 'run' / 'results.json')
    found = results.extras['matrices']
    assert results.acc_matrix is None, 'these are no fractions'
    assert set(found) == {f'{task}/{protocol}' for task in ('rough', 'Clustering')
                          for protocol in ('probe_per_bucket', 'probe_of_own_bucket')}
    values = found['rough/probe_per_bucket'][0]
    assert len(set(values)) == 2 and all(-5 < value < 0 for value in values)
    resumed = run('train', tmp_path / 'mine.py', *arguments, '--resume')
    assert resumed.code == 0 and 'resumed: 4 cells are there' in resumed.out, resumed.err
    assert read_results(tmp_path / 'run' / 'results.json').extras['matrices'] == found
