"""The shipped configs of every form of metadata and of own streams, on small files, against the rows themselves."""

import json
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from metadata_files import kept, row, write, write_json_lines, write_sqlite
from own_streams import write_photos, write_posts

from clear.core.config import load_config
from clear.engine.stages.runner import StageRunner

CONFIGS = Path(__file__).parents[2] / 'configs' / 'curation'
RNG = random.Random(2)
ROWS = [row(number, RNG) for number in range(60)]


def run(name, tmp_path, monkeypatch, names=None, workers=0):
    monkeypatch.chdir(tmp_path)
    config, _ = load_config(CONFIGS / f'{name}.py')
    work_dir = tmp_path / f'run{workers or ""}'
    StageRunner(dict(config) | dict(num_workers=workers), work_dir, names).run()
    return work_dir / 'stages'


def table(folder, name):
    return [cells for file in sorted(folder.glob(f'shards/*/{name}')) for cells in parquet.read_table(file).to_pylist()]


def lay_out(tmp_path, name):
    folder = tmp_path / 'data' / name
    folder.mkdir(parents=True)
    return folder


def write_archives(folder):
    write(folder / 'yfcc100m_dataset', ROWS)
    for name, value in (('autotags-v1', 'cat:0.9'), ('exif', 'Make:Canon'), ('hash', 'abc')):
        write(folder / f'yfcc100m_{name}', [[cells[0], value] for cells in ROWS])
    write(folder / 'yfcc100m_lines', [[str(place), cells[0]] for place, cells in enumerate(ROWS)])


@pytest.mark.parametrize('name, data, lay', [
    ('yfcc_sqlite_11buckets', 'yfcc100m_sqlite', lambda folder: write_sqlite(folder / 'yfcc100m_dataset.sql', ROWS)),
    ('yfcc_json_11buckets', 'yfcc100m_json', lambda folder: [write_json_lines(folder / f'{part:03x}.gz', ROWS[part::4])
                                                             for part in range(4)]),
    ('yfcc_side_files', 'yfcc100m_archives', write_archives)])
def test_every_form_of_the_metadata(tmp_path, monkeypatch, name, data, lay):
    lay(lay_out(tmp_path, data))
    stages = run(name, tmp_path, monkeypatch)
    ordered = [identity for _, identity in kept(ROWS)]
    sizes = [len(ordered) // 11 + (place < len(ordered) % 11) for place in range(11)]
    expected = {identity: str(bucket) for bucket, size in enumerate(sizes)
                for identity in ordered[sum(sizes[:bucket]):sum(sizes[:bucket]) + size]}
    assert {each['id']: each['bucket'] for each in table(stages / 'time_buckets', 'buckets.parquet')} == expected
    if name == 'yfcc_side_files':
        assert {each['exif'] for each in table(stages / 'side_files', 'records.parquet')} == {b'Make:Canon'}


def test_a_table_of_posts(tmp_path, monkeypatch):
    days = write_posts(lay_out(tmp_path, 'own_stream') / 'posts.csv')
    stages = run('own_table_years', tmp_path, monkeypatch, ['table_records', 'time_buckets'])
    found = Counter(each['bucket'] for each in table(stages / 'time_buckets', 'buckets.parquet'))
    assert found == Counter(str(day.year) for day in days.values())
    records = table(stages / 'table_records', 'records.parquet')
    assert {each['id']: each['uploaded_at'] for each in records} == {
        identity: day.replace(tzinfo=UTC) for identity, day in days.items()}
    assert records[0]['title_text'] == 'post 0, "quoted"\nover two lines'


def test_a_folder_of_photos(tmp_path, monkeypatch):
    times = write_photos(lay_out(tmp_path, 'own_photos'))
    stages = run('own_photos_months', tmp_path, monkeypatch)
    found = {each['path']: each['taken_at'] for each in table(stages / 'photo_folder', 'records.parquet')}
    assert found == times
    buckets = Counter(each['bucket'] for each in table(stages / 'time_buckets', 'buckets.parquet'))
    assert buckets == Counter(f'{when:%Y-%m}' for when in times.values())
    counts = json.loads((stages / 'download' / 'manifest.json').read_text())['counts']
    assert counts['ok'] == len(times) and isinstance(min(times.values()), datetime)


@pytest.mark.slow
@pytest.mark.parametrize('name, data, lay', [
    ('yfcc_json_11buckets', 'yfcc100m_json', lambda folder: write_json_lines(folder / '0.gz', ROWS)),
    ('yfcc_side_files', 'yfcc100m_archives', write_archives),
    ('own_photos_months', 'own_photos', write_photos)])
def test_two_workers_make_the_same_bytes(tmp_path, monkeypatch, name, data, lay):
    lay(lay_out(tmp_path, data))
    one, two = (run(name, tmp_path, monkeypatch, workers=workers) for workers in (0, 2))
    for path in sorted(one.rglob('manifest.json')):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
