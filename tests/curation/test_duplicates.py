"""Near-duplicates: hashes as imagehash has them, pairs as a loop finds them, copies that people make."""

import imagehash
import numpy as np
import pytest
from photo_tiles import KINDS, cropped, cut_at_one_side, encoded_anew, mirrored, photo_tiles, without_rim
from PIL import ImageOps

from clear.curation import duplicates
from clear.curation.duplicates import VIEWS, Hashes, groups, image_hashes, near_duplicates, near_features

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def tiles():
    return photo_tiles()


def as_int(found):
    return int(str(found), 16)


def test_hashes_are_those_of_imagehash(tiles):
    some = [*tiles[:300:40], tiles[5].resize((40, 31)), tiles[7].convert('L')]
    found = image_hashes(some)
    for row, image in enumerate(some):
        assert int(found.perceptual[row, 0]) == as_int(imagehash.phash(image))
        assert int(found.gradient[row, 0]) == as_int(imagehash.dhash(image))
    # A mirrored image of floats hashes alike; resizing rounds to whole numbers, which may tip a bit at the median.
    for row, image in enumerate(some):
        flipped = ImageOps.mirror(image)
        for value, by in zip(found.mirrored[row], (imagehash.phash, imagehash.dhash)):
            assert (int(value) ^ as_int(by(flipped))).bit_count() <= 2
    width, height = some[0].size
    box = VIEWS[13] * [width, height, width, height]
    cut = some[0].convert('L').resize((32, 32), 1, tuple(box))
    assert int(found.perceptual[0, 13]) == as_int(imagehash.phash(cut))


def random_hashes(count):
    """Hashes of which many differ in a few bits."""
    def words(*shape):
        few = RNG.integers(0, 4, shape, np.uint64)
        return few << RNG.integers(0, 60, shape, np.uint64)
    return Hashes(words(count, len(VIEWS)), words(count, len(VIEWS)), words(count, 2))


def alike_by_hand(one, other, bits, gradient_bits):
    for whole, crops in ((one, other), (other, one)):
        for pair in ((whole.perceptual[0], whole.gradient[0]), tuple(whole.mirrored)):
            for view in range(len(VIEWS)):
                far = [int(value ^ row[view]).bit_count()
                       for value, row in zip(pair, (crops.perceptual, crops.gradient))]
                if far[0] <= bits and far[1] <= gradient_bits:
                    return True
    return False


@pytest.mark.parametrize('sizes', [(1, 1), (7, 5), (9, None), (0, 3)])
@pytest.mark.parametrize('bits', [(0, 0), (1, 2), (3, 64), (10, 1), (13, 5)])
@pytest.mark.parametrize('most_probes', [0, 4000])
def test_pairs_equal_a_loop_over_blocks_of_any_size(monkeypatch, sizes, bits, most_probes):
    for name, value in dict(_QUERIES=3, _ROWS=4, _CANDIDATES=3, _MOST_PROBES=most_probes).items():
        monkeypatch.setattr(duplicates, name, value)
    one = random_hashes(sizes[0])
    other = None if sizes[1] is None else random_hashes(sizes[1])
    listed = [(row, place) for row in range(len(one)) for place in range(len(one if other is None else other))
              if (other is not None or row < place)
              and alike_by_hand(one[row], (one if other is None else other)[place], *bits)]
    assert near_duplicates(one, other, *bits).tolist() == [list(pair) for pair in listed]


@pytest.mark.parametrize('bits', [0, 3, 4, 9, 10, 15])
def test_the_index_finds_what_differs_in_a_few_bits(monkeypatch, bits):
    monkeypatch.setattr(duplicates, '_CANDIDATES', 50)
    entries = RNG.integers(0, 1 << 63, 40, np.uint64)
    queries = entries[RNG.integers(0, 40, 300)]
    for count in range(bits + 2):  # flipped anywhere, some in one word, some in all
        queries[count::bits + 2] ^= np.array([sum(1 << int(bit) for bit in RNG.choice(64, count, replace=False))
                                              for _ in queries[count::bits + 2]], np.uint64)
    found = {(int(query), int(entry)) for piece in duplicates._Index(entries, bits).near(queries)
             for query, entry in zip(*piece)}
    assert found == {(query, entry) for query, one in enumerate(queries) for entry, other in enumerate(entries)
                     if int(one ^ other).bit_count() <= bits}


def test_near_features_equal_a_loop(monkeypatch):
    monkeypatch.setattr(duplicates, '_QUERIES', 3)
    monkeypatch.setattr(duplicates, '_ROWS', 4)
    rows = RNG.normal(size=(11, 3)).astype(np.float16)
    rows[4] = 0
    unit = [row.astype(float) / (np.linalg.norm(row.astype(float)) or 1) for row in rows]
    listed = [[a, b] for a in range(11) for b in range(a + 1, 11) if unit[a] @ unit[b] >= 0.5]
    assert near_features(rows, min_cosine=0.5).tolist() == listed
    assert near_features(rows[:2], rows, 0.5).tolist() == [[a, b] for a in range(2) for b in range(11)
                                                            if unit[a] @ unit[b] >= 0.5]


def test_groups():
    pairs = np.array([[5, 2], [2, 7], [3, 4]])
    assert groups(pairs, 9).tolist() == [0, 1, 2, 3, 3, 2, 6, 2, 8]
    assert groups(np.zeros((0, 2), np.int64), 3).tolist() == [0, 1, 2]


@pytest.mark.slow
def test_copies_are_found_and_textures_are_not(tiles):
    assert len(tiles) >= 300
    rng = np.random.default_rng(1)
    originals = image_hashes(tiles)
    right, wrong, found = 0, 0, {}
    for kind in (*KINDS, without_rim, cut_at_one_side):
        pairs = near_duplicates(originals, image_hashes([kind(tile, rng) for tile in tiles]))
        is_right = pairs[:, 0] == pairs[:, 1]
        found[kind] = is_right.sum() / len(tiles)
        if kind in KINDS:
            right, wrong = right + is_right.sum(), wrong + (~is_right).sum()
    assert min(found.values()) >= 0.97, found
    assert right / (4 * len(tiles)) >= 0.99 and right / (right + wrong) >= 0.98, (right, wrong)


def test_all_at_once(tiles):
    rng = np.random.default_rng(2)
    some = tiles[::8]
    copies = [encoded_anew(cropped(mirrored(tile, rng), rng), rng) for tile in some]
    pairs = near_duplicates(image_hashes(some), image_hashes(copies))
    assert (pairs[:, 0] == pairs[:, 1]).sum() >= 0.95 * len(some)
