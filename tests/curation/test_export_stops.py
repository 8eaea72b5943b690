"""Exports that meet another data set, a full disk or a kill, or cannot be: one message, and nothing half written."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import curated_stages
import pytest
from curated_stages import export, files

from clear.core.errors import ConfigError, DataError
from clear.curation.export import placing, tree
from clear.curation.export.stage import Export, bad_folder_name
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner

ROOT = Path(__file__).parents[2]

# What is there already


def test_same_data_are_left_alone_others_refused_and_a_lost_tree_put_back(tmp_path):
    made = curated_stages.world(tmp_path / 'in')
    out = export(made, tmp_path)
    whole, times = files(out), {path: path.stat().st_mtime_ns for path in out.rglob('*') if path.is_dir()}
    shutil.rmtree(tmp_path / 'run')
    export(made, tmp_path)  # a run that knows nothing of the first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other = curated_stages.world(tmp_path / 'other', per_class=5)
    with pytest.raises(DataError, match=r'out holds another data set.*--overwrite'):
        export(other, tmp_path / 'second', out='../out')
    assert files(out) == whole and not list((tmp_path / 'second/run/stages/export').glob('plan.json'))
    export(other, tmp_path / 'second', out='../out', overwrite=True)
    assert len(json.loads((out / 'labeled_metadata/0/bus.json').read_text())) == 5
    export(other, tmp_path / 'second', out='elsewhere')
    shutil.rmtree(tmp_path / 'second/elsewhere')
    export(other, tmp_path / 'second', out='elsewhere')
    assert files(tmp_path / 'second/elsewhere') == files(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'other', 'out', 'run', 'second']


def test_preview_says_where_and_how_many(tmp_path):
    made = curated_stages.world(tmp_path / 'in')
    stage = Export(out_dir=str(tmp_path / 'out'))
    where = f'into {tmp_path / "out"}, images by hardlink (those in archives as copies)'
    assert stage.preview() == [where]
    stage.inputs = {kind: Finished(path) for kind, path in made.inputs.items()}
    assert stage.preview() == [where, 'bucket 0: 24 photos', 'bucket 1: 24 photos']
    assert not (tmp_path / 'out').exists()


def test_folders_with_anything_else_stay_even_when_asked(tmp_path):
    made = curated_stages.world(tmp_path / 'in')
    (tmp_path / 'out').mkdir()
    export(made, tmp_path)  # an empty one is fine
    (tmp_path / 'mine/photos').mkdir(parents=True)
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r'mine holds something else.*another out_dir'):
            export(made, tmp_path / 'x', out='../mine', overwrite=overwrite)
    (tmp_path / 'file').write_text('x')
    with pytest.raises(DataError, match='file holds something else'):
        export(made, tmp_path / 'y', out='../file')


# What cannot be


@pytest.mark.parametrize('label, reason', [('a/b', "holds '/'"), ('..', 'a dot'), ('', 'empty'), ('bus ', 'a blank'),
                                           ('two\nlines', 'no text'), ('x' * 201, 'longer than 200')])
def test_labels_that_are_no_folder_names(tmp_path, label, reason):
    made = curated_stages.world(tmp_path / 'in', group=['laptop', label])
    with pytest.raises(DataError, match=rf'is no name for a folder: .*{reason}.*another label'):
        export(made, tmp_path)
    assert not (tmp_path / 'out').exists() and bad_folder_name('ice cream') == bad_folder_name('é,(2)') == ''


@pytest.mark.parametrize('store', [pytest.param('files', marks=pytest.mark.slow), 'tar'])
def test_images_that_were_moved_or_changed(tmp_path, store):
    made = curated_stages.world(tmp_path / 'in', store=store)
    number = made.chosen['1']['bus'][2][0]
    moved = tmp_path / 'in/images/shards/000001'
    moved.rename(tmp_path / 'in/away')
    with pytest.raises(DataError, match=r"images.parquet|24 of 24 selected .*inputs=dict\(images='...'\)"):
        export(made, tmp_path)
    (tmp_path / 'in/away').rename(moved)
    target = moved / 'images.tar' if store == 'tar' else moved / f'files/0000/{made.records[number]["id"]}.jpg'
    content = target.read_bytes()
    target.write_bytes(content.replace(made.contents[number], bytes(len(made.contents[number]))))
    with pytest.raises(DataError, match=r'is not what was stored \(its checksum differs\)'):
        export(made, tmp_path, images='copy')
    target.write_bytes(content[:len(made.contents[number]) // 2])
    with pytest.raises(DataError, match='selected photos of bucket 1 have no image any more, first'):
        export(made, tmp_path / 'again')
    assert not (tmp_path / 'out').exists() and not list(tmp_path.glob('.out*'))
    target.write_bytes(content)
    export(made, tmp_path)  # goes on with what it had
    assert files(tmp_path / 'out') == files(export(made, tmp_path / 'fresh'))


def test_selections_of_other_data(tmp_path):
    made = curated_stages.world(tmp_path / 'in')
    small = curated_stages.world(tmp_path / 'small', count=40)
    for kind in ('images', 'records'):
        mixed = curated_stages.SimpleNamespace(**vars(made))
        mixed.inputs = made.inputs | {kind: small.inputs[kind]}
        with pytest.raises(DataError, match=rf'was made of other {kind}: these lack some of its ids: \d+, first \d+'):
            export(mixed, tmp_path / kind)
    mixed.inputs = made.inputs | dict(buckets=curated_stages.world(tmp_path / 'one', num_buckets=1).inputs['buckets'])
    with pytest.raises(DataError, match=r"has bucket '1', which .* does not have"):
        export(mixed, tmp_path / 'buckets')
    few = curated_stages.world(tmp_path / 'few', per_class=1)
    with pytest.raises(DataError, match=r'bucket 0: of 3 photos testset_ratio 0.3 leaves none.*testset_ratio=0'):
        export(few, tmp_path / 'split')


@pytest.mark.parametrize('options, message', [
    (dict(out_dir=''), "out_dir is ''"), (dict(images='move'), "images is 'move'"), (dict(seeds=[1, 1]), 'different'),
    (dict(testset_ratio=1), 'testset_ratio is 1'), (dict(features='a/b'), "features is 'a/b'"),
    (dict(all_images=1), 'all_images is 1')])
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        Export(**dict(out_dir='x') | options)


def test_features_of_other_photos_are_refused(tmp_path):
    made = curated_stages.world(tmp_path / 'in')
    curated_stages.banks(tmp_path / 'in' / 'features', made.records[:40], list(made.chosen))
    made.inputs['features'] = tmp_path / 'in' / 'features'
    with pytest.raises(DataError, match=r'bucket \d has no features of \d+ selected photos, first \d+'):
        export(made, tmp_path, features='own')
    assert not (tmp_path / 'out').exists()
    with pytest.raises(ConfigError, match='reads features, which no stage before it makes'):
        del made.inputs['features']
        export(made, tmp_path / 'other', features='own')


# Kills, full disks, workers


def test_no_room_leaves_nothing_and_goes_on_when_there_is_some(tmp_path, monkeypatch):
    made = curated_stages.world(tmp_path / 'in', store='tar')
    export(made, tmp_path / 'whole')
    count = 0

    def write(target, content):
        nonlocal count
        count += 1
        if count > 20:
            target.write_bytes(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        target.write_bytes(content)

    monkeypatch.setattr(placing, '_write', write)
    with pytest.raises(DataError, match=r'No room for .*out \(No space left on device\). Nothing was left there'):
        export(made, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'run', 'whole']
    monkeypatch.undo()
    monkeypatch.setattr(tree, 'write_rows', lambda *_: (_ for _ in ()).throw(OSError(errno.EDQUOT, 'x')))
    with pytest.raises(DataError, match='No room for'):
        export(made, tmp_path / 'shard')
    assert not list((tmp_path / 'shard/run/stages/export').glob('*/*'))
    monkeypatch.undo()
    assert files(export(made, tmp_path)) == files(tmp_path / 'whole/out')


def test_other_file_systems_get_copies_and_a_link_that_cannot_be_for_want_of_room_stops(tmp_path, monkeypatch):
    made = curated_stages.world(tmp_path / 'in', per_class=4)
    whole = files(export(made, tmp_path / 'whole', testset_ratio=0))

    def refuse(code):
        def link(*_):
            raise OSError(code, os.strerror(code))
        monkeypatch.setattr(placing.os, 'link', link)

    refuse(errno.EXDEV)
    out = export(made, tmp_path, testset_ratio=0)
    assert files(out) == whole and {path.stat().st_nlink for path in out.rglob('*.jpg')} == {1}
    refuse(errno.ENOSPC)
    with pytest.raises(DataError, match='No room for'):
        export(made, tmp_path / 'full', testset_ratio=0)
    assert [path.name for path in (tmp_path / 'full').iterdir()] == ['run']


RUN = """
import json, sys
from clear.engine.stages.runner import StageRunner
config, work_dir = json.loads(sys.argv[1]), sys.argv[2]
print('begun', flush=True)
StageRunner(config, work_dir).run()
"""


@pytest.mark.slow
def test_killed_at_any_moment_there_is_nothing_or_the_whole(tmp_path):
    made = curated_stages.world(tmp_path / 'in', count=240, num_buckets=4, per_class=15, store='tar')
    whole = files(export(made, tmp_path / 'whole', all_images=True))
    stage = files(tmp_path / 'whole/run/stages/export')
    config = dict(stages=[dict(type='Export', out_dir=str(tmp_path / 'out'), all_images=True)], num_workers=0,
                  inputs={kind: str(path) for kind, path in made.inputs.items()})
    rng, kills = random.Random(0), 0
    begun = time.monotonic()
    while kills < 8 and time.monotonic() - begun < 45:
        process = subprocess.Popen([sys.executable, '-c', RUN, json.dumps(config), str(tmp_path / 'run')],
                                   stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | dict(PYTHONPATH=str(ROOT)))
        process.stdout.readline()
        time.sleep(rng.random() * 1.5)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        assert not (tmp_path / 'out').exists() or files(tmp_path / 'out') == whole
        if process.returncode == 0:  # the whole is there: begin again
            shutil.rmtree(tmp_path / 'out')
            shutil.rmtree(tmp_path / 'run')
    StageRunner(config, tmp_path / 'run').run()
    assert kills >= 3 and files(tmp_path / 'out') == whole
    found = files(tmp_path / 'run/stages/export')
    assert {name: content for name, content in found.items() if name != 'timing.json'} == {
        name: content for name, content in stage.items() if name != 'timing.json'}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'out', 'run', 'whole']  # no left-overs


@pytest.mark.slow
def test_workers_make_the_same_bytes(tmp_path):
    made = curated_stages.world(tmp_path / 'in', num_buckets=3, per_class=5)
    one = export(made, tmp_path / 'one', all_images=True)
    config = dict(stages=[dict(type='Export', out_dir=str(tmp_path / 'two'), all_images=True)], num_workers=2,
                  inputs={kind: str(path) for kind, path in made.inputs.items()})
    StageRunner(config, tmp_path / 'run').run()
    assert files(one) == files(tmp_path / 'two')
    first, second = (files(folder / 'stages/export') for folder in (tmp_path / 'one/run', tmp_path / 'run'))
    assert first['manifest.json'] == second['manifest.json'] and first['plan.json'] == second['plan.json']
    assert str(tmp_path).encode() not in first['manifest.json'] + first['plan.json']
