"""What a task says that it needs is what it gets, and what the data cannot give is refused before anything is done."""

import json
from pathlib import Path

import pytest
import torch
from short_runs import run
from tiny_encoder import write_images

from clear.core.errors import ConfigError, DataError, TrainingError
from clear.datasets import ImageTable
from clear.engine.probing.runner import ProbeRunner
from clear.evaluation.task import TaskData, TaskResult, needs_of
from clear.features import FeatureBank, write_bank
from clear.registry import TASKS

ENCODER = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
SEEN = []  # (encoder, data) of every `Looks` that ran


class Looks:
    """Keeps what it was given."""

    needs = ('images',)

    def run(self, encoder, data):
        SEEN.append((encoder, data))
        return TaskResult('rows', 1.0)


class LooksAtMaps(Looks):
    needs = ('maps',)
    levels = (4, 2)


class LooksAtAll(Looks):
    needs = ('bank', 'maps', 'images')
    levels = (4,)


class Reads(Looks):
    needs = ('text',)


class KnowsClasses(Looks):
    needs = ('bank',)

    def check_classes(self, known):
        if list(known) != ['cat', 'dog']:
            raise DataError(f'no cats among {known}')


class SaysNothing(Looks):
    needs = ()


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    """The tasks above, registered for one test, in a folder with some images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    TASKS.import_from_location()
    before = dict(TASKS.module_dict)
    for kind in (Looks, LooksAtMaps, LooksAtAll, Reads, KnowsClasses, SaysNothing):
        TASKS.register_module(module=kind)
    SEEN.clear()
    write_images(Path('images'), count=4)
    yield
    TASKS.module_dict.clear()
    TASKS.module_dict.update(before)


def config(*kinds, test=None, encoder=ENCODER, **more):
    return dict(device='cpu', encoders=dict(net=encoder), tasks=[dict(type=kind) for kind in kinds],
                data=dict(test=test or dict(type='ImageFolder', root='images')), banks=dict(root='banks'), **more)


def test_images_come_with_the_encoder_and_without_a_bank():
    results = ProbeRunner(config('Looks'), Path('work')).run()
    (encoder, data), = SEEN
    assert results.metrics == {'net/Looks/rows': 1.0} and not Path('banks').exists()
    assert isinstance(data.images['test'], ImageTable) and len(data.images['test']) == 4
    assert (data.bank, data.maps, data.text, data.encoder_name) == ({}, {}, {}, 'net')
    assert encoder(torch.zeros(1, 3, 32, 32)).shape == (1, encoder.embed_dim)
    job = json.loads(Path('work/jobs.json').read_text())['jobs']['net--Looks']
    assert job['encoder_hash'] == encoder.fingerprint()[:16] and set(job['banks']) == {'test'}


def test_text_is_the_captions_of_a_table():
    Path('images/t.csv').write_text('path,caption\nbus/002.png,a bus\nbus/000.png,"two buses, parked"\n')
    ProbeRunner(config('Reads', test=dict(type='Table', path='images/t.csv'))).run()
    (encoder, data), = SEEN
    assert encoder is not None and data.images == data.bank == {}
    assert data.text['test'] == [['a bus'], ['two buses, parked']]


def test_finished_task_on_images_is_done_again_when_the_images_changed():
    ProbeRunner(config('Looks'), Path('work')).run()
    same = ProbeRunner(config('Looks'), Path('work'))
    assert same.resume() == 1
    write_images(Path('images'), count=6)
    assert ProbeRunner(config('Looks'), Path('work')).resume() == 0


def test_maps_are_stored_beside_the_features_at_the_levels_of_the_task():
    ProbeRunner(config('LooksAtMaps', 'LooksAtAll')).run()
    (nothing, maps), (encoder, everything) = SEEN
    assert nothing is None and encoder is not None
    assert sorted(maps.maps['test'].meta['maps']) == ['2', '4'] and maps.bank == maps.images == {}
    assert maps.maps['test'].maps(4).shape[:2] == (4, 512)
    assert sorted(everything.maps['test'].meta['maps']) == ['4']
    assert everything.bank['test'].path == everything.maps['test'].path and len(everything.images['test']) == 4


@pytest.mark.parametrize(('kind', 'test', 'says'), [
    ('Looks', dict(bank='features'), 'Looks needs images, but data.test is a bank, which has none'),
    ('LooksAtAll', dict(bank='features'), 'needs images, but data.test is a bank'),
    ('Reads', dict(bank='features'), 'Reads needs text, but data.test is a bank'),
    ('Reads', None, 'Reads needs text, but the images of type ImageFolder have no captions'),
    ('KNN', dict(type='FolderImages', data_root='images'),
     r'KNN needs labels, but the images of type FolderImages have none \(data.test of net--KNN\). Nothing was encoded'),
    ('LooksAtMaps', dict(bank='features'), 'LooksAtMaps needs maps of level 4, 2; the bank features has none'),
    ('Looks', dict(type='ImageFolder', root='images', bucket='1'), 'and no single bucket of it'),
    ('ZeroShot', None, 'needs an encoder of text; encoders.net is a TorchvisionEncoder, which encodes no text'),
    ('SaysNothing', None, r'SaysNothing.needs is \(\); expected what the task reads')], ids=str)
def test_what_the_data_cannot_give_is_refused_before_anything_is_encoded(kind, test, says, monkeypatch):
    write_bank('features', torch.randn(4, 3), [0, 1, 0, 1])
    cfg = config('NearestClassMean', kind, test=test)
    cfg['data']['train'] = dict(type='ImageFolder', root='images')
    cfg['tasks'][1]['data'] = dict(test=cfg['data']['test'])
    cfg['tasks'][0]['data'] = dict.fromkeys(('train', 'test'), dict(type='ImageFolder', root='images'))
    with pytest.raises(ConfigError, match=says):
        ProbeRunner(cfg).run()
    assert not Path('banks').exists() and not SEEN
    Path('config.json').write_text(json.dumps({**cfg, 'runner_type': 'ProbeRunner'}))
    for more in ([], ['--dry-run']):
        done = run('train', 'config.json', '--work-dir', 'run', '--overwrite', *more)
        errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
        assert done.code == 2 and len(errors) == 1 and not Path('banks').exists()


def test_maps_without_levels_are_an_error():
    class Levelless(Looks):
        needs = ('maps',)

    with pytest.raises(ConfigError, match='Levelless needs maps but does not say of which levels'):
        needs_of(Levelless())


def test_images_of_other_classes_fail_their_job_before_they_are_encoded(caplog):
    runner = ProbeRunner(config('KnowsClasses', 'Looks'))
    runner.plan()
    assert 'net--KnowsClasses would fail: no cats among' in caplog.text
    with pytest.raises(TrainingError, match='1 of 2 jobs failed'):
        runner.run()
    assert len(SEEN) == 1 and not Path('banks').exists()


def test_images_that_are_not_there_fail_their_job_only():
    cfg = config('Looks', 'Reads')
    cfg['tasks'] = [dict(type='Looks'), dict(type='Reads', data=dict(test=dict(type='ImageFolder', root='nowhere')))]
    with pytest.raises(TrainingError, match='1 of 2 jobs failed'):
        ProbeRunner(cfg).run()
    assert len(SEEN) == 1


def test_a_bank_made_for_maps_is_found_again():
    ProbeRunner(config('LooksAtMaps')).run()
    made = {path.name for path in Path('banks').iterdir()}
    ProbeRunner(config('LooksAtMaps')).run()
    assert {path.name for path in Path('banks').iterdir()} == made and len(made) == 1
    assert isinstance(SEEN[1][1].maps['test'], FeatureBank) and TaskData().bank == {}
