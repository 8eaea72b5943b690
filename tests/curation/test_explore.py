"""The cells of the notebook, on banks of a few vectors."""

from datetime import UTC, datetime

import numpy as np
import pyarrow
import pytest
import torch
from doc_pages import python_fragments
from PIL import Image
from retrieval_runs import features_stage
from stage_folders import finished
from tiny_encoder import TinyEncoder

from clear.core.errors import ConfigError, DataError
from clear.curation import explore
from clear.features.writing import write_bank


class Letters:
    embed_dim = 26

    def encode(self, texts):
        return np.array([[text.count(chr(97 + place)) for place in range(26)] for text in texts], np.float32)


@pytest.fixture
def banks(tmp_path):
    """Angles 0, 10, ... 110 degrees, in two banks, uploaded every 20 days."""
    angles = np.deg2rad(np.arange(12) * 10)
    features = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    times = [datetime.fromtimestamp(1_388_534_400 + 20 * 86_400 * row, UTC) for row in range(11)] + [None]
    made = []
    for name, rows in (('a', slice(0, 5)), ('b', slice(5, 12))):
        count = len(features[rows])
        made.append(write_bank(tmp_path / name, features[rows], np.full(count, -1), class_names=[],
                               ids=[str(100 + row) for row in range(12)][rows],
                               paths=[f'{row}.jpg' for row in range(12)][rows], timestamps=times[rows]))
    return made


def test_a_range_of_ranks(banks):
    found = explore.ranked(banks, np.array([1.0, 0]), 5, 2)
    assert found.ranks.tolist() == [2, 3, 4, 5] and found.ids.tolist() == [101, 102, 103, 104]
    assert found.scores == pytest.approx(np.cos(np.deg2rad([10, 20, 30, 40])))
    assert len(explore.ranked(banks, np.array([1.0, 0]), 500)) == 12
    assert explore.ranked(banks, np.array([1.0, 0]), 2, lowest=True).ids.tolist() == [111, 110]


def test_every_nth_and_chosen_ranks(banks):
    found = explore.ranked(banks, np.array([1.0, 0]), 12)
    assert found.every(4).ranks.tolist() == [4, 8, 12] and found.every(4).ids.tolist() == [103, 107, 111]
    assert found.at([1, 5, 99]).ids.tolist() == [100, 104]
    with pytest.raises(ConfigError, match='nth is 0'):
        found.every(0)


def test_score_and_path_of_one_image(banks):
    assert explore.score(banks, 106, np.array([0.0, 2.0])) == pytest.approx(np.sin(np.deg2rad(60)))
    with pytest.raises(DataError, match="no bank has an image '5'"):
        explore.score(banks, 5, np.array([0.0, 1.0]))
    assert explore.vector_of(banks, '109') == pytest.approx([0, 1], abs=1e-6)
    assert explore.values(banks, np.array([11, 0, 5]), 'path') == ['11.jpg', '0.jpg', '5.jpg']


def test_histogram():
    scores = np.array([0.0, 0.1, 0.1, 0.3], np.float32)
    found = explore.histogram(scores, 3)
    assert found.counts.tolist() == [1, 2, 1] or found.counts.tolist() == [3, 0, 1]
    assert found.counts.sum() == 4 and found.mean == pytest.approx(0.125) and len(found.edges) == 4
    assert len(explore.histogram(scores).counts) == 15
    with pytest.raises(DataError, match='no scores'):
        explore.histogram(scores[:0])


def test_hits_over_time(banks):
    """20-day steps from 2014-01-01: 01-01, 01-21, 02-10, 03-02, 03-22, 04-11, 05-01, 05-21, 06-10, 06-30, 07-20."""
    every = np.arange(12)
    assert explore.hits_over_time(banks, every) == {
        '2014-01': 2, '2014-02': 1, '2014-03': 2, '2014-04': 1, '2014-05': 2, '2014-06': 2, '2014-07': 1, 'unknown': 1}
    assert explore.hits_over_time(banks, np.array([0, 10])) == {
        '2014-01': 1, **{f'2014-0{month}': 0 for month in range(2, 7)}, '2014-07': 1}
    assert explore.hits_over_time(banks, every, 'year') == {'2014': 11, 'unknown': 1}
    assert explore.hits_over_time(banks, np.zeros(0, int)) == {}


def test_hits_by_the_time_of_upload(banks, tmp_path):
    """Images know it; one of the hits has no image."""
    times = [datetime(2009, 5, 31, tzinfo=UTC), datetime(2009, 7, 1, tzinfo=UTC)]
    table = pyarrow.table(dict(id=pyarrow.array([110, 103]), uploaded_at=pyarrow.array(
        times, pyarrow.timestamp('us', tz='UTC'))))
    images = finished(tmp_path / 'images', [{'images.parquet': table}])
    assert explore.hits_over_time(banks, np.array([3, 10, 0]), images=images) == {
        '2009-05': 1, '2009-06': 0, '2009-07': 1, 'unknown': 1}


def test_a_text_is_a_query():
    assert explore.text_vector(Letters(), 'ab') == pytest.approx([0.5 ** 0.5] * 2 + [0] * 24)
    assert explore.text_vector(Letters(), 'b', 'a') == pytest.approx([0.5 ** 0.5] * 2 + [0] * 24)
    with pytest.raises(ConfigError, match='empty'):
        explore.text_vector(Letters(), ' ')


def test_an_image_is_a_query(tmp_path):
    encoder = TinyEncoder()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    tensor = (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - 0.5) / 0.25
    expected = encoder(tensor[None])[0].numpy()
    assert explore.image_vector(encoder, tmp_path / 'a.png') == pytest.approx(expected, abs=1e-5)
    assert explore.image_vector(encoder, (tmp_path / 'a.png').read_bytes()) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(DataError, match='the image cannot be read'):
        explore.image_vector(encoder, b'GIF')


def test_a_row_without_a_direction_is_no_query(tmp_path):
    bank = write_bank(tmp_path / 'zero', np.zeros((2, 3), np.float32), [-1, -1], class_names=[], valid=[True, False])
    for image in (0, 1):
        with pytest.raises(DataError, match=f"features of image '{image}' are zero"):
            explore.vector_of([bank], image)


@pytest.mark.slow
def test_the_cells_of_the_page_run(tmp_path, monkeypatch):
    """docs/prompts.md from its first cell to its last, on random features of the width of its text encoder."""
    features_stage(tmp_path / 'made', {'3': (np.arange(1200), np.random.default_rng(0).normal(size=(1200, 384)))}, 500)
    (tmp_path / 'work_dirs' / 'curation_demo').mkdir(parents=True)
    (tmp_path / 'made').rename(tmp_path / 'work_dirs' / 'curation_demo' / 'stages')
    Image.new('RGB', (90, 70), 'red').save(tmp_path / 'photo.jpg')
    monkeypatch.chdir(tmp_path)
    names = {}
    cells = [text for page, text in python_fragments() if page == 'prompts.md' and 'stages = [' not in text]
    assert len(cells) >= 7
    for cell in cells:
        exec(compile(cell, 'docs/prompts.md', 'exec'), names)
    assert len(names['sampled']) == 25 and names['counts'].counts.sum() == 1000 and len(names['like_it']) == 20
