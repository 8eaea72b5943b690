"""The continual runner trains a ResNet with BatchNorm as plain PyTorch does over the same batches, to the last bit."""

import importlib.util
from argparse import Namespace

import pytest
import torch
from short_runs import ROOT

from clear.datasets.make.demo import write_demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def benchmark():
    spec = importlib.util.spec_from_file_location('resnet_rounding', ROOT / 'benchmarks' / 'resnet_rounding.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('digits')
    write_demo(root, limit=100)
    return str(root)


@pytest.mark.parametrize('strategy', ['Naive', 'Replay'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_a_resnet_is_trained_as_by_plain_pytorch(benchmark, digits, dtype, strategy):
    args = Namespace(net='resnet', width=8, branches_from_zero=True, strategy=strategy, epochs=1, lr=0.05)
    found = benchmark.compare(args, digits, dtype)
    assert set(found['product']['weights'].values()) == {0.0} and found['product']['accuracy'] == 0.0
    assert found['nudged']['weights']['end'] > 0, 'the comparison would not see a difference'
