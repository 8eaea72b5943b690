import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pixel_tables import SIZE, StridedEncoder, class_table

from clear.core.errors import BusyError, ConfigError, DataError
from clear.core.logs import logger
from clear.core.storage.locks import locked
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.task import TaskData
from clear.features import FeatureBank

# Bytes of the maps of one image in float32, sides 8, 4, 2, 1 and 1 of 4 channels.
PER_IMAGE = 4 * 4 * (64 + 16 + 4 + 1 + 1)


def task_of(**changes):
    return PixelwiseProbe(**dict(
        dict(head=dict(type='PixelWiseHead'), loss=dict(type='cross_entropy'), metric='miou', lrs=[0.01], epochs=2,
             batch_size=4, recipe=dict(size=(SIZE, SIZE)), cache='maps', cache_dtype='float32'), **changes))


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp('cached')
    return dict(train=class_table(root / 'train', 11, size=20), test=class_table(root / 'test', 5, seed=1))


def data_of(tables, root, **changes):
    return TaskData(images={**tables, **changes}, encoder_name='strided',
                    storage=dict(root=str(root), batch_size=4, dtype='float16'))


def folders(root):
    return sorted(path for path in (root / 'pixel_maps').iterdir() if path.is_dir())


@pytest.fixture
def said(caplog):
    handlers, logger.handlers = logger.handlers, []
    logger.propagate, before = True, logger.propagate
    caplog.set_level('INFO', 'clear')
    yield caplog
    logger.handlers, logger.propagate = handlers, before


@pytest.mark.parametrize('recipe', [dict(size=(SIZE, SIZE)), dict(size=(8, 24), hole=(2, 5))])
def test_stored_maps_give_the_values_of_an_encoder_that_is_asked_each_time(tables, tmp_path, recipe):
    asked, stored = (task_of(cache=cache, recipe=recipe).run(StridedEncoder(), data_of(tables, tmp_path))
                     for cache in ('none', 'maps'))
    assert (asked.extras['cache'], stored.extras['cache']) == ([], ['test', 'train', 'val'])
    assert stored.value == asked.value
    for name in ('train_loss', 'val_loss', 'val_metric'):
        columns = [each.extras['curves']['adam_0.01'][name] for each in (asked, stored)]
        assert columns[1] == pytest.approx(columns[0], rel=1e-6)


def test_each_image_is_encoded_once_for_all_epochs_settings_and_runs(tables, tmp_path):
    encoder = StridedEncoder()
    task_of(epochs=3, lrs=[0.01, 0.02]).run(encoder, data_of(tables, tmp_path))
    looks = 3 * 2 + 2  # sizes of maps, asked for the budget, the room and each bank; and whether the head fits
    assert 11 + 5 <= encoder.num_images <= 11 + 5 + looks
    before = encoder.num_images
    task_of(seed=1).run(encoder, data_of(tables, tmp_path))
    assert encoder.num_images - before <= looks and len(folders(tmp_path)) == 2


def test_of_random_training_images_the_others_are_stored(tables, tmp_path):
    recipe = dict(size=(SIZE, SIZE), mirror=0.5)
    result = task_of(recipe=recipe, cache='auto').run(StridedEncoder(), data_of(tables, tmp_path))
    assert result.extras['cache'] == ['test', 'val']
    assert sorted(len(FeatureBank.open(path)) for path in folders(tmp_path)) == [1, 5]
    same = task_of(recipe=recipe, cache='none').run(StridedEncoder(), data_of(tables, tmp_path))
    assert result.value == same.value


def test_float16_rounds_what_is_stored(tables, tmp_path):
    result = task_of(cache_dtype='float16').run(StridedEncoder(), data_of(tables, tmp_path))
    assert {FeatureBank.open(path).maps(0).dtype for path in folders(tmp_path)} == {np.dtype('float16')}
    exact = task_of().run(StridedEncoder(), data_of(tables, tmp_path))
    curves = [each.extras['curves']['adam_0.01']['train_loss'] for each in (result, exact)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-2) and curves[0] != curves[1]


def test_only_levels_that_a_head_reads_are_stored(tables, tmp_path):
    task_of(head=dict(type='LinearPixelHead', levels=[3, 1])).run(StridedEncoder(), data_of(tables, tmp_path))
    assert [sorted(FeatureBank.open(path).meta['maps']) for path in folders(tmp_path)] == [['1', '3']] * 2


def test_a_budget_is_checked_before_anything_is_encoded(tables, tmp_path, said):
    needed = (11 + 5) * PER_IMAGE
    encoder = StridedEncoder()
    with pytest.raises(ConfigError, match=r'strided: the maps of 16 images, levels 0, 1, 2, 3, 4 in float32, take '
                                          r"2.2e-05 GB, more than budget_gb = .*Raise it, or take cache='none'"):
        task_of(budget_gb=(needed - 1) / 1e9).run(encoder, data_of(tables, tmp_path))
    assert not (tmp_path / 'pixel_maps').exists() and encoder.num_images <= 3
    result = task_of(budget_gb=(needed - 1) / 1e9, cache='auto').run(encoder, data_of(tables, tmp_path))
    assert result.extras['cache'] == [] and not (tmp_path / 'pixel_maps').exists()
    assert 'They are not stored; every batch is encoded' in said.text
    assert task_of(budget_gb=needed / 1e9).run(encoder, data_of(tables, tmp_path)).extras['cache']


@pytest.mark.parametrize('other', [dict(seed=1), dict(mean=0.4)])
def test_another_encoder_finds_no_maps_and_misplaced_ones_are_refused(tables, tmp_path, other):
    encoder = StridedEncoder(other.get('seed', 0))
    if 'mean' in other:
        encoder.preprocess = encoder.preprocess.changed(dict(mean=[other['mean']] * 3))
    task_of().run(StridedEncoder(), data_of(tables, tmp_path / 'one'))
    task_of().run(encoder, data_of(tables, tmp_path / 'two'))
    one, two = folders(tmp_path / 'one'), folders(tmp_path / 'two')
    assert not {path.name for path in one} & {path.name for path in two}
    for path, place in zip(one, two):
        shutil.rmtree(place)
        shutil.copytree(path, place)
    with pytest.raises(DataError, match='is another bank than the one asked for'):
        task_of().run(encoder, data_of(tables, tmp_path / 'two'))


def test_images_that_cannot_be_read_are_left_out_and_counted(tmp_path):
    tables = dict(train=class_table(tmp_path / 'train', 11), test=class_table(tmp_path / 'test', 5, seed=1))
    for place in ('train/images/002.png', 'test/images/000.png'):
        content = (tmp_path / place).read_bytes()
        (tmp_path / place).write_bytes(content[:len(content) // 2])
    data = TaskData(images=tables, storage=dict(root=str(tmp_path / 'banks'), max_bad_fraction=0.3))
    for cache, counted in (('maps', dict(train=1, val=0, test=1)), ('none', dict(train=1, val=0, test=1))):
        result = task_of(cache=cache, seed=2).run(StridedEncoder(), data)
        assert result.extras['n_test'] == 4 and result.extras['unreadable'] == counted
    strict = TaskData(images=tables, storage=dict(root=str(tmp_path / 'strict')))
    for cache in ('maps', 'none'):
        with pytest.raises(DataError, match='max_bad_fraction'):
            task_of(cache=cache).run(StridedEncoder(), strict)


def test_a_target_of_another_size_is_refused_with_stored_maps_too(tmp_path):
    tables = dict(train=class_table(tmp_path / 'train', 4), test=class_table(tmp_path / 'test', 2, seed=1))
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / 'train/masks/003.png')
    for cache in ('maps', 'none'):
        with pytest.raises(DataError, match=r'masks/003.png: 4 x 4 pixels, where its image'):
            task_of(cache=cache).run(StridedEncoder(), TaskData(images=tables, storage=dict(root=str(tmp_path))))
    assert not (tmp_path / 'pixel_maps').exists()


def test_memory_is_given_back_after_each_batch(tables, tmp_path):
    """Batches are copies: no map of a file stays open behind them."""
    task = task_of()
    task.run(StridedEncoder(), data_of(tables, tmp_path))
    from clear.datasets.dense.samples import DenseSamples
    from clear.evaluation.dense.inputs.feeds import StoredFeed

    bank = next(bank for bank in map(FeatureBank.open, folders(tmp_path)) if len(bank) == 5)
    samples = DenseSamples(tables['test'], dict(size=(SIZE, SIZE)), StridedEncoder().preprocess, train=False,
                           targets_only=True)
    feed = StoredFeed(samples, bank, np.arange(5), torch.device('cpu'))
    first = next(feed.batches([4, 1], 0, 2))
    assert torch.equal(first.inputs[0], torch.from_numpy(bank.maps(0)[[4, 1]]))
    assert first.inputs[0].data_ptr() != bank.maps(0).ctypes.data and len(first) == 2


def test_maps_used_longest_ago_make_room_and_the_log_says_so(tables, tmp_path, said):
    first, second = StridedEncoder(), StridedEncoder(1)
    both = 2 * (11 + 5) * PER_IMAGE / 1e9
    task_of(budget_gb=both).run(first, data_of(tables, tmp_path))
    one = folders(tmp_path)
    # A bank holds more than maps: the second encoder's fit only without some of the first's.
    task_of(budget_gb=both).run(second, data_of(tables, tmp_path))
    two = folders(tmp_path)
    gone = [path for path in one if path not in two]
    assert gone and len(two) + len(gone) == 4
    assert all(f'maps deleted to make room (budget_gb): {path}' in said.text for path in gone)
    asked = task_of(cache='none').run(first, data_of(tables, tmp_path))
    assert task_of(budget_gb=both).run(first, data_of(tables, tmp_path)).value == asked.value


def test_maps_that_are_read_now_stay(tables, tmp_path):
    from clear.evaluation.dense.pixelwise_job import PixelwiseJob

    first, budget = StridedEncoder(), (11 + 5) * PER_IMAGE / 1e9
    training = PixelwiseJob(task_of(), first, data_of(tables, tmp_path)).training()
    kept = folders(tmp_path)
    with pytest.raises(BusyError, match='more than budget_gb are in use by other runs'):
        task_of(budget_gb=budget).run(StridedEncoder(1), data_of(tables, tmp_path))
    assert folders(tmp_path) == kept
    del training
    task_of(budget_gb=budget).run(StridedEncoder(1), data_of(tables, tmp_path))
    assert not {*folders(tmp_path)} & {*kept}


def test_what_a_killed_run_has_not_finished_makes_room_too(tables, tmp_path):
    """Else a job of another encoder would wait for a process that is gone."""
    budget = (11 + 5) * PER_IMAGE / 1e9
    task_of(budget_gb=budget).run(StridedEncoder(), data_of(tables, tmp_path))
    for path in folders(tmp_path):
        left = path.rename(path.with_name(f'{path.name}.partial'))
        (left / 'meta.json').rename(left / 'plan.json')
        (left / 'lock').write_text('1 on a machine')
    held = sorted((tmp_path / 'pixel_maps').glob('*.partial'))
    with locked(held[0] / 'lock', ''), pytest.raises(BusyError, match='are in use by other runs'):
        task_of(budget_gb=budget).run(StridedEncoder(1), data_of(tables, tmp_path))
    (held[0] / 'lock').write_text('1 on a machine')
    task_of(budget_gb=budget).run(StridedEncoder(1), data_of(tables, tmp_path))
    assert not any(path.exists() for path in held)
