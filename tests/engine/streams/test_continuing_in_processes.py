"""A stream that keeps what it knew, in one process and in two."""

import pytest
import torch
from pair_streams import by_class, stream_config, write_pairs
from ranks import run_ranks
from torch.nn import functional
from torch.utils.data import default_collate

from clear.core.errors import ConfigError
from clear.core.files import load_tensors
from clear.core.seeding import derive_seed
from clear.engine.streams.branch import find_branch
from clear.engine.streams.pretraining import read_stream_images, read_stream_options, train_stream
from clear.engine.training.keys import check_runner_config
from clear.engine.training.runner import Runner

BUCKETS = ['2020', '2021']
EWC = dict(weight=50.0, batch_size=4, num_batches=3)


def config(root, folder, batch_size, **stream):
    cfg = stream_config(by_class(root), folder, **stream)
    cfg.stream.buckets = BUCKETS
    cfg.train_dataloader.batch_size = batch_size
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.05, momentum=0.9)  # Adam's first steps are signs of gradients
    return cfg


def train(rank, root, folder, batch_size, stream, branch=None):
    configs = {}

    def run(one, part, resume):
        check_runner_config(one)
        part.mkdir(parents=True, exist_ok=True)
        configs[part.name] = one
        Runner.from_cfg(one).train(resume=resume)

    cfg = config(root, folder, batch_size, **stream)
    if branch is not None:
        options = read_stream_options(cfg)
        branch = find_branch(branch, cfg, options, read_stream_images(cfg, options), folder)
    train_stream(cfg, folder, run, branch=branch)
    return configs if rank is None else None


@pytest.mark.slow
def test_two_processes_keep_what_one_keeps(tmp_path):
    torch.set_num_threads(1)
    root = write_pairs(tmp_path / 'pairs', per_colour=4)
    stream = dict(mode='distil', distil=dict(features=0.5, logits=0.5), interpolate=0.5, ewc=EWC)
    configs = train(None, root, tmp_path / 'one', 4, stream)
    (tmp_path / 'ranks').mkdir()
    run_ranks(train, 2, tmp_path / 'ranks', root, tmp_path / 'two', 2, stream)
    for bucket in BUCKETS:
        one, two = (load_tensors(tmp_path / each / f'bucket_{bucket}' / 'latest.pth') for each in ('one', 'two'))
        torch.testing.assert_close(two['state_dict'], one['state_dict'], rtol=1e-4, atol=1e-5)
        one, two = (load_tensors(tmp_path / each / f'bucket_{bucket}' / 'importance.pth') for each in ('one', 'two'))
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-6)
        assert max(value.max() for value in one.values()) > 1e-3, 'there is something to compare'
    (tmp_path / 'again').mkdir()
    run_ranks(train, 2, tmp_path / 'again', root, tmp_path / 'branch', 2, stream,
              tmp_path / 'two' / 'bucket_2020' / 'latest.pth')
    for name in ('latest.pth', 'importance.pth'):
        one, other = (load_tensors(tmp_path / each / 'bucket_2021' / name) for each in ('two', 'branch'))
        torch.testing.assert_close(other.get('state_dict', other), one.get('state_dict', one), rtol=0, atol=0)
    found = load_tensors(tmp_path / 'two' / 'bucket_2020' / 'importance.pth')
    torch.testing.assert_close(found, by_loop(configs['bucket_2020'], tmp_path / 'two'), rtol=1e-3, atol=1e-6)


def by_loop(one, folder):
    """The squared gradient of CLIP's loss of four pairs, written out, mean over three batches."""
    runner = Runner.from_cfg(one)
    runner.build()
    model, dataset = runner.bare_model.eval(), runner.train_dataloader.dataset
    model.load_state_dict(load_tensors(folder / 'bucket_2020' / 'latest.pth')['state_dict'])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(derive_seed('importance', 3))).tolist()
    sums = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for rows in (order[:4], order[4:8], order[8:]):
        batch = default_collate([dataset[1, row] for row in rows])
        model.zero_grad()
        image, text = (functional.normalize(each, dim=1) for each in model(batch['inputs'], batch['captions']))
        scores = model.logit_scale.exp() * image @ text.T
        total = sum(-scores[row].log_softmax(0)[row] - scores[:, row].log_softmax(0)[row] for row in range(4))
        (total / 8).backward()
        for name, value in model.named_parameters():
            sums[name] += value.grad ** 2 / 3
    return sums


def refused(rank, root, folder):
    with pytest.raises(ConfigError, match='batch_size is 3, which 2 processes cannot share'):
        train(rank, root, folder, 2, dict(ewc=dict(EWC, batch_size=3)))


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path):
    root = write_pairs(tmp_path / 'pairs')
    (tmp_path / 'ranks').mkdir()
    run_ranks(refused, 2, tmp_path / 'ranks', root, tmp_path / 'run')
