"""Ranks by cosine against loops, with copies and without, and by tiles of any size."""

import pytest
import torch
from torch.nn.functional import normalize

from clear.evaluation.metrics import retrieval
from clear.evaluation.metrics.ranking import rank_relevant
from clear.evaluation.metrics.retrieval import first_ranks, pair_ranks


def rows(count, seed, dim=6):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def by_loops(queries, candidates, is_right):
    """Worst-case rank of the first right candidate, by sorting every row."""
    ranks = []
    for query, right in zip(queries, is_right):
        cosine = [float(query @ candidate / query.norm() / candidate.norm()) for candidate in candidates]
        order = sorted(range(len(candidates)), key=lambda item: (-cosine[item], bool(right[item])))
        ranks.append(1 + next(place for place, item in enumerate(order) if right[item]))
    return ranks


@pytest.mark.parametrize('tile', [None, (1, 3), (2, 9)])
@pytest.mark.parametrize('dim', [1, 6])
def test_first_ranks_are_those_of_loops(monkeypatch, tile, dim):
    """Captions in any order, one to seven of an image; in one dimension every cosine is 1 or -1."""
    if tile:
        monkeypatch.setattr(retrieval, '_MOST_IMAGES', tile[0])
        monkeypatch.setattr(retrieval, '_MOST_TEXTS', tile[1])
    counts = torch.tensor([1, 7, 2, 3, 1, 5, 2, 4, 1])
    owners = torch.arange(9).repeat_interleave(counts)[torch.randperm(26, generator=torch.manual_seed(0))]
    images, texts = rows(9, 1, dim).double(), rows(26, 2, dim).double()
    of_images, of_texts = first_ranks(images, texts, owners)
    is_right = owners == torch.arange(9)[:, None]
    assert of_images.tolist() == by_loops(images, texts, is_right)
    assert of_texts.tolist() == by_loops(texts, images, is_right.T)


@pytest.mark.parametrize('dim', [37, 512])
def test_copies_tie_to_the_bit_wherever_they_lie(dim):
    """Rows that occur many times, over several tiles: ranks are those of exact arithmetic."""
    kinds = rows(5, 3, dim)
    image_kind, text_kind = (torch.randint(5, (count,), generator=torch.manual_seed(count)) for count in (700, 2100))
    owners = torch.arange(2100) % 700
    of_images, of_texts = first_ranks(kinds[image_kind], kinds[text_kind], owners)
    cosine = (normalize(kinds.double(), dim=1) @ normalize(kinds.double(), dim=1).T)[image_kind][:, text_kind].round(
        decimals=9)
    is_right = owners == torch.arange(700)[:, None]
    assert torch.equal(of_images, rank_relevant(cosine, is_right).worst[:, 0])
    assert torch.equal(of_texts, rank_relevant(cosine.T.contiguous(), is_right.T).worst[:, 0])


def test_a_collapsed_model_is_last():
    images, texts = torch.ones(1, 512).repeat(600, 1), torch.ones(1, 512).repeat(1800, 1)
    of_images, of_texts = first_ranks(images, texts, torch.arange(1800) % 600)
    assert of_images.unique().tolist() == [1798] and of_texts.unique().tolist() == [600]


@pytest.mark.parametrize('block', [64, 2**21])
def test_pair_ranks_are_those_of_a_matrix(monkeypatch, block):
    monkeypatch.setattr(retrieval, '_TILE', block)
    queries, candidates = rows(150, 4), rows(20, 5)[torch.randint(20, (90,), generator=torch.manual_seed(8))]
    is_right = torch.rand(150, 90, generator=torch.manual_seed(6)) < .1
    is_right[:, 0] = True
    places, right = is_right.nonzero()[torch.randperm(int(is_right.sum()), generator=torch.manual_seed(7))].T
    found = pair_ranks(queries, candidates, places, right)
    cosine = (normalize(queries.double(), dim=1) @ normalize(candidates.double(), dim=1).T).round(decimals=6)
    expected = rank_relevant(cosine, is_right)
    for name in ('worst', 'first', 'size'):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_a_row_of_zeros_has_cosine_zero_and_half_precision_is_taken():
    images = torch.tensor([[1.0, 0], [0, 0], [-1, 0]]).half()
    of_images, of_texts = first_ranks(images, images, torch.arange(3))
    assert of_images.tolist() == [1, 3, 1] and of_texts.tolist() == [1, 3, 1]


@pytest.mark.parametrize('change, message', [
    (dict(images=rows(3, 0) * torch.nan), 'row 0 is not finite'), (dict(images=rows(3, 0, 5)), '5 dimensions'),
    (dict(owners=torch.tensor([0, 1, 1, 0])), 'image 2 has no text'), (dict(texts=rows(0, 1)), 'N > 0'),
    (dict(owners=torch.tensor([0, 1, 2])), 'owners are 3 rows'),
    (dict(owners=torch.tensor([0, 1, 2, 3])), 'of 4 images, for 4 texts of 3')])
def test_what_has_no_rank_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        first_ranks(**{**dict(images=rows(3, 0), texts=rows(4, 1), owners=torch.tensor([0, 1, 2, 0])), **change})


def test_a_query_without_a_right_candidate_is_refused():
    with pytest.raises(ValueError, match='query 1 has no right candidate'):
        pair_ranks(rows(3, 0), rows(4, 1), torch.tensor([0, 2]), torch.tensor([1, 1]))
