import csv
import subprocess
import sys
import time

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
