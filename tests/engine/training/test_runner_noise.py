"""Random numbers of several processes: a stream of its own for each in training, the same start and data for all."""

import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from ranks import run_ranks
from toy_runs import StopAt, ToyPairs, toy_run, toy_runner

from clear.core.errors import Interrupted
from clear.core.files import load_tensors
from clear.engine import origin
from clear.engine.training import state as runner_state
from clear.registry import MODELS

pytest.importorskip('mmpretrain')


@MODELS.register_module()
class ToyQueue(ToyPairs):
    """With a buffer that is drawn when it is built, as a queue of keys is."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_buffer('queue', torch.randn(6, 8))


class Watch(Hook):
    """Keeps what every iteration got, and a draw from each of the three generators."""

    def __init__(self):
        self.views, self.draws = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.views.append(data_batch['inputs'][0].clone())
        self.draws.append(torch.tensor([torch.rand((), dtype=torch.float64).item(), np.random.rand(),
                                        random.random()], dtype=torch.float64))


OPTIONS = dict(model=dict(type='ToyQueue', has_bn=False, keeps_average=False), param_scheduler=None)
LOADERS = dict(
    ours=dict(dataset=dict(type='ToyViews')),
    mmengine=dict(dataset=dict(type='ToyDraws'), sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='default_collate'), drop_last=True))


def watched(folder, batch, loader='ours', stop=None, resume=None):
    """Weights and buffers at the start and the end, views and draws of every iteration."""
    watch = Watch()
    runner = toy_runner(folder, [watch, *([StopAt(stop)] if stop else [])], **OPTIONS,
                        train_dataloader=dict(batch_size=batch, num_workers=0, **LOADERS[loader]))
    start = {name: value.clone() for name, value in runner.bare_model.state_dict().items()}
    try:
        runner.train(resume=resume)
    except Interrupted:
        assert stop
    return dict(start=start, end=dict(runner.bare_model.state_dict()), views=torch.stack(watch.views),
                draws=torch.stack(watch.draws))


def on_rank(rank, folder):
    found = {loader: watched(folder / loader, 2, loader) for loader in LOADERS}
    for name, stop in (('inside', 9), ('between', 6)):
        watched(folder / name, 2, stop=stop)
        found[name] = watched(folder / name, 2, resume=True)
    watched(folder / 'fewer', 2, stop=9)
    return found


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """What each of two processes found, and their folder."""
    folder = tmp_path_factory.mktemp('two')
    (folder / 'meeting').mkdir()
    return run_ranks(on_rank, 2, folder / 'meeting', folder), folder


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    return {loader: watched(tmp_path_factory.mktemp('one') / loader, 4, loader) for loader in LOADERS}


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_every_process_draws_noise_of_its_own(two, one):
    first, second = (rank['ours']['draws'] for rank in two[0])
    assert (first != second).all(), 'all three generators, in every iteration'
    assert len(torch.cat([first, second]).unique()) == 2 * 18 * 3
    same(first[0], one['ours']['draws'][0])  # the first process begins as one alone


def test_what_is_drawn_to_build_a_model_is_the_same_everywhere(two, one):
    for rank in two[0]:
        same(rank['ours']['start'], one['ours']['start'])
        same(rank['ours']['end'], two[0][0]['ours']['end'])


@pytest.mark.parametrize('loader', LOADERS)
def test_noise_does_not_change_the_data(two, one, loader):
    """Both processes' views are, together, those of one process: the same images with the same noise in the views."""
    for whole, *parts in zip(one[loader]['views'], *(rank[loader]['views'] for rank in two[0])):
        same(sorted(torch.cat(parts).sum((1, 2, 3)).tolist()), sorted(whole.sum((1, 2, 3)).tolist()))


@pytest.mark.parametrize(('name', 'start'), [('inside', 9), ('between', 6)])
def test_two_processes_resume_exactly(two, name, start):
    for rank in two[0]:
        same(rank[name]['draws'], rank['ours']['draws'][start:])
        same(rank[name]['views'], rank['ours']['views'][start:])
        same(rank[name]['end'], rank['ours']['end'])


def test_a_checkpoint_holds_the_generators_of_every_process(two):
    states = load_tensors(two[1] / 'ours/latest.pth')['rng']
    assert len(states) == 2
    for kind, part in (('torch', None), ('numpy', 'keys'), ('python', 'internal')):
        numbers = [state[kind][part] if part else state[kind] for state in states]
        assert not torch.equal(*numbers)


def more_on_rank(rank, folder, name):
    return watched(folder / name, 2, resume=True)


def test_other_numbers_of_processes_go_on_with_streams_apart(two, tmp_path):
    """Two, then one: the first one's stream. One, then two: the second begins one of its own, always the same."""
    alone = watched(two[1] / 'fewer', 4, resume=True)
    same(alone['draws'][0], two[0][0]['ours']['draws'][9])
    results = []
    for name in ('a', 'b'):
        watched(tmp_path / name, 4, stop=9)
        (tmp_path / f'meeting_{name}').mkdir()
        results.append([rank['draws'] for rank in
                        run_ranks(more_on_rank, 2, tmp_path / f'meeting_{name}', tmp_path, name)])
    same(results[0], results[1])
    assert (results[0][0] != results[0][1]).all()
    assert not set(results[0][1].flatten().tolist()) & set(two[0][1]['ours']['draws'].flatten().tolist())


@pytest.mark.parametrize(('was', 'now', 'words'), [
    (4, 2, 'the 2 process(es) go on with those of the first 2, the others end'),
    (1, 3, 'the first 1 process(es) go on with theirs, 2 more begin some of their own'), (2, 2, None)])
def test_a_resume_says_what_becomes_of_the_streams(monkeypatch, was, now, words):
    said = []
    monkeypatch.setattr(runner_state.dist, 'world_size', lambda: now)
    monkeypatch.setattr(origin.logger, 'info', lambda text, *args: said.append(text % args))
    origin.note_processes(dict(progress=dict(world_size=was)), runner_state._fate_of_random_numbers(was))
    assert len(said) == (words is not None) and all(words in text and 'dropout' in text for text in said)


def test_a_seed_per_process_changes_nothing(tmp_path):
    """mmengine's key would give every process another order of the data."""
    one, other = (toy_run(tmp_path / str(key), randomness=dict(seed=None, diff_rank_seed=key)) for key in (0, 1))
    assert one.seed == other.seed == 3
    torch.testing.assert_close(one.bare_model.state_dict(), other.bare_model.state_dict(), rtol=0, atol=0)
