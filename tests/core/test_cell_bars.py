"""Progress below a notebook's cell: one output that is renewed, seldom."""

import sys
from types import SimpleNamespace

import pytest

from clear.core.logs import progress_bar
from clear.core.programs import cells
from clear.core.programs.cells import CellBar, in_notebook
from clear.engine.progress import Progress


class Shown(list):
    """Renewals, and the clock that the bars look at."""

    clock: SimpleNamespace


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: text and HTML of every renewal, each with the number of its output."""
    found, clock = Shown(), SimpleNamespace(now_s=100.0, monotonic=lambda: clock.now_s)

    def display(what, display_id):
        number = len({each[0] for each in found})
        found.append((number, repr(what), what._repr_html_()))
        return SimpleNamespace(update=lambda what: found.append((number, repr(what), what._repr_html_())))

    shell = SimpleNamespace(kernel=object())
    kernel = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, 'IPython', kernel)
    monkeypatch.setitem(sys.modules, 'IPython.display', kernel.display)
    monkeypatch.setattr(cells, 'time', clock)
    found.clock = clock
    return found


def test_without_a_kernel_there_is_no_notebook(monkeypatch):
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, 'IPython', SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, 'IPython', SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert not in_notebook()  # IPython in a terminal


def test_a_bar_is_one_output(shown):
    assert in_notebook()
    bar = CellBar('extract <x>', 1000, ' images')
    for _ in range(10):
        shown.clock.now_s += 0.3
        bar.update(50)
    bar.set_postfix_str('loss 0.5')
    bar.close()
    assert {number for number, *_ in shown} == {0} and len(shown) == 1 + 5 + 1
    assert shown[-1][1] == 'extract <x>  500 of 1,000 images  loss 0.5  0:00:03  ETA 0:00:03'
    assert 'value="500" max="1000"' in shown[-1][2] and 'extract &lt;x&gt;' in shown[-1][2]
    assert not any('\r' in text for _, text, _ in shown)


def test_the_framework_shows_its_progress_there(shown):
    progress = Progress(2, unit='files')
    for _ in range(2):
        shown.clock.now_s += 1
        progress.step('here', lambda: dict(loss=0.25))
    progress.close()
    assert shown[-1][1].startswith('here  2 of 2 files  loss 0.25')
    with progress_bar('fetch', 'B') as report:
        report(2**20, None)
        report(2**21, 2**22)
    assert shown[-1][1].startswith('fetch  2.0 of 4.0 MiB')
