"""Settings of every test: no network, one thread, no display."""

import os

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('WANDB_MODE', 'offline')
os.environ.setdefault('MPLBACKEND', 'Agg')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest  # noqa: E402


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Few cores run several test processes: more threads would only wait for each other."""
    import torch

    torch.set_num_threads(1)
