"""The worked examples of docs/retrieval.md: what the table says of ours is what the code gives."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from clear.evaluation import average_precision, classification_metrics
from clear.evaluation.metrics.ranking import (
    RelevantRanks,
    average_precision_at,
    map_at_r,
    mean_reciprocal_rank,
    median_rank,
    ndcg_at_k,
    precision_at_k,
    r_precision,
    rank_relevant,
    recall_at_k,
)
from clear.evaluation.metrics.roc_auc import roc_auc

PAGE = Path(__file__).parents[2] / 'docs' / 'retrieval.md'
FALLING = torch.arange(10, 0, -1.0)[None]
FIVE = rank_relevant(FALLING, torch.tensor([[1, 0, 0, 1, 0, 1, 1, 0, 1, 0]]).bool())
THREE = RelevantRanks(torch.tensor([[1.0, 3, 4]]))
GRADED = rank_relevant(FALLING[:, :4], torch.tensor([[0, 3, 1, 2]]))
EQUAL = rank_relevant(torch.zeros(1, 10), torch.arange(10)[None] < 1)
CLASSES = torch.zeros(3, 3), torch.arange(3)
FOUND = torch.eye(3)[[0, 2, 1, 1]], torch.tensor([0, 0, 1, 1])
OURS = [
    *((f"`recall_at_k`, '{name}'", recall_at_k(FIVE, 5, definition=name)) for name in ('any', 'share')),
    ('`precision_at_k`', precision_at_k(FIVE, 5)),
    *((f"`average_precision_at` 2, '{name}'", average_precision_at(THREE, 2, definition=name))
      for name in ('min', 'hits', 'relevant')),
    ('`average_precision_at`, no cut', average_precision_at(THREE)), ('`r_precision`', r_precision(THREE)),
    ('`map_at_r`', map_at_r(THREE)),
    *((f"`ndcg_at_k` 3, '{name}'", ndcg_at_k(GRADED, 3, definition=name)) for name in ('linear', 'exponential')),
    *((f"`mean_reciprocal_rank` 10, '{ties}'", mean_reciprocal_rank(EQUAL, 10, ties=ties))
      for ties in ('worst', 'expected')),
    ('`median_rank`', median_rank(RelevantRanks(torch.tensor([[1.0], [4], [4], [2]])))),
    *((f"`top1`, '{ties}'", classification_metrics(*CLASSES, ties=ties)['top1']) for ties in ('worst', 'expected')),
    ('`mean_per_class`', classification_metrics(*FOUND)['mean_per_class']),
    ('`average_precision`', average_precision(np.ones(4), np.array([0, 1, 0, 0]))),
    ('`average_precision`', average_precision(np.ones(4), np.array([0, 1, 0, 1]))),
    ('`roc_auc`', roc_auc(np.array([1, 2, 2, 3]), np.array([0, 1, 0, 1])))]


def table():
    """Measure and what is said of ours, of each row of the definitions."""
    part = PAGE.read_text(encoding='utf-8').split('## Definitions')[1].split('\n## ')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in part.splitlines() if line[:3] == '| `']
    return [(cells[0], cells[2]) for cells in rows]


def test_every_example_is_what_the_code_gives():
    assert [measure for measure, _ in table()] == [measure for measure, _ in OURS]
    for (measure, said), (_, value) in zip(table(), OURS):
        assert float(said) == pytest.approx(float(value), abs=5e-5), measure


def test_equal_scores_as_ranks_are_the_worst_case():
    ranks = rank_relevant(torch.zeros(1, 4), torch.tensor([[0, 1, 0, 1]]).bool())
    said = re.search(r'the worst case: (0\.\d+)', PAGE.read_text(encoding='utf-8'))[1]
    assert average_precision_at(ranks).item() == pytest.approx(float(said), abs=5e-5)


@pytest.mark.parametrize('measure, name', [("'any'", 'retrieval_hit_rate'), ("'share'", 'retrieval_recall'),
                                           ('precision_at_k', 'retrieval_precision')])
def test_torchmetrics_agrees_where_the_table_says_so(measure, name):
    from torchmetrics.functional import retrieval as peers

    right = torch.tensor([1, 0, 0, 1, 0, 1, 1, 0, 1, 0]).bool()
    said = next(float(value) for row, value in table() if measure in row)
    assert float(getattr(peers, name)(FALLING[0], right, top_k=5)) == pytest.approx(said)
