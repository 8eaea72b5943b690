"""What the stage leaves out by options, and what it refuses."""

import json

import numpy as np
import pyarrow
import pytest
from retrieval_runs import DIM, PROMPTS, TEXT, features_stage, random_buckets, register_text_encoder, run, sign_vector
from stage_folders import finished

from clear.core.errors import ConfigError, DataError
from clear.curation.retrieval.stage import Retrieval
from clear.registry import MODELS


@pytest.fixture(scope='module', autouse=True)
def text_encoder():
    register_text_encoder()
    yield
    MODELS.module_dict.pop('SignTextEncoder')


def copies(seed=6):
    """Two buckets in which the second has copies of the first, and each has copies of its own."""
    buckets = random_buckets(seed, (60, 60))
    (ids0, one), (ids1, two) = buckets['0'], buckets['1']
    one[10:14] = one[10]
    two[:5] = one[20:25]
    two[30:33] = two[30]
    return {'0': (ids0, one), '1': (ids1, two)}


class TestNearDuplicates:
    @pytest.mark.parametrize('across', [False, True])
    def test_of_each_group_one_stays(self, tmp_path, across):
        buckets = copies()
        features = features_stage(tmp_path, buckets)
        made = run(tmp_path, features, prompts=['laptop', 'bus'], k=60, q=60, shortfall='keep-short',
                   near_duplicates=dict(min_cosine=0.99, across=across))
        seen, chosen = set(), {}
        for name, (ids, vectors) in buckets.items():
            best = np.maximum(*(vectors @ sign_vector(text) for text in ('laptop', 'bus')))
            seen = seen if across else set()
            for row in sorted(range(60), key=lambda row: (-best[row], ids[row])):
                if vectors[row].tobytes() not in seen:
                    chosen.setdefault(name, set()).add(int(ids[row]))
                seen.add(vectors[row].tobytes())
        assert {name: set(table['id'].to_pylist()) for name, table in made.tables.items()} == chosen
        gone = 120 - sum(len(ids) for ids in chosen.values())
        assert sum(counts['near_duplicates'] for counts in made.counts) == gone >= (10 if across else 5)

    def test_the_background_is_freed_of_them_too(self, tmp_path):
        buckets = copies()
        made = run(tmp_path, features_stage(tmp_path, buckets), prompts=['laptop'], k=10, q=30, background=True,
                   negative_ratio=1.0, near_duplicates=dict(min_cosine=0.99, across=True))
        lines = [vectors[np.flatnonzero(ids == image)[0]].tobytes() for name, (ids, vectors) in buckets.items()
                 for image in made.tables[name].filter(
                     pyarrow.compute.equal(made.tables[name]['kind'], 'background'))['id'].to_pylist()]
        assert len(lines) == len(set(lines)) == 20

    def test_an_image_of_several_classes_is_no_copy_of_itself(self, tmp_path):
        buckets = random_buckets(8, (50,))
        arguments = dict(prompts=PROMPTS, k=20, q=40, conflict='allow')
        plain = run(tmp_path, features_stage(tmp_path, buckets), 'plain', **arguments)
        freed = run(tmp_path, features_stage(tmp_path / 'b', buckets), **arguments,
                    near_duplicates=dict(min_cosine=1.0))
        distinct = len({vector.tobytes() for vector in buckets['0'][1]}) == 50
        assert distinct and plain.tables['0'].equals(freed.tables['0'])

    @pytest.mark.parametrize('given, message', [
        (dict(), 'neither min_cosine'), (dict(min_cosine=2), 'min_cosine is 2'), (0.95, 'expected a dict'),
        (dict(min_cosin=0.9), "no key 'min_cosin'")])
    def test_refused(self, given, message):
        with pytest.raises(ConfigError, match=message):
            Retrieval(PROMPTS, TEXT, k=1, q=1, near_duplicates=given)


class TestOtherModels:
    def test_a_bank_without_a_text_side(self, tmp_path):
        features = features_stage(tmp_path, random_buckets(0))
        run(tmp_path, features, prompts=PROMPTS, k=1, q=30)  # nothing says that it is another
        bank = tmp_path / 'features' / 'shards' / '000000' / 'bank' / 'meta.json'
        meta = json.loads(bank.read_text())
        bank.write_text(json.dumps(meta | dict(encoder=dict(type='TimmEncoder', config={}))))
        with pytest.raises(DataError, match='bank of another model than text_encoder.*TimmEncoder'):
            run(tmp_path, features, 'again', prompts=PROMPTS, k=1, q=30)

    def test_banks_of_two_models(self, tmp_path):
        buckets = random_buckets(0, (20, 20))
        first = features_stage(tmp_path / 'a', {'0': buckets['0']}, encoder='one')
        second = features_stage(tmp_path / 'b', {'1': buckets['1']}, encoder='two')
        meta = second.folder.path / 'shards' / '000000' / 'bank' / 'meta.json'
        features = features_stage(tmp_path / 'c', buckets, encoder='one')
        (features.folder.path / 'shards' / '000001' / 'bank' / 'meta.json').write_text(meta.read_text())
        assert len(first) == 1
        with pytest.raises(DataError, match='are banks of two models'):
            run(tmp_path, features, prompts=PROMPTS, k=1, q=9)

    def test_another_width(self, tmp_path):
        features = features_stage(tmp_path, {'0': (np.arange(5), np.ones((5, 8)))})
        with pytest.raises(DataError, match='it has 8 dimensions, the texts 16'):
            run(tmp_path, features, prompts=PROMPTS, k=1, q=5)


GROUP = dict(NAME='MINE', PREFIX='', ALLOW_OVERLAP=0, CLIP_MODEL='RN101', NUM_OF_IMAGES_PER_CLASS_PER_BUCKET=3,
             NUM_OF_IMAGES_PER_CLASS_PER_BUCKET_TO_QUERY=50, BACKGROUND=1, NEGATIVE_RATIO=0.5, GROUP=PROMPTS)


def test_the_earlier_config_is_enough(tmp_path):
    path = tmp_path / 'concept_group_dict.json'
    path.write_text(json.dumps({key: value for key, value in GROUP.items() if key != 'CLIP_MODEL'}))
    made = run(tmp_path, features_stage(tmp_path, random_buckets(9)), prompts=str(path))
    assert made.summary['buckets']['0'] == dict.fromkeys(PROMPTS, 3) | dict(BACKGROUND=4)
    assert made.summary['concepts']['NAME'] == 'MINE'
    assert Retrieval(str(path), TEXT, k=2, conflict='drop').k == 2
    path.write_text(json.dumps(GROUP))
    with pytest.raises(ConfigError, match='for another model than text_encoder'):
        Retrieval(str(path), dict(type='OpenCLIPTextEncoder', arch='RN50'))
    assert Retrieval(str(path), dict(type='OpenCLIPTextEncoder', arch='RN101-quickgelu')).q == 50


@pytest.mark.parametrize('arguments, message', [
    (dict(k=5, q=4), r'q \(4\) is smaller than k \(5\)'), (dict(k=None, q=4), 'k is None'),
    (dict(conflict='none'), "conflict is 'none'"), (dict(negative_ratio=1.5), 'negative_ratio is 1.5'),
    (dict(shortfall='skip'), "shortfall is 'skip'"), (dict(prompts=['a', 'a']), 'there twice'),
    (dict(prompts=['a/b']), 'no name of a folder'), (dict(prompts=[]), 'name no class'),
    (dict(filters=[dict(type='MinScor')]), "one of .*Did you mean 'MinScore'"),
    (dict(filters=dict(type='MinScore')), 'expected a list'), (dict(filters=[dict(type='MinScore')]), 'filters\\[0\\]'),
    (dict(filters=[dict(type='ImageShape', min_edg=1)]), "no key 'min_edg'")])
def test_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Retrieval(**dict(dict(prompts=PROMPTS, text_encoder=TEXT, k=1, q=2), **arguments))


class TestFilters:
    def tables(self, ids):
        """Widths grow, every third photo is licensed otherwise, every fifth has no record."""
        images = pyarrow.table(dict(id=ids[::-1], width=pyarrow.array(range(len(ids), 0, -1), pyarrow.int32()),
                                    height=pyarrow.array([50] * len(ids), pyarrow.int32())))
        rows = [row for row in range(len(ids)) if row % 5]
        names = ['Attribution License' if row % 3 else 'All rights reserved' for row in rows]
        return images, pyarrow.table(dict(id=ids[rows], license_name=names))

    def test_all_of_them(self, tmp_path):
        buckets = random_buckets(10, (120,))
        ids, vectors = buckets['0']
        images, records = self.tables(ids)
        inputs = dict(features=features_stage(tmp_path, buckets),
                      images=finished(tmp_path / 'images', [{'images.parquet': images[:50]},
                                                            {'images.parquet': images[50:]}]),
                      records=finished(tmp_path / 'records', [{'records.parquet': records}]))
        arguments = dict(prompts=['laptop'], k=6, q=80, background=True, negative_ratio=1.0, filters=[
            dict(type='MinScore', min_score=0.125), dict(type='ImageShape', min_edge=40, max_aspect_ratio=2),
            dict(type='License', allow=['attribution*']), dict(type='Unlike', prompts=['nude'], max_score=0.25)])
        assert Retrieval(text_encoder=TEXT, **arguments).reads == ('features', 'images', 'records')
        made = run(tmp_path, inputs, shortfall='keep-short', **arguments)
        score, other = (vectors @ sign_vector(text) / DIM for text in ('laptop', 'nude'))
        width = np.arange(1, 121)

        def stays(row):
            sides = sorted([width[row], 50])
            return sides[0] >= 40 and sides[1] <= 2 * sides[0] and row % 5 and row % 3 and other[row] <= 0.25

        best = sorted(range(120), key=lambda row: (-score[row], ids[row]))[:80]
        worst = sorted(range(120), key=lambda row: (score[row], ids[row]))[:80]
        positives = [ids[row] for row in best if stays(row) and score[row] >= 0.125][:6]
        background = [ids[row] for row in worst if stays(row)][:6]
        background = [image for image in background if image not in positives]
        found = made.tables['0']['id'].to_pylist()
        assert found[:len(positives)] == positives
        assert set(found[len(positives):]) <= {ids[row] for row in worst if stays(row)}
        assert found[len(positives):len(positives) + len(background)] == background
        assert made.counts[0]['filtered'] > 50

    def test_hashes_find_copies_among_images(self, tmp_path):
        from curated import curated

        images, buckets_stage, ids = curated(tmp_path / 'stream', count=24)
        rng = np.random.default_rng(0)
        buckets = {'old': (np.sort(ids[::3]), rng.choice([-1.0, 1.0], (8, DIM)))}
        inputs = dict(features=features_stage(tmp_path, buckets), images=images)
        arguments = dict(prompts=['laptop'], k=8, q=8, shortfall='keep-short', near_duplicates=dict(hashes=True))
        assert run(tmp_path, inputs, **arguments).tables['old'].num_rows == 8  # none is like another
        loose = arguments | dict(near_duplicates=dict(hashes=True, max_bits=64, max_gradient_bits=64))
        made = run(tmp_path, inputs, 'loose', **loose)
        assert made.tables['old'].num_rows == 1  # everything is
        best = max(range(8), key=lambda row: (buckets['old'][1][row] @ sign_vector('laptop'), -buckets['old'][0][row]))
        assert made.tables['old']['id'].to_pylist() == [buckets['old'][0][best]]
        assert buckets_stage.summary['buckets']
