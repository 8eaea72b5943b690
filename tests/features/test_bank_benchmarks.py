import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize('name, ratio', [('bank_reading', 'dataloader_over_bank'),
                                         ('extraction_overhead', 'extract_over_forward'),
                                         ('alignment_banks', 'one_in_bank'), ('alignment_banks', 'both_in_banks'),
                                         ('shard_reading', 'reading'), ('shard_reading', 'samples')])
def test_benchmark_prints_its_ratios(name, ratio):
    done = subprocess.run([sys.executable, ROOT / 'benchmarks' / f'{name}.py', '--small', '--rounds', '1'],
                          capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[ratio] > 0


@pytest.mark.slow
def test_identity_is_timed_against_another_tree():
    done = subprocess.run([sys.executable, ROOT / 'benchmarks' / 'bank_identity.py', '--small', '--rounds', '1',
                           '--before', ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(found[f'{door}_before_over_now'] > 0 for door in ('extract_features', 'feature_run', 'probe'))
