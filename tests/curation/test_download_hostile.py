"""The stage against a host that does everything wrong: each record has its outcome, and the stage comes to its end."""

import re
from pathlib import Path

import stage_folders
from photo_server import photo, records
from pyarrow import parquet

from clear.curation.demo.server import PhotoServer
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner

EXPECTED = {
    'ok': 'ok', '404': 'http_4xx', '410': 'http_4xx', '500': 'http_5xx', '500 ok': 'ok', '503:0 ok': 'ok',
    '204': 'http_status', 'stall': 'timeout', 'silent': 'timeout', 'drip': 'timeout', 'endless': 'too_large',
    'huge': 'too_large', 'long': 'truncated', 'cut': 'truncated', 'broken': 'truncated', 'reset': 'connection',
    'garbage': 'bad_http', 'headers': 'bad_http', 'continue': 'timeout', 'gzip': 'encoded', 'html': 'html',
    'empty': 'empty', 'noai': 'opt_out', 'bomb': 'too_many_pixels', 'to:/photos/0.jpg': 'ok',
    'to:file:///etc/hostname': 'forbidden_scheme', 'to:http://127.0.0.1:9/': 'forbidden_address',
    'to:http://10.0.0.1/': 'forbidden_address', 'to:/gone/photo_unavailable.gif': 'placeholder',
    'to:/photos/{own}.jpg': 'too_many_redirects'}
LARGE = 200_000  # bytes of the largest body that is taken


def peak_mb():
    return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024


def test_every_record_of_a_hostile_host_has_its_outcome(tmp_path):
    script = {number: text.format(own=number).split(' ') for number, text in enumerate(EXPECTED, 1)}
    with PhotoServer(photo, script) as server:
        table = records([dict(url=server.photo_url(number)) for number in script])
        stage_folders.finished(tmp_path / 'records', [{'records.parquet': table}])
        limits = dict(allow=[f'127.0.0.1:{server.port}'], connections=16, host_connections=16, host_rate=None,
                      retries=1, backoff_s=0.01, breaker=0, read_s=0.3, connect_s=0.5, total_s=0.6, max_bytes=LARGE)
        stage = dict(type='Download', limits=limits, passes=1, max_failed=1.0, drop_duplicates=False)
        before = peak_mb()
        StageRunner(dict(stages=[stage], inputs=dict(records=str(tmp_path / 'records'))), tmp_path / 'run').run()
        assert peak_mb() - before < 200
    done = Finished(tmp_path / 'run/stages/download')
    found = parquet.read_table(done.files('outcomes.parquet')[0])['outcome'].to_pylist()
    assert dict(zip(EXPECTED, found)) == EXPECTED
    images = parquet.read_table(done.files('images.parquet')[0]).to_pylist()
    # A redirect brings what lies at its end.
    assert [row['line'] for row in images] == [place for place, outcome in enumerate(EXPECTED.values())
                                               if outcome == 'ok']
    assert {path.name for path in tmp_path.iterdir()} == {'records', 'run'}
    assert {path.relative_to(done.folder.path).parts[0] for path in done.folder.path.rglob('*')} <= {
        'plan.json', 'manifest.json', 'timing.json', 'shards', 'ledger'}
