"""Features of the earlier curation: into banks, out of them, and whether images agree with an encoder."""

import json
import shutil

import numpy as np
import pytest
import torch
from curated import TINY, curated, ids_of, picture
from old_curation import old_features, record
from pyarrow import parquet
from short_runs import run

from clear.core.errors import ClearError, ConfigError, DataError
from clear.curation.features import banks_of
from clear.curation.images import image_table
from clear.curation.legacy.agreement import agreement, verify_bank
from clear.curation.legacy.feature_banks import export_features, import_features
from clear.curation.legacy.old_features import cuts, find_features
from clear.curation.manifest import Finished
from clear.datasets.images.decode import decode_image
from clear.engine.stages.runner import StageRunner
from clear.features import FeatureBank
from clear.features.build import make_encoder

RNG = np.random.default_rng(5)
# Of the same width, with other weights.
OTHER = dict(TINY, model_args=dict(TINY['model_args'], vision_cfg=dict(TINY['model_args']['vision_cfg'], layers=2)))
IDS = [str(number * 7 + 3) for number in range(11)]


def rows_of(count=11, dim=6, dtype=np.float16):
    return (RNG.standard_normal((count, dim)) * 3).astype(dtype)


@pytest.mark.parametrize('suffix', ['.json', '.pickle'])
@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_rows_ids_and_masks_come_over(tmp_path, suffix, dtype):
    rows = rows_of(dtype=dtype)
    rows[4] = 0
    rows[9] = np.nan
    bucket = old_features(tmp_path / 'bucket_11/3', IDS, rows, sizes=[5, 3, 3], suffix=suffix)
    bank = import_features(bucket, tmp_path / 'bank')
    valid = [row not in (4, 9) for row in range(11)]
    assert bank.valid.tolist() == valid and bank.column('id') == IDS and bank.features.dtype == dtype
    assert np.array_equal(bank.features[valid], rows[valid]) and not bank.features[[4, 9]].any()
    assert bank.column('bucket') == ['3'] * 11 and bank.column('path') == [f'{name}.jpg' for name in IDS]
    assert {str(time) for time in bank.index['timestamp'].to_pylist()} == {'2008-01-01 03:00:00+00:00'}
    assert bank.meta['encoder'] == dict(type='imported', model='RN101') and bank.meta['verified'] is False
    assert FeatureBank.open(tmp_path / 'bank').fingerprint == bank.fingerprint
    half = import_features(bucket, tmp_path / 'half', dtype='float16')
    assert np.array_equal(half.features[valid], rows[valid].astype(np.float16))
    rows[0, 0] += 1
    other = old_features(tmp_path / 'other/3', IDS, rows, sizes=[5, 3, 3])
    assert import_features(other, tmp_path / 'changed').fingerprint != bank.fingerprint


def test_only_normalised_features_were_kept(tmp_path):
    rows = rows_of()
    rows[2] = 0  # NaN when it was divided
    bank = import_features(old_features(tmp_path / '0', IDS, rows, kinds=['normalized']), tmp_path / 'bank')
    assert bank.meta['dtype'] == 'float32' and not bank.valid[2] and bank.meta['num_valid'] == 10
    assert np.allclose(np.linalg.norm(bank.features[bank.valid], axis=1), 1)


def test_paths_below_the_images_wherever_these_were(tmp_path):
    (tmp_path / 'yfcc/7/images').mkdir(parents=True)
    for name in IDS:
        (tmp_path / 'yfcc/7/images' / f'{name}.jpg').touch()
    bucket = old_features(tmp_path / '0', IDS, rows_of(), image_dir='/scratch/someone/yfcc/7/images')
    for options in ({}, dict(old_root='/scratch/someone/yfcc')):
        bank = import_features(bucket, tmp_path / 'bank', images=tmp_path / 'yfcc', overwrite=True, **options)
        assert bank.column('path')[2] == f'7/images/{IDS[2]}.jpg'
    with pytest.raises(DataError, match='is not below .*yfcc. Say with old_root'):
        import_features(bucket, tmp_path / 'b2', images=tmp_path / 'yfcc', old_root='/elsewhere')


@pytest.mark.parametrize('model, names, error, message', [
    (None, ['RN50', 'RN101'], ConfigError, 'expected features of one model .*, found RN101, RN50'),
    ('ViT-B/32', ['RN50'], DataError, 'of ViT-B/32 .*, found RN50'), (None, [], DataError, 'found none')])
def test_which_model(tmp_path, model, names, error, message):
    (tmp_path / '0').mkdir()
    for name in names:
        (tmp_path / '0' / f'features_{name}.json').write_text('[[], []]')
    with pytest.raises(error, match=message):
        find_features(tmp_path / '0', model)
    (tmp_path / '0/features_ViT-B_32.json').touch()
    (tmp_path / '0/features_ViT-B_32.pickle').touch()
    found = find_features(tmp_path / '0', 'ViT-B/32')
    assert found.index.name == 'features_ViT-B_32.json' and found.folder.name == 'features_ViT-B_32'
    assert found.model == find_features(tmp_path / '0', 'ViT-B_32').model == 'ViT-B/32'


def damage(bucket, how):
    index, array = bucket / 'features_RN101.json', bucket / 'features_RN101/features_1_original.npy'
    if how == 'cut':
        index.write_text(index.read_text()[:-400])
    elif how == 'fewer records':
        content = json.loads(index.read_text())
        content[0][1].pop()
        index.write_text(json.dumps(content))
    elif how == 'fewer lists':
        content = json.loads(index.read_text())
        content[0].pop()
        index.write_text(json.dumps(content))
    elif how == 'more lists':
        content = json.loads(index.read_text())
        content[0].append([dict(ID='77')])
        index.write_text(json.dumps(content))
    elif how == 'twice':
        content = json.loads(index.read_text())
        content[0][1][0]['ID'] = content[0][0][0]['ID']
        index.write_text(json.dumps(content))
    elif how == 'dict':
        index.write_text('{"a": 1}')
    elif how == 'other images':
        np.save(array, np.load(array)[::-1])
    elif how == 'shape':
        np.save(array, np.load(array)[:, :5])
    elif how == 'objects':
        np.save(array, np.array([print], dtype=object), allow_pickle=True)
    elif how == 'npz':
        np.savez(array.with_suffix('.npz'), a=np.zeros(3))
        array.with_suffix('.npz').rename(array)
    elif how == 'gap':
        for kind in ('original', 'normalized'):
            (bucket / f'features_RN101/features_0_{kind}.npy').unlink()


@pytest.mark.parametrize('how, message', [
    ('cut', 'Is it cut short'), ('fewer records', 'lists 4 records for shard 1, whose arrays have 5 rows'),
    ('fewer lists', 'lists 1 shards; .* has 2'), ('more lists', 'lists more shards; .* has 2'),
    ('twice', "the id '3' is there twice"), ('dict', "expected '\\['"),
    ('other images', 'are of other images'), ('shape', 'the arrays of shard 1 do not fit'), ('objects', 'is damaged'),
    ('npz', 'damaged or no .npy'), ('gap', 'features_0_original.npy is not there, but features_1')])
def test_what_is_damaged_is_named_and_nothing_is_left(tmp_path, how, message):
    bucket = old_features(tmp_path / '0', IDS, rows_of(), sizes=[6, 5])
    damage(bucket, how)
    with pytest.raises(DataError, match=message):
        import_features(bucket, tmp_path / 'bank')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0']


def test_half_precision_ends_somewhere(tmp_path):
    rows = rows_of(dtype=np.float32) * np.float32(1e5)
    bucket = old_features(tmp_path / '0', IDS, rows)
    with pytest.raises(DataError, match="leave the range of float16"):
        import_features(bucket, tmp_path / 'bank', dtype='float16')


def test_a_pickle_that_is_none_of_ours_runs_nothing(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (tmp_path / 'ran').touch, ()

    bucket = old_features(tmp_path / '0', IDS, rows_of(), suffix='.pickle')
    (bucket / 'features_RN101.pickle').write_bytes(pickle.dumps([[[Evil()]], []]))
    with pytest.raises(DataError):
        import_features(bucket, tmp_path / 'bank')
    assert not (tmp_path / 'ran').exists()


# Out of banks


@pytest.mark.parametrize('count, most', [(1, 500), (500, 500), (501, 500), (11, 4), (10, 3), (9, 3)])
def test_shards_are_near_equal(count, most):
    expected = [len(part) for part in np.array_split(np.arange(count), -(-count // most))]
    assert [len(part) for part in cuts(count, most)] == expected
    assert [row for part in cuts(count, most) for row in part] == list(range(count))


def test_exported_features_are_those_that_were_imported(tmp_path):
    rows = rows_of()
    rows[4] = 0
    bank = import_features(old_features(tmp_path / '0', IDS, rows), tmp_path / 'bank')
    files = export_features([bank], tmp_path / 'new/0', 'RN101', shard_rows=4, image_dir='/images')
    assert [path.name for path in files[::2]] == [*(f'features_{number}_original.npy' for number in range(3)),
                                                  'features_RN101.json']
    lists, paths = json.loads(files[-1].read_text())
    assert [len(records) for records in lists] == [4, 4, 3]
    assert [each['ID'] for records in lists for each in records] == IDS
    assert lists[0][1] == dict(ID=IDS[1], IMG_DIR='/images', IMG_PATH=f'{IDS[1]}.jpg')
    original, unit = (np.concatenate([np.load(each[kind]) for each in paths]) for kind in ('original', 'normalized'))
    assert np.array_equal(original, rows) and original.dtype == np.float16 and unit.dtype == np.float32
    for row in range(11):
        length = float(np.sqrt(sum(float(value) ** 2 for value in rows[row])))
        assert np.allclose(unit[row], rows[row].astype(np.float64) / length if length else 0, atol=1e-6)
    again = import_features(tmp_path / 'new/0', tmp_path / 'again')
    assert np.array_equal(again.features, bank.features) and again.fingerprint == bank.fingerprint
    with pytest.raises(DataError, match='exists. Replace it'):
        export_features([bank], tmp_path / 'new/0', 'RN101')
    export_features([bank], tmp_path / 'new/0', 'RN101', overwrite=True)
    assert len(json.loads(files[-1].read_text())[0]) == 1


def test_records_of_a_bucket_give_order_and_texts(tmp_path):
    rows = rows_of()
    banks = [import_features(old_features(tmp_path / name, IDS[part], rows[part]), tmp_path / f'bank{name}', bucket='0')
             for name, part in (('a', slice(4)), ('b', slice(4, 11)))]
    order = RNG.permutation(11)
    file = tmp_path / 'bucket_0.json'
    file.write_text(json.dumps(dict(indices=[1], all_metadata=[record(IDS[row]) for row in order], min_date='x')))
    index = export_features(banks, tmp_path / 'new/0', 'RN101', records=file, shard_rows=6)[-1]
    lists, paths = json.loads(index.read_text())
    assert [each for records in lists for each in records] == [record(IDS[row]) for row in order]
    assert np.array_equal(np.concatenate([np.load(each['original']) for each in paths]), rows[order])
    file.write_text(json.dumps(dict(all_metadata=[record('nobody')])))
    with pytest.raises(DataError, match="no features of 'nobody', which .*bucket_0.json lists"):
        export_features(banks, tmp_path / 'more/0', 'RN101', records=file)
    with pytest.raises(DataError, match='are of different models'):
        export_features([banks[0], import_features(old_features(tmp_path / 'c', ['1'], rows_of(1), model='RN50'),
                                                   tmp_path / 'bankc')], tmp_path / 'more/0', 'RN101')


# Whether images agree


@pytest.fixture(scope='module')
def encoded(tmp_path_factory):
    """40 images in files, and the features of them by the tiny encoder in the earlier layout."""
    root = tmp_path_factory.mktemp('encoded')
    encoder, ids = make_encoder(TINY), ids_of(40)
    transform, rows = encoder.preprocess.build(), []
    (root / 'images').mkdir()
    for number, name in enumerate(ids):
        (root / 'images' / f'{name}.jpg').write_bytes(picture(number))
        with torch.no_grad():
            rows.append(encoder(transform(decode_image(picture(number)))[None])[0].numpy())
    old_features(root / 'bucket_1/0', ids, np.stack(rows).astype(np.float16), model='tiny', sizes=[20, 20],
                 image_dir='/somewhere/images')
    return root


def test_a_bank_is_verified_by_images_that_agree(encoded, tmp_path):
    encoder, bucket = make_encoder(TINY), encoded / 'bucket_1/0'
    bank = import_features(bucket, tmp_path / 'bank', images=encoded)
    before = {path.name: path.read_bytes() for path in bank.path.iterdir()}
    found = verify_bank(bank, encoder, encoded)
    assert len(found.ids) == 32 and found.holds and found.cosines.min() > 0.999
    again = FeatureBank.open(tmp_path / 'bank')
    assert again.meta['verified'] and again.fingerprint == bank.fingerprint
    assert again.meta['verified_by'] == dict(encoder=encoder.fingerprint(), images=32)
    assert {name for name, content in before.items() if (bank.path / name).read_bytes() != content} == {'meta.json'}
    curated(tmp_path / 'in', count=40)
    images = image_table(Finished(tmp_path / 'in/download'))
    assert agreement(bank, encoder, images).holds, 'of shards, found by id'


def test_one_image_that_differs_leaves_it_unverified(encoded, tmp_path):
    bank = import_features(encoded / 'bucket_1/0', tmp_path / 'bank', images=encoded)
    rows = np.load(bank.path / 'features.npy')
    rows[np.unique(np.linspace(0, 39, 32).round().astype(int))[7]] = rows[1]
    np.save(bank.path / 'features.npy', rows)
    bank = FeatureBank.open(bank.path)
    with pytest.raises(DataError, match=r'31 of 32 images agree \(cosine > 0.999\), the least .* It stays unverified'):
        verify_bank(bank, make_encoder(TINY), encoded)
    assert FeatureBank.open(bank.path).meta['verified'] is False
    with pytest.raises(DataError, match='^(?!.*31 of 32).*is not of this encoder'):
        verify_bank(bank, make_encoder(OTHER), encoded)
    wide = make_encoder(dict(TINY, model_args=dict(TINY['model_args'], embed_dim=9)))
    with pytest.raises(DataError, match='holds 8 numbers an image, the encoder gives 9'):
        agreement(bank, wide, encoded)


def test_too_few_images_are_there(encoded, tmp_path):
    bank = import_features(encoded / 'bucket_1/0', tmp_path / 'bank', images=encoded)
    (tmp_path / 'images').mkdir()
    for path in sorted((encoded / 'images').iterdir())[:33]:
        (tmp_path / 'images' / path.name).write_bytes(path.read_bytes())
    assert agreement(bank, make_encoder(TINY), tmp_path).holds, 'others stand in for those that are not there'
    for path in sorted((tmp_path / 'images').iterdir())[:2]:
        path.unlink()
    with pytest.raises(DataError, match='31 of its images could be read in .*, 32 are needed.*missing'):
        agreement(bank, make_encoder(TINY), tmp_path)


def stage(encoded, **options):
    return dict(stages=[dict(dict(type='LegacyFeatures', root=str(encoded / 'bucket_1'), model='tiny'), **options)])


def test_a_stage_of_imported_features(encoded, tmp_path):
    runner = StageRunner(stage(encoded), tmp_path / 'run')
    runner.plan()
    runner.run()
    finished = Finished(tmp_path / 'run/stages/legacy_features')
    assert finished.summary['buckets'] == {'0': dict(shards=[0], count=40, valid=40)}
    assert finished.summary['verified'] is False and finished.summary['encoder']['model'] == 'tiny'
    bank, = banks_of(finished, '0')
    assert len(bank) == 40
    with pytest.raises(DataError, match='part of a finished stage'):
        verify_bank(bank, make_encoder(TINY), encoded)
    StageRunner(stage(encoded, encoder=TINY, images=str(encoded)), tmp_path / 'checked').run()
    assert Finished(tmp_path / 'checked/stages/legacy_features').summary['verified'] is True
    with pytest.raises(DataError, match='is not of this encoder'):
        StageRunner(stage(encoded, encoder=OTHER, images=str(encoded)), tmp_path / 'no').run()
    with pytest.raises(ConfigError, match='images, the folder of the images'):
        StageRunner(stage(encoded, encoder=TINY), tmp_path / 'no')
    for options, message in ((dict(model='RN50'), 'of RN50 .*, found tiny'),
                             (dict(root=str(tmp_path)), 'no folder below')):
        with pytest.raises(ClearError, match=message):
            StageRunner(stage(encoded, **options), tmp_path / 'no').plan()


def test_retrieval_takes_them_and_says_that_they_are_unverified(encoded, tmp_path, caplog):
    shutil.copytree(encoded / 'bucket_1', tmp_path / 'buckets')
    for path in sorted(tmp_path.glob('buckets/0/features_tiny*')):
        path.rename(path.with_name(path.name.replace('tiny', 'ViT-B_32')))
    text = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=dict(embed_dim=8, text_cfg=dict(
        width=16, heads=2, layers=1)))
    stages = [dict(type='LegacyFeatures', root=str(tmp_path / 'buckets'), model='ViT-B/32'),
              dict(type='Retrieval', prompts=['cat', 'dog'], text_encoder=text, k=3, q=20)]
    with caplog.at_level('WARNING'):
        StageRunner(dict(stages=stages), tmp_path / 'run').run()
    assert 'is imported and UNVERIFIED: nothing shows that ViT-B/32 made it' in caplog.text
    selection = parquet.read_table(tmp_path / 'run/stages/retrieval/shards/000000/selection.parquet')
    assert {*map(str, selection['id'].to_pylist())} <= {*map(str, ids_of(40))} and len(selection) >= 6
    wrong = [stages[0], dict(stages[1], text_encoder=dict(text, arch='ViT-B-16'))]
    with pytest.raises(DataError, match='bank of another model'):
        StageRunner(dict(stages=wrong), tmp_path / 'wrong').run()


# The programs


@pytest.mark.slow
def test_programs(encoded, tmp_path):
    bucket = str(encoded / 'bucket_1/0')
    (tmp_path / 'encoder.py').write_text(f'encoder = {TINY!r}\n')
    dry = run('dataset_converters/convert_features', bucket, str(tmp_path / 'bank'), '--to', 'bank', '--dry-run')
    assert dry.code == 0 and not (tmp_path / 'bank').exists()
    done = run('dataset_converters/convert_features', bucket, str(tmp_path / 'bank'), '--to', 'bank', '--images',
               str(encoded))
    assert done.code == 0 and '40 x 8 float16' in done.out and 'unverified' in done.out, done.err
    command = ['curation/verify_features', str(tmp_path / 'bank'), '--encoder', str(tmp_path / 'encoder.py'),
               '--images', str(encoded)]
    dry = run(*command, '--dry-run')
    assert dry.code == 0 and '32 of 32 images agree' in dry.out
    assert FeatureBank.open(tmp_path / 'bank').meta['verified'] is False
    assert run(*command).code == 0 and FeatureBank.open(tmp_path / 'bank').meta['verified'] is True
    other = run(*command, '--cfg-options', 'encoder.model_args.vision_cfg.layers=2')
    assert other.code == 2 and 'is not of this encoder' in other.err
    done = run('dataset_converters/convert_features', str(tmp_path / 'bank'), str(tmp_path / 'out/0'), '--to',
               'curation', '--feature-type', 'tiny')
    assert done.code == 0 and 'wrote 3 files' in done.out, done.err
    StageRunner(stage(encoded), tmp_path / 'run').run()
    done = run('dataset_converters/convert_features', str(tmp_path / 'run/stages/legacy_features'),
               str(tmp_path / 'again/0'), '--to', 'curation', '--feature-type', 'tiny', '--bucket', '0')
    assert done.code == 0 and 'wrote 3 files' in done.out, done.err
    none = run('dataset_converters/convert_features', str(tmp_path / 'run/stages/legacy_features'),
               str(tmp_path / 'more/0'), '--to', 'curation', '--feature-type', 'tiny')
    assert none.code == 2 and 'has several banks, of buckets 0; say which with --bucket' in none.err
    new, old = (np.concatenate([np.load(file) for file in sorted((folder / 'features_tiny').glob('*_original.npy'))])
                for folder in (tmp_path / 'out/0', encoded / 'bucket_1/0'))
    assert np.array_equal(new, old)
