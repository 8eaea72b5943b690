"""What a run records: rows by hand, the round trip through a checkpoint, and what cannot be of this stream."""

import math

import pytest

from clear.continual.journal import append_entry
from clear.core.errors import CheckpointError
from clear.engine.continual.record import RunRecord


def with_two_rows():
    """Three buckets, of which two are trained: 7 and 5 s of training, 2 and 1 s of measuring."""
    record = RunRecord.empty(3, 3)
    record.add([0.5, 0.25, 0.125], [None, 0.2, 0.1], train_s=7.0, eval_s=2.0, loss=1.5, accuracy=0.5, iterations=4)
    record.add([0.75, 1.0, 0.5], [None, None, 0.4], train_s=5.0, eval_s=1.0, loss=0.5, accuracy=math.nan, iterations=6)
    return record


def checkpoint_of(record, finished=2, **more):
    state = record.state()
    return dict(acc_matrix=state['acc_matrix'], progress=dict(state['progress'], experience=finished), **more)


def test_rows_come_one_after_the_other():
    record = with_two_rows()
    assert record.acc_matrix == [[0.5, 0.25, 0.125], [0.75, 1.0, 0.5], [None] * 3]
    assert record.streaming_matrix == [[None, 0.2, 0.1], [None, None, 0.4], [None] * 3]
    assert record.timing == dict(train_s=12.0, eval_s=3.0)
    assert record.train_log[0] == dict(experience=0, loss=1.5, accuracy=0.5, iterations=4)
    assert [entry['experience'] for entry in record.entries()] == [0, 1]
    assert record.entry(1) == dict(experience=1, row=record.acc_matrix[1], whole_buckets=[None, None, 0.4],
                                   log=record.train_log[1])
    assert record.total == 3


def test_one_model_stands_for_all_rows_under_joint_training():
    record = RunRecord.empty(2, 2, is_joint=True)
    record.add([0.5, 0.25], [None, None], train_s=1.0, eval_s=1.0, loss=1.0, accuracy=1.0, iterations=1)
    assert record.acc_matrix == [[0.5, 0.25]] * 2 and len(record.train_log) == record.total == 1
    assert record.acc_matrix[0] is not record.acc_matrix[1]


def test_state_is_taken_over_and_goes_on(tmp_path):
    record, later = with_two_rows(), RunRecord.empty(3, 3)
    record.branched_from = dict(checkpoint='exp_0.pth')
    checkpoint = checkpoint_of(record)
    later.check(tmp_path / 'latest.pth', checkpoint)
    later.take(checkpoint)
    assert later == record
    branch = RunRecord.empty(3, 3)
    branch.take_rows(checkpoint)
    assert branch.timing == dict(train_s=0.0, eval_s=0.0) and branch.branched_from is None
    assert branch.entries() == record.entries()


def test_rows_of_a_long_stream_come_from_the_journal(tmp_path, monkeypatch):
    monkeypatch.setattr('clear.continual.journal.SELF_CONTAINED', 2)
    record, later = with_two_rows(), RunRecord.empty(3, 3)
    record.train_log[1]['accuracy'] = 0.5
    checkpoint = checkpoint_of(record)
    assert checkpoint['acc_matrix'] is None and checkpoint['progress']['train_log'] is None
    append_entry(tmp_path, record.entry(0))
    with pytest.raises(CheckpointError, match='their rows stand in matrix.jsonl beside it, which has 1'):
        later.check(tmp_path / 'latest.pth', checkpoint)
    append_entry(tmp_path, record.entry(1))
    later.check(tmp_path / 'latest.pth', checkpoint)
    assert later.acc_matrix == [[None] * 3] * 3, 'checking takes nothing over'
    later.take(checkpoint)
    assert later == record


@pytest.mark.parametrize('change, message', [
    (lambda saved: saved['progress'].update(experience=4), 'progress.experience is 4 in a stream of 3'),
    (lambda saved: saved['progress'].update(experience=0), 'progress.experience is 0 in a stream of 3'),
    (lambda saved: saved.update(inside={}) or saved['progress'].update(experience=3), 'is 3 in a stream of 3'),
    (lambda saved: saved['progress'].update(train_log=None), 'progress.train_log is None'),
    (lambda saved: saved['progress']['train_log'].pop(), r'train_log has 1 entries for 2 experience\(s\)'),
    (lambda saved: saved['acc_matrix'].pop(), 'acc_matrix is not 3 rows of 3'),
    (lambda saved: saved['progress']['streaming_matrix'][2].append(None), 'streaming_matrix is not 3 rows of 3'),
    (lambda saved: saved['acc_matrix'][0].__setitem__(1, 1.5), 'acc_matrix holds what is no accuracy')])
def test_what_cannot_be_of_this_stream_is_refused(tmp_path, change, message):
    checkpoint = checkpoint_of(with_two_rows())
    change(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        RunRecord.empty(3, 3).check(tmp_path / 'latest.pth', checkpoint)
