"""All stages on twenty thousand records whose end is known: counts, and the same bytes after thirty kills."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import golden_stream as golden
import numpy as np
import pytest
from pyarrow import parquet

from clear.curation.demo.server import PhotoServer
from clear.curation.download.kept import final_outcomes
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner
from clear.engine.work_dir import held

COUNT, KILLS = 20_000, 30
BUCKETS, K, Q, MIN_SCORE = 5, 100, 400, 0.9
CONNECTIONS, SYNC_EVERY = 16, 32
STAGES = ('metadata', 'download', 'time_buckets', 'features', 'retrieval', 'export')
AIMS = dict(metadata=5, download=10, time_buckets=3, features=8, retrieval=3, export=5)
FORK = multiprocessing.get_context('fork')


def config(root, port, out, workers=0):
    towers = dict(encoder=dict(type='HalvesEncoder')), dict(text_encoder=dict(type='HalvesTextEncoder'))
    return dict(custom_imports=dict(imports=['golden_stream']), num_workers=workers, stages=[
        dict(type='Metadata', root=str(root), files='yfcc100m_dataset', shard_rows=2000),
        dict(type='Download', shard_rows=500, sync_every=SYNC_EVERY, pass_wait_s=0.0, limits=dict(
            allow=[f'127.0.0.1:{port}'], host_rate=None, connections=CONNECTIONS, host_connections=CONNECTIONS,
            retries=2, backoff_s=0.0, breaker=0)),
        dict(type='TimeBuckets', of='images', rule=dict(type='Equal', buckets=BUCKETS)),
        dict(type='Features', **towers[0], dtype='float32', shard_rows=500, batch_size=100, max_bad_fraction=0.02),
        dict(type='Retrieval', **towers[1], prompts=list(golden.CLASSES), k=K, q=Q, background=True,
             shortfall='keep-short', filters=[dict(type='MinScore', min_score=MIN_SCORE)]),
        dict(type='Export', out_dir=str(out), features='halves')])


@contextmanager
def host(port, log):
    """The host of the photos in a process of its own; yields its port."""
    asked, told = FORK.Pipe()
    process = FORK.Process(target=_serve, args=(port, log, told), daemon=True)
    process.start()
    try:
        yield asked.recv()
    finally:
        process.terminate()
        process.join()


def _serve(port, log, told):
    script = {number: golden.fate(number).answers for number in range(COUNT) if golden.fate(number).answers}
    with PhotoServer(golden.photo, script, log=log, port=port) as server:
        told.send(server.port)
        signal.pause()


def run(cfg, work_dir):
    """In a process of its own, which leads a group: do what is not done yet."""
    process = FORK.Process(target=_run, args=(cfg, work_dir))
    process.start()
    return process


def _run(cfg, work_dir):
    os.setsid()
    sys.stdout = sys.stderr = Path(os.devnull).open('w')  # noqa: SIM115 - as long as the process
    with held(work_dir):
        StageRunner(cfg, work_dir).run()


def ended(process):
    process.join(600)
    assert process.exitcode == 0
    return True


def kill(process):
    """With its workers: they are a group once the process has begun."""
    with suppress(ProcessLookupError):  # it has just ended
        while os.getpgid(process.pid) != process.pid:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def killed(cfg, work_dir, seconds, rng):
    """Run and kill, stage after stage, until it has been killed often enough; how often in the download."""
    done, inside = 0, 0
    aims = [stage for stage in STAGES for _ in range(AIMS[stage])]
    for turn, stage in enumerate(aims):
        process = run(dict(cfg, num_workers=2 * (turn % 7 == 3)), work_dir)
        while process.is_alive() and not (work_dir / 'stages' / stage / 'plan.json').exists():
            time.sleep(0.002)
        # Half of the stage's time in all its turns: a machine that has become twice as fast is not through before them.
        process.join(rng.uniform(0, seconds[stage] / AIMS[stage]))
        if not process.is_alive():
            assert process.exitcode == 0
            break
        kill(process)
        if process.exitcode == 0:
            break
        done += 1
        inside += stage in ('metadata', 'download')
        if done == KILLS:
            break
    return done, inside


def tree(folder):
    """Every file of a run but those that tell times."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob('*'))
            if path.is_file() and path.name != 'timing.json' and 'ledger' not in path.relative_to(folder).parts}


def asked(log):
    return Counter(log.read_text().split('\n')[:-1])


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run that was left alone, and its folder."""
    root = tmp_path_factory.mktemp('golden')
    with host(0, root / 'whole.log') as port:
        lines = [golden.line(number, COUNT, port) for number in range(COUNT)]
        (root / 'yfcc100m_dataset').write_bytes(b'\n'.join(lines) + b'\n')
        ended(run(config(root, port, root / 'clear'), root / 'whole'))
    return root, port


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_outcomes_buckets_and_classes_are_those_of_a_loop(whole):
    root, _ = whole
    stages = {name: Finished(root / 'whole' / 'stages' / name) for name in STAGES}
    expected = {number: golden.outcome(number) for number in range(COUNT)}
    told = {}
    for shard in range(len(stages['download'])):
        table = final_outcomes(stages['download'], shard)
        told |= dict(zip((np.array(table['id']) - golden.FIRST_ID).tolist(), table['outcome'].to_pylist()))
    assert told == {number: each for number, each in expected.items() if each != 'rejected'}
    assert stages['metadata'].counts['rejected'] == sum(each == 'rejected' for each in expected.values())

    images = sorted((golden.uploaded(number, COUNT), number) for number, each in expected.items() if each == 'ok')
    size, more = divmod(len(images), BUCKETS)
    buckets, start = [], 0
    for bucket in range(BUCKETS):
        end = start + size + (bucket < more)
        buckets.append([number for _, number in images[start:end]])
        start = end
    found = {}
    for path in stages['time_buckets'].files('buckets.parquet'):
        table = parquet.read_table(path)
        found |= dict(zip((np.array(table['id']) - golden.FIRST_ID).tolist(), table['bucket'].to_pylist()))
    assert found == {number: str(bucket) for bucket, numbers in enumerate(buckets) for number in numbers}

    unreadable = sum(golden.fate(number).odd == 'damaged' for _, number in images)
    assert stages['features'].counts == dict(images=len(images), unreadable=unreadable) and unreadable
    assert stages['retrieval'].counts['zero'] == sum(golden.fate(number).odd == 'one colour' for _, number in images)
    for bucket, numbers in enumerate(buckets):
        kinds = Counter(golden.kind(number) for number in numbers if golden.fate(number).odd != 'damaged')
        for label in golden.CLASSES:
            paths = list((root / 'clear' / 'labeled_images' / str(bucket) / label).glob('*'))
            assert len(paths) == min(K, kinds[label]), (bucket, label)
            assert {golden.kind(int(path.stem) - golden.FIRST_ID) for path in paths} == {label}
        assert kinds['scarce'] < K < kinds['red']
        background = (root / 'clear' / 'labeled_images' / str(bucket) / 'BACKGROUND').glob('*')
        assert 0 < len(list(background)) <= len(golden.CLASSES) * K // 10
    for path in (root / 'clear').glob('labeled_images/*/*/*'):
        assert path.read_bytes() == golden.photo(int(path.stem) - golden.FIRST_ID)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_thirty_kills_change_no_byte_and_fetch_little_again(whole):
    root, port = whole
    seconds = {name: json.loads((root / 'whole' / 'stages' / name / 'timing.json').read_text())['seconds']
               for name in STAGES}
    cfg = config(root, port, root / 'clear_killed')
    with host(port, root / 'killed.log'):
        kills, fetching = killed(cfg, root / 'killed', seconds, random.Random(5))
        ended(run(cfg, root / 'killed'))
    assert kills == KILLS
    assert tree(root / 'killed' / 'stages') == tree(root / 'whole' / 'stages')
    assert tree(root / 'clear_killed') == tree(root / 'clear')
    before, after = asked(root / 'whole.log'), asked(root / 'killed.log')
    assert before.keys() == after.keys()
    again = [target for target in before if after[target] > before[target] and target != '/robots.txt']
    assert len(again) <= fetching * 2 * (SYNC_EVERY + CONNECTIONS), len(again)
