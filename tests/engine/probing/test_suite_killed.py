"""Twelve tasks on three encoders: killed twice and resumed to the same table, byte for byte; broken data fail alone."""

import json
import signal
from pathlib import Path

import pytest
import torch
from killed_runs import die_before, run_in_fork
from PIL import Image
from tiny_text import TINY_CLIP, write_two_towers

from clear.core.errors import TrainingError
from clear.engine.probing.finder import DataFinder
from clear.engine.probing.runner import TABLE_FILE, ProbeRunner
from clear.models import AlignedEncoder

COLOURS = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210))
IMAGE = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
MODEL = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), image_encoder=IMAGE, text_encoder=TEXT)
WIDE = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
PAIRS = [('5', 'a red cat', 'the red cat'), ('3', 'two ships', 'an old ship'), ('1', 'a truck', 'many frog'),
         ('2', 'blue', 'a small dog'), ('4', 'the bird sits', 'a bird runs')]
TASKS = [dict(type='KNN', k=3), dict(type='NearestClassMean'),
         dict(type='LinearProbe', lrs=[0.1], epochs=2, seeds=[0, 1]),
         dict(type='LogisticProbe', cs=[1.0]), dict(type='FewShotProbe', shots=2), dict(type='Clustering'),
         dict(type='ZeroShot'), dict(type='ClassRetrieval'), dict(type='ImageTextRetrieval', ks=[1, 5]),
         dict(type='SentenceSimilarity', path='pairs.tsv'), dict(type='Triplets', path='triplets.csv'),
         dict(type='WordSimilarity', path='words.csv', prompting='none')]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images, texts, and three encoders: a pair that a head joins, a run, the two sides of a folder of transformers."""
    monkeypatch.chdir(tmp_path)
    for split in ('train', 'test'):
        for name, colour in COLOURS.items():
            (tmp_path / split / name).mkdir(parents=True)
            for row in range(6):
                pixels = tuple(value + 5 * row + (split == 'test') for value in colour)
                Image.new('RGB', (36, 40), pixels).save(tmp_path / split / name / f'{row}.png')
    Path('pairs.tsv').write_text('score\tsentence1\tsentence2\n' + ''.join('\t'.join(row) + '\n' for row in PAIRS))
    Path('triplets.csv').write_text('Sentence1,Sentence2,Sentence3\n' + ''.join(
        f'{a},{b},{c}\n' for (_, a, b), (_, c, _) in zip(PAIRS, PAIRS[1:])))
    Path('words.csv').write_text('cat;dog;7\ncar;truck;8.5\nship;frog;1\nbird;plane;4\n')
    torch.manual_seed(1)
    Path('run').mkdir()
    torch.save(dict(format=1, config=dict(model=MODEL), state_dict=AlignedEncoder(MODEL).model.state_dict()),
               'run/best.pth')
    write_two_towers('hf', 'CLIP')
    return tmp_path


def config(banks, *more):
    source = {split: dict(type='PromptedClassification', images=dict(type='ImageFolder', root=split),
                          templates=['a {} picture', 'all {}']) for split in ('train', 'test')}
    return dict(device='cpu', threads=1, seed=3, data=source, tasks=[*TASKS, *more],
                banks=dict(root=banks, dtype='float32'), encoders=dict(
                    joined=dict(image_encoder=WIDE, text_encoder=TEXT, image_head=dict(type='ProjectionMLP')),
                    run=dict(run='run', checkpoint='best', info=dict(method='ours')),
                    hf=dict(image_encoder=dict(type='HuggingFaceImageEncoder', model='hf'),
                            text_encoder=dict(type='HuggingFaceTextEncoder', model='hf'))))


def _run(death):
    torch.set_num_threads(1)
    calls = [0]

    def is_time(*args):
        moment, count = death
        calls[0] += moment == 'data' or Path(args[1]).name == TABLE_FILE
        return calls[0] == count

    if death is not None:
        owner, name = (DataFinder, 'find') if death[0] == 'data' else (Path, 'replace')
        die_before(owner, name, is_time)
    runner = ProbeRunner(config('parts_banks'), Path('parts'))
    if Path('parts/jobs.json').is_file():
        runner.resume()
    runner.run()


@pytest.mark.slow
def test_killed_twice_and_resumed_it_is_the_same_table(folder):
    whole = ProbeRunner(config('banks'), Path('whole')).run()
    assert len({row['task'] for row in whole.extras['rows']}) == 12
    run_in_fork(_run, ('data', 8), code=-signal.SIGKILL)
    run_in_fork(_run, ('table', 13), code=-signal.SIGKILL)
    states = [job['state'] for job in json.loads(Path('parts/jobs.json').read_text())['jobs'].values()]
    assert len(states) == 36 and 0 < states.count('done') < 36
    run_in_fork(_run, None)
    assert Path('parts/results.csv').read_bytes() == Path('whole/results.csv').read_bytes()
    jobs = json.loads(Path('parts/jobs.json').read_text())['jobs']
    assert {job['state'] for job in jobs.values()} == {'done'} and max(job['attempts'] for job in jobs.values()) == 2
    assert sum(job['attempts'] for job in jobs.values()) == 36 + 1, 'what was done is not done again'
    for name in ('parts', 'whole'):
        found = json.loads(Path(name, 'results.json').read_text())
        assert set(found['timing']) == set(jobs) and found['metrics'] == whole.metrics


@pytest.mark.slow
def test_one_job_with_broken_data_fails_alone(folder):
    whole = ProbeRunner(config('banks'), Path('whole')).run()
    Path('broken.tsv').write_text('score\tsentence1\tsentence2\nfive\ta\tb\n')
    cfg = config('banks', dict(type='SentenceSimilarity', name='broken', path='broken.tsv'))
    with pytest.raises(TrainingError, match=r'3 of 39 jobs failed(.|\n)*broken.tsv'):
        ProbeRunner(cfg, Path('broken')).run()
    assert Path('broken/results.csv').read_bytes() == Path('whole/results.csv').read_bytes()
    assert {path.stem for path in Path('broken/failures').iterdir()} == {f'{name}--broken' for name in cfg['encoders']}
    again = ProbeRunner(cfg, Path('broken'))
    assert again.resume() == 36
    Path('broken.tsv').write_text(Path('pairs.tsv').read_text())
    metrics = again.run().metrics
    assert all(metrics[f'{name}/broken/spearman_cosine'] == whole.metrics[f'{name}/SentenceSimilarity/spearman_cosine']
               for name in cfg['encoders'])
