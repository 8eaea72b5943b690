"""`tools/doctor.py` on this machine and on injected ones."""

import json
from dataclasses import replace

import pytest
from short_runs import run

from clear.core.machine import accelerators, doctor, host
from clear.core.machine.accelerators import TorchReport
from clear.core.machine.libraries import Library
from clear.core.machine.places import Place

ANSWER = 'import json; print(json.dumps(dict(version="2.14.1", cuda=None, threads=2, kernels="AVX2", gpus=[])))'


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The answer of torch without importing it once more."""
    start = accelerators.start_torch
    monkeypatch.setattr(accelerators, 'start_torch', lambda: start(ANSWER))


def test_page_and_json_tell_the_same(tmp_path):
    page, plain = run('doctor', '--work-dir', tmp_path), run('doctor', '--work-dir', tmp_path, '--json')
    assert page.code == plain.code == 0, page.err + plain.err
    facts = json.loads(plain.out)
    assert facts['obstacles'] == [] and facts['torch']['kernels'] == 'AVX2'
    assert facts['work']['path'] == str(tmp_path)
    for sentence in facts['limits']:
        if 'are free' not in sentence:  # what is free changes
            assert sentence in page.out
    for name, command in facts['missing_extras'].items():
        assert command == f"pip install 'clear-framework[{name}]'" and command in page.out
    assert all(title in page.out for title in ('versions', 'devices', 'room', 'extras', 'what of this will limit'))


def test_exit_code_says_that_no_run_is_possible(monkeypatch):
    monkeypatch.setattr(doctor, 'libraries', lambda: [Library('torch', '>=2.9', None, '')])
    done = run('doctor')
    assert done.code == 2
    assert 'makes runs impossible' in done.out and 'Missing: torch' in done.out and '<- missing' in done.out


def test_a_machine_of_which_nothing_is_known_has_a_page():
    cpu = host.Processor(None, 1, 1, None, None, {})
    empty = doctor.Machine((3, 12, 0), [], TorchReport(version='2'), None, 0, cpu,
                           host.Memory(None, None, None, None), (-1, -1), Place('.', answers=False), None, None)
    page = doctor.report(empty)
    assert 'does not answer' in page and 'unknown free of unknown' in page and 'all installed' in page
    json.dumps(doctor.as_plain(empty))


def test_gpus_and_versions_out_of_range_are_shown():
    gpu = accelerators.Gpu('H200', 140 << 30, 139 << 30, True)
    machine = replace(doctor.examine(), libraries=[Library('timm', '==1.0.31', '1.1', '')], driver='550.1',
                      torch=TorchReport('2.14.1', '13.0', gpus=[gpu, gpu], threads=2))
    page = doctor.report(machine)
    assert 'gpu 1' in page and '139.0 GiB of 140.0 GiB free, bfloat16' in page and '550.1' in page
    assert '<- not in the range' in page
