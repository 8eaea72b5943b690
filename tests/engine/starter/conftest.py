"""What the tests of `clear init` share."""

import pytest

from clear.datasets.make.demo import write_demo
from clear.engine.starter.write import write_starter


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """The demo's digits, a hundred of each bucket."""
    root = tmp_path_factory.mktemp('digits') / 'demo'
    write_demo(root, seeds=[0], limit=100)
    return root


@pytest.fixture
def started(demo, tmp_path, monkeypatch):
    """Write a kind into a folder with the demo data, and go there."""
    def start(kind):
        if kind == 'curation':
            pytest.importorskip('duckdb')
        write_starter(tmp_path / kind, kind)
        (tmp_path / kind / 'data').mkdir()
        (tmp_path / kind / 'data' / 'demo').symlink_to(demo)
        monkeypatch.chdir(tmp_path / kind)
    return start
