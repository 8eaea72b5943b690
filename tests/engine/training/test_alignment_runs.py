"""Alignment through `tools/train.py`: stopped and resumed bit for bit, measured while it trains, then probed."""

import json
import os
import signal

import pytest
import torch
from PIL import Image
from quick_runs import weights_of
from short_runs import read_results, run
from tiny_text import TINY_CLIP

CONFIG = """
_args = {args!r}
_classes = dict(type='PromptedClassification', images=dict(type='ImageFolder', root={root!r}),
                templates=['a {{}} picture', 'all {{}}'])
model = dict(type='ImageTextAlignment', image_encoder=dict(
                 type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
             text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
             loss=dict(type='InfoNCELoss'))
train_dataloader = dict(batch_size=6, num_workers=0, dataset=dict(
    type='ImageTextPairs', images=_classes,
    transform=[dict(type='RandomResizedCrop', size=32, scale=(0.5, 1.0)), dict(type='ToTensor')]))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.002))
train_cfg = dict(by_epoch=True, max_epochs=3)
custom_hooks = [dict(type='TaskHook', at_start=True, data=dict(test=_classes), tasks=[
    dict(type='ZeroShot', name='zero_shot', templates=['all {{}}']), dict(type='ImageTextRetrieval', ks=[1, 5])])]
threads, seed, device = 1, 3, 'cpu'
"""
COLOURS = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210))
ENDS = """
import os
import signal

from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class EndsAt(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 5 and 'ENDS' in os.environ:
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('colours')
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for row in range(6):
            Image.new('RGB', (36, 40), tuple(value + 5 * row for value in colour)).save(folder / name / f'{row}.png')
    return folder


@pytest.fixture(scope='module')
def config(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('config')
    (folder / 'tiny.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(root)))
    return folder / 'tiny.py'


@pytest.fixture(scope='module')
def whole(config):
    done = run('train', config, '--work-dir', config.parent / 'whole')
    assert done.code == 0, done.err
    return config.parent / 'whole'


def test_it_learns_colours_by_their_names(whole):
    results = read_results(whole)
    log, start = results['extras']['train_log'], results['extras']['before_training']
    assert log[-1]['loss'] < log[0]['loss'] and log[-1]['zero_shot'] > max(start['zero_shot'], 0.6)
    assert {'zero_shot', 'zero_shot_mean_per_class', 'ImageTextRetrieval', 'ImageTextRetrieval_image2text_R@1',
            'logit_scale'} <= set(log[-1])


def test_stopped_inside_an_epoch_and_resumed(config, whole, monkeypatch):
    (config.parent / 'ends.py').write_text(ENDS)
    other = config.parent / 'ends_tiny.py'
    other.write_text(config.read_text() + "\ncustom_imports = dict(imports=['ends'])\n"
                     "custom_hooks = [*custom_hooks, dict(type='EndsAt')]\n")
    folder, handler = config.parent / 'parts', signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv('ENDS', '1')
    stopped = run('train', other, '--work-dir', folder)
    monkeypatch.delenv('ENDS')
    assert stopped.code == 143 and signal.getsignal(signal.SIGTERM) == handler, stopped.err
    assert run('train', other, '--work-dir', folder, '--resume').code == 0
    torch.testing.assert_close(weights_of(folder), weights_of(whole), rtol=0, atol=0)
    assert read_results(folder)['metrics'] == read_results(whole)['metrics']
    assert 'ENDS' not in os.environ


def test_a_probe_finds_by_zero_shot_what_training_measured(config, whole, root, tmp_path, monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    model = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), image_encoder=dict(
        type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP), text_encoder=dict(
        type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP))
    source = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(root)),
                  templates=['a {} picture', 'all {}'])
    (tmp_path / 'probe.json').write_text(json.dumps(dict(
        runner_type='ProbeRunner', device='cpu', threads=1, banks=dict(root=str(tmp_path / 'banks'), dtype='float32'),
        encoders=dict(aligned=dict(type='AlignedEncoder', model=model, weights=str(whole / 'latest.pth'))),
        data=dict(test=source), tasks=[dict(type='ZeroShot', templates=['all {}']),
                                       dict(type='ImageTextRetrieval', ks=[1, 5])])))
    done = run('train', tmp_path / 'probe.json', '--work-dir', tmp_path / 'work')
    assert done.code == 0, done.err
    found, trained = read_results(tmp_path / 'work')['metrics'], read_results(whole)['metrics']
    assert found['aligned/ZeroShot/top1'] == trained['zero_shot']
    assert found['aligned/ImageTextRetrieval/mean_recall'] == pytest.approx(trained['ImageTextRetrieval'])


@pytest.mark.parametrize('more, message', [
    ("model.update(loss=dict(type='SEEDLoss', embed_dim=16, queue_size=4))",
     'queue_size (4) is smaller than the global batch'),
    ("model.update(loss=dict(type='SEEDLoss', embed_dim=5, queue_size=64))", 'embed_dim'),
    ("model.update(loss=dict(type='PromptedCrossEntropyLoss'))\ntrain_dataloader['dataset'].update(images={listed})",
     'needs a class for every pair'),
    ("train_dataloader['dataset'].update(images={bare})", "no column 'caption'")])
def test_what_does_not_fit_ends_before_training_with_one_message(more, message, config, root, tmp_path):
    (tmp_path / 'pairs.csv').write_text('filepath,title\n' + ''.join(
        f'{path.relative_to(root)},a caption\n' for path in sorted(root.rglob('*.png'))))
    listed = dict(type='ImageTextTable', path=str(tmp_path / 'pairs.csv'), root=str(root))
    bare = dict(type='FolderImages', data_root=str(root))
    (tmp_path / 'other.py').write_text(config.read_text() + more.format(listed=listed, bare=bare) + '\n')
    done = run('train', tmp_path / 'other.py', '--work-dir', tmp_path / 'work')
    errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
    assert done.code == 2 and len(errors) == 1 and message in errors[0], done.err
    assert not (tmp_path / 'work' / 'latest.pth').exists()
