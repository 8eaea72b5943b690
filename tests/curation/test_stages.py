"""Stages: skipped, gone on with, refused; the same bytes by any number of workers and after any kill."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stage_folders
from metadata_files import row, write

from clear.core.errors import ConfigError, DataError
from clear.curation.manifest import Finished, StageFolder
from clear.engine.stages.runner import StageRunner

ROOT = Path(__file__).parents[2]
RNG = random.Random(1)


@pytest.fixture
def config(tmp_path):
    write(tmp_path / 'a.tsv', [row(number, RNG) for number in range(60)])
    write(tmp_path / 'b.gz', [row(number, RNG) for number in range(60, 100)])
    return dict(stages=[dict(type='Metadata', root=str(tmp_path), files=['a.tsv', 'b.gz'], shard_rows=15),
                        dict(type='TimeBuckets', rule=dict(type='Equal', buckets=3))])


def contents(folder):
    """Every file below a folder but those that tell times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*'))
            if path.is_file() and path.name not in ('timing.json', 'run.log', 'env.txt', 'results.json', '.lock')}


@pytest.mark.slow
def test_workers_and_this_process_make_the_same_bytes(tmp_path, config):
    for name, workers in (('one', 0), ('two', 2)):
        StageRunner(config | dict(num_workers=workers), tmp_path / name).run()
    one, two = (contents(tmp_path / name / 'stages') for name in ('one', 'two'))
    assert one.keys() == two.keys() and all(one[name] == two[name] for name in one)
    assert str(tmp_path) not in ''.join(content.decode() for name, content in one.items()
                                        if name.endswith(('manifest.json', 'receipt.json')))


def test_goes_on_where_shards_are_missing_and_skips_what_is_finished(tmp_path, config):
    StageRunner(config, tmp_path / 'run').run()
    whole = contents(tmp_path / 'run' / 'stages')
    stage = tmp_path / 'run' / 'stages' / 'metadata'
    for shard in ('000001', '000005'):
        for path in (stage / 'shards' / shard).iterdir():
            path.unlink()
        (stage / 'shards' / shard).rmdir()
    (stage / 'manifest.json').unlink()
    (stage / 'tmp' / '000001.host.1.abc').mkdir(parents=True)  # of an attempt that was killed
    untouched = (stage / 'shards' / '000002' / 'records.parquet').stat().st_mtime_ns
    runner = StageRunner(config, tmp_path / 'run')
    assert [runner.state(entry) for entry in runner.entries] == ['5 of 7 shards', 'finished']
    runner.run()
    assert contents(tmp_path / 'run' / 'stages') == whole
    assert (stage / 'shards' / '000002' / 'records.parquet').stat().st_mtime_ns == untouched


def test_a_second_attempt_is_thrown_away(tmp_path):
    folder = StageFolder(tmp_path)
    for text in ('first', 'second'):
        with folder.writing(0) as attempt:
            (attempt.folder / 'x').write_text(text)
    assert (folder.shard_folder(0) / 'x').read_text() == 'first'
    assert folder.receipt(0)['files'][0]['bytes'] == 5 and not list((tmp_path / 'tmp').iterdir())


def test_an_attempt_that_fails_leaves_nothing(tmp_path):
    folder = StageFolder(tmp_path)
    with pytest.raises(ZeroDivisionError), folder.writing(0) as attempt:
        (attempt.folder / 'x').write_text('half')
        raise ZeroDivisionError
    assert folder.receipt(0) is None and not folder.shard_folder(0).exists() and not list((tmp_path / 'tmp').iterdir())


def test_another_config_is_refused_until_it_is_overwritten(tmp_path, config):
    StageRunner(config, tmp_path / 'run').run()
    config['stages'][1]['rule'] = dict(type='Equal', buckets=4)
    with pytest.raises(ConfigError, match=r"stage 'time_buckets' .* config.rule.buckets: 3 -> 4.*--overwrite"):
        StageRunner(config, tmp_path / 'run').run()
    with pytest.raises(ConfigError, match="already holds stage 'metadata'"):
        StageRunner(config, tmp_path / 'run').refuse_begun()
    StageRunner(config, tmp_path / 'run', ['time_buckets'], overwrite=True).run()
    assert len(Finished(tmp_path / 'run' / 'stages' / 'time_buckets').summary['buckets']) == 4


def test_a_source_that_changed_is_refused_and_what_stands_on_it_too(tmp_path, config):
    StageRunner(config, tmp_path / 'run').run()
    write(tmp_path / 'a.tsv', [row(number, RNG) for number in (*range(60), 200)])
    with pytest.raises(ConfigError, match=r"stage 'metadata' .* inputs.sources.a.tsv"):
        StageRunner(config, tmp_path / 'run').run()
    StageRunner(config, tmp_path / 'run', ['metadata'], overwrite=True).run()
    with pytest.raises(ConfigError, match=r"stage 'time_buckets' .* inputs.stages.records"):
        StageRunner(config, tmp_path / 'run').run()


def test_nothing_is_removed_for_a_stage_that_cannot_be_made(tmp_path, config):
    StageRunner(config, tmp_path / 'run').run()
    stages = tmp_path / 'run' / 'stages'
    whole = contents(stages / 'time_buckets')
    records = stages / 'metadata/shards/000003/records.parquet'
    content = records.read_bytes()
    records.unlink()
    with pytest.raises(DataError, match=r'records: .*000003/records.parquet is not there. Bring it back, or make'):
        StageRunner(config, tmp_path / 'run', ['time_buckets'], overwrite=True).run()
    assert contents(stages / 'time_buckets') == whole
    records.write_bytes(content)
    (stages / 'metadata/manifest.json').rename(tmp_path / 'manifest.json')
    with pytest.raises(DataError, match='holds no finished stage'):
        StageRunner(config, tmp_path / 'run', ['time_buckets'], overwrite=True).run()
    assert contents(stages / 'time_buckets') == whole
    (tmp_path / 'manifest.json').rename(stages / 'metadata/manifest.json')
    StageRunner(config, tmp_path / 'run', ['time_buckets'], overwrite=True).run()
    assert contents(stages / 'time_buckets') == whole


def test_inputs_that_are_not_there(tmp_path, config):
    with pytest.raises(DataError, match='holds no finished stage'):
        StageRunner(config, tmp_path / 'run', ['time_buckets']).run()
    buckets = dict(stages=config['stages'][1:])
    with pytest.raises(ConfigError, match=r"'time_buckets' reads records.*inputs=dict\(records="):
        StageRunner(buckets, tmp_path / 'other')
    StageRunner(config, tmp_path / 'run', ['metadata']).run()
    StageRunner(buckets | dict(inputs=dict(records=str(tmp_path / 'run/stages/metadata'))), tmp_path / 'other').run()
    with pytest.raises(ConfigError, match="inputs has 'images', which no stage reads"):
        StageRunner(config | dict(inputs=dict(images='x')), tmp_path / 'third')


@pytest.mark.parametrize('changes, message', [
    (dict(stages=[]), 'stages is no list'), (dict(stages=[dict(files='x')]), r'stages\[0\] is .* a dict with type'),
    (dict(stages=[dict(type='Metadata', files='x', name='A b')]), 'small letters'),
    (dict(stages=[dict(type='Metadata', files='x')] * 2), "two stages are called 'metadata'"),
    (dict(stages=[dict(type='Metadata', filez='x')]),
     r"stages\[0\]: Metadata has no key 'filez'. Did you mean 'files'"), (dict(engine='spark'), 'engine'),
    (dict(num_workers=-1), 'num_workers')])
def test_configs_that_cannot_be(tmp_path, config, changes, message):
    from clear.engine.stages.program import StageProgram

    with pytest.raises(ConfigError, match=message):
        StageProgram.check(config | changes)


def test_damage_is_named(tmp_path, config):
    StageRunner(config, tmp_path / 'run').run()
    finished = Finished(tmp_path / 'run' / 'stages' / 'metadata')
    assert finished.damage(checksums=True) == ''
    path = finished.files('records.parquet')[2]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert finished.damage() == '' and 'checksum' in finished.damage(checksums=True)
    path.write_bytes(data[:-1])
    assert f'{len(data) - 1} bytes, not {len(data)}' in finished.damage()


def write_config(tmp_path, config):
    file = tmp_path / 'config.py'
    file.write_text('\n'.join(f'{key} = {value!r}' for key, value in config.items()))
    return file


def command(tmp_path, config, *options):
    return [sys.executable, str(ROOT / 'tools/curate.py'), str(write_config(tmp_path, config)), '--work-dir',
            str(tmp_path / 'run'), *options]


@pytest.mark.slow
def test_the_program(tmp_path, config):
    def run(*options):
        return subprocess.run(command(tmp_path, config, *options), capture_output=True, text=True, cwd=ROOT)

    dry = run('--dry-run')
    assert dry.returncode == 0 and 'ok 100' in dry.stdout and not (tmp_path / 'run').exists()
    first = run()
    assert first.returncode == 0 and 'results' in first.stdout and 'nanobind' not in first.stderr
    again = run()
    assert again.returncode == 2 and 'already holds' in again.stderr and 'Traceback' not in again.stderr
    assert run('--resume').returncode == 0
    assert 'Did you mean' in run('--stages', 'metdata').stderr
    metrics = json.loads((tmp_path / 'run' / 'results.json').read_text())['metrics']
    assert metrics['metadata/records'] == 100 and metrics['time_buckets/inside'] == 100


@pytest.mark.slow
def test_killed_at_random_and_resumed(tmp_path, config):
    config['stages'][0]['shard_rows'] = 2
    StageRunner(config, tmp_path / 'whole').run()
    rng = random.Random(0)
    for attempt in range(12):
        process = subprocess.Popen(command(tmp_path, config | dict(num_workers=attempt % 3), '--resume'), cwd=ROOT,
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            assert process.wait(rng.uniform(1.5, 6) if attempt < 11 else None) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert contents(tmp_path / 'run' / 'stages') == contents(tmp_path / 'whole' / 'stages')


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path, config):
    process = subprocess.Popen(command(tmp_path, config | dict(num_workers=2)), cwd=ROOT, stdout=subprocess.DEVNULL)
    children: list[int] = []
    deadline = time.monotonic() + 60
    while not children and process.poll() is None and time.monotonic() < deadline:
        found = subprocess.run(['pgrep', '-P', str(process.pid)], capture_output=True, text=True).stdout.split()
        children = [int(each) for each in found]
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f'/proc/{child}').exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children and not any(Path(f'/proc/{child}').exists() for child in children)


def test_a_shard_may_hold_folders(tmp_path):
    made = stage_folders.finished(tmp_path / 'made', [{'bank/x.npy': b'abc', 'y': b''}, {'y': b'1'}])
    assert made.files('bank/x.npy') == [tmp_path / 'made/shards/000000/bank/x.npy']
    assert made.damage(checksums=True) == ''
    (tmp_path / 'made/shards/000000/bank/x.npy').write_bytes(b'abd')
    assert 'bank/x.npy does not match' in made.damage(checksums=True)


def test_receipts_name_the_plan_and_the_inputs_they_belong_to(tmp_path, config):
    StageRunner(config, tmp_path / 'run').run()
    records, buckets = (tmp_path / 'run' / 'stages' / name for name in ('metadata', 'time_buckets'))
    receipt = json.loads((buckets / 'shards' / '000002' / 'receipt.json').read_text())
    assert receipt['inputs'] == dict(records=Finished(records).fingerprint)
    assert receipt['plan'] == hashlib.sha256((buckets / 'plan.json').read_bytes()).hexdigest()


def test_shards_of_another_plan_are_made_anew(tmp_path, config):
    """A worker may be late to learn that its run is over, and publish into the folder of the next."""
    StageRunner(config, tmp_path / 'run').run()
    stage = tmp_path / 'run' / 'stages' / 'time_buckets'
    whole = contents(stage)
    (stage / 'manifest.json').unlink()
    late = stage / 'shards' / '000001'
    receipt = json.loads((late / 'receipt.json').read_text()) | dict(plan='0' * 64)
    (late / 'receipt.json').write_text(json.dumps(receipt))
    (late / 'buckets.parquet').write_bytes(b'of other ranges')
    StageRunner(config, tmp_path / 'run').run()
    assert contents(stage) == whole


@pytest.mark.slow
def test_a_stage_that_lacks_its_manifest_only_needs_no_worker(tmp_path, config):
    StageRunner(config, tmp_path / 'run').run()
    stage = tmp_path / 'run' / 'stages' / 'metadata'
    whole = contents(stage)
    (stage / 'manifest.json').unlink()
    StageRunner(config | dict(num_workers=2), tmp_path / 'run', ['metadata']).run()
    assert contents(stage) == whole


@pytest.mark.parametrize('workers, connections, share', [
    (0, 8, 'each of 1: 64 connections, of a host 8'), (2, 8, 'each of 2: 32 connections, of a host 4'),
    (8, 3, 'each of 3: 21 connections, of a host 1')])
def test_what_a_host_may_be_asked_is_shared_out_among_the_workers(tmp_path, config, workers, connections, share):
    """No more of them than there are connections to one host."""
    stages = [config['stages'][0], dict(type='Download', limits=dict(host_connections=connections))]
    assert share in StageRunner(dict(stages=stages, num_workers=workers), tmp_path / 'run').describe()
