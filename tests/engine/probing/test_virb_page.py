"""What docs/virb.md says of a task and a head of one's own: run as it stands there."""

from pathlib import Path

import numpy as np
import pytest
from doc_pages import ROOT, blocks
from PIL import Image

from clear.engine.probing.runner import ProbeRunner
from clear.registry import MODELS, READERS


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The page's blocks by what they hold, with their names registered, and a few walls."""
    registries = READERS, MODELS
    for registry in registries:
        registry.import_from_location()
    before = [dict(registry.module_dict) for registry in registries]
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (('train', 8), ('test', 4)):
        folder = Path('data/walls') / split
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (70, 80, 3), np.uint8)
            wall = np.zeros((70, 80), np.uint8)
            wall[:, 10 * number:10 * number + 30] = 255
            pixels[wall > 0] += 120
            Image.fromarray(pixels).save(folder / f'{number}.jpg')
            Image.fromarray(wall).save(folder / f'{number}_walls.png')
    found = {}
    for text in blocks(ROOT / 'docs/virb.md', 'python'):
        namespace: dict[str, object] = {}
        exec(compile(text, 'virb.md', 'exec'), namespace)
        found.update({name: value for name, value in namespace.items() if not name.startswith('__')})
    yield found
    for registry, kept in zip(registries, before):
        registry.module_dict.clear()
        registry.module_dict.update(kept)


def test_a_task_and_a_head_of_ones_own(parts):
    # The page's last config is the one of the walls: both assign `encoders` and `tasks`.
    task, = parts['tasks']
    assert task['name'] == 'walls'
    task = {**task, 'epochs': 2, 'seeds': 1, 'head': dict(type='ConvHead', level=1), 'lrs': [1e-3, 1e-2]}
    cfg = dict(encoders=parts['encoders'], tasks=[task], device='cpu', banks=dict(root='banks'))
    metrics = ProbeRunner(cfg, Path('work')).run().metrics
    assert 0 < metrics['random/walls/iou'] <= 1
