"""Class names and templates out of made-up sources in the layouts of CLIP, ELEVATER and ITRA; nothing in them runs."""

import json
from pathlib import Path

import pytest

from clear.evaluation.language.prompts import Prompting, prompt_list
from tools.dataset_converters.prompt_tables import main

# A page with a heading for each set, as CLIP's.
PAGE = '''
# Prompts

Some words.

## Birds

```bash
classes = [
    'Owl',
    'Crow',
]

templates = [
    'a photo of a {}, a type of bird.',
]
```

```bash
ls -l | wc
```

## Faces 2013
~~~python
classes = [['angry'], ['happy', 'smiling'], 'sad']
templates = ['a {} looking face.', 'a face showing {}.']
~~~
'''
# Lists of each set and two maps of all, as ELEVATER's.
MAPS = '''
import os
birds_classes = ['owl', "heron"]
birds_templates = ['a photo of a {}.'] + ['a {c} in a video game.']
digits_classes = ['0', '1']
digits_templates = ['a photo of the number: "{}".']

class_map = {
    'birds-2': birds_classes,
    'digits': digits_classes,
    'odd': [len(x) for x in os.listdir('/')],
}
class_map = {'birds-2': birds_classes, 'digits': digits_classes}
template_map = {'birds-2': birds_templates, 'digits': digits_templates}
'''
# Functions of the name, as in the notebooks of CLIP and in ProtoCLIP.
FUNCTIONS = '''
fish_classnames = ('tench', 'goldfish')
fish_template = [
    lambda c: f'a bad photo of a {c}.',
    lambda name: 'art of the {}.'.format(name),
    lambda c: 'a %s.' % c,
    lambda c: 'the ' + c,
    lambda c: '{c}, {c}'.format(c=c),
]
'''
# One file for each set, as ITRA's; the file says which.
ALONE = '''
classes = ['cat', 'dog']
prompts = ['a photo of a {}.', '一张{}的照片。']
secret = __import__('os').mkdir('ran')
'''


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Files by name and options -> exit code, what was written, and what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(files, *options):
        for name, text in files.items():
            (tmp_path / 'src').mkdir(exist_ok=True)
            (tmp_path / 'src' / name).write_text(text)
        code = main(['src', '--out', 'out.json', *options])
        written = json.loads((tmp_path / 'out.json').read_text()) if (tmp_path / 'out.json').exists() else None
        return code, written, capsys.readouterr()

    return run


def test_a_page_of_prompts(convert):
    code, written, said = convert({'prompts.md': PAGE})
    assert code == 0 and 'Faces 2013        3          2' in said.out and said.err == ''
    assert written == {
        'Birds': dict(names=['Owl', 'Crow'], templates=['a photo of a {}, a type of bird.']),
        'Faces 2013': dict(names=[['angry'], ['happy', 'smiling'], 'sad'],
                           templates=['a {} looking face.', 'a face showing {}.'])}
    faces = prompt_list(dict(file='out.json', list='Faces 2013'))
    assert faces.names == ('angry', 'happy', 'sad') and faces.known_as == ((), ('smiling',), ())
    birds = Prompting(dict(file='out.json', list='Birds')).of(['owl', 'crow'])
    assert birds.prompts == [['a photo of a Owl, a type of bird.'], ['a photo of a Crow, a type of bird.']]


def test_maps_of_all_sets(convert):
    _, written, said = convert({'prompts.py': MAPS})
    assert written == {
        'birds-2': dict(names=['owl', 'heron'], templates=['a photo of a {}.', 'a {} in a video game.']),
        'digits': dict(names=['0', '1'], templates=['a photo of the number: "{}".'])}
    # What a map that cannot be read refers to is still read by itself.
    broken = MAPS.replace("class_map = {'birds-2': birds_classes, 'digits': digits_classes}", '')
    assert convert({'prompts.py': broken}, '--overwrite')[1]['birds'] == dict(names=['owl', 'heron'])
    assert 'not read: prompts.py:8: class_map: [len(x) for x in os.listdir' in said.err


def test_a_map_of_parts(convert):
    assert convert({'a.py': "prompts: dict = {'pets': dict(classes=['cat'], templates='a {}'), 'x': {'y': 1}}"})[1] == {
        'pets': dict(names=['cat'], templates=['a {}'])}


def test_functions_and_notebooks(convert):
    expected = {'fish': dict(names=['tench', 'goldfish'],
                             templates=['a bad photo of a {}.', 'art of the {}.', 'a {}.', 'the {}', '{}, {}'])}
    assert convert({'a.py': FUNCTIONS})[1] == expected
    cells = [dict(cell_type='markdown', source=['classes = 3']), dict(cell_type='code', source=['! pip install x\n']),
             dict(cell_type='code', source=FUNCTIONS.splitlines(keepends=True))]
    assert convert({'a.py': '', 'b.ipynb': json.dumps(dict(cells=cells))}, '--overwrite')[1] == expected


def test_a_file_for_each_set_of_which_nothing_runs(convert):
    _, written, _ = convert({'pets.py': ALONE, 'empty.py': 'import nothing_of_this_name\n'})
    assert written == {'pets': dict(names=['cat', 'dog'], templates=['a photo of a {}.', '一张{}的照片。'])}
    assert sorted(path.name for path in Path().iterdir()) == ['out.json', 'src']


def test_what_is_no_template_is_said(convert):
    _, written, said = convert({'a.py': "x_classes = ['a', 3]\nx_templates = ['a {}', 'no place']\n"
                                        "y_templates = [lambda c: c.upper()]\n"})
    assert written == {'x': dict(names=['a', '3'])}
    assert "not read: a.py: x_templates of x: 'no place' has no {}" in said.err
    assert 'not read: a.py:3: y_templates: c.upper() does more than put the name into a text' in said.err


@pytest.mark.parametrize('files, options, message', [
    ({'a.py': 'x = 1'}, [], 'No class names or templates were found'), ({'a.py': 'x = ('}, [], 'is no Python'),
    ({'a.txt': 'classes'}, [], 'has no file that ends in .py'), ({'a.ipynb': '{'}, [], 'is no valid JSON'),
    ({'a.py': f'classes = {"[" * 5000}'}, [], 'is no Python'), ({'a.py': 'classes = "\0"'}, [], 'is no Python'),
    ({'a.py': "x_classes = ['a']", 'b.py': "x_classes = ['b']"}, [], "names of 'x' are others in"),
    ({'a.py': "birds_classes = ['a']"}, ['--only', 'bird'], "no list 'bird'. Nearest: 'birds'")])
def test_what_cannot_be_read_is_one_message(convert, files, options, message):
    code, written, said = convert(files, *options)
    assert code == 2 and message in said.err and written is None


def test_a_file_that_exists_is_kept(convert):
    assert convert({'pets.py': ALONE})[0] == 0
    code, _, said = convert({'pets.py': ALONE})
    assert code == 2 and 'out.json exists' in said.err
    assert convert({'pets.py': ALONE}, '--dry-run')[0] == 0 == convert({'pets.py': ALONE}, '--overwrite')[0]
    assert main(['none.md', '--out', 'x.json']) == 2
