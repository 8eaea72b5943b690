import pytest

from clear.core.errors import (
    USER_ERRORS,
    CheckpointError,
    ClearError,
    ConfigError,
    DataError,
    Interrupted,
    RegistryError,
    TrainingError,
    nearest,
    report_error,
)

KINDS = (ConfigError, DataError, CheckpointError, TrainingError, RegistryError, Interrupted)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    monkeypatch.delenv('RANK', raising=False)


@pytest.mark.parametrize('kind', KINDS)
def test_every_user_error_is_reported_as_one_message(kind, capsys):
    assert issubclass(kind, ClearError) and issubclass(kind, USER_ERRORS)
    code = report_error(kind('bucket 3: 812 of 1000 images failed.'))
    output = capsys.readouterr()
    assert (output.out, output.err) == ('', 'error: bucket 3: 812 of 1000 images failed.\n')
    assert code == (143 if kind is Interrupted else 2)


@pytest.mark.parametrize('kind, base', [(ConfigError, ValueError), (DataError, ValueError),
                                        (CheckpointError, ValueError), (RegistryError, LookupError)])
def test_callers_can_catch_the_builtin_kind(kind, base):
    with pytest.raises(base):
        raise kind('x')


def test_a_programming_error_is_no_user_error():
    assert not any(issubclass(kind, USER_ERRORS) for kind in (TypeError, KeyError, RuntimeError, ValueError))


@pytest.mark.parametrize('kind, expected', [(ConfigError, ''), (CheckpointError, ''), (DataError, 'error: x\n'),
                                            (TrainingError, 'error: x\n')])
def test_other_ranks_repeat_only_what_may_differ_between_them(kind, expected, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    assert report_error(kind('x')) == 2
    assert capsys.readouterr().err == expected
    monkeypatch.setenv('RANK', '0')
    report_error(kind('x'))
    assert capsys.readouterr().err == 'error: x\n'


@pytest.mark.parametrize('name, known, expected', [
    ('Replai', ['Naive', 'Replay', 'GDumb'], "'Replay'"), ('REPLAY', ['Replay'], "'Replay'"), ('zzz', ['Replay'], ''),
    ('lr', [], ''), ('ab', ['abc', 'abd', 'abe', 'abf'], 3),
    ('train_mb_sise', {'train_mb_size': 1}, "'train_mb_size'")])
def test_nearest_names(name, known, expected):
    found = nearest(name, known)
    assert found.count("'") == 2 * expected if isinstance(expected, int) else found == expected


def test_the_number_of_nearest_names_can_be_set():
    assert nearest('ab', ['abc', 'abd'], 1).count("'") == 2
