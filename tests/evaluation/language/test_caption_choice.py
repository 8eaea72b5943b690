"""The scores of Winoground and SugarCrepe by hand."""

import numpy as np
import pytest
import torch

from clear.core.errors import ConfigError, DataError
from clear.datasets.table import ImageTable
from clear.evaluation.language.caption_choice import CaptionChoice
from clear.evaluation.task import TaskData

VECTORS = {'x': [1., 0], 'y': [0, 1.], 'twin of x': [2., 0], 'both': [1., 1.]}


class Encoder(torch.nn.Module):
    def encode_text(self, texts):
        assert len(set(texts)) == len(texts)
        return torch.tensor([VECTORS[text] for text in texts])


class Bank:
    def __init__(self, features, bad=()):
        self.features, self.bad = torch.tensor(features), bad

    def subset_rows(self):
        return np.array([row for row in range(len(self.features)) if row not in self.bad])

    def tensors(self, rows):
        return self.features[rows], torch.full((len(rows),), -1)


def measured(tmp_path, features, captions, bad=(), encoder=None, **columns):
    ids = [str(row) for row in range(len(captions))]
    images = ImageTable.from_columns(tmp_path, dict(id=ids, path=ids, caption=captions, **columns))
    data = TaskData(bank=dict(test=Bank(features, bad)), images=dict(test=images), text=dict(test=captions))
    return CaptionChoice().run(encoder or Encoder(), data)


def test_scores_of_winoground_by_hand():
    scores = torch.tensor([
        [[.9, .1], [.2, .8]],   # all right
        [[.9, .1], [.95, .97]],  # each image has its caption, but the first caption has the second image
        [[.5, .6], [.1, .7]],   # both captions have their image, but the first image has the second caption
        [[.4, .6], [.5, .3]],   # nothing
        [[.5, .5], [.5, .5]]])  # all equal: wrong
    metrics = CaptionChoice.pair_metrics(scores)
    assert metrics == dict(text_score=2 / 5, image_score=2 / 5, group_score=1 / 5)


def test_winoground_from_images_and_captions(tmp_path):
    # Rows of an example need not lie together. Image 0 of example 1 has the caption of image 1.
    features = [[1., .1], [1., .2], [.1, 1.], [.2, .1]]
    captions = [['x', 'y'], ['y', 'x'], ['y', 'x'], ['x', 'y']]
    result = measured(tmp_path, features, captions, example=[0, 1, 0, 1])
    assert result.metric == 'group_score' and result.extras['metrics'] == dict(text_score=.5, image_score=.5,
                                                                                group_score=.5)
    assert result.extras['n_test'] == 4 and result.extras['n_captions'] == 2


def test_an_example_with_an_image_that_cannot_be_read_is_left_out(tmp_path, caplog):
    captions = [['x', 'y'], ['y', 'x']] * 2
    result = measured(tmp_path, [[1., 0], [0, 1.], [0, 1.], [1., 0]], captions, bad=(3,), example=[0, 0, 1, 1])
    assert result.value == 1.0 and (result.extras['n_test'], result.extras['n_left_out']) == (2, 2)
    assert '2 of 4 images are left out' in caplog.text
    with pytest.raises(DataError, match='can be read'):
        measured(tmp_path, [[1., 0], [0, 1.]], captions[:2], bad=(1,), example=[0, 0])


def test_sugar_crepe_by_hand_and_equal_captions_are_wrong(tmp_path):
    features = [[1., .1], [1., .1], [.1, 1.], [3., 0]]
    captions = [['x', 'y'], ['y', 'x'], ['y', 'x'], ['x', 'twin of x']]
    result = measured(tmp_path, features, captions, subset=['swap', 'add', 'add', 'add'])
    assert result.metric == 'accuracy' and result.value == 0.5
    assert result.extras['metrics'] == dict(accuracy=.5, accuracy_add=pytest.approx(1 / 3), accuracy_swap=1.0,
                                            accuracy_mean=pytest.approx(2 / 3))
    assert measured(tmp_path, features, captions).extras['metrics'] == dict(accuracy=.5)


def test_it_equals_clip_benchmark_without_ties():
    peer = pytest.importorskip('clip_benchmark.metrics.image_caption_selection')
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(40, 2, 6, generator=generator), torch.randn(40, 2, 6, generator=generator)

    class Model:
        encode_image = staticmethod(lambda batch: batch.flatten(1))
        encode_text = staticmethod(lambda tokens: texts.view(-1, 6)[tokens])

    loader = [(images.view(40, 2, 6, 1, 1), [[2 * row, 2 * row + 1] for row in range(40)])]
    expected = peer.evaluate(Model(), loader, torch.tensor, 'cpu', amp=False)
    scores = torch.stack([CaptionChoice.scores(images[:, side], texts) for side in range(2)], 1)
    found = CaptionChoice.pair_metrics(scores)
    assert found == pytest.approx(dict(text_score=expected['text_acc'], image_score=expected['image_acc'],
                                       group_score=expected['acc']), abs=1e-6)


@pytest.mark.parametrize('captions, columns, message', [
    ([['x'], ['y']], {}, 'Image 0 .* has 1 captions'), ([['x', 'y'], ['x', 'y', 'both']], {}, 'Image 1 .* has 3'),
    ([['x', 'y'], []], {}, 'Image 1 .* has 0'), ([['x', 'y'], ['y', 'x']], dict(example=[0, 1]), 'Example 0 has 1'),
    ([['x', 'y'], ['y', 'both']], dict(example=[0, 0]), 'Example 0 has 2')])
def test_images_that_are_no_choice_are_refused(tmp_path, captions, columns, message):
    with pytest.raises(DataError, match=message):
        measured(tmp_path, [[1., 0], [0, 1.]], captions, **columns)


def test_embeddings_that_are_not_finite_and_encoders_without_text_are_refused(tmp_path):
    captions = [['x', 'y'], ['y', 'x']]
    with pytest.raises(DataError, match='NaN'):
        measured(tmp_path, [[1., 0], [float('nan'), 1.]], captions)
    with pytest.raises(ConfigError, match='CaptionChoice needs an encoder of text'):
        measured(tmp_path, [[1., 0], [0, 1.]], captions, encoder=torch.nn.Identity())


def test_captions_that_are_cut_are_counted(tmp_path, caplog):
    class ReadsOneWord(Encoder):
        def num_truncated(self, texts):
            return sum(' ' in text for text in texts)

    captions = [['x', 'twin of x'], ['y', 'twin of x'], ['y', 'x']]
    result = measured(tmp_path, [[1., 0], [0, 1.], [0, 1.]], captions, encoder=ReadsOneWord())
    assert result.extras['n_truncated'] == 1 and '1 of 3 texts are longer than the tower reads' in caplog.text


def test_captions_of_a_part_of_the_images_are_refused(tmp_path):
    images = ImageTable.from_columns(tmp_path, dict(id=['0', '1'], path=['0', '1']))
    data = TaskData(bank=dict(test=Bank([[1., 0]])), images=dict(test=images), text=dict(test=[['x', 'y']]))
    with pytest.raises(DataError, match='1 lists of captions for 2 images'):
        CaptionChoice().run(Encoder(), data)
