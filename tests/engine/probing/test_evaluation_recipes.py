"""The demo of image-text evaluation runs as shipped, with every figure that its tasks leave."""

import csv
from collections import Counter

import pytest
from short_runs import CONFIGS, read_results, run

from clear.core.config import load_config
from clear.datasets.make.demo import write_demo
from clear.engine.probing.keys import check_probe_config, with_defaults


def test_all_that_the_earlier_system_measured_is_in_one_config():
    pytest.importorskip('clip_benchmark', reason='prompts come with the extra [zeroshot]')
    cfg = with_defaults(load_config(CONFIGS / 'evaluation' / 'itra_all.py')[0])
    check_probe_config(cfg)
    kinds = Counter(task['type'] for task in cfg['tasks'])
    assert {'ZeroShot', 'ImageTextRetrieval', 'SentenceSimilarity', 'WordSimilarity', 'Triplets', 'PassageRetrieval',
            'TextLinearProbe', 'KNN', 'Clustering', 'LinearProbe', 'LogisticProbe', 'ElevaterZeroShot',
            'ElevaterLinear', 'ElevaterFineTune'} <= set(kinds)
    assert kinds['ElevaterZeroShot'] == 20
    probes = [task for task in cfg['tasks'] if task['type'] in ('KNN', 'LinearProbe', 'LogisticProbe')]
    assert all(task['features'] == 'backbone' and task['data']['train']['dataset'] == 'CIFAR10' for task in probes)


@pytest.mark.slow
def test_the_demo_measures_every_task_on_every_encoder(tmp_path, monkeypatch):
    write_demo(tmp_path / 'data' / 'demo', seeds=[0], limit=100)
    (tmp_path / 'configs').symlink_to(CONFIGS)
    monkeypatch.chdir(tmp_path)
    done = run('train', CONFIGS / 'evaluation' / 'demo.py', '--cfg-options', 'device=cpu')
    assert done.code == 0, done.err
    folder = tmp_path / 'work_dirs' / 'demo'
    found = read_results(folder)
    tasks = {'zero_shot', 'retrieval', 'class_retrieval', 'sts', 'features', 'knn', 'linear_backbone'}
    assert {key.split('--')[1] for key in found['extras']['jobs']} == tasks and len(found['timing']) == 14
    with (folder / 'results.csv').open() as file:
        assert 'time_s' not in next(csv.reader(file))
    # Both pairs have one text tower, and text alone does not see the image's head.
    metrics = found['metrics']
    assert metrics['random/sts/spearman_cosine'] == metrics['joined/sts/spearman_cosine']
    page = (folder / 'report.html').read_text()
    for stem in ('joined--features--clusters', 'random--features--t-SNE_of_images', 'random--zero_shot--confusion',
                 'joined--retrieval--recall', 'random--retrieval--rank_of_the_first_caption'):
        assert (folder / 'figures' / f'{stem}.png').is_file() and f'alt="{stem.replace("_", " ")}"' in page
