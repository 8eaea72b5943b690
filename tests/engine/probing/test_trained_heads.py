"""The shipped config of heads on embeddings runs: lists, names and protocols, and heads that are tested again."""

import csv
import json
from pathlib import Path

from short_runs import CONFIGS, read_results, run

from clear.datasets.make.demo import write_demo


def test_the_demo_trains_every_head_and_tests_one_again(tmp_path, monkeypatch):
    monkeypatch.setattr('clear.visualization.figures.write_figures', lambda figures, folder: {})
    write_demo(tmp_path / 'data' / 'demo', seeds=[0], limit=100)
    (tmp_path / 'configs').symlink_to(CONFIGS)
    monkeypatch.chdir(tmp_path)
    config = CONFIGS / 'probing' / 'heads_resnet18_demo-b1.py'
    options = ['--cfg-options', 'device=cpu', 'tasks.3.batch_size=16',
               *(f'tasks.{index}.epochs=3' for index in range(4))]
    done = run('train', config, *options)
    assert done.code == 0, done.err
    work = Path('work_dirs') / 'heads_resnet18_demo-b1'
    found = read_results(work)
    results = {key.partition('--')[2]: job['result'] for key, job in found['extras']['jobs'].items()}
    assert results['linear_again']['value'] == results['linear']['value']
    assert results['linear_again']['extras']['selected'] == results['linear']['extras']['selected']
    assert len(results['linear_published']['extras']['grid']) == 6
    assert results['linear_published']['extras']['n_test'] % 16 == 0
    for task, settings in (('linear', 2), ('mlp', 2), ('linear_virb', 6), ('linear_published', 6)):
        folder = work / 'jobs' / f'random_resnet18--{task}'
        lines = [json.loads(line) for line in (folder / 'history.jsonl').read_text().splitlines()]
        assert (folder / 'head.pth').is_file() and len(lines) == 3 * settings
    before = (work / 'results.csv').read_bytes()
    assert {row['task'] for row in csv.DictReader(before.decode().splitlines())} == {*results}
    again = run('train', config, '--resume', *options)
    assert again.code == 0 and (work / 'results.csv').read_bytes() == before
