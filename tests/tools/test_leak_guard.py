"""The leak guard as a program: trees, folders, tables, banks, predictions, and a finished run."""

import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from clear_trees import write_clear_tree
from photo_tiles import mirrored, photo_tiles, resized
from PIL import Image
from pyarrow import parquet
from short_runs import IMAGE_CONFIG, listed, read_results, train, write_config
from stage_folders import finished

from clear.features.writing import write_bank

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location('leak_guard', ROOT / 'tools/analysis_tools/leak_guard.py')
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


@pytest.fixture(scope='module')
def tiles():
    return photo_tiles()[:120]


def run(*args):
    return module.main([str(arg) for arg in args])


def found(out):
    return json.loads((out / 'leaks.json').read_text())


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def stream(tmp_path, tiles):
    """A table of three buckets of 12 images; bucket 2 has copies of two images of bucket 0 and one of bucket 1."""
    rng, paths, buckets, labels = np.random.default_rng(0), [], [], []
    for bucket in range(3):
        for number in range(12):
            image = tiles[bucket * 40 + number * 3]
            if bucket == 2 and number < 3:
                image = (mirrored, resized, mirrored)[number](tiles[(number == 2) * 40 + number * 3], rng)
            paths.append(f'{bucket}/{number}.png')
            buckets.append(str(bucket))
            labels.append(number % 2)
            save(image, tmp_path / 'images' / paths[-1])
    parquet.write_table(pyarrow.table(dict(path=paths, bucket=buckets, label=labels)), tmp_path / 'images/list.parquet')
    return tmp_path, paths, buckets, labels


def test_a_table_of_buckets_without_parts(stream, capsys):
    folder, *_ = stream
    assert run(folder / 'images/list.parquet', '--out', folder / 'out') == 0
    told = found(folder / 'out')
    assert told['by_bucket'] == {'0': {'2': 2}, '1': {'2': 1}} and told['order'] == 'later' and told['accuracy'] == []
    assert (folder / 'out/drop_test.txt').read_text() == '2/0.png\n2/1.png\n2/2.png\n'
    assert (folder / 'out/drop_train.txt').read_text() == '0/0.png\n0/1.png\n1/2.png\n'
    lines = (folder / 'out/leaks.csv').read_text().splitlines()
    assert lines[0].replace('"', '') == 'train_path,train_bucket,test_path,test_bucket,by' and len(lines) == 4
    assert 'no accuracies' in capsys.readouterr().out


def test_a_bank_with_its_images(stream, capsys):
    folder, paths, buckets, labels = stream
    features = np.random.default_rng(1).normal(size=(36, 8))
    write_bank(folder / 'bank', features, labels, ids=paths, paths=paths, buckets=buckets, class_names=['a', 'b'])
    assert run(folder / 'bank', '--images', folder / 'images', '--out', folder / 'out') == 0
    told = found(folder / 'out')
    assert told['leaked'] == 3
    assert [(each['through'], each['bucket'], each['rows'], each['clean_rows']) for each in told['accuracy']] == [
        ('0', '1', 12, 12), ('0', '2', 12, 10), ('1', '2', 12, 11)]
    assert run(folder / 'bank', '--out', folder / 'out') == 2
    assert '--images' in capsys.readouterr().err
    assert run(folder / 'bank', '--no-hashes', '--min-cosine', 0.999, '--out', folder / 'out') == 0
    assert found(folder / 'out')['leaked'] == 0


def test_a_stage_of_banks_with_the_stage_of_its_images(stream):
    folder, paths, buckets, labels = stream
    features, times = np.random.default_rng(1).normal(size=(36, 8)), [datetime(2010, 1, 1, tzinfo=UTC)] * 36
    images = pyarrow.table(dict(
        id=range(36), path=[f'shards/000000/files/{path}' for path in paths], taken_at=[None] * 36, uploaded_at=times,
        shard=pyarrow.nulls(36, pyarrow.string()), offset=pyarrow.nulls(36, pyarrow.int64()),
        bytes=pyarrow.nulls(36, pyarrow.int64()))).set_column(2, 'taken_at', pyarrow.nulls(36, pyarrow.timestamp('us')))
    files = {f'files/{path}': (folder / 'images' / path).read_bytes() for path in paths}
    finished(folder / 'download', [{'images.parquet': images} | files])
    shards = []
    for bucket in '012':
        rows = [row for row in range(36) if buckets[row] == bucket]
        write_bank(folder / bucket, features[rows], [labels[row] for row in rows], ids=[str(row) for row in rows],
                   paths=[paths[row] for row in rows], buckets=[bucket] * 12, class_names=['a', 'b'])
        shards.append({f'bank/{file.name}': file.read_bytes() for file in (folder / bucket).iterdir()})
    finished(folder / 'features', shards)
    assert run(folder / 'features', '--images', folder / 'download', '--out', folder / 'out') == 0
    told = found(folder / 'out')
    assert told['by_bucket'] == {'0': {'2': 2}, '1': {'2': 1}} and len(told['accuracy']) == 3


def test_a_pretraining_set_against_an_evaluation_set(tmp_path, tiles, capsys):
    rng = np.random.default_rng(0)
    for number in range(0, 40, 4):
        save(tiles[number], tmp_path / 'pretraining' / 'x' / f'{number}.png')
        save(tiles[number + 2], tmp_path / 'evaluation' / 'y' / f'{number}.png')
    save(mirrored(tiles[8], rng), tmp_path / 'evaluation' / 'y' / 'z.png')
    (tmp_path / 'evaluation/y/broken.png').write_bytes(b'no image')
    assert run(tmp_path / 'pretraining', '--against', tmp_path / 'evaluation', '--out', tmp_path / 'out') == 0
    told = found(tmp_path / 'out')
    assert told['leaked'] == 1 and told['unreadable'] == 1 and told['order'] == 'any'
    assert (tmp_path / 'out/drop_test.txt').read_text().endswith('y/z.png\n')
    assert run(tmp_path / 'pretraining') == 2
    assert '--against' in capsys.readouterr().err


def test_training_and_test_parts_of_two_tables(stream):
    folder, paths, buckets, labels = stream
    for name, rows in (('train', range(24)), ('test', range(12, 36))):
        parquet.write_table(pyarrow.table({key: [values[row] for row in rows] for key, values in (
            ('path', paths), ('bucket', buckets), ('label', labels))}), folder / f'images/{name}.parquet')
    assert run(folder / 'images/train.parquet', '--test', folder / 'images/test.parquet', '--out', folder / 'out') == 0
    told = found(folder / 'out')
    assert told['by_bucket'] == {'0': {'2': 2}, '1': {'1': 12, '2': 1}} and told['order'] == 'same_or_later'


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_predictions(stream, suffix, capsys):
    folder, paths, buckets, labels = stream
    rows = [row for row in range(36) if buckets[row] == '2'] * 2
    right = [1] * 6 + [0] * 6 + [1] * 12
    table = dict(path=[paths[row] for row in rows], label=[labels[row] for row in rows],
                 prediction=[labels[row] if is_right else 7 for row, is_right in zip(rows, right)],
                 through=['0'] * 12 + ['1'] * 12)
    file = folder / f'predictions.{suffix}'
    if suffix == 'parquet':
        parquet.write_table(pyarrow.table(table), file)
    else:
        file.write_text('\n'.join([','.join(table), *(','.join(map(str, cells)) for cells in zip(*table.values()))]))
    assert run(folder / 'images/list.parquet', '--predictions', file, '--out', folder / 'out') == 0
    assert [(each['through'], each['rows'], each['right'], each['clean_rows'], each['clean_right'])
            for each in found(folder / 'out')['accuracy']] == [('0', 12, 6, 9, 3), ('1', 12, 12, 9, 9)]
    parquet.write_table(pyarrow.table(dict(path=['x'], label=[1])), folder / 'p.parquet')
    assert run(folder / 'images/list.parquet', '--predictions', folder / 'p.parquet', '--out', folder / 'out') == 2
    assert 'prediction' in capsys.readouterr().err


@pytest.mark.parametrize('options, message', [
    ([], 'either SOURCE or --run'), (['x', '--no-hashes'], '--min-cosine'), (['x', '--max-bits', '65'], '--max-bits'),
    (['nowhere'], 'no folder, list'), (['x', '--min-cosine', '2'], '--min-cosine'),
    (['--run', 'nowhere'], 'no config')])
def test_what_cannot_be(options, message, capsys, tmp_path):
    assert run(*options, '--out', tmp_path / 'out') == 2
    printed = capsys.readouterr().err
    assert message in printed and 'Traceback' not in printed and not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_a_finished_run(tmp_path, monkeypatch):
    """The accuracies are those of its results, and without what leaked those of the images that did not."""
    monkeypatch.chdir(tmp_path)
    root = write_clear_tree('images', per_class=10, image_size=32)
    config = write_config('config.py', IMAGE_CONFIG, root)
    copied, leaked = listed(root, '1', 'train')[0], listed(root, '3', 'test')[:2]
    for path in leaked:
        Image.open(root / copied).save(root / path)
    train(config, '--work-dir', 'run', '--cfg-options', 'cl_strategy.train_epochs=2', 'checkpoint_config.interval=1')
    assert run('--run', 'run', '--out', 'out') == 0
    told, matrix = found(Path('out')), read_results('run')['acc_matrix']
    assert told['by_bucket'] == {'1': {'3': 2}}
    assert sorted(Path('out/drop_test.txt').read_text().splitlines()) == sorted(leaked)
    rows = {(each['through'], each['bucket']): each for each in told['accuracy']}
    assert {key: each['with_leaks'] for key, each in rows.items()} == {
        (str(one + 1), str(two + 1)): matrix[one][two] for one in range(3) for two in range(one, 3)}
    assert [rows[name, '3']['rows'] - rows[name, '3']['clean_rows'] for name in '123'] == [2, 2, 2]
    assert all(each['rows'] == each['clean_rows'] for (_, bucket), each in rows.items() if bucket != '3')
    assert run(root, '--out', 'tree') == 0  # the tree by itself finds the same
    assert found(Path('tree'))['by_bucket'] == told['by_bucket']
