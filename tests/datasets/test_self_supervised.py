"""Samples for pretraining: the same bytes in any order, worker, process, cache and restart; bad images replaced."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image
from ranks import run_ranks
from reader_sets import bucket_images, folder_images
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from clear.core.errors import ConfigError, DataError
from clear.core.seeding import seeded_draws
from clear.datasets import BadSamples, SampleContext, SelfSupervisedImages
from clear.datasets.loaders.samplers import EpochSampler, GlobalBatchSampler
from clear.datasets.transforms import MultiCrop
from clear.registry import DATASETS

VIEWS = dict(type='MultiCrop', recipe='moco_v2', options=dict(size=8))
FORMS = {'whole': dict(image_size=12), 'views': dict(transform=VIEWS)}


def write_images(root, count=10, seed=0):
    """Images of different sizes; names do not sort as they were written."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        size = (14 + number, 20 - number, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(root / f'{number * 7 % count:02}.jpg')
    return root


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data') / 'photos')


@pytest.fixture
def breakable(tmp_path):
    """Two time buckets of six images."""
    for name in ('1', '2'):
        write_images(tmp_path / 'stream' / name, 6, seed=int(name))
    return tmp_path / 'stream'


def loader(dataset, batch_size=4, workers=0, start=0, epoch=0, **options):
    sampler = EpochSampler(dataset, seed=5)
    sampler.set_epoch(epoch)
    batch_sampler = GlobalBatchSampler(sampler, batch_size)
    batch_sampler.start = start
    return DataLoader(dataset, batch_sampler=batch_sampler, collate_fn=default_collate, num_workers=workers, **options)


def same(one, other):
    """Whether two lists of batches are equal to the byte."""
    flat = [[tensor for batch in batches for value in batch.values()
             for tensor in (value if isinstance(value, list) else [value])] for batches in (one, other)]
    return len(flat[0]) == len(flat[1]) > 0 and all(map(torch.equal, *flat))


# What a sample is


def test_whole_images_and_their_seeds(folder):
    dataset = folder_images(folder, image_size=12)
    dataset.seed = 4
    reference = v2.Compose([v2.Resize(12), v2.CenterCrop(12), v2.PILToTensor()])
    assert len(dataset) == 10 and dataset.ids == [f'{number:02}.jpg' for number in range(10)]
    for row in range(10):
        sample = dataset[3, row]
        assert torch.equal(sample['inputs'], reference(Image.open(folder / dataset.paths[row])))
        assert sample['inputs'].dtype == torch.uint8 and sample['seeds'].dtype == torch.int64
        assert sample['seeds'].shape == ()
        assert int(sample['seeds']) == SampleContext(4, 0, 3).seed_of('augment', dataset.ids[row])
    batch = next(iter(loader(dataset)))
    assert batch['inputs'].shape == (4, 3, 12, 12) and batch['seeds'].shape == (4,)


def test_views_of_an_image(folder):
    dataset = folder_images(folder, transform=[VIEWS])
    dataset.seed = 4
    for row in (0, 9):
        expected = views_of(folder / dataset.paths[row], SampleContext(4, 0, 3).seed_of('augment', dataset.ids[row]))
        found = dataset[3, row]['inputs']
        assert len(found) == len(expected) == 2 and all(map(torch.equal, found, expected))
    batch = next(iter(loader(dataset)))
    assert type(batch['inputs']) is list and [view.shape for view in batch['inputs']] == [(4, 3, 8, 8)] * 2


# The same bytes everywhere


@pytest.mark.parametrize('form', FORMS)
def test_workers_and_epochs(form, folder):
    dataset = folder_images(folder, cache='ram', **FORMS[form])
    epochs = {(workers, epoch): list(loader(dataset, 2, workers, epoch=epoch)) for workers in (0, 2)
              for epoch in (0, 1)}
    assert same(epochs[0, 0], epochs[2, 0]) and same(epochs[0, 1], epochs[2, 1])
    assert not same(epochs[0, 0], epochs[0, 1])
    persistent = loader(dataset, 2, 2, persistent_workers=True)
    for epoch in (0, 1):
        persistent.batch_sampler.sampler.set_epoch(epoch)
        assert same(list(persistent), epochs[0, epoch])


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('workers', [0, 2])
def test_a_late_start_gives_the_tail(form, workers, folder):
    dataset = folder_images(folder, **FORMS[form])
    whole = list(loader(dataset, 2, epoch=1))
    assert same(list(loader(dataset, 2, workers, start=3, epoch=1)), whole[3:])


def _batches(rank, folder):
    dataset = folder_images(folder, image_size=12)
    return [dict(batch) for batch in loader(dataset, 2)]


def test_two_processes_have_the_batches_of_one(folder, tmp_path):
    parts = run_ranks(_batches, 2, tmp_path, folder)
    joined = [{key: torch.cat([one[key], two[key]]) for key in one} for one, two in zip(*parts, strict=True)]
    assert same(joined, list(loader(folder_images(folder, image_size=12), 4)))


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('cache', ['ram', 'disk'])
def test_caches_change_nothing(form, cache, folder, tmp_path):
    expected = list(loader(folder_images(folder, **FORMS[form])))
    options = dict(cache=cache, cache_dir=tmp_path if cache == 'disk' else None)
    dataset = folder_images(folder, **options, **FORMS[form])
    for workers in (0, 0, 2):
        assert same(list(loader(dataset, workers=workers)), expected)


def test_whole_images_in_memory_are_shared_with_workers(breakable):
    dataset = folder_images(breakable / '1', image_size=12, cache='ram', max_bad_fraction=1.0)
    first = list(loader(dataset, 2, workers=2))  # fills it
    for path in dataset.paths:
        (breakable / '1' / path).unlink()
    assert same(list(loader(dataset, 2)), first) and same(list(loader(dataset, 2, workers=2)), first)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.ids == dataset.ids
    with pytest.raises(DataError):
        copy[0, 0]


@pytest.mark.parametrize('form', FORMS)
def test_a_blank_sample_has_the_form_of_others_and_reads_nothing(form, folder, tmp_path):
    dataset = folder_images(folder, **FORMS[form], cache='disk', cache_dir=tmp_path / 'cache')
    before = list((tmp_path / 'cache').rglob('*')) if (tmp_path / 'cache').exists() else []
    blank = dataset.blank_sample()
    after = list((tmp_path / 'cache').rglob('*')) if (tmp_path / 'cache').exists() else []
    assert after == before
    real = dataset[0, 0]
    assert blank.keys() == real.keys()
    for one, other in zip(*(sample['inputs'] if form == 'views' else [sample['inputs'], sample['seeds']]
                            for sample in (blank, real)), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    assert list((tmp_path / 'cache').rglob('*')) != before, 'the real one fills the cache'


def test_what_is_handed_out_may_be_written_to(folder):
    dataset = folder_images(folder, image_size=12, cache='ram')
    before = dataset[0, 0]['inputs'].clone()
    for sample in (dataset[0, 0], *dataset.__getitems__([(0, 0), (0, 1)])):
        sample['inputs'].zero_()
    assert before.any() and torch.equal(dataset[0, 0]['inputs'], before)


def test_pickles_are_small(tmp_path):
    (tmp_path / 'a').mkdir()
    image = tmp_path / 'a' / 'original.jpg'
    Image.new('RGB', (4, 4)).save(image)
    for number in range(300):
        (tmp_path / 'a' / f'{number}.jpg').hardlink_to(image)
    dataset = folder_images(tmp_path, image_size=64, cache='ram')
    list(loader(dataset))
    assert len(pickle.dumps(dataset)) < 300 * 20 + 3000


# Bad images


def spoil(root, *paths):
    for path in paths:
        (root / path).write_bytes(b'no image')


def test_another_image_of_the_bucket_stands_in(breakable, tmp_path):
    good = bucket_images(breakable, buckets=None, image_size=12)
    squares = [good[0, row]['inputs'] for row in range(12)]
    spoil(breakable, '2/03.jpg', '2/05.jpg')
    dataset = bucket_images(breakable, buckets=None, max_bad_fraction=0.2, image_size=12)
    dataset.report_to(tmp_path / 'bad_samples.jsonl')
    row, chosen = dataset.ids.index('2/03.jpg'), []
    for epoch in range(30):
        found, again = dataset[epoch, row], pickle.loads(pickle.dumps(dataset))[epoch, row]
        assert same([found], [again])
        assert int(found['seeds']) == SampleContext(0, 0, epoch).seed_of('augment', '2/03.jpg')
        [other] = [other for other, square in enumerate(squares) if torch.equal(found['inputs'], square)]
        chosen.append(other)
    assert set(chosen) == {6, 7, 8, 10}  # its bucket is 6 ... 11, of which 9 and 11 are bad
    lines = [json.loads(line) for line in (tmp_path / 'bad_samples.jsonl').read_text().splitlines()]
    assert sorted((line['split'], line['bucket'], line['id'], line['reason']) for line in lines) == [
        ('train', '2', '2/03.jpg', 'not an image'), ('train', '2', '2/05.jpg', 'not an image')]


def test_a_stand_in_has_the_draws_of_the_image_that_it_replaces(breakable):
    spoil(breakable, '1/03.jpg')
    dataset = bucket_images(breakable, max_bad_fraction=0.2, transform=VIEWS)
    for epoch in range(4):
        seed = SampleContext(0, 0, epoch).seed_of('augment', '1/03.jpg')
        expected = [dict(inputs=views_of(breakable / dataset.paths[other], seed)) for other in (0, 1, 2, 4, 5)]
        assert sum(same([sample], [dataset[epoch, 3]]) for sample in expected) == 1


def views_of(path, seed):
    with seeded_draws(seed):
        return MultiCrop('moco_v2', dict(size=8))(Image.open(path))


@pytest.mark.parametrize('form', FORMS)
def test_stand_ins_do_not_depend_on_workers_and_are_listed_once(form, breakable, tmp_path):
    spoil(breakable, '1/03.jpg')
    dataset = bucket_images(breakable, **FORMS[form])
    dataset.bad_samples = BadSamples(tmp_path / 'bad.jsonl', {'train': len(dataset)}, 0.2)
    expected = list(loader(dataset, 2))
    for _ in range(2):
        assert same(list(loader(dataset, 2, workers=2)), expected)
    assert len((tmp_path / 'bad.jsonl').read_text().splitlines()) == 1


def test_too_many_bad_images_stop_the_run(breakable, tmp_path):
    dataset = bucket_images(breakable, image_size=12, max_bad_fraction=0.2)
    dataset.report_to(tmp_path / 'bad_samples.jsonl')
    spoil(breakable, '1/03.jpg')
    dataset[0, 3]
    spoil(breakable, '1/04.jpg')
    with pytest.raises(DataError, match=r'2 of 6 train images cannot be read \(33.3%\).*bad_samples.jsonl'):
        dataset[0, 4]
    with pytest.raises(DataError, match='1 of 6 train images'):
        bucket_images(breakable, image_size=12)[0, 3]
    everything = bucket_images(breakable, image_size=12, max_bad_fraction=1.0)
    spoil(breakable, *everything.paths)
    with pytest.raises(DataError, match="bucket 1: '1/00.jpg' cannot be read .*no other image"):
        everything[0, 0]


# Fingerprints


def test_fingerprint_is_of_the_files_and_not_of_their_place(breakable, tmp_path):
    def fingerprint(root, **options):
        return bucket_images(root, **{'buckets': [0, 1], 'image_size': 12, **options}).fingerprint()

    first = fingerprint(breakable)
    copy = shutil.copytree(breakable, tmp_path / 'copy')
    assert len(first) == 64 and fingerprint(copy) == first == fingerprint(breakable, image_size=None, transform=VIEWS)
    others = [fingerprint(copy, buckets=[1, 0]), fingerprint(copy, buckets=[0])]
    with (copy / '1' / '00.jpg').open('ab') as file:
        file.write(b'x')
    others.append(fingerprint(copy))
    (copy / '1' / '00.jpg').rename(copy / '1' / '0.jpg')
    others.append(fingerprint(copy))
    assert len({first, *others}) == 5


# Bad arguments


def test_options_that_do_not_go_together(folder):
    for options in ({}, dict(image_size=8, transform=VIEWS)):
        with pytest.raises(ConfigError, match='give either transform .* or image_size'):
            folder_images(folder, **options)
    for options, message in ((dict(image_size=0), 'image_size is 0'), (dict(image_size=8.0), 'image_size is 8.0'),
                             (dict(image_size=8, interpolation='best'), "interpolation is 'best'"),
                             (dict(image_size=8, decoder='gpu'), "decoder is 'gpu'"),
                             (dict(image_size=8, cache='disk'), 'cache_dir is not set'),
                             (dict(transform=VIEWS, cache='gpu'), "cache is 'gpu'"),
                             (dict(transform=VIEWS, max_bad_fraction=2), 'max_bad_fraction is 2'),
                             (dict(image_size=2**22, cache='ram'), "cache='ram' needs .* more than there is"),
                             (dict(imagesize=8), "FolderImages has no key 'imagesize'. Did you mean 'image_size'")):
        with pytest.raises(ConfigError, match=message):
            folder_images(folder, **options)


def test_keys(folder):
    dataset = folder_images(folder, image_size=8)
    for key in (0, [0, 1], (0, 1, 2)):
        with pytest.raises(TypeError, match=r'expected a key \(epoch, index\).*EpochSampler'):
            dataset[key]
    assert torch.equal(dataset[0, -1]['inputs'], dataset[0, 9]['inputs'])
    with pytest.raises(IndexError):
        dataset[0, 10]


def test_a_transform_without_views(folder):
    with pytest.raises(ConfigError, match="expected a list of views.*MultiCrop"):
        folder_images(folder, transform=[dict(type='ToTensor')])[0, 0]
    with pytest.raises(Exception) as error:
        folder_images(folder, transform=[dict(type='Normalize', mean=[0.5], std=[0.5])])[0, 0]
    assert '00.jpg' in error.value.__notes__[0]


def test_built_from_a_config(folder):
    dataset = DATASETS.build(dict(type='FolderImages', data_root=str(folder), image_size=8))
    assert isinstance(dataset, SelfSupervisedImages) and 'FolderImages(10 images' in repr(dataset)
    assert dataset.labels is None


def test_built_by_mmengine(folder):
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner

    with DefaultScope.overwrite_default_scope('clear'):
        built = Runner.build_dataloader(dict(
            batch_size=4, num_workers=0, collate_fn=dict(type='default_collate'),
            dataset=dict(type='FolderImages', data_root=str(folder), image_size=12),
            sampler=dict(type='EpochSampler'), batch_sampler=dict(type='GlobalBatchSampler')), seed=5)
    assert len(built) == 2 and same(list(built), list(loader(folder_images(folder, image_size=12))))
