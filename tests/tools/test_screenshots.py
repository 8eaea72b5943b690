import importlib.util
import shutil
from pathlib import Path

import pytest
from PIL import Image

from clear.visualization.page import head_of, write_page

TOOL = Path(__file__).parents[2] / 'tools' / 'visualization' / 'screenshots.py'


def screenshots(*arguments):
    spec = importlib.util.spec_from_file_location('screenshots', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([*map(str, arguments)])


def test_a_page_that_is_not_there_is_named(tmp_path, capsys):
    assert screenshots(tmp_path / 'none.html', '--out', tmp_path / 'out') == 2
    assert 'none.html: no such page.' in capsys.readouterr().err and not (tmp_path / 'out').exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('chromium'), reason='no Chromium: apt-get install chromium')
def test_pages_become_pictures(tmp_path):
    pytest.importorskip('playwright')
    page = write_page('one', [head_of('kind', 'name', {})], tmp_path / 'folder' / 'one.html')
    assert screenshots(page, '--out', tmp_path, '--widths', 360, 500, '--themes', 'dark', '--height', 400) == 0
    for width in (360, 500):
        with Image.open(tmp_path / f'folder-one-{width}-dark.png') as picture:
            assert picture.size == (width, 400) and max(picture.convert('RGB').getpixel((2, 2))) < 60
