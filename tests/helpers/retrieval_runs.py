"""Retrieval on vectors of +-1, whose cosines are exact and mostly tied: text encoder, features, a run of the stage."""

import json
from types import SimpleNamespace

import numpy as np
import torch
from pyarrow import parquet
from stage_folders import finished

from clear.curation.manifest import StageFolder
from clear.curation.retrieval.stage import Retrieval
from clear.curation.stage import Job
from clear.features.writing import write_bank
from clear.models.towers.text.base import TextEncoder
from clear.registry import MODELS

PROMPTS = ['laptop', 'camera', 'bus', 'dress']
DIM = 16
TEXT = dict(type='SignTextEncoder')
_MADE: dict[str, np.ndarray] = {}


def sign_vector(text):
    """+-1 in 16 places, of a text's hash: cosines of such vectors are multiples of 1/8, exact in float32."""
    if text not in _MADE:
        _MADE[text] = np.random.default_rng(list(text.encode())).choice([-1.0, 1.0], DIM)
    return _MADE[text]


def register_text_encoder():
    """`SignTextEncoder` gives `sign_vector`; undo with `MODELS.module_dict.pop('SignTextEncoder')`."""
    class SignTextEncoder(TextEncoder):
        def __init__(self, seed=0):
            weights = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.ones_(weights.weight)
            super().__init__(weights, embed_dim=DIM, max_length=None, identity=dict(seed=seed))

        def _embed(self, texts, use_pooler):
            return torch.from_numpy(np.stack([sign_vector(text) for text in texts])).float()

    MODELS.register_module(module=SignTextEncoder)


def features_stage(folder, buckets, shard_rows=40, encoder='one', dtype='float32'):
    """A finished stage with features.

    Args:
        buckets: name -> (ids, vectors (N, D)).
    """
    shards, numbers = [], {name: [] for name in buckets}
    for name, (ids, vectors) in buckets.items():
        for start in range(0, len(ids), shard_rows):
            rows = slice(start, start + shard_rows)
            bank = write_bank(folder / 'made' / f'{name}-{start}', np.asarray(vectors[rows], np.float32),
                              np.full(len(ids[rows]), -1), ids=map(str, ids[rows]), class_names=[], dtype=dtype,
                              encoder=encoder)
            numbers[name].append(len(shards))
            shards.append({f'bank/{path.name}': path.read_bytes() for path in bank.path.iterdir()})
    return finished(folder / 'features', shards, stage='Features',
                    summary=dict(buckets={name: dict(shards=found) for name, found in numbers.items()}))


def run(folder, features, name='retrieval', shards=None, **arguments):
    """What the stage makes: bucket -> rows of its table, and the summary."""
    stage = Retrieval(**dict(dict(text_encoder=TEXT), **arguments))
    inputs = features if isinstance(features, dict) else dict(features=features)
    place = StageFolder(folder / name)
    plan = stage.plan(inputs, place)
    plan = type(plan)(**json.loads(json.dumps(plan.__dict__)))  # as workers read it
    jobs = plan.jobs or [[shard] for shard in range(len(plan.shards))]
    for job in jobs:
        worker = Retrieval(**dict(dict(text_encoder=TEXT), **arguments))
        assert list(worker.work(Job(plan, job, inputs, place))) == list(job)
    tables = {shard['bucket']: parquet.read_table(place.shard_folder(number) / 'selection.parquet')
              for number, shard in enumerate(plan.shards)}
    return SimpleNamespace(tables=tables, summary=stage.finish(place, plan), folder=place, plan=plan, stage=stage,
                           counts=[place.receipt(number)['counts'] for number in range(len(plan.shards))])


def random_buckets(seed, sizes=(150, 90)):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(100_000)[:sum(sizes)]
    found, start = {}, 0
    for number, size in enumerate(sizes):
        own = np.sort(ids[start:start + size])
        found[str(number)] = own, rng.choice([-1.0, 1.0], (size, DIM))
        start += size
    return found
