"""Episodes of ProtoCLIP: what is encoded and clustered, and how labels reach rows."""

import numpy as np
import pytest
import torch
from proto_runs import config, seen_by, trained, write_shapes, write_teacher
from short_runs import read_results

from clear.engine.training.program import build_runner
from clear.features.episodes import encoding, hook
from clear.features.episodes.prototypes import Prototypes


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('shapes') / 'images')


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp('teacher') / 'rows.npy')


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
                 hook=dict(back_translation=False, external_teacher=str(teacher)),
                 train_cfg=dict(by_epoch=True, max_epochs=2))
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


@pytest.mark.slow
def test_a_locked_tower_is_read_from_its_bank_and_workers_change_nothing(root, tmp_path, monkeypatch):
    found = []
    for use_banks, workers in ((True, 0), (False, 0), (False, 2)):
        with monkeypatch.context() as patch:
            made = seen_by(patch, Prototypes, 'find')
            cfg = config(root, banks=dict(root=str(tmp_path / 'banks')), use_banks=use_banks,
                         train_cfg=dict(by_epoch=True, max_epochs=2))
            cfg['model']['text_encoder'] = dict(cfg['model']['text_encoder'], trainable=False)
            cfg['train_dataloader']['num_workers'] = workers
            trained(cfg, tmp_path / f'{use_banks}{workers}')
        found.append([prototypes.tensors for *_, prototypes in made])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert len(found[0]) == 1
    torch.testing.assert_close(found[1], found[2], rtol=0, atol=0)


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
