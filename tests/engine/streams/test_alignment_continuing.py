"""Two towers that keep what they knew of earlier buckets: by their weights, and by an earlier pair."""

import math
from types import SimpleNamespace

import pytest
import torch
from pair_streams import by_class, stream_config, write_pairs
from short_runs import read_results
from torch import nn
from torch.nn import functional
from torch.utils.data import default_collate

from clear.core.errors import CheckpointError, ConfigError, Interrupted
from clear.core.files import load_tensors, save_tensors
from clear.core.seeding import derive_seed
from clear.engine.streams.pretraining import read_stream_options, train_stream
from clear.engine.training.hooks.continuing import WeightInterpolationHook
from clear.engine.training.keys import check_runner_config
from clear.engine.training.runner import Runner
from clear.models.alignment.continued import continued
from clear.registry import MODELS

FIRST = ('2020', '2021')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    torch.set_num_threads(1)
    return write_pairs(tmp_path_factory.mktemp('pairs'))


@pytest.fixture(scope='module')
def plain(root, tmp_path_factory):
    """A stream over two buckets that keeps nothing."""
    folder = tmp_path_factory.mktemp('plain')
    train_stream(short(root, folder), folder, run_to())
    return folder


def short(root, folder, **stream):
    cfg = stream_config(by_class(root), folder, **stream)
    cfg.stream.buckets = list(FIRST)
    return cfg


def run_to(stops=None):
    def run(one, folder, resume):
        check_runner_config(one)
        folder.mkdir(parents=True, exist_ok=True)
        runner = Runner.from_cfg(one)
        runner.build()
        runner.stop_requested = folder.name == stops and not resume
        runner.train(resume=resume)

    return run


def weights(folder):
    return load_tensors(folder / 'latest.pth')['state_dict']


def same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_bucket_ends_between_its_first_weights_and_those_it_trained(root, plain, tmp_path):
    train_stream(short(root, tmp_path, interpolate=0.25), tmp_path, run_to())
    before, after = (weights(plain / f'bucket_{name}') for name in FIRST)
    same(weights(tmp_path / 'bucket_2020'), before)
    for name, value in weights(tmp_path / 'bucket_2021').items():
        expected = 0.75 * before[name] + 0.25 * after[name] if value.is_floating_point() else after[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_everything_at_once_that_was_stopped_ends_as_what_was_not(root, tmp_path):
    cfg = short(root, tmp_path, mode='distil', distil=dict(features=0.5, logits=0.5), interpolate=0.5,
                ewc=dict(weight=10.0, batch_size=3, num_batches=2))
    train_stream(cfg, tmp_path / 'whole', run_to())
    with pytest.raises(Interrupted):
        train_stream(cfg, tmp_path / 'run', run_to('bucket_2021'))
    train_stream(cfg, tmp_path / 'run', run_to('bucket_2021'), resume=True)
    for name in FIRST:
        same(weights(tmp_path / 'run' / f'bucket_{name}'), weights(tmp_path / 'whole' / f'bucket_{name}'))
        same(*(load_tensors(tmp_path / each / f'bucket_{name}' / 'importance.pth') for each in ('run', 'whole')))
    metrics = read_results(tmp_path / 'run' / 'bucket_2021')['metrics']
    assert {'loss_pairs', 'loss_features', 'loss_logits', 'loss_ewc'} <= metrics.keys()
    first, second = (load_tensors(tmp_path / 'run' / f'bucket_{name}' / 'importance.pth') for name in FIRST)
    assert all((second[name] >= value).all() for name, value in first.items()), 'they add up over buckets'
    assert any((second[name] > value).any() for name, value in first.items())


def test_importance_is_the_mean_square_of_the_gradient_of_a_batch(root, tmp_path):
    cfg = short(root, tmp_path, ewc=dict(weight=1.0, batch_size=2, num_batches=2))
    seen = {}

    def run(one, folder, resume):
        run_to()(one, folder, resume)
        seen[folder.name] = one

    train_stream(cfg, tmp_path, run)
    runner = Runner.from_cfg(seen['bucket_2020'])
    runner.build()
    model, dataset = runner.bare_model, runner.train_dataloader.dataset
    model.load_state_dict(weights(tmp_path / 'bucket_2020'))
    model.eval()
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(derive_seed('importance', 3)))
    found = load_tensors(tmp_path / 'bucket_2020' / 'importance.pth')
    sums = {name: torch.zeros_like(value) for name, value in found.items()}
    for rows in (order[:2], order[2:4]):
        batch = default_collate([dataset[1, int(row)] for row in rows])
        model.zero_grad()
        image, text = (functional.normalize(each, dim=1) for each in model(batch['inputs'], batch['captions']))
        scores = model.logit_scale.exp() * image @ text.T
        target = torch.arange(2)
        ((functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2).backward()
        for name, value in model.named_parameters():
            if value.grad is not None:
                sums[name] += value.grad ** 2 / 2
    torch.testing.assert_close(found, sums, rtol=1e-3, atol=1e-8)


@pytest.fixture
def moved(root, plain):
    """A pair that has left its checkpoint, its config and the checkpoint."""
    path = plain / 'bucket_2020' / 'latest.pth'
    cfg = stream_config(by_class(root), plain).model.to_dict()
    model = MODELS.build(cfg)
    model.load_state_dict(weights(path.parent))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.01 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
    return model, cfg, path


def test_an_earlier_pair_is_followed_in_features_and_scores(moved):
    model, cfg, path = moved
    earlier = MODELS.build(cfg)
    earlier.load_state_dict(weights(path.parent))
    names = [*model.state_dict()]
    kept = continued(model, path, features=0.5, logits=2.0)
    assert [*kept.state_dict()] == names, 'the earlier pair is not in its checkpoints'
    images, captions = torch.randn(3, 3, 32, 32), ['a red picture', 'all green', 'all blue']
    losses = kept.eval().loss(images, captions)
    unit = lambda pair: [functional.normalize(each, dim=1) for each in pair]  # noqa: E731
    with torch.no_grad():
        (image, text), (old_image, old_text) = unit(kept(images, captions)), unit(earlier.eval()(images, captions))
        distance = sum((each - old).square().sum(1).mean() for each, old in ((image, old_image), (text, old_text))) / 2
        total = 0.0
        scale, old_scale = kept.logit_scale.exp(), earlier.logit_scale.exp()
        for now, before in ((scale * image @ text.T, old_scale * old_image @ old_text.T),
                            (scale * text @ image.T, old_scale * old_text @ old_image.T)):
            for row in range(3):
                target = [math.exp(value) for value in before[row]]
                for column in range(3):
                    chance = math.exp(now[row, column]) / sum(math.exp(value) for value in now[row])
                    total -= target[column] / sum(target) * math.log(chance) / 3 / 2
    assert losses['loss_features'].item() == pytest.approx(0.5 * distance.item(), rel=1e-4)
    assert losses['loss_logits'].item() == pytest.approx(2 * total, rel=1e-4)
    losses['loss_logits'].backward()
    assert kept.image_encoder is model.image_encoder
    assert all(value.grad is None for term in kept.terms for value in term.previous.parameters())


def test_weights_that_mattered_are_held(moved, tmp_path):
    model, _, path = moved
    before = weights(path.parent)
    importance = {name: torch.rand(value.shape) for name, value in model.named_parameters()}
    save_tensors(tmp_path / 'latest.pth', dict(state_dict=before))
    with pytest.raises(CheckpointError, match='importance.pth is not there'):
        continued(model, tmp_path / 'latest.pth', ewc=3.0)
    save_tensors(tmp_path / 'importance.pth', importance)
    kept = continued(model, tmp_path / 'latest.pth', ewc=3.0)
    losses = kept.loss(torch.randn(2, 3, 32, 32), ['a red picture', 'all blue'])
    expected = sum((importance[name] * (value.detach() - before[name]) ** 2).sum().item()
                   for name, value in model.named_parameters())
    assert losses['loss_ewc'].item() == pytest.approx(1.5 * expected, rel=1e-4)
    save_tensors(tmp_path / 'importance.pth', dict(importance, other=torch.ones(2)))
    with pytest.raises(CheckpointError, match="'other' is not among its parameters"):
        continued(model, tmp_path / 'latest.pth', ewc=3.0)


@pytest.mark.parametrize('changes, message', [
    (dict(interpolate=1), 'above 0 and below 1'),
    (dict(interpolate=0.5, start='first'), 'does not begin there'),
    (dict(ewc=dict(batch_size=3)), 'stream.ewc.weight'),
    (dict(ewc=dict(weight=1, batchsize=3)), "Did you mean 'batch_size'"),
    (dict(mode='replay', replay_size=4, replay_shares='half'), 'stream.replay_shares'),
    (dict(mode='replay', replay_size='all', replay_shares='equal'), 'give its size'),
    (dict(mode='distil', distil=dict(logit=1)), "Did you mean 'logits'")])
def test_wrong_options_are_refused_before_training(changes, message, root, tmp_path):
    cfg = short(root, tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        train_stream(cfg, tmp_path / 'run', lambda *args: pytest.fail('trained'))


@pytest.mark.parametrize('distil, message', [
    (dict(logits='a'), 'stream.distil.logits'), (dict(features=-1.0), 'stream.distil.features'),
    (dict(logits=0.0), 'must be above 0')])
def test_weights_of_distillation_are_checked_before_training(distil, message, root, tmp_path):
    cfg = short(root, tmp_path, mode='distil', distil=distil)
    with pytest.raises(ConfigError, match=message):
        train_stream(cfg, tmp_path / 'run', lambda *args: pytest.fail('trained'))


@pytest.mark.parametrize('key', ['interpolate', 'ewc', 'evaluation'])
@pytest.mark.parametrize('hook', ['EMAHook', 'mmengine.EMAHook'])
def test_an_average_of_weights_is_refused_beside_what_works_on_the_weights(key, hook, root, tmp_path):
    options = dict(interpolate=0.5, ewc=dict(weight=1.0, batch_size=3), evaluation=dict(
        data=dict(test=by_class(root)), tasks=[dict(type='ZeroShot')]))
    cfg = short(root, tmp_path, **{key: options[key]})
    cfg.custom_hooks = [dict(type=hook, momentum=0.3)]
    with pytest.raises(ConfigError, match=f'stream.{key} works on the weights that train'):
        train_stream(cfg, tmp_path / 'run', lambda *args: pytest.fail('trained'))
    cfg.stream.pop(key)
    assert read_stream_options(cfg).mode == 'finetune', 'without it an average is a way to train'


def test_state_of_a_loss_is_not_interpolated(tmp_path):
    class Criterion(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.register_buffer('queue', torch.full((4,), value))
            self.norm = nn.BatchNorm1d(1, affine=False)
            self.norm.running_mean.fill_(value)

    class Model(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.weight, self.criterion = nn.Parameter(torch.full((2,), value)), Criterion(value)

    save_tensors(tmp_path / 'latest.pth', dict(state_dict=Model(1.0).state_dict()))
    model = Model(3.0)
    WeightInterpolationHook(0.25).finish(SimpleNamespace(bare_model=model, cfg=dict(
        load_from=str(tmp_path / 'latest.pth'))))
    assert model.weight.tolist() == [1.5, 1.5] and model.criterion.norm.running_mean.tolist() == [1.5]
    assert model.criterion.queue.tolist() == [3.0] * 4
