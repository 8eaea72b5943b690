"""Bad input of every source ends `tools/curate.py` with one line and a code that is not 0."""

import gzip
import random
import runpy
from pathlib import Path

import pytest
from metadata_files import row, write, write_json_lines, write_sqlite
from own_streams import write_posts

ROOT = Path(__file__).parents[2]
RNG = random.Random(4)
ROWS = [row(number, RNG) for number in range(20)]


def cut(path, count=9):
    path.write_bytes(path.read_bytes()[:-count])


def side_cut_short(root):
    write(root / 'a.tsv', ROWS)
    cut(write(root / 'exif.gz', [[cells[0], 'k:v'] for cells in ROWS]))


def own_table_cut_short(root):
    write_posts(root / 'posts.csv')
    (root / 'posts.csv.gz').write_bytes(gzip.compress((root / 'posts.csv').read_bytes()))
    cut(root / 'posts.csv.gz')


METADATA = "dict(type='Metadata', root='{root}', files='a*')"
SIDE = f"{METADATA}, dict(type='SideFiles', root='{{root}}', exif='exif.gz')"
POSTS = "dict(type='TableRecords', root='{{root}}', files='{}', url='image_url', time='posted', time_format={})"
CASES = dict(
    no_file=(lambda root: None, METADATA, 'a* finds no file.'),
    empty=(lambda root: (root / 'a.tsv').touch(), METADATA, 'a.tsv has no lines.'),
    cut_short=(lambda root: cut(write(root / 'a.bz2', ROWS)), METADATA, 'a.bz2 is damaged or cut short'),
    json_cut_short=(lambda root: cut(write_json_lines(root / 'a.gz', ROWS)), METADATA, 'a.gz is damaged or cut short'),
    twice=(lambda root: write(root / 'a.tsv', [*ROWS, ROWS[4]]), METADATA, 'id 3000000004 in a.tsv:5 and a.tsv:21'),
    twice_in_json=(lambda root: write_json_lines(root / 'a.json', [ROWS[0], *ROWS]), METADATA,
                   'id 3000000000 in a.json:1 and a.json:2'),
    column=(lambda root: write(root / 'a.tsv', [cells[1:] for cells in ROWS]), METADATA, 'has 22 columns; expected 23'),
    table=(lambda root: write_sqlite(root / 'a.db', ROWS, table='yfcc100m'), METADATA,
           "a.db has no table 'yfcc100m_dataset'. Did you mean"),
    side_file=(lambda root: write(root / 'a.tsv', ROWS), SIDE, 'exif.gz does not exist.'),
    side_cut_short=(side_cut_short, SIDE, 'exif.gz is damaged or cut short'),
    own_column=(lambda root: write_posts(root / 'posts.csv'), POSTS.format('posts.csv', "'%Y'").replace(
        'image_url', 'image_ulr'), "posts.csv has no column 'image_ulr'. Did you mean 'image_url'"),
    own_format=(lambda root: write_posts(root / 'posts.csv'), POSTS.format('posts.csv', "'%d.%m.%Y'"),
                'no row is a record. 30 rejected: time fits no format.'),
    own_cut_short=(own_table_cut_short, POSTS.format('posts.csv.gz', "'%Y-%m-%d'"),
                   'posts.csv.gz is damaged or cut short'),
    no_folder=(lambda root: None, "dict(type='PhotoFolder', root='{root}/photos')", 'photos does not exist.'),
    no_folder_but_a_file=(lambda root: (root / 'photos').touch(), "dict(type='PhotoFolder', root='{root}/photos')",
                          'photos is no folder.'),
    no_photos=(lambda root: None, "dict(type='PhotoFolder', root='{root}')", 'holds no photos.'))


@pytest.mark.parametrize('name', CASES)
def test_one_message(tmp_path, capsys, name):
    make, stages, message = CASES[name]
    root = tmp_path / 'data'
    root.mkdir()
    make(root)
    (tmp_path / 'config.py').write_text(f'stages = [{stages.format(root=root)}]\n')
    main = runpy.run_path(str(ROOT / 'tools/curate.py'))['main']
    assert main([str(tmp_path / 'config.py'), '--work-dir', str(tmp_path / 'run')]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and 'Traceback' not in told and told.count('\n') == 0
    assert not list(tmp_path.glob('run/stages/*/manifest.json'))
    assert not list(tmp_path.glob('run/stages/*/tmp/*/*.parquet'))


def test_a_config_of_a_training(capsys):
    main = runpy.run_path(str(ROOT / 'tools/curate.py'))['main']
    config = 'demo/naive_lenet5_curation-demo.py'
    assert main([config, '--dry-run']) == 2
    assert capsys.readouterr().err == f'error: {config} has no stages; tools/train.py runs it.\n'
