"""Banks of texts: each once, in any order of lengths, resumed after a kill; which captions of images there are."""

import numpy as np
import pytest
import torch
from tiny_encoder import write_images
from tiny_text import TINY_CLIP, write_bert

from clear.core.errors import ConfigError, DataError
from clear.datasets.loaders.stored import DistinctTexts, StoredReader, StoredRows
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.features import FeatureBank
from clear.features.identity import fingerprint_of
from clear.features.texts import extract_texts, text_identity
from clear.models.towers.text import build_text_encoder

TEXTS = ['a', 'a photo of a cat', 'blue', 'dog', 'the old car sits on the new truck', 'two birds', 'zebra']


def encoder_of(**options):
    torch.manual_seed(0)
    return build_text_encoder(dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP, **options))


@pytest.fixture(scope='module')
def encoder():
    return encoder_of()


def test_a_bank_holds_what_the_encoder_gives_text_by_text(encoder, tmp_path):
    bank = extract_texts(encoder, TEXTS, tmp_path / 'bank', batch_size=2, block_size=4)
    with torch.no_grad():
        expected = torch.cat([encoder([text]) for text in TEXTS])
    torch.testing.assert_close(torch.from_numpy(np.array(bank.features)), expected, rtol=1e-5, atol=1e-5)
    assert bank.column('id') == TEXTS and bank.valid.all() and bank.meta['source'] == 'texts'
    assert extract_texts(encoder, TEXTS, tmp_path / 'bank').meta == bank.meta, 'opened, whatever the batches'
    assert bank.rows_of(['zebra', 'a']).tolist() == [6, 0]


def test_weights_and_texts_name_it(encoder, tmp_path):
    own = text_identity(encoder, TEXTS)
    others = [text_identity(encoder, TEXTS[:-1]), text_identity(encoder, TEXTS[::-1])]
    other = encoder_of()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    others.append(text_identity(other, TEXTS))
    assert text_identity(encoder_of(), TEXTS) == own and own not in others
    extract_texts(encoder, TEXTS, tmp_path / 'bank')
    with pytest.raises(DataError, match='another bank than the one asked for'):
        extract_texts(other, TEXTS, tmp_path / 'bank')


def test_pooler_and_length_limit_name_it(tmp_path):
    pytest.importorskip('transformers')
    folder = write_bert(tmp_path / 'bert')
    names = {fingerprint_of(text_identity(build_text_encoder(dict(
        type='HuggingFaceTextEncoder', model=folder, text_pooler=pooler, max_seq_length=length)), TEXTS))
        for pooler in ('cls', 'cls_before_pooler', 'mean') for length in (12, 20)}
    assert len(names) == 6


@pytest.mark.parametrize('calls', [0, 1, 2])
def test_one_that_was_stopped_goes_on_with_the_next_block(encoder, tmp_path, calls):
    class Stopped(Exception):
        pass

    def stop(done, total):
        assert total == len(TEXTS)
        if done > 2 * calls:
            raise Stopped

    whole = extract_texts(encoder, TEXTS, tmp_path / 'whole', batch_size=2, block_size=2)
    with pytest.raises(Stopped):
        extract_texts(encoder, TEXTS, tmp_path / 'bank', batch_size=2, block_size=2, progress=stop)
    done = []
    with pytest.raises(DataError, match='has not finished'):
        FeatureBank.open(tmp_path / 'bank')
    bank = extract_texts(encoder, TEXTS, tmp_path / 'bank', batch_size=2, block_size=2,
                         progress=lambda *counts: done.append(counts))
    assert len(done) == 3 - calls, 'blocks that were left'
    assert {path.name: path.read_bytes() for path in bank.path.iterdir()} == {
        path.name: path.read_bytes() for path in whole.path.iterdir()}


def test_bad_input(encoder, tmp_path):
    with pytest.raises(DataError, match="'dog' is there twice"):
        extract_texts(encoder, ['dog', 'cat', 'dog'], tmp_path / 'bank')
    with pytest.raises(ConfigError, match='multiple of batch_size'):
        extract_texts(encoder, TEXTS, tmp_path / 'bank', batch_size=3, block_size=4)
    other = encoder_of()
    with torch.no_grad():
        next(other.parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match='are not finite'):
        extract_texts(other, TEXTS, tmp_path / 'bank')


def check_distinct(table):
    found = DistinctTexts(table)
    everything = [table.captions(row) for row in range(len(table))]
    assert found.texts == sorted({text for texts in everything for text in texts})
    for row, texts in enumerate(everything):
        assert [found.texts[found.rows(row, number)] for number in range(len(texts))] == texts


@pytest.mark.parametrize('captions', [
    ['b', 'a', 'b', 'ü'], [['b', 'a'], ['a'], ['c', 'b', 'a'], ['ü']], [['x', 'x'], ['x'], ['a'], ['x', 'a']]])
def test_distinct_texts(tmp_path, captions):
    table = ImageTable.from_columns(tmp_path, dict(path=['0', '1', '2', '3'], caption=captions))
    check_distinct(table)
    check_distinct(table.select([3, 0]))


def test_distinct_texts_of_prompts(tmp_path):
    write_images(tmp_path / 'images', classes=('bus', 'cat'))
    prompted = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(tmp_path / 'images')))
    table = read_images(dict(prompted, templates=['{}', 'a {}', 'all of them: {}']))
    check_distinct(table)
    check_distinct(table.select(np.flatnonzero(table.label_array() == 1)))
    check_distinct(read_images(dict(type='ConcatPairs', parts=[dict(prompted, templates=['one {}']), prompted])))


def test_stored_rows_know_what_is_bad():
    reported = []
    reader = StoredReader(StoredRows(np.arange(6, dtype=np.float32).reshape(3, 2), {1: 'cut short'}),
                          lambda row, reason: reported.append((row, reason)))
    assert reader.find(2).tolist() == [4, 5] and reader.find(1) is None and reported == [(1, 'cut short')]
    assert reader.stored.take(np.array([2, 0])).tolist() == [[4, 5], [0, 1]]
