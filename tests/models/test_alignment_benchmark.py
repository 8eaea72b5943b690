import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(name):
    done = subprocess.run([sys.executable, ROOT / 'benchmarks' / f'{name}.py', '--small', '--rounds', '2'],
                          capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['benchmark'] == name and found['rounds'] == 2
    return found


@pytest.mark.slow
def test_a_loss_beside_its_peers():
    found = run('alignment_infonce')
    assert all(found[f'ours_over_{name}'] > 0 for name in ('matrices', 'one_matrix', 'open_clip', 'products'))
    assert 0 < found['memory_mb']['ours'] < found['memory_mb']['matrices']


@pytest.mark.slow
def test_an_epoch_from_banks_beside_the_ideal():
    found = run('alignment_banks')
    assert 0 < found['one_in_bank'] < 2 and 0 < found['both_in_banks'] < 2
    for times in found['times'].values():
        assert all(times[name] > 0 for name in ('epoch_s', 'ideal_s', 'extraction_s'))
    assert found['times']['both']['epoch_s'] < found['times']['one']['epoch_s'], 'a tower that trains costs more'


@pytest.mark.slow
def test_a_step_beside_one_written_by_hand():
    """The program itself compares the first losses and the groups of both optimisers."""
    found = run('alignment_step')['tiny']
    assert all(found[f'{name}_ms'] > 0 for name in ('ours', 'hand', 'hand_on_tokens', 'new_captions'))
    assert 0 < found['ours_over_hand'] < 10 and 0 < found['ours_over_hand_on_tokens'] < 10
