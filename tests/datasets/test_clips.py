"""Frames of clips: what makes a clip, what is refused, which clips stay when a frame cannot be used."""

from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from tiny_encoder import TinyEncoder, write_images

from clear.core.errors import DataError
from clear.datasets import read_images
from clear.datasets.clips import clip_length, clip_table, whole_clips
from clear.datasets.table import ImageTable
from clear.features import FeatureBank, extract
from clear.features.planned import planned_banks

ROOT = Path('/clips')


def table(clips, labels=None):
    count = len(clips)
    columns = dict(path=[f'{row}.jpg' for row in range(count)], clip=clips, label=labels or [0] * count)
    return ImageTable.from_columns(ROOT, columns, ['a', 'b'])


def test_a_file_may_be_a_frame_of_several_clips():
    images = clip_table(ROOT, [('x', ['1.jpg', '2.jpg'], 1), ('y', ['2.jpg', '3.jpg'], 0)], ['a', 'b'])
    assert images.texts('id') == ['x#0', 'x#1', 'y#0', 'y#1'] and images.label_array().tolist() == [1, 1, 0, 0]
    assert images.texts('path') == ['1.jpg', '2.jpg', '2.jpg', '3.jpg'] and images.texts('clip') == list('xxyy')
    assert clip_length(images) == 2
    assert not len(clip_table(ROOT, [], ['a']))


@pytest.mark.parametrize('clips, length', [
    ([], 1), (['a'], 1), (['a', 'b', 'c'], 1), (['b', 'b', 'a', 'a'], 2), (['a'] * 3, 3)])
def test_length(clips, length):
    assert clip_length(table(clips)) == length
    as_texts_that_repeat = table(clips).with_column('clip', pyarrow.array(clips, pyarrow.string()).dictionary_encode())
    assert clip_length(as_texts_that_repeat) == length


def test_images_without_the_column_are_clips_of_one():
    assert clip_length(ImageTable.from_columns(ROOT, dict(path=['1', '2']))) == 1


@pytest.mark.parametrize('clips, labels, says', [
    (['a', 'a', 'b', 'c', 'c'], None, "clip 'b' has 1 frames, others have 2"),
    (['a', 'a', 'b', 'b', 'b', 'c', 'c'], None, "clip 'b' has 3 frames, others have 2"),
    (['a', 'b', 'a', 'b'], None, "the frames of clip 'a' do not follow each other"),
    (['a', 'a', None, None], None, "'2.jpg' belongs to no clip"),
    (['a', 'a', 'b', 'b'], [0, 0, 0, 1], r"the frames of clip 'b' have different labels, \[0, 1\]")])
def test_what_makes_no_clips(clips, labels, says):
    with pytest.raises(DataError, match=says):
        clip_length(table(clips, labels))


def test_parts_of_a_table_are_looked_at_again():
    whole = table(['a', 'a', 'b', 'b', 'c', 'c'])
    assert clip_length(whole.select([4, 5, 0, 1])) == 2
    with pytest.raises(DataError, match="clip 'c' has 1 frames"):
        clip_length(whole.select(slice(0, 5)))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('length', [1, 2, 5])
def test_whole_clips_match_a_loop(length, seed):
    usable = np.random.default_rng(seed).random(7 * length) < 0.8
    expected = [list(range(start, start + length)) for start in range(0, 7 * length, length)
                if all(usable[start:start + length])]
    rows, left_out = whole_clips(usable, length)
    assert rows.tolist() == expected and left_out == 7 - len(expected) and rows.shape[1] == length


def test_no_whole_number_of_clips():
    with pytest.raises(DataError, match='5 rows make no whole number of clips of 2 frames'):
        whole_clips(np.ones(5, bool), 2)


def clips_of(tmp_path, names):
    write_images(tmp_path / 'images')
    paths = sorted(path.relative_to(tmp_path / 'images').as_posix() for path in (tmp_path / 'images').rglob('*.*'))[:6]
    return clip_table(tmp_path / 'images', [(name, paths[2 * place:2 * place + 2], 0)
                                            for place, name in enumerate(names)], ['a'])


def test_a_bank_knows_its_clips(tmp_path):
    images = clips_of(tmp_path, 'xyz')
    with planned_banks():
        assert extract(TinyEncoder(), images, tmp_path / 'bank').clip_length == 2
    (images.root / images.text('path', 3)).write_bytes(b'no image')
    bank = extract(TinyEncoder(), images, tmp_path / 'bank', max_bad_fraction=0.2)
    assert bank.clip_length == 2 and FeatureBank.open(tmp_path / 'bank').clip_length == 2
    rows, left_out = whole_clips(bank.valid & (bank.labels >= 0), bank.clip_length)
    assert rows.tolist() == [[0, 1], [4, 5]] and left_out == 1
    features = torch.from_numpy(np.asarray(bank.features)[rows]).flatten(1)
    assert features.shape == (2, 2 * bank.dim)
    single = extract(TinyEncoder(), dict(type='ImageFolder', root=str(images.root)), tmp_path / 'single',
                     max_bad_fraction=0.2)
    assert single.clip_length == 1 and 'clip_length' not in single.meta


def test_other_clips_of_the_same_frames_are_other_data(tmp_path):
    images = clips_of(tmp_path, 'xyz')
    prints = {images.with_column('clip', pyarrow.array(clips)).fingerprint() for clips in ('xxyyzz', 'xxxyyy')
              for clips in [list(clips)]}
    assert len(prints | {images.fingerprint()}) == 2
    odd = images.with_column('clip', pyarrow.array(list('xxxyyz')))
    with pytest.raises(DataError, match='clip'):
        extract(TinyEncoder(), odd, tmp_path / 'bank')
    assert not (tmp_path / 'bank.partial').exists()


@pytest.mark.parametrize('length', [0, 'two', 4])
def test_a_bank_that_says_what_cannot_be(tmp_path, length):
    bank = extract(TinyEncoder(), clips_of(tmp_path, 'xyz'), tmp_path / 'bank')
    bank.meta['clip_length'] = length
    with pytest.raises(DataError, match='clip_length'):
        bank.clip_length  # noqa: B018


def test_a_table_on_disk_may_have_clips(tmp_path):
    rows = ['path,label,clip', '1.jpg,a,x', '2.jpg,a,x', '3.jpg,b,y', '4.jpg,b,y']
    (tmp_path / 't.csv').write_text('\n'.join(rows))
    images = read_images(dict(type='Table', path=str(tmp_path / 't.csv')))
    assert clip_length(images) == 2 and images.texts('clip') == list('xxyy')
