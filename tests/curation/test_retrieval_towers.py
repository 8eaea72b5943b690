"""Features and retrieval with real towers: the shipped configs, on photographs whose subjects are known."""

import io
import json
import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow
import pytest
import torch
from curated import BUCKETS, SCHEMA
from PIL import Image
from pyarrow import parquet
from stage_folders import finished
from tiny_text import TINY_CLIP

from clear.core.config import load_config
from clear.core.errors import DataError
from clear.curation.demo.photos import photo_at
from clear.engine.stages.runner import StageRunner

SUBJECTS = ('cat', 'coffee', 'flower', 'motorcycle')
BEGIN = datetime(2008, 1, 1, tzinfo=UTC)


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    """Stages with images and two buckets: 12 photographs of each subject in each, subject = id % 4."""
    folder, rng = tmp_path_factory.mktemp('stream'), random.Random(0)
    rows, files = [], {}
    for number in range(96):
        content = photo_at(SUBJECTS[number % 4], number / 96, rng)
        size = Image.open(io.BytesIO(content)).size
        files[f'files/0000/{number}.jpg'] = content
        time = BEGIN + timedelta(hours=number)
        rows.append((number, number, time, time.replace(tzinfo=None), True,
                     f'shards/000000/files/0000/{number}.jpg', None, None, None, *size, 'JPEG', ''))
    images = pyarrow.table([pyarrow.array(column, field.type) for column, field in zip(zip(*rows), SCHEMA)], SCHEMA)
    buckets = pyarrow.table([
        pyarrow.array(range(96), pyarrow.int64()),
        pyarrow.DictionaryArray.from_arrays(pyarrow.array([number // 48 for number in range(96)], pyarrow.int32()),
                                            pyarrow.array(['0', '1'])),
        pyarrow.array([BEGIN + timedelta(hours=number) for number in range(96)], BUCKETS.field('moment').type)],
        BUCKETS)
    finished(folder / 'download', [{'images.parquet': images} | files], stage='Download')
    finished(folder / 'buckets', [{'buckets.parquet': buckets}], stage='TimeBuckets',
             summary=dict(buckets={'0': dict(count=48), '1': dict(count=48)}))
    return folder


def curate(stream, folder, stages, **options):
    cfg = dict(stages=stages, inputs=dict(images=str(stream / 'download'), buckets=str(stream / 'buckets')), **options)
    StageRunner(cfg, folder).run()
    return {bucket: parquet.read_table(folder / 'stages' / 'retrieval' / 'shards' / f'{bucket:06d}'
                                       / 'selection.parquet') for bucket in (0, 1)}


@pytest.mark.slow
def test_texts_find_their_subjects_without_clip(stream, tmp_path):
    """The demo's config with an image tower and text tower that never met."""
    retrieval = load_config('curation/retrieve_demo_conse.py')[0].to_dict()['stages'][0]
    conse = load_config('probing/conse_lite0-minilm_photos.py')[0].to_dict()['encoders']['conse']['model']
    conse = conse['image_encoder']
    conse['classifier']['preprocess'] = dict(resize=96, crop=96)
    retrieval |= dict(k=8, q=40)
    made = curate(stream, tmp_path / 'a', [dict(type='Features', encoder=conse, batch_size=32), retrieval])
    subject_of = dict(animal='cat', vehicle='motorcycle', plant='flower', drink='coffee')
    for bucket, table in made.items():
        rows = [(row['label'], SUBJECTS[row['id'] % 4], row['id'] // 48) for row in table.to_pylist()
                if row['kind'] == 'positive']
        assert all(place == bucket for _, _, place in rows)
        for label, subject in subject_of.items():
            found = [shown for given, shown, _ in rows if given == label]
            assert len(found) >= 4 and found.count(subject) >= 0.75 * len(found), (bucket, label, found)
    # Other texts on the features that are there; the vectors of other texts are refused.
    other = dict(retrieval, text_encoder=dict(retrieval['text_encoder'], text_pooler='cls'))
    with pytest.raises(DataError, match='bank of another model than text_encoder.*text_pooler'):
        StageRunner(dict(stages=[other], inputs=dict(
            features=str(tmp_path / 'a' / 'stages' / 'features'), images=str(stream / 'download'))),
                    tmp_path / 'b').run()


@pytest.mark.slow
def test_both_towers_of_open_clip(stream, tmp_path):
    """The CLEAR-10 config, with random weights, against the library's own model."""
    import open_clip

    torch.manual_seed(0)
    open_clip.add_model_config(_model_config(tmp_path / 'tiny-clip.json'))
    model = open_clip.create_model('tiny-clip').eval()
    torch.save(model.state_dict(), tmp_path / 'tiny.pt')
    towers = dict(arch='tiny-clip', weights=str(tmp_path / 'tiny.pt'))
    retrieval = load_config('curation/retrieve_clear10_rn101.py')[0].to_dict()['stages'][0]
    retrieval |= dict(text_encoder=dict(type='OpenCLIPTextEncoder', **towers), k=4, q=48, shortfall='keep-short')
    made = curate(stream, tmp_path, [
        dict(type='Features', encoder=dict(type='OpenCLIPImageEncoder', **towers), dtype='float32'), retrieval])
    prompts = retrieval['prompts']
    transform = open_clip.image_transform(32, is_train=False, mean=model.visual.image_mean, std=model.visual.image_std)
    with torch.no_grad():
        folder = stream / 'download' / 'shards' / '000000' / 'files' / '0000'
        images = torch.stack([transform(Image.open(folder / f'{number}.jpg')) for number in range(96)])
        cosines = (model.encode_image(images, normalize=True)
                   @ model.encode_text(open_clip.get_tokenizer('tiny-clip')(prompts), normalize=True).T).numpy()
    for bucket, table in made.items():
        own = np.arange(48 * bucket, 48 * bucket + 48)
        best = cosines[own].argmax(1)
        for place, prompt in enumerate(prompts):
            rows = [row for row in table.to_pylist() if row['label'] == prompt]
            expected = sorted(own[best == place], key=lambda row: -cosines[row, place])[:4]
            assert [row['id'] for row in rows] == expected
            assert [row['score'] for row in rows] == pytest.approx(cosines[expected, place], abs=1e-5)


def _model_config(path):
    path.write_text(json.dumps(TINY_CLIP))
    return path
