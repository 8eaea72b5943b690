"""The report on a tree, and the tool that prints it."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.datasets.make.check import check_tree, format_report

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'check_clear.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('check_clear', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kinds(report):
    return sorted({problem.kind for problem in report.problems})


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_whole_tree_is_clean(tmp_path, capsys, layout):
    root = write_clear_tree(tmp_path / 'tree', layout=layout, features=4, seeds=(0, 2), shots=(1,))
    report = check_tree(root)
    assert report.problems == [] and report.layout == layout and report.num_images == 36
    assert report.counts == {bucket: [4, 4, 4] for bucket in ('1', '2', '3')}
    assert report.feature_types == [FEATURE_TYPE]
    assert (report.seeds, report.shots) == (([0, 2], [1]) if layout == 'old' else ([], []))
    names = ['split_0', 'split_2', '1_shot/split_0', '1_shot/split_2'] if layout == 'old' else ['official']
    assert list(report.splits) == names and report.splits[names[0]]['2'] == [9, 3]

    assert load_tool().main([str(root), '--json', str(tmp_path / 'out.json')]) == 0
    out = capsys.readouterr().out
    assert 'field hockey' in out and 'clean' in out and layout in out
    written = json.loads((tmp_path / 'out.json').read_text())
    assert written['is_clean'] and written['counts'] == report.counts


@pytest.fixture
def broken(tmp_path):
    """A tree with one fault of every kind; returns the root and what was done to which path."""
    root = write_clear_tree(tmp_path / 'tree', features=4)
    lines = {bucket: (root / 'training_folder' / 'filelists' / bucket / 'all.txt').read_text().splitlines()
             for bucket in '123'}
    paths = {bucket: [line.rpartition(' ')[0] for line in lines[bucket]] for bucket in '123'}
    (root / paths['1'][0]).unlink()
    (root / paths['2'][1]).write_bytes(b'no image')
    shutil.copy(root / paths['1'][2], root / paths['3'][2])
    split = root / 'training_folder' / 'testset_ratio_0.3' / 'split_0' / '3'
    shared = (split / 'train.txt').read_text().splitlines()[0]
    (split / 'test.txt').write_text((split / 'test.txt').read_text() + '\n' + shared)
    return root, paths, shared.rpartition(' ')[0]


def test_every_fault_is_found(broken):
    root, paths, shared = broken
    report = check_tree(root)
    found = {problem.kind: problem for problem in report.problems}
    assert kinds(report) == ['identical', 'lists', 'missing', 'overlap', 'unreadable']
    assert len(report.problems) == 5
    assert (found['missing'].bucket, found['missing'].message) == ('1', paths['1'][0])
    assert found['unreadable'].bucket == '2' and paths['2'][1] in found['unreadable'].message
    assert found['overlap'].bucket == '3' and shared in found['overlap'].message
    assert 'test_indices.json' in found['lists'].message
    assert report.identical == [[paths['1'][2], paths['3'][2]]]
    assert 'in 2 buckets' in found['identical'].message


def test_fast_looks_at_everything_but_pixels(broken):
    report = check_tree(broken[0], decode=False)
    assert kinds(report) == ['identical', 'lists', 'missing', 'overlap']
    assert 'not looked for' in format_report(report)


def test_tool_on_a_broken_tree(broken, tmp_path, capsys):
    root, paths, _ = broken
    assert load_tool().main([str(root), '--json', str(tmp_path / 'out.json')]) == 1
    captured = capsys.readouterr()
    assert paths['1'][0] in captured.out and '5 problems' in captured.out
    assert '36/36' in captured.err  # the progress bar does not mix with the report
    assert len(json.loads((tmp_path / 'out.json').read_text())['problems']) == 5


def test_tool_on_nothing(tmp_path, capsys):
    assert load_tool().main([str(tmp_path / 'none')]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1 and 'does not exist' in error
    (tmp_path / 'empty').mkdir()
    assert load_tool().main([str(tmp_path / 'empty'), '--data-name', 'clear11']) == 2
    assert 'clear11' in capsys.readouterr().err


def test_lists_that_cannot_be_read_do_not_stop_the_report(tmp_path):
    root = write_clear_tree(tmp_path, features=4)
    (root / 'training_folder' / 'filelists' / '2' / 'all.txt').unlink()
    (root / 'training_folder' / 'features' / FEATURE_TYPE / '3' / 'all.pth').write_bytes(b'x')
    (root / 'labeled_images' / '1' / 'bus' / '102000.jpg').unlink()
    report = check_tree(root, data_name='demo')
    assert list(report.counts) == ['1', '3']
    assert [problem.bucket for problem in report.problems if problem.kind == 'lists'] == ['', '2', '3']
    assert [problem.message for problem in report.problems if problem.kind == 'missing'] \
        == ['labeled_images/1/bus/102000.jpg']
    (root / 'class_names.txt').unlink()
    assert kinds(check_tree(root)) == ['lists']


def test_new_layout_overlap_and_absent_bucket_and_class(tmp_path):
    root = write_clear_tree(tmp_path, layout='new')
    train, test = (root / part / 'labeled_metadata' / '1' / 'bus.json' for part in ('train', 'test'))
    moved = json.loads(test.read_text())
    train.write_text(json.dumps(json.loads(train.read_text()) | moved))
    for record in moved.values():
        shutil.copy(root / 'test' / record['IMG_PATH'], root / 'train' / record['IMG_PATH'])
    index = root / 'test' / 'labeled_metadata.json'
    buckets = json.loads(index.read_text())
    del buckets['2']
    index.write_text(json.dumps(buckets))
    for part in ('train', 'test'):
        (root / part / 'labeled_metadata' / '3' / 'bus.json').write_text('{}')
    messages = {problem.kind: [] for problem in check_tree(root).problems}
    for problem in check_tree(root).problems:
        messages[problem.kind].append((problem.bucket, problem.message))
    assert [bucket for bucket, _ in messages['overlap']] == ['1']
    assert [bucket for bucket, _ in messages['identical']] == ['1']
    assert messages['lists'] == [('3', 'no image of 1 classes: bus'), ('2', 'official: test does not have this bucket')]


def test_many_classes_are_summarised(tmp_path):
    root = write_clear_tree(tmp_path, num_buckets=2, num_classes=100, per_class=2, image_size=2)
    text = format_report(check_tree(root, data_name='clear100', decode=False))
    assert max(map(len, text.splitlines())) < 200 and 'median' in text and len(text.splitlines()) < 40
