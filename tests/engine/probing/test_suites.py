"""Tasks of other configs, in the place of the entry that names them."""

import pytest
from tiny_text import TINY_CLIP

from clear.core.errors import USER_ERRORS
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.suites import expanded

DATA = dict(test=dict(type='ImageFolder', root='images'), train=dict(type='ImageFolder', root='images'))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'words.py').write_text("tasks = [dict(type='SentenceSimilarity', path='pairs.tsv'),\n"
                                       "         dict(type='KNN')]\n")
    (tmp_path / 'more.py').write_text(f"data = {DATA!r}\nencoders = dict(not_read=dict(bank='x'))\n"
                                      "tasks = [dict(suite='words.py'),\n"
                                      "         dict(type='KNN', name='own', data=dict(test='t'))]\n")
    (tmp_path / 'round.py').write_text("tasks = [dict(suite='again.py')]\n")
    (tmp_path / 'again.py').write_text("tasks = [dict(suite='round.py')]\n")
    (tmp_path / 'empty.py').write_text('seed = 1\n')
    (tmp_path / 'grid.py').write_text("tasks = [dict(type='LinearProbe')]\ngrid = dict(lrs=[0.1])\n")
    return tmp_path


def test_tasks_stand_where_their_suite_was_named(folder):
    found = expanded([dict(type='ZeroShot'), dict(suite='more.py', features='backbone'),
                      dict(suite='words.py', data=DATA)])
    assert found == [
        dict(type='ZeroShot'),
        dict(type='SentenceSimilarity', path='pairs.tsv', features='backbone'),
        dict(type='KNN', data=DATA, features='backbone'),
        dict(type='KNN', name='own', data=dict(test='t'), features='backbone'),
        dict(type='SentenceSimilarity', path='pairs.tsv'), dict(type='KNN', data=DATA)]


def test_a_config_of_suites_is_checked_as_one_of_its_tasks(folder):
    cfg = with_defaults(dict(tasks=[dict(suite='words.py', data=DATA)], encoders=dict(pair=dict(
        image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP),
        text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP)))))
    check_probe_config(cfg)
    assert [task['type'] for task in cfg['tasks']] == ['SentenceSimilarity', 'KNN']
    assert with_defaults(cfg) == cfg
    with pytest.raises(USER_ERRORS, match="Two tasks are called 'KNN'"):
        check_probe_config(with_defaults({**cfg, 'tasks': [*cfg['tasks'], dict(suite='words.py', data=DATA)]}))


def test_data_of_a_suite_lie_elsewhere_and_options_go_to_the_tasks_that_have_them(folder):
    (folder / 'own.py').write_text(
        "data = dict(test=dict(type='Subset', every=2, images=dict(type='ImageFolder', root='data/pets')))\n"
        "tasks = [dict(type='KNN', k=5), dict(type='LinearProbe', data=dict(test=dict(type='CLEAR', data_root='data')),"
        " epochs=100), dict(type='NearestClassMean', data=dict(test=dict(type='Table', path='data/t.csv',"
        " root='database')))]\n")
    knn, linear, mean = expanded([dict(suite='own.py', data_root='/mnt/demo', options=dict(epochs=2))])
    assert knn == dict(type='KNN', k=5, data=dict(test=dict(type='Subset', every=2, images=dict(
        type='ImageFolder', root='/mnt/demo/pets'))))
    assert linear == dict(type='LinearProbe', epochs=2, data=dict(test=dict(type='CLEAR', data_root='/mnt/demo')))
    assert mean['data']['test'] == dict(type='Table', path='data/t.csv', root='database')
    own = dict(test=dict(type='ImageFolder', root='data/mine'))
    assert expanded([dict(suite='own.py', data_root='x', data=own)])[0]['data'] == own


@pytest.mark.parametrize('entry, message', [
    (dict(suite='words.py', options=dict(epocs=2)), "options has 'epocs', which no task of the suite words.py"),
    (dict(suite='words.py', options=3), 'options is 3'), (dict(suite='words.py', data_root=3), 'data_root is 3'),
    (dict(suite='round.py'), r'suite round.py names itself \(round.py -> again.py -> round.py\)'),
    (dict(suite='empty.py'), 'suite empty.py has no tasks'), (dict(suite='grid.py'), 'suite grid.py has a grid'),
    (dict(suite='nowhere.py'), 'nowhere.py does not exist'), (dict(suite=5), 'tasks: suite is 5'),
    (dict(suite='words.py', k=3), "no key 'k'")])
def test_what_is_no_suite_is_refused(folder, entry, message):
    with pytest.raises(USER_ERRORS, match=message):
        expanded([entry])
