"""Small files in the layouts of the text tasks, with made-up sentences about six places of everyday life."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clear.evaluation.text.sts_files import YEARS
from clear.evaluation.text.text_linear_probe import COLUMNS as LABELLED
from clear.evaluation.text.transfer_files import transfer_files
from clear.evaluation.text.triplets import COLUMNS as TRIPLET

Pair = tuple[str, str, str]  # score, or nothing; two sentences
# Place -> who, what they do, where.
PLACES = {
    'kitchen': (('the cook', 'a baker', 'my grandmother'),
                ('stirs the soup', 'slices the bread', 'peels the onions', 'boils the eggs'),
                ('beside the stove', 'at the long table')),
    'garden': (('the gardener', 'a neighbour', 'our uncle'),
               ('waters the roses', 'digs up the carrots', 'trims the hedge', 'plants an apple tree'),
               ('behind the house', 'along the old wall')),
    'harbour': (('the sailor', 'a fisherman', 'the captain'),
                ('mends the nets', 'unloads the fish', 'ties up the boat', 'scrubs the deck'),
                ('at the quay', 'below the lighthouse')),
    'school': (('the teacher', 'a pupil', 'the headmistress'),
               ('reads a poem', 'solves the sum', 'wipes the blackboard', 'marks the homework'),
               ('in the classroom', 'before the lesson')),
    'railway': (('the driver', 'a conductor', 'the stationmaster'),
                ('checks the tickets', 'stops the train', 'lowers the barrier', 'announces the delay'),
                ('on platform two', 'outside the tunnel')),
    'hospital': (('the doctor', 'a nurse', 'the surgeon'),
                 ('bandages the wound', 'takes the temperature', 'listens to the heart', 'prescribes the pills'),
                 ('in the ward', 'after the operation'))}
# What is said of films in class 0 and in class 1; the opposite of a word stands in the same place.
OPINIONS = (('dull', 'clumsy', 'tiresome', 'hollow', 'lifeless'),
            ('gripping', 'skilful', 'amusing', 'moving', 'lively'))
FILM_PARTS = ('script', 'ending', 'music', 'cast', 'dialogue')
WORDS = (('soup', 'bread', 7.0), ('rose', 'hedge', 6.0), ('boat', 'ship', 9.5), ('teacher', 'pupil', 7.5),
         ('train', 'platform', 6.5), ('doctor', 'surgeon', 8.5), ('captain', 'sailor', 8.0), ('poem', 'onion', 0.5),
         ('ticket', 'carrot', 0.2), ('heart', 'barrier', 0.4), ('nurse', 'hospital', 7.0), ('lesson', 'homework', 6.8),
         ('stove', 'lighthouse', 1.5), ('fish', 'net', 5.5), ('tree', 'wall', 2.0), ('pill', 'egg', 1.0))


def write_toy_texts(root: str | Path, seed: int = 0) -> Path:
    """Files for every text task, the same ones for one seed; returns `root`.

    `downstream/STS/STS13-en-test` and `stsbenchmark.tsv.gz` (pairs whose score says how much of who, what and where
    they share), `words.csv`, `wikipedia-sections/test.csv` (two sentences of one place, one of another), `msmarco`
    (what does someone do somewhere? among all sentences), `downstream/MR` (films, 50 of a class), `places/train.csv`
    and `test.csv` (sentences and their place, 36 and 108).
    """
    root, rng = Path(root), random.Random(seed)
    everything = [(sentence, place) for place in PLACES for sentence in sentences_of(place)]
    year = {part: scored_pairs(20, rng) for part in YEARS['sts13']}
    year['FNWN'][0] = '', *year['FNWN'][0][1:]  # nobody scored it
    write_year(root / 'downstream', 13, year)
    write_packed_pairs(root, {split: scored_pairs(40, rng) for split in ('dev', 'test')})
    write_lines(root / 'words.csv', [f'{first};{second};{score}' for first, second, score in WORDS])
    write_table(root / 'wikipedia-sections' / 'test.csv', TRIPLET, [triplet(rng) for _ in range(60)])
    passages = {str(row): sentence for row, (sentence, _) in enumerate(everything)}
    asked = [(who, where) for people, _, spots in PLACES.values() for who in people for where in spots]
    write_passages(root / 'msmarco', passages,
                   {str(row): f'what does {who} do {where}?' for row, (who, where) in enumerate(asked)},
                   [(str(row), passage, 1) for row, (who, where) in enumerate(asked)
                    for passage, sentence in passages.items() if sentence.startswith(who) and sentence.endswith(where)])
    for path, said in zip(transfer_files(root / 'downstream', 'mr'), (OPINIONS, OPINIONS[::-1])):
        write_lines(path, [f'the {part} is {word} .' for own, other in zip(*said) for word in (own, f'not {other}')
                           for part in FILM_PARTS], 'latin-1')
    rng.shuffle(everything)
    for split, rows in (('train', everything[:36]), ('test', everything[36:])):
        write_table(root / 'places' / f'{split}.csv', LABELLED, rows)
    return root


def sentences_of(place: str) -> list[str]:
    """Everyone of a place doing everything everywhere there."""
    return [' '.join(parts) for parts in itertools.product(*PLACES[place])]


def scored_pairs(count: int, rng: random.Random) -> list[Pair]:
    """Pairs that share what they do and where, what they do, where, a place and nothing more, or nothing."""
    return [_scored_pair(row % 5, rng) for row in range(count)]


def _scored_pair(level: int, rng: random.Random) -> Pair:
    place, other = rng.sample(list(PLACES), 2)
    (who, someone), (does, something), (where, elsewhere) = (rng.sample(parts, 2) for parts in PLACES[place])
    second = (rng.choice(sentences_of(other)), f'{someone} {something} {elsewhere}', f'{someone} {something} {where}',
              f'{someone} {does} {elsewhere}', f'{someone} {does} {where}')[level]
    return f'{level + rng.random():.2f}', f'{who} {does} {where}', second


def triplet(rng: random.Random) -> list[str]:
    """Two sentences of one place that share nothing else, and one of another."""
    place, other = rng.sample(list(PLACES), 2)
    pairs = [rng.sample(parts, 2) for parts in PLACES[place]]
    return [*(' '.join(parts) for parts in zip(*pairs)), rng.choice(sentences_of(other))]


def write_lines(path: str | Path, lines: Iterable[str], encoding: str = 'utf-8') -> Path:
    """Lines of text, each with its end; packed if the name ends in `.gz`. Makes the folder, returns the path."""
    content = ''.join(f'{line}\n' for line in lines).encode(encoding)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == '.gz' else content)
    return path


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """A comma-separated table with a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([columns, *rows])
    return write_lines(path, text.getvalue().splitlines())


def write_year(root: str | Path, year: int, parts: Mapping[str, Sequence[Pair]]) -> None:
    """A year of STS as SentEval has it: sub-set -> its pairs."""
    folder = Path(root) / 'STS' / f'STS{year}-en-test'
    for name, pairs in parts.items():
        write_lines(folder / f'STS.input.{name}.txt', [f'{first}\t{second}' for _, first, second in pairs])
        write_lines(folder / f'STS.gs.{name}.txt', [score for score, _, _ in pairs])


def write_packed_pairs(root: str | Path, splits: Mapping[str, Sequence[Pair]]) -> None:
    """STS-B as sentence-transformers packs it: split -> its pairs."""
    write_lines(Path(root) / 'stsbenchmark.tsv.gz', [
        'split\tgenre\tdataset\tyear\tscore\tsentence1\tsentence2',
        *('\t'.join((split, 'toy', 'toy', '2000', *pair)) for split, pairs in splits.items() for pair in pairs)])


def write_passages(folder: str | Path, passages: Mapping[str, str], queries: Mapping[str, str],
                   judgements: Iterable[tuple[str, str, int]]) -> None:
    """A collection in the layout of MS MARCO: texts by id, and (query, passage, grade)."""
    for name, texts in (('collection.tsv', passages), ('queries.dev.small.tsv', queries)):
        write_lines(Path(folder) / name, [f'{key}\t{text}' for key, text in texts.items()])
    write_lines(Path(folder) / 'qrels.dev.tsv', [f'{query}\t0\t{passage}\t{grade}'
                                                 for query, passage, grade in judgements])
