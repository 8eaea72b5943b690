"""The shipped demos of VQA, entailment and feature analysis, by the program that users run."""

import csv
import json

import pytest
from short_runs import CONFIGS, train

from clear.datasets.make.scenes import write_scenes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def metrics(work_dir):
    with (work_dir / 'results.csv').open() as file:
        return {(row['task'], row['seed'], row['metric']): float(row['value']) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_questions_and_hypotheses_about_drawn_scenes(folder):
    write_scenes('data/scenes', per_kind=1)
    arguments = [str(CONFIGS / 'evaluation' / 'vqa_demo.py'), '--work-dir', 'run']
    train(*arguments)
    found = metrics(folder / 'run')
    assert 0 <= found['vqa', '', 'accuracy'] <= 1 and found['entailment', '2', 'neutral'] > 0.9
    jobs = json.loads((folder / 'run' / 'jobs.json').read_text())['jobs']
    assert {job['state'] for job in jobs.values()} == {'done'}
    # Another question file: that job is measured again, the other stays.
    file = folder / 'data/scenes/v2_OpenEnded_mscoco_val2014_questions.json'
    file.write_text(file.read_text().replace('How many', 'What number of'))
    train(*arguments, '--resume')
    again = json.loads((folder / 'run' / 'jobs.json').read_text())['jobs']
    assert [again[key]['attempts'] - jobs[key]['attempts'] for key in ('tiny--vqa', 'tiny--entailment')] == [1, 0]


@pytest.mark.slow
def test_the_space_of_scenes_and_captions(folder):
    write_scenes('data/scenes', per_kind=1)
    train(str(CONFIGS / 'evaluation' / 'feature_analysis_demo.py'), '--work-dir', 'run', '--cfg-options',
          'tasks.0.tsne_rows=12', 'tasks.0.num_clusters=3')
    found = metrics(folder / 'run')
    assert found['space', '', 'cluster_silhouette'] < 1 and found['space', '', 'modality_gap'] > 0
    assert found['legacy', '', 'text_avg_self_similarity'] > found['space', '', 'text_avg_self_similarity']
    assert len(list((folder / 'run' / 'figures').glob('tiny--space--*.png'))) == 4
