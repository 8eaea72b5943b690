"""Every reader of text, JSON, tables and checkpoints x every odd file: one user error, at once."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from clear.core.config import load_config
from clear.core.configs.options import parse_options
from clear.core.errors import ClearError
from clear.core.files import load_tensors, read_json, read_text
from clear.core.results import read_results
from clear.core.storage.plain_pickles import read_array_pickle
from clear.datasets import read_images
from clear.datasets.dense.decoders import NonZero
from clear.datasets.dense.targets import DenseTable, check_targets
from clear.datasets.make import download
from clear.datasets.make.archives import verify_archive
from clear.datasets.make.virb import hands, nyu, panoptic
from clear.datasets.readers import bucket_files, listing, table_file, voc
from clear.datasets.readers.clear import clear_files, metadata
from clear.datasets.readers.dense import ade20k, coco_panoptic
from clear.datasets.readers.pairs.table import table_columns
from clear.datasets.readers.virb import caltech101, clevr
from clear.datasets.readers.virb.kinetics import video_labels
from clear.datasets.readers.virb.nuscenes import pairs_of
from clear.datasets.readers.virb.thor import labelled_lines
from clear.engine import checkpoint
from clear.engine.probing.work import records
from clear.engine.streams import over_time
from clear.engine.training import state
from clear.evaluation.text.files import read_cells, read_lines
from clear.evaluation.text.passage_files import read_passages
from clear.evaluation.text.word_similarity import read_word_pairs
from clear.features import FeatureBank, write_bank
from clear.models import load_weights
from clear.models.weights.moco import from_published

# A reader that waits is stopped after so many seconds, on a machine that does much else; alone each takes milliseconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(10)]

ODD = {
    'folder': Path.mkdir, 'pipe': os.mkfifo, 'device': lambda path: path.symlink_to('/dev/zero'), 'empty': Path.touch,
    'absent': lambda path: None, 'deep JSON': lambda path: path.write_text('[' * 3000 + ']' * 3000),
    'endless number': lambda path: path.write_text('9' * 5000),
    'binary': lambda path: path.write_bytes(bytes(range(256)) * 8),
    'latin-1': lambda path: path.write_bytes('Köln\n'.encode('latin-1')),
    'NUL': lambda path: path.write_bytes(b'a\0b\n'),
    'JSON of another shape': lambda path: path.write_text('{"a": [1, {"b": null}]}'),
    'number': lambda path: path.write_text('3'),
    'truncated JSON': lambda path: path.write_text('{"schema": 1, "jobs": {"a'),
    'no UTF-8 name': lambda path: path.write_bytes(b'\xff\xfe.jpg 0\n'),
    'NUL and index': lambda path: path.write_bytes(b'a\0.jpg 0\n'),
    'truncated checkpoint': lambda path: path.write_bytes(checkpoint_bytes(path)[:900])}


def checkpoint_bytes(path):
    torch.save({'a': torch.zeros(200)}, path)
    return path.read_bytes()


def bank_file(name):
    def read(path):
        bank = write_bank(path.parent / 'bank', np.zeros((3, 2), np.float32), [0, 0, 1], ids=['a', 'b', 'c'],
                          class_names=['x', 'y']).path
        (bank / name).unlink()
        if path.exists() or path.is_symlink():
            path.rename(bank / name)
        opened = FeatureBank.open(bank)
        return opened.index
    return read


def beside_class_names(read):
    def call(path):
        (path.parent / 'class_names.txt').write_text('x\ny\n')
        return read(path)
    return call


def check_target(path):
    check_targets(DenseTable.from_columns(path.parent, dict(path=['image.png'], mask=[path.name]), target_kind='mask',
                                          decode=NonZero()))


def no_choice(names, source):
    return list(names)


# Reader -> the name of the file that it is given, and how it is called.
READERS = {
    'read_text': ('x.txt', read_text), 'read_json': ('x.json', read_json),
    'class names': ('class_names.txt', clear_files.read_class_names),
    'file list': ('all.txt', lambda path: clear_files.read_file_list(path, path.parent, 1)),
    'indices': ('x.json', lambda path: clear_files.read_indices(path, 5, path)),
    'features': ('all.pth', lambda path: clear_files.read_feature_file(path, 3)),
    'feature rows': ('x.pth', clear_files.stack_rows), 'image list': ('x.txt', listing.read_list),
    **{f'image table {suffix}': (f'x.{suffix}', table_file.read_table) for suffix in ('csv', 'parquet', 'jsonl')},
    **{f'table by time {suffix}': (f'x.{suffix}', lambda path: read_images(
        dict(type='TableByTime', table=str(path), freq='year'))) for suffix in ('csv', 'parquet', 'jsonl')},
    **{f'source table {suffix}': (f'x.{suffix}', lambda path: read_images(dict(type='Table', path=str(path))))
       for suffix in ('csv', 'parquet', 'jsonl')},
    'source list': ('x.txt', lambda path: read_images(dict(type='FileList', path=str(path)))),
    'bucket file': ('bucket_1.json', lambda path: bucket_files.read_bucket_files(path.parent, [path], no_choice)),
    'metadata': ('labeled_metadata.json', beside_class_names(lambda path: metadata.read_metadata(path.parent))),
    'VOC list': ('x.txt', lambda path: voc.read_ids(path, 'train')), 'VOC annotation': ('x.xml', voc._parse),
    'results': ('results.json', read_results),
    'archives record': ('archives.json', lambda path: download.read_record(path.parent)),
    'archive': ('x.zip', verify_archive),
    'tensors': ('x.pth', load_tensors), 'safetensors': ('x.safetensors', load_tensors),
    'checkpoint': ('x.pth', checkpoint.load_checkpoint), 'checkpoint of a run': ('x.pth', state.load_run),
    'weights': ('x.pth', lambda path: load_weights(torch.nn.Linear(2, 2), path)), 'MoCo': ('x.pth', from_published),
    'cells of texts': ('x.tsv', lambda path: read_cells(path, 2)), 'packed texts': ('x.tsv.gz', read_lines),
    'passages': ('x.tsv', lambda path: [*read_passages(path)]),
    'packed passages': ('x.tsv.gz', lambda path: [*read_passages(path)]),
    'word pairs': ('x.csv', lambda path: read_word_pairs(path, ';')),
    'labelled texts': ('x.csv', lambda path: table_columns(path, ['caption'])),
    'finished cells': ('x.json', over_time.read_cells), 'pickle of arrays': ('x', read_array_pickle),
    'videos': ('x.json', video_labels), 'pairs of frames': ('x.json', pairs_of),
    'labelled lines': ('x.txt', labelled_lines),
    'scenes': ('x.json', lambda path: clevr._answers(path, 'count')),
    'list of Caltech': ('x.json', lambda path: caltech101._listed(path, path.parent)),
    'polygons of hands': ('polygons.mat', hands._polygons_of), 'lists of NYU': ('splits.mat', nyu._official_parts),
    'panoptic annotations': ('x.json', panoptic._described), 'names of COCO': ('x.json', coco_panoptic._names),
    'names of ADE20K': ('objectInfo150.txt', ade20k._names), 'target': ('x.png', check_target),
    'jobs': ('jobs.json', lambda path: records.restore_jobs([], path.parent, None)),
    **{f'bank {name}': (name, bank_file(name))
       for name in ('meta.json', 'features.npy', 'labels.npy', 'valid.npy', 'index.parquet')},
    **{f'config {suffix}': (f'x.{suffix}', load_config) for suffix in ('py', 'yaml', 'json')}}

# What a reader rightly takes.
FINE = {
    *(('read_text', odd) for odd in ('empty', 'deep JSON', 'endless number', 'NUL', 'JSON of another shape', 'number',
                                     'truncated JSON', 'NUL and index')),
    *(('read_json', odd) for odd in ('JSON of another shape', 'number')),
    *(('class names', odd) for odd in ('deep JSON', 'endless number', 'JSON of another shape', 'number',
                                       'truncated JSON', 'NUL', 'NUL and index')),
    *(('VOC list', odd) for odd in ('deep JSON', 'endless number', 'NUL', 'JSON of another shape', 'number',
                                    'truncated JSON', 'NUL and index')),
    # Whether the images are there is looked up later.
    ('file list', 'NUL and index'), *(('source list', odd) for odd in (
        'deep JSON', 'endless number', 'NUL', 'JSON of another shape', 'number', 'truncated JSON', 'NUL and index')),
    *(('labelled lines', odd) for odd in ('JSON of another shape', 'truncated JSON')),
    # Classes are called by their numbers.
    ('names of COCO', 'absent'), ('names of ADE20K', 'absent'),
    # Nothing measured or downloaded yet.
    ('finished cells', 'absent'), ('jobs', 'absent'), ('archives record', 'absent'),
    # The task says that there are no rows, or that judged passages are missing.
    *((reader, 'empty') for reader in ('packed texts', 'passages', 'packed passages')),
    # Python and JSON and YAML texts.
    *(('config py', odd) for odd in ('empty', 'number')),
    ('config json', 'JSON of another shape'), ('config yaml', 'JSON of another shape')}


@pytest.mark.parametrize('odd', ODD)
@pytest.mark.parametrize('reader', READERS)
def test_an_odd_file_is_one_user_error(reader, odd, tmp_path):
    name, read = READERS[reader]
    path = tmp_path / name
    ODD[odd](path)
    try:
        read(path)
        outcome = None
    except ClearError as error:
        outcome = error
    assert (outcome is None) == ((reader, odd) in FINE), outcome


BY_FOLDER = ('bank', 'metadata', 'jobs', 'archives')


@pytest.mark.parametrize('reader', [reader for reader in READERS if not reader.startswith(BY_FOLDER)])
def test_a_path_with_a_nul_is_one_user_error(reader, tmp_path):
    name, read = READERS[reader]
    try:
        read(tmp_path / f'a\0{name}')
    except ClearError as error:
        assert str(error)
    else:
        assert (reader, 'absent') in FINE  # files that need not be there


@pytest.mark.parametrize('value', ['[' * 3000 + ']' * 3000, '9' * 5000, 'a\0b', '\udcff', '[' * 3000, '"' * 3001])
def test_an_odd_option_is_text_or_a_user_error(value, tmp_path):
    try:
        options = parse_options([f'a={value}'])
    except ClearError:
        return
    assert options['a'] == value or isinstance(options['a'], float)
