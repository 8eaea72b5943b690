"""Numbers and figures of the clusters that ProtoCLIP trains on."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from proto_runs import config, seen_by, write_shapes
from quick_runs import weights_of
from short_runs import read_results, run
from sklearn import metrics

from clear.core.errors import ConfigError
from clear.engine.training.program import build_runner
from clear.registry import DATASETS
from clear.visualization import cluster_hook
from clear.visualization.cluster_hook import ClusterFiguresHook

KINDS = ['map', 'samples', 'sizes']


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = write_shapes(tmp_path_factory.mktemp('shapes') / 'images')
    (root / 'red' / '0.png').write_bytes(b'no picture')
    return root


def numbers_by_hand(rows, own, classes, num_clusters):
    """What is expected in the log of one source, all but two sizes."""
    used, counts = np.unique(own, return_counts=True)
    return dict(purity=sum(np.bincount(classes[own == label]).max() for label in used) / len(own),
                num_empty=num_clusters - len(used), size_largest=counts.max(),
                silhouette=metrics.silhouette_score(rows, own),
                davies_bouldin=metrics.davies_bouldin_score(rows, own),
                calinski_harabasz=metrics.calinski_harabasz_score(rows, own))


def shown(root, folder, episode, **options):
    """What the hook measures, of 40 draws in up to six clusters, and the names of its figures."""
    measured = {}
    dataset = DATASETS.build(config(root)['train_dataloader']['dataset'])
    runner = SimpleNamespace(work_dir=str(folder), run_name='a run', epoch=episode, seed=0,
                             train_dataloader=SimpleNamespace(dataset=dataset), add_measurements=measured.update)
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(0, len(dataset), (40,), generator=generator)
    features, labels = ({side: draw for side in ('image', 'text') for draw in [make()]} for make in (
        lambda: torch.randn(40, 5, generator=generator), lambda: torch.randint(0, 6, (40,), generator=generator)))
    ClusterFiguresHook(**options).after_clustering(runner, features=features, labels=labels, draws=draws,
                                                   num_clusters=8, episode=episode)
    classes = dataset.labels[draws.numpy()]
    expected = {f'clusters_{side}_{name}': value for side in features for name, value in numbers_by_hand(
        features[side].numpy(), labels[side].numpy(), classes, 8).items()}
    assert not measured or {name: measured[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    where = folder / 'figures' / 'clusters'
    return measured, sorted(path.name for path in where.iterdir()) if where.exists() else []


def test_numbers_every_time_and_figures_at_times(root, tmp_path):
    for episode in (1, 2, 3):
        measured, found = shown(root, tmp_path / str(episode), episode, interval=3, num_clusters=3, per_cluster=2)
        assert len(measured) == 2 * 8
        assert found == [f'epoch_4_{side}_{kind}.png' for side in ('image', 'text') for kind in KINDS if episode == 3]
    assert (tmp_path / '3' / 'figures' / 'clusters' / found[1]).read_bytes().startswith(b'\x89PNG')


def test_parts_can_be_left_out(root, tmp_path):
    assert shown(root, tmp_path / 'numbers', 0, interval=0)[1] == []
    assert shown(root, tmp_path / 'figures', 0, measure=False, map_rows=0) == ({}, [
        f'epoch_1_{side}_{kind}.png' for side in ('image', 'text') for kind in ('samples', 'sizes')])


def test_pictures_are_of_the_drawn_pairs(root, tmp_path, monkeypatch):
    figures = seen_by(monkeypatch, cluster_hook, 'samples_figure')
    shown(root, tmp_path, 0, map_rows=0, measure=False)
    (members, picture, names, *_), _, _ = figures[0]
    dataset = DATASETS.build(config(root)['train_dataloader']['dataset'])
    draws = torch.randint(0, len(dataset), (40,), generator=torch.Generator().manual_seed(0)).tolist()
    for (cluster, rows), name in zip(members.items(), names):
        assert name.startswith(f'{cluster}: ') and name.endswith(dataset.images.captions(draws[rows[0]])[0])
        for row in rows:
            if dataset.images.text('path', draws[row]).endswith('red/0.png'):
                assert picture(row) is None
            else:
                assert list(picture(row).getdata()) == list(dataset.images.open_image(draws[row]).getdata())


def test_without_matplotlib_there_are_numbers(root, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__('sys').modules, 'matplotlib.figure', None)
    with caplog.at_level('INFO'):
        measured, found = shown(root, tmp_path, 0)
    assert measured and found == [] and 'matplotlib is not installed' in caplog.text


@pytest.mark.slow
def test_a_run_logs_and_draws_and_trains_as_without(root, tmp_path):
    def train(name, hooks):
        (tmp_path / f'{name}.json').write_text(json.dumps(config(root, custom_hooks=hooks)))
        done = run('train', tmp_path / f'{name}.json', '--work-dir', tmp_path / name)
        assert done.code == 0, done.err
        return read_results(tmp_path / name)['extras']['train_log']

    log = train('drawn', [dict(type='ClusterFiguresHook', interval=2)])
    found = {path.name for path in (tmp_path / 'drawn' / 'figures' / 'clusters').iterdir()}
    assert found == {f'epoch_3_{side}_{kind}.png' for side in ('image', 'text') for kind in KINDS}, 'the first warms up'
    assert ['clusters_image_purity' in entry for entry in log] == [False, True, True]
    assert [{name: value for name, value in entry.items() if not name.startswith('clusters_')} for entry in log] == \
        train('bare', [])
    torch.testing.assert_close(weights_of(tmp_path / 'drawn'), weights_of(tmp_path / 'bare'), rtol=0, atol=0)


def test_nothing_to_draw_is_one_message_before_training(root, tmp_path):
    cfg = config(root, custom_hooks=[dict(type='ClusterFiguresHook')], work_dir=str(tmp_path))
    cfg['custom_hooks'] = cfg['custom_hooks'][1:]
    with pytest.raises(ConfigError, match='custom_hooks has none'):
        build_runner(cfg).train()


@pytest.mark.parametrize('name', ['num_clusters', 'per_cluster', 'silhouette_rows'])
def test_wrong_numbers(name):
    with pytest.raises(ConfigError, match=f'ClusterFiguresHook.{name}'):
        ClusterFiguresHook(**{name: 0})
