"""A loss that remembers what it has seen goes on with it after a stop."""

import pytest
import torch
from clear_trees import write_clear_tree
from quick_runs import built, config, stop, trained, weights_of, without_figures
from ranks import run_ranks

from clear.core.files import load_tensors
from clear.registry import MODELS

SEESAW = dict(type='SeesawLoss', num_classes=3, reduction='mean')


@MODELS.register_module()
class CountingLoss(torch.nn.Module):
    """Cross-entropy that weighs the n-th batch with 1 + 1 / n, the count in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer('batches', torch.zeros(()))

    def forward(self, logits, targets):
        if self.training and torch.is_grad_enabled():
            self.batches += 1
        return torch.nn.functional.cross_entropy(logits, targets) * (1 + 1 / self.batches.clamp(min=1))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize('loss', [SEESAW, dict(type='CountingLoss')], ids=lambda loss: loss['type'])
@pytest.mark.parametrize('place', [(1, 1), (2, 3)])
def test_a_resumed_run_ends_as_the_whole_one(loss, place, root, tmp_path):
    whole = trained(config(root, strategy=dict(loss=loss)), tmp_path / 'whole')
    stop(built(config(root, strategy=dict(loss=loss)), tmp_path / 'run'), *place)
    resumed = trained(config(root, strategy=dict(loss=loss)), tmp_path / 'run', resume=True)
    assert same(weights_of(tmp_path / 'run'), weights_of(tmp_path / 'whole'))
    assert same(resumed.strategy._criterion.state_dict(), whole.strategy._criterion.state_dict())
    branched = trained(config(root, strategy=dict(loss=loss)), tmp_path / 'branch',
                       branch=str(tmp_path / 'whole' / 'exp_0.pth'))
    assert same(branched.model.state_dict(), weights_of(tmp_path / 'whole'))


def test_a_branch_with_another_loss_begins_it_anew(root, tmp_path):
    trained(config(root, strategy=dict(loss=SEESAW)), tmp_path / 'first')
    branched = trained(config(root, strategy=dict(loss=dict(type='CountingLoss'))), tmp_path / 'branch',
                       branch=str(tmp_path / 'first' / 'exp_1.pth'))
    assert branched.strategy._criterion.batches == 6  # of the last experience


def test_a_plain_loss_leaves_nothing_in_the_checkpoint(root, tmp_path):
    trained(config(root), tmp_path)
    assert 'criterion' not in load_tensors(tmp_path / 'latest.pth')['strategy']


def run_of_ranks(_rank, root, folder):
    runner = built(config(root, strategy=dict(loss=SEESAW, train_mb_size=9)), folder)
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        patch.setattr('clear.continual.training.parallel.choose_mode', lambda *args, **kwargs: 'shard')
        runner.train()
    return dict(weights=dict(runner.model.state_dict()), seen=runner.strategy._criterion.cum_samples,
                mode=runner.strategy.mode)


@pytest.mark.slow
def test_every_process_counts_all_rows(root, tmp_path):
    (tmp_path / 'one').mkdir()
    (tmp_path / 'two').mkdir()
    one, *two = run_of_ranks(0, root, tmp_path / 'one'), *run_ranks(run_of_ranks, 2, tmp_path / 'two', root,
                                                                    tmp_path / 'two' / 'run')
    for rank in two:
        assert rank['mode'] == 'gather' and torch.equal(rank['seen'], one['seen'])
        torch.testing.assert_close(rank['weights'], one['weights'], rtol=1e-6, atol=1e-6)  # rounding of float32
