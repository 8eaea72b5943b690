"""An extraction that is killed, meets another one, or runs out of room, and what becomes of it."""

import errno
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import TinyEncoder, content, write_images

from clear.core.errors import ConfigError, DataError
from clear.features import FeatureBank, extract
from clear.features.blocks import BlockFolder

FORK = multiprocessing.get_context('fork')  # torch is loaded already; a fresh process would take seconds


@pytest.fixture
def images(tmp_path):
    return dict(type='ImageFolder', root=str(write_images(tmp_path / 'images')))


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


# What is left of an earlier extraction


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


# A full disk


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
