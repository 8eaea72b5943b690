"""The page: what it shows, judges and keeps; by streamlit's own tester, and by a browser."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import app_places
import numpy as np
import pytest
from PIL import Image

from clear.core.config import load_config
from clear.core.errors import ConfigError, DataError
from clear.curation.app import serve
from clear.curation.app.places import ALL, OpenPlace, Place, thumbnail, web_link
from clear.curation.retrieval.prompts import read_prompts
from clear.curation.verification.answers import read_answers
from clear.engine.stages.app import session_of

ROOT = Path(__file__).parents[2]
pytest.importorskip('streamlit')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('page')
    app_places.write_place(folder)
    return folder


@pytest.fixture(scope='module')
def place(folder):
    return OpenPlace(session_of(load_config(folder / 'config.py')[0]).places[0])


def test_texts_and_images_find_what_they_show(folder, place):
    found = place.search(place.of_text('a cup of coffee'), ALL, 8)
    assert [app_places.subject_of(str(each)) for each in found.ids] == ['coffee'] * 8
    hits = place.hits(found)
    assert [hit.bucket for hit in hits] == [str((int(hit.id) - 100) // 16) for hit in hits]
    assert all(hit.image.size[0] >= 96 and hit.time.year == 2010 + int(hit.bucket) for hit in hits)
    assert place.bucket_counts(found) == {name: sum(hit.bucket == name for hit in hits) for name in '012'}
    inside = place.search(place.of_text('a cat'), '2', 100)
    assert len(inside) == 16 and {hit.bucket for hit in place.hits(inside)} == {'2'}
    content = (folder / 'images/1' / '116.jpg').read_bytes()  # itself comes first
    assert str(place.search(place.of_image(content), ALL, 1).ids[0]) == '116'
    with pytest.raises(ConfigError, match="no bucket '7'; there are 0, 1, 2"):
        place.search(place.of_text('a cat'), '7', 1)
    with pytest.raises(DataError, match='cannot be read'):
        place.of_image(b'<svg/>')


def test_images_outside_of_the_roots_are_not_shown(tmp_path, folder, place):
    (tmp_path / 'secret').mkdir()
    Image.new('RGB', (50, 50), 'red').save(tmp_path / 'secret/x.jpg')
    shutil.copytree(folder / 'images', tmp_path / 'images')
    (tmp_path / 'images/0/100.jpg').unlink()
    (tmp_path / 'images/0/100.jpg').symlink_to(tmp_path / 'secret/x.jpg')

    def image(**more):
        opened = OpenPlace(Place('x', [str(folder / 'bank')], root=str(tmp_path / 'images'), **more))
        found = opened.search(np.asarray(opened.banks[0].features[0], np.float32), ALL, 48)
        return {hit.id: hit.image for hit in opened.hits(found)}

    assert image()['100'] is None and sum(each is not None for each in image().values()) == 47
    assert image(roots=[str(tmp_path / 'secret')])['100'].size == (50, 50)


@pytest.mark.parametrize('text, shown', [
    ('https://photos.example/1', True), ('http://photos.example/', True), ('javascript:alert(1)', False),
    ('file:///etc/hosts', False), ('//photos.example', False), ('https:', False), ('http://[', False), (None, False)])
def test_links_are_of_the_web(text, shown):
    assert web_link(text) == (text if shown else '')


def test_thumbnails_leave_the_image_alone():
    image = Image.new('RGB', (400, 100))
    assert thumbnail(image, 40).size == (40, 10) and image.size == (400, 100)


@pytest.mark.parametrize('app, message', [
    (dict(bank=[]), "'bank'.*'banks'"), (dict(banks='x'), 'expected a list of dicts'),
    (dict(banks=[dict(name='x')]), r"app.banks\[0\] is"), (dict(banks=[dict(path='x', rot='y')]), "'rot'.*'root'"),
    (dict(banks=[dict(path='none')]), 'neither a feature bank nor a finished stage')])
def test_configs_that_show_nothing(tmp_path, app, message):
    with pytest.raises((ConfigError, DataError), match=message):
        session_of(dict(work_dir=str(tmp_path), app=app))
    with pytest.raises(DataError, match='there is nothing to show'):
        session_of(dict(work_dir=str(tmp_path)))


def test_two_banks_of_one_name(folder):
    bank = dict(path=str(folder / 'bank'))
    with pytest.raises(ConfigError, match="two banks are called 'bank'"):
        session_of(dict(work_dir='x', app=dict(banks=[bank, bank])))
    places = session_of(dict(work_dir='x', app=dict(banks=[bank, dict(bank, name='b')]))).places
    assert [each.name for each in places] == ['bank', 'b']
    with pytest.raises(ConfigError, match='has no text_encoder'):
        OpenPlace(places[0]).of_text('a')
    with pytest.raises(ConfigError, match='has no image_encoder'):
        OpenPlace(places[0]).of_image(b'')


def test_served_to_this_machine_alone_and_closed_to_others():
    found = serve.options('127.0.0.1', 8501)
    assert found['server.address'] == '127.0.0.1' and found['browser.gatherUsageStats'] == 'false'
    assert found['server.enableStaticServing'] == 'false' and found['server.enableXsrfProtection'] == 'true'
    assert found['server.enableCORS'] == 'true' and found['server.headless'] == 'true'
    assert int(found['server.maxUploadSize']) <= 32
    from streamlit import config

    assert set(found) <= set(config.get_config_options())


@pytest.fixture
def page(folder, tmp_path):
    """The page in streamlit's tester."""
    from streamlit.testing.v1 import AppTest

    session = session_of(dict(load_config(folder / 'config.py')[0], work_dir=str(tmp_path)))
    session.write(tmp_path / 'app.json')
    script = f'from clear.curation.app.page import main\nmain({str(tmp_path / "app.json")!r})\n'
    return AppTest.from_string(script, default_timeout=120).run()


def texts(page):
    return [each.value for each in page.text]


def test_query_judge_and_save(page, tmp_path):
    assert not page.exception and page.sidebar.selectbox(key='bucket').options == [ALL, '0', '1', '2']
    page.sidebar.text_input(key='text').set_value('a cup of coffee').run()
    shown = [text for text in texts(page) if re.fullmatch(r'\d+   -?\d\.\d{4}\n\d+', text)]
    assert not page.exception and app_places.subject_of(shown[0].split('\n')[1]) == 'coffee'
    page.sidebar.selectbox(key='bucket').set_value('2').run()
    assert 'ranks 1 to 16 of 2' in texts(page)
    page.sidebar.text_input(key='reviewer').set_value('ann').run()
    page.sidebar.text_input(key='label').set_value('coffee').run()
    buttons = [each for each in page.button if each.key and each.key.startswith('verdict/')]
    assert len(buttons) == 32
    buttons[0].click().run()
    next(each for each in page.button if each.key == buttons[3].key).click().run()
    answers = list(read_answers([tmp_path / 'answers.jsonl']))
    assert [(each.reviewer, each.bucket, each.label, each.verdict) for each in answers] == [
        ('ann', '2', 'coffee', 'accept'), ('ann', '2', 'coffee', 'reject')]
    assert 'accepted' in texts(page) and 'rejected' in texts(page)
    page.text_area(key='prompts').set_value('a cat\ndrink: a cup of coffee\ndrink: tea').run()
    page.button(key='save').click().run()
    kept = read_prompts(tmp_path / 'prompts.py')
    assert [(each.label, each.prompts) for each in kept.classes] == [('a cat', ('a cat',)), (
        'drink', ('a cup of coffee', 'tea'))]
    page.toggle(key='compare').set_value(True).run()
    assert not page.exception and any(text.startswith('drink   bucket') for text in texts(page))


def test_what_cannot_be_done_is_said(page):
    page.sidebar.text_input(key='text').set_value('a cat').run()
    page.sidebar.number_input(key='first').set_value(30).run()
    assert not page.exception and [each.value for each in page.warning] == ['The last rank is before the first.']


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('chromium'), reason='no Chromium: apt-get install chromium')
def test_in_a_browser(folder, tmp_path):
    sync_api = pytest.importorskip('playwright.sync_api')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, 'tools/curation/app.py', str(folder / 'config.py'), '--port', str(port), '--work-dir',
         str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    home = f'http://127.0.0.1:{port}'
    try:
        _wait_for(home, process)
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
            tab = browser.new_page(viewport=dict(width=1280, height=900))
            tab.set_default_timeout(120_000)
            asked = []
            tab.on('request', lambda request: asked.append(request.url))
            tab.goto(home)
            tab.get_by_label('Text', exact=True).fill('a cup of coffee')
            tab.get_by_label('Text', exact=True).press('Enter')
            tab.get_by_text('ranks 1 to 24 of all buckets').wait_for()
            tab.get_by_label('Bucket', exact=True).click()
            tab.get_by_role('option', name='1', exact=True).click()
            tab.get_by_text('ranks 1 to 16 of 1').wait_for()
            tab.get_by_label('Your name, to judge').fill('ann')
            tab.get_by_label('Your name, to judge').press('Enter')
            tab.get_by_role('button', name='✓').first.click()
            tab.get_by_text('accepted', exact=True).wait_for()
            tab.get_by_role('tab', name='Prompts').click()
            tab.get_by_label('Prompts, one a line').fill('a cup of coffee')
            tab.get_by_label('Prompts, one a line').press('Control+Enter')
            tab.get_by_role('button', name='Save prompts').click()
            tab.get_by_text('saved ').wait_for()
            browser.close()
        assert {url.split('/')[2] for url in asked if url.startswith(('http', 'ws'))} == {f'127.0.0.1:{port}'}
        answer = json.loads((tmp_path / 'answers.jsonl').read_text())
        assert (answer['reviewer'], answer['bucket'], answer['label'], answer['verdict']) == (
            'ann', '1', 'a cup of coffee', 'accept')
        assert read_prompts(tmp_path / 'prompts.py').labels == ['a cup of coffee']
        _nothing_else_is_served(home, tmp_path)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert 'Traceback' not in process.stderr.read()


def _wait_for(home: str, process) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        try:
            urllib.request.urlopen(home, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError('it does not answer')


def _nothing_else_is_served(home: str, folder: Path) -> None:
    """Files beside the page and above it are not to be had, however their paths are spelt."""
    port = int(home.rpartition(':')[2])
    (folder / 'mark.txt').write_text('never served')
    up = '/'.join(['..'] * 12)
    encoded = '%2e%2e%2f' * 12 + f'{str(folder)[1:]}/mark.txt'
    for path in (f'/media/{up}{folder}/mark.txt', f'/app/static/{up}{folder}/mark.txt', f'/media/{encoded}',
                 f'/static/{up}{folder}/mark.txt', f'/{up}{folder}/mark.txt', f'{folder}/mark.txt', f'/{encoded}',
                 '/app/static/page.py', f'//{folder}/mark.txt'):
        with socket.create_connection(('127.0.0.1', port), timeout=20) as connection:  # a path as it is written
            connection.sendall(f'GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n'.encode())
            content = b''
            while piece := connection.recv(65536):
                content += piece
        assert b'never served' not in content and b'_prompt_groups' not in content, path
