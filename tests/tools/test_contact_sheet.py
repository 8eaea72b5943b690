"""Results as one HTML file."""

import importlib.util
import re
from pathlib import Path

import app_places
import pytest

from clear.curation.app.places import Hit
from clear.engine.reports.contact_sheet import write_sheet

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location('contact_sheet', ROOT / 'tools/curation/contact_sheet.py')
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sheet')
    app_places.write_place(folder)
    return folder


def captions(page):
    return re.findall(r'<figcaption>(\d+)   (-?[\d.]+)<br>(\d+)<br>bucket (\d)', page)


def test_texts_over_buckets(folder, capsys):
    out = folder / 'sheet.html'
    assert module.main([str(folder / 'config.py'), '--prompt', 'a cat', 'a cup of coffee', '--bucket', '0', '2',
                        '--top', '4', '--out', str(out)]) == 0
    page = out.read_text()
    found = captions(page)
    assert [rank for rank, *_ in found] == list('1234') * 4
    assert [bucket for *_, bucket in found] == ['0'] * 4 + ['2'] * 4 + ['0'] * 4 + ['2'] * 4
    assert [app_places.subject_of(each) for _, _, each, _ in found[8:]] == ['coffee'] * 8
    assert page.count('data:image/jpeg;base64,') == 16 and 'http' not in page.replace('http-equiv', '')
    assert capsys.readouterr().out.count('4 of 4 images') == 4


def test_an_image_and_every_nth(folder):
    out = folder / 'image.html'
    assert module.main([str(folder / 'config.py'), '--image', str(folder / 'images/1/116.jpg'), '--every', '10',
                        '--out', str(out)]) == 0
    assert [rank for rank, *_ in captions(out.read_text())] == ['10', '20', '30', '40']
    assert module.main([str(folder / 'config.py'), '--image', str(folder / 'images/1/116.jpg'), '--ranks', '1', '40',
                        '--out', str(out)]) == 0
    assert [(rank, each) for rank, _, each, _ in captions(out.read_text())][0] == ('1', '116')


def test_texts_of_records_are_text(tmp_path):
    hit = Hit(1, 0.5, '<i>', '<b>', None, '<script>alert(1)</script>', 'https://x.example/?a=1&b="', None)
    page = write_sheet(tmp_path / 'x.html', '<u>', {'<h>': [hit]}).read_text()
    body = page.split('<body>')[1]
    assert not re.search(r'<(script|i|b|u|h)>', body) and '&lt;script&gt;' in body and '&amp;b=&quot;' in body


@pytest.mark.parametrize('arguments, message', [
    (['--prompt', ''], 'empty'), (['--prompt', 'x', '--bank', 'y'], "no 'y'; there are photos"),
    (['--prompt', 'x', '--bucket', '9'], "no bucket '9'"), (['--image', 'nowhere.jpg'], 'nowhere.jpg'),
    (['--prompt', 'x', '--top', '0'], '--first 1 --top 0'),
    (['--prompt', 'x', '--first', '9', '--top', '3'], 'not behind the last'),
    (['--prompt', 'x', '--ranks', '500'], 'none of these ranks is there; there are 48 images'),
    (['--prompt', 'x', '--every', '0'], 'nth')])
def test_what_cannot_be_shown(folder, capsys, arguments, message):
    assert module.main([str(folder / 'config.py'), *arguments, '--out', str(folder / 'none.html')]) == 2
    printed = capsys.readouterr().err
    assert message in printed and 'Traceback' not in printed and not (folder / 'none.html').exists()
