"""Passage retrieval: by hand, loops and sentence-transformers, ties, chunks and kept chunks, and odd files."""

import gzip
import math

import pytest
import torch
from text_files import Peer, WordBag, sentences

from clear.core.errors import ConfigError, DataError
from clear.evaluation.metrics.ranking import RelevantRanks
from clear.evaluation.task import TaskData
from clear.evaluation.text import passage_search
from clear.evaluation.text.passage_retrieval import PassageRetrieval
from clear.evaluation.text.passage_search import PassageRanks
from clear.evaluation.text.toy import write_passages

# Relevant passages of five queries by the rank at which their scores put them among 40.
RANKS = {'q0': [1], 'q1': [2, 4], 'q2': [11], 'q3': [1, 3, 12], 'q4': [40]}


class Listed(torch.nn.Module):
    """A text 'v 1 0 2' is the vector (1, 0, 2)."""

    def encode_text(self, texts):
        return torch.tensor([[float(number) for number in text.split()[1:]] for text in texts])


def rows(count, seed, dim=16):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def write_set(root, passages, queries, qrels):
    write_passages(root, passages, queries, qrels)
    return root


@pytest.fixture
def hand_made(tmp_path):
    """Query i is the i-th axis; passage j stands at rank (j + 8 * i) % 40 + 1 of query i."""
    passages = {f'p{j}': 'v ' + ' '.join(f'{(40 - (j + 8 * i) % 40) / 40}' for i in range(5)) for j in range(40)}
    queries = {f'q{i}': 'v ' + ' '.join(str(int(i == place)) for place in range(5)) for i in range(5)}
    at_rank = {(f'q{i}', (j + 8 * i) % 40 + 1): f'p{j}' for i in range(5) for j in range(40)}
    qrels = [(query, at_rank[query, rank], 1) for query, ranks in RANKS.items() for rank in ranks]
    return write_set(tmp_path, passages, {**queries, 'q9': 'v 1 1 1 1 1'}, [*qrels, ('q0', 'p9', 0), ('q7', 'p1', 1)])


def test_by_hand(hand_made):
    result = PassageRetrieval(root=str(hand_made), mode='dot').run(Listed(), TaskData())
    found = {name.removeprefix('dot_'): value for name, value in result.extras['metrics'].items() if 'dot' in name}
    log = [math.nan, *(1 / math.log2(1 + rank) for rank in range(1, 41))]
    expected = {
        'accuracy@1': 2 / 5, 'accuracy@3': 3 / 5, 'accuracy@5': 3 / 5, 'accuracy@10': 3 / 5,
        'precision@10': (1 + 2 + 0 + 2 + 0) / 50, 'recall@10': (1 + 1 + 0 + 2 / 3 + 0) / 5,
        'precision@100': (1 + 2 + 1 + 3 + 1) / 500, 'recall@100': 1.0,
        'MRR@10': (1 + 1 / 2 + 0 + 1 + 0) / 5,
        'NDCG@10': (1 + (log[2] + log[4]) / (log[1] + log[2]) + (log[1] + log[3]) / (log[1] + log[2] + log[3])) / 5,
        'MAP@100': (1 + (1 / 2 + 2 / 4) / 2 + 1 / 11 + (1 + 2 / 3 + 3 / 12) / 3 + 1 / 40) / 5}
    assert found == pytest.approx(expected, abs=1e-12)
    assert (result.metric, result.value) == ('dot_MAP@100', found['MAP@100'])
    extras = result.extras
    assert (extras['n_test'], extras['n_passages'], extras['n_judged']) == (5, 40, 9)
    assert (extras['queries_without_relevant'], extras['judged_queries_not_listed']) == (1, 1)


@pytest.mark.parametrize('definition, expected', [
    ('min', (1 + 2 / 3) / 100), ('hits', (1 + 2 / 3) / 2), ('relevant', (1 + 2 / 3) / 150)])
def test_definitions_of_average_precision(definition, expected):
    """Of 150 relevant passages the ranks 1 and 3 are among the first hundred."""
    ranks = RelevantRanks(torch.tensor([[1.0, 3.0, *range(101, 249)]], dtype=torch.float64))
    found = PassageRetrieval(root='x', definition=definition).measure(ranks)
    assert found['MAP@100'] == pytest.approx(expected)
    assert (found['accuracy@1'], found['recall@10']) == (1.0, pytest.approx(2 / 150))  # "recall" of two meanings


def test_a_larger_set_by_loops_whatever_the_blocks(monkeypatch):
    queries, passages = rows(9, 0), rows(500, 1)
    passages[17] = 0
    relevant = {query: [(31 * query) % 500, (77 * query + 9) % 500, 17] for query in range(9)}
    pairs = sorted((passage, query) for query, own in relevant.items() for passage in own)
    results = []
    for block, group, chunk, k in ((768, 1024, 500, 600), (64, 4, 100, 600), (100, 9, 33, 600), (64, 1024, 500, 20)):
        monkeypatch.setattr(passage_search, '_PASSAGES', block)
        monkeypatch.setattr(passage_search, '_QUERIES', group)
        monkeypatch.setattr(passage_search, '_LEAST_PENDING', 50)
        ranks = PassageRanks(queries, k)
        for start in range(0, 500, chunk):
            here = torch.tensor([(query, passage - start) for passage, query in reversed(pairs)
                                 if start <= passage < start + chunk]).reshape(-1, 2)
            ranks.add(passages[start:start + chunk], *here.T)
        results.append({kind: found.worst for kind, found in ranks.ranks().items()})
    for kind, worst in results[0].items():
        for query, own in relevant.items():
            scores = passages.double() @ queries[query].double()
            if kind == 'cosine':
                scores = torch.nn.functional.cosine_similarity(passages.double(), queries[query:query + 1].double())
            rivals = [float(scores[row]) for row in range(500) if row not in own]
            expected = sorted((sum(rival >= scores[row] for rival in rivals)
                               + sum(scores[other] > scores[row] for other in own) + 1) for row in own)
            assert worst[query].tolist() == expected
        assert torch.equal(worst, results[1][kind]) and torch.equal(worst, results[2][kind])
        cut = results[3][kind]
        assert torch.equal(cut[cut <= 20], worst[worst <= 20]) and (cut[worst > 20] > 20).all()


def test_equal_to_sentence_transformers(tmp_path):
    library = pytest.importorskip('sentence_transformers.evaluation', reason='the peer of extra [align]')
    from sentence_transformers.util import cos_sim, dot_score

    passages = {f'p{row}': text for row, text in enumerate(sentences(300, seed=3))}
    queries = {f'q{row}': text for row, text in enumerate(sentences(12, words=4, seed=4))}
    qrels = [(f'q{row}', f'p{(7 * row + 5 * step) % 300}', 1) for row in range(12) for step in range(row % 4 + 1)]
    relevant = {query: {passage for own, passage, _ in qrels if own == query} for query in queries}
    encoder = WordBag(dim=32)
    peer = library.InformationRetrievalEvaluator(
        queries, passages, relevant, precision_recall_at_k=[10, 100], write_csv=False,
        score_functions=dict(cosine=cos_sim, dot=dot_score))(Peer(encoder))
    result = PassageRetrieval(root=str(write_set(tmp_path, passages, queries, qrels)), chunk_size=70).run(
        encoder, TaskData())
    found = {name.lower(): value for name, value in result.extras['metrics'].items()}
    assert found == pytest.approx(peer, abs=1e-9)
    assert len(found) == 2 * 11


def test_a_model_that_says_the_same_of_all_is_last(tmp_path):
    """sentence-transformers gives an MRR of .125 or 1 here, by where the relevant passage stands in the file."""
    passages = {f'p{row}': 'v 1 1' for row in range(10)}
    for relevant in ('p0', 'p9'):
        write_set(tmp_path, passages, {'q': 'v 1 0'}, [('q', relevant, 1)])
        metrics = PassageRetrieval(root=str(tmp_path)).run(Listed(), TaskData()).extras['metrics']
        assert metrics['cosine_MRR@10'] == metrics['dot_MRR@10'] == 0.1


def test_copies_of_a_passage_tie_wherever_they_lie():
    passages = rows(4000, 5, 384)
    copies = [3, 700, 1700, 2303, 3001, 3999]
    passages[copies] = passages[10].clone()
    queries = rows(3, 6, 384)
    found = []
    for relevant in (10, 700, 3999):
        ranks = PassageRanks(queries, 4000)
        for start in range(0, 4000, 1300):
            here = start <= relevant < start + 1300
            ranks.add(passages[start:start + 1300], torch.arange(3 * here), torch.full((3 * here,), relevant - start))
        found.append(torch.stack([each.worst for each in ranks.ranks().values()]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize('limit, expected', [(0, 40), (9, 9), (4, 9), (12, 12), (100, 40)])
def test_the_limit_keeps_judged_passages_and_fills_up_in_order(hand_made, limit, expected):
    seen = []

    class Watched(Listed):
        def encode_text(self, texts):
            seen.append(texts)
            return super().encode_text(texts)

    task = PassageRetrieval(root=str(hand_made), corpus_max_size=limit, chunk_size=5)
    assert task.run(Watched(), TaskData()).extras['n_passages'] == expected
    lines = [line.split('\t') for line in (hand_made / 'collection.tsv').read_text().splitlines()]
    judged = {line.split()[2] for line in (hand_made / 'qrels.dev.tsv').read_text().splitlines() if 'q7' not in line}
    others = [key for key, _ in lines if key not in judged][:max((limit or 100) - 9, 0)]
    assert [text for chunk in seen[1:] for text in chunk] == [text for key, text in lines if key in {*judged, *others}]
    assert max(map(len, seen[1:])) <= 5


def test_a_stopped_run_goes_on_behind_its_last_chunk(hand_made, tmp_path):
    class Encoder(Listed):
        stops_at, count = None, 0

        def encode_text(self, texts):
            type(self).count += 1
            if type(self).count == self.stops_at:
                raise KeyboardInterrupt
            return super().encode_text(texts)

        def num_truncated(self, texts):
            return len(texts)

        def fingerprint(self):
            return 'listed'

    options = dict(root=str(hand_made), chunk_size=8, cache=str(tmp_path / 'kept'))
    whole = PassageRetrieval(**{**options, 'cache': None}).run(Encoder(), TaskData())
    Encoder.stops_at, Encoder.count = 4, 0
    with pytest.raises(KeyboardInterrupt):
        PassageRetrieval(**options).run(Encoder(), TaskData())
    assert len(list((tmp_path / 'kept').iterdir())) == 2
    Encoder.stops_at, Encoder.count = None, 0
    assert PassageRetrieval(**options).run(Encoder(), TaskData()) == whole
    assert Encoder.count == 1 + 3
    with pytest.raises(ConfigError, match='has none. Leave cache out'):
        PassageRetrieval(**options).run(Listed(), TaskData())


def test_a_packed_collection(hand_made):
    plain = PassageRetrieval(root=str(hand_made)).run(Listed(), TaskData())
    (hand_made / 'c.tsv.gz').write_bytes(gzip.compress((hand_made / 'collection.tsv').read_bytes()))
    assert PassageRetrieval(root=str(hand_made), collection='c.tsv.gz').run(Listed(), TaskData()) == plain
    (hand_made / 'c.tsv.gz').write_bytes((hand_made / 'c.tsv.gz').read_bytes()[:200])
    with pytest.raises(DataError, match='cannot be read behind line'):
        PassageRetrieval(root=str(hand_made), collection='c.tsv.gz').run(Listed(), TaskData())


@pytest.mark.parametrize('name, line, message', [
    ('collection.tsv', 'p3\tv 1 1 1 1 1', "'p3' is there twice"), ('collection.tsv', 'p50', 'expected an id, a tab'),
    ('queries.dev.small.tsv', 'q0\tv 1 0 0 0 0', "'q0' is there twice"), ('queries.dev.small.tsv', 'q8', '2 cells'),
    ('qrels.dev.tsv', 'q1\t0\tp99\t1', "1 of 10 judged ones are not among them, such as 'p99'"),
    ('qrels.dev.tsv', 'q1\tp1', 'expected query, 0, passage, grade'),
    ('qrels.dev.tsv', 'q1\t0\tp1\thigh', 'expected query, 0, passage, grade')])
def test_refused_files(hand_made, name, line, message):
    path = hand_made / name
    if name == 'collection.tsv' and 'p3' in line:
        relevant = (hand_made / 'qrels.dev.tsv').read_text().split('\t')[2]
        line, message = line.replace('p3', relevant), message.replace('p3', relevant)
    path.write_text(f'{path.read_text()}{line}\n')
    with pytest.raises(DataError, match=message):
        PassageRetrieval(root=str(hand_made)).run(Listed(), TaskData())


def test_other_refusals(hand_made):
    lines = (hand_made / 'qrels.dev.tsv').read_text()
    (hand_made / 'qrels.dev.tsv').write_text(lines + lines.splitlines()[0] + '\n')
    with pytest.raises(DataError, match='are judged twice'):
        PassageRetrieval(root=str(hand_made)).run(Listed(), TaskData())
    (hand_made / 'qrels.dev.tsv').write_text('q0\t0\tp1\t0\n')
    with pytest.raises(DataError, match='names no relevant passage'):
        PassageRetrieval(root=str(hand_made)).run(Listed(), TaskData())
    (hand_made / 'qrels.dev.tsv').write_text(lines)
    (hand_made / 'collection.tsv').write_bytes(b'p0\tv \xff\n')
    with pytest.raises(DataError, match='collection.tsv:1: not text in UTF-8'):
        PassageRetrieval(root=str(hand_made)).run(Listed(), TaskData())
    (hand_made / 'collection.tsv').unlink()
    with pytest.raises(DataError, match='does not exist'):
        PassageRetrieval(root=str(hand_made)).run(Listed(), TaskData())


@pytest.mark.parametrize('options', [dict(accuracy_at=[]), dict(accuracy_at=[0]), dict(precision_recall_at=10),
                                     dict(corpus_max_size=-1), dict(mode='both'), dict(definition='k'),
                                     dict(chunk_size=0), dict(cache=''), dict(root='')])
def test_refused_arguments(options):
    with pytest.raises(ConfigError):
        PassageRetrieval(**{'root': 'x', **options})


NO_PAIRS = torch.zeros(2, 0, dtype=torch.int64)


@pytest.mark.parametrize('call, message', [
    (lambda: PassageRanks(torch.full((2, 3), torch.nan)), 'finite'),
    (lambda: PassageRanks(torch.full((2, 3), 1e30)), 'finite length'),
    (lambda: PassageRanks(torch.zeros(0, 3)), 'Q > 0'), (lambda: PassageRanks(torch.zeros(1, 3), 0), 'k is 0'),
    (lambda: PassageRanks(torch.zeros(1, 3), kinds=['l2']), 'l2'),
    (lambda: PassageRanks(torch.zeros(1, 3)).add(torch.zeros(2, 4), *NO_PAIRS), r'\(B, 3\)'),
    (lambda: PassageRanks(torch.zeros(1, 3)).add(torch.full((2, 3), torch.inf), *NO_PAIRS), 'not finite'),
    (lambda: PassageRanks(torch.zeros(1, 3)).ranks(), 'no relevant item')])
def test_refused_tensors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
