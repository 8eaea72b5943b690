"""Two seeded moments of each kind of run at which it is killed and resumed: see `benchmarks/kill_storm.py`."""

import json
import subprocess
import sys

import pytest
from short_runs import ROOT, environment

KINDS = ('replay', 'workers', 'seeds', 'pretraining', 'stream', 'probing', 'queue', 'prototypes')


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize('kind', KINDS)
def test_a_killed_run_ends_like_one_that_was_left_alone(kind, tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / 'benchmarks' / 'kill_storm.py'), '--kinds', kind, '--moments',
                           '2', '--seed', '2', '--folder', str(tmp_path)], env=environment(), capture_output=True,
                          text=True, timeout=1100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == dict(moments=2, starts=pytest.approx(5, abs=2), failed=0)
