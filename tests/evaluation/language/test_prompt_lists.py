"""Lists of class names and prompts: counts, other names, files of users, and whether a list fits the data."""

import importlib.metadata
import json
import sys

import pytest
from doc_pages import ROOT, names_in, table

from clear.core.errors import ConfigError, DataError
from clear.evaluation.language.class_names import list_rows, plain_name
from clear.evaluation.language.prompt_lists import _packaged, _read, known_prompt_lists, prompt_list
from clear.evaluation.language.prompts import Prompting

pytestmark = pytest.mark.skipif(not any(found.name == 'clip-benchmark' for found in importlib.metadata.distributions()),
                                reason='clip-benchmark is missing')
CIFAR10 = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']

# How many classes and templates the package has; 0 where names or templates are not in it.
COUNTS = {
    'imagenet': (1000, 80), 'imagenet/simple': (1000, 7), 'imagenet/cn': (1000, 80), 'imagenet/ar': (1000, 55),
    'imagenet/it': (1000, 49), 'imagenet/jp': (1000, 37), 'imagenet/cupl': (1000, 0), 'caltech101': (102, 34),
    'cars': (0, 8), 'cifar10': (0, 18), 'cifar100': (0, 18), 'country211': (211, 5), 'dtd': (0, 8), 'eurosat': (10, 3),
    'fer2013': (7, 6), 'fgvc_aircraft': (0, 2), 'flowers': (102, 1), 'food101': (0, 1), 'gtsrb': (43, 3),
    'kitti_closest_vehicle_distance': (4, 1), 'mnist': (10, 1), 'pcam': (2, 2), 'pets': (37, 1),
    'clevr_count_all': (8, 1), 'renderedsst2': (0, 1), 'resisc45': (0, 4), 'stl10': (0, 2), 'sun397': (0, 2),
    'svhn': (10, 6), 'voc2007': (0, 1)}


@pytest.mark.parametrize('name', COUNTS)
def test_counts(name):
    found = prompt_list(name)
    assert (len(found.names or ()), len(found.templates or ())) == COUNTS[name]
    assert all('{}' in template and '{c}' not in template for template in found.templates or ())


def test_seventeen_sets_have_names_and_thirty_three_templates():
    lists = {name: prompt_list(name) for name in _packaged() if '/' not in name}
    assert sum(found.names is not None for found in lists.values()) == 16  # and ImageNet
    assert sum(found.templates is not None for found in lists.values()) == 32
    assert set(COUNTS) <= set(known_prompt_lists())


def test_the_page_has_every_list_with_its_counts():
    rows = table(ROOT / 'docs' / 'zero_shot.md', 'list')
    assert {names_in(name)[0]: (int(classes), int(templates)) for name, classes, templates, _ in rows} == {
        name: (len(prompt_list(name).names or ()), len(prompt_list(name).templates or ()))
        for name in known_prompt_lists()}


def test_names_and_templates_of_imagenet_in_the_package_are_open_clips():
    # Read here by json alone.
    place = importlib.metadata.distribution('clip-benchmark').locate_file('clip_benchmark/datasets')
    ours = prompt_list('imagenet')
    names = json.loads((place / 'en_classnames.json').read_text())['imagenet1k']
    templates = json.loads((place / 'en_zeroshot_classification_templates.json').read_text())['imagenet1k']
    assert list(ours.names) == names
    assert [template.replace('{}', '{c}') for template in ours.templates] == templates
    assert ours.known_as[:2] == (('n01440764',), ('n01443537',))


def test_cupl_is_keyed_by_name_so_that_two_classes_of_one_name_share_texts():
    found = prompt_list('imagenet/cupl')
    assert len(found.descriptions) == 998 == len(set(found.names))
    assert {len(texts) for texts in found.descriptions.values()} == {150}
    assert {name for name in found.names if found.names.count(name) > 1} == {'missile', 'sunglasses'}
    # Of some classes, by the ids that their folders are called by.
    some = Prompting(templates='imagenet/cupl', match='name').of(['n04356056', 'n01440764', 'n04355933'])
    assert some.names == ['sunglasses', 'tench', 'sunglasses'] and some.prompts[0] == some.prompts[2]
    assert some.prompts[1] == list(found.descriptions['tench']) and some.templates == []


def test_chinese_names_are_compared_by_their_english_ones():
    chinese = prompt_list('imagenet/cn')
    assert chinese.names[0] == '丁鲷' and chinese.templates[0] == '{}的照片。'
    english = [f'{name} ({row})' if name in ('missile', 'sunglasses') else name
               for row, name in enumerate(prompt_list('imagenet').names)]
    assert list_rows(chinese.names, english, known_as=chinese.known_as, is_own=False)[1] == 'names'


@pytest.mark.parametrize('alias, name', [
    ('CIFAR-10', 'cifar10'), ('FGVCAircraft', 'fgvc_aircraft'), ('OxfordIIITPet', 'pets'), ('ImageNet1k', 'imagenet'),
    ('StanfordCars', 'cars'), ('imagenet1k/CN', 'imagenet/cn'), ('Flowers102', 'flowers'), ('PatchCamelyon', 'pcam')])
def test_names_of_lists_are_read_kindly(alias, name):
    assert prompt_list(alias) == prompt_list(name)


def test_unknown_lists_name_the_nearest():
    with pytest.raises(ConfigError, match="There is no list of prompts 'cifra10'. Nearest: 'cifar10', 'cifar100'"):
        prompt_list('cifra10')


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'distribution', missing)
    _read.cache_clear()
    assert len(prompt_list('imagenet').names) == 1000
    assert known_prompt_lists() == ['imagenet', 'imagenet/simple']
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'clear-framework\[zeroshot\]'$"):
        prompt_list('cifar10')


def test_none_of_the_packages_code_is_imported():
    before = set(sys.modules)
    assert prompt_list('imagenet/cupl') and prompt_list('cifar10')
    assert not [name for name in set(sys.modules) - before if name.startswith('clip_benchmark')]


def written(folder, content):
    path = folder / 'lists.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_users_file(tmp_path):
    content = dict(names=['cat', ['dog', 'hound']], templates=['a {c}'], descriptions=[['x'], ['y', 'z']])
    path = written(tmp_path, content)
    found = prompt_list(dict(file=path))
    assert found.names == ('cat', 'dog') and found.known_as == ((), ('hound',)) and found.templates == ('a {}',)
    assert found.descriptions == {'cat': ('x',), 'dog': ('y', 'z')} and found.source == 'lists.json'
    path = written(tmp_path, {'birds': dict(names=['owl']), 'pets': dict(names=['cat', 'dog'])})
    assert prompt_list(dict(file=path, list='pets')).names == ('cat', 'dog')


def test_a_text_file_holds_names_or_templates(tmp_path):
    names, templates, mixed = (tmp_path / f'{name}.txt' for name in ('classnames', 'templates', 'mixed'))
    names.write_text('cat\n barn owl \n\n')
    templates.write_text('a {c}.\n\nthe {}\r\n')
    assert prompt_list(dict(file=str(names))).names == ('cat', 'barn owl')
    assert prompt_list(dict(file=str(templates))).templates == ('a {}.', 'the {}')
    with pytest.raises(ConfigError, match='classnames.txt has neither templates nor descriptions'):
        Prompting(templates=dict(file=str(names)))
    mixed.write_text('a {c}\nthe cat\n')
    with pytest.raises(DataError, match="mixed.txt: line 'the cat' has no {}, and others have"):
        prompt_list(dict(file=str(mixed)))
    names.write_text('\n')
    with pytest.raises(DataError, match='classnames.txt: names is'):
        prompt_list(dict(file=str(names)))
    with pytest.raises(ConfigError, match="leave list='x' out"):
        prompt_list(dict(file=str(templates), list='x'))


@pytest.mark.parametrize('content, message', [
    ('[1]', 'a JSON list'), ('{', 'no valid JSON'), ({}, 'some of names, templates'), ({'names': 'cat'}, 'names is'),
    ({'names': ['cat', '']}, 'name 1 is'), ({'names': ['cat', 3]}, 'name 1 is'), ({'name': ['cat']}, "the key 'name'"),
    ({'templates': ['a photo']}, 'where the class name goes'), ({'templates': 'a {}'}, 'templates is'),
    ({'descriptions': {'cat': []}}, "the descriptions of 'cat'"),
    ({'descriptions': [['x']]}, 'as many different names'),
    ({'names': ['cat', 'dog'], 'descriptions': {'cat': ['x']}}, "'dog' has no description"),
    ({'a': {'names': ['cat']}, 'b': {'names': ['dog']}}, r"2 lists \(a, b\): say which, dict\(file=..., list='a'")])
def test_files_of_another_shape_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        prompt_list(dict(file=written(tmp_path, content)))


def test_missing_files_and_lists_are_refused(tmp_path):
    with pytest.raises(DataError, match=r'none.json does not exist.*prompt_tables.py .*--out .*none.json'):
        prompt_list(dict(file=str(tmp_path / 'none.json')))
    with pytest.raises(DataError, match=r'none.txt does not exist\.$'):
        prompt_list(dict(file=str(tmp_path / 'none.txt')))
    with pytest.raises(DataError, match="has no list 'pest'. Nearest: 'pets'"):
        prompt_list(dict(file=written(tmp_path, {'pets': dict(names=['cat'])}), list='pest'))


@pytest.mark.parametrize('known, options, expected', [
    (CIFAR10, {}, ([*range(10)], 'names')), ([name.upper() for name in CIFAR10], {}, ([*range(10)], 'names')),
    ([str(row) for row in range(10)], {}, ([*range(10)], 'numbers')),
    ([str(row) for row in range(1, 11)], {}, ([*range(10)], 'numbers')),
    ([f'n0{row}' for row in range(10)], {}, ([*range(10)], 'order')),
    (['ship', 'cat'], dict(match='name'), ([8, 3], 'names')), (['8', '0'], dict(match='name'), ([8, 0], 'numbers')),
    (CIFAR10[::-1], dict(match='name'), ([*range(9, -1, -1)], 'names')),
    (CIFAR10[::-1], dict(match='order'), ([*range(10)], 'order')),
    ([f'oiseau {row}' for row in range(10)], {}, ([*range(10)], 'order')),
    (['aeroplane', *CIFAR10[1:]], dict(is_own=False), ([*range(10)], 'names'))])
def test_lists_that_fit(known, options, expected):
    assert list_rows(CIFAR10, known, **options) == expected


@pytest.mark.parametrize('known, options, message', [
    (CIFAR10[:9], {}, "10 names, the bank of 'test' 9 classes. match='name' takes those"),
    ([*CIFAR10, 'yak'], {}, '10 names, .* 11 classes.$'),
    ([CIFAR10[1], CIFAR10[0], *CIFAR10[2:]], {}, "class 0 of the data is 'automobile', that of the list 'airplane'"),
    # As text '10' comes before '2'.
    (['1', '10', *map(str, range(2, 10))], {}, "class 1 of the data is '10', that of the list 'automobile'"),
    ([f'oiseau {row}' for row in range(10)], dict(is_own=False), 'does not look like .*: 0 of 10'),
    (['cat', 'yak'], dict(match='name'), "no name of 1 classes of 'test', the first is 'yak'")])
def test_lists_that_do_not_fit_are_refused(known, options, message):
    with pytest.raises(DataError, match=message):
        list_rows(CIFAR10, known, **options)


def test_folders_of_imagenet_are_known_by_their_ids():
    found = prompt_list('imagenet')
    known = ['n01443537', 'n01440764', 'n01484850']
    rows, by = list_rows(found.names, known, 'name', known_as=found.known_as)
    assert [found.names[row] for row in rows] == ['goldfish', 'tench', 'great white shark'] and by == 'names'
    with pytest.raises(DataError, match='another order'):
        list_rows(found.names[:3], known, known_as=found.known_as)


def test_plain_names():
    assert plain_name('Café_au-lait 2') == 'cafeaulait2' and plain_name('丁鲷') == '丁鲷'
