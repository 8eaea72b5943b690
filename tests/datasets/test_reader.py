"""Reading by row: what is decoded how often, what is remembered of bad images, who stands in."""

import pickle

import numpy as np
import pytest
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.datasets.images.decode import ImageDecoder, UnreadableImage
from clear.datasets.images.reader import ImageReader, RowReader
from clear.datasets.images.resize import ResizedDecoder, SquareDecoder


class Counting:
    """The first bytes of a file as the planes, or as the pixels, of an image of 2 x 1 pixels."""

    def __init__(self, shape=None):
        self.shape = shape
        self.calls = []

    def __call__(self, content):
        self.calls.append(content)
        if content.startswith(b'bad'):
            raise UnreadableImage(f'{len(content)} bytes are bad')
        return np.frombuffer(content[:6], np.uint8).reshape(self.shape or (2, 1, 3)).copy()

    def settings(self):
        return {}


@pytest.fixture
def folder(tmp_path):
    for name, content in {'0': b'012345', '1': b'bad one', '2': b'abcdef', '3': b'bad', '4': b'ABCDEF'}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def reader_of(folder, decoder, cache=None, **options):
    cache_dir = folder / 'cache' if cache == 'disk' else None
    return ImageReader(folder, list('01234'), decoder, cache=cache, cache_dir=cache_dir, **options)


@pytest.mark.parametrize('shape', [None, (3, 2, 1)])
@pytest.mark.parametrize('cache', [None, 'ram', 'disk'])
def test_caches_give_what_the_decoder_makes_and_call_it_once(cache, shape, folder):
    decoder = Counting(shape)
    reader = reader_of(folder, decoder, cache)
    for _ in range(2):
        for row, content in ((0, b'012345'), (2, b'abcdef')):
            assert reader[row].shape == (shape or (2, 1, 3)) and reader[row].tobytes() == content
    assert decoder.calls.count(b'012345') == (4 if cache is None else 1)
    copy = pickle.loads(pickle.dumps(reader))
    assert copy[4].tobytes() == b'ABCDEF' and len(copy) == 5


def test_read_keeps_nothing_in_memory(folder):
    decoder = Counting()
    reader = reader_of(folder, decoder, 'ram')
    assert reader.read(0).tobytes() == reader.read(0).tobytes() == b'012345'
    assert decoder.calls == [b'012345'] * 2 and not reader.bad
    with pytest.raises(UnreadableImage, match='7 bytes'):
        reader.read(1)
    assert not reader.bad


@pytest.mark.parametrize('cache', [None, 'ram', 'disk'])
def test_a_bad_image_is_tried_once_and_reported_each_time(cache, folder):
    decoder, reports = Counting(), []
    reader = reader_of(folder, decoder, cache, report=lambda row, reason: reports.append((row, reason)))
    assert reader.find(1) is None and reader.find(1) is None and reader.find(0).tobytes() == b'012345'
    assert reports == [(1, '7 bytes are bad')] * 2 and reader.bad == {1: '7 bytes are bad'}
    assert decoder.calls.count(b'bad one') == 1
    (folder / '1').write_bytes(b'mended')
    assert reader.find(1) is None, 'it stays bad for this process'
    (folder / '3').unlink()
    if cache is None:
        assert reader.find(3) is None and reader.bad[3] == 'missing'


def test_the_first_that_can_be_read_stands_in(folder):
    reports = []
    reader = reader_of(folder, Counting(), report=lambda row, reason: reports.append(row))
    rows = iter([3, 1, 4, 0])
    assert reader.first(rows).tobytes() == b'ABCDEF' and reports == [3, 1]
    assert list(rows) == [0], 'those behind it are not even asked for'
    assert reader.first([1, 3]) is None and reader.first([]) is None and reports == [3, 1, 1, 3]


def test_a_report_may_end_the_run(folder):
    def stop(row, reason):
        raise DataError(f'{row}: {reason}')

    reader = reader_of(folder, Counting(), report=stop)
    for _ in range(2):
        with pytest.raises(DataError, match='1: 7 bytes are bad'):
            reader.first([1, 0])


def test_samples_of_any_kind():
    class Halves(RowReader[float]):
        def __getitem__(self, row):
            if row % 2:
                raise UnreadableImage('odd')
            return row / 2

    reader = Halves()
    assert [reader.find(row) for row in range(4)] == [0.0, None, 1.0, None]
    assert reader.first([1, 3, 0]) == 0.0 and reader.bad == {1: 'odd', 3: 'odd'}


def test_paths_below_the_root_only(folder):
    reader = ImageReader(folder / 'c', ['../0'], Counting())
    with pytest.raises(DataError, match='0'):
        reader.find(0)


@pytest.mark.parametrize('decoder', ['pil', 'cv2'])
def test_decoders_by_hand(decoder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    content = (tmp_path / 'a.png').read_bytes()
    assert np.array_equal(ResizedDecoder(None, 'bilinear', decoder)(content), pixels)
    assert np.array_equal(ResizedDecoder(12, 'bicubic', decoder)(content), pixels)
    assert ResizedDecoder(6, 'bilinear', decoder)(content).shape == (6, 9, 3)
    square = SquareDecoder(12, decoder=decoder)
    assert square.shape == (3, 12, 12) and np.array_equal(square(content), pixels[:, 3:15].transpose(2, 0, 1))
    assert square.settings()['square'] == 12 and 'resize' not in square.settings()
    assert ImageDecoder(decoder).shape is None


def test_options_at_the_door(folder):
    for options, message in ((dict(cache='disc'), "cache is 'disc'"), (dict(cache='disk'), 'cache_dir is not set'),
                             (dict(cache_dir='x'), "only 'disk' writes there")):
        with pytest.raises(ConfigError, match=message):
            ImageReader(folder, [], Counting(), **options)
    with pytest.raises(ConfigError, match=r"cache='ram' needs .* for 5 images of 4194304 x 4194304 pixels"):
        reader_of(folder, Counting((3, 2**22, 2**22)), 'ram')
