"""A download that is stopped: by a kill at any moment, a signal, a full disk. Nothing is lost or fetched again."""

import errno
import multiprocessing
import os
import random
import signal
import time
from collections import Counter

import pytest
import stage_folders
from photo_server import PATIENT, photo, records, serving

from clear.core.errors import Interrupted, WriteError
from clear.curation.download.shards import ledger as ledgers
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner

SYNC_EVERY, AT_ONCE = 8, 2 * 4


@pytest.fixture
def server():
    with serving() as made:
        yield made


def offered(tmp_path, server, count):
    """A config of `count` records, some of which fail at first or for good."""
    for number in range(count):
        if number % 9 != 5:
            server.files[f'/{number}'] = photo(number % (count - 10))
        if number % 7 == 3:
            server.statuses[f'/{number}'] = [500]
    table = records([dict(url=f'{server.url}/{number}', is_video=number % 11 == 6) for number in range(count)])
    stage_folders.finished(tmp_path / 'records', [{'records.parquet': table.slice(0, 70)},
                                                  {'records.parquet': table.slice(70)}])
    limits = PATIENT | dict(allow=[server.origin], connections=4, host_connections=4, retries=2)
    stage = dict(type='Download', shard_rows=60, sync_every=SYNC_EVERY, limits=limits, max_same=3)
    return dict(stages=[stage], inputs=dict(records=str(tmp_path / 'records')))


def contents(folder):
    """Every file below a folder but those that tell times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*'))
            if path.is_file() and path.name != 'timing.json' and 'ledger' not in path.parts}


def run_stage(config, work_dir):
    StageRunner(config, work_dir).run()


@pytest.fixture(scope='module')
def processes():
    """Makes processes that have imported everything, and share no thread with this one."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['clear.curation', 'clear.engine.stages.runner', 'clear.curation.download.client',
                                    'duckdb', 'test_download_stops'])
    return lambda *args: context.Process(target=run_stage, args=args)


@pytest.mark.slow
def test_killed_at_random_nothing_is_lost_and_hardly_anything_is_fetched_again(tmp_path, server, processes):
    config = offered(tmp_path, server, 200)
    failures = {path: list(left) for path, left in server.statuses.items()}
    StageRunner(config, tmp_path / 'whole').run()
    asked = Counter(server.log)
    server.log.clear()
    server.statuses = failures
    server.delay_s = 0.05
    rng, kills = random.Random(3), 0
    while True:
        before = len(server.log)
        process = processes(config, tmp_path / 'run')
        process.start()
        deadline = time.monotonic() + 120  # the time that imports take is not the time to be killed in
        while len(server.log) == before and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.join(rng.uniform(0.05, 1.0) if kills < 20 else 120)
        if not process.is_alive():
            break
        process.kill()
        process.join()
        kills += 1
    stage = tmp_path / 'run' / 'stages' / 'download'
    assert process.exitcode == 0 and kills >= 5
    assert contents(stage) == contents(tmp_path / 'whole' / 'stages' / 'download')
    more = sum((Counter(server.log) - asked).values())
    assert 0 < more <= kills * (SYNC_EVERY + AT_ONCE)


@pytest.mark.slow
def test_two_that_work_on_the_same_shards_do_no_harm(tmp_path, server, processes):
    config = offered(tmp_path, server, 100)
    server.statuses = {}
    StageRunner(config, tmp_path / 'whole').run()
    server.delay_s = 0.02
    both = [processes(config, tmp_path / 'run') for _ in range(2)]
    both[0].start()
    deadline = time.monotonic() + 60
    while not list((tmp_path / 'run').rglob('*.jsonl')) and time.monotonic() < deadline:
        time.sleep(0.01)
    both[1].start()  # as a task that a cluster gives out twice; no lock is held here
    for process in both:
        process.join(120)
    assert contents(tmp_path / 'run' / 'stages') == contents(tmp_path / 'whole' / 'stages')


def test_a_signal_keeps_what_is_there(tmp_path, server):
    from clear.core.programs.signals import stoppable

    config = offered(tmp_path, server, 60)
    server.statuses = {}
    server.delay_s = 0.05

    def stop_at(path):
        answer = server._answer

        def watched(request):
            answer(request)
            if request.path == path:
                os.kill(os.getpid(), signal.SIGTERM)
        server._answer = watched

    stop_at('/30')
    with stoppable(), pytest.raises(Interrupted, match='--resume'):
        StageRunner(config, tmp_path / 'run').run()
    first = set(server.log)
    assert 10 < len(first) < 50
    server.log.clear()
    del server._answer
    StageRunner(config, tmp_path / 'run').run()
    assert len(first & set(server.log)) <= AT_ONCE
    counts = Finished(tmp_path / 'run/stages/download').counts
    assert counts['ok'] + counts['http_4xx'] + counts['video'] == 60


@pytest.mark.parametrize('where', ['ledger', 'shard'])
def test_a_full_disk_is_one_message_and_goes_on_later(tmp_path, server, monkeypatch, where):
    config = offered(tmp_path, server, 40)
    server.statuses = {}

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if where == 'ledger':
            write, left = ledgers._write_all, [4]

            def some(file, pieces):
                left[0] -= 1
                if left[0] < 0:
                    file.write(b'{"row": 39, "outc')
                    full()
                write(file, pieces)
            patched.setattr(ledgers, '_write_all', some)
        else:
            patched.setattr('clear.curation.download.shards.writing._add', full)
        with pytest.raises(WriteError, match='cannot be written: No space left .*--resume'):
            StageRunner(config, tmp_path / 'run').run()
    assert not list((tmp_path / 'run/stages/download/shards').glob('*/receipt.json'))
    first = Counter(server.log)
    server.log.clear()
    StageRunner(config, tmp_path / 'run').run()
    assert sum((first & Counter(server.log)).values()) <= (0 if where == 'shard' else SYNC_EVERY + 2 * AT_ONCE)
    StageRunner(config, tmp_path / 'whole').run()
    assert contents(tmp_path / 'run/stages') == contents(tmp_path / 'whole/stages')


def test_how_it_goes_is_told_now_and_then(caplog, monkeypatch):
    from clear.curation.download.shards import rates

    clock = [100.0]
    monkeypatch.setattr(rates.time, 'monotonic', lambda: clock[0])
    going = rates.Rates('shard 3', 200, interval_s=10)
    monkeypatch.setattr(rates.logger, 'handlers', [])
    monkeypatch.setattr(rates.logger, 'propagate', True)
    with caplog.at_level('INFO', rates.logger.name):
        for number in range(100):
            clock[0] += 0.25
            going.add('http_4xx' if number % 4 == 0 else 'ok', 0 if number % 4 == 0 else 40_000)
    assert [record.getMessage() for record in caplog.records] == [
        'shard 3  40 of 200 records  4.0/s  0.1 MB/s  ok 75% http_4xx 25%  ETA 0:00:40',
        'shard 3  80 of 200 records  4.0/s  0.1 MB/s  ok 75% http_4xx 25%  ETA 0:00:30']
    going.again(20)
    assert '100 of 220 records' in going.line()
    going.close()


def test_large_bodies_do_not_pile_up(tmp_path, monkeypatch):
    import asyncio

    from clear.curation.download.shards import fetching
    from clear.curation.download.shards.ledger import Ledger
    from clear.curation.download.shards.rates import Rates
    from clear.curation.download.shards.verdicts import Filters
    from clear.curation.download.sources import Got
    from clear.curation.manifest import StageFolder

    monkeypatch.setattr(fetching, '_MOST_BYTES', 3000)

    async def work():
        with Ledger(StageFolder(tmp_path), 0) as ledger:
            desk = fetching.Desk(ledger, Filters(), 1000, Rates('x', 9))
            entered = []
            for row in range(9):
                await desk.put(row, Got('ok', photo(row)))  # about 1 KB each
                entered.append(len(ledger.entries))
            desk.close()
            return entered

    entered = asyncio.run(work())
    assert entered[1] == 0 and entered[3] >= 3 and entered[8] >= 6


def test_a_host_that_is_down_is_waited_for(tmp_path, server):
    config = offered(tmp_path, server, 40)
    server.statuses = {f'/{number}': [500] for number in range(7)}
    config['stages'][0]['limits'] |= dict(breaker=4, breaker_s=0.5, retries=0, connections=1, host_connections=1)
    config['stages'][0] |= dict(passes=3, pass_wait_s=0.0, max_failed=0.0)
    StageRunner(config, tmp_path / 'run').run()
    assert Finished(tmp_path / 'run/stages/download').counts.keys() == {'records', 'ok', 'http_4xx', 'video'}
    assert len(server.log) < 50  # while it is left alone nobody asks


def test_a_kill_right_after_a_shard_is_published_leaves_no_bodies(tmp_path, server, monkeypatch):
    config = offered(tmp_path, server, 40)
    with monkeypatch.context() as patched:
        patched.setattr(ledgers.Ledger, 'remove_bodies', lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            StageRunner(config, tmp_path / 'run').run()
    ledger = tmp_path / 'run/stages/download/ledger'
    assert list(ledger.rglob('*.bodies'))
    server.log.clear()
    StageRunner(config, tmp_path / 'run').run()
    assert not list(ledger.rglob('*.bodies')) and list(ledger.rglob('*.jsonl')) and not server.log
