"""Histories of jobs, as TensorBoard reads them."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from worker_tasks import config, write_banks

from clear.core.errors import DataError
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.work.scalars import read_history, write_scalars

DRAWN = dict(type='DrawnNumber', name='draws', epochs=3)


def scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()['scalars']}


def test_every_setting_has_the_curves_of_its_task(tmp_path, monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    write_banks(tmp_path, count=1)
    for _ in range(2):  # no step comes twice
        ProbeRunner(config(tmp_path, DRAWN, encoders=1, tensorboard=True), tmp_path / 'work').run()
    folder, = (tmp_path / 'work' / 'tensorboard' / 'e0--draws').iterdir()
    assert scalars(folder) == {
        'TrainLoss/draws': [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))], 'ValLoss/draws': [(0, 2), (1, 2), (2, 2)],
        'TrainAccuracy/draws': [(0, 0.5), (1, 0.5), (2, 0.5)],
        'ValAccuracy/draws': [(0, 0.25), (1, 0.25), (2, 0.25)]}
    ProbeRunner(config(tmp_path, DRAWN, encoders=1), tmp_path / 'none').run()
    assert not (tmp_path / 'none' / 'tensorboard').exists()


def test_names_of_settings_lead_nowhere_and_lines_that_are_none_are_named(tmp_path):
    path = tmp_path / 'history.jsonl'
    path.write_text('{"setting": "../../up", "epoch": 1, "test_loss": 2.0, "test_metric": null}\n'
                    '{"setting": "a/b", "epoch": 1, "test_metric": 0.5}\n')
    write_scalars(tmp_path, 'pets', tmp_path / 'out')
    assert [scalars(folder) for folder in sorted((tmp_path / 'out').iterdir())] == [
        {'TestLoss/pets': [(1, 2.0)]}, {'TestAccuracy/pets': [(1, 0.5)]}]
    assert {file.parent.parent for file in tmp_path.rglob('events*')} == {tmp_path / 'out'}
    assert read_history(tmp_path / 'nothing') == []
    for text in ('{"epoch": "one"}', '[]', '{'):
        path.write_text('{"epoch": 1}\n' + text + '\n')
        with pytest.raises(DataError, match='history.jsonl:2'):
            write_scalars(tmp_path, 'pets', tmp_path / 'out')
