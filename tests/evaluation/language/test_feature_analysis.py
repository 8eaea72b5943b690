"""How a shared space looks, against loops, numpy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.metrics.pairwise import cosine_similarity
from torch.nn.functional import normalize

from clear.core.errors import ConfigError, DataError
from clear.evaluation.language.feature_analysis import FeatureAnalysis
from clear.evaluation.metrics import feature_space
from clear.evaluation.metrics.feature_space import (
    alignment,
    feature_std,
    modality_gap,
    self_similarity,
    uniformity,
)
from clear.evaluation.task import TaskData


def gen(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Bank:
    """What the task reads of a bank; row 1 could not be read."""

    class_names = ()

    def __init__(self, features, labels=None):
        self.features = features
        self.labels = torch.full((len(features),), -1) if labels is None else labels

    def subset_rows(self):
        return np.array([row for row in range(len(self.labels)) if row != 1])

    def tensors(self, rows):
        return self.features[rows], self.labels[rows]


class Encoder(torch.nn.Module):
    """A caption is the number of a row of fixed vectors."""

    def __init__(self, vectors):
        super().__init__()
        self.vectors = vectors

    def encode_text(self, texts):
        return torch.stack([self.vectors[int(text)] for text in texts])


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('count', [2, 8, 33])
def test_legacy_values_are_those_of_the_published_code(count, dtype):
    """The five values by numpy and scikit-learn, on the inputs of the reference (seeds 400 and 401, 16 dimensions)."""
    images, texts = gen(400, count, 16).to(dtype), gen(401, count, 16).to(dtype)
    found = FeatureAnalysis(legacy=True).measure(images, texts)
    tolerance = 5e-5 if dtype == torch.float32 else 1e-9
    for name, features in (('image', images.numpy()), ('text', texts.numpy())):
        cosine = cosine_similarity(features, features).flatten()
        assert found[f'{name}_avg_self_similarity'] == pytest.approx(np.average(cosine[cosine > 0]), rel=tolerance)
        assert found[f'{name}_feature_std'] == pytest.approx(features.std(0, ddof=1).mean(), rel=tolerance)
    gap = np.linalg.norm(images.numpy().mean(0) - texts.numpy().mean(0))
    assert found['modality_gap'] == pytest.approx(gap, rel=tolerance)


@pytest.mark.parametrize('block', [1, 50, 2**22])
@pytest.mark.parametrize('count', [2, 3, 41])
def test_values_over_pairs_are_those_of_loops(monkeypatch, block, count):
    monkeypatch.setattr(feature_space, '_PAIRS_PER_BLOCK', block)
    rows, texts = gen(0, count, 5), gen(1, count, 5) + 0.5
    unit = [row / row.norm() for row in rows]
    others = [row / row.norm() for row in texts]
    cosine = [float(a @ b) for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j]
    assert self_similarity(rows) == pytest.approx(sum(cosine) / len(cosine))
    positive = [value for value in cosine if value > 0] + [1.0] * count
    assert self_similarity(rows, 'positive') == pytest.approx(sum(positive) / len(positive))
    spread = [math.exp(-2 * float((a - b).square().sum())) for i, a in enumerate(unit) for b in unit[:i]]
    assert uniformity(rows) == pytest.approx(math.log(sum(spread) / len(spread)))
    assert alignment(rows, texts) == pytest.approx(sum(float((a - b).square().sum()) for a, b in zip(unit, others))
                                                   / count)


def test_values_by_hand():
    same, poles = torch.ones(4, 3), torch.tensor([[1.0, 0], [-1, 0]])
    assert self_similarity(same) == pytest.approx(1) and self_similarity(poles) == pytest.approx(-1)
    assert self_similarity(poles, 'positive') == pytest.approx(1)
    assert uniformity(same) == pytest.approx(0) and uniformity(poles) == pytest.approx(-8)
    assert alignment(poles, -poles) == pytest.approx(4) and alignment(poles, 3 * poles) == pytest.approx(0)
    assert modality_gap(poles, torch.tensor([[3.0, 4]])) == pytest.approx(5)
    assert feature_std(poles) == pytest.approx(math.sqrt(2) / 2)


def test_task_takes_first_captions_and_unit_vectors_of_images_that_were_read():
    images, vectors = gen(2, 40, 6).float(), gen(3, 60, 6).float()
    captions = [[str(row), 'never read'] if row % 2 else str(row) for row in range(40)]
    result = FeatureAnalysis(tsne_rows=0).run(Encoder(vectors), TaskData(bank={'test': Bank(images)},
                                                                         text={'test': captions}))
    kept = [row for row in range(40) if row != 1]
    expected = FeatureAnalysis().measure(normalize(images[kept], dim=1), normalize(vectors[kept], dim=1))
    assert result.extras['metrics'] == expected and result.value == expected['modality_gap']
    assert (result.metric, result.higher_is_better, result.extras['n_test']) == ('modality_gap', False, 39)
    assert 'figure_data' not in result.extras


def test_clusters_are_measured_as_scikit_learn_does_and_shown():
    labels = torch.arange(45) % 3
    images = (4 * gen(4, 3, 6)[labels] + 0.3 * gen(5, 45, 6)).float()
    data = TaskData(bank={'test': Bank(images, labels)}, text={'test': [str(row) for row in range(45)]})
    result = FeatureAnalysis(num_clusters=3, tsne_rows=12).run(Encoder(gen(6, 45, 6).float()), data)
    kept = [row for row in range(45) if row != 1]
    unit, found = normalize(images[kept], dim=1).numpy(), result.extras['metrics']
    truth = labels[kept].numpy()  # blobs this far apart are the clusters
    assert found['cluster_silhouette'] == pytest.approx(silhouette_score(unit, truth), rel=1e-4)
    assert found['cluster_davies_bouldin'] == pytest.approx(davies_bouldin_score(unit, truth), rel=1e-4)
    assert found['cluster_calinski_harabasz'] == pytest.approx(calinski_harabasz_score(unit, truth), rel=1e-4)
    assert found['cluster_purity'] == 1
    figures = result.extras['figure_data']
    sheet = figures.pop('clusters')
    assert [len(row['images']) for row in sheet['rows']] == [15, 15, 14]
    for row in sheet['rows']:
        assert len({int(labels[image]) for image in row['images']}) == 1 and 1 not in row['images']
        assert row['captions'] == [str(image) for image in row['images']]
    assert list(figures) == ['t-SNE of images and texts', 't-SNE of images', 't-SNE of texts']
    joint = figures['t-SNE of images and texts']
    assert joint['kind'] == 'points' and joint['group'] == ['image'] * 12 + ['text'] * 12
    assert len(joint['x']) == len(joint['y']) == 24 and len(figures['t-SNE of texts']['x']) == 12
    assert len({*figures['t-SNE of images']['group']}) == 3 and {*figures['t-SNE of texts']['group']} == {'text'}
    again = FeatureAnalysis(num_clusters=3, tsne_rows=12).run(Encoder(gen(6, 45, 6).float()), data)
    assert again.to_dict()['extras']['figure_data']['t-SNE of images'] == figures['t-SNE of images']


def test_texts_that_differ_by_rounding_alone_have_no_map_and_are_measured():
    texts = torch.ones(20, 6) + 1e-7 * gen(8, 20, 6).float()
    assert len(normalize(texts, dim=1).unique(dim=0)) > 5
    data = TaskData(bank={'test': Bank(gen(7, 20, 6).float())}, text={'test': [str(row) for row in range(20)]})
    result = FeatureAnalysis(tsne_rows=20).run(Encoder(texts), data)
    assert list(result.extras['figure_data']) == ['t-SNE of images and texts', 't-SNE of images']
    assert result.extras['metrics']['text_avg_self_similarity'] == pytest.approx(1)


@pytest.mark.parametrize('options', [dict(num_clusters=1), dict(tsne_rows=-1), dict(legacy='yes'),
                                     dict(silhouette_rows=1)])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        FeatureAnalysis(**options)


def test_data_that_cannot_be_described_are_refused():
    images, texts = gen(7, 4, 6).float(), gen(8, 4, 6).float()
    bank, captions = {'test': Bank(images)}, {'test': ['0', '1', '2', '3']}
    with pytest.raises(DataError, match="Image 2 of 'test' has no caption"):
        FeatureAnalysis().run(Encoder(texts), TaskData(bank=bank, text={'test': ['0', '1', [], '3']}))
    with pytest.raises(DataError, match='5 dimensions, the bank holds 6'):
        FeatureAnalysis().run(Encoder(texts[:, :5]), TaskData(bank=bank, text=captions))
    with pytest.raises(ConfigError, match='needs an encoder of text'):
        FeatureAnalysis().run(None, TaskData(bank=bank, text=captions))
    with pytest.raises(DataError, match='not finite'):
        FeatureAnalysis().run(Encoder(texts * math.nan), TaskData(bank=bank, text=captions))
    texts[2] = 0
    with pytest.raises(DataError, match='Row 1 of the features is all zeros'):
        FeatureAnalysis(tsne_rows=0).run(Encoder(texts), TaskData(bank=bank, text=captions))
    for wrong in (images[:1], images[0]):
        with pytest.raises(DataError, match='at least 2 rows'):
            self_similarity(wrong)
    with pytest.raises(DataError, match='should be pairs'):
        alignment(images, texts[:2])


def test_texts_that_the_tower_cuts_are_counted():
    class Cutting(Encoder):
        def num_truncated(self, texts):
            return sum(text in ('0', '3') for text in texts)

    images, texts = gen(9, 5, 6).float(), gen(10, 5, 6).float()
    data = TaskData(bank={'test': Bank(images)}, text={'test': ['0', '1', '2', '3', '3']})
    result = FeatureAnalysis(tsne_rows=0).run(Cutting(texts), data)
    assert (result.extras['n_texts'], result.extras['n_truncated']) == (3, 2)
