"""The benchmark scripts of this part run and end in one JSON object."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize('name, key', [('linear_grid', 'peer_over_project'), ('mlp_grid', 'sizes'),
                                       ('knn', 'project_over_limit'),
                                       ('pixelwise_cache', 'stored_over_limit'),
                                       ('passage_search', 'cosine_over_limit'),
                                       ('elevater_search', 'toolkit_over_together'),
                                       ('retrieval_metrics', 'project_over_limit'),
                                       ('zero_shot', 'project_over_limit')])
def test_benchmark_ends_in_json(name, key):
    done = subprocess.run([sys.executable, ROOT / 'benchmarks' / f'{name}.py', '--small', '--rounds', '2'],
                          capture_output=True, text=True, timeout=280, cwd=ROOT,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['benchmark'] == name and found['rounds'] == 2 and found[key]
    assert isinstance(found[key], dict) or found[key] > 0
    if name in ('retrieval_metrics', 'zero_shot'):
        assert not found['largest_difference']  # None: without the peer
    if name == 'pixelwise_cache':
        assert found['map_difference'] < 1e-6 and found['weight_difference'] < 1e-4
    if name in ('linear_grid', 'mlp_grid'):
        assert found['float64_difference'] < 1e-9
