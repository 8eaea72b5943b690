"""Shipped pretraining recipes through `tools/train.py`: kills, two processes, streams of buckets, bad input.

The data are the demo's digits in JPEG files, the models those of the recipes; quick tests use fewer channels.
"""

import json
import multiprocessing
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from short_runs import CONFIGS, TOOLS, environment, program, read_results, run, train

from clear.core.files import load_tensors
from clear.datasets.make.demo import write_demo
from clear.engine.training.state import load_run
from clear.registry import MODELS

RECIPES = CONFIGS / 'selfsup'
OVER_TIME = 'analysis_tools/representation_over_time'
TIMEOUT_S = 280
STREAMS = ['finetune', 'replay', 'distil']
# Two buckets of 74 images: 9 iterations an epoch, of which the second begins in the middle of two checkpoints.
SHORT = """
_base_ = [{base!r}]
train_dataloader = dict(batch_size=16, dataset=dict(buckets=[0, 1]))
train_cfg = dict(max_epochs=2)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=2, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(iter_interval=2), results=dict(type='ResultsHook', figures=False))
model = dict({queue})
"""
QUEUE = 'queue_size=64'
NARROW = """
model['backbone'] = dict(stem_channels=4, base_channels=4)
model['neck'] = dict(in_channels=32)
"""
# Four iterations an epoch, and nothing beside the training.
QUICK = NARROW + """
custom_hooks = []
train_dataloader['dataset']['buckets'] = [0]
"""
# One projection that every method takes.
NECK = """
model['neck'] = dict(_delete_=True, type='ProjectionMLP', in_channels=32, out_channels=16)
"""
PIL = """
train_dataloader['dataset'].update(image_size=None, transform=dict(
    type='MultiCrop', recipe='moco_v2', options=dict(size=32), changes=dict(flip_prob=0.0)))
model['data_preprocessor'] = dict(_delete_=True, type='ViewPreprocessor')
"""
# Three buckets of the shipped stream, in batches of 16: 8 iterations a bucket, 18 with 74 replayed images.
STREAM = """
_base_ = [{base!r}]
stream = dict(buckets=['1', '2', '3'], **{more})
model = dict(backbone=dict(stem_channels=8, base_channels=8), neck=dict(in_channels=64), queue_size=64)
train_dataloader = dict(batch_size=16)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', iter_interval=2),
                     results=dict(type='ResultsHook', figures=False))
"""
# In float64, rounding stays rounding: see `test_two_processes_are_one`.
DOUBLE = """
from clear.models.selfsup import MoCo
from clear.registry import MODELS


@MODELS.register_module()
class DoubleMoCo(MoCo):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()

    def loss(self, views):
        return super().loss([view.double() for view in views])

    def features(self, images):
        return super().features(images.double())
"""


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'demo'
    write_demo(folder, seeds=[0], limit=100)
    return folder


@pytest.fixture
def here(tmp_path, demo, monkeypatch):
    """An empty folder to work in, where the demo lies as the recipes expect it."""
    return enter(tmp_path, demo, monkeypatch)


def enter(folder, demo, monkeypatch):
    (folder / 'data').mkdir(parents=True)
    (folder / 'data' / 'demo').symlink_to(demo)
    monkeypatch.chdir(folder)
    return folder


def recipe(method, more='', queue=QUEUE, name='run.py'):
    """The demo recipe of a method, cut short."""
    base = next(RECIPES.glob(f'{method}_*_demo.py'))
    Path(name).write_text(SHORT.format(base=str(base), queue=queue) + more)
    return name


def stream_recipe(mode, name='stream.py'):
    base = next(RECIPES.glob(f'continual_mocov2-{mode}_*_demo.py'))
    more = dict(finetune={}, replay=dict(replay_size=74), distil=dict(distil=dict(hidden_channels=16)))[mode]
    Path(name).write_text(STREAM.format(base=str(base), more=more))
    return name


def outcome(folder):
    """Everything that a run left, without the time it took and the commit that it ran on."""
    state = load_tensors(Path(folder) / 'latest.pth')
    del state['progress']['timing']
    for name in ('train/time', 'train/data_time'):
        state['message']['scalars'].pop(name, None)
    results = read_results(folder)
    del results['timing'], results['git']
    return state, results


def assert_same(one, other):
    (state, results), (others, other_results) = outcome(one), outcome(other)
    assert state.keys() == others.keys()
    assert_equal(state, others, '')
    assert results == other_results


def assert_equal(one, other, where):
    """Bit by bit, through dicts and lists."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (first, second) in enumerate(zip(one, other)):
            assert_equal(first, second, f'{where}[{index}]')
    else:
        assert one == other, where


# Kills of fresh processes


def start(*arguments):
    """`tools/train.py` in a fresh interpreter; into files, which a killed one's workers may hold open a while."""
    with Path('out.txt').open('w') as out, Path('err.txt').open('w') as err:
        return subprocess.Popen([*program('train'), *map(str, arguments)], env=environment(), stdout=out, stderr=err)


def finish(*arguments):
    process = start(*arguments)
    assert process.wait(TIMEOUT_S) == 0, Path('err.txt').read_text()
    return Path('out.txt').read_text()


def kill_after_saves(process, path, saves, delay_s):
    """kill -9, some time after the checkpoint was written that often."""
    deadline, seen = time.monotonic() + TIMEOUT_S, set()
    try:
        while len(seen) < saves:
            assert process.poll() is None, Path('err.txt').read_text() or 'the run was over before it was killed'
            assert time.monotonic() < deadline
            if path.exists():
                seen.add(path.stat().st_mtime_ns)
            time.sleep(0.002)
        time.sleep(delay_s)
        assert process.poll() is None, 'the run was over before it was killed'
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(('method', 'workers', 'form'), [
    ('mocov2', 0, ''), ('mocov2', 2, ''), ('mocov2', 2, PIL), ('clsa-multi', 2, '')],
    ids=['moco', 'moco with workers', 'moco with PIL', 'clsa'])
def test_killed_at_a_random_iteration_ends_as_if_not(here, method, workers, form):
    """Weights, queue, optimiser, generators and results.json with its kNN are those of a run that nobody killed."""
    loading = f"\ntrain_dataloader.update(num_workers={workers}, persistent_workers={workers > 0})\n"
    name = recipe(method, form + loading)
    finish(name, '--work-dir', 'whole')
    saves, delay_s = random.randint(1, 6), random.uniform(0.0, 0.2)
    kill_after_saves(start(name, '--work-dir', 'killed'), Path('killed/latest.pth'), saves, delay_s)
    done = load_run(Path('killed/latest.pth'))['progress']['iter']
    assert 0 < done < 18
    assert f'{done} of 18 iterations are finished' in finish(name, '--work-dir', 'killed', '--resume')
    assert_same('whole', 'killed')
    assert outcome('whole')[0]['state_dict']['queue'].shape == (128, 64)
    assert read_results('whole')['metrics'].keys() >= {'knn_top1'}


# Two processes


def two_processes(name, *options):
    done = subprocess.run([str(TOOLS / 'dist_train.sh'), name, '2', '--work-dir', 'two', '--cfg-options',
                           'train_dataloader.batch_size=8', *options], capture_output=True, text=True,
                          timeout=TIMEOUT_S, env={**environment(), 'PYTHONPATH': f'{TOOLS.parent}:{Path.cwd()}'})
    assert done.returncode == 0, done.stderr
    assert 'batch 8 x 2 process(es)' in done.stdout


def assert_close(atol):
    (one, first), (two, second) = outcome('one'), outcome('two')
    assert (first['world_size'], second['world_size']) == (1, 2)
    assert first['config_hash'] == second['config_hash']
    assert int(one['state_dict']['queue_ptr']) == int(two['state_dict']['queue_ptr'])
    torch.testing.assert_close(two['state_dict'], one['state_dict'], rtol=0, atol=atol)
    for entry, other in zip(one['progress']['train_log'], two['progress']['train_log'], strict=True):
        assert other == pytest.approx(entry, rel=0, abs=atol)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_are_one(here, monkeypatch):
    """Two epochs in float64, where the recipe's steps cannot blow rounding up to what a mistake would give.

    In float32 sums over the 16,384 pixels of a channel differ by 1e-5 after one iteration, and each further step of
    a fresh network at this rate multiplies that by about ten; in float64 1e-12 is left after 18.
    """
    monkeypatch.syspath_prepend(str(here))
    Path('double_moco.py').write_text(DOUBLE)
    name = recipe('mocov2', "sync_bn = True\ncustom_imports = dict(imports=['double_moco'])\n"
                  "model.update(type='DoubleMoCo', shuffle_bn=False)\n" + NARROW)
    train(name, '--work-dir', 'one')
    two_processes(name)
    assert_close(atol=1e-9)
    assert outcome('one')[0]['state_dict']['queue'].dtype == torch.float64


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_are_one_in_single_precision(here):
    """One iteration of the recipe as it is, to the rounding of BatchNorm's sums."""
    name = recipe('mocov2', "sync_bn = True\nmodel.update(shuffle_bn=False)\ncustom_hooks = []\nparam_scheduler = []\n"
                  'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=1)\n')
    train(name, '--work-dir', 'one')
    two_processes(name)
    assert_close(atol=1e-5)


# Streams of buckets


def in_fork(work, *args):
    """The exit code of `work(*args)` in a process that has everything imported."""
    process = multiprocessing.get_context('fork').Process(target=work, args=args)
    process.start()
    process.join(TIMEOUT_S)
    code = process.exitcode
    process.kill()
    return code


def die_in(moment, name):
    """Train on the stream until the moment comes."""
    from clear.engine.streams import pretraining as continual_pretraining
    from clear.engine.training.loops import EpochBasedTrainLoop

    owner, function, call, is_after = {
        'at the first step of a bucket': (EpochBasedTrainLoop, '_train_step', 9, False),
        'inside a bucket': (EpochBasedTrainLoop, '_train_step', 12, True),
        'when a bucket is trained but not listed': (continual_pretraining, 'write_json', 2, False),
        'when a bucket is listed': (continual_pretraining, 'write_json', 2, True)}[moment]
    original, calls = getattr(owner, function), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == call and not is_after:
            signal.raise_signal(signal.SIGKILL)
        original(*args, **kwargs)
        if len(calls) == call:
            signal.raise_signal(signal.SIGKILL)

    setattr(owner, function, wrapped)
    run('train', name, '--work-dir', 'run')


MOMENTS = {'at the first step of a bucket': (1, {'bucket_1': 8}),
           'inside a bucket': (1, {'bucket_1': 8, 'bucket_2': 2}),
           'when a bucket is trained but not listed': (1, {'bucket_1': 8, 'bucket_2': 8}),
           'when a bucket is listed': (2, {'bucket_1': 8, 'bucket_2': 8})}


@pytest.fixture(scope='module')
def whole_streams(demo, tmp_path_factory):
    """Streams that nobody killed, by mode; trained when they are asked for."""
    folders = {}

    def get(mode):
        if mode not in folders:
            with pytest.MonkeyPatch.context() as monkeypatch:
                folders[mode] = enter(tmp_path_factory.mktemp(mode) / 'whole', demo, monkeypatch)
                train(stream_recipe(mode), '--work-dir', 'run')
        return folders[mode]

    return get


def assert_same_stream(one, other):
    for number in (1, 2, 3):
        assert_same(one / 'run' / f'bucket_{number}', other / 'run' / f'bucket_{number}')
    assert json.loads((one / 'run/stream.json').read_text()) == json.loads((other / 'run/stream.json').read_text())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('moment', MOMENTS)
@pytest.mark.parametrize('mode', STREAMS)
def test_killed_stream_ends_as_if_not(mode, moment, demo, whole_streams, tmp_path, monkeypatch):
    whole = whole_streams(mode)
    here = enter(tmp_path / 'killed', demo, monkeypatch)
    name = stream_recipe(mode)
    assert in_fork(die_in, moment, name) == -signal.SIGKILL
    num_listed, done = MOMENTS[moment]
    assert len(json.loads(Path('run/stream.json').read_text())['buckets']) == num_listed
    assert {path.parent.name: load_run(path)['progress']['iter'] for path in Path('run').glob('*/latest.pth')} == \
        done | ({'bucket_2': 18} if mode == 'replay' and done.get('bucket_2') == 8 else {})
    train(name, '--work-dir', 'run', '--resume')
    assert_same_stream(whole, here)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_stream_of_fresh_processes_feeds_the_representation_over_time(demo, whole_streams, tmp_path,
                                                                             monkeypatch):
    here = enter(tmp_path / 'killed', demo, monkeypatch)
    name = stream_recipe('distil')
    saves = random.randint(1, 3)
    kill_after_saves(start(name, '--work-dir', 'run'), Path('run/bucket_2/latest.pth'), saves, random.uniform(0, 0.05))
    assert not Path('run/bucket_3/latest.pth').exists()
    finish(name, '--work-dir', 'run', '--resume')
    assert_same_stream(whole_streams('distil'), here)
    measured = run(OVER_TIME, CONFIGS / 'probing' / 'representation_over_time_demo.py', '--work-dir', 'measured',
                   '--device', 'cpu', '--cfg-options', 'checkpoints=run', 'encoder.backbone.stem_channels=8',
                   'encoder.backbone.base_channels=8', 'tasks.0.k=5', 'tasks.1.epochs=2', 'banks.root=banks')
    assert measured.code == 0, measured.err
    matrices = read_results('measured')['extras']['matrices']
    assert set(matrices) == {f'{task}/{protocol}' for task in ('KNN', 'LinearProbe')
                             for protocol in ('probe_per_bucket', 'probe_of_own_bucket')}
    rows = matrices['KNN/probe_per_bucket']
    assert [len(row) for row in rows] == [10] * 3, 'an encoder of every bucket, on all ten of the data'
    assert all(0 < value <= 1 for row in rows for value in row)


# Bad input


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
