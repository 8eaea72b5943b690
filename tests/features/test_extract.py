import errno
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets.test_hard_images import READABLE, UNREADABLE
from PIL import Image
from tiny_encoder import TinyEncoder, content, write_images

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.features import FeatureBank, extract
from clear.features.blocks import BlockFolder

FORK = multiprocessing.get_context('fork')  # torch is loaded already; a fresh process would take seconds


@pytest.fixture
def images(tmp_path):
    return dict(type='ImageFolder', root=str(write_images(tmp_path / 'images')))


def by_hand(encoder, source):
    """Features image by image, with the encoder's own transform."""
    transform = encoder.preprocess.build()
    return torch.stack([encoder(transform(source.open_image(row))[None])[0] for row in range(len(source))])


@pytest.mark.parametrize('batch_size, block_size, num_workers', [(1, None, 0), (3, 6, 0), (4, None, 2), (64, None, 0)])
def test_features_equal_a_loop_over_images(tmp_path, images, batch_size, block_size, num_workers):
    source = read_images(images)
    bank = extract(TinyEncoder(), source, tmp_path / 'bank', batch_size=batch_size, block_size=block_size,
                   dtype='float32', num_workers=num_workers)
    assert np.allclose(bank.features, by_hand(TinyEncoder(), source), rtol=1e-5, atol=1e-6)
    assert bank.labels.tolist() == source.label_array().tolist() == [0] * 10 + [1] * 10
    assert bank.index['id'].to_pylist() == source.texts('id') and bank.valid.all()
    assert not (tmp_path / 'bank.partial').exists()


def test_float16_is_the_rounded_float32(tmp_path, images):
    half = extract(TinyEncoder(), images, tmp_path / 'half')
    full = extract(TinyEncoder(), images, tmp_path / 'full', dtype='float32')
    assert half.features.dtype == np.float16
    assert np.array_equal(half.features, np.asarray(full.features).astype(np.float16))
    assert half.fingerprint != full.fingerprint


def test_maps_per_level(tmp_path, images):
    bank = extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=3, dtype='float32', maps=[2, 0])
    encoder, source = TinyEncoder(), read_images(images)
    batch = torch.stack([encoder.preprocess.build()(source.open_image(row)) for row in range(20)])
    for level in (0, 2):
        assert np.allclose(bank.maps(level), encoder.feature_maps(batch)[level], rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match='no maps of level 1; it has levels 0, 2'):
        bank.maps(1)


def test_second_call_makes_no_forward_pass(tmp_path, images):
    extract(TinyEncoder(), images, tmp_path / 'bank')
    encoder = TinyEncoder()
    extract(encoder, images, tmp_path / 'bank')
    assert encoder.num_forwards == 0


@pytest.mark.parametrize('other, part', [(dict(seed=1), 'encoder'), (dict(mean=0.25), 'preprocess.mean')])
def test_other_weights_or_transform_are_refused(tmp_path, images, other, part):
    bank = extract(TinyEncoder(), images, tmp_path / 'bank')
    before = content(tmp_path / 'bank')
    with pytest.raises(DataError, match=part) as error:
        extract(TinyEncoder(**other), images, tmp_path / 'bank')
    assert bank.fingerprint in str(error.value) and content(tmp_path / 'bank') == before
    replaced = extract(TinyEncoder(**other), images, tmp_path / 'bank', overwrite=True)
    assert replaced.fingerprint in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bank', 'images']


def test_changed_data_are_refused(tmp_path, images):
    extract(TinyEncoder(), images, tmp_path / 'bank')
    Image.new('RGB', (50, 50)).save(tmp_path / 'images' / 'bus' / '000.png')
    with pytest.raises(DataError, match='Different: data'):
        extract(TinyEncoder(), images, tmp_path / 'bank')


def test_folder_that_is_no_bank_is_left_alone(tmp_path, images):
    (tmp_path / 'bank').mkdir()
    (tmp_path / 'bank' / 'thesis.tex').write_text('years of work')
    with pytest.raises(DataError, match='no feature bank'):
        extract(TinyEncoder(), images, tmp_path / 'bank', overwrite=True)
    (tmp_path / 'bank').rename(tmp_path / 'other.partial')
    with pytest.raises(DataError, match='Move it away'):
        extract(TinyEncoder(), images, tmp_path / 'other')
    assert (tmp_path / 'other.partial' / 'thesis.tex').exists()


# Unreadable images


def test_unreadable_images_are_masked_and_listed(tmp_path, images):
    folder = tmp_path / 'images' / 'bus'
    whole = (folder / '002.png').read_bytes()
    (folder / '002.png').write_bytes(whole[:len(whole) // 2])
    (folder / '004.png').write_text('not an image')
    Image.new('RGB', (1, 60000)).save(folder / '006.png')  # would be enormous once its shorter side is 224
    encoder = TinyEncoder(crop=224)
    bank = extract(encoder, images, tmp_path / 'bank', batch_size=2, dtype='float32', max_bad_fraction=0.15)
    assert np.flatnonzero(~bank.valid).tolist() == [1, 2, 3]
    assert not np.asarray(bank.features[1:4]).any() and np.asarray(bank.features[4:]).all()
    records = bank.bad_samples()
    assert [(record['row'], record['id']) for record in records] == [
        (1, 'bus/002.png'), (2, 'bus/004.png'), (3, 'bus/006.png')]
    assert records[1]['reason'] == 'not an image' and '1 x 60000' in records[2]['reason']
    assert bank.meta['num_valid'] == 17


@pytest.mark.parametrize('mode, size', [('CMYK', (9, 9)), ('P', (9, 9)), ('RGB', (1, 1)), ('L', (30, 2))])
def test_unusual_images_are_encoded(tmp_path, mode, size):
    (tmp_path / 'images').mkdir()
    Image.new(mode, size).save(tmp_path / 'images' / 'a.tif')
    frames = [Image.new('RGB', (9, 9), color) for color in ('red', 'blue')]
    frames[0].save(tmp_path / 'images' / 'b.gif', save_all=True, append_images=frames[1:])
    bank = extract(TinyEncoder(), dict(type='ImageFolder', root=str(tmp_path / 'images')), tmp_path / 'bank')
    assert bank.valid.all() and bank.labels.tolist() == [-1, -1]


def test_every_hard_file_is_encoded_or_masked_and_listed(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name, (data, _) in (READABLE | UNREADABLE).items():
        (folder / f'{name}.png').write_bytes(data)
    bank = extract(TinyEncoder(), dict(type='ImageFolder', root=str(folder)), tmp_path / 'bank', max_bad_fraction=1.0)
    names = [name.removesuffix('.png') for name in bank.index['id'].to_pylist()]
    assert {name for name, is_valid in zip(names, bank.valid) if is_valid} == set(READABLE)
    reasons = {record['id'].removesuffix('.png'): record['reason'] for record in bank.bad_samples()}
    assert set(reasons) == set(UNREADABLE)
    assert all(re.search(UNREADABLE[name][1], reason) for name, reason in reasons.items())
    assert not np.asarray(bank.features)[~bank.valid].any()


def test_too_many_unreadable_images_stop(tmp_path, images):
    for name in ('000', '002'):
        (tmp_path / 'images' / 'bus' / f'{name}.png').write_bytes(b'')
    with pytest.raises(DataError, match=r'2 of 20 images cannot be read \(10.0%\)'):
        extract(TinyEncoder(), images, tmp_path / 'bank', max_bad_fraction=0.05)
    assert not (tmp_path / 'bank').exists()


def test_features_that_are_not_finite_name_the_image(tmp_path, images):
    with pytest.raises(DataError, match="'bus/000.png' .* use dtype='float32'"):
        extract(TinyEncoder(scale=1e6), images, tmp_path / 'bank')
    with pytest.raises(DataError, match="'bus/000.png' are not finite. They are NaN") as error:
        extract(TinyEncoder(scale=float('nan')), images, tmp_path / 'other')
    assert 'float32' not in str(error.value)


# Kills and several processes


def run_forked(*jobs):
    """Start each job (function, arguments) in a forked process."""
    processes = [FORK.Process(target=job, args=args) for job, *args in jobs]
    for process in processes:
        process.start()
    return processes


def extract_slowly(images, out):
    extract(TinyEncoder(pause_s=0.004), images, out, batch_size=1, block_size=2, max_bad_fraction=0.05)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_bank_killed_twice_equals_uninterrupted_one(tmp_path, images, seed):
    (tmp_path / 'images' / 'bus' / '004.png').write_bytes(b'')
    images |= dict(root=str(tmp_path / 'images'))
    options = dict(batch_size=1, block_size=2, max_bad_fraction=0.05)
    extract(TinyEncoder(), images, tmp_path / 'whole', **options)
    done, rng = tmp_path / 'bank.partial' / 'done', random.Random(seed)
    for kill in range(2):
        process, = run_forked((extract_slowly, images, tmp_path / 'bank'))
        wanted = rng.randint(2 * kill, 3 + 2 * kill)
        while not done.is_dir() or len(list(done.glob('*.json'))) < wanted:
            assert process.is_alive(), 'finished before it was killed'
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL and not (tmp_path / 'bank').exists()
    encoder = TinyEncoder()
    extract(encoder, images, tmp_path / 'bank', **options)
    assert 0 < encoder.num_forwards < 20
    assert content(tmp_path / 'bank') == content(tmp_path / 'whole')


class Killed(BaseException):
    pass


@pytest.mark.parametrize('before', ['small files', 'cleaning up', 'new name'])
def test_kill_while_the_bank_is_finished(tmp_path, images, before, monkeypatch):
    extract(TinyEncoder(), images, tmp_path / 'whole')

    def stop(*args):
        raise Killed

    with monkeypatch.context() as patch:
        if before == 'small files':
            patch.setattr(BlockFolder, 'bad_samples', stop)
        elif before == 'cleaning up':
            patch.setattr(BlockFolder, 'publish', stop)
        else:  # the last rename, of the folder itself
            real = Path.replace
            patch.setattr(Path, 'replace', lambda self, to: stop() if to.name == 'bank' else real(self, to))
        with pytest.raises(Killed):
            extract(TinyEncoder(), images, tmp_path / 'bank')
    assert not (tmp_path / 'bank').exists()
    encoder = TinyEncoder()
    extract(encoder, images, tmp_path / 'bank')
    assert encoder.num_forwards == 0 and content(tmp_path / 'bank') == content(tmp_path / 'whole')


def in_group(rank, size, store, images, out, encoder_seed=0):
    import torch.distributed as torch_dist

    torch_dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=size)
    extract(TinyEncoder(seed=encoder_seed), images, out, batch_size=2, block_size=4)
    torch_dist.destroy_process_group()


def test_two_processes_give_the_bank_of_one(tmp_path, images):
    extract(TinyEncoder(), images, tmp_path / 'one', batch_size=2, block_size=4)
    processes = run_forked(*[(in_group, rank, 2, tmp_path / 'store', images, tmp_path / 'two') for rank in range(2)])
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert content(tmp_path / 'two') == content(tmp_path / 'one')


def in_failing_group(rank, size, store, images, out):
    try:
        in_group(rank, size, store, images, out)
    except DataError as error:
        out.with_name(f'error_{rank}').write_text(str(error))


def test_a_process_that_stops_stops_the_others(tmp_path, images):
    for name in ('015', '017', '019'):  # in the second process's part
        (tmp_path / 'images' / 'field hockey' / f'{name}.png').write_bytes(b'')
    for process in run_forked(*[(in_failing_group, rank, 2, tmp_path / 'store', images, tmp_path / 'two')
                                for rank in range(2)]):
        process.join(60)
        assert process.exitcode == 0
    assert 'Another process could not go on' in (tmp_path / 'error_0').read_text()
    assert 'of 20 images cannot be read' in (tmp_path / 'error_1').read_text()
    assert not (tmp_path / 'two').exists()


def test_two_runs_at_once_do_not_write_one_folder(tmp_path, images):
    process, = run_forked((extract_slowly, images, tmp_path / 'bank'))
    done = tmp_path / 'bank.partial' / 'done'
    while not done.is_dir() or not list(done.glob('*.json')):
        time.sleep(0.001)
    with pytest.raises(DataError, match=f'bank.partial is in use by process {process.pid} on'):
        extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=1, block_size=2)
    process.join(60)
    assert process.exitcode == 0 and FeatureBank.open(tmp_path / 'bank').valid.all()


def test_resume_with_another_plan_is_refused(tmp_path, images, monkeypatch):
    half_done(tmp_path / 'bank', images, monkeypatch)
    with pytest.raises(ConfigError, match='begun with block_size 2, not 4'):
        extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=2, block_size=4)
    with pytest.raises(DataError, match=r'bank\.partial is another bank .* Different: encoder'):
        extract(TinyEncoder(seed=1), images, tmp_path / 'bank', batch_size=2, block_size=2)
    extract(TinyEncoder(seed=1), images, tmp_path / 'bank', batch_size=2, block_size=2, resume=False)
    extract(TinyEncoder(seed=1), images, tmp_path / 'other', batch_size=2, block_size=2)
    assert content(tmp_path / 'bank') == content(tmp_path / 'other')


def half_done(out, images, monkeypatch):
    """Stop an extraction in its fourth block."""
    real = BlockFolder.write_block

    def write(self, block, *args):
        if block == 3:
            raise KeyboardInterrupt
        real(self, block, *args)

    with monkeypatch.context() as patch:
        patch.setattr(BlockFolder, 'write_block', write)
        with pytest.raises(KeyboardInterrupt):
            extract(TinyEncoder(), images, out, batch_size=2, block_size=2)


# A full disk


def test_file_names_that_are_not_utf8(tmp_path, images):
    root = Path(images['root'])
    odd = os.fsdecode(b'caf\xe9.png')
    next(root.rglob('*.png')).rename(root / 'bus' / odd)
    bank = extract(TinyEncoder(), images, tmp_path / 'bank')
    assert len(bank) == 20 and bank.valid.all() and f'bus/{odd}' in bank.column('id')
    assert bank.rows_of([f'bus/{odd}']).tolist() == [bank.column('path').index(f'bus/{odd}')]
    (root / os.fsdecode(b'\xe9t\xe9')).mkdir()
    (root / os.fsdecode(b'\xe9t\xe9') / '1.png').touch()
    with pytest.raises(DataError, match=r"the name of class '\\udce9t\\udce9' is not UTF-8. Rename it"):
        read_images(images)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def zero_rows(path):
    array = np.load(path, mmap_mode='r+')
    array[:2] = 0
    array.flush()


def other_shape(path):
    np.save(path, np.zeros((3, 2), np.float32))


@pytest.mark.parametrize('array', ['features', 'maps_2'])
@pytest.mark.parametrize('harm', [cut, zero_rows, other_shape, lambda path: path.write_bytes(b''),
                                  lambda path: path.unlink()], ids=['cut', 'zeroed', 'other', 'empty', 'absent'])
def test_arrays_that_are_not_whole_are_made_again(tmp_path, images, monkeypatch, array, harm):
    options = dict(batch_size=4, block_size=4, dtype='float32', maps=[2])
    extract(TinyEncoder(), images, tmp_path / 'reference', **options)
    partial = stopped(tmp_path / 'bank', images, monkeypatch, options)
    assert len(list((partial / 'done').iterdir())) == 2
    harm(partial / f'{array}.npy')
    extract(TinyEncoder(), images, tmp_path / 'bank', **options)
    assert content(tmp_path / 'bank') == content(tmp_path / 'reference')


@pytest.mark.parametrize('name', ['00000003.json', '00000099.json', 'x.json', '00000004', '00000000.json'])
@pytest.mark.parametrize('text', ['{"bad": []}', '{"bad": [{"row": 99}], "sum": 5}', '[1]', '', 'FOREIGN'])
def test_notes_from_elsewhere_are_not_believed(tmp_path, images, monkeypatch, name, text):
    options = dict(batch_size=4, block_size=4)
    extract(TinyEncoder(), images, tmp_path / 'reference', **options)
    other = stopped(tmp_path / 'other', images, monkeypatch, options, encoder=TinyEncoder(seed=1))
    partial = stopped(tmp_path / 'bank', images, monkeypatch, options)
    foreign = (other / 'done' / '00000001.json').read_text()
    (partial / 'done' / name).write_text(foreign if text == 'FOREIGN' else text)
    extract(TinyEncoder(), images, tmp_path / 'bank', **options)
    assert content(tmp_path / 'bank') == content(tmp_path / 'reference')


@pytest.mark.parametrize('text', ['', '[]', '{"identity": 3}', '{"identity"'])
def test_a_damaged_plan_starts_over(tmp_path, images, monkeypatch, text):
    options = dict(batch_size=4, block_size=4)
    extract(TinyEncoder(), images, tmp_path / 'reference', **options)
    partial = stopped(tmp_path / 'bank', images, monkeypatch, options)
    (partial / 'plan.json').write_text(text)
    extract(TinyEncoder(), images, tmp_path / 'bank', **options)
    assert content(tmp_path / 'bank') == content(tmp_path / 'reference')


def stopped(out, images, monkeypatch, options, encoder=None):
    """An extraction that ended with an error after two blocks; returns its folder."""
    real = BlockFolder.write_block

    def write_block(folder, block, *args):
        if block == 2:
            raise DataError('stopped')
        real(folder, block, *args)

    with monkeypatch.context() as patch:
        patch.setattr(BlockFolder, 'write_block', write_block)
        with pytest.raises(DataError, match='stopped'):
            extract(encoder or TinyEncoder(), images, out, **options)
    return out.with_name(f'{out.name}.partial')


def test_file_size_limit_of_the_system_is_a_clear_message(tmp_path, images):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))  # bytes; the features alone are more
    try:
        with pytest.raises(DataError, match='No room to write .*bank'):
            extract(TinyEncoder(embed_dim=64), images, tmp_path / 'bank')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / 'bank').exists()
    with pytest.raises(DataError, match='no feature bank'):
        FeatureBank.open(tmp_path / 'bank.partial')
    extract(TinyEncoder(embed_dim=64), images, tmp_path / 'bank')


@pytest.mark.parametrize('call', ['pwrite', 'fsync'])
def test_disk_that_fills_up_on_the_way(tmp_path, images, monkeypatch, call):
    real, calls = getattr(os, call), []

    def fails(*args):
        calls.append(args)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(DataError, match='No space left on device.*finished blocks are kept'):
            extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=2, block_size=2)
    assert not (tmp_path / 'bank').exists()
    extract(TinyEncoder(), images, tmp_path / 'whole', batch_size=2, block_size=2)
    extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=2, block_size=2)
    assert content(tmp_path / 'bank') == content(tmp_path / 'whole')


# Options


@pytest.mark.parametrize('options, message', [
    (dict(dtype='float64'), 'float64'), (dict(maps=[5]), r'maps is \[5\]'), (dict(batch_size=0), 'batch_size is 0'),
    (dict(batch_size=4, block_size=6), 'multiple of batch_size'), (dict(max_bad_fraction=2), 'max_bad_fraction'),
    (dict(device='abacus'), 'abacus')])
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, images, options, message):
    with pytest.raises(ConfigError, match=message):
        extract(TinyEncoder(), images, tmp_path / 'bank', **options)
    assert not list(tmp_path.glob('bank*'))


def test_progress_and_meta(tmp_path, images):
    reports = []
    extract(TinyEncoder(), images, tmp_path / 'bank', batch_size=8, progress=lambda *args: reports.append(args))
    assert reports == [(8, 20), (16, 20), (20, 20)]
    meta = json.loads((tmp_path / 'bank' / 'meta.json').read_text())
    assert meta['identity']['preprocess'] == TinyEncoder().preprocess.to_dict()
    assert meta['identity']['encoder'] == TinyEncoder().fingerprint()
    assert str(tmp_path) not in json.dumps(meta)
