"""Restricted pickles and JSON by pieces: what the standard library reads, and harmless where it would not be."""

import collections
import json
import os
import pickle
import random
import struct

import pytest
from legacy_trees import dump_records, record, with_classes

from clear.core.errors import DataError
from clear.curation.legacy import streaming
from clear.curation.legacy.pickles import pickled, read_pickle
from clear.curation.legacy.sources import read_records
from clear.curation.legacy.streaming import JsonStream


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_all_protocols(tmp_path, protocol):
    records = [record(number, random.Random(0), '/images') for number in range(5)]
    dump_records(records, tmp_path / 'm.pickle', protocol)
    found = read_pickle(tmp_path / 'm.pickle')
    assert [each | dict(IMG_DIR='/images', IMG_PATH=each['IMG_PATH'].rpartition('/')[2]) for each in found] == records


def test_what_is_written_loads_with_the_classes_of_the_first_generation(tmp_path):
    pieces = [[('Metadata', dict(metadata=('MetadataObject', dict(ID='1', EXIF=None, AUTO_TAG_SCORES={'é': 0.5}))))],
              [('FlickrFolder', dict(idx=3, folder='/x'))]]
    (tmp_path / 'x.pickle').write_bytes(b''.join(pickled(pieces)))

    def load(module):
        class Reader(pickle.Unpickler):
            def find_class(self, name, kind):
                assert name == '__main__'
                return getattr(module, kind)
        with (tmp_path / 'x.pickle').open('rb') as file:
            return Reader(file).load()
    photo, folder = with_classes(load)
    assert vars(photo.metadata) == dict(ID='1', EXIF=None, AUTO_TAG_SCORES={'é': 0.5})
    assert vars(folder) == dict(idx=3, folder='/x')
    assert read_pickle(tmp_path / 'x.pickle') == [vars(photo.metadata), vars(folder)]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('make', [
    lambda mark: pickle.dumps([Touch(mark)]), lambda mark: pickle.dumps([Touch(mark)], 0),
    lambda mark: pickle.dumps(collections.OrderedDict(a=1)),
    lambda mark: b'cbuiltins\neval\n(Vopen("%s", "w")\ntR.' % str(mark).encode(),
    lambda mark: b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.',
    lambda mark: b'(ios\nmkdir\nS"%s"\np0\n.' % str(mark).encode(),  # INST
    lambda mark: b'ctemp\nFlickrFolder.__init__.__globals__\n.'])
def test_nothing_is_run(tmp_path, make):
    (tmp_path / 'x.pickle').write_bytes(make(tmp_path / 'mark'))
    with pytest.raises(DataError, match=r'x.pickle: it (asks for|has the instruction)'):
        read_pickle(tmp_path / 'x.pickle')
    assert not (tmp_path / 'mark').exists()


def itself():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize('content, message', [
    (pickle.dumps(['x' * 100])[:50], 'is damaged'), (b'', 'is damaged'), (b'hello', 'the instruction OBJ'),
    (b'\x80\x02]r' + struct.pack('<I', 4_000_000_000) + b'.', 'its memory has gaps'),
    (b'\x80\x04\x8d' + struct.pack('<Q', 1 << 40) + b'abc.', 'is damaged'),  # a text that says it is a terabyte
    (pickle.dumps(itself()), 'holds itself'), (b'(' * 100_000 + b'.', 'is damaged'),
    (b'ccopyreg\n_reconstructor\n(cbuiltins\nobject\nNtR.', 'none of the earlier curation'),
    (b'ccopyreg\n_reconstructor\n}(Vx\nVy\nub.', 'is damaged')])
def test_damaged_and_hostile_pickles(tmp_path, content, message):
    (tmp_path / 'x.pickle').write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pickle(tmp_path / 'x.pickle')


def test_too_large_a_pickle(tmp_path):
    (tmp_path / 'x.pickle').write_bytes(pickle.dumps('x' * 1000))
    with pytest.raises(DataError, match='at most 999 are read'):
        read_pickle(tmp_path / 'x.pickle', 999)


def random_value(rng, depth=3):
    kind = rng.randrange(8 if depth else 6)
    if kind == 6:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(6))]
    if kind == 7:
        return {rng.choice('abcdé"\\') * rng.randrange(3): random_value(rng, depth - 1)
                for _ in range(rng.randrange(6))}
    return [None, True, rng.randrange(-10**12, 10**12), rng.random(), 'x\u2028"\\é\n' * rng.randrange(4), -0.0][kind]


def by_steps(stream):
    first = stream.peek()
    if first == '[':
        return [by_steps(stream) for _ in stream.elements()]
    if first == '{':
        return {key: by_steps(stream) for key in stream.items()}
    return stream.value()


@pytest.mark.parametrize('piece', [1, 2, 7, 1 << 20])
def test_json_by_pieces_equals_json_as_a_whole(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(streaming, 'PIECE', piece)
    rng = random.Random(0)
    for number in range(60):
        value = [random_value(rng), random_value(rng), 12]
        text = json.dumps(value, indent=rng.choice([None, 2]), ensure_ascii=rng.random() < 0.5)
        (tmp_path / 'x.json').write_text(text, encoding='utf-8-sig' if number % 7 == 0 else 'utf-8')
        with JsonStream(tmp_path / 'x.json') as stream:
            assert by_steps(stream) == json.loads(text)
            stream.end()
        with JsonStream(tmp_path / 'x.json') as stream:
            steps = stream.elements()
            next(steps)
            stream.skip()
            next(steps)
            assert stream.value() == value[1]


@pytest.mark.parametrize('text', ['', '[', '[1', '[1,', '[1 2]', '{"a" 1}', '{"a": 1', '{1: 2}', '[1] x', '["a', '[tru',
                                  '[' * 100_000, '[1,,2]'])
def test_damaged_json_is_named(tmp_path, text):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(DataError, match=r'x.json is no valid JSON at character [0-9,]+: '), \
            JsonStream(tmp_path / 'x.json') as stream:
        for _ in stream.elements() if text.startswith('[') else stream.items():
            stream.value()
        stream.end()


def test_memory_is_that_of_one_value(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, 'PIECE', 1000)
    (tmp_path / 'x.json').write_text(json.dumps([['x' * 100] * 10] * 1000))
    most = 0
    with JsonStream(tmp_path / 'x.json') as stream:
        for _ in stream.elements():
            stream.value()
            most = max(most, len(stream._text))
    assert most < 5000
    (tmp_path / 'x.json').write_text('["' + 'x' * 100_000)
    with pytest.raises(DataError, match='longer than 20,000 characters, or never ends'), \
            JsonStream(tmp_path / 'x.json', 20_000) as stream:
        stream.value()


@pytest.mark.parametrize('content, expected', [
    ([dict(ID='1')], [(None, '1')]),
    (dict(indices=[0], all_metadata=[dict(ID='1', x={}), dict(ID='2')], min_date='x'), [('7', '1'), ('7', '2')]),
    ({'0': dict(indices=[0, 1], folder_path='/x', all_metadata=[dict(ID='1')]), 'b': dict(all_metadata=[dict(ID='2')])},
     [('0', '1'), ('b', '2')]),
    ({'1': dict(ID='1', IMG_PATH='a', AUTO_TAG_SCORES={'a': 1})}, [('7', '1')])])
def test_forms_of_lists(tmp_path, content, expected):
    (tmp_path / 'bucket_7.json').write_text(json.dumps(content))
    assert [(name, each['ID']) for name, each in read_records(tmp_path / 'bucket_7.json')] == expected


@pytest.mark.parametrize('content, message', [([], 'holds no records'), ({'a': {'b': 1}}, 'holds no records'),
                                              ([1], 'a record without ID'), (3, 'no valid JSON')])
def test_other_json_is_refused(tmp_path, content, message):
    (tmp_path / 'x.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        list(read_records(tmp_path / 'x.json'))
