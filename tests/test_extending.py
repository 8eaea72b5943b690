"""What `docs/extending.md` shows, from a folder outside the package: trained, killed, resumed, reported."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from clear_trees import write_clear_tree
from doc_pages import ROOT, blocks
from quick_runs import weights_of
from short_runs import forget_outside_modules, outside_modules, read_results, run

# The recipe of the page on little data, with a hook that ends the process as `kill` does, once.
AGREEMENT = """
custom_imports = dict(imports=['agreement', 'ends'])
model = dict(type='Agreement', spread=0.5, backbone=dict(type='ResNet', depth=18, stem_channels=4, base_channels=4),
             neck=dict(type='ProjectionMLP', in_channels=32, out_channels=8),
             data_preprocessor=dict(type='ViewPreprocessor', views=dict(type='BatchedMultiCrop', recipe='simclr',
                                                                        options=dict(size=16))))
train_dataloader = dict(batch_size=4, num_workers=0,
                        dataset=dict(type='BucketImages', data_root={root!r}, image_size=16))
train_cfg = dict(by_epoch=True, max_epochs=3)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
custom_hooks = [dict(type='WeightNormHook'), dict(type='EndsAt', iteration=7)]
threads, seed, device = 1, 3, 'cpu'
"""
ENDS = """
import os
import signal

from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class EndsAt(Hook):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration and 'ENDS' in os.environ:
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture
def outside(tmp_path):
    """A folder with the page's modules."""
    for text in blocks(ROOT / 'docs' / 'extending.md', 'python'):
        first = text.split('\n', 1)[0].removeprefix('# ')
        if first.endswith('.py') and '/' not in first:
            (tmp_path / first).write_text(text)
    (tmp_path / 'ends.py').write_text(ENDS)
    yield tmp_path
    forget_outside_modules()


def test_only_what_a_test_wrote_is_forgotten(tmp_path):
    """Not the package and its tests, where the tree itself lies in the folder of temporary files."""
    (tmp_path / 'link').symlink_to(tmp_path / 'tree')
    files = dict(agreement='pytest-0/agreement.py', cousin='tree-2/cousin.py', clear='tree/clear/__init__.py',
                 test_a='tree/tests/test_a.py', torch='env/lib/torch.py', linked='link/clear/linked.py')
    modules = {name: SimpleNamespace(__file__=str(tmp_path / file)) for name, file in files.items()}
    modules |= dict(json=json, built_in=SimpleNamespace(), space=SimpleNamespace(__file__=None),
                    beside=SimpleNamespace(__file__=f'{tmp_path}2/beside.py'))
    found = outside_modules(modules, str(tmp_path), homes=(tmp_path / 'tree', tmp_path / 'env'))
    assert found == {'agreement', 'cousin'}


def killed_and_resumed(config, folder, monkeypatch):
    """Run a config whole, and in two parts; the work_dirs."""
    whole, parts = folder / 'whole', folder / 'parts'
    done = run('train', config, '--work-dir', whole)
    assert done.code == 0, done.err
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv('ENDS', '1')
    stopped = run('train', config, '--work-dir', parts)
    monkeypatch.delenv('ENDS')
    assert stopped.code == 143 and signal.getsignal(signal.SIGTERM) == handler, stopped.err
    resumed = run('train', config, '--work-dir', parts, '--resume')
    assert resumed.code == 0, resumed.err
    return whole, parts


def test_a_loss_with_its_algorithm_and_a_hook(outside, monkeypatch):
    root = write_clear_tree(outside / 'tree', num_buckets=1, per_class=6)
    config = outside / 'agreement_tiny.py'
    config.write_text(AGREEMENT.format(root=str(root)))
    whole, parts = killed_and_resumed(config, outside, monkeypatch)
    torch.testing.assert_close(weights_of(parts), weights_of(whole), rtol=0, atol=0)
    one, other = read_results(whole), read_results(parts)
    assert one['metrics'] == other['metrics']
    norms = [{line['step']: line['weight_norm'] for line in map(json.loads, (folder / 'vis_data/scalars.json')
                                                              .read_text().splitlines()) if 'weight_norm' in line}
             for folder in (whole, parts)]
    assert len(norms[0]) == 3 and norms[0] == norms[1]
    report = run('analysis_tools/make_report', parts)
    assert report.code == 0 and 'loss' in (parts / 'report.html').read_text(), report.err


def test_the_loss_is_what_its_docstring_says(outside, monkeypatch):
    monkeypatch.syspath_prepend(outside)
    import agreement

    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    unit = [[row / row.norm() for row in view] for view in (first, second)]
    align = sum(float((a - b).pow(2).sum()) for a, b in zip(*unit)) / 5
    apart = [float((unit[0][i] - unit[0][j]).norm()) for i in range(5) for j in range(i)]
    found = agreement.AgreementLoss(0.5)(first, second)
    assert float(found) == pytest.approx(align - 0.5 * sum(apart) / len(apart))
    assert 'ENDS' not in os.environ
