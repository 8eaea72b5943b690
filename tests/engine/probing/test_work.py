"""The parts that do jobs: who takes which device, what waits, what is shown."""

import io
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from tiny_encoder import write_images
from worker_tasks import config, write_banks

from clear.core.errors import BusyError, DataError
from clear.core.files import read_json, write_json
from clear.core.storage.locks import locked
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.work import board as board_module
from clear.engine.probing.work import hands
from clear.engine.probing.work.board import Board
from clear.engine.probing.work.folders import open_folder
from clear.engine.probing.work.turns import take_turns

ENCODER = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})


def job(key, *read):
    return SimpleNamespace(key=key, task=key, state='pending', attempts=0, error=None, read={each.key: each
                                                                                             for each in read})


class Busy:
    """Hands of some places; jobs that are `busy` have to wait so many times."""

    is_apart = True

    def __init__(self, places, **busy):
        self.places, self.busy, self.begun, self.log = places, busy, [], []

    def start(self, job, keep):
        self.begun.append(job)
        self.log.append((job.key, keep))
        assert len(self.begun) <= self.places
        return 'cpu'

    def ended(self):
        job = self.begun.pop(0)
        if self.busy.get(job.key, 0):
            self.busy[job.key] -= 1
            return [(job, 'another has it')]
        job.state = 'done'
        return [(job, '')]


@pytest.mark.parametrize('places', [1, 2, 5])
def test_turns_keep_the_order_of_what_reads_what_and_come_again_to_what_is_busy(places, monkeypatch):
    monkeypatch.setattr('clear.engine.probing.work.turns.AGAIN_S', 0.01)
    c = job('c')
    a, b = job('a', c), job('b')
    doing = Busy(places, b=2)
    done = [each.key for each in take_turns(doing, [a, b, c], False, lambda *_: None, lambda: None)]
    assert sorted(done) == ['a', 'b', 'c'] and done.index('c') < done.index('a')
    assert [each for each in doing.log if each[0] == 'b'] == [('b', False), ('b', True), ('b', True)]
    assert (a.attempts, b.attempts, c.attempts) == (1, 1, 1)


@pytest.mark.parametrize('device, asked, expected', [
    ('cpu', None, ['cpu'] * 3), ('cuda', None, ['cuda:0', 'cuda:1', 'cuda:0']),
    ('cuda', 'cuda', ['cuda:0', 'cuda:1', 'cuda:0']), ('cuda:1', 'cuda:1', ['cuda:1'] * 3)])
def test_workers_share_the_gpus_unless_one_is_named(device, asked, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert hands._devices(dict(workers=3, device=asked), torch.device(device)) == expected


def test_workers_share_the_processors(monkeypatch):
    monkeypatch.setattr('os.sched_getaffinity', lambda _: range(8))
    cfg = dict(workers=3, engine='processes', ray_address=None, threads=None)
    assert hands._threads(cfg, None) == 2 and hands._threads({**cfg, 'threads': 5}, None) == 5
    assert hands._threads({**cfg, 'workers': 20}, None) == 1
    assert hands._threads({**cfg, 'engine': 'ray', 'ray_address': 'auto'}, None) == 1


def test_a_bank_that_another_process_makes_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'images', count=4)
    source = dict(type='ImageFolder', root='images')
    cfg = dict(encoders=dict(net=ENCODER), tasks=[dict(type='NearestClassMean')], data=dict(train=source, test=source),
               device='cpu', threads=1)
    place = tmp_path / 'made'
    ProbeRunner({**cfg, 'banks': dict(root=str(place))}).run()
    name = next(place.iterdir()).name
    (tmp_path / 'banks' / f'{name}.partial').mkdir(parents=True)
    held, done = threading.Event(), threading.Event()

    def make():
        with locked(tmp_path / 'banks' / f'{name}.partial' / 'lock', '', BusyError):
            held.set()
            assert done.wait(30)

    other = threading.Thread(target=make)
    other.start()
    assert held.wait(10)
    threading.Timer(0.2, done.set).start()
    results = ProbeRunner({**cfg, 'banks': dict(root='banks')}, tmp_path / 'work').run()
    other.join()
    assert results.metrics and read_json(tmp_path / 'work' / 'jobs.json')['jobs']['net--NearestClassMean'][
        'attempts'] == 1


def test_an_encoder_of_two_weights_is_not_one(tmp_path):
    write_banks(tmp_path)
    write_images(tmp_path / 'images', count=4)
    source = dict(type='ImageFolder', root=str(tmp_path / 'images'))
    cfg = config(tmp_path, dict(type='NearestClassMean'), dict(type='KNN', k=1), encoders=0,
                 banks=dict(root=str(tmp_path / 'banks')))
    cfg.update(encoders=dict(net=ENCODER), data=dict(train=source, test=source))
    ProbeRunner(cfg, tmp_path / 'work').run()
    path = tmp_path / 'work' / 'jobs' / 'net--KNN' / 'result.json'
    write_json(path, {**read_json(path), 'encoder_hash': '0' * 16})
    with pytest.raises(DataError, match="encoder 'net' had other weights for net--KNN in"):
        ProbeRunner(cfg, tmp_path / 'work').collect()


def test_a_folder_is_emptied_for_another_job_and_keeps_its_lock(tmp_path):
    folder = open_folder(tmp_path / 'job', dict(hash='a'), keep=False)
    (folder / '.lock').touch()
    (folder / 'deep').mkdir()
    (folder / 'deep' / 'state.pth').touch()
    (folder / '.head.pth.abcdefgh.tmp').touch()
    (folder / 'link').symlink_to(tmp_path)
    open_folder(folder, dict(hash='a'), keep=True)
    assert (folder / 'deep' / 'state.pth').exists() and not list(folder.glob('*.tmp'))
    for identity, keep in ((dict(hash='b'), True), (dict(hash='b'), False)):
        (folder / 'head').touch()
        open_folder(folder, identity, keep)
        assert {path.name for path in folder.iterdir()} == {'.lock', 'job.json'} and tmp_path.exists()


def test_a_log_hears_of_long_jobs_and_a_terminal_has_a_table(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(board_module.logger, 'propagate', True)
    monkeypatch.setattr(board_module.logger, 'handlers', [])
    monkeypatch.setattr(board_module.time, 'monotonic', lambda: now[0])
    with caplog.at_level('INFO', logger='clear'):
        shown = Board(2, is_apart=True)
        shown.begin(job('e--a'), 'cuda:0')
        for now[0] in (5.0, 10.0, 15.0, 20.0):
            shown.look()
    assert [record.getMessage() for record in caplog.records] == [
        'cuda:0  e--a  running for 0:00:10  ETA unknown', 'cuda:0  e--a  running for 0:00:20  ETA unknown']
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', screen)
    table = Board(2, is_apart=True)
    table.begin(job('e--a'), 'cuda:0')
    now[0] = 23.0
    table.look()
    table.look()
    text = 'cuda:0  e--a  running for 0:00:03\n0 of 2 jobs  ETA unknown\n'
    assert screen.getvalue() == text + '\x1b[2A\x1b[J' + text
    first = job('e--a')
    first.state, first.result, first.time_s = 'done', dict(metric='top1', value=0.5), 3.0
    table.clear()
    table.end(first)
    assert table._eta() == '0:00:03'
