"""The shipped retrieval configs: tasks that can be built, and a demo that runs."""

import csv
import json
from pathlib import Path

from short_runs import CONFIGS, run

from clear.core.config import load_config
from clear.datasets.make.demo import write_demo
from clear.registry import TASKS


def test_tasks_are_built_before_any_data_are_there():
    for options in load_config(CONFIGS / 'evaluation' / 'retrieval.py')[0]['tasks']:
        task = TASKS.build({key: value for key, value in options.items() if key not in ('name', 'data')})
        assert task.ks == [1, 5, 10]


def test_the_demo_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_demo('data/demo', seeds=[0], limit=100)
    found = run('train', CONFIGS / 'evaluation' / 'retrieval_demo.py', '--work-dir', 'out')
    assert found.code == 0, found.err
    rows = list(csv.DictReader(Path('out/results.csv').read_text().splitlines()))
    values = {(row['task'], row['metric']): float(row['value']) for row in rows}
    # 30 images or so of ten captions: an own one stands behind its copies.
    assert values['worst', 'image2text_R@1'] <= values['expected', 'image2text_R@1'] < .5
    assert 0 < values['expected', 'fold_mean_recall'] < 1 and 0 < values['classes', 'mAP'] < .5
    assert json.loads(Path('out/results.json').read_text())
    assert ('worst', 'fold_mean_recall') not in values
