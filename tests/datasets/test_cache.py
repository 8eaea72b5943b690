"""Decoded images in memory and on disk: the same pixels, made once, made again when a file changed, whole or absent."""

import errno
import multiprocessing
import os
import pickle
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from clear_trees import write_clear_tree
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.datasets.images import cache as cache_module
from clear.datasets.images import contents
from clear.datasets.images.bad_samples import BadSamples
from clear.datasets.images.cache import DiskCache, RamCache, check_cache
from clear.datasets.images.decode import ImageDecoder, UnreadableImage
from clear.datasets.loaders.buckets import BucketDataset, SampleContext
from clear.datasets.readers.clear.clear import read_clear
from clear.datasets.transforms import build_transform

NAMES = [f'{index}.png' for index in range(7)]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        write_image(tmp_path / name, rng.integers(0, 256, (5 + index, 8, 3), dtype=np.uint8))
    return tmp_path


def write_image(path, pixels):
    Image.fromarray(pixels).save(path)


def pixels_of(path):
    return np.asarray(Image.open(path).convert('RGB'))


class CountingDecoder:
    """Decodes, and notes how often in a file, so that other processes count too."""

    def __init__(self, log):
        self.log = log

    def __call__(self, content):
        with open(self.log, 'ab') as file:
            file.write(b'x')
        return ImageDecoder('pil')(content)

    def count(self):
        return self.log.stat().st_size if self.log.exists() else 0


def open_cache(folder, decode=None, settings=None, names=NAMES):
    decode = decode or CountingDecoder(folder / 'log')
    return DiskCache(folder / 'cache', folder, names, decode, settings=settings or {'resize': None}, rows_per_shard=3)


def check_all(cache, folder):
    for row, name in enumerate(NAMES):
        assert np.array_equal(cache[row], pixels_of(folder / name))


def test_ram_cache_keeps_copies_that_never_move(monkeypatch):
    monkeypatch.setattr(cache_module, '_BLOCK_BYTES', 100)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (size, 3, 3), dtype=np.uint8) for size in (4, 6, 5, 40, 1)]
    cache = RamCache()
    kept = [cache.put(row, image.copy()) for row, image in enumerate(images)]
    assert all(np.array_equal(cache[row], image) for row, image in enumerate(images))
    assert all(cache[row] is array for row, array in enumerate(kept)) and cache[9] is None and len(cache) == 5
    # 36 + 54 bytes, then 45 in a block of its own, then one as large as its image, then 9 in a new one.
    assert cache.num_bytes == 100 + 100 + 360 + 100
    assert len(pickle.loads(pickle.dumps(cache))) == 0


def test_disk_cache_decodes_each_file_once(folder):
    decode = CountingDecoder(folder / 'log')
    cache = open_cache(folder, decode)
    check_all(cache, folder)
    check_all(cache, folder)
    check_all(open_cache(folder, decode), folder)
    assert decode.count() == len(NAMES)
    assert len(list((folder / 'cache').glob('*/shard-*.bin'))) == 3


def test_only_the_shard_of_a_row_is_made(folder):
    decode = CountingDecoder(folder / 'log')
    open_cache(folder, decode)[6]
    assert decode.count() == 1


def test_arrays_are_writable_and_private(folder):
    cache = open_cache(folder)
    before = cache[0].copy()
    cache[0][:] = 7
    assert np.array_equal(open_cache(folder)[0], before)


def test_a_changed_file_is_decoded_again_and_only_it(folder):
    decode = CountingDecoder(folder / 'log')
    check_all(open_cache(folder, decode), folder)
    path = folder / NAMES[1]
    before = path.stat()
    content = bytearray(path.read_bytes())
    changed = Image.open(path)
    pixels = 255 - np.asarray(changed)
    write_image(path, pixels)
    # The same time of change: it must not matter.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.read_bytes() != bytes(content)
    cache = open_cache(folder, decode)
    check_all(cache, folder)
    assert np.array_equal(cache[1], pixels) and decode.count() == len(NAMES) + 1


def test_a_touched_or_copied_file_is_not_decoded_again(folder):
    decode = CountingDecoder(folder / 'log')
    check_all(open_cache(folder, decode), folder)
    for name in NAMES:
        os.utime(folder / name, (1, 1))
    check_all(open_cache(folder, decode), folder)
    assert decode.count() == len(NAMES)


@pytest.mark.parametrize('change', ['settings', 'paths', 'root'])
def test_other_settings_paths_or_root_share_nothing(folder, change):
    first = open_cache(folder)
    settings = {'resize': 4} if change == 'settings' else {'resize': None}
    names = NAMES[::-1] if change == 'paths' else NAMES
    root = folder.parent if change == 'root' else folder
    assert DiskCache(folder / 'cache', root, names, None, settings=settings, rows_per_shard=3).folder != first.folder
    assert open_cache(folder).folder == first.folder


def test_bad_files_are_remembered_and_tried_again_when_they_change(folder):
    good = (folder / NAMES[2]).read_bytes()
    (folder / NAMES[2]).write_bytes(b'no image')
    (folder / NAMES[4]).unlink()
    decode = CountingDecoder(folder / 'log')
    for _ in range(2):
        cache = open_cache(folder, decode)
        with pytest.raises(UnreadableImage, match='not an image'):
            cache[2]
        with pytest.raises(UnreadableImage, match='^missing$'):
            cache[4]
        assert np.array_equal(cache[3], pixels_of(folder / NAMES[3]))
    assert decode.count() == 5  # four of six can be decoded, the fifth tried; the missing one has no bytes
    (folder / NAMES[2]).write_bytes(good)
    (folder / NAMES[4]).write_bytes(good)
    check_all(open_cache(folder, decode), folder)


@pytest.mark.parametrize('damage', [lambda c: c[:-5], lambda c: b'', lambda c: c[:30], lambda c: c[:-20] + b'?' * 20])
def test_a_damaged_shard_is_made_again(folder, damage):
    check_all(open_cache(folder), folder)
    for path in (folder / 'cache').glob('*/shard-*.bin'):
        path.write_bytes(damage(path.read_bytes()))
    check_all(open_cache(folder), folder)


def die_in_the_middle(folder):
    decode = ImageDecoder('pil')
    calls = []

    def decode_and_die(content):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(content)

    cache = open_cache(folder, decode_and_die)
    for row in range(len(NAMES)):
        cache[row]


def test_a_killed_process_leaves_whole_shards_only(folder):
    child = multiprocessing.get_context('fork').Process(target=die_in_the_middle, args=(folder,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert len(list((folder / 'cache').glob('*/shard-*.bin'))) == 1
    assert len(list((folder / 'cache').glob('*/.shard-*.tmp'))) == 1
    decode = CountingDecoder(folder / 'log')
    check_all(open_cache(folder, decode), folder)
    assert decode.count() == 4  # the first shard's three were kept
    assert not list((folder / 'cache').glob('*/.shard-*.tmp'))


def read_all(folder, cache):
    check_all(cache, folder)


def test_processes_share_the_work(folder):
    decode = CountingDecoder(folder / 'log')
    cache = open_cache(folder, decode)
    children = [multiprocessing.get_context('fork').Process(target=read_all, args=(folder, cache)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert decode.count() == len(NAMES)


def test_files_are_compared_once_per_run_over_all_its_processes(folder, monkeypatch):
    check_all(open_cache(folder), folder)
    cache = open_cache(folder)
    copies = [pickle.loads(pickle.dumps(cache)) for _ in range(2)]
    child = multiprocessing.get_context('fork').Process(target=read_all, args=(folder, cache))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    monkeypatch.setattr(contents, 'read_file', lambda path: pytest.fail('read again'))
    for row in range(len(NAMES)):
        cache[row]  # the child has compared them
    assert len(copies[0]._shards) == 0


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    (folder / 'file').write_text('')
    cache = DiskCache(folder / 'file', folder, NAMES, ImageDecoder('pil'), settings={})
    with pytest.raises(DataError, match='cache_dir: .*cannot be written'):
        cache[0]

    @contextmanager
    def full(path):
        raise OSError(errno.ENOSPC, 'No space left on device')
        yield

    monkeypatch.setattr(cache_module, 'atomic_writer', full)
    with pytest.raises(DataError, match='No space left on device.*Make room'):
        open_cache(folder)[0]


def test_a_shortage_of_handles_is_not_remembered_as_bad(folder, monkeypatch):
    def no_handles(path):
        raise OSError(errno.EMFILE, 'Too many open files')

    with monkeypatch.context() as patch:
        patch.setattr(contents, 'read_file', no_handles)
        with pytest.raises(OSError, match='Too many'):
            open_cache(folder)[0]
    check_all(open_cache(folder), folder)


def test_a_path_outside_the_root_is_refused(folder):
    with pytest.raises(DataError, match='lies outside'):
        open_cache(folder, names=['../x.png'])[0]


@pytest.mark.parametrize('cache, cache_dir, message', [
    ('disc', None, "s.cache is 'disc'; expected one of None, 'ram', 'disk'"),
    ('disk', None, 's.cache_dir is not set'), ('ram', 'x', 's.cache_dir is set, but s.cache is'),
])
def test_options_at_the_door(cache, cache_dir, message):
    with pytest.raises(ConfigError, match=message):
        check_cache(cache, cache_dir, where='s.')


@pytest.mark.parametrize('decoder', ['cv2', 'pil'])
def test_images_of_a_bucket_from_disk(tmp_path, decoder):
    root = write_clear_tree(tmp_path / 'tree', num_buckets=1, per_class=4, image_size=12)
    bucket = read_clear(root, evaluation_protocol='streaming', seed=None).train[0]
    (root / bucket.paths[5]).write_bytes(b'no image')

    def dataset(**options):
        return BucketDataset(root, bucket, build_transform([dict(type='PILToTensor')]), is_train=True,
                            context=SampleContext(), bad_samples=BadSamples(None, {'train': 12}, 1.0), **options)

    plain = dataset()
    for _ in range(2):
        cached = dataset(cache='disk', cache_dir=tmp_path / 'cache', decoder=decoder)
        for row in range(12):
            assert cached[row][1] == plain[row][1] and (cached[row][0] == plain[row][0]).all()
        assert cached.bad_samples.records() == plain.bad_samples.records() != []
    assert len(list((tmp_path / 'cache').glob('*/shard-*.bin'))) == 1


def test_the_clear_scenario_reads_through_the_disk_cache(tmp_path):
    from clear.continual.scenarios.clear import clear_benchmark

    root = write_clear_tree(tmp_path / 'tree', num_buckets=2, per_class=4, image_size=12)
    transform = [dict(type='RandomCrop', size=8), dict(type='ToTensor')]

    def first_images(**options):
        benchmark = clear_benchmark(str(root), train_transform=transform, eval_transform=transform, **options)
        return [pixels for experience in benchmark.train_stream for pixels, *_ in [experience.dataset[0]]]

    plain = first_images()
    for decoder in ('cv2', 'pil'):
        for _ in range(2):
            cached = first_images(cache='disk', cache_dir=str(tmp_path / 'cache'), decoder=decoder)
            assert len(cached) == 2 and all((one == other).all() for one, other in zip(cached, plain))
    with pytest.raises(ConfigError, match='scenario.cache_dir is not set'):
        first_images(cache='disk')
