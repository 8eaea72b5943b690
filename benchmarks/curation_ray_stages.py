"""What the configs of `curation_ray.py` import in every worker: a stage that waits, and a text encoder that draws."""

import time
from typing import ClassVar

import numpy as np
import torch

from clear.curation.manifest import Plan
from clear.curation.stage import Stage
from clear.models.towers.text.base import TextEncoder
from clear.registry import MODELS, STAGES

DIM = 64


@STAGES.register_module()
class Start(Stage):
    """Every shard takes a second, so that each worker has one."""

    MAKES: ClassVar[str] = 'start'

    def __init__(self, shards):
        self.shards = shards

    def plan(self, inputs, folder):
        return Plan([{}] * self.shards, {})

    def work(self, job):
        for shard in job.shards:
            with job.writing(shard):
                time.sleep(1.0)
            yield shard


@MODELS.register_module()
class DrawnTextEncoder(TextEncoder):
    def __init__(self):
        super().__init__(torch.nn.BatchNorm1d(1), embed_dim=DIM, max_length=None, identity={})  # weights that are ones

    def _embed(self, texts, use_pooler):
        drawn = [np.random.default_rng(list(text.encode())).standard_normal(DIM) for text in texts]
        return torch.from_numpy(np.stack(drawn)).float()
