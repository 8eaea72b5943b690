"""Locked towers are read from banks: as without them, stopped and resumed, with bad images, under their own names."""

import json
import os
import signal

import pytest
import torch
from PIL import Image
from quick_runs import weights_of
from ranks import run_ranks
from short_runs import read_results, run
from tiny_text import TINY_CLIP

from clear.core.errors import ConfigError, DataError, TrainingError
from clear.engine.training.banks import describe_banks, read_banks
from clear.engine.training.program import build_runner
from clear.features import FeatureBank
from clear.models.alignment.weight_averages import interpolate
from clear.models.towers.image import ImageEncoder
from clear.models.towers.text import TextEncoder

COLOURS = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210))
HEAD = dict(type='ProjectionMLP', num_layers=1, out_channels=12)
SIZED = [dict(type='Resize', size=[32, 32]), dict(type='ToTensor')]
RANDOM = [dict(type='RandomResizedCrop', size=32, scale=(0.5, 1.0)), dict(type='ToTensor')]
TEMPLATES = ['a {} picture', 'all {}', 'the {} photo of a car']


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('colours')
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for row in range(6):
            Image.new('RGB', (36, 40), tuple(value + 5 * row for value in colour)).save(folder / name / f'{row}.png')
    return folder


def config(root, banks, image=False, text=False, transform=SIZED, **changes):
    """Two epochs of three batches; `image` and `text` say which towers train."""
    images = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(root)), templates=TEMPLATES)
    args = dict(arch='ViT-B-32', model_args=TINY_CLIP)
    dataset = dict(type='ImageTextPairs', images=images, transform=transform, max_bad_fraction=0.1)
    return dict(
        model=dict(type='ImageTextAlignment', image_head=HEAD, text_head=HEAD,
                   loss=dict(type='InfoNCELoss', detach_teacher=False),  # so that its head trains
                   image_encoder=dict(type='OpenCLIPImageEncoder', trainable=image, **args),
                   text_encoder=dict(type='OpenCLIPTextEncoder', trainable=text, **args)),
        train_dataloader=dict(batch_size=6, num_workers=0, dataset=dataset | changes.pop('dataset', {})),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)), train_cfg=dict(by_epoch=True, max_epochs=2),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        threads=1, seed=3, device='cpu', banks=dict(root=str(banks))) | changes


def trained(work_dir, cfg, *options):
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    path = work_dir.with_suffix('.json')
    path.write_text(json.dumps(cfg))
    done = run('train', path, '--work-dir', work_dir, *options)
    assert done.code == 0, done.err
    return done


def losses_of(work_dir):
    lines = [json.loads(line) for line in (work_dir / 'vis_data' / 'scalars.json').read_text().splitlines()]
    return torch.tensor([line['loss'] for line in lines if 'loss' in line], dtype=torch.float64)


def banks_below(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def forwards(monkeypatch):
    """How often training ran a tower, once the banks were there."""
    found = dict(image=0, text=0, is_training=False)

    def counted(side, kind, name):
        original = getattr(kind, name)

        def forward(self, *args, **kwargs):
            found[side] += found['is_training']
            return original(self, *args, **kwargs)
        monkeypatch.setattr(kind, name, forward)

    def reading(runner):
        read_banks(runner)
        found['is_training'] = True

    counted('image', ImageEncoder, 'forward')
    counted('text', TextEncoder, 'forward')
    monkeypatch.setattr('clear.engine.training.runner.read_banks', reading)
    return found


@pytest.mark.parametrize(('trainable', 'expected'), [
    (dict(), dict(image=0, text=0)), (dict(image=True), dict(image=6, text=0)),
    (dict(text=True), dict(image=0, text=6)), (dict(image=True, transform=RANDOM), dict(image=6, text=0)),
    (dict(transform=RANDOM), dict(image=6, text=0)),
    (dict(dataset=dict(every_caption=True)), dict(image=0, text=0))])
def test_losses_and_weights_are_those_of_a_run_without_banks(root, tmp_path, forwards, trainable, expected):
    trained(tmp_path / 'with', config(root, tmp_path / 'banks', **trainable))
    seen = {side: forwards[side] for side in ('image', 'text')}
    steps = 18 if 'dataset' in trainable else 6
    assert seen == expected
    forwards['is_training'] = False
    trained(tmp_path / 'without', config(root, tmp_path / 'none', **trainable, use_banks=False))
    assert {side: forwards[side] - seen[side] for side in seen} == dict(image=steps, text=steps)
    assert banks_below(tmp_path / 'none') == [] and len(losses_of(tmp_path / 'with')) == steps
    torch.testing.assert_close(losses_of(tmp_path / 'with'), losses_of(tmp_path / 'without'), rtol=1e-5, atol=1e-5)
    ours, theirs = weights_of(tmp_path / 'with'), weights_of(tmp_path / 'without')
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 if trainable.get('image') or trainable.get('text')
                               else 1e-5)


def test_a_text_stands_once_in_its_bank_and_the_draw_picks_a_row(root, tmp_path):
    cfg = config(root, tmp_path / 'banks')
    runner = build_runner(dict(cfg, work_dir=str(tmp_path / 'work')))
    dataset = runner.train_dataloader.dataset
    keys = [(epoch, index) for epoch in range(3) for index in range(18)]
    captions = [dataset[key]['captions'] for key in keys]
    pixels = torch.stack([dataset[key]['inputs'] for key in keys])
    read_banks(runner)
    place, = (path for path in (tmp_path / 'banks').iterdir() if path.name.startswith('texts_'))
    bank = FeatureBank.open(place)
    assert bank.column('id') == sorted(template.format(name) for template in TEMPLATES for name in COLOURS)
    assert bank.features.dtype == 'float32' and len({*captions}) == 9
    batch = dataset.__getitems__(keys)
    model = runner.bare_model
    with torch.no_grad():
        torch.testing.assert_close(batch['text_features'], model.text_encoder(captions), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(batch['image_features'], model.image_encoder(pixels), rtol=1e-5, atol=1e-5)
    for key, row in zip(keys, range(len(keys))):
        sample = dataset[key]
        assert {*sample} == {'image_features', 'text_features', 'labels', 'rows'}
        assert all(torch.equal(torch.as_tensor(sample[name]), batch[name][row]) for name in sample)


def test_a_batch_beside_a_bank_of_images_has_the_captions_of_its_samples(root, tmp_path):
    cfg = config(root, tmp_path / 'banks')
    cfg['model']['text_encoder']['trainable'] = True
    runner = build_runner(dict(cfg, work_dir=str(tmp_path / 'work')))
    dataset = runner.train_dataloader.dataset
    keys = [(epoch, index) for epoch in (2, 0, 1) for index in (5, 17, 0)]
    captions = [dataset[key]['captions'] for key in keys]
    read_banks(runner)
    batch = dataset.__getitems__(keys)
    assert batch['captions'] == captions and {*batch} == {'image_features', 'captions', 'labels', 'rows'}


def test_a_bank_of_other_weights_captions_or_pixels_is_not_used(root, tmp_path):
    def banks(**changes):
        trained(tmp_path / f'{len(banks_below(tmp_path))}', config(root, tmp_path / 'banks', **changes))
        return {*banks_below(tmp_path / 'banks')}

    first = banks()
    assert len(first) == 2 and banks() == first, 'found again'
    captions = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(root)), templates=['{}'])
    other = banks(dataset=dict(images=captions)) - first
    assert [name.split('_')[0] for name in other] == ['texts']
    flipped = [dict(type='Resize', size=[32, 32]), dict(type='Grayscale', num_output_channels=3), dict(type='ToTensor')]
    others = banks(transform=flipped) - first - other
    assert len(others) == 1 and not others.pop().startswith('texts')
    assert len(banks(seed=4)) == 6, 'random towers of another seed'


def test_stopped_and_resumed(root, tmp_path, monkeypatch):
    from mmengine.hooks import IterTimerHook

    def ends(self, runner, *args, **kwargs):
        after(self, runner, *args, **kwargs)
        if 'ENDS' in os.environ and runner.iter + 1 == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    after = IterTimerHook.after_train_iter
    monkeypatch.setattr(IterTimerHook, 'after_train_iter', ends)
    for use_banks in (True, False):
        cfg = config(root, tmp_path / 'banks', image=True, use_banks=use_banks)
        whole, parts = tmp_path / f'whole_{use_banks}', tmp_path / f'parts_{use_banks}'
        trained(whole, cfg)
        monkeypatch.setenv('ENDS', '1')
        parts.with_suffix('.json').write_text(json.dumps(cfg))
        assert run('train', parts.with_suffix('.json'), '--work-dir', parts).code == 143
        monkeypatch.delenv('ENDS')
        trained(parts, cfg, '--resume')
        torch.testing.assert_close(weights_of(parts), weights_of(whole), rtol=0, atol=0)
        assert read_results(parts)['metrics'] == read_results(whole)['metrics']
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(config(root, tmp_path / 'banks', image=True)))
    refused = run('train', other, '--work-dir', tmp_path / 'parts_False', '--resume')
    assert refused.code != 0 and 'use_banks' in refused.err


def test_another_pair_stands_in_for_a_bad_image_as_without_banks(root, tmp_path):
    import shutil

    bad = tmp_path / 'images'
    shutil.copytree(root, bad)
    (bad / 'green' / '3.png').write_bytes(b'no image')
    for every_caption in (False, True):
        folder, dataset = tmp_path / f'{every_caption}', dict(every_caption=every_caption)
        trained(folder / 'with', config(bad, tmp_path / 'banks', dataset=dataset))
        trained(folder / 'without', config(bad, tmp_path / 'banks', dataset=dataset, use_banks=False))
        torch.testing.assert_close(losses_of(folder / 'with'), losses_of(folder / 'without'), rtol=1e-5, atol=1e-5)
        found, expected = ((folder / name / 'bad_samples.jsonl').read_text() for name in ('with', 'without'))
        assert found == expected and json.loads(found)['id'] == 'green/3.png'
        counts = [read_results(folder / name)['extras']['bad_samples'] for name in ('with', 'without')]
        assert counts == [dict(train=1)] * 2


@pytest.mark.parametrize('transform', [pytest.param(SIZED, marks=pytest.mark.slow), RANDOM])
def test_loader_workers_give_the_same(root, tmp_path, transform):
    for workers in (0, 2):
        cfg = config(root, tmp_path / 'banks', image=True, transform=transform)
        cfg['train_dataloader'] |= dict(num_workers=workers)
        trained(tmp_path / f'{workers}', cfg)
    torch.testing.assert_close(weights_of(tmp_path / '2'), weights_of(tmp_path / '0'), rtol=0, atol=0)


def test_images_in_a_bank_take_no_workers(root, tmp_path):
    cfg = config(root, tmp_path / 'banks', work_dir=str(tmp_path / 'work'))
    cfg['train_dataloader'] |= dict(num_workers=2, timeout=30)
    runner = build_runner(cfg)
    read_banks(runner)
    batch = next(iter(runner.train_dataloader))
    assert batch['image_features'].shape == (6, 16) and runner.train_dataloader.num_workers == 0


def test_a_run_that_ended_inside_the_extraction_is_started_again(root, tmp_path, monkeypatch):
    trained(tmp_path / 'whole', config(root, tmp_path / 'one'))
    cfg = config(root, tmp_path / 'two')

    def fail(*args):
        raise DataError('no room')

    with monkeypatch.context() as patch:
        patch.setattr('clear.features.texts._encode_blocks', fail)
        (tmp_path / 'again.json').write_text(json.dumps(cfg))
        assert run('train', tmp_path / 'again.json', '--work-dir', tmp_path / 'again').code != 0
    left = banks_below(tmp_path / 'two')
    assert len(left) == 2 and [name.endswith('.partial') for name in left] == [False, True]
    trained(tmp_path / 'again', cfg)
    torch.testing.assert_close(weights_of(tmp_path / 'again'), weights_of(tmp_path / 'whole'), rtol=0, atol=0)
    assert banks_below(tmp_path / 'two') == banks_below(tmp_path / 'one')


def test_weights_are_hashed_once_for_plan_and_training(root, tmp_path, monkeypatch):
    from clear.datasets.table import ImageTable
    from clear.models.towers.base import Tower

    calls = []
    for kind in (Tower, ImageTable):
        monkeypatch.setattr(kind, 'fingerprint', lambda self, original=kind.fingerprint:
                            calls.append(type(self).__name__) or original(self))
    trained(tmp_path / 'work', config(root, tmp_path / 'banks'))
    assert sorted(calls) == ['ImageTable', 'OpenCLIPImageEncoder', 'OpenCLIPTextEncoder']


def test_a_tower_that_is_unlocked_later_is_not_read_from_its_bank(root, tmp_path):
    runner = build_runner(config(root, tmp_path / 'banks', work_dir=str(tmp_path / 'work')))
    read_banks(runner)
    batch = next(iter(runner.train_dataloader))
    assert runner.bare_model(**batch, mode='loss')['loss'].isfinite()
    runner.bare_model.text_encoder.requires_grad_(True)
    with pytest.raises(TrainingError, match='text tower trains now'):
        runner.bare_model(**batch, mode='loss')


def test_the_plan_says_what_is_read_from_where(root, tmp_path):
    cfg = config(root, tmp_path / 'banks', transform=RANDOM)
    (tmp_path / 'plan.json').write_text(json.dumps(cfg))
    done = run('train', tmp_path / 'plan.json', '--work-dir', tmp_path / 'work', '--dry-run')
    assert done.code == 0 and not (tmp_path / 'banks').exists()
    text = done.out + done.err
    assert 'image     tower locked, runs in every step: the transform of the images is random' in text
    assert f'read from the bank {tmp_path}/banks/texts_OpenCLIPTextEncoder_' in text
    assert '(9 distinct texts to encode, 0.0 MiB)' in text
    for changes in (dict(use_banks=False), dict(image=True, text=True)):
        runner = build_runner(dict(config(root, tmp_path / 'banks', **changes), work_dir=str(tmp_path / 'other')))
        assert describe_banks(runner) == []


@pytest.mark.parametrize('image', [False, True])
def test_a_locked_tower_sees_the_images_of_a_task_once(root, tmp_path, image, monkeypatch):
    paths = [tmp_path / 'test' / name / f'{row}.png' for name in ('blue', 'red') for row in range(4)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (36, 40), COLOURS[path.parent.name]).save(path)
    paths.pop().write_bytes(b'no image')
    seen, forward = [], ImageEncoder.forward
    monkeypatch.setattr(ImageEncoder, 'forward', lambda self, images: seen.append(len(images)) or forward(self, images))
    hook = dict(type='TaskHook', at_start=True, batch_size=5, tasks=[dict(type='ZeroShot')],
                data=dict(test=dict(type='ImageFolder', root=str(tmp_path / 'test'))))
    cfg = config(root, tmp_path / 'banks', image=image)
    runner = build_runner(dict(cfg, custom_hooks=[hook], work_dir=str(tmp_path / 'run')))
    (task,) = [each for each in runner.hooks if type(each).__name__ == 'TaskHook']
    rows, measured = task._rows, []
    monkeypatch.setattr(task, '_rows', lambda *args: measured.append(rows(*args)) or measured[-1])
    runner.train()
    assert len(measured) == 3 and all(each.subset_rows().tolist() == [*range(7)] for each in measured)
    assert seen.count(5) == (3 if image else 1), 'the first batch of the task; those of training are of six'
    with torch.no_grad():
        transform = runner.bare_model.image_encoder.preprocess.build()
        pixels = torch.stack([transform(Image.open(path)) for path in paths])
        expected = runner.bare_model.eval().encode_image(pixels)
    torch.testing.assert_close(measured[-1].tensors()[0], expected)
    assert not torch.equal(measured[0].tensors()[0], measured[-1].tensors()[0]), 'the head has learnt'


def test_an_average_of_a_locked_tower_is_the_tower(root, tmp_path):
    """So that what it gave once holds under EMA and WiSE-FT too."""
    runner = build_runner(dict(config(root, tmp_path / 'banks'), custom_hooks=[dict(type='EMAHook', momentum=0.3)],
                               work_dir=str(tmp_path / 'run')))
    start = {name: value.clone() for name, value in runner.bare_model.state_dict().items()}
    runner.train()
    (hook,) = [each for each in runner.hooks if hasattr(each, 'ema_model')]
    found = interpolate(start, hook.ema_model.module.state_dict(), 0.3)
    assert not torch.equal(found['image_head.layers.0.weight'], start['image_head.layers.0.weight'])
    for name, value in found.items():
        assert torch.equal(value, start[name]) or not name.startswith('image_encoder.')


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(use_banks='yes'), 'use_banks'), (dict(banks=dict(rot='x')), "no key 'rot'. Did you mean 'root'"),
    (dict(banks='x'), "banks is 'x'; expected a dict")])
def test_wrong_keys(root, tmp_path, changes, message):
    from clear.engine.training.keys import check_runner_config

    with pytest.raises(ConfigError, match=message):
        check_runner_config(config(root, tmp_path) | changes)


def weights_of_ranks(rank, cfg, work_dir):
    runner = build_runner(dict(cfg, work_dir=work_dir))
    runner.train()
    return dict(runner.bare_model.state_dict())


def test_two_processes_make_the_banks_of_one(root, tmp_path):
    alone = config(root, tmp_path / 'one')
    trained(tmp_path / 'alone', alone)
    cfg = config(root, tmp_path / 'two')
    cfg['train_dataloader']['batch_size'] = 3
    (tmp_path / 'ranks').mkdir()
    ranks = run_ranks(weights_of_ranks, 2, tmp_path / 'ranks', cfg, str(tmp_path / 'both'))
    assert banks_below(tmp_path / 'two') == banks_below(tmp_path / 'one')
    for name in banks_below(tmp_path / 'one'):
        for file in ('features.npy', 'meta.json', 'index.parquet'):
            assert (tmp_path / 'one' / name / file).read_bytes() == (tmp_path / 'two' / name / file).read_bytes()
    for rank in ranks:
        torch.testing.assert_close(rank, weights_of(tmp_path / 'alone'), rtol=1e-4, atol=1e-5)
