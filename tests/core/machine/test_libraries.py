"""Which libraries are asked for, and whether those that are here fit."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from clear.core.machine import libraries
from clear.core.machine.libraries import Library, missing_extras, package_requirements

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize('wanted, found, fits', [
    ('>=2.9.1,<2.15', '2.9.1', True), ('>=2.9.1,<2.15', '2.9.1+cu128', True), ('>=2.9.1,<2.15', '2.15.0', False),
    ('==1.2.0', '1.2.0', True), ('==1.2.0', '1.2.1', False), ('', '0.1', True), ('>=1', None, False),
    ('>=1', 'not a version', False), ('>=2.9', '2.10.0a0+git', True),
])
def test_versions_fit_their_range(wanted, found, fits):
    assert Library('x', wanted, found, '').fits is fits


def test_requirements_of_the_clone_are_those_of_setup():
    lines = package_requirements()
    assert any(line.startswith('torch>=') for line in lines)
    text = (ROOT / 'setup.py').read_text()
    extras = set(re.findall(r"^    '([\w-]+)': \[", text, re.MULTILINE))
    found = libraries.libraries()
    assert {each.extra for each in found} == (extras - set(libraries.NOT_FOR_RUNS)) | {''}
    assert next(each for each in found if each.name == 'torch').found == metadata.version('torch')


def test_extras_that_lack_something(monkeypatch):
    versions = {'here': '1.0', 'old': '0.1'}
    monkeypatch.setattr(libraries, 'installed_version', versions.get)
    found = libraries.libraries(['core>=1', 'here==1.0; extra == "whole"', "old>=1; extra == 'part'",
                                 'here; extra == "part"', 'none; extra == "dev"'])
    assert [(each.name, each.extra) for each in found] == [('core', ''), ('here', 'whole'), ('old', 'part'),
                                                           ('here', 'part')]
    assert {extra: [each.name for each in lacking] for extra, lacking in missing_extras(found).items()} == {
        'part': ['old']}
