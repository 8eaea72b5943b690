"""Lists of addresses and captions: the collector of Conceptual Captions, and plain lists, by the same stage."""

import gzip
from pathlib import Path

import pytest
from mmengine.config import Config
from photo_server import PATIENT, photo, serving
from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.curation import UrlList
from clear.curation.manifest import Finished
from clear.engine.stages.runner import StageRunner
from clear.registry import DATASETS, READERS

CONFIGS = Path(__file__).parents[2] / 'configs' / 'curation'
SHAPES = ((20, 20), (60, 20), (61, 20), (20, 60), (20, 70), (30, 20))
CAPTIONS = ['a "lone quote', 'two words', "it 's  <PERSON> , here", 'café à Paris', 'x', 'last one']


@pytest.fixture
def server():
    with serving() as made:
        for number, shape in enumerate(SHAPES):
            made.files[f'/{number}.jpg'] = photo(number, *shape)
        yield made


def lists(tmp_path, server):
    (tmp_path / 'Train_GCC-training.tsv').write_bytes(b''.join(
        f'{caption}\t{server.url}/{number}.jpg\n'.encode() for number, caption in enumerate(CAPTIONS)))
    (tmp_path / 'Validation_GCC-1.1.0-Validation.tsv').write_bytes(
        f'seen again\t{server.url}/0.jpg\r\ngone\t{server.url}/gone.jpg\n'.encode())


def shipped(name, tmp_path, server, **changes):
    """A shipped config on local files and a local host."""
    stages = []
    for stage in Config.fromfile(CONFIGS / name).to_dict()['stages']:
        stage = {key: value for key, value in stage.items() if key != '_scope_'}
        if stage['type'] == 'Download':
            stage |= dict(limits=stage.get('limits', {}) | PATIENT | dict(allow=[server.origin]), pass_wait_s=0.01)
            stage |= changes
        else:
            stage['root'] = str(tmp_path)
        stages.append(stage)
    return dict(stages=stages)


def test_conceptual_captions_become_shards_that_are_trained_on(tmp_path, server):
    lists(tmp_path, server)
    StageRunner(shipped('cc3m_pairs.py', tmp_path, server), tmp_path / 'run').run()
    train, val = (Finished(tmp_path / 'run/stages' / name) for name in ('train', 'val'))
    assert train.counts == dict(records=6, ok=4, aspect=2) and val.counts == dict(records=2, ok=1, http_4xx=1)
    pairs = DATASETS.build(dict(type='WebDatasetPairs', shards=f'{tmp_path}/run/stages/train/shards/*/images.tar',
                                transform=[dict(type='ToTensor')]))
    kept = [0, 1, 3, 5]
    assert [pairs.images.captions(row)[0] for row in range(len(pairs))] == [CAPTIONS[number] for number in kept]
    assert [pairs.images.content(row) for row in range(len(pairs))] == [photo(number, *SHAPES[number])
                                                                        for number in kept]


def test_a_pattern_of_shards_that_finds_none(tmp_path):
    with pytest.raises(DataError, match=r'shards/\*/images.tar finds no file'):
        DATASETS.build(dict(type='WebDatasetPairs', shards=f'{tmp_path}/shards/*/images.tar', transform=[]))


def test_in_files_they_are_the_table_that_the_earlier_collector_wrote(tmp_path, server):
    lists(tmp_path, server)
    StageRunner(shipped('cc3m_pairs.py', tmp_path, server, store='files'), tmp_path / 'run').run()
    root = tmp_path / 'run/stages/train'
    assert (root / 'pairs.tsv').read_text().splitlines()[:2] == ['title\tfilepath',
                                                                 'a "lone quote\tshards/000000/files/0000/0.jpg']
    table = READERS.build(dict(type='ImageTextTable', path=str(root / 'pairs.tsv')))
    assert [table.captions(row)[0] for row in range(len(table))] == [CAPTIONS[number] for number in (0, 1, 3, 5)]
    assert Finished(root).summary['pairs'] == 4


def test_a_plain_list(tmp_path, server):
    (tmp_path / 'a.txt').write_text(f'{server.url}/0.jpg\n\n {server.url}/1.jpg \n')
    (tmp_path / 'b.txt').write_bytes(gzip.compress(f'{server.url}/0.jpg'.encode()))
    StageRunner(shipped('url_list.py', tmp_path, server), tmp_path / 'run').run()
    assert UrlList('*.txt', str(tmp_path)).preview() == ['a.txt  3 lines', 'b.txt  1 lines']
    made = Finished(tmp_path / 'run/stages/download')
    images = parquet.read_table(made.files('images.parquet')[0])
    assert images['id'].to_pylist() == [0, 2] and images['uploaded_at'].null_count == 2
    assert {name: sum(years.values()) for name, years in made.summary['by_year'].items()} == dict(ok=2, duplicate=1)
    assert not (tmp_path / 'run/stages/download/pairs.tsv').exists()


@pytest.mark.parametrize('shard_rows', [1, 3, 100])
@pytest.mark.parametrize('packed', [False, True])
def test_lines_that_are_none_are_named(tmp_path, shard_rows, packed):
    text = ('one\thttp://a/1\nno address\t\n\thttp://a/2\nthree\tcells\thttp://a/3\n "quoted"\t http://a/4\r\n'
            + 'x' * (1 << 20) + '\thttp://a/5\n   \thttp://a/6\nlast\thttp://a/7').encode()
    (tmp_path / 'list').write_bytes(gzip.compress(text) if packed else text)
    stage = dict(type='UrlList', files='list', root=str(tmp_path), columns=['caption', 'url'], shard_rows=shard_rows)
    StageRunner(dict(stages=[stage]), tmp_path / 'run').run()
    made = Finished(tmp_path / 'run/stages/url_list')
    rows = [row for path in made.files('records.parquet') for row in parquet.read_table(path).to_pylist()]
    assert [(row['id'], row['line'], row['caption'], row['url']) for row in rows] == [
        (0, 0, 'one', 'http://a/1'), (4, 4, '"quoted"', 'http://a/4'), (7, 7, 'last', 'http://a/7')]
    reasons = {row['line']: row['reason'] for path in made.files('rejected.parquet')
               for row in parquet.read_table(path).to_pylist()}
    assert reasons == {1: 'no address', 2: 'no caption', 3: '3 columns in place of 2', 5: 'longer than 1 MiB',
                       6: 'no caption'}


@pytest.mark.parametrize('columns', [['caption'], ['url', 'url'], ['url', 'text'], 'url', []])
def test_columns_that_cannot_be(columns):
    with pytest.raises(ConfigError, match="expected one 'url'"):
        UrlList('x', columns=columns)


def test_a_list_of_nothing(tmp_path):
    (tmp_path / 'list').write_text('a\tb\n')
    with pytest.raises(DataError, match=r'no row is a record. 1 rejected: wrong number of columns'):
        StageRunner(dict(stages=[dict(type='UrlList', files='list', root=str(tmp_path))]), tmp_path / 'run').run()
