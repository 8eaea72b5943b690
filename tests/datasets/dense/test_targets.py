"""Files of targets that the test writes pixel by pixel, as stored pixels, through the decoders and through tables."""

import pickle
import struct
import zlib

import numpy as np
import pytest
from dense_trees import save, save_palette, save_rgb_of_16_bits

from clear.core.errors import ConfigError, DataError
from clear.datasets import UnreadableImage, read_images
from clear.datasets.dense.decoders import (
    ClassIds,
    FloatDepth,
    GreyLevels,
    KittiFlow,
    MaskOfIds,
    NonZero,
    RelativeDepth,
    SameImage,
    WholeDepth,
)
from clear.datasets.dense.raster import read_raster, stored_pixels
from clear.datasets.dense.targets import VOID, DenseTable, Target, check_targets


def grey_png(rows, bits):
    """A PNG of grey values of few bits, written by hand."""
    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    lines = b''.join(b'\0' + int(''.join(f'{value:0{bits}b}' for value in row).ljust(8, '0'), 2).to_bytes(1, 'big')
                     for row in rows)
    header = struct.pack('>IIBBBBB', len(rows[0]), len(rows), bits, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(lines)) + chunk(b'IEND', b'')


def pixels_of(content):
    return stored_pixels(content, read_raster(content))


# What is stored is what is read


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_grey_of_few_bits_is_not_spread(bits):
    rows = [[0, 1], [2**bits - 1, 2**bits // 2]]
    found = pixels_of(grey_png(rows, bits))
    assert found.tolist() == rows and found.dtype == np.uint8
    assert str(read_raster(grey_png(rows, bits))) == f'a PNG of {bits}-bit grey pixels'


@pytest.mark.parametrize('options', [dict(), dict(bits=1), dict(bits=2), dict(bits=4)])
def test_indices_of_a_palette_not_its_colours(options, tmp_path):
    content = save_palette(tmp_path / 'x.png', [[0, 1, 1], [1, 0, 1]], **options)
    assert pixels_of(content).tolist() == [[0, 1, 1], [1, 0, 1]]
    assert read_raster(content).pixels == 'palette'


def test_16_bits_and_floats_are_kept(tmp_path):
    grey = save(tmp_path / 'x.png', np.uint16([[40000, 1000]]))
    assert pixels_of(grey).tolist() == [[40000, 1000]] and pixels_of(grey).dtype == np.uint16
    floats = save(tmp_path / 'x.tiff', np.float32([[0.125, np.nan]]))
    assert pixels_of(floats)[0, 0] == 0.125 and np.isnan(pixels_of(floats)[0, 1])
    rgb = save_rgb_of_16_bits(tmp_path / 'y.png', [[[40000, 1, 65535]]])
    assert pixels_of(rgb).tolist() == [[[40000, 1, 65535]]] and read_raster(rgb).bits == 16


# Decoders


def test_class_ids(tmp_path):
    content = save(tmp_path / 'x.png', np.uint8([[0, 7, 255], [8, 0, 7]]))
    found = ClassIds.of({0: VOID, 7: 0, 8: 1})(content)
    assert found.values.tolist() == [[255, 0, 255], [1, 255, 0]] and found.values.dtype == np.uint8
    assert found.valid.tolist() == [[False, True, False], [True, False, True]]
    with pytest.raises(DataError, match='the pixel in column 0 of row 1 holds 8, which is the id of no class'):
        ClassIds.of({0: 0, 7: 1})(content)


def test_masks(tmp_path):
    content = save(tmp_path / 'x.png', np.uint8([[1, 2, 3]]))
    found = MaskOfIds((1,), (2,), (3,))(content)
    assert found.values.tolist() == [[1, 0, 0]] and found.valid.tolist() == [[True, True, False]]
    with pytest.raises(DataError, match='column 2 of row 0 holds 3, expected 1, 2'):
        MaskOfIds((1,), (2,))(content)
    for pixels in (np.uint8([[0, 1, 255]]), np.uint16([[0, 256, 1]]), np.array([[False, True, True]]),
                   np.uint8([[[0, 0, 0], [0, 0, 1], [9, 0, 0]]])):
        found = NonZero()(save(tmp_path / 'y.png', pixels))
        assert found.values.tolist() == [[0, 1, 1]] and found.valid.all()


def test_depths(tmp_path):
    content = save(tmp_path / 'x.tiff', np.float32([[0, 2.5, 10, 10.5, np.nan, np.inf, -1]]))
    assert FloatDepth(10.0)(content).values.tolist() == [[0, 2.5, 10, 0, 0, 0, 0]]
    assert FloatDepth(10.0)(content).valid.tolist() == [[False, True, True, *[False] * 4]]
    assert FloatDepth()(content).values.tolist() == [[0, 2.5, 10, 10.5, 0, 0, 0]]
    found = WholeDepth(512, 65535)(save(tmp_path / 'x.png', np.uint16([[0, 1, 512, 40000, 65535]])))
    assert found.values.tolist() == [[0, 1 / 512, 1, 78.125, 0]] and found.values.dtype == np.float32
    assert found.valid.tolist() == [[False, True, True, True, False]]


def test_depth_relative_to_its_image(tmp_path):
    found = RelativeDepth(10_000)(save(tmp_path / 'x.png', np.uint16([[2000, 4000, 8000]])))
    assert found.values[0].tolist() == pytest.approx([0, 0.25, 0.75]) and found.valid.all()
    found = RelativeDepth(10_000)(save(tmp_path / 'x.png', np.uint16([[0, 0]])))
    assert found.values.tolist() == [[0, 0]] and found.values.dtype == np.float32


def test_grey_levels(tmp_path):
    assert GreyLevels()(save(tmp_path / 'x.png', np.uint16([[0, 65535]]))).values.tolist() == [[0, 1]]
    found = GreyLevels(0.5, 0.25)(save(tmp_path / 'x.png', np.uint8([[0, 255, 51]])))
    assert found.values[0].tolist() == pytest.approx([-2, 2, -1.2]) and found.valid.all()
    found = GreyLevels(positive=True)(save(tmp_path / 'x.png', np.uint8([[[0, 0, 0], [255, 0, 0]]])))
    assert found.values[0].tolist() == pytest.approx([0, 0.299]) and found.valid.tolist() == [[False, True]]


def test_flow_of_kitti_against_its_formula(tmp_path):
    stored = [[[32768, 32768, 1], [32768 + 64 * 5, 32768 - 32, 1], [0, 0, 0], [65535, 0, 1]]]
    found = KittiFlow()(save_rgb_of_16_bits(tmp_path / 'x.png', stored))
    assert found.valid.tolist() == [[True, True, False, True]] and found.values.dtype == np.float32
    assert found.values[0].tolist() == [[0, 0], [5, -0.5], [0, 0], [(65535 - 32768) / 64, -512]]


WRONG = {
    'ids in colours': (ClassIds.of({0: 0}), np.zeros((2, 2, 3), np.uint8), 'png', 'a PNG of 8-bit RGB pixels'),
    'ids of 16 bits': (ClassIds.of({0: 0}), np.zeros((2, 2), np.uint16), 'png', 'a PNG of 16-bit grey pixels'),
    'ids in a JPEG': (ClassIds.of({0: 0}), np.zeros((2, 2), np.uint8), 'jpg', 'a JPEG of 8-bit grey pixels'),
    'mask in a JPEG': (NonZero(), np.zeros((2, 2), np.uint8), 'jpg', 'stored without loss'),
    'mask with alpha': (NonZero(), np.zeros((2, 2, 4), np.uint8), 'png', '8-bit RGBA'),
    'depth of 8 bits': (WholeDepth(512), np.zeros((2, 2), np.uint8), 'png', 'one channel of 16-bit whole numbers'),
    'depth in floats': (WholeDepth(512), np.zeros((2, 2), np.float32), 'tiff', 'a TIFF of 32-bit float pixels'),
    'metres in whole numbers': (FloatDepth(), np.zeros((2, 2), np.uint16), 'png', 'one channel of floats'),
    'flow of 8 bits': (KittiFlow(), np.zeros((2, 2, 3), np.uint8), 'png', 'RGB of 16 bits')}


@pytest.mark.parametrize('case', WRONG)
def test_a_file_of_the_wrong_type_is_one_message(case, tmp_path):
    decode, pixels, suffix, says = WRONG[case]
    with pytest.raises(DataError, match=says):
        decode(save(tmp_path / f'x.{suffix}', pixels))


@pytest.mark.parametrize('decode', [ClassIds.of({0: 0}), NonZero(), SameImage()], ids=lambda each: type(each).__name__)
def test_damaged_files_are_unreadable(decode, tmp_path):
    content = save(tmp_path / 'x.png', np.arange(4096, dtype=np.uint8).reshape(64, 64))
    for part in (content[:60], content[:-30], b'no image'):
        with pytest.raises(UnreadableImage):
            decode(part)


def test_damaged_flow_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImage):
        KittiFlow()(save_rgb_of_16_bits(tmp_path / 'x.png', np.arange(3072).reshape(32, 32, 3))[:60])


# Tables


@pytest.fixture
def nyu(tmp_path):
    for place, name in enumerate(('b', 'a', 'c')):
        save(tmp_path / 'train/images' / f'{name}.png', np.full((2, 3, 3), place, np.uint8))
        save(tmp_path / 'train/depths' / f'{name}.tiff', np.float32([[place + 1, 0, 11], [1, 2, 3]]))
        save(tmp_path / 'train/walkable' / f'{name}.png', np.uint8([[place, 0, 0], [0, 255, 1]]))
    return tmp_path


def read(root, kind='NYUDepth', split='train'):
    return read_images(dict(type=kind, root=str(root), split=split))


def test_depth_of_nyu(nyu):
    table = read(nyu)
    assert isinstance(table, DenseTable) and table.target_kind == 'depth' and table.kind == 'NYUDepth'
    assert table.texts('path') == [f'train/images/{name}.png' for name in 'abc']
    assert table.texts('mask') == [f'train/depths/{name}.tiff' for name in 'abc']
    target = table.read_target(0, (2, 3))
    assert target.values.tolist() == [[2, 0, 0], [1, 2, 3]] and target.values.dtype == np.float32
    assert target.valid.tolist() == [[True, False, False], [True, True, True]]
    check_targets(table)


def test_where_one_can_walk(nyu):
    table = read(nyu, 'NYUWalkable')
    assert table.target_kind == 'mask'
    assert table.read_target(2).values.tolist() == [[1, 0, 0], [0, 1, 1]] and table.read_target(2).valid.all()
    assert table.read_target(1).values.tolist() == [[0, 0, 0], [0, 1, 1]]


def test_parts_and_pickles_keep_their_targets(nyu):
    table = pickle.loads(pickle.dumps(read(nyu).select([2, 0])))
    assert table.read_target(1).values[0, 0] == 2 and table.target_kind == 'depth'
    assert table.fingerprint() == read(nyu).select([2, 0]).fingerprint()


def test_the_fingerprint_covers_targets(nyu):
    table = read(nyu)
    seen = {table.fingerprint(), read(nyu, 'NYUWalkable').fingerprint()}
    for decode in (FloatDepth(9.0), decoded):
        seen.add(DenseTable(table.root, table.table, target_kind='depth', decode=decode).fingerprint())
    save(nyu / 'train/depths/b.tiff', np.zeros((9, 9), np.float32))
    assert len(seen | {read(nyu).fingerprint()}) == 5


def decoded(content):
    return Target(np.zeros((2, 3), np.float32), np.ones((2, 3), bool))


def test_headers_are_looked_at_before_training(nyu):
    save(nyu / 'train/depths/b.tiff', np.zeros((2, 4), np.float32))
    save(nyu / 'train/depths/c.tiff', np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match=r"tiff: 4 x 2 pixels, where its image 'train.images.b.png' has 3 x 2.* 1 mo"):
        check_targets(read(nyu))
    with pytest.raises(DataError, match='b.tiff: 4 x 2 pixels, where'):
        read(nyu).read_target(1, (2, 3))
    with pytest.raises(DataError, match='c.tiff: a TIFF of 8-bit grey pixels, where one channel of floats'):
        read(nyu).read_target(2)
    table = read(nyu)
    (nyu / 'train/depths/a.tiff').unlink()
    with pytest.raises(DataError, match='a.tiff: does not exist.* So 2 more of 3'):
        check_targets(table)
    with pytest.raises(UnreadableImage, match=r'a.tiff: missing'):
        table.read_target(0)


def test_some_targets_are_decoded_before_training(tmp_path):
    save(tmp_path / 'x.png', np.zeros((2, 2, 3), np.uint8))
    for name, value in (('a', 0), ('b', 9)):
        save(tmp_path / f'{name}.png', np.full((2, 2), value, np.uint8))
    table = DenseTable.from_columns(tmp_path, dict(id=['1', '2', '3'], path=['x.png'] * 3,
                                                   mask=['a.png', None, 'b.png']),
                                    target_kind='classes', decode=ClassIds.of({0: 0}), target_names=('all',))
    check_targets(table, limit=1)
    with pytest.raises(DataError, match='b.png: the pixel in column 0 of row 0 holds 9, which is the id of no class'):
        check_targets(table)
    with pytest.raises(DataError, match="'x.png' has no target of its own"):
        table.read_target(1)


def test_what_makes_no_table(nyu):
    table = read(nyu).table
    with pytest.raises(ConfigError, match="target_kind is 'heat'"):
        DenseTable(nyu, table, target_kind='heat', decode=FloatDepth())
    with pytest.raises(DataError, match='classes need names, and they alone'):
        DenseTable(nyu, table, target_kind='classes', decode=FloatDepth())
    with pytest.raises(DataError, match="no column 'mask'"):
        DenseTable(nyu, table.drop_columns('mask'), target_kind='depth', decode=FloatDepth())
    outside = table.set_column(table.column_names.index('mask'), 'mask', [['../x', '../x', '../x']])
    with pytest.raises(DataError, match=r"'\.\./x'"):
        DenseTable(nyu, outside, target_kind='depth', decode=FloatDepth())


def test_an_image_without_target_and_a_target_without_image(nyu, caplog):
    (nyu / 'train/images/b.png').unlink()
    assert len(read(nyu)) == 2
    (nyu / 'train/depths/c.tiff').unlink()
    with pytest.raises(DataError, match="the target of 'train/images/c.png' is missing; 1 of 2 images have none"):
        read(nyu)
    save(nyu / 'train/depths/a.png', np.zeros((1, 1), np.uint8))
    with pytest.raises(DataError, match=r"a\.png' and 'train/depths/a\.tiff' are targets of one image"):
        read(nyu)
    with pytest.raises(ConfigError, match="split is 'val'"):
        read(nyu, split='val')
    with pytest.raises(DataError, match='test/images does not exist'):
        read(nyu, split='test')
