"""Retrieval both ways against loops, clip-benchmark, ECCV Caption's package and the values of the earlier system."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from clear.core.errors import ConfigError, DataError
from clear.datasets.table import ImageTable
from clear.evaluation.language.retrieval import ImageTextRetrieval
from clear.evaluation.task import TaskData


class Bank:
    """What the task reads of a bank; row 1 could not be read."""

    def __init__(self, features):
        self.features = features

    def subset_rows(self):
        return np.array([row for row in range(len(self.features)) if row != 1])

    def tensors(self, rows):
        return self.features[torch.as_tensor(rows)], torch.zeros(len(rows), dtype=torch.int64)


class Encoder(torch.nn.Module):
    """Each text has a vector of its own, as a function of its characters."""

    def encode_text(self, texts):
        return torch.stack([rows(1, sum(map(ord, text)))[0] for text in texts])


CAPTIONS = [['a cat', 'a dog'], 'never read', ['an owl'], 'a photo that has one caption']


def rows(count, seed, dim=6):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def run(task, features=None, captions=CAPTIONS, **data):
    bank = Bank(rows(len(captions), 5) if features is None else features)
    return task.run(Encoder(), TaskData(bank={'test': bank}, text={'test': captions}, **data))


def noisy_pairs(num_images, per_image, dim, noise, seed):
    """Images and as many captions each, near them, of unit length."""
    generator = torch.Generator().manual_seed(seed)
    images = normalize(torch.randn(num_images, dim, generator=generator, dtype=torch.float64), dim=1)
    texts = images.repeat_interleave(per_image, 0)
    texts = texts + noise * torch.randn(texts.shape, generator=generator, dtype=torch.float64)
    return images, texts, torch.arange(num_images).repeat_interleave(per_image)


@pytest.mark.parametrize('definition', ['any', 'share'])
def test_images_with_one_to_three_captions_by_loops(definition):
    images, texts = rows(4, 5), rows(7, 6)
    owners = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    metrics = ImageTextRetrieval(ks=[1, 2], definition=definition).measure(images, texts, owners)
    cosine = normalize(images, dim=1) @ normalize(texts, dim=1).T
    for k in (1, 2):
        top = cosine.topk(k, dim=1).indices
        found = [(owners[top[image]] == image).sum().item() for image in range(4)]
        found = [min(count, 1) if definition == 'any' else count / int((owners == image).sum())
                 for image, count in enumerate(found)]
        assert metrics[f'image2text_R@{k}'] == pytest.approx(sum(found) / 4)
        top = cosine.T.topk(k, dim=1).indices
        assert metrics[f'text2image_R@{k}'] == pytest.approx(
            sum(bool((top[text] == owners[text]).any()) for text in range(7)) / 7)
    assert metrics['mean_recall'] == pytest.approx(sum(value for name, value in metrics.items() if 'R@' in name) / 4)


def test_values_of_the_earlier_system():
    """8 images, 20 captions: recorded from ITRA's retrieval, whose numbers are these in percent."""
    def drawn(seed, *shape):
        return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    owners = torch.arange(8).repeat_interleave(torch.tensor([3, 1, 2, 5, 2, 1, 4, 2]))
    images = normalize(drawn(410, 8, 16), dim=1)
    texts = normalize(images[owners] + .45 * drawn(411, 20, 16), dim=1)
    metrics = ImageTextRetrieval(ks=[1, 2, 5]).measure(images.float(), texts.float(), owners)
    assert metrics == pytest.approx({
        'image2text_R@1': 1.0, 'image2text_R@2': 1.0, 'image2text_R@5': 1.0, 'text2image_R@1': .8,
        'text2image_R@2': .85, 'text2image_R@5': 1.0, 'mean_recall': (4 + .8 + .85) / 6})


def test_it_equals_clip_benchmark():
    peer = pytest.importorskip('clip_benchmark.metrics.zeroshot_retrieval', reason='clip-benchmark is not installed')
    images, texts, owners = noisy_pairs(60, 5, 32, 1.2, 0)
    scores, is_right = texts @ images.T, owners[:, None] == torch.arange(60)
    metrics = ImageTextRetrieval().measure(images, texts, owners)
    shares = ImageTextRetrieval(definition='share').measure(images, texts, owners)
    # Its scores are of unit vectors.
    scores = scores / texts.norm(dim=1, keepdim=True)
    for k in (1, 5, 10):
        for way, each, right in (('text2image', scores, is_right), ('image2text', scores.T, is_right.T)):
            found = peer.recall_at_k(each.contiguous(), right.contiguous(), k)
            assert metrics[f'{way}_R@{k}'] == pytest.approx((found > 0).double().mean().item())
            assert shares[f'{way}_R@{k}'] == pytest.approx(found.mean().item(), abs=1e-6)


def test_the_task_takes_every_caption_and_no_unreadable_image():
    result = run(ImageTextRetrieval(ks=(1, 3)))
    texts = Encoder().encode_text(['a cat', 'a dog', 'an owl', 'a photo that has one caption'])
    features, owners = rows(4, 5)[[0, 2, 3]], torch.tensor([0, 0, 1, 2])
    assert result.extras['metrics'] == ImageTextRetrieval(ks=(1, 3)).measure(features, texts, owners)
    assert {name: result.extras[name] for name in ('n_test', 'n_captions', 'unreadable')} == dict(
        n_test=3, n_captions=4, unreadable=1)
    cosine = normalize(features, dim=1) @ normalize(texts, dim=1).T
    ranks = [int((cosine[image] > cosine[image][owners == image].max()).sum()) + 1 for image in range(3)]
    assert result.extras['median_rank']['image2text'] == sorted(ranks)[1]
    figures = result.extras['figure_data']
    assert figures['recall']['x'] == [1, 2, 3] and figures['recall']['lines']['image2text'][-1] == 1
    best = figures['rank of the first caption']['rows'][0]
    assert best['images'][0] == [0, 2, 3][ranks.index(min(ranks))] and best['captions'][0].startswith(f'{min(ranks)}: ')


def test_captions_alone_are_whole():
    """A caption that is plain text is one, not as many as it has characters."""
    result = run(ImageTextRetrieval(ks=[1]), captions=['a cat', 'a dog', 'an owl'])
    assert result.extras['n_captions'] == 2


@pytest.mark.parametrize('folds', [2, 3])
def test_folds_are_means_over_parts(folds):
    images, texts, owners = noisy_pairs(12, 2, 4, 1.0, 1)
    found = ImageTextRetrieval(ks=[1, 2], folds=folds).measure(images, texts, owners)
    size = 12 // folds
    parts = [ImageTextRetrieval(ks=[1, 2]).measure(images[start:start + size], texts[2 * start:2 * (start + size)],
                                                   owners[:2 * size]) for start in range(0, 12, size)]
    for name in parts[0]:
        assert found[f'fold_{name}'] == pytest.approx(sum(part[name] for part in parts) / folds)


def test_equal_similarities():
    images, texts, owners = torch.ones(4, 3), torch.ones(8, 3), torch.arange(8) % 4
    assert set(ImageTextRetrieval(ks=[1, 3]).measure(images, texts, owners).values()) == {0.0}
    found = ImageTextRetrieval(ks=[1], ties='expected').measure(images, texts, owners)
    assert found == pytest.approx({'image2text_R@1': .25, 'text2image_R@1': .25, 'mean_recall': .25})


def table(**columns):
    return ImageTable.from_columns(Path(), dict(
        path=['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg'], caption=[['a', 'dog'], ['never read'], ['an owl'], ['one caption']],
        **columns))


@pytest.mark.parametrize('named', [False, True])
def test_more_positives_by_hand(tmp_path, named):
    images = table(**(dict(image_id=['1', '2', '3', '4'], caption_ids=[['10', '11'], ['20'], ['30'], ['40']])
                      if named else {}))
    a, b, c, d = ('1', '2', '3', '4') if named else ('a.jpg', 'b.jpg', 'c.jpg', 'd.jpg')
    a0, a1, b0, c0, d0 = ('10', '11', '20', '30', '40') if named else (
        'a.jpg#0', 'a.jpg#1', 'b.jpg#0', 'c.jpg#0', 'd.jpg#0')
    (tmp_path / 'more.json').write_text(json.dumps(dict(
        image_to_captions={a: [a0, c0, b0], d: [c0, d0, d0, 'not there'], b: [b0]},
        caption_to_images={d0: [d, b], a1: [int(a) if named else a, c]})))
    captions = [images.captions(row) for row in range(4)]
    task = ImageTextRetrieval(ks=[1, 2], positives=dict(more=str(tmp_path / 'more.json')))
    assert 'images' in task.needs and 'images' not in ImageTextRetrieval().needs
    features = rows(4, 5)
    result = run(task, features, captions, images={'test': images})
    texts = Encoder().encode_text(['a', 'dog', 'an owl', 'one caption'])
    cosine = (normalize(features[[0, 2, 3]], dim=1) @ normalize(texts, dim=1).T).numpy()
    right = {('image2text', 0): [0, 2], ('image2text', 2): [2, 3, None], ('text2image', 3): [2],
             ('text2image', 1): [0, 1]}
    for way in ('image2text', 'text2image'):
        each = []
        for (of, query), items in right.items():
            if of == way:
                scores = cosine[query] if way == 'image2text' else cosine[:, query]
                hits = [item in items for item in sorted(range(len(scores)), key=lambda item: -scores[item])]
                total = len(items)  # one of them is never found
                precisions = [sum(hits[:place]) / place * hits[place - 1] for place in range(1, total + 1)]
                each.append([hits[0], any(hits[:2]), sum(precisions) / total, sum(hits[:total]) / total])
        expected = dict(zip(('R@1', 'R@2', 'mAP@R', 'R-Precision'), np.mean(each, 0)))
        assert {name: result.extras['metrics'][f'more_{way}_{name}'] for name in expected} == pytest.approx(expected)
    assert result.extras['more_left_out'] == dict(image2text=dict(pairs=2, queries=1, missing=1), text2image=dict(
        pairs=1, queries=0, missing=0))


@pytest.mark.parametrize('content, message', [
    ([], 'holds no positives'), (dict(image_to_captions=[1]), 'should hold lists of ids by id'),
    (dict(image_to_captions={'a.jpg': []}), "of 'a.jpg' is"), (dict(image_to_captions={'a.jpg': [1.5]}), 'list of ids'),
    (dict(image_to_captions={'a.jpg': ['e.jpg#0'], 'x': ['y']}), r"has 2 ids that the data lack, .* is 'a.jpg'"),
    (dict(image_to_captions={'b.jpg': ['b.jpg#0']}), 'no query of image_to_captions can be read')])
def test_positives_that_do_not_fit_are_refused(tmp_path, content, message):
    (tmp_path / 'more.json').write_text(json.dumps(content))
    images = table()
    with pytest.raises(DataError, match=message):
        run(ImageTextRetrieval(ks=[1], positives=dict(more=str(tmp_path / 'more.json'))),
            captions=[images.captions(row) for row in range(4)], images={'test': images})


def test_changed_positives_are_measured_again(tmp_path):
    file = tmp_path / 'more.json'
    file.write_text('{"image_to_captions": {"a": ["b"]}}')
    task = ImageTextRetrieval(positives=dict(more=str(file)))
    before = task.files_fingerprint()
    file.write_text('{"image_to_captions": {"a": ["c"]}}')
    assert task.files_fingerprint() != before != ImageTextRetrieval().files_fingerprint()


@pytest.mark.parametrize('options, message', [
    (dict(ks=[0]), 'ks'), (dict(ks=5), 'ks'), (dict(definition='hit'), 'definition'), (dict(ties='mean'), 'ties'),
    (dict(folds=1), 'folds'), (dict(positives='x.json'), 'positives'), (dict(positives=dict(a=3)), 'positives.a')])
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ImageTextRetrieval(**options)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r'R@5 is among the first 5, but there are only 3 images and 4 captions'):
        run(ImageTextRetrieval())
    with pytest.raises(DataError, match="Image 2 of 'test' has no caption"):
        run(ImageTextRetrieval(ks=[1]), captions=[*CAPTIONS[:2], None, 'text'])
    with pytest.raises(DataError, match='6 dimensions, the bank holds 5'):
        run(ImageTextRetrieval(ks=[1]), rows(4, 5, 5))
    with pytest.raises(DataError, match="features of 'test' are not finite"):
        run(ImageTextRetrieval(ks=[1]), rows(4, 5) * torch.nan)
    with pytest.raises(DataError, match='3 images cannot be cut into 4 folds'):
        run(ImageTextRetrieval(ks=[1], folds=4))


# ECCV Caption


@pytest.fixture(scope='module')
def eccv(tmp_path_factory):
    """The package's measures, the ids of its 5,000 images and 25,000 captions, and its positives as files of ours."""
    package = pytest.importorskip('eccv_caption', reason='eccv-caption is not installed')
    from clear.datasets.readers.pairs.caption_positives import eccv_caption_folder, read_caption_positives

    folder, found = tmp_path_factory.mktemp('positives'), read_caption_positives(eccv_caption_folder())
    for name, parts in found.items():
        (folder / f'{name}.json').write_text(json.dumps(parts))
    captions = found['coco_5k']['image_to_captions']
    return package.Metrics(), captions, folder


def coco_metrics(eccv, images, texts, **options):
    """Ours, by the task, of embeddings of the images and captions in the order of the files."""
    _, captions, folder = eccv
    data = ImageTable.from_columns(Path(), dict(
        path=[f'{image}.jpg' for image in captions], image_id=list(captions),
        caption_ids=[[*map(str, ids)] for ids in captions.values()],
        caption=[[*map(str, ids)] for ids in captions.values()]))

    class Whole(Bank):
        def subset_rows(self):
            return np.arange(len(self.features))

    class Table(torch.nn.Module):
        def encode_text(self, names):
            return texts

    task = ImageTextRetrieval(positives={name: str(folder / f'{file}.json') for name, file in
                                         (('eccv', 'eccv_caption'), ('cxc', 'cxc'))}, **options)
    return task.run(Table(), TaskData(bank={'test': Whole(images)}, images={'test': data}, text={
        'test': [data.captions(row) for row in range(len(data))]})).extras['metrics']


def ranked(eccv, images, texts, length):
    """The package's input: ids by falling cosine, the first `length` of them."""
    _, captions, _ = eccv
    image_ids, caption_ids = np.array([*map(int, captions)]), np.array([*captions.values()]).reshape(-1)
    images, texts = normalize(images, dim=1), normalize(texts, dim=1)
    found = []
    for queries, candidates, ids in ((images, texts, caption_ids), (texts, images, image_ids)):
        top = torch.cat([(block @ candidates.T).topk(length, dim=1).indices for block in queries.split(1000)])
        found.append(ids[top.numpy()].tolist())
    return dict(zip(image_ids.tolist(), found[0])), dict(zip(caption_ids.tolist(), found[1]))


@pytest.mark.slow
@pytest.mark.parametrize('noise', [None, .5])
def test_it_equals_eccv_caption_on_its_ids(eccv, noise):
    """Random similarities, and ones of captions near their images. Lists keep more than the 48 of the largest R."""
    if noise is None:
        images, texts = rows(5000, 1, 16).double(), rows(25000, 2, 16).double()
    else:
        images, texts, _ = noisy_pairs(5000, 5, 16, noise, 3)
    ours = coco_metrics(eccv, images, texts, folds=5)
    measures, _, _ = eccv
    i2t, t2i = ranked(eccv, images, texts, 250)  # enough for ten of each fold
    lists = dict(i2t=i2t, t2i=t2i)
    theirs = measures.eccv_metrics(lists, 'all')
    expected = {}
    for way, name in (('i2t', 'image2text'), ('t2i', 'text2image')):
        expected[f'eccv_{name}_mAP@R'] = theirs['eccv_map_at_r'][way]
        expected[f'eccv_{name}_R-Precision'] = theirs['eccv_rprecision'][way]
    for k in (1, 5, 10):
        for prefix, found in (('', measures.coco_5k_recalls), ('fold_', measures.coco_1k_recalls),
                              ('cxc_', measures.cxc_recalls), ('eccv_', measures.eccv_recalls)):
            for way, name in (('i2t', 'image2text'), ('t2i', 'text2image')):
                expected[f'{prefix}{name}_R@{k}'] = found(lists, 'all', K=k)[way]
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_equal_captions_tie_whatever_batch_they_are_in_and_cut_ones_are_counted(caplog):
    class Drifts(torch.nn.Module):
        """The place of a text in its batch changes its last bits; two words are cut."""

        def encode_text(self, texts):
            each = torch.stack([rows(1, sum(map(ord, text)))[0] for text in texts])
            return each * (1 + 1e-6 * torch.randn(each.shape, generator=torch.Generator().manual_seed(0)))

        def num_truncated(self, texts):
            return sum(' ' in text for text in texts)

    captions = [['same cat'], 'never read', ['same cat'], ['owl']]
    features = Drifts().encode_text(['same cat', '-', 'same cat', 'owl'])
    bank = {'test': Bank(features)}
    result = ImageTextRetrieval(ks=[1]).run(Drifts(), TaskData(bank=bank, text={'test': captions}))
    assert result.extras['metrics']['image2text_R@1'] == pytest.approx(1 / 3)  # both lose to the other's caption
    assert (result.extras['n_truncated'], result.extras['n_captions']) == (1, 3)
    assert '1 of 2 texts are longer than the tower reads' in caplog.text
