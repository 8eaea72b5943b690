"""The list of unreadable images: once per image, over processes and restarts, up to a limit."""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from clear.core.errors import ConfigError, DataError
from clear.datasets.images.bad_samples import BadSamples


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_image_is_listed_once_per_split(tmp_path):
    path = tmp_path / 'run' / 'bad_samples.jsonl'
    bad = BadSamples(path, {'train': 100, 'test': 100}, max_bad_fraction=0.5)
    for _ in range(2):
        bad.report('train', '3', 'a b.jpg', 'missing')
        bad.report('test', '3', 'a b.jpg', 'missing')
        bad.report('train', '4', 'ü\n.jpg', 'truncated')
    assert lines(path) == [{'split': 'train', 'bucket': '3', 'id': 'a b.jpg', 'reason': 'missing'},
                           {'split': 'test', 'bucket': '3', 'id': 'a b.jpg', 'reason': 'missing'},
                           {'split': 'train', 'bucket': '4', 'id': 'ü\n.jpg', 'reason': 'truncated'}]
    assert bad.counts() == {'train': 2, 'test': 1}


@pytest.mark.parametrize('in_file', [True, False])
def test_limit_counts_each_split_alone(tmp_path, in_file):
    path = tmp_path / 'bad.jsonl' if in_file else None
    bad = BadSamples(path, {'train': 100, 'test': 50}, max_bad_fraction=0.02)
    for split, name in (('train', 'a'), ('train', 'b'), ('test', 'a'), ('train', 'b')):
        bad.report(split, '1', name, 'missing')  # 2 of 100 and 1 of 50: exactly the limit
    with pytest.raises(DataError, match=r'3 of 100 train images cannot be read \(3.0%\).*max_bad_fraction') as error:
        bad.report('train', '1', 'c', 'missing')
    assert (str(path) if in_file else "'id': 'c'") in str(error.value)


def test_restart_goes_on_counting(tmp_path):
    path = tmp_path / 'bad.jsonl'
    BadSamples(path, {'train': 100}).report('train', '1', 'a', 'missing')
    again = BadSamples(path, {'train': 100})
    again.report('train', '1', 'a', 'missing')
    assert len(lines(path)) == 1
    with pytest.raises(DataError, match='2 of 100'):
        again.report('train', '1', 'b', 'missing')


@pytest.mark.parametrize('line', ['{"split": "train", "buck', '[' * 3000, '7'])
def test_half_line_of_a_killed_process_spoils_nothing(tmp_path, line):
    path = tmp_path / 'bad.jsonl'
    bad = BadSamples(path, {'train': 10}, max_bad_fraction=1)
    bad.report('train', '1', 'a', 'missing')
    with path.open('a') as file:
        file.write(line)
    bad.report('train', '1', 'b', 'missing')
    assert BadSamples(path, {'train': 10}).counts() == {'train': 2}


def report_many(path):
    bad = BadSamples(path, {'train': 200}, max_bad_fraction=1)
    for i in range(100):
        bad.report('train', '1', str(i), 'missing')


def test_processes_share_one_list(tmp_path):
    path = tmp_path / 'bad.jsonl'
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=report_many, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(int(line['id']) for line in lines(path)) == list(range(100))


def test_no_line_is_read_twice(tmp_path, monkeypatch):
    # With two processes that take turns, each reads every byte of the other once: no time grows with the square.
    from clear.datasets.images import bad_samples

    read, real = [], bad_samples.os.pread

    def count(descriptor, size, offset):
        read.append(size)
        return real(descriptor, size, offset)

    monkeypatch.setattr(bad_samples.os, 'pread', count)
    lists = [BadSamples(tmp_path / 'bad.jsonl', {'train': 10_000}) for _ in range(2)]
    for number in range(100):
        lists[number % 2].report('train', '1', f'{number:03}.jpg', 'missing')
    size = (tmp_path / 'bad.jsonl').stat().st_size
    assert [each.counts() for each in lists] == [{'train': 100}] * 2
    assert sum(read) <= size  # of its own lines nobody reads one again
    assert BadSamples(tmp_path / 'bad.jsonl', {'train': 10_000}).counts() == {'train': 100}
    assert sum(read) <= 2 * size


def test_another_file_in_its_place_is_read_from_the_start(tmp_path):
    path = tmp_path / 'bad.jsonl'
    bad = BadSamples(path, {'train': 1000})
    for number in range(1, 4):
        path.unlink(missing_ok=True)  # each one shorter than what was read before
        bad.report('train', '1', f'{number}' * (9 - number), 'missing')
        assert [json.loads(line)['id'] for line in path.read_text().splitlines()] == [f'{number}' * (9 - number)]
    assert bad.counts() == {'train': 3}


def test_arguments_at_the_door():
    with pytest.raises(ConfigError, match='max_bad_fraction is 5'):
        BadSamples(None, {}, max_bad_fraction=5)
    with pytest.raises(ValueError, match="split 'valid' has no total"):
        BadSamples(None, {'train': 1}).report('valid', '1', 'a', 'missing')


@pytest.mark.slow
def test_benchmark_runs():
    script = Path(__file__).parents[2] / 'benchmarks' / 'bad_samples.py'
    finished = subprocess.run([sys.executable, script, '--small', '--rounds', '1'], capture_output=True, text=True,
                              check=True)
    assert len(json.loads(finished.stdout.splitlines()[-1])['ratios']) == 2
