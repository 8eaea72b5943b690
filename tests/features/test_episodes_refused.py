"""Which row of an external teacher a pair has, and what ProtoCLIP's episodes cannot be made of."""

import json
import sys

import numpy as np
import pytest
import torch
from proto_runs import SHAPES, config, trained, write_shapes, write_teacher
from short_runs import run

from clear.core.errors import ConfigError
from clear.engine.training.program import build_runner
from clear.features.episodes.teacher import ExternalTeacher
from clear.features.extract import extract
from clear.features.texts import extract_texts
from clear.models import build_encoder, build_text_encoder


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('shapes') / 'images')


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp('teacher') / 'rows.npy')


def test_rows_of_a_teacher_by_place_by_image_and_by_text(root, teacher, tmp_path):
    runner = build_runner(config(root, dataset=dict(every_caption=True), work_dir=str(tmp_path / 'work')))
    dataset = runner.train_dataloader.dataset
    np.save(tmp_path / 'rows.npy', np.arange(48 * 2, dtype=np.float64).reshape(48, 2))
    assert ExternalTeacher(tmp_path / 'rows.npy', dataset).take([5, 5, 0]).tolist() == [[10, 11], [10, 11], [0, 1]]
    encoder = build_text_encoder(dict(runner.cfg['model']['text_encoder']))
    texts = sorted({f'a {name} picture' for name in SHAPES} | {f'all {name}' for name in SHAPES})
    extract_texts(encoder, texts, tmp_path / 'texts')
    captions = [dataset[0, row]['captions'] for row in (47, 3, 9)]
    with torch.no_grad():
        torch.testing.assert_close(ExternalTeacher(tmp_path / 'texts', dataset).take([47, 3, 9]), encoder(captions),
                                   rtol=1e-4, atol=1e-5)
    drawing = build_runner(config(root, work_dir=str(tmp_path / 'other'))).train_dataloader.dataset
    with pytest.raises(ConfigError, match='some images have several captions'):
        ExternalTeacher(tmp_path / 'texts', drawing)
    bank = extract(dict(type='OpenCLIPImageEncoder', arch='ViT-B-32',
                        model_args=runner.cfg['model']['image_encoder']['model_args']),
                   dict(type='ImageFolder', root=str(root)), tmp_path / 'images', dtype='float32')
    rows = ExternalTeacher(tmp_path / 'images', dataset).take([47, 46, 2])
    assert torch.equal(rows, torch.from_numpy(np.array(bank.features[[23, 23, 1]])))
    extract_texts(encoder, texts[:3], tmp_path / 'few')
    with pytest.raises(ConfigError, match='has no image or text'):
        ExternalTeacher(tmp_path / 'few', dataset)


@pytest.mark.parametrize('options, message', [
    (['custom_hooks=[]'], 'ProtoCLIP gets its clusters from a hook'),
    (['model.projection=None'], "projection=dict(type='ProtoCLIPHead'"),
    (['train_dataloader.sampler.episode_size=0'], 'episode_size'),
    (['train_dataloader.sampler={type:EpochSampler}'], 'train_dataloader draws none'),
    (['model.external_weight=1.0'], 'PrototypeHook has no external_teacher'),
    (['model.external_weight=1.0', 'custom_hooks.0.external_teacher={teacher}/nowhere.npy'], 'neither a .npy file'),
    (['model.external_weight=1.0', 'custom_hooks.0.external_teacher={teacher}/short.npy'],
     'has 3 rows, the training data 24 samples'),
    (['model.external_weight=1.0', 'custom_hooks.0.external_teacher={teacher}/whole.npy'], 'expected floating-point'),
    (['model.external_weight=1.0', 'custom_hooks.0.external_teacher={teacher}/rows.npz'], 'neither a .npy file'),
    (['model.external_weight=1.0', 'custom_hooks.0.external_teacher={teacher}/empty.npy'], 'neither a .npy file'),
    (['model.external_weight=1.0', 'model.proto_weight=0', 'custom_hooks.0.back_translation=False',
      'custom_hooks.0.external_teacher={teacher}/rows.npy'], 'needs back_translation=True'),
    (['custom_hooks.0.warmup_epochs=3'], 'none of 3 epochs has prototypes'),
    (['custom_hooks.0.lit_start_epoch=2'], 'none of 3 epochs has prototypes'),
    (['custom_hooks.0.num_clusters=0'], 'num_clusters'), (['custom_hooks.0.backend=cuda'], 'backend'),
    (['custom_hooks.0.num_cluster=4'], "num_clusters"),
    (['train_cfg={by_epoch:False,max_iters:4}'], 'an episode is an epoch')])
def test_what_cannot_be_is_one_message_before_training(root, teacher, tmp_path, options, message):
    np.save(teacher.with_name('short.npy'), np.zeros((3, 4), dtype=np.float32))
    np.save(teacher.with_name('whole.npy'), np.zeros((24, 4), dtype=np.int64))
    np.savez(teacher.with_name('rows.npz'), np.load(teacher))
    teacher.with_name('empty.npy').touch()
    cfg = config(root)
    if options[0].endswith('{type:EpochSampler}'):
        cfg['train_dataloader']['sampler'] = dict(type='EpochSampler')
        options = []
    if options and options[0].startswith('train_cfg'):
        cfg['train_cfg'] = dict(by_epoch=False, max_iters=4)
        options = []
    (tmp_path / 'c.json').write_text(json.dumps(cfg))
    given = [option.replace('{teacher}', str(teacher.parent)) for option in options]
    done = run('train', tmp_path / 'c.json', '--work-dir', tmp_path / 'run', '--dry-run',
               *(('--cfg-options', *given) if given else ()))
    errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
    assert done.code == 2 and len(errors) == 1 and message in errors[0], done.err
    assert not (tmp_path / 'run').exists()


def test_the_hook_is_for_such_models_alone(root, tmp_path):
    cfg = config(root, work_dir=str(tmp_path))
    cfg['model'] = {name: value for name, value in cfg['model'].items() if name.endswith('encoder')} | dict(
        type='ImageTextAlignment', loss=dict(type='InfoNCELoss'))
    with pytest.raises(ConfigError, match="PrototypeHook is for model=dict.type='ProtoCLIP'"):
        build_runner(cfg)


def test_two_of_the_hook_are_refused(root, tmp_path):
    with pytest.raises(ConfigError, match='PrototypeHook stands in the config twice'):
        build_runner(config(root, custom_hooks=[dict(type='PrototypeHook', num_clusters=3)], work_dir=str(tmp_path)))


def test_faiss_that_is_missing_is_said_before_training(root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'faiss', None)
    with pytest.raises(ConfigError, match="backend='faiss' needs faiss"):
        build_runner(config(root, hook=dict(backend='faiss'), work_dir=str(tmp_path)))


def test_an_aligned_encoder_of_its_checkpoint(root, tmp_path):
    cfg = config(root, train_cfg=dict(by_epoch=True, max_epochs=2))
    runner = trained(cfg, tmp_path)
    encoder = build_encoder(dict(type='AlignedEncoder', model=cfg['model'], weights=str(tmp_path / 'latest.pth')))
    images = torch.rand(2, 3, 32, 32)
    runner.bare_model.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), runner.bare_model.image_encoder(images))
