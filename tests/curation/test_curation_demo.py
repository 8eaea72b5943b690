"""The demo of curation: a stream with all that goes wrong, and all stages from it to a folder that Naive trains on."""

import csv
import json
import subprocess
import sys
from collections import Counter

import pytest
from metadata_files import kept
from pyarrow import parquet
from short_runs import ROOT, environment

from clear.core.errors import DataError
from clear.curation.demo.server import ANSWERS
from clear.curation.demo.stream import Demo, hash_of, script_of, write_stream
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner

SMALL = Demo(photos=120)
CLASSES = {'cat', 'coffee', 'flower', 'temple', 'rocket', 'motorcycle'}


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    out = tmp_path_factory.mktemp('demo') / 'stream'
    assert write_stream(out, SMALL) and not write_stream(out, SMALL)
    return out


def test_the_same_arguments_make_the_same_files(stream, tmp_path):
    write_stream(tmp_path / 'again', SMALL)
    names = {path.relative_to(stream) for path in stream.rglob('*') if path.is_file()}
    assert len(names) == 120 + 9
    assert all((stream / name).read_bytes() == (tmp_path / 'again' / name).read_bytes() for name in names)
    with pytest.raises(DataError, match='another stream'):
        write_stream(tmp_path / 'again', Demo(photos=130))


def test_its_rows_are_read_and_rejected_as_a_loop_does(stream, tmp_path):
    StageRunner(dict(stages=[
        dict(type='Metadata', root=str(stream), files='yfcc100m_dataset'),
        dict(type='SideFiles', root=str(stream), autotags='yfcc100m_autotags-v1', exif='yfcc100m_exif',
             hash='yfcc100m_hash', lines='yfcc100m_lines'),
        dict(type='TimeBuckets', rule=dict(type='Equal', buckets=3))]), tmp_path / 'run').run()
    lines = (stream / 'yfcc100m_dataset').read_bytes().split(b'\n')[:-1]
    rows = [line.decode('utf-8', 'surrogateescape').split('\t') for line in lines]
    records = [cells for cells, line in zip(rows, lines)
               if len(cells) == 23 and len(line) < 1 << 20 and cells[0].isdigit() and cells[4].isdigit()
               and cells[14] and cells[22] in ('0', '1')]
    found = Finished(tmp_path / 'run' / 'stages' / 'side_files')
    assert found.counts['records'] == len(records) == 134 and len(rows) - len(records) == 12
    table = parquet.read_table(found.files('records.parquet')[0])
    assert table['hash'].to_pylist() == [hash_of(cells[14]) for cells in records]
    buckets = Finished(tmp_path / 'run' / 'stages' / 'time_buckets')
    assert buckets.counts['inside'] == len(kept(records)) == 124


def test_every_failure_of_its_host_is_one_that_the_server_knows():
    script = script_of(Demo())
    given = {answer for answers in script.values() for answer in answers}
    assert {answer.split(':')[0] for answer in given} - set(ANSWERS) <= {'to', '410', '500', '503'}
    assert len(script) == 45 and Counter(len(answers) for answers in script.values())[3] >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_stages_then_naive_and_an_epoch_of_moco(tmp_path):
    def run(*words):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    for folder in ('tools', 'configs'):
        (tmp_path / folder).symlink_to(ROOT / folder)
    run('tools/curation/make_demo_stream.py', 'data/curation_demo/stream', '--serve-while', sys.executable,
        'tools/curate.py', 'configs/curation/demo.py')
    metrics = json.loads((tmp_path / 'work_dirs/curation_demo/results.json').read_text())['metrics']
    script = script_of(Demo())
    lost = sum(answers[-1] != 'ok' and not answers[-1].startswith('to:/photos/') for answers in script.values())
    assert metrics['download/ok'] == 1814 - 10 - 4 - lost  # four odd rows name photos that are not there
    assert metrics['download/bad_date'] == 9 and metrics['download/video'] == 1
    with (tmp_path / 'data/curation_demo/stream/truth.csv').open() as file:
        subject = {row['id']: row['subject'] for row in csv.DictReader(file)}
    clear = tmp_path / 'data/curation_demo/clear'
    right = Counter()
    for path in clear.glob('labeled_images/*/*/*.jpg'):
        right[path.parent.name, subject.get(path.stem) == path.parent.name] += 1
    assert {label for label, _ in right} == CLASSES | {'BACKGROUND'}
    for label in ('cat', 'coffee', 'flower', 'motorcycle'):  # chance is a tenth
        assert right[label, True] > 0.55 * (right[label, True] + right[label, False]), right
    assert 'clean' in run('tools/dataset_converters/check_clear.py', 'data/curation_demo/clear')
    told = run('tools/train.py', 'configs/demo/naive_lenet5_curation-demo.py', '--cfg-options',
               'cl_strategy.train_epochs=4')
    assert 'in_domain' in told and (tmp_path / 'work_dirs/naive_lenet5_curation-demo/results.json').is_file()
    # The earliest bucket, straight from the archives that were fetched.
    run('tools/train.py', 'configs/selfsup/mocov2_resnet18_1xb64-cos-1e_curated-b0.py')
    pretrained = tmp_path / 'work_dirs/mocov2_resnet18_1xb64-cos-1e_curated-b0'
    assert json.loads((pretrained / 'results.json').read_text())['metrics']['loss'] > 0
