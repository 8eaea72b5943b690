"""Episodes of ProtoCLIP: what is encoded and clustered, how labels reach rows, stops, processes, refusals."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from proto_runs import SHAPES, config, seen_by, write_shapes
from quick_runs import weights_of
from ranks import run_ranks
from short_runs import TOOLS, read_results, run

from clear.core.errors import ConfigError
from clear.core.files import load_tensors
from clear.engine.training.program import build_runner
from clear.features.episodes import encoding, hook
from clear.features.episodes.prototypes import Prototypes
from clear.features.texts import extract_texts
from clear.models import build_text_encoder


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('shapes') / 'images')


@pytest.fixture(scope='module')
def teacher(root, tmp_path_factory):
    """Rows that lie in three places, one for each image."""
    rows = np.eye(3, 5)[np.arange(24) % 3] + np.random.default_rng(0).normal(0, 0.01, (24, 5))
    path = tmp_path_factory.mktemp('teacher') / 'rows.npy'
    np.save(path, rows.astype(np.float16))
    return path


def trained(cfg, work_dir):
    runner = build_runner(dict(cfg, work_dir=str(work_dir)))
    runner.train()
    return runner


def purity(labels, classes):
    """Share of rows that are of the commonest class of their cluster."""
    return sum(np.bincount(classes[labels == label]).max() for label in np.unique(labels)) / len(classes)


@pytest.mark.slow
def test_four_clusters_of_four_shapes_are_pure(root, tmp_path, monkeypatch):
    made = seen_by(monkeypatch, Prototypes, 'find')
    cfg = config(root, sampler=dict(episode_size=240), hook=dict(warmup_epochs=2, restarts=10),
                 dataset=dict(transform=[dict(type='Resize', size=[32, 32]), dict(type='ToTensor')]),
                 train_cfg=dict(by_epoch=True, max_epochs=4),
                 optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.001)))
    cfg['train_dataloader']['batch_size'] = 12
    runner = trained(cfg, tmp_path)
    sampler, dataset = runner.train_dataloader.batch_sampler.sampler, runner.train_dataloader.dataset
    assert [kwargs['first_epoch'] for _, kwargs, _ in made] == [2, 3], 'none for the warm-up'
    for _, kwargs, prototypes in made:
        sampler.set_epoch(kwargs['first_epoch'])
        classes = dataset.labels[sampler.draws()]
        assert {*classes} == {0, 1, 2, 3}
        for side in ('image', 'text'):
            assert purity(prototypes.tensors[f'labels_{side}'].numpy(), classes) == 1
    log = read_results(tmp_path)['extras']['train_log']
    assert 'accuracy_image' not in log[0] and log[-1]['accuracy_image'] > 0.5 < log[-1]['accuracy_text']
    assert all({'loss', 'loss_clip', 'modality_gap', 'feature_std_text', 'logit_scale_proto'} <= {*entry}
               for entry in log) and 'loss_proto' in log[-1]


@pytest.mark.parametrize('interval, template', [(1, True), (2, False)])
def test_clusters_and_labels_by_hand(root, teacher, tmp_path, monkeypatch, interval, template):
    """Features of each draw one by one, nearest centroids, means by loops; each row of a batch has its draw's label."""
    made, batches = seen_by(monkeypatch, Prototypes, 'find'), []
    cfg = config(root, hook=dict(external_teacher=str(teacher), warmup_epochs=0, num_clusters=3),
                 model=dict(external_weight=0.5), sampler=dict(interval=interval),
                 train_cfg=dict(by_epoch=True, max_epochs=2), dataset=dict(every_caption=not template))
    if not template:
        np.save(teacher.with_name('both.npy'), np.repeat(np.load(teacher), 2, 0))
        cfg['custom_hooks'][0]['external_teacher'] = str(teacher.with_name('both.npy'))
    runner = build_runner(dict(cfg, work_dir=str(tmp_path)))
    model, loader = runner.bare_model, runner.train_dataloader
    original, features = hook.encode_pairs, []

    def encode(*args, **kwargs):
        features.append((original(*args, **kwargs), one_by_one(model, loader.dataset, *args[2:4])))
        return features[-1][0]

    monkeypatch.setattr(hook, 'encode_pairs', encode)
    noted = type(model).forward

    def forward(self, *args, **kwargs):
        batches.append((runner.epoch, kwargs['rows'], kwargs['positions'], dict(self.clusters)))
        return noted(self, *args, **kwargs)

    monkeypatch.setattr(type(model), 'forward', forward)
    runner.train()
    assert len(made) == len(features) == 2 // interval
    sampler = loader.batch_sampler.sampler
    for (found, expected), (_, kwargs, prototypes) in zip(features, made):
        sampler.set_epoch(kwargs['first_epoch'])
        external = torch.from_numpy(np.load(cfg['custom_hooks'][0]['external_teacher']).astype(np.float32))
        expected['external'] = external[sampler.draws()]
        for side in ('image', 'text'):
            torch.testing.assert_close(found[side], expected[side], rtol=1e-4, atol=1e-5)
        check_prototypes(prototypes.tensors, expected)
    places = {epoch: [] for epoch in range(2)}
    for epoch, rows, positions, clusters in batches:
        sampler.set_epoch(epoch)
        draws = sampler.draws()[positions].numpy()
        assert rows.tolist() == loader.dataset.image_rows[draws].tolist()
        tensors = made[epoch // interval][2].tensors
        assert torch.equal(clusters['image'].labels, tensors['labels_text'])
        assert torch.equal(clusters['text'].labels, tensors['labels_image'])
        assert torch.equal(clusters['image'].student, tensors['means_image'])
        assert torch.equal(clusters['image'].teacher, tensors['centroids_text'])
        assert torch.equal(clusters['text'].student, tensors['means_text'])
        assert torch.equal(clusters['external_text'].student, tensors['means_external_text'])
        places[epoch] += positions.tolist()
    assert places[0] == list(range(24)) and sorted(places[1]) == list(range(24))
    assert (places[1] == places[0]) == (interval == 1)


def one_by_one(model, dataset, epoch, rows):
    was = [module.training for module in model.modules()]
    model.eval()
    found = dict(image=[], text=[])
    with torch.no_grad():
        for row in rows:
            sample = dataset[epoch, row]
            found['image'].append(model.image_proto_head(model.image_encoder(sample['inputs'][None])))
            found['text'].append(model.text_proto_head(model.text_encoder([sample['captions']])))
    for module, mode in zip(model.modules(), was, strict=True):
        module.training = mode
    return {side: torch.cat(values) for side, values in found.items()}


def check_prototypes(tensors, features):
    for source in ('image', 'text', 'external'):
        labels = tensors[f'labels_{source}']
        if source != 'external':
            distances = torch.cdist(features[source], tensors[f'centroids_{source}'])
            assert (distances.gather(1, labels[:, None]).squeeze(1) <= distances.min(1).values + 1e-4).all()
        sides = ('image', 'text') if source == 'external' else ('image' if source == 'text' else 'text',)
        for side in sides:
            means = tensors[f'means_external_{side}' if source == 'external' else f'means_{side}']
            for cluster in range(len(means)):
                rows = [row for row, label in zip(features[side], labels.tolist()) if label == cluster]
                expected = sum(rows) / len(rows) if rows else torch.zeros(means.shape[1])
                torch.testing.assert_close(means[cluster], expected, rtol=1e-4, atol=1e-5)


def test_without_back_translation_rows_look_for_the_other_centroids(root, teacher, tmp_path, monkeypatch, caplog):
    made = seen_by(monkeypatch, Prototypes, 'find')
    cfg = config(root, model=dict(external_weight=1.0),
                 hook=dict(back_translation=False, external_teacher=str(teacher)), train_cfg=dict(by_epoch=True, max_epochs=2))
    trained(cfg, tmp_path)
    assert 'its loss is left out' in caplog.text
    targets, tensors = made[0][2].targets(), made[0][2].tensors
    assert {*targets} == {'image', 'text'}
    for side, other in (('image', 'text'), ('text', 'image')):
        assert targets[side].student is targets[side].teacher is tensors[f'centroids_{other}']
    assert 'loss_external' not in read_results(tmp_path)['extras']['train_log'][-1]


def test_more_clusters_than_pairs_are_prototypes_of_zeros(root, tmp_path, monkeypatch, caplog):
    made = seen_by(monkeypatch, Prototypes, 'find')
    trained(config(root, hook=dict(num_clusters=30, warmup_epochs=0), train_cfg=dict(by_epoch=True, max_epochs=1)),
            tmp_path)
    assert 'num_clusters is 30, but an episode has 24 pairs: 6 prototypes stay zero' in caplog.text
    tensors = made[0][2].tensors
    assert tensors['centroids_image'].shape == (30, 8) and not tensors['centroids_image'][24:].any()
    assert tensors['labels_text'].max() < 24 and np.isfinite(read_results(tmp_path)['metrics']['loss'])


def test_the_last_epochs_may_have_no_prototypes(root, tmp_path, monkeypatch):
    made = seen_by(monkeypatch, Prototypes, 'find')
    trained(config(root, hook=dict(lit_start_epoch=3, warmup_epochs=0)), tmp_path)
    log = read_results(tmp_path)['extras']['train_log']
    assert len(made) == 2 and ['loss_proto' in entry for entry in log] == [True, True, False]
    assert log[2]['loss'] == pytest.approx(log[2]['loss_clip'])


def test_encoding_draws_nothing_and_leaves_the_model_as_it_was(root, tmp_path):
    runner = build_runner(config(root, work_dir=str(tmp_path)))
    model = runner.bare_model.train()
    before, numbers = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    rows = [3, 1, 3, 20, 1]
    found = [encoding.encode_pairs(model, runner.train_dataloader, 2, rows, batch_size=size,
                                   autocast=runner.optim_wrapper.optim_context(model)) for size in (2, 256)]
    assert torch.equal(numbers, torch.get_rng_state()) and model.training and model.image_proto_head.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(found[0]['image'][0], found[0]['image'][2]) and not found[0]['text'].requires_grad


# Stops, processes


@pytest.fixture
def ends_at(monkeypatch):
    """Called with an iteration: the next run gets SIGTERM in it; with None: it goes on to its end."""
    from mmengine.hooks import IterTimerHook

    def ends(self, runner, *args, **kwargs):
        after(self, runner, *args, **kwargs)
        if runner.iter + 1 == int(os.environ.get('ENDS_AT', 0)):
            os.kill(os.getpid(), signal.SIGTERM)

    after = IterTimerHook.after_train_iter
    monkeypatch.setattr(IterTimerHook, 'after_train_iter', ends)
    monkeypatch.setenv('ENDS_AT', '0')
    return lambda iteration: monkeypatch.setenv('ENDS_AT', str(iteration or 0))


@pytest.mark.parametrize('sampler, hooks, stops', [
    (dict(), [], [6]), pytest.param(dict(interval=2), [], [6, 8, 10], marks=pytest.mark.slow),
    pytest.param(dict(interval=3), ['EMAHook'], [8, 10], marks=pytest.mark.slow)])
def test_stopped_inside_and_between_episodes_and_resumed(root, tmp_path, ends_at, sampler, hooks, stops):
    cfg = config(root, sampler=sampler, custom_hooks=[dict(type=name) for name in hooks])
    (tmp_path / 'c.json').write_text(json.dumps(cfg))
    command = ('train', tmp_path / 'c.json', '--work-dir')
    assert run(*command, tmp_path / 'whole').code == 0
    for stop in stops:
        folder = tmp_path / f'{stop}'
        ends_at(stop)
        assert run(*command, folder).code == 143
        ends_at(None)
        saved = load_tensors(folder / 'latest.pth')
        is_inside = stop % 4 or (stop // 4) % sampler.get('interval', 1)
        assert ('prototypes' in saved) == bool(is_inside)
        done = run(*command, folder, '--resume')
        assert done.code == 0, done.err
        torch.testing.assert_close(weights_of(folder), weights_of(tmp_path / 'whole'), rtol=0, atol=0)
        assert read_results(folder)['extras']['train_log'] == read_results(tmp_path / 'whole')['extras']['train_log']


DIES = """
import os
import signal

from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class DiesAt(Hook):
    priority = 'LOWEST'

    def after_whole_iter(self, runner):
        if runner.iter == int(os.environ.get('DIES_AT', 0)):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_killed_inside_an_episode_and_resumed_in_fresh_processes(root, tmp_path):
    (tmp_path / 'dies.py').write_text(DIES)
    cfg = config(root, custom_hooks=[dict(type='DiesAt')], custom_imports=dict(imports=['dies']),
                 default_hooks=dict(checkpoint=dict(type='CheckpointHook', iter_interval=2)))
    (tmp_path / 'c.json').write_text(json.dumps(cfg))

    def train(folder, *options, dies_at=0):
        return subprocess.run([sys.executable, TOOLS / 'train.py', tmp_path / 'c.json', '--work-dir', folder, *options],
                              env=os.environ | dict(DIES_AT=str(dies_at)), capture_output=True, check=False)

    assert train(tmp_path / 'whole').returncode == 0
    assert train(tmp_path / 'parts', dies_at=7).returncode == -signal.SIGKILL
    assert load_tensors(tmp_path / 'parts' / 'latest.pth')['progress']['iter'] == 6
    done = train(tmp_path / 'parts', '--resume')
    assert done.returncode == 0, done.stderr.decode()
    torch.testing.assert_close(weights_of(tmp_path / 'parts'), weights_of(tmp_path / 'whole'), rtol=0, atol=0)


@pytest.mark.parametrize('wrong', [None, dict(first_epoch=1, tensors={}), 'shape'])
def test_a_checkpoint_without_the_prototypes_of_its_episode_is_refused(root, tmp_path, ends_at, wrong):
    (tmp_path / 'c.json').write_text(json.dumps(config(root)))
    command = ('train', tmp_path / 'c.json', '--work-dir', tmp_path / 'run')
    ends_at(6)
    assert run(*command).code == 143
    saved = load_tensors(tmp_path / 'run' / 'latest.pth')
    if wrong == 'shape':
        saved['prototypes']['tensors']['labels_text'] = torch.zeros(23, dtype=torch.int64)
    elif wrong is None:
        del saved['prototypes']
    else:
        saved['prototypes'] = wrong
    torch.save(saved, tmp_path / 'run' / 'latest.pth')
    done = run(*command, '--resume')
    assert done.code not in (0, 1) and 'prototypes' in done.err and 'Traceback' not in done.err, done.err


def of_ranks(rank, cfg, work_dir):
    with pytest.MonkeyPatch.context() as patch:
        made = seen_by(patch, Prototypes, 'find')
        runner = trained(cfg, work_dir)
    return dict(weights=dict(runner.bare_model.state_dict()), made=[each[2].tensors for each in made],
                log=[{name: value for name, value in entry.items() if name.startswith(('accuracy', 'modality'))}
                     for entry in runner.train_log])


@pytest.mark.slow
def test_two_processes_train_as_one(root, teacher, tmp_path):
    # Not Adam: it would make steps of the rounding in gradients that are zero, as those of the keys' biases are.
    cfg = config(root, model=dict(external_weight=0.5), sync_bn=True, optim_wrapper=dict(optimizer=dict(
                     type='SGD', lr=0.02, momentum=0.9)),
                 hook=dict(external_teacher=str(teacher), batch_size=5))
    (tmp_path / 'ranks').mkdir()
    one = of_ranks(0, cfg, tmp_path / 'one')
    cfg['train_dataloader'] = dict(cfg['train_dataloader'], batch_size=3)
    two = run_ranks(of_ranks, 2, tmp_path / 'ranks', cfg, str(tmp_path / 'two'))
    for rank in two:
        torch.testing.assert_close(rank['weights'], one['weights'], rtol=1e-3, atol=1e-4)
        for found, expected in zip(rank['made'], one['made'], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    for found, expected in zip(two[0]['log'], one['log'], strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    assert all(torch.equal(value, two[1]['made'][-1][name]) for name, value in two[0]['made'][-1].items())


# A teacher's rows


def test_rows_of_a_teacher_by_place_by_image_and_by_text(root, teacher, tmp_path):
    from clear.features.episodes.teacher import ExternalTeacher
    from clear.features.extract import extract

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


# Refusals


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
