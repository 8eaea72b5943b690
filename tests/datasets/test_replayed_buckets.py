import collections

import pytest
from clear_trees import write_clear_tree
from reader_sets import bucket_images

from clear.core.errors import ConfigError, DataError
from clear.datasets import ReplayedBuckets
from clear.datasets.readers.stream_part import replay_counts, reservoir_rows


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('tree'), num_buckets=4, per_class=6)


def test_new_images_come_with_a_sample_of_the_earlier_ones(tree):
    data = ReplayedBuckets(tree, buckets=['4'], replay_buckets=['1', '2', '3'], replay_size=7, image_size=8,
                           split='all')
    new = bucket_images(tree, buckets=['4'], image_size=8, split='all')
    assert list(data.ids)[:len(new)] == list(new.ids) and len(data) == len(new) + 7
    replayed = list(data.ids)[len(new):]
    assert len(set(replayed)) == 7 and {name.split('/')[1] for name in replayed} <= {'1', '2', '3'}
    assert data.buckets == {'4': range(len(new)), 'replay': range(len(new), len(new) + 7)}
    assert data[0, len(new)]['inputs'].shape == (3, 8, 8)
    assert data.labels[len(new):].tolist() == [int(name.rpartition('/')[2][1:3]) for name in replayed]


def test_the_seed_decides_and_nothing_else(tree):
    def ids(**changes):
        return list(ReplayedBuckets(tree, **{**dict(buckets=['4'], replay_buckets=['1', '2'], replay_size=5,
                                                    image_size=8), **changes}).ids)

    assert ids() == ids() and set(ids()) == set(ids(replay_buckets=['2', '1']))
    assert ids() != ids(replay_seed=1)


def test_a_small_past_is_replayed_whole(tree):
    data = ReplayedBuckets(tree, buckets=['2'], replay_buckets=['1'], replay_size=1000, image_size=8, split='all')
    assert len(data) == 36


def test_every_earlier_image_is_equally_likely():
    # 30 of 100 + 20 rows: each in 1/4 of the reservoirs. Six standard deviations over 4,000 seeds.
    counts = collections.Counter(row for seed in range(4000)
                                 for row in reservoir_rows([('a', 100), ('b', 20)], 30, seed))
    assert len(counts) == 120 and all(abs(count / 4000 - 0.25) < 6 * (0.25 * 0.75 / 4000) ** 0.5
                                      for count in counts.values())


def test_what_left_the_reservoir_does_not_come_back():
    early, late = (set(reservoir_rows([('a', 50), ('b', 50), ('c', 50)][:count], 40, seed=3)) for count in (2, 3))
    assert {row for row in late if row < 100} < early
    assert len(late) == len(early) == 40


@pytest.mark.parametrize('shares, sizes, expected', [
    ('equal', [50], [10]), ('equal', [50, 50], [5, 5]), ('equal', [50, 50, 50], [4, 3, 3]),
    ('equal', [50, 2, 50], [4, 2, 3]), ('halves', [50], [10]), ('halves', [50, 50], [5, 5]),
    ('halves', [50, 50, 50], [2, 3, 5]), ('halves', [50, 50, 50, 4], [1, 1, 3, 4])])
def test_shares_of_earlier_buckets(shares, sizes, expected):
    named = [(f'b{place}', size) for place, size in enumerate(sizes)]
    assert replay_counts(sizes, 10, shares) == expected
    rows, starts = reservoir_rows(named, 10, 7, shares), [sum(sizes[:place]) for place in range(len(sizes) + 1)]
    assert [sum(start <= row < stop for row in rows) for start, stop in zip(starts, starts[1:])] == expected
    assert rows == sorted(set(rows))


@pytest.mark.parametrize('shares', ['equal', 'halves'])
@pytest.mark.parametrize('size', [1, 10, 37])
def test_of_a_bucket_never_more_are_replayed_than_before(shares, size):
    named, before = [(f'b{place}', 40) for place in range(9)], None
    for count in range(1, 10):
        rows = set(reservoir_rows(named[:count], size, 3, shares))
        assert len(rows) == size
        assert before is None or {row for row in rows if row < 40 * (count - 1)} <= before
        before = rows


def test_wrong_values_are_refused(tree):
    options = dict(buckets=['4'], replay_buckets=['1'], replay_size=5, image_size=8)
    assert len(ReplayedBuckets(tree, **options, replay_shares='equal')) == len(ReplayedBuckets(tree, **options))
    for changes, error, message in ((dict(replay_shares='exp'), ConfigError, "replay_shares is 'exp'"),
                                    (dict(replay_size=0), ConfigError, 'replay_size is 0'),
                                    (dict(replay_buckets=['4']), ConfigError, "bucket '4' is both new and replayed"),
                                    (dict(replay_buckets=['9']), ConfigError, "no bucket named '9'"),
                                    (dict(image_sise=8), ConfigError, "Did you mean 'image_size'")):
        with pytest.raises(error, match=message):
            ReplayedBuckets(tree, **{**options, **changes})
    with pytest.raises(DataError, match='does not exist'):
        ReplayedBuckets(tree / 'none', **options)
