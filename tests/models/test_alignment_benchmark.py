import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_benchmark_prints_its_ratios():
    done = subprocess.run([sys.executable, ROOT / 'benchmarks' / 'alignment_infonce.py', '--small', '--rounds', '2'],
                          capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(found[f'ours_over_{name}'] > 0 for name in ('matrices', 'one_matrix', 'open_clip', 'products'))
    assert 0 < found['memory_mb']['ours'] < found['memory_mb']['matrices']
