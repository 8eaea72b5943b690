"""Shipped pretraining recipes with configs, data and checkpoints that cannot be: one message, and nothing is lost.

The data are the demo's digits in JPEG files; the models have fewer channels than those of the recipes.
"""

import re
import shutil
from pathlib import Path

import pytest
import torch
from demo_recipes import NECK, QUEUE, QUICK, enter, recipe, stream_recipe
from short_runs import read_results, run, train

from clear.core.files import load_tensors
from clear.datasets.make.demo import write_demo
from clear.engine.training.state import load_run
from clear.registry import MODELS


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'demo'
    write_demo(folder, seeds=[0], limit=100)
    return folder


@pytest.fixture
def here(tmp_path, demo, monkeypatch):
    """An empty folder to work in, where the demo lies as the recipes expect it."""
    return enter(tmp_path, demo, monkeypatch)


@pytest.fixture(scope='module')
def finished(demo, tmp_path_factory):
    """Folders of short runs with few channels, by method."""
    folders = {}
    for method, queue in (('mocov2', QUEUE), ('simclr', '')):
        with pytest.MonkeyPatch.context() as monkeypatch:
            folders[method] = enter(tmp_path_factory.mktemp(method) / 'here', demo, monkeypatch) / 'run'
            train(recipe(method, QUICK + NECK, queue), '--work-dir', 'run')
    return folders


def refused(*arguments):
    """The one message of a run that must not succeed."""
    failed = run('train', *arguments)
    assert failed.code == 2, failed.err
    assert failed.err.count('error: ') == 1 and failed.err.endswith('\n') and 'Traceback' not in failed.err
    message = failed.err[failed.err.index('error: '):]
    assert message.count('\n') == 1, failed.err
    return message


def kept(folder):
    """What must survive a refused command."""
    return {name: (Path(folder) / name).read_bytes() for name in ('latest.pth', 'results.json', 'config.py')}


VIEWS = 'model.data_preprocessor.views'
BAD = {
    'crops': ('clsa-multi', [f'{VIEWS}.options.num_crops=(1,1)'],
              'lists of a multi-crop differ in length: size_crops 3, num_crops 2, min_scale 3, max_scale 3'),
    'picked crop': ('clsa-multi', [f'{VIEWS}.options.pick_weak=[0,3]'],
                    'pick_weak is [0, 3]; expected indices from 0 to 2'),
    'picked view': ('clsa-multi', ['model.pick_strong=[3]'],
                    'pick_strong has 3, but there are 3 strong views: indices go from 0 to 2'),
    'bucket number': ('mocov2', ['train_dataloader.dataset.buckets=[0,10]'], 'has no bucket number 10'),
    'bucket name': ('mocov2', ['train_dataloader.dataset.buckets=[eleven]'], "has no bucket named 'eleven'"),
    'queue': ('mocov2', ['model.queue_size=15'],
              'queue_size (15) is smaller than the global batch (1 x 16 = 16)'),
    'queue for two keys': ('clsa-single', ['model.queue_size=31', 'model.symmetric=True', 'model.enqueue=both'],
                           'queue_size (31) is smaller than the global batch (1 x 32 = 32)'),
    'too many views': ('mocov2', [f'{VIEWS}.recipe=swav', f'{VIEWS}.options=None'],
                       'MoCo: the batch has 8 views of each image, expected 2'),
    'too few views': ('clsa-multi', ['model.num_weak=4'], 'CLSA: the batch has 7 views of each image, expected 8'),
    'form': ('mocov2', [f'{VIEWS}=None'], 'a batch holds torch.uint8 (1, 3, 32, 32)'),
    'temperature': ('mocov2', ['model.temperature=0'], 'MoCoLoss: temperature is 0; expected a number above 0'),
    'text for a number': ('clsa-single', ['model.clsa_t=warm'],
                          "CLSALoss: clsa_t is 'warm'; expected a number above 0"),
    'alpha': ('clsa-single', ['model.alpha=-1'], 'CLSALoss: alpha is -1; expected a number of at least 0'),
    'model key': ('mocov2', ['model.queue_sise=64'], "'queue_size'"),
    'views key': ('mocov2', [f'{VIEWS}.recipes=moco_v2'], "'recipe'"),
    'transform key': ('mocov2', ['train_dataloader.dataset.transform.type=MultiCrop',
                                 'train_dataloader.dataset.transform.recipes=moco_v2',
                                 'train_dataloader.dataset.image_size=None', f'{VIEWS}=None'], "'recipe'"),
    'recipe': ('mocov2', [f'{VIEWS}.recipe=moco_v3'], 'moco_v2'),
    'recipe option': ('mocov2', [f'{VIEWS}.options.sizes=32'], "Nearest: 'size'"),
    'view key': ('mocov2', [f'{VIEWS}.changes.blur_probability=0.0'], "'blur_prob'"),
    'data key': ('mocov2', ['train_dataloader.dataset.bucket=[0]'], "'buckets'"),
    'reading key': ('mocov2', ['train_dataloader.dataset.image_sise=32'], "'image_size'"),
    'stream key': ('continual_mocov2-finetune', ['stream.bucket=[0]'], "'buckets'"),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_is_one_message(case, here):
    method, options, words = BAD[case]
    name = stream_recipe('finetune') if method.startswith('continual') else recipe(method, QUICK)
    assert words in refused(name, '--work-dir', 'run', '--cfg-options', *options)
    assert not list(Path('run').rglob('*.pth'))


@pytest.mark.parametrize('case', ['queue', 'queue for two keys', 'too few views', 'form', 'temperature'])
def test_a_dry_run_finds_bad_input_too(case, here):
    method, options, words = BAD[case]
    assert words in refused(recipe(method, QUICK), '--work-dir', 'run', '--dry-run', '--cfg-options', *options)


@pytest.mark.parametrize('case', ['crops', 'bucket number', 'queue'])
def test_bad_input_loses_nothing(case, here, finished):
    method, options, _ = BAD[case]
    shutil.copytree(finished['mocov2'], 'run')
    before = kept('run')
    refused(recipe(method, QUICK), '--work-dir', 'run', '--resume', '--cfg-options', *options)
    assert kept('run') == before


@pytest.mark.parametrize(('layout', 'words'), [
    ('clear', 'split_0/1/train.txt is empty: the bucket has no images'), ('folders', '2005')])
def test_bucket_without_images_is_named(layout, words, here, demo):
    if layout == 'clear':
        shutil.copytree(demo / 'training_folder', 'tree/training_folder')
        Path('tree/training_folder/testset_ratio_0.3/split_0/1/train.txt').write_text('')
        for name in ('labeled_images', 'class_names.txt'):
            Path('tree', name).symlink_to(demo / name)
    else:
        for name in ('2004', '2005'):
            Path('tree', name).mkdir(parents=True)
        shutil.copy(next(demo.rglob('*.jpg')), 'tree/2004')
    message = refused(recipe('mocov2', QUICK), '--work-dir', 'run', '--cfg-options',
                      'train_dataloader.dataset.data_root=tree', 'train_dataloader.dataset.buckets=[0,1]')
    assert words in message and 'no images' in message, message


def test_data_that_are_not_there_are_named(here):
    assert 'nowhere' in refused(recipe('mocov2', QUICK), '--work-dir', 'run', '--cfg-options',
                                'train_dataloader.dataset.data_root=nowhere')


def test_exploding_loss_names_iteration_and_the_good_checkpoint(here):
    """The rate is 0.06 for an epoch, then 6e28."""
    explode = "param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=1e30)]\n"
    name = recipe('mocov2', QUICK + explode + "default_hooks['checkpoint'] = dict(interval=1)\n")
    message = refused(name, '--work-dir', 'run')
    found = re.search(r'not finite at iteration (\d) \(epoch 2, batch (\d)\): loss=', message)
    assert found and int(found[1]) == 4 + int(found[2]), message
    assert 'run/latest.pth (epoch 1, iteration 4)' in message, message
    state = load_run(Path('run/latest.pth'))['state_dict']
    assert all(torch.isfinite(value).all() for value in state.values())
    assert len(read_results('run')['extras']['train_log']) == 1
    assert refused(name, '--work-dir', 'run', '--resume') == message, 'a resumed run fails at the same place'
    train(recipe('mocov2', QUICK, name='next.py'), '--work-dir', 'next', '--cfg-options',
          'load_from=run/latest.pth', 'train_cfg.max_epochs=1')


def test_loss_that_explodes_at_once_leaves_no_checkpoint(here):
    message = refused(recipe('mocov2', QUICK), '--work-dir', 'run', '--cfg-options',
                      'optim_wrapper.optimizer.lr=1e30')
    assert 'epoch 1' in message and 'there is no checkpoint yet' in message, message
    assert not list(Path('run').glob('*.pth')) and not Path('run/results.json').exists()


@pytest.mark.parametrize(('before', 'after', 'queue'), [
    ('mocov2', 'clsa-single', QUEUE), ('simclr', 'barlowtwins', ''), ('simclr', 'vicreg', '')])
def test_resume_from_another_algorithm_is_refused(before, after, queue, here, finished):
    """Also where every tensor would fit."""
    from clear.core.config import load_config

    shutil.copytree(finished[before], 'run')
    name = recipe(after, QUICK + NECK, queue)
    model = MODELS.build(load_config(name)[0].model)
    state, old = model.state_dict(), load_run(Path('run/latest.pth'))
    assert {key: value.shape for key, value in state.items()} == \
        {key: value.shape for key, value in old['state_dict'].items()}, 'the shapes would have told them apart'
    bytes_before = kept('run')
    message = refused(name, '--work-dir', 'run', '--resume')
    assert f"written by {old['progress']['model']}; this config trains {type(model).__name__}" in message
    assert kept('run') == bytes_before


def test_resume_from_a_continual_checkpoint_is_refused(here, finished):
    shutil.copytree(finished['mocov2'], 'run')
    state = load_tensors('run/latest.pth')
    del state['progress']['kind'], state['message']
    torch.save(state | dict(strategy={}), 'run/latest.pth')
    before = kept('run')
    message = refused(recipe('mocov2', QUICK + NECK), '--work-dir', 'run', '--resume')
    assert 'was written by a continual run, not by a Runner' in message
    assert kept('run') == before
