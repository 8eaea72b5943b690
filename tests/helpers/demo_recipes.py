"""Shipped pretraining recipes, cut short: run in fresh processes, killed, and compared by all that they leave."""

import subprocess
import time
from pathlib import Path

import torch
from short_runs import CONFIGS, environment, program, read_results

from clear.core.files import load_tensors

RECIPES = CONFIGS / 'selfsup'
TIMEOUT_S = 280
# Two buckets of 74 images: 9 iterations an epoch, of which the second begins in the middle of two checkpoints.
SHORT = """
_base_ = [{base!r}]
train_dataloader = dict(batch_size=16, dataset=dict(buckets=[0, 1]))
train_cfg = dict(max_epochs=2)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=2, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(iter_interval=2), results=dict(type='ResultsHook', figures=False))
model = dict({queue})
"""
QUEUE = 'queue_size=64'
NARROW = """
model['backbone'] = dict(stem_channels=4, base_channels=4)
model['neck'] = dict(in_channels=32)
"""
# Four iterations an epoch, and nothing beside the training.
QUICK = NARROW + """
custom_hooks = []
train_dataloader['dataset']['buckets'] = [0]
"""
# One projection that every method takes.
NECK = """
model['neck'] = dict(_delete_=True, type='ProjectionMLP', in_channels=32, out_channels=16)
"""
# Three buckets of the shipped stream, in batches of 16: 8 iterations a bucket, 18 with 74 replayed images.
STREAM = """
_base_ = [{base!r}]
stream = dict(buckets=['1', '2', '3'], **{more})
model = dict(backbone=dict(stem_channels=8, base_channels=8), neck=dict(in_channels=64), queue_size=64)
train_dataloader = dict(batch_size=16)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', iter_interval=2),
                     results=dict(type='ResultsHook', figures=False))
"""


def enter(folder, demo, monkeypatch):
    """Make the folder the current one, with the demo where the recipes expect it."""
    (folder / 'data').mkdir(parents=True)
    (folder / 'data' / 'demo').symlink_to(demo)
    monkeypatch.chdir(folder)
    return folder


def recipe(method, more='', queue=QUEUE, name='run.py'):
    """The demo recipe of a method, cut short."""
    base = next(RECIPES.glob(f'{method}_*_demo.py'))
    Path(name).write_text(SHORT.format(base=str(base), queue=queue) + more)
    return name


def stream_recipe(mode, name='stream.py'):
    base = next(RECIPES.glob(f'continual_mocov2-{mode}_*_demo.py'))
    more = dict(finetune={}, replay=dict(replay_size=74), distil=dict(distil=dict(hidden_channels=16)))[mode]
    Path(name).write_text(STREAM.format(base=str(base), more=more))
    return name


def outcome(folder):
    """Everything that a run left, without the time it took and the commit that it ran on."""
    state = load_tensors(Path(folder) / 'latest.pth')
    del state['progress']['timing']
    for name in ('train/time', 'train/data_time'):
        state['message']['scalars'].pop(name, None)
    results = read_results(folder)
    del results['timing'], results['git']
    return state, results


def assert_same(one, other):
    (state, results), (others, other_results) = outcome(one), outcome(other)
    assert state.keys() == others.keys()
    assert_equal(state, others, '')
    assert results == other_results


def assert_equal(one, other, where):
    """Bit by bit, through dicts and lists."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (first, second) in enumerate(zip(one, other)):
            assert_equal(first, second, f'{where}[{index}]')
    else:
        assert one == other, where


def start(*arguments):
    """`tools/train.py` in a fresh interpreter; into files, which a killed one's workers may hold open a while."""
    with Path('out.txt').open('w') as out, Path('err.txt').open('w') as err:
        return subprocess.Popen([*program('train'), *map(str, arguments)], env=environment(), stdout=out, stderr=err)


def finish(*arguments):
    process = start(*arguments)
    assert process.wait(TIMEOUT_S) == 0, Path('err.txt').read_text()
    return Path('out.txt').read_text()


def kill_after_saves(process, path, saves, delay_s):
    """kill -9, some time after the checkpoint was written that often."""
    deadline, seen = time.monotonic() + TIMEOUT_S, set()
    try:
        while len(seen) < saves:
            assert process.poll() is None, Path('err.txt').read_text() or 'the run was over before it was killed'
            assert time.monotonic() < deadline
            if path.exists():
                seen.add(path.stat().st_mtime_ns)
            time.sleep(0.002)
        time.sleep(delay_s)
        assert process.poll() is None, 'the run was over before it was killed'
    finally:
        process.kill()
        process.wait()
