import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from clear.core import results as module
from clear.core.errors import DataError
from clear.core.results import Results, find_results, git_state, library_versions, read_results, write_results


def some_results(**changes):
    values = {'name': 'naive', 'runner': 'ContinualRunner', 'protocol': 'clear/iid/v1',
              'metrics': {'in_domain': 1 / 3, 'forgetting': None, 'train_overlap': {}},
              'acc_matrix': [[0.1, 1 / 3], [None, None]], 'overlap_mask': [[False, False], [False, False]],
              'config_hash': 'ab12', 'seeds': {'train': 0, 'split': None}, 'versions': {'torch': '2.0'},
              'git': {'commit': 'c0ffee', 'dirty': False}, 'world_size': 2, 'timing': {'total_s': 1.5}}
    return Results(**{**values, **changes})


def git(folder, *command):
    subprocess.run(['git', '-c', 'user.name=t', '-c', 'user.email=t@t', '-C', str(folder), *command], check=True,
                   capture_output=True)


def test_the_file_has_the_documented_keys_in_order(tmp_path):
    write_results(tmp_path / 'results.json', some_results())
    assert list(json.loads((tmp_path / 'results.json').read_text())) == [
        'schema', 'name', 'runner', 'protocol', 'metrics', 'acc_matrix', 'overlap_mask', 'config_hash', 'seeds',
        'versions', 'git', 'world_size', 'timing']


@pytest.mark.parametrize('changes', [{}, {'joint': True, 'extras': {'bucket_names': ['2004', '2005']}},
                                     {'acc_matrix': None, 'overlap_mask': None, 'git': None, 'config_hash': None}])
def test_round_trip_keeps_full_precision(tmp_path, changes):
    results = some_results(**changes)
    write_results(tmp_path / 'results.json', results)
    assert read_results(tmp_path / 'results.json') == results
    assert read_results(tmp_path / 'results.json').metrics['in_domain'] == 1 / 3


def test_equal_results_are_equal_bytes(tmp_path):
    write_results(tmp_path / 'a.json', some_results())
    write_results(tmp_path / 'b.json', some_results())
    assert (tmp_path / 'a.json').read_bytes() == (tmp_path / 'b.json').read_bytes()


def test_tensors_become_numbers_and_nan_becomes_null(tmp_path):
    results = some_results(acc_matrix=torch.tensor([[0.5, math.nan], [0.25, 1.0]]), overlap_mask=np.eye(2, dtype=bool),
                           metrics={'loss': math.inf, 'top1': np.float32(0.5), 'top5': torch.tensor(0.75)})
    results.metrics['late'] = torch.tensor(math.nan)
    write_results(tmp_path / 'results.json', results)
    value = json.loads((tmp_path / 'results.json').read_text())
    assert value['acc_matrix'] == [[0.5, None], [0.25, 1.0]]
    assert value['overlap_mask'] == [[True, False], [False, True]]
    assert value['metrics'] == {'loss': None, 'top1': 0.5, 'top5': 0.75, 'late': None}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_results(tmp_path / 'results.json', some_results())
    before = (tmp_path / 'results.json').read_bytes()
    with pytest.raises(TypeError):
        write_results(tmp_path / 'results.json', some_results(extras={'model': object()}))
    assert (tmp_path / 'results.json').read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ['results.json']


def test_progress_counts_measured_rows():
    assert some_results().progress == (1, 2)
    assert some_results(joint=True).progress == (1, 1)
    assert some_results(acc_matrix=[[None, None], [None, None]], joint=True).progress == (0, 1)
    assert some_results(acc_matrix=None, overlap_mask=None).progress is None


def test_bucket_names_count_from_one_unless_given():
    assert some_results().bucket_names == ['1', '2']
    assert some_results(extras={'bucket_names': ['a', 7]}).bucket_names == ['a', '7']
    assert some_results(acc_matrix=None).bucket_names == []


@pytest.mark.parametrize('change, message', [
    ({'schema': 2}, 'schema 2; this version reads schema 1'),
    ({'metrics': ...}, r"missing keys \['metrics'\]"),
    ({'colour': 1}, r"unknown keys \['colour'\]"),
    ({'metrics': [1]}, 'metrics should be a dict'),
    ({'name': None}, 'name should be a str'),
    ({'git': 'main'}, 'git should be a dict or null'),
    ({'acc_matrix': [[0.5], [0.5, 0.5]]}, 'rows of equal length'),
    ({'acc_matrix': [['a', 'b'], ['c', 'd']]}, 'rows of equal length'),
    ({'acc_matrix': [[1e308, 0.5], [0.5, 0.5]]}, 'holds 1e[+]308; accuracies are fractions'),
    ({'acc_matrix': [[0.5, -0.1], [0.5, 0.5]]}, 'holds -0.1'), ({'acc_matrix': [[0.5, 10**400], [0, 1]]}, 'fractions'),
    ({'metrics': {'in_domain': 1e308}}, 'metrics.in_domain is 1e[+]308'),
    ({'metrics': {'train_overlap': {'x': -10**400}}}, 'metrics.x is -1000'),
    ({'acc_matrix': []}, 'rows of equal length'),
    ({'overlap_mask': [[True]]}, 'differ in shape'),
    ({'extras': {'bucket_names': ['one']}}, 'do not name the columns'),
])
def test_a_wrong_file_is_a_clear_error(tmp_path, change, message):
    path = tmp_path / 'results.json'
    write_results(path, some_results())
    value = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not ...}))
    with pytest.raises(DataError, match=message) as caught:
        read_results(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('text', ['', '{"schema": 1', '[]', '{"a": 1}'])
def test_a_foreign_file_is_a_clear_error(tmp_path, text):
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(DataError, match='no valid JSON|not a results file'):
        read_results(tmp_path / 'results.json')


def test_runs_are_found_by_folder_or_file(tmp_path):
    with pytest.raises(DataError, match=r'results.json does not exist. Give the work_dir'):
        find_results(tmp_path)
    write_results(tmp_path / 'results.json', some_results())
    assert find_results(tmp_path) == find_results(tmp_path / 'results.json') == tmp_path / 'results.json'


def test_versions_are_those_of_the_imported_libraries():
    import mmcv
    import mmengine

    from clear import __version__

    versions = library_versions()
    assert list(versions) == ['clear', 'python', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'avalanche']
    assert versions['clear'] == __version__
    assert versions['python'] == '.'.join(map(str, sys.version_info[:3]))
    assert versions['torch'].split('+')[0] == torch.__version__.split('+')[0]
    assert (versions['mmengine'], versions['mmcv']) == (mmengine.__version__, mmcv.__version__)


def test_a_library_that_is_absent_has_no_version(monkeypatch):
    monkeypatch.setattr(module, '_DISTRIBUTIONS', {'nothing': ('no-such-distribution-here',)})
    assert library_versions()['nothing'] is None


def test_git_state_follows_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / 'absent') is None
    git(tmp_path, 'init', '-q')
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / 'code.py').write_text('a = 1\n')
    git(tmp_path, 'add', 'code.py')
    git(tmp_path, 'commit', '-q', '-m', 'first')
    clean = git_state(tmp_path)
    assert len(clean['commit']) == 40 and clean['dirty'] is False
    (tmp_path / 'results.json').write_text('{}')
    assert git_state(tmp_path) == clean  # output of the run itself is no change of the code
    (tmp_path / 'code.py').write_text('a = 2\n')
    assert git_state(tmp_path) == {**clean, 'dirty': True}
    monkeypatch.setenv('GIT_DIR', '/nonexistent')
    assert git_state(tmp_path)['dirty'] is True


def test_git_state_without_git_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert git_state(tmp_path) is None
