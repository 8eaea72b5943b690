import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize('name, ratio', [('bank_reading', 'dataloader_over_bank'),
                                         ('extraction_overhead', 'extract_over_forward')])
def test_benchmark_prints_its_ratios(name, ratio):
    done = subprocess.run([sys.executable, ROOT / 'benchmarks' / f'{name}.py', '--small', '--rounds', '1'],
                          capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[ratio] > 0
