"""Every strategy, plugin and memory has a row that says what its paper asks for; some of them by their formulas."""

import ast
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.training.storage_policy import (
    ClosestToCenterSelectionStrategy,
    ExemplarsBuffer,
    ExemplarsSelectionStrategy,
    HerdingSelectionStrategy,
)
from doc_pages import ROOT, names_in, tables_below
from scipy.optimize import nnls
from toy_streams import built, domain_stream, plugin_of, train

from clear.continual.repairs.architectural.networks import vae_loss
from clear.continual.training.traits import AVALANCHE
from clear.registry import BUFFERS, LEFT_OUT_STRATEGIES, PLUGINS, STRATEGIES

PAGE = ROOT / 'docs' / 'strategies_and_papers.md'
HEADINGS = ('## Strategies and their plugins', '## Plugins without a strategy', '## Memories')
ROWS = [row for heading in HEADINGS for row in tables_below(PAGE, heading)]
# A base class, and a loss that Avalanche keeps among its plugins.
NO_PLUGINS = {'SupervisedPlugin', 'PPPloss', *(name for name, says in AVALANCHE.items() if 'built_in' in says)}


def available():
    """All that a config can name."""
    memories = {name for name in BUFFERS.known_names() if inspect.isclass(BUFFERS.get(name)) and
                issubclass(BUFFERS.get(name), (ExemplarsBuffer, ExemplarsSelectionStrategy)) and
                not inspect.isabstract(BUFFERS.get(name))} - {'BalancedExemplarsBuffer'}  # the base of two others
    return ({*STRATEGIES.known_names()} - {*LEFT_OUT_STRATEGIES} | {*PLUGINS.known_names()} - NO_PLUGINS | memories)


def test_every_name_has_one_row():
    names = [name for row in ROWS for name in names_in(row[0])]
    assert sorted(names) == sorted(set(names))
    # Other tests register toys of their own; these are none of the library's.
    ours = {name for name in available() if not _module(name).startswith('test')}
    assert set(names) == ours


def _module(name):
    return next(found for registry in (STRATEGIES, PLUGINS, BUFFERS)
                if (found := registry.get(name)) is not None).__module__


def test_every_row_is_full_and_names_tests_that_exist():
    known = {}
    for row in ROWS:
        assert len(row) == 5 and all(cell.strip() for cell in row), row[0]
        tests = names_in(row[4])
        assert tests, row[0]
        for test in tests:
            file, _, function = test.partition('::')
            if file not in known:
                tree = ast.parse((Path(__file__).parent / file).read_text())
                known[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert function in known[file], test


# Formulas of classes that are Avalanche's own, or that no other test computes


def test_gem_gives_the_nearest_gradient_that_opposes_no_memory():
    """min |v - g| with G v >= 0: v = g + G^T u, where u >= 0 solves min |G^T u + g|."""
    strategy = built('GEM', dict(patterns_per_exp=6, memory_strength=0.0, optimizer=dict(type='SGD', lr=0.3)))
    plugin, after_backward, projected = plugin_of(strategy, 'GEMPlugin'), strategy._after_backward, []

    def flat():
        return torch.cat([value.grad.flatten() for value in strategy.model.parameters()]).double().numpy()

    def note(**kwargs):
        before = flat()
        after_backward(**kwargs)
        if strategy.clock.train_exp_counter:
            memories = plugin.G.double().numpy()
            weights, _ = nnls(memories.T, -before)
            expected = before + weights @ memories if (memories @ before < 0).any() else before
            # The published code adds 1e-3 to the diagonal of the programme.
            assert np.linalg.norm(flat() - expected) < 0.02 * np.linalg.norm(before)
            projected.append(not np.allclose(expected, before))

    strategy._after_backward = note
    train(strategy, domain_stream(3).train_stream)
    assert any(projected)


def selected(kind, features):
    rule = object.__new__(kind)  # without the model that gives the features
    return [int(row) for row in rule.make_sorted_indices_from_features(features)]


def test_herding_takes_the_sample_that_brings_the_mean_nearest():
    features = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    chosen, mean = [], features.mean(0)
    for _ in range(len(features)):
        rest = [row for row in range(len(features)) if row not in chosen]
        chosen.append(min(rest, key=lambda row: (features[[*chosen, row]].mean(0) - mean).norm().item()))
    assert selected(HerdingSelectionStrategy, features) == chosen


def test_the_samples_nearest_to_the_mean_come_first():
    features = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    distances = [(row - features.mean(0)).norm().item() for row in features]
    assert selected(ClosestToCenterSelectionStrategy, features) == sorted(range(9), key=distances.__getitem__)


def test_vae_loss_is_squared_error_and_divergence():
    torch.manual_seed(0)
    x, reconstruction = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    mean, log_variance = torch.randn(4, 5), torch.randn(4, 5)
    total = 0.0
    for row in range(4):
        total += sum((a - b) ** 2 for a, b in zip(x[row].flatten().tolist(), reconstruction[row].flatten().tolist()))
        codes = zip(mean[row].tolist(), log_variance[row].tolist())
        total += sum(0.5 * (math.exp(v) + m * m - 1 - v) for m, v in codes)
    assert vae_loss(x, (reconstruction, mean, log_variance)).item() == pytest.approx(total / 4, rel=1e-5)
