"""The page about fetching agrees with the code, and the local host runs as a program."""

import ast
import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import fields
from pathlib import Path

from doc_pages import ROOT, names_in, tables_below
from fetching import PHOTO

from clear.curation.download.limits import Limits
from clear.curation.download.outcomes import PERMANENT, TEMPORARY

PAGE = ROOT / 'docs' / 'fetching.md'


def test_every_outcome_is_on_the_page_with_its_class():
    rows = {names_in(row[0])[0]: row[1] for row in tables_below(PAGE, '## Outcomes')}
    assert rows == {'ok': 'permanent', **dict.fromkeys(PERMANENT, 'permanent'), **dict.fromkeys(TEMPORARY, 'temporary')}


def test_every_limit_is_on_the_page_with_its_default():
    rows = {names_in(row[0])[0]: ast.literal_eval(names_in(row[1])[0]) for row in tables_below(PAGE, '## Limits')}
    defaults = {each.name: getattr(Limits(), each.name) for each in fields(Limits)}
    assert rows == {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}


def test_the_host_runs_as_a_program(tmp_path):
    (tmp_path / '7.jpg').write_bytes(PHOTO)
    (tmp_path / 'script.json').write_text(json.dumps({'7': ['500', 'ok']}))
    arguments = ['--photos', tmp_path, '--script', tmp_path / 'script.json', '--log', tmp_path / 'log.txt']
    with subprocess.Popen([sys.executable, '-m', 'clear.curation.demo.server', *arguments], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(ROOT)}) as server:
        url = f'http://127.0.0.1:{int(server.stdout.readline())}/photos'
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        answers = []
        for target in ('7.jpg', '7.jpg', '8.jpg', '../7.jpg'):
            try:
                answers.append(opener.open(f'{url}/{target}', timeout=10).read())
            except urllib.error.HTTPError as error:
                answers.append(error.code)
        server.stdin.close()
        assert server.wait(timeout=20) == 0
    assert answers == [500, PHOTO, 404, 404]
    assert Path(tmp_path / 'log.txt').read_text().splitlines() == ['/photos/7.jpg', '/photos/7.jpg', '/photos/8.jpg',
                                                                   '/photos/../7.jpg']
