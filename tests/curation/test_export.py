"""The CLEAR tree of a selection, against writing it in straight lines, and read by what trains on it."""

import json
import random
import shutil
from datetime import UTC
from pathlib import Path

import curated_stages
import pyarrow
import pytest
import torch
from curated_stages import export, files
from pyarrow import parquet

from clear.continual.scenarios import build_scenario
from clear.curation.export.assembling import MARK
from clear.curation.export.original import originals, read_columns
from clear.curation.export.stage import bucket_keys
from clear.curation.manifest import Finished
from clear.curation.metadata.side.kinds import AUTO_TAGS, EXIF_TEXT
from clear.datasets.make.check import check_tree
from clear.datasets.make.make_splits import write_missing_splits

TRANSFORM = [dict(type='Resize', size=[8, 8]), dict(type='ToTensor')]
TEXT = dict(NICKNAME='', DEVICE='', DESCRIPTION='', MACHINE_TAGS='', LAT='', PAGE_URL='', LICENSE_NAME='',
            LICENSE_URL='', FARM_ID='', SECRET_ORIGINAL='', EXT='png', USER_ID='1@N00', TITLE='caf%C3%A9+\udcff',
            USER_TAGS='a,b%2Cc', GEO_ACCURACY='16', SERVER_ID='7', SECRET='00ab', EXIF=None, AUTO_TAG_SCORES={},
            IMG_OR_VIDEO=0, IMG_DIR='.')


def original(row, path):
    """The record as CLEAR's own scripts have it, of a photo of `curated_stages`."""
    taken, uploaded = row['taken_at'], row['uploaded_at'].replace(tzinfo=UTC)
    return TEXT | dict(ID=str(row['id']), LINE_NUM=str(row['line']), HASH_VALUE=row['hash'], DOWNLOAD_URL=row['url'],
                       DATE_UPLOADED=str(int(uploaded.timestamp())), LON='' if row['lon'] is None else str(row['lon']),
                       DATE_TAKEN='null' if taken is None else f'{taken:%Y-%m-%d %H:%M:%S}.5', IMG_PATH=path)


def straight_line(made, ratio=0.3):
    """Name -> content of the tree: parsed JSON, text, or bytes."""
    names = sorted(made.group)
    tree = {'class_names.txt': '\n'.join(names), 'labeled_metadata.json': {}, 'clip_result.json': {},
            'all_metadata.json': {}, 'concept_group_dict.json': dict(GROUP=['laptop', 'bus']),
            'training_folder/bucket_indices.json': list(made.chosen)}
    for bucket, by_label in made.chosen.items():
        rows, result = [], {}
        for label in made.group:
            metadata = {}
            result[label] = dict(metadata=[], D=[])
            for number, score in by_label[label]:
                row = made.records[number]
                path = f'labeled_images/{bucket}/{label}/{row["id"]}.jpg'
                metadata[str(row['id'])] = original(row, path)
                tree[path] = made.contents[number]
                rows.append(f'{path} {names.index(label)}')
                result[label]['D'].append(pytest.approx(score, abs=1e-6))  # -cosine of what is in the background
                result[label]['metadata'].append(str(row['id']))
            tree[f'labeled_metadata/{bucket}/{label}.json'] = metadata
            tree['labeled_metadata.json'].setdefault(bucket, {})[label] = f'labeled_metadata/{bucket}/{label}.json'
        tree[f'clip_result/{bucket}.json'] = tree['clip_result.json'][bucket] = result
        folder = 'training_folder'
        tree[f'{folder}/filelists/{bucket}/all.txt'] = '\n'.join(rows)
        for seed in range(5):
            random.seed(seed)
            order = list(range(len(rows)))
            random.shuffle(order)
            cut = len(rows) - int(len(rows) * ratio)
            for part, chosen in (('train', order[:cut]), ('test', order[cut:])):
                place = f'{folder}/testset_ratio_{ratio}/split_{seed}/{bucket}/{part}'
                tree[f'{place}.txt'] = '\n'.join(rows[row] for row in chosen)
                tree[f'{place}_indices.json'] = chosen
        size = len(made.records) // len(made.chosen)
        part = made.records[int(bucket) * size:(int(bucket) + 1) * size]
        tree[f'all_metadata/{bucket}.json'] = {
            str(row['id']): original(row, f'all_images/{bucket}/{row["id"]}.jpg')
            for row in sorted(part, key=lambda row: (row['uploaded_at'], row['id']))}
        tree['all_metadata.json'][bucket] = f'all_metadata/{bucket}.json'
    return tree


def in_order(value):
    """JSON whose objects are lists of pairs, so that the order of keys counts."""
    return [(key, in_order(part)) for key, part in value.items()] if isinstance(value, dict) else value


def without_records(value):
    """What `clip_result` says, with ids in place of records."""
    if 'metadata' in value:
        return value | dict(metadata=[record['ID'] for record in value['metadata']])
    return {key: without_records(part) for key, part in value.items()}


@pytest.mark.parametrize('store, images', [('files', 'hardlink'), ('tar', 'hardlink'),
                                           pytest.param('files', 'symlink', marks=pytest.mark.slow),
                                           pytest.param('files', 'copy', marks=pytest.mark.slow)])
def test_tree_is_that_of_straight_lines(tmp_path, store, images):
    made = curated_stages.world(tmp_path / 'in', store=store)
    found, expected = files(export(made, tmp_path, images=images)), straight_line(made)
    assert sorted(found) == sorted([*expected, MARK])
    for name, content in expected.items():
        if isinstance(content, bytes):
            assert found[name] == content, name
        elif isinstance(content, str):
            assert found[name].decode() == content, name
        else:
            value = json.loads(found[name])
            value = without_records(value) if name.startswith('clip_result') else value
            # Keys of a record may stand in any order; those of buckets, classes and ids not.
            assert value == content and list(value) == list(content), name
            if name == 'labeled_metadata.json':
                assert in_order(value) == in_order(content)
    assert str(tmp_path) not in b''.join(found.values()).decode('latin-1')


def test_links_are_links_and_copies_are_copies(tmp_path):
    made = curated_stages.world(tmp_path / 'in')
    source = next((tmp_path / 'in/images').rglob('files/0000/*.jpg'))
    for how in ('hardlink', 'symlink', 'copy'):
        out = export(made, tmp_path / how, all_images=True, images=how)
        image = next(out.glob(f'all_images/*/{source.name}'))
        assert image.read_bytes() == source.read_bytes()
        assert image.is_symlink() == (how == 'symlink')
        assert (not image.is_symlink() and image.samefile(source)) == (how == 'hardlink')
        if how == 'symlink':
            assert not image.readlink().is_absolute()


@pytest.mark.parametrize('store', [pytest.param('files', marks=pytest.mark.slow), 'tar'])
def test_readers_and_check_take_it_in_both_protocols(tmp_path, store):
    made = curated_stages.world(tmp_path / 'in', store=store)
    values = curated_stages.banks(tmp_path / 'in' / 'features', made.records, list(made.chosen))
    made.inputs['features'] = tmp_path / 'in' / 'features'
    out = export(made, tmp_path, features='own')
    report = check_tree(out)
    assert report.problems == [] and report.num_images == 48 and report.feature_types == ['own']
    assert report.seeds == [0, 1, 2, 3, 4] and report.splits['split_3'] == {'0': [17, 7], '1': [17, 7]}
    for protocol, seed in (('iid', 2), ('streaming', None)):
        scenario = build_scenario(dict(type='CLEAR', data_root=str(out), evaluation_protocol=protocol, seed=seed,
                                       train_transform=TRANSFORM, eval_transform=TRANSFORM))
        assert [len(each.dataset) for each in scenario.train_stream] == [17 if seed else 24] * 2
        assert scenario.test_stream[1].dataset[0][0].shape == (3, 8, 8)
    index = json.loads((out / 'features/own/features.json').read_text())
    numbers = {str(row['id']): number for number, row in enumerate(made.records)}
    for bucket, by_label in made.chosen.items():
        table, targets = torch.load(out / f'training_folder/features/own/{bucket}/all.pth', weights_only=True)
        listed = (out / f'training_folder/filelists/{bucket}/all.txt').read_text().split('\n')
        assert targets == [int(line.split()[1]) for line in listed]
        expected = values[[numbers[Path(line.split()[0]).stem] for line in listed]]
        assert torch.equal(table, torch.from_numpy(expected))
        for label, chosen in by_label.items():
            stored = torch.load(out / index[bucket][label], weights_only=True)
            assert list(stored) == [str(made.records[number]['id']) for number, _ in chosen]
            assert all(torch.equal(row, torch.tensor(values[numbers[name]])) for name, row in stored.items())
            assert (out / index[bucket][label]).stat().st_size < 6 * 4 * len(stored) + 400 * len(stored) + 2000


@pytest.mark.parametrize('per_class', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_splits_are_those_of_the_tool(tmp_path, per_class):
    made = curated_stages.world(tmp_path / 'in', num_buckets=3, per_class=5)
    out = export(made, tmp_path, testset_ratio=0.25, per_class=per_class, seeds=[0, 7], all_metadata=False)
    assert not (out / 'all_metadata').exists()
    folder = out / 'training_folder/testset_ratio_0.25'
    found = files(folder)
    shutil.rmtree(folder)
    write_missing_splits(out, seeds=[0, 7], test_ratio=0.25, per_class=per_class)
    assert found == files(folder) and len(found) == 2 * 3 * 4
    lists = export(made, tmp_path / 'lists', testset_ratio=0)
    assert sorted(path.name for path in (lists / 'training_folder').iterdir()) == ['bucket_indices.json', 'filelists']


def test_all_images_have_their_own_names_and_failures_are_listed(tmp_path):
    made = curated_stages.world(tmp_path / 'in', missing=(3,))
    gone = next(number for number in range(30) if number != 3
                and not any(number == other for chosen in made.chosen['0'].values() for other, _ in chosen))
    name = f'{made.records[gone]["id"]}.jpg'
    next((tmp_path / 'in/images').rglob(f'files/*/{name}')).unlink()
    out = export(made, tmp_path, all_images=True)
    for number in range(60):
        image = out / f'all_images/{number // 30}/{made.records[number]["id"]}.jpg'
        assert image.is_file() == (number not in (3, gone)) and (
            number in (3, gone) or image.read_bytes() == made.contents[number])
    assert json.loads((out / 'all_images/failed/0.json').read_text()) == {
        made.records[gone]['url']: f'all_images/0/{name}'}
    assert json.loads((out / 'all_images/failed/1.json').read_text()) == {}
    assert str(made.records[3]['id']) not in json.loads((out / 'all_metadata/0.json').read_text())


def test_buckets_without_numbers_are_called_by_their_places():
    assert bucket_keys(['2004', '2005']) == ['2004', '2005'] and bucket_keys(['2004-Q1', '2004-Q2']) == ['0', '1']
    assert bucket_keys(['1', '01']) == ['0', '1']


def test_images_of_two_classes_odd_labels_and_odd_names(tmp_path):
    group = ['ice cream', "l'\u00e9t\u00e9, (2)", 'BACKGROUND']
    made = curated_stages.world(tmp_path / 'in', per_class=6, group=group)
    for by_label in made.chosen.values():
        by_label[group[1]][:3] = [(number, score - 0.3) for number, score in by_label[group[0]][:3]]
    shutil.rmtree(tmp_path / 'in/selection')
    curated_stages.select(tmp_path / 'in/selection', made.chosen, made.records, group)
    number = made.chosen['0'][group[0]][0][0]
    image = next((tmp_path / 'in/images').rglob(f'{made.records[number]["id"]}.jpg'))
    odd = image.rename(image.with_name('no\nsuffix.j\tg'))
    table = tmp_path / 'in/images/shards/000000/images.parquet'
    rows = parquet.read_table(table).to_pylist()
    rows[number]['path'] = str(odd.relative_to(tmp_path / 'in/images'))
    parquet.write_table(pyarrow.Table.from_pylist(rows, curated_stages.IMAGES), table)
    report = check_tree(export(made, tmp_path))
    assert {problem.kind for problem in report.problems} == {'identical'} and len(report.problems) == 6
    assert report.num_images == 36 and (tmp_path / f'out/labeled_images/0/{group[0]}/{made.records[number]["id"]}.jpeg'
                                        ).read_bytes() == made.contents[number]


def test_empty_buckets_are_left_out_of_the_lists(tmp_path):
    made = curated_stages.world(tmp_path / 'in', num_buckets=3, per_class=4)
    made.chosen['1'] = {}
    shutil.rmtree(tmp_path / 'in/selection')
    curated_stages.select(tmp_path / 'in/selection', made.chosen, made.records, made.group)
    out = export(made, tmp_path)
    assert json.loads((out / 'training_folder/bucket_indices.json').read_text()) == ['0', '2']
    assert sorted(json.loads((out / 'all_metadata.json').read_text())) == ['0', '1', '2']
    assert check_tree(out).problems == []
    manifest = Finished(tmp_path / 'run/stages/export').manifest
    assert [shard['selection'] for shard in manifest['plan']['shards']] == [0, None, 2]


def test_columns_that_side_files_and_own_sources_bring():
    rows = [curated_stages.record(number) for number in range(3)]
    table = pyarrow.Table.from_pylist(rows, curated_stages.SCHEMA)
    tags = [[dict(concept='a:b', score=0.5), dict(concept='c', score=1.0)], [], None]
    table = table.append_column('source_id', pyarrow.array(['IMG_1', None, None]))
    table = table.append_column(AUTO_TAGS, pyarrow.array(tags, AUTO_TAGS.type))
    table = table.append_column(EXIF_TEXT, pyarrow.array([[dict(key='ISO', value='100')], None, []], EXIF_TEXT.type))
    table = table.append_column('line_number', pyarrow.array([7, 8, 9]))
    found = originals(table.select(read_columns(table.column_names)).to_struct_array().combine_chunks())
    assert [record['AUTO_TAG_SCORES'] for record in found] == [{'a:b': 0.5, 'c': 1.0}, {}, {}]
    assert [record['EXIF'] for record in found] == [dict(ISO='100'), None, {}]
    assert [record.get('SOURCE_ID') for record in found] == ['IMG_1', None, None]
    assert [record['LINE_NUM'] for record in found] == ['7', '8', '9'] and 'SOURCE_ID' not in found[1]
