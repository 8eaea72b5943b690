"""The stage against a straight-line reference, over banks with many ties."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from retrieval_runs import DIM, PROMPTS, TEXT, features_stage, random_buckets, register_text_encoder, run, sign_vector

from clear.core.errors import DataError
from clear.curation.retrieval.stage import Retrieval
from clear.engine.stages.runner import StageRunner
from clear.registry import MODELS


@pytest.fixture(scope='module', autouse=True)
def text_encoder():
    register_text_encoder()
    yield
    MODELS.module_dict.pop('SignTextEncoder')


def reference(ids, vectors, prompts, k, q, conflict, background, ratio):
    """Sections 5.3 and 5.4, straight: lists and dicts, one image at a time."""
    def cosine(row, prompt):
        return float(np.dot(vectors[row], sign_vector(prompt)) / DIM)

    def query(sign):
        found = {}
        for prompt in prompts:
            scored = [(sign * cosine(row, prompt), ids[row]) for row in range(len(ids))]
            found[prompt] = sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:q]
        return found

    def assign(found, how):
        by_image = {}
        for prompt in prompts:
            for score, image in found[prompt]:
                by_image.setdefault(image, []).append((score, prompt))
        kept = {prompt: [] for prompt in prompts}
        for image, options in by_image.items():
            if how == 'allow':
                chosen = options
            elif how == 'drop':
                chosen = options if len(options) == 1 else []
            else:
                best = max(score for score, _ in options)
                chosen = [next(option for option in options if option[0] == best)]
            for score, prompt in chosen:
                kept[prompt].append((score, image))
        return {prompt: sorted(images, key=lambda pair: (-pair[0], pair[1]))[:k] for prompt, images in kept.items()}

    positives = assign(query(1), conflict)
    rows = [(image, prompt, score, 'positive', place + 1)
            for prompt in prompts for place, (score, image) in enumerate(positives[prompt])]
    if background:
        used = {image for images in positives.values() for _, image in images}
        negatives, kept = assign(query(-1), 'argmax'), []
        for prompt in prompts:
            want, taken = int(len(negatives[prompt]) * ratio), 0
            for score, image in negatives[prompt]:
                if taken < want and image not in used:
                    used.add(image)
                    kept.append((score, image, prompt))
                    taken += 1
        kept.sort(key=lambda each: (-each[0], each[1]))
        rows += [(image, prompt, -score, 'background', place + 1) for place, (score, image, prompt) in enumerate(kept)]
    return rows


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('conflict', ['argmax', 'drop', 'allow'])
@pytest.mark.parametrize('background', [False, True])
def test_equal_to_the_reference(tmp_path, seed, conflict, background):
    buckets = random_buckets(seed)
    features = features_stage(tmp_path, buckets, dtype='float16' if seed % 2 else 'float32')
    made = run(tmp_path, features, prompts=PROMPTS, k=9, q=30, conflict=conflict, background=background,
               negative_ratio=0.4, shortfall='keep-short')
    for name, (ids, vectors) in buckets.items():
        table = made.tables[name]
        rows = list(zip(*(table[column].to_pylist() for column in ('id', 'prompt', 'score', 'kind', 'rank'))))
        assert rows == reference(ids.tolist(), vectors, PROMPTS, 9, 30, conflict, background, 0.4)
        assert table['label'].to_pylist() == [prompt if kind == 'positive' else 'BACKGROUND'
                                              for _, prompt, _, kind, _ in rows]
    assert made.summary['class_names'] == PROMPTS + ['BACKGROUND'] * background


def test_shards_of_features_do_not_matter(tmp_path):
    buckets = random_buckets(7)
    arguments = dict(prompts=PROMPTS, k=5, q=40, background=True)
    one = run(tmp_path / 'a', features_stage(tmp_path / 'a', buckets, 1000), **arguments)
    many = run(tmp_path / 'b', features_stage(tmp_path / 'b', buckets, 7), **arguments)
    for shard in range(2):
        for key in ('files', 'counts'):
            assert one.folder.receipt(shard)[key] == many.folder.receipt(shard)[key]


@pytest.mark.slow
@pytest.mark.parametrize('across', [False, True])
def test_a_pool_and_an_interrupted_run_make_the_same_bytes(tmp_path, across):
    features = features_stage(tmp_path, random_buckets(12, (90, 80, 70)), 30)
    config = dict(stages=[dict(type='Retrieval', prompts=PROMPTS, text_encoder=TEXT, k=5, q=40, background=True,
                               near_duplicates=dict(min_cosine=0.7, across=across))],
                  inputs=dict(features=str(features.folder.path)))
    places = [tmp_path / name for name in ('one', 'pool', 'again')]
    for place, workers in zip(places, (0, 2, 0)):
        StageRunner(dict(config, num_workers=workers), place).run()
    stage = places[2] / 'stages' / 'retrieval'
    (stage / 'manifest.json').unlink()
    shutil.rmtree(stage / 'shards' / '000001')
    StageRunner(config, places[2]).run()

    def content(place):
        return {path.relative_to(place): path.read_bytes() for path in (place / 'stages').rglob('*')
                if path.is_file() and path.name != 'timing.json'}

    assert content(places[0]) == content(places[1]) == content(places[2])


def test_counts_and_summary(tmp_path):
    buckets = random_buckets(1)
    made = run(tmp_path, features_stage(tmp_path, buckets), prompts=dict(lap='laptop', cam='camera'), k=3, q=20,
               background=True, negative_ratio=0.4, prefix='a ')
    assert made.summary['buckets'] == {name: dict(lap=3, cam=3, BACKGROUND=2) for name in '01'}
    assert made.summary['shortfalls'] == [] and made.summary['label_map'] == dict(laptop='lap', camera='cam')
    assert made.summary['concepts'] == dict(
        NAME='', PREFIX='a ', ALLOW_OVERLAP=0, NUM_OF_IMAGES_PER_CLASS_PER_BUCKET=3,
        NUM_OF_IMAGES_PER_CLASS_PER_BUCKET_TO_QUERY=20, BACKGROUND=1, NEGATIVE_RATIO=0.4, GROUP=['laptop', 'camera'])
    assert [counts['searched'] for counts in made.counts] == [150, 90]
    assert [(counts['selected'], counts['background']) for counts in made.counts] == [(6, 2)] * 2


class TestSeveralPrompts:
    def test_the_highest_of_a_class_counts_and_is_named(self, tmp_path):
        buckets = random_buckets(2, (200,))
        ids, vectors = buckets['0']
        made = run(tmp_path, features_stage(tmp_path, buckets), prompts=dict(a=['x', 'y'], b='z'), k=10, q=50,
                   conflict='allow').tables['0']
        cosines = {text: vectors @ sign_vector(text) / DIM for text in 'xyz'}
        highest = np.maximum(cosines['x'], cosines['y'])
        order = sorted(range(200), key=lambda row: (-highest[row], ids[row]))[:10]
        assert made['id'].to_pylist()[:10] == ids[order].tolist()
        assert made['score'].to_pylist()[:10] == highest[order].tolist()
        assert made['prompt'].to_pylist()[:10] == ['x' if cosines['x'][row] >= cosines['y'][row] else 'y'
                                                   for row in order]

    def test_mean(self, tmp_path):
        buckets = random_buckets(3, (200,))
        ids, vectors = buckets['0']
        made = run(tmp_path, features_stage(tmp_path, buckets), prompts=dict(a=['x', 'y']), k=10, q=50,
                   combine='mean').tables['0']
        mean = sign_vector('x') + sign_vector('y')
        scores = vectors @ (mean / np.linalg.norm(mean)) / DIM ** 0.5
        order = sorted(range(200), key=lambda row: (-scores[row].round(6), ids[row]))[:10]
        assert made['score'].to_pylist() == pytest.approx(scores[order], abs=1e-6)
        assert made['prompt'].to_pylist() == ['x | y'] * 10

    def test_a_negative_prompt_vetoes_what_it_is_nearer_to(self, tmp_path):
        buckets = random_buckets(4, (300,))
        ids, vectors = buckets['0']
        made = run(tmp_path, features_stage(tmp_path, buckets), k=8, q=60, conflict='allow',
                   prompts=dict(a=dict(prompts='x', negatives='n'), b='z'), negatives=['m'])
        cosines = {text: vectors @ sign_vector(text) / DIM for text in 'xznm'}
        expected = []
        for prompt, negatives in (('x', 'nm'), ('z', 'm')):
            best = sorted(range(300), key=lambda row: (-cosines[prompt][row], ids[row]))[:60]
            stay = [row for row in best if max(cosines[text][row] for text in negatives) <= cosines[prompt][row]]
            expected += ids[stay[:8]].tolist()
        assert made.tables['0']['id'].to_pylist() == expected and made.counts[0]['vetoed'] > 0


class TestTooFew:
    def test_error_names_bucket_classes_and_remedy(self, tmp_path):
        features = features_stage(tmp_path, random_buckets(0, (100, 12)))
        with pytest.raises(DataError, match=r"bucket 1: fewer than k = 9 candidates of .*laptop \d.*of 12 images.*"
                                            "shortfall='keep-short' or 'enlarge-q'"):
            run(tmp_path, features, prompts=PROMPTS, k=9, q=60)
        assert (tmp_path / 'retrieval' / 'shards' / '000000').is_dir()  # what was done is kept
        assert not (tmp_path / 'retrieval' / 'shards' / '000001').exists()

    def test_keep_short_says_where(self, tmp_path):
        made = run(tmp_path, features_stage(tmp_path, random_buckets(0, (100, 12))), prompts=PROMPTS, k=9, q=60,
                   shortfall='keep-short')
        assert sum(made.summary['buckets']['1'].values()) == 12
        assert {each['bucket'] for each in made.summary['shortfalls']} == {'1'}
        assert any('not 9' in line for line in made.stage.report(
            SimpleNamespace(summary=made.summary, counts={})))

    def test_enlarge_q_doubles_it_for_all_classes_of_the_bucket(self, tmp_path):
        buckets = random_buckets(5, (150, 90))
        features = features_stage(tmp_path, buckets)
        made = run(tmp_path, features, prompts=PROMPTS, k=9, q=9, shortfall='enlarge-q')
        for name, (ids, vectors) in buckets.items():
            q = 9
            while True:
                rows = reference(ids.tolist(), vectors, PROMPTS, 9, q, 'argmax', False, 0)
                if len(rows) == 36:
                    break
                q = min(2 * q, len(ids))
            assert made.tables[name]['id'].to_pylist() == [row[0] for row in rows]

    def test_enlarge_q_ends_with_the_bucket(self, tmp_path):
        with pytest.raises(DataError, match='with q = 20 of 20 images'):
            run(tmp_path, features_stage(tmp_path, random_buckets(5, (20,))), prompts=PROMPTS, k=9, q=9,
                shortfall='enlarge-q')

    def test_an_empty_bucket(self, tmp_path):
        nothing = np.zeros(0, int), np.zeros((0, DIM))
        features = features_stage(tmp_path, {**random_buckets(0, (60,)), 'empty': nothing})
        with pytest.raises(DataError, match='bucket empty has no image with features'):
            run(tmp_path, features, prompts=PROMPTS, k=2, q=30)
        made = run(tmp_path, features, 'again', prompts=PROMPTS, k=2, q=30, background=True, shortfall='keep-short')
        assert made.tables['empty'].num_rows == 0 and made.tables['0'].num_rows == 8


def test_a_dry_run_says_what_would_come(tmp_path):
    features = features_stage(tmp_path, random_buckets(11, (100, 10)))
    arguments = dict(prompts=PROMPTS, text_encoder=TEXT, k=5, q=40)
    stage = Retrieval(**arguments)
    first = ['in each bucket 5 images of each of 4 classes, of 40 candidates: 20']
    assert stage.preview() == first
    stage.inputs = dict(features=features)
    made = run(tmp_path, features, shortfall='keep-short', **arguments)
    lines = stage.preview()
    assert [line.replace(' (short)', '') for line in lines] == first + [
        f'bucket {name}: ' + ', '.join(f'{label} {count}' for label, count in counts.items())
        for name, counts in made.summary['buckets'].items()]
    assert '(short)' in lines[2] and '(short)' not in lines[1]
    assert Retrieval(**arguments, background=True, negative_ratio=0.5).preview()[0].endswith(
        ': 20, and at most 8 of BACKGROUND')
