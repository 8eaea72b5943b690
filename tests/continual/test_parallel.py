"""Gathering rows, choosing a mode, checking that processes agree: with ranks played one after the other, and two."""

import multiprocessing

import pytest
import torch
import torch.distributed as torch_dist
from many_strategies import built
from tiny_runs import write_stream
from torch import nn

from clear.continual.strategies.build import strategy_class
from clear.continual.training.parallel import MODES, _digest, check_equal_on_ranks, choose_mode
from clear.core import dist
from clear.core.dist import gather_strided_rows
from clear.core.errors import TrainingError
from clear.registry import LEFT_OUT_STRATEGIES, STRATEGIES


def as_rank(patch, rank, world_size):
    patch.setattr('clear.core.dist.rank', lambda: rank)
    patch.setattr('clear.core.dist.world_size', lambda: world_size)


# Gathering


def play_ranks(patch, model, inputs, loss_of, world_size):
    """Gathered logits of every rank, and the gradients that a sum over the ranks would give."""
    rows = [list(range(len(inputs)))[rank::world_size] or [0] for rank in range(world_size)]
    sent = {}

    def gather(parts, own):
        for rank, part in enumerate(parts):
            part.copy_(own if rank == dist.rank() else sent[rank])

    patch.setattr('torch.distributed.all_gather', gather)
    for rank, own in enumerate(rows):  # what each would send: its rows, filled up to those of the first
        out = model(inputs[own]).detach()
        sent[rank] = torch.cat([out, out.new_zeros(-(-len(inputs) // world_size) - len(out), *out.shape[1:])])
    gathered, total = [], [torch.zeros_like(parameter) for parameter in model.parameters()]
    for rank, own in enumerate(rows):
        as_rank(patch, rank, world_size)
        logits = gather_strided_rows(model(inputs[own]), len(inputs))
        gathered.append(logits.detach())
        slopes = torch.autograd.grad(loss_of(logits) / world_size, list(model.parameters()))
        total = [part + slope for part, slope in zip(total, slopes)]
    return gathered, total


def spread(logits):
    """A loss that no mean over rows can give: every row against every other one."""
    return torch.cdist(logits, logits + 1).square().sum() + logits.logsumexp(0).sum()


@pytest.mark.parametrize('world_size', [1, 2, 3, 5])
@pytest.mark.parametrize('size', [1, 2, 4, 7])
def test_any_loss_of_gathered_rows_has_the_gradient_of_one_process(world_size, size, monkeypatch):
    torch.manual_seed(size)
    model, inputs = nn.Linear(3, 2).double(), torch.randn(size, 3, dtype=torch.float64)
    logits = model(inputs)
    expected = torch.autograd.grad(spread(logits), list(model.parameters()))
    gathered, total = play_ranks(monkeypatch, model, inputs, spread, world_size)
    for rows in gathered:
        torch.testing.assert_close(rows, logits.detach())
    for part, wanted in zip(total, expected):
        torch.testing.assert_close(part, wanted)


# Modes


# Those that were shown to give the result of one process on several.
DIVIDED = {'shard': {'Naive', 'Cumulative', 'JointTraining', 'FromScratchTraining', 'Replay', 'GDumb', 'LwF', 'LFL',
                     'EWC', 'MAS', 'SynapticIntelligence', 'AGEM', 'GEM'},
           'gather': {'DER', 'ER_ACE'}}


def test_what_was_shown_to_be_exact_is_divided_and_no_more():
    names = {*STRATEGIES.known_names()} - {*LEFT_OUT_STRATEGIES}
    assert names >= DIVIDED['shard'] | DIVIDED['gather'] | {'MER', 'NCM', 'DERpp'}
    for division in MODES:
        expected = DIVIDED.get(division, names - DIVIDED['shard'] - DIVIDED['gather'])
        assert {name for name in names if strategy_class(name).division == division} == expected


def test_tensors_are_gathered_and_images_sharded_where_both_are_exact():
    assert choose_mode('shard', [], tensors=True) == 'gather' and choose_mode('shard', [], tensors=False) == 'shard'
    assert choose_mode('gather', [], tensors=True) == choose_mode('gather', [], tensors=False) == 'gather'


def test_what_nobody_looked_at_is_replicated():
    assert choose_mode('replicate', [], tensors=True) == choose_mode('replicate', [], tensors=False) == 'replicate'
    assert choose_mode('shard', ['LwFPlugin'], tensors=True) == 'replicate'


# Agreement

EQUAL = {'a': [1, (2.5, 'x')], 3: torch.arange(6.0).reshape(2, 3), 'empty': torch.zeros(0), 'none': None}


@pytest.mark.parametrize('other', [
    {**EQUAL, 'a': [1, (2.5, 'y')]}, {**EQUAL, 'a': [1, 2.5, 'x']}, {**EQUAL, 'none': 'None'},
    {**EQUAL, 3: torch.arange(6.0).reshape(3, 2)}, {**EQUAL, 3: torch.arange(6.0).reshape(2, 3).double()},
    {**EQUAL, 3: torch.arange(6.0).reshape(2, 3) + torch.tensor([0, 0, 1e-6])}, {**EQUAL, 'empty': torch.zeros(0, 1)},
    {**EQUAL, 'more': 1}, {key: EQUAL[key] for key in ('a', 3, 'empty')}, [1, 2], [12], [[1], 2], [1, [2]], '[1, 2]'],
    ids=lambda value: repr(value)[:40].replace('\n', ''))
def test_a_digest_tells_values_apart(other):
    others = [EQUAL, [1, 2], [12], [[1], 2], [1, [2]], '[1, 2]']
    assert sum(torch.equal(_digest(other), _digest(value)) for value in others) == (1 if isinstance(other, (list, str))
                                                                                    else 0)


def test_a_digest_is_of_values_not_of_layout():
    rows = torch.arange(6.0).reshape(2, 3)
    copy = {**EQUAL, 3: rows.t().contiguous().t()}
    assert not copy[3].is_contiguous() and torch.equal(_digest(copy), _digest(EQUAL))
    for value in (torch.tensor(True), torch.ones(2).bfloat16(), torch.tensor(3), torch.ones(1, dtype=torch.uint8)):
        assert torch.equal(_digest(value), _digest(value.clone()))
    # Each process has its own GPU.
    assert torch.equal(_digest(dict(data=1, device='cuda:0')), _digest(dict(data=1, device='cuda:1')))


def disagree(rank, folder, root):
    """Of two ranks: nothing differs; one part differs; a run in which something of the second rank is changed."""
    torch.set_num_threads(1)
    torch_dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    said = {}
    check_equal_on_ranks(dict(weights=torch.ones(3), other=[1]))
    try:
        check_equal_on_ranks(dict(weights=torch.ones(3), other=[rank]))
    except TrainingError as error:
        said['direct'] = str(error)
    for what in ('weights', 'memory', 'random numbers'):
        runner = built(root, 'Replay')
        train = runner.strategy.train

        def spoil(*args, train=train, what=what, strategy=runner.strategy, **kwargs):
            train(*args, **kwargs)
            if rank == 1 and what == 'weights':
                next(strategy.model.parameters()).data[0] += 1e-6
            elif rank == 1 and what == 'memory':
                policy = next(plugin for plugin in strategy.plugins if hasattr(plugin, 'storage_policy'))
                policy.storage_policy.seen_experiences = 7
            elif rank == 1:
                torch.rand(1)

        runner.strategy.train = spoil
        try:
            runner.train()
        except TrainingError as error:
            said[what] = str(error)
    torch.save(said, f'{folder}/{rank}.pth')
    torch_dist.destroy_process_group()


def test_processes_that_part_stop_and_say_what_differs(tmp_path):
    root = write_stream(tmp_path / 'stream')
    processes = [multiprocessing.get_context('fork').Process(target=disagree, args=(rank, str(tmp_path), root))
                 for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    for rank in range(2):
        said = torch.load(tmp_path / f'{rank}.pth')
        assert said['direct'].startswith('The processes do not agree any more on: other. Results')
        for what, named in (('weights', 'weights'), ('memory', 'what the strategy remembers'),
                            ('random numbers', 'random numbers')):
            assert f'any more on: {named}. Results would depend on their number' in said[what]


def test_one_process_has_nobody_to_disagree_with(monkeypatch):
    monkeypatch.setattr('torch.distributed.all_gather', lambda *args: pytest.fail('called'))
    check_equal_on_ranks(dict(a=1))
