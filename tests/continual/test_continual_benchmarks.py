"""The benchmark script of continual training runs, and ends in one JSON object."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / 'benchmarks' / 'continual_speed.py'


def load():
    spec = importlib.util.spec_from_file_location('continual_speed', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_speed_benchmark_ends_in_its_ratios(capsys):
    load().main(['--small', '--rounds', '2'])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.pop('benchmark') == 'continual_speed' and found.pop('rounds') == 2
    assert set(found) == {f'{name}_{ratio}' for name in ('naive', 'replay', 'evaluation')
                          for ratio in ('stock_over_ours', 'ours_over_raw')}
    assert all(value > 0 for value in found.values())


def test_all_three_ways_do_the_same_work():
    """Else their times could not be compared: Naive ends in the same accuracy, Replay in the same number of steps."""
    module = load()
    benchmark = module.make_stream(2, 300, 100, 256)
    accuracies = []
    for way in ('ours', 'stock', 'raw'):
        torch.manual_seed(0)
        if way == 'raw':
            model = module.raw('Naive', benchmark.info.train, 256, 2)
        else:
            strategy = getattr(module, way)('Naive', benchmark, 256, 2)
            with module.quiet_avalanche():
                for experience in benchmark.train_stream:
                    strategy.train(experience, eval_streams=[])
            model = strategy.model
        bucket = benchmark.info.test[-1]
        accuracies.append((model(bucket.inputs).argmax(1) == bucket.labels).float().mean().item())
    # A guess is right in 1 of 11.
    assert max(accuracies) - min(accuracies) < 0.1 and min(accuracies) > 0.7
