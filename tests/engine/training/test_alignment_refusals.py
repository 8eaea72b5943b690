"""What an alignment cannot train on or be measured on is one message before anything is trained or written."""

import pytest
import torch
from PIL import Image
from short_runs import run
from tiny_text import TINY_CLIP

from clear.core.errors import ConfigError, DataError
from clear.engine.training.loading import build_train_dataloader
from clear.evaluation.online_tasks import TaskHook
from clear.evaluation.task import check_images
from clear.models import ImageTextAlignment

CONFIG = """
_args = {args!r}
_images = dict(type='ImageFolder', root={root!r})
model = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'),
             image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
             text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args, trainable=True))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    type='ImageTextPairs', images=dict(type='PromptedClassification', images=_images),
    transform=[dict(type='Resize', size=32), dict(type='ToTensor')]))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.002))
train_cfg = dict(by_epoch=True, max_epochs=1)
custom_hooks = [dict(type='TaskHook', tasks=[dict(type='ZeroShot')], data=dict(test=_images))]
device, threads = 'cpu', 1
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('Größe 1')
    for name in ('red', 'green'):
        (folder / 'images' / name).mkdir(parents=True)
        for row in range(2):
            Image.new('RGB', (32, 32), name).save(folder / 'images' / name / f'{row}.png')
    (folder / 'c.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(folder / 'images')))
    return folder / 'c.py'


@pytest.mark.parametrize('options, message', [
    (['model.image_encoder.trainable=False', 'model.text_encoder.trainable=False'], 'nothing of its towers and heads'),
    (['model.align_weight=0'], 'are both 0, so there is no loss'),
    (['train_dataloader.dataset.transform.0.size=20'], 'model.image_encoder takes no images of (3, 20, 20)'),
    (['custom_hooks.0.tasks.0.type=KNN'], "needs images called 'train' and 'test'; data has 'test'"),
    (['custom_hooks.0.tasks.0.names=[a,b,c]'], "names has 3 names, the bank of 'test' 2 classes"),
    (['custom_hooks.0.data.test.type=FolderImages'], "FolderImages has no key 'root'")])
def test_what_does_not_fit_is_said_before_training(config, tmp_path, options, message):
    done = run('train', config, '--work-dir', tmp_path / 'run', '--dry-run', '--cfg-options', *options)
    assert done.code == 2 and message in done.err and 'Traceback' not in done.err, done.err
    assert not (tmp_path / 'run').exists()


def test_images_without_captions_are_no_pairs(config, tmp_path):
    data = f"_base_ = {str(config)!r}\ntrain_dataloader = dict(dataset=dict(_delete_=True, type='ImageFolder', " \
           f"root={str(config.parent / 'images')!r}, image_size=32))\n"
    (tmp_path / 'c.py').write_text(data)
    done = run('train', tmp_path / 'c.py', '--work-dir', tmp_path / 'run', '--dry-run')
    assert done.code == 2 and "type='ImageTextPairs'" in done.err, done.err


def test_a_sampler_of_ours_brings_its_batches():
    rows = torch.utils.data.TensorDataset(torch.arange(8))
    for sampler, length in ((dict(type='EpisodicSampler', episode_size=7), 3), (dict(type='EpochSampler'), 4)):
        loader = build_train_dataloader(dict(batch_size=2, dataset=rows, sampler=sampler), seed=3)
        assert len(loader) == length and loader.batch_sampler.batch_size == 2
        assert all(len(batch[0]) == 2 for batch in loader)


@pytest.mark.parametrize('tasks, data, message', [
    ([], {}, 'TaskHook.tasks is'), (5, {}, 'TaskHook.tasks is'), ([5], {}, 'TaskHook.tasks holds 5'),
    ([dict(name='x')], {}, 'TaskHook.tasks holds'), ([dict(type='ZeroShot')], 5, 'TaskHook.data is 5'),
    ([dict(type='ZeroShot', names='ab')], {}, "There is no list of prompts 'ab'"),
    ([dict(type='ZeroShot')], {}, 'ZeroShot needs bank: give data=dict')])
def test_what_is_no_task_is_refused(tasks, data, message):
    with pytest.raises(ConfigError, match=message):
        TaskHook(tasks, data)


def test_text_alone_is_of_no_bucket():
    task = dict(type='SentenceSimilarity', path='pairs.tsv')
    with pytest.raises(ConfigError, match='reads text_encoder, which is not there of each bucket'):
        TaskHook([task], dict(test=dict(type='ImageFolder', root='x')), buckets=['1'])
    assert TaskHook([task]).measures == ('SentenceSimilarity',)


@pytest.mark.parametrize('task', ['ZeroShot', 'ClassRetrieval', 'KNN', 'LinearProbe', 'Clustering',
                                  'ImageTextRetrieval', 'FewShotProbe'])
def test_tasks_say_which_images_they_need(task, config):
    from clear.datasets import read_images
    from clear.registry import TASKS

    built = TASKS.build(dict(type=task))
    with pytest.raises(ConfigError, match="needs images called .*; data has none"):
        check_images(built, task, {})
    bare = read_images(dict(type='FolderImages', data_root=str(config.parent / 'images')))
    with pytest.raises(DataError, match='needs captions' if task == 'ImageTextRetrieval' else 'needs labels'):
        check_images(built, task, dict(train=bare, test=bare))


def test_the_tower_is_left_as_it_was():
    model = ImageTextAlignment(
        dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True),
        dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP), dict(type='InfoNCELoss')).train()
    state = torch.random.get_rng_state()
    model.check_batch(dict(inputs=torch.zeros(1, 3, 32, 32), captions=['a'], labels=torch.zeros(1).long()), 4)
    assert model.image_encoder.training and torch.equal(state, torch.random.get_rng_state())
