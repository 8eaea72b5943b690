"""Bad input of retrieval ends `tools/curate.py` with one line and a code that is not 0, and nothing half written."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from retrieval_runs import DIM, PROMPTS, TEXT, features_stage, random_buckets, register_text_encoder

from clear.registry import MODELS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module', autouse=True)
def text_encoder():
    register_text_encoder()
    yield
    MODELS.module_dict.pop('SignTextEncoder')


@pytest.fixture(scope='module')
def curate():
    return runpy.run_path(str(ROOT / 'tools/curate.py'))['main']


@pytest.mark.parametrize('arguments, message', [
    (dict(k=9, q=8), 'q (8) is smaller than k (9)'), (dict(prompts=['bus', ' Bus']), 'no name of a folder'),
    (dict(prompts=dict(a='bus', b='bus')), "'bus' is there twice"), (dict(prompts=dict(a='')), 'a text is empty'),
    (dict(prompts=['a bus', 'b/c']), "the label 'b/c' is no name of a folder"),
    (dict(k=30, q=40), 'bucket 0: fewer than k = 30 candidates of'),
    (dict(features='width'), 'holds 8 dimensions, the texts 16|it has 8 dimensions, the texts 16'),
    (dict(features='empty'), 'bucket empty has no image with features'),
    (dict(features='nothing'), 'holds no finished stage')])
def test_one_line(tmp_path, capsys, monkeypatch, curate, arguments, message):
    rng = np.random.default_rng(0)
    buckets = dict(width={'0': (np.arange(9), rng.normal(size=(9, 8)))},
                   empty={**random_buckets(0, (60,)), 'empty': (np.zeros(0, int), np.zeros((0, DIM)))})
    kind = arguments.get('features', 'good')
    features = tmp_path / 'features'
    if kind != 'nothing':
        features_stage(tmp_path, buckets.get(kind, random_buckets(0, (60,))))
    stage = dict(dict(type='Retrieval', text_encoder=TEXT, prompts=PROMPTS, k=2, q=50),
                 **{key: value for key, value in arguments.items() if key != 'features'})
    (tmp_path / 'config.py').write_text(f'stages = [{stage!r}]\ninputs = dict(features={str(features)!r})\n')
    monkeypatch.chdir(tmp_path)
    assert curate(['config.py', '--work-dir', 'run']) == 2
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and any(part in lines[0] for part in message.split('|')), told
    assert 'Traceback' not in told
    assert not list((tmp_path / 'run').rglob('selection.parquet')) or kind == 'empty'
    assert not list((tmp_path / 'run').rglob('manifest.json'))
