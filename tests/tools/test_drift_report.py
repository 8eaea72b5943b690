"""The drift report as a program: from a bank, from a stage's banks, from a config; with sheets and dead links."""

import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import stage_folders
from PIL import Image

from clear.features.writing import write_bank

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location('drift_report', ROOT / 'tools/analysis_tools/drift_report.py')
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


@pytest.fixture
def folder(tmp_path):
    """Images of two classes in three buckets, and their bank; class <b> changes in the last bucket."""
    rng = np.random.default_rng(0)
    rows = [(bucket, label, number) for bucket in range(3) for label in range(2) for number in range(15)]
    features = rng.normal(size=(90, 6))
    features[[row for row, (bucket, label, _) in enumerate(rows) if bucket == 2 and label == 1]] += 3
    paths = []
    for bucket, label, number in rows:
        paths.append(f'{bucket}/{label}/{number}.png')
        (tmp_path / 'images' / paths[-1]).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (bucket * 100, label * 200, number)).save(tmp_path / 'images' / paths[-1])
    (tmp_path / 'images/0/0/3.png').write_bytes(b'no image')
    write_bank(tmp_path / 'bank', features, [label for _, label, _ in rows], ids=paths, paths=paths,
               buckets=[str(bucket) for bucket, *_ in rows], class_names=['a', '<b>'],
               timestamps=[datetime(2010 + bucket, 1, 1 + number, tzinfo=UTC) for bucket, _, number in rows])
    return tmp_path


def test_everything_of_a_bank(folder, capsys):
    out = folder / 'out'
    assert module.main([str(folder / 'bank'), '--out', str(out), '--images', str(folder / 'images')]) == 0
    found = json.loads((out / 'drift.json').read_text())
    assert [(pair['first'], pair['last']) for pair in found['pairs']] == [('0', '1'), ('0', '2'), ('1', '2')]
    assert [pair['mmd_p_adjusted'] < 0.05 for pair in found['pairs']] == [False, True, True]
    assert [each['class'] for each in found['classes']] == ['<b>', 'a'] and found['classes'][0]['p_adjusted'] < 0.05
    assert found['buckets']['1'] == dict(rows=30, first='2011-01-01 00:00:00', last='2011-01-15 00:00:00')
    assert len(found['suggested_edges']['starts']) == 2 and found['dead_links'] == {}
    page = (out / 'report.html').read_text()
    assert '&lt;b&gt;' in page and '<b>' not in page and 'Content-Security-Policy' in page
    names = {path.name for path in (out / 'figures').iterdir()}
    assert names == {'mmd2.png', 'frechet.png', 'knn_overlap.png', 'class_0.png', 'class_1.png'}
    before = (out / 'drift.json').read_bytes()
    assert module.main([str(folder / 'bank'), '--out', str(out), '--images', str(folder / 'images')]) == 0
    assert (out / 'drift.json').read_bytes() == before


def test_banks_of_a_stage_and_its_dead_links(folder, capsys):
    files = {f'bank/{path.name}': path.read_bytes() for path in (folder / 'bank').iterdir()}
    stage_folders.finished(folder / 'features', [files])
    times = [datetime(year, 5, 1, tzinfo=UTC) for year in (2010, 2010, 2010, 2011, 2011, 2011)]
    outcomes = ['ok', 'http_4xx', 'bad_date', 'timeout', 'ok', 'placeholder']
    table = pyarrow.table(dict(id=range(6), line=range(6), uploaded_at=pyarrow.array(times, pyarrow.timestamp(
        'us', tz='UTC')), outcome=outcomes))
    stage_folders.finished(folder / 'download', [{'outcomes.parquet': table.slice(0, 4)},
                                                 {'outcomes.parquet': table.slice(4)}])
    command = [str(folder / 'features'), '--out', str(folder / 'out'), '--download', str(folder / 'download'),
               '--edges', '3', '--every', 'year']
    assert module.main(command) == 0
    found = json.loads((folder / 'out/drift.json').read_text())
    assert found['dead_links'] == {'2010': dict(tried=2, ok=1, gone=1, other=0),
                                   '2011': dict(tried=3, ok=1, gone=1, other=1)}
    assert list(found['buckets']) == ['2010', '2011', '2012'] and (folder / 'out/figures/dead_links.png').is_file()


def test_images_that_came_are_no_dead_links(folder, capsys):
    """Copies and what filters left out were fetched; a file that is no whole image was not."""
    outcomes = ['ok', 'duplicate', 'too_small_edge', 'aspect', 'too_small_bytes', 'too_many_pixels', 'decode_error',
                'html', 'http_4xx', 'video']
    time = pyarrow.array([datetime(2010, 5, 1, tzinfo=UTC)] * 10, pyarrow.timestamp('us', tz='UTC'))
    table = pyarrow.table(dict(id=range(10), line=range(10), uploaded_at=time, outcome=outcomes))
    stage_folders.finished(folder / 'download', [{'outcomes.parquet': table}])
    command = [str(folder / 'bank'), '--out', str(folder / 'out'), '--download']
    assert module.main([*command, str(folder / 'download')]) == 0
    found = json.loads((folder / 'out/drift.json').read_text())
    assert found['dead_links'] == {'2010': dict(tried=9, ok=6, gone=1, other=2)}
    files = {f'bank/{path.name}': path.read_bytes() for path in (folder / 'bank').iterdir()}
    stage_folders.finished(folder / 'features', [files])
    assert module.main([*command, str(folder / 'features')]) == 2
    assert 'features holds no outcomes of addresses (no outcomes.parquet)' in capsys.readouterr().err


def test_a_folder_by_a_config(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / 'config.py').write_text("encoder = dict(type='TimmEncoder', arch='resnet18')\n"
                                      "data = dict(type='FolderImages', data_root='images')\nbatch_size = 30\n"
                                      'max_bad_fraction = 0.5\n')
    assert module.main(['config.py']) == 2
    assert 'has a bucket' in capsys.readouterr().err  # a plain folder has neither buckets nor times


@pytest.mark.parametrize('arguments, message', [
    (['nowhere'], 'nowhere'), (['bank', 'config.py'], 'only SOURCE'), (['bank', '--images', 'none'], 'is no folder'),
    (['bank', '--download', 'bank'], 'holds no finished stage'), (['small'], 'at least two are compared')])
def test_what_cannot_be_reported(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / 'config.py').write_text('')
    write_bank(folder / 'small', np.eye(30), [0] * 30, buckets=['0'] * 25 + ['1'] * 5, class_names=['a'])
    assert module.main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and 'Traceback' not in printed and not (folder / 'work_dirs/drift_report').exists()
