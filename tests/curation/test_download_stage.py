"""The stage that fetches images: equal to the filters one after the other, and to the bytes that were served."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from datetime import UTC, datetime

import pytest
import stage_folders
from photo_server import PATIENT, photo, records, serving
from PIL import Image
from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.curation.download.kept import final_outcomes, kept_images
from clear.curation.download.stage import Download
from clear.curation.export.joining import photos_of_bucket
from clear.curation.images import image_table
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner


@pytest.fixture
def server():
    with serving() as made:
        yield made


def run(tmp_path, server, shards, name='run', workers=0, **options):
    """The finished stage `download` of shards of records."""
    if not (tmp_path / 'records').exists():
        stage_folders.finished(tmp_path / 'records', [{'records.parquet': shard} for shard in shards])
    limits = PATIENT | dict(allow=[server.origin]) | options.pop('limits', {})
    stage = dict(type='Download', limits=limits, pass_wait_s=0.01) | options
    StageRunner(dict(stages=[stage], inputs=dict(records=str(tmp_path / 'records')), num_workers=workers),
                tmp_path / name).run()
    return Finished(tmp_path / name / 'stages' / 'download')


def read(finished, name):
    return [row for path in finished.files(name) for row in parquet.read_table(path).to_pylist()]


def by_hand(row, body, options):
    """The filters of the specification, one after the other, for one record and the body at its address."""
    if options['valid_dates'] and (row['taken_at'] is None or
                                   row['taken_at'].replace(tzinfo=UTC) >= row['uploaded_at']):
        return 'bad_date'
    if row['is_video']:
        return 'video'
    if body is None:
        return 'http_4xx'
    try:
        image = Image.open(io.BytesIO(body))
    except OSError:
        return 'decode_error'
    width, height = image.size
    if width < options['min_edge'] or height < options['min_edge']:
        return 'too_small_edge'
    if options['max_aspect_ratio'] and max(width, height) / min(width, height) > options['max_aspect_ratio']:
        return 'aspect'
    return 'too_small_bytes' if len(body) < options['min_bytes'] else 'ok'


@pytest.mark.parametrize('options', [
    dict(valid_dates=True, min_edge=0, max_aspect_ratio=0.0, min_bytes=10),
    dict(valid_dates=True, min_edge=16, max_aspect_ratio=2.0, min_bytes=900),
    dict(valid_dates=False, min_edge=17, max_aspect_ratio=1.0, min_bytes=0)])
def test_equals_the_filters_one_after_the_other(tmp_path, server, options):
    sizes = [(20, 20), (15, 40), (16, 32), (16, 33), (40, 15), (17, 17), (64, 64), (8, 8), (32, 16)]
    rows, bodies = [], {}
    for number in range(60):
        path = f'/{number}.jpg'
        row = dict(url=server.url + path)
        body = photo(number, *sizes[number % len(sizes)], kind=('JPEG', 'PNG', 'WEBP')[number % 3])
        if number % 7 == 1:
            body = b'<p>gone</p>' if number % 2 else body[:30]
        if number % 11 == 2:
            body = None
        if number % 5 == 3:
            row['taken_at'] = None if number % 2 else datetime(2010, 1, 1)  # noqa: DTZ001
            row['uploaded_at'] = datetime(2010, 1, 1, 0, 0, number % 3, tzinfo=UTC)
        row['is_video'] = number % 13 == 4
        if body is not None:
            server.files[path] = body
        bodies[path] = body
        rows.append(row)
    table = records(rows)
    done = run(tmp_path, server, [table.slice(0, 25), table.slice(25)], shard_rows=10, **options)
    expected = [by_hand(row, bodies[row['url'].removeprefix(server.url)], options) for row in table.to_pylist()]
    found = read(done, 'outcomes.parquet')
    assert [row['line'] for row in found] == list(range(60))
    html = [row['outcome'] if row['outcome'] != 'html' else 'decode_error' for row in found]
    assert html == expected and {'ok', 'http_4xx', 'video', 'decode_error'} <= set(expected)
    images = read(done, 'images.parquet')
    assert [row['line'] for row in images] == [line for line, outcome in enumerate(expected) if outcome == 'ok']
    for row in images:
        body = bodies[f'/{row["line"]}.jpg']
        with (done.folder.path / row['shard']).open('rb') as tar:
            tar.seek(row['offset'])
            assert tar.read(row['bytes']) == body
        image = Image.open(io.BytesIO(body))
        assert (row['sha256'], row['bytes']) == (hashlib.sha256(body).hexdigest(), len(body))
        assert (row['width'], row['height'], row['format']) == (*image.size, image.format.lower())
        suffix = {'JPEG': 'jpg', 'PNG': 'png', 'WEBP': 'webp'}[image.format]
        assert row['path'] == f'{row["id"]}.{suffix}'
        assert row['uploaded_at'] == table['uploaded_at'][row['line']].as_py()
    counts = Counter(row['outcome'] for row in found)
    assert done.counts == dict(sorted(counts.items()), records=60)
    assert {name: sum(years.values()) for name, years in done.summary['by_year'].items()} == counts
    assert all(server.log.count(path) == 1 for path in set(server.log) if bodies[path])


def test_tars_are_read_by_tarfile_and_webdataset_and_know_no_time(tmp_path, server):
    import webdataset

    for number in range(5):
        server.files[f'/{number}'] = photo(number)
    import pyarrow

    table = records([dict(url=f'{server.url}/{number}', caption=None if number == 3 else f'No. {number} – “é”')
                     for number in range(5)], caption=pyarrow.string())
    done = run(tmp_path, server, [table])
    [path] = done.files('images.tar')
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert [each.name for each in members] == ['100.jpg', '100.txt', '101.jpg', '101.txt', '102.jpg', '102.txt',
                                                   '103.jpg', '104.jpg', '104.txt']
        assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in members} == {(0, 0, 0, '', '')}
        assert tar.extractfile('104.txt').read().decode() == 'No. 4 – “é”'
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample['jpg'] for sample in samples] == [photo(number) for number in range(5)]
    assert [row['caption'] for row in read(done, 'images.parquet')] == table['caption'].to_pylist()


def test_files_of_their_own(tmp_path, server, monkeypatch):
    from clear.curation.download.shards import writing

    monkeypatch.setattr(writing, 'MOST_IN_A_FOLDER', 3)
    for number in range(8):
        server.files[f'/{number}'] = photo(number, kind='PNG' if number == 2 else 'JPEG')
    table = records([dict(url=f'{server.url}/{number}') for number in range(8)])
    done = run(tmp_path, server, [table], store='files', shard_rows=7)
    images = read(done, 'images.parquet')
    assert [row['path'] for row in images] == [
        *(f'shards/000000/files/0000/{name}' for name in ('100.jpg', '101.jpg', '102.png')),
        *(f'shards/000000/files/0001/{name}' for name in ('103.jpg', '104.jpg', '105.jpg')),
        'shards/000000/files/0002/106.jpg', 'shards/000001/files/0000/107.jpg']
    assert all((done.folder.path / row['path']).read_bytes() == server.files[f'/{row["line"]}'] for row in images)
    assert {(row['shard'], row['offset']) for row in images} == {(None, None)}
    # A receipt with a line for each of many files would be larger than the table that has them.
    assert {file['name'] for entry in done.manifest['shards'] for file in entry['files']} == {
        'images.parquet', 'outcomes.parquet'}


def test_the_first_line_of_equal_images_stays_and_of_too_many_none(tmp_path, server):
    same = [0, 1, 0, 2, 1, 3, 3, 3, 3, 0, 4]
    for number, seed in enumerate(same):
        server.files[f'/{number}'] = photo(seed)
    table = records([dict(url=f'{server.url}/{number}') for number in range(len(same))])
    known = hashlib.sha256(photo(4)).hexdigest()
    done = run(tmp_path, server, [table], shard_rows=4, max_same=3, placeholder_sha256=[known])
    expected = ['ok', 'ok', 'duplicate', 'ok', 'duplicate', *['placeholder'] * 4, 'duplicate', 'placeholder']
    found = [row for shard in range(3) for row in final_outcomes(done, shard).to_pylist()]
    assert [row['outcome'] for row in found] == expected
    lines = [row['line'] for shard in range(3) for row in kept_images(done, shard).to_pylist()]
    assert lines == [line for line, outcome in enumerate(expected) if outcome == 'ok']
    assert kept_images(done, 0, ['path']).column_names == ['path'] and len(kept_images(done, 0, ['path'])) == 3
    assert len(read(done, 'images.parquet')) == 10 and done.counts['placeholder'] == 1
    assert {name: sum(years.values()) for name, years in done.summary['by_year'].items()} == Counter(expected)
    assert [(entry['shard'], entry['rows']) for entry in done.summary['left_out']] == [(0, 1), (1, 4), (2, 2)]
    assert [int(key) - 100 for key in image_table(done)['id'].to_pylist()] == lines
    cut = dict(type='TimeBuckets', of='images', rule=dict(type='Equal', buckets=2))
    StageRunner(dict(stages=[cut], inputs=dict(images=str(done.folder.path))), tmp_path / 'cut').run()
    assert Finished(tmp_path / 'cut/stages/time_buckets').counts['inside'] == 3
    cut = dict(type='TimeBuckets', rule=dict(type='Equal', buckets=1))
    StageRunner(dict(stages=[cut], inputs=dict(records=str(tmp_path / 'records'))), tmp_path / 'all').run()
    inputs = dict(images=done, records=Finished(tmp_path / 'records'),
                  buckets=Finished(tmp_path / 'all/stages/time_buckets'))
    exported = [each.name for each in photos_of_bucket(inputs, '0', tmp_path / 'spill')]
    assert exported == [f'{line + 100}.jpg' for line in lines]
    (done.folder.path / 'left_out' / '000001.parquet').write_bytes(b'')
    with pytest.raises(DataError, match='000001.parquet is not as the manifest'):
        kept_images(done, 1)
    every = run(tmp_path, server, [], 'every', drop_duplicates=False, max_same=0)
    assert every.summary['left_out'] == [] and len(kept_images(every, 0)) == 11


@pytest.mark.parametrize('options, expected', [
    (dict(min_date='2008-06-01'), 'bad ok ok ok bad'), (dict(max_date='2009-01-01'), 'ok ok ok bad bad'),
    (dict(min_date='2009-01-01', max_date='2009-01-01'), 'bad ok ok bad bad'),
    (dict(max_date='2009-01-01', valid_dates=False), 'ok ok ok bad bad'), (dict(valid_dates=False), 'ok ok ok ok ok'),
    (dict(date_tolerance_hours=1e6), 'ok ok ok ok bad')])
def test_days_between_which_photos_were_taken(options, expected):
    days = [datetime(2008, 1, 1), datetime(2009, 1, 1), datetime(2009, 1, 1, 23, 59, 59),  # noqa: DTZ001
            datetime(2009, 1, 2), None]  # noqa: DTZ001
    table = records([dict(taken_at=day) for day in days])
    found = Download(dict(type='Folder', root='x'), **options).filters.of_records(table)
    assert ' '.join(found.tolist()).replace('bad_date', 'bad') == expected


def test_records_without_any_time():
    table = records([dict(uploaded_at=None, taken_at=None)])
    for valid_dates, expected in ((True, 'bad_date'), (False, 'ok')):
        found = Download(dict(type='Folder', root='x'), valid_dates=valid_dates, date_tolerance_hours=14.0)
        assert found.filters.of_records(table).tolist() == [expected]


def test_what_failed_for_the_time_being_is_tried_again_and_nothing_else(tmp_path, server):
    for number in range(6):
        server.files[f'/{number}'] = photo(number)
    del server.files['/5']
    server.statuses = {'/1': [500] * 3, '/2': [500] * 99, '/3': [503]}  # two tries in each of two passes
    table = records([dict(url=f'{server.url}/{number}') for number in range(6)])
    with pytest.raises(DataError, match=r'shard 0: 1 of 6 images failed .*http_5xx 1.*Stopped early.*--resume'):
        run(tmp_path, server, [table], max_failed=0.1)
    assert Counter(server.log) == {'/0': 1, '/1': 4, '/2': 4, '/3': 2, '/4': 1, '/5': 1}
    server.log.clear()
    with pytest.raises(DataError, match='shard 0: 1 of 6'):
        run(tmp_path, server, [table], max_failed=0.1)
    assert set(server.log) == {'/2'}
    done = run(tmp_path, server, [table], max_failed=0.2)
    assert done.counts == dict(records=6, ok=4, http_5xx=1, http_4xx=1)
    server.log.clear()
    run(tmp_path, server, [table])  # finished, and not asked to look again
    assert server.log == []
    server.statuses.clear()
    again = run(tmp_path, server, [table], retry_failed=True)
    assert server.log == ['/2'] and again.counts == dict(records=6, ok=5, http_4xx=1)
    assert not (again.folder.path / 'former' / '000000').exists()
    fresh = run(tmp_path, server, [table], 'fresh')
    assert fresh.fingerprint == again.fingerprint
    assert fresh.files('images.tar')[0].read_bytes() == again.files('images.tar')[0].read_bytes()


def test_a_ledger_with_a_torn_line_goes_on(tmp_path, server):
    for number in range(9):
        server.files[f'/{number}'] = photo(number)
    server.statuses = {'/8': [500] * 4}
    table = records([dict(url=f'{server.url}/{number}') for number in range(9)])
    with pytest.raises(DataError, match='1 of 9'):
        run(tmp_path, server, [table], max_failed=0, sync_every=2, limits=dict(connections=1, host_connections=1))
    [lines] = (tmp_path / 'run/stages/download/ledger/000000').glob('*.jsonl')
    whole = lines.read_bytes()
    entered = [json.loads(line) for line in whole.splitlines()[1:]]
    assert [line['row'] for line in entered] == [*range(9), 8] and entered[3]['attempts'] == 1
    cut = whole.index(b'{"row": 5') + 20
    lines.write_bytes(whole[:cut])  # what a machine leaves that stops
    [bodies] = (tmp_path / 'run/stages/download/ledger/000000').glob('*.bodies')
    bodies.write_bytes(bodies.read_bytes()[:entered[4]['offset'] + 3])
    server.log.clear()
    done = run(tmp_path, server, [table], max_failed=0)
    assert sorted(server.log) == ['/4', '/5', '/6', '/7', '/8']  # the body of row 4 was torn as well
    assert done.counts == dict(records=9, ok=9)
    assert not list((tmp_path / 'run/stages/download/ledger').rglob('*.bodies'))
    fresh = run(tmp_path, server, [table], 'fresh')
    assert fresh.files('images.tar')[0].read_bytes() == done.files('images.tar')[0].read_bytes()


def test_a_ledger_of_another_plan_counts_for_nothing(tmp_path, server):
    server.files |= {f'/{number}': photo(number) for number in range(3)}
    server.statuses = {'/2': [500] * 4}
    table = records([dict(url=f'{server.url}/{number}') for number in range(3)])
    with pytest.raises(DataError, match='1 of 3'):
        run(tmp_path, server, [table], max_failed=0)
    ledger = tmp_path / 'run/stages/download/ledger'
    ledger.rename(tmp_path / 'ledger')
    (tmp_path / 'other/stages/download').mkdir(parents=True)
    (tmp_path / 'ledger').rename(tmp_path / 'other/stages/download/ledger')  # of a worker that was late
    server.log.clear()
    assert run(tmp_path, server, [table], 'other', min_edge=1).counts['ok'] == 3 and len(server.log) == 3


def test_bad_dates_are_told_by_zone_and_records_may_be_none(tmp_path, server):
    server.files['/x'] = photo(0)
    late = datetime(2030, 1, 1)  # noqa: DTZ001
    rows = [(0.0, late), (7.4, None), (-7.6, None), (139.7, late), (139.7, late), (139.7, None), (None, late)]
    table = records([dict(url=f'{server.url}/x', lon=lon, uploaded_at=datetime(2010, 1, 1, tzinfo=UTC),
                          **({} if taken is None else dict(taken_at=taken))) for lon, taken in rows])
    done = run(tmp_path, server, [table], drop_duplicates=False)
    assert done.summary['bad_dates_by_zone'] == {'-1': [0, 1], '+0': [1, 2], '+9': [2, 3]}
    assert Download().report(done)[-1] == 'bad_date by hours from Greenwich  -1 0.0%  +0 50.0%  +9 66.7%'
    (tmp_path / 'records').rename(tmp_path / 'used')
    empty = run(tmp_path, server, [table.slice(0, 0)], 'empty')
    assert len(empty) == 0 and Download().report(empty) == []


def test_what_a_run_asks_of_hosts_is_told_and_shared(tmp_path):
    stage = Download(limits=dict(connections=12, host_connections=6, host_rate=10.0, contact='me@example.org'))
    assert stage.preview() == [f'images from Web, asked for as {stage.limits.user_agent}']
    assert 'me@example.org' in stage.preview()[0] and stage.most_workers() == 6
    assert stage.shares(3) == ['each of 3: 4 connections, of a host 2 and 3.33333 requests a second']
    local = Download(dict(type='Folder', root='photos'))
    assert local.preview() == ['images from photos (Folder)'] and local.most_workers() is None and not local.shares(9)


@pytest.mark.parametrize('options, message', [
    (dict(source=dict(type='Ftp')), 'source is .*one of Web, MMCommons, Mirror, Folder'),
    (dict(source=dict(type='Mirror')), 'needs root'),
    (dict(source=dict(type='Mirror', root='x', rot=1)), "no key 'rot'"),
    (dict(source=dict(type='MMCommons', base='file:///etc')), 'begins with https://'),
    (dict(store='zip'), 'store'), (dict(min_edge=-1), 'min_edge'), (dict(max_aspect_ratio=0.5), 'never below 1'),
    (dict(limits=5), 'limits is 5'), (dict(source=dict(type='Folder', root='x', max_bytes=0)), 'source.max_bytes'),
    (dict(limits=dict(conections=3)), "no key 'conections'. Did you mean 'connections'"),
    (dict(limits=dict(connections=0)), 'limits.connections'), (dict(min_date='2004'), "min_date is '2004'"),
    (dict(placeholder_sha256=['abc']), '64 hex digits'), (dict(placeholder_sha256='abc'), 'expected a list'),
    (dict(max_failed=2), 'max_failed'), (dict(valid_dates=1), 'valid_dates'), (dict(min_edges=1), 'min_edges')])
def test_values_that_cannot_be(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        StageRunner(dict(stages=[dict(type='Download') | options], inputs=dict(records='x')), tmp_path)


@pytest.mark.parametrize('name, size', [('1.jpg', 0), ('9223372036854775807.jpeg', 511), ('12.png', 8 << 30 - 1),
                                        ('5.txt', 123456)])
def test_headers_of_tars_are_those_of_tarfile(name, size):
    from clear.curation.download.shards.writing import _tar_header

    info = tarfile.TarInfo(name)
    info.size = size
    assert _tar_header(name.encode(), size) == info.tobuf(tarfile.USTAR_FORMAT)
