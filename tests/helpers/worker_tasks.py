"""Tasks on banks for runs of many jobs, importable by workers; and the banks, of which nothing takes time."""

import json
import os
import signal
import time
from pathlib import Path

import torch
from banks import blobs

from clear.evaluation.task import TaskResult
from clear.features import write_bank
from clear.registry import TASKS


@TASKS.register_module()
class DrawnNumber:
    """A number from the features and the seed, with a history."""

    needs = ('bank',)
    one_seed_per_job = True

    def __init__(self, *, seed=0, epochs=2):
        self.seed, self.epochs = seed, epochs

    def run(self, encoder, data):
        generator = torch.Generator().manual_seed(self.seed)
        value = data.bank['test'].tensors()[0].mean().item() + torch.rand((), generator=generator).item()
        with (data.folder / 'history.jsonl').open('w') as file:
            for epoch in range(self.epochs):
                file.write(json.dumps(dict(setting='adam_1e-4', epoch=epoch, train_loss=1 / (epoch + 1),
                                           train_metric=0.5, val_loss=2.0, val_metric=0.25)) + '\n')
        (data.folder / 'head').write_text(str(value))
        return TaskResult('score', value, extras=dict(metrics=dict(score=value, twice=2 * value), n_test=31))


@TASKS.register_module()
class ReadsDrawn:
    """What the first seed of `draws` left."""

    needs = ('bank',)
    reads_jobs = ('draws',)

    def run(self, encoder, data):
        return TaskResult('score', float((data.jobs['draws'] / 'head').read_text()))


@TASKS.register_module()
class EndsProcess:
    """EndsProcess its process, while the file `on` is there."""

    needs = ('bank',)

    def __init__(self, *, on='', how='kill'):
        self.on, self.how = on, how

    def run(self, encoder, data):
        if Path(self.on).exists():
            if self.how == 'raise':
                raise RuntimeError('broken data')
            os.kill(os.getpid(), signal.SIGKILL)
        return TaskResult('score', 1.0)


@TASKS.register_module()
class WaitsForFile:
    """Takes time until the file `until` is there."""

    needs = ('bank',)

    def __init__(self, *, until):
        self.until = until

    def run(self, encoder, data):
        (data.folder / 'begun').touch()
        while not Path(self.until).exists():
            time.sleep(0.02)
        return TaskResult('score', 2.0)


def write_banks(root, count=2):
    """A folder of banks for each of the encoders e0, e1, ..."""
    for encoder in range(count):
        for split, rows in (('train', 24), ('test', 12)):
            features, labels = blobs(rows, spread=1.0 + encoder, seed=len(split))
            write_bank(root / f'e{encoder}' / split, features, labels, class_names=['a', 'b', 'c'],
                       encoder=f'sha256:{encoder:020}')


def config(root, *tasks, encoders=2, **more):
    return {**dict(encoders={f'e{place}': dict(bank=str(root / f'e{place}')) for place in range(encoders)},
                   tasks=[dict(task) for task in tasks], data=dict(train='train', test='test'), device='cpu', threads=1,
                   name='suite', custom_imports=dict(imports=['worker_tasks'])), **more}
