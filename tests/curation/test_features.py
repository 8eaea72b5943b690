"""Banks of the images of every bucket: against encoding one by one, in pools, after stops, of shards and of files."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from curated import TINY, curated, picture
from PIL import Image

from clear.core.errors import ClearError, ConfigError, DataError
from clear.curation import features
from clear.curation.features import Features, banks_of
from clear.curation.images import image_table
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner
from clear.features.build import make_encoder

ROOT = Path(__file__).parents[2]
STAGE = dict(type='Features', encoder=TINY, shard_rows=4, batch_size=2)


def config(folder, name='in', **options):
    workers = options.pop('num_workers', 0)
    return dict(stages=[dict(STAGE, **options)], num_workers=workers, inputs=dict(
        images=str(folder / name / 'download'), buckets=str(folder / name / 'time_buckets')))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*'))
            if path.is_file() and path.name not in ('timing.json', '.lock')}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """30 images, 27 of them in three buckets, of which number 4 cannot be read; `whole` is the stage run on them."""
    folder = tmp_path_factory.mktemp('source')
    curated(folder / 'in', bad=(4,))
    StageRunner(config(folder, max_bad_fraction=0.1), folder / 'whole').run()
    return folder


def test_equals_encoding_one_image_after_the_other(source):
    finished = Finished(source / 'whole/stages/features')
    _, _, ids = curated(source / 'again', bad=(4,))
    encoder = make_encoder(TINY)
    transform = encoder.preprocess.build()
    seen = 0
    for place, name in enumerate(('old', 'mid', 'new')):
        numbers = sorted((number for number in range(30) if number % 10 != 9 and number % 3 == place),
                         key=ids.__getitem__)
        banks = banks_of(finished, name)
        assert [len(bank) for bank in banks] == [4, 4, 1]
        assert [each for bank in banks for each in bank.column('id')] == [str(ids[number]) for number in numbers]
        assert {each for bank in banks for each in bank.column('bucket')} == {name}
        valid = np.concatenate([bank.valid for bank in banks])
        assert valid.tolist() == [number != 4 for number in numbers]
        features = np.concatenate([bank.features for bank in banks])
        assert features.dtype == np.float16
        for row, number in enumerate(numbers):
            if number == 4:
                assert not features[row].any()
                continue
            with torch.no_grad():
                alone = encoder(transform(Image.open(io.BytesIO(picture(number))))[None])[0].numpy()
            assert np.allclose(features[row], alone, atol=2e-3 * np.abs(alone).max())
            seen += 1
    assert seen == 26
    assert finished.counts == dict(images=27, unreadable=1)
    shards = {'old': [0, 1, 2], 'mid': [3, 4, 5], 'new': [6, 7, 8], 'none': []}
    assert finished.summary['buckets'] == {
        name: dict(shards=numbers, count=9 if numbers else 0, valid=(8 if name == 'mid' else 9) if numbers else 0)
        for name, numbers in shards.items()}
    assert finished.summary['dim'] == 8 and finished.summary['dtype'] == 'float16'
    assert finished.summary['encoder'] == dict(type='OpenCLIPImageEncoder', config=TINY,
                                               fingerprint=encoder.fingerprint())
    with pytest.raises(DataError, match="no features of bucket 'late'; of old, mid, new, none"):
        banks_of(finished, 'late')
    assert banks_of(finished, 'none') == []


def test_the_plan_is_cut_by_hand():
    stage, shards = Features(TINY, shard_rows=3), []
    for bucket, ids in (('a', [1, 5]), ('a', [6, 9, 12, 13, 20]), ('b', [2]), ('b', [3, 4, 8])):
        stage._cut(shards, bucket, np.array(ids))
    assert shards == [dict(bucket='a', rows=3, first=1, last=6), dict(bucket='a', rows=3, first=9, last=13),
                      dict(bucket='a', rows=1, first=20, last=20), dict(bucket='b', rows=3, first=2, last=4),
                      dict(bucket='b', rows=1, first=8, last=8)]


def test_stopped_in_a_shard_and_resumed(source, tmp_path, monkeypatch):
    calls, encode = [], Features._encode

    def stopping(self, *args):
        calls.append(1)
        if len(calls) == 6:
            raise DataError('stopped')
        return encode(self, *args)

    monkeypatch.setattr(Features, '_encode', stopping)
    built = []
    monkeypatch.setattr('clear.curation.features.make_encoder', lambda cfg: built.append(1) or make_encoder(cfg))
    features._encoder_of.cache_clear()
    runner = StageRunner(config(source, max_bad_fraction=0.1), tmp_path)
    with pytest.raises(DataError, match='stopped'):
        runner.run()
    assert [runner.state(entry) for entry in runner.entries] == ['5 of 9 shards']
    assert sum(built) == 2, 'one to look at, one for all jobs of this process'
    StageRunner(config(source, max_bad_fraction=0.1), tmp_path).run()
    assert len(calls) == 6 + 4
    one, other = (contents(place / 'stages') for place in (tmp_path, source / 'whole'))
    assert one.keys() == other.keys() and all(one[name] == other[name] for name in one)


@pytest.mark.slow
def test_a_pool_of_any_size_makes_the_same_bytes(source, tmp_path):
    StageRunner(config(source, max_bad_fraction=0.1, num_workers=3), tmp_path).run()
    one, other = (contents(place / 'stages') for place in (tmp_path, source / 'whole'))
    assert one.keys() == other.keys() and all(one[name] == other[name] for name in one)
    assert not [name for name, content in one.items() if str(source).encode() in content and name.endswith('meta.json')]


def test_files_give_the_features_of_shards(source, tmp_path):
    curated(tmp_path / 'in', bad=(4,), store='files')
    StageRunner(config(tmp_path, max_bad_fraction=0.1), tmp_path / 'run').run()
    for bucket in ('old', 'mid', 'new'):
        banks = zip(*(banks_of(Finished(place / 'stages/features'), bucket)
                      for place in (tmp_path / 'run', source / 'whole')))
        for one, other in banks:
            assert one.column('id') == other.column('id') and np.array_equal(one.features, other.features)


def test_copies_that_the_stage_leaves_out_are_not_encoded(tmp_path):
    images, buckets, ids = curated(tmp_path / 'in', copies=(0, 4, 20))
    runner = StageRunner(config(tmp_path), tmp_path / 'run')
    runner.entries[0].stage.inputs = dict(images=images, buckets=buckets)
    assert runner.entries[0].stage.preview()[1].startswith('27 images')
    runner.run()
    finished = Finished(tmp_path / 'run/stages/features')
    assert finished.counts['images'] == 24
    found = [name for bucket in ('old', 'mid', 'new') for bank in banks_of(finished, bucket)
             for name in bank.column('id')]
    assert found == image_table(images, buckets).texts('id')
    assert not {*found} & {str(ids[number]) for number in (0, 4, 20)}


def test_too_many_bad_images_lose_nothing(source, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r'1 of 27 images cannot be read \(3.7%\), more than max_bad_fraction = 1.0%'):
        StageRunner(config(source), tmp_path).run()
    monkeypatch.setattr(Features, '_encode', lambda *args: pytest.fail('encoded again'))
    StageRunner(config(source, max_bad_fraction=0.05), tmp_path).run()
    assert Finished(tmp_path / 'stages/features').counts == dict(images=27, unreadable=1)


def test_other_weights_are_another_stage(source, tmp_path):
    torch.save(make_encoder(TINY).model.state_dict(), tmp_path / 'a.pth')
    encoder = dict(TINY, weights=dict(path=str(tmp_path / 'a.pth')))
    StageRunner(config(source, encoder=encoder, max_bad_fraction=0.1), tmp_path / 'run').run()
    StageRunner(config(source, encoder=encoder, max_bad_fraction=0.1), tmp_path / 'run').run()
    torch.save({name: value + 1 for name, value in make_encoder(TINY).model.state_dict().items()}, tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match='made of something else: .*encoder'):
        StageRunner(config(source, encoder=encoder, max_bad_fraction=0.1), tmp_path / 'run').run()


def test_inputs_that_do_not_fit(source, tmp_path):
    shutil.copytree(source / 'in', tmp_path / 'in')
    images = image_table(Finished(tmp_path / 'in/download'), Finished(tmp_path / 'in/time_buckets'))
    assert len(images) == 27
    curated(tmp_path / 'other', count=9)
    cfg = config(tmp_path)
    for kind in ('images', 'buckets'):
        wrong = dict(cfg, inputs=dict(cfg['inputs'], **{kind: str(source / 'whole/stages/features')}))
        with pytest.raises(DataError, match='stage Features made it'):
            StageRunner(wrong, tmp_path / kind).run()
    with pytest.raises(DataError, match='images of bucket .* when it was planned'):
        runner = StageRunner(cfg, tmp_path / 'run')
        changed = json.loads((source / 'whole/stages/features/plan.json').read_text())
        changed['plan']['shards'][0]['rows'] = 3
        changed['config'].pop('max_bad_fraction', None)
        place = tmp_path / 'run/stages/features/plan.json'
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(changed))
        runner.run()


@pytest.mark.parametrize('changes, message', [
    (dict(encoder='RN50'), r"encoder is 'RN50'; expected dict\(type=...\)"), (dict(dtype='int8'), 'dtype'),
    (dict(shard_rows=0), 'shard_rows'), (dict(block_size=3), 'block_size is 3, expected a multiple'),
    (dict(encoder=dict(type='OpenCLIPImageEncoder', arch='RN51')), 'RN51'), (dict(threads=0), 'threads'),
    (dict(encoder=dict(TINY, weights='nowhere.pth')), 'nowhere.pth'), (dict(loader_worker=2), 'loader_workers')])
def test_what_cannot_be_is_said_before_anything_runs(source, tmp_path, changes, message):
    with pytest.raises(ClearError, match=message):
        StageRunner(config(source, **changes), tmp_path / 'run').plan()
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_dry_run_of_the_program(source, tmp_path):
    (tmp_path / 'config.py').write_text(''.join(f'{key} = {value!r}\n' for key, value in config(source).items()))
    command = [sys.executable, str(ROOT / 'tools/curate.py'), 'config.py', '--work-dir', 'run', '--dry-run']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert '16 x 16 pixels -> 8 numbers as float16' in said
    assert '30 images, 4 buckets of 0 to 9: at most 27 rows, 0.0 MiB' in said
    assert not (tmp_path / 'run').exists()
