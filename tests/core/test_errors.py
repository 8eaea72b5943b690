import io

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
    printable,
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


@pytest.mark.parametrize('name, shown', [
    ('a\x1b[2Jb', r'a\x1b[2Jb'), ('a\rb', r'a\rb'), ('a\0b', r'a\x00b'), ('a\x9bb', r'a\x9bb'),
    ('a\u202eb', r'a\u202eb'), ('\ud800.jpg', r'\ud800.jpg'), ('Köln 日本 🐈\n\t-', 'Köln 日本 🐈\n\t-')])
def test_names_reach_the_terminal_as_text(name, shown, capsys):
    assert printable(name) == shown
    assert report_error(DataError(name)) == 2
    assert capsys.readouterr().err == f'error: {shown}\n'


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_a_message_is_printed_whatever_the_terminal_can_show(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors='strict')
    monkeypatch.setattr('sys.stderr', stream)
    assert report_error(DataError('日本 \ud800')) == 2
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown == ('error: 日本 \\ud800\n' if encoding == 'utf-8' else 'error: \\u65e5\\u672c \\ud800\n')
