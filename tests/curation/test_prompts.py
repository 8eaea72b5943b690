"""Prompts: the forms they are written in, the vectors they become, and what is refused."""

import json

import numpy as np
import pytest

from clear.core.errors import ConfigError
from clear.curation.retrieval.prompts import PromptClass, Prompts, read_concept_group, read_prompts, write_prompts

GROUP = dict(NAME='CLEAR10-TEST', PREFIX='', ALLOW_OVERLAP=0, BUCKET_DICT_PATH='bucket.json', CLIP_MODEL='RN101',
             NUM_OF_IMAGES_PER_CLASS_PER_BUCKET=300, NUM_OF_IMAGES_PER_CLASS_PER_BUCKET_TO_QUERY=16000, BACKGROUND=1,
             NEGATIVE_RATIO=0.1, SAVE_PATH='/out', GROUP=['laptop', 'camera', 'bus'])


class Letters:
    """A text tower whose vectors count letters."""

    embed_dim = 26

    def encode(self, texts):
        return np.array([[text.lower().count(chr(97 + place)) for place in range(26)] for text in texts], np.float32)


def unit(vector):
    return np.asarray(vector, float) / np.linalg.norm(vector)


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_forms_of_one_meaning():
    by_list = read_prompts(['bus', 'race car'])
    assert by_list == read_prompts({'bus': 'bus', 'race car': ['race car']})
    assert by_list == read_prompts(dict(classes=['bus', 'race car'], prefix=''))
    assert by_list.classes == (PromptClass('bus', ('bus',)), PromptClass('race car', ('race car',)))


def test_a_label_map_names_the_folders(tmp_path):
    given = ['coats, jackets, other', 'bus']
    found = read_prompts(given, label_map=write(tmp_path / 'map.json', {given[0]: 'coat', 'bus': 'bus', 'x': 'y'}))
    assert found.labels == ['coat', 'bus'] and found.classes[0].prompts == (given[0],)
    with pytest.raises(ConfigError, match="label_map has no entry for the prompt 'bus'"):
        read_prompts(given, label_map={given[0]: 'coat'})


def test_what_is_written_reads_the_same(tmp_path):
    prompts = read_prompts({'bus': ['a bus', 'a "coach"'], 'café': dict(prompts='café', negatives=['tea'])},
                           prefix='photo of ', templates=['{}', 'an old {}'], combine='mean', negatives=['text'])
    write_prompts(tmp_path / 'mine.py', prompts, 'saved\nby hand')
    assert (tmp_path / 'mine.py').read_text().startswith('# saved\n# by hand\nprompts = {')
    assert read_prompts(str(tmp_path / 'mine.py')) == prompts
    assert read_prompts(tmp_path / 'mine.py', combine='max').combine == 'max'
    plain = read_prompts(['bus'])
    assert plain.to_config() == dict(classes=dict(bus='bus'))


def test_the_earlier_config_reads_as_it_is(tmp_path):
    path = write(tmp_path / 'concept_group_dict.json', GROUP)
    found = read_concept_group(path)
    assert found.arguments == dict(k=300, q=16000, background=True, conflict='argmax', negative_ratio=0.1)
    assert (found.name, found.model, found.prompts) == ('CLEAR10-TEST', 'RN101', read_prompts(GROUP['GROUP']))
    assert read_prompts(path) == found.prompts
    overlap = read_concept_group(write(path, {**GROUP, 'ALLOW_OVERLAP': 1, 'BACKGROUND': 0, 'PREFIX': 'a '}))
    assert overlap.arguments['conflict'] == 'allow' and not overlap.arguments['background']
    assert overlap.prompts.labels == GROUP['GROUP'] and overlap.prompts.prefix == 'a '
    with pytest.raises(ConfigError, match='no concept_group_dict.json'):
        read_concept_group(write(path, dict(GROUP=['a'])))
    with pytest.raises(ConfigError, match="no key 'NEGATIV_RATIO'.*NEGATIVE_RATIO"):
        read_concept_group(write(path, {**GROUP, 'NEGATIV_RATIO': 1}))


def test_vectors_by_hand():
    prompts = read_prompts({'a': ['ab', 'aab'], 'c': dict(prompts='c', negatives='d')}, prefix='z',
                           templates=['{}', 'y{}{}'], negatives=['e'])
    encode = Letters().encode

    def of(text):
        one, two = unit(encode(['z' + text])[0]), unit(encode([f'yz{text}z{text}'])[0])
        return unit((one + two) / 2)

    found = prompts.encode(Letters())
    assert found.queries[0] == pytest.approx(np.stack([of('ab'), of('aab')]), abs=1e-6)
    assert found.queries[1] == pytest.approx(of('c')[None], abs=1e-6)
    assert found.negatives[0] == pytest.approx(of('e')[None], abs=1e-6)
    assert found.negatives[1] == pytest.approx(np.stack([of('d'), of('e')]), abs=1e-6)
    mean = read_prompts(prompts, combine='mean').encode(Letters())
    assert mean.queries[0] == pytest.approx(unit(of('ab') + of('aab'))[None], abs=1e-6)
    assert read_prompts(['a']).encode(Letters()).negatives[0].shape == (0, 26)


@pytest.mark.parametrize('given, message', [
    ([], 'name no class'), (['bus', ' '], "a text is empty|no name of a folder"), (['bus', 'Bus'], 'there twice'),
    ({'a': 'bus', 'b': ' BUS '}, "the prompts: ' BUS ' is there twice"), ({'a': []}, 'has no prompt'),
    ({'a': ['']}, 'a text is empty'), ({'a': dict(prompts='x', negatives=['x'])}, "'x' is there twice"),
    ({'a/b': 'x'}, "label 'a/b' is no name of a folder"), ({'..': 'x'}, 'no name of a folder'),
    ({'.a': 'x'}, 'no name of a folder'), ({'a\n': 'x'}, 'no name of a folder'), ({' a': 'x'}, 'no name of a folder'),
    ({'a\\b': 'x'}, 'no name of a folder'), ({'a' * 201: 'x'}, 'no name of a folder'), ({3: 'x'}, 'no name of a'),
    ({'BACKGROUND': 'x'}, 'like no class'), ({'Bus': 'x', 'bus': 'y'}, "label 'bus' is there twice"),
    ({'a': dict(prompt='x')}, "no key 'prompt'.*prompts"), ('nowhere.py', 'does not exist'), (7, 'expected a list'),
    ([1], 'expected text'), (dict(classes=['a'], prefx='b'), "no key 'prefx'"),
    (dict(classes=['a'], combine='sum'), "combine is 'sum'"), (dict(classes=['a'], templates=['x']), 'with {}')])
def test_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        read_prompts(given)


def test_labels_are_checked_for_any_way_of_building():
    with pytest.raises(ConfigError, match='no name of a folder'):
        Prompts((PromptClass('a/b', ('x',)),))


def test_a_file_without_prompts_says_so(tmp_path):
    (tmp_path / 'x.py').write_text('a = 1\n')
    with pytest.raises(ConfigError, match='assigns no `prompts`'):
        read_prompts(tmp_path / 'x.py')
