"""Files of the text tasks in their layouts, and encoders that need no weights."""

import zlib
from pathlib import Path

import torch

from clear.evaluation.text.toy import write_lines as write
from clear.evaluation.text.toy import write_packed_pairs
from clear.evaluation.text.toy import write_year as write_pairs_of_year


class WordBag(torch.nn.Module):
    """A text is the sum of its words' vectors, which are functions of the words; it reads eight of them."""

    limit = 8

    def __init__(self, dim=16, vectors=None):
        super().__init__()
        self.dim, self.vectors = dim, vectors

    def vector(self, word):
        if self.vectors is not None:
            return self.vectors[word]
        return torch.randn(self.dim, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))

    def encode_text(self, texts):
        return torch.stack([sum(map(self.vector, text.split()[:self.limit])) for text in texts])

    def num_truncated(self, texts):
        return sum(len(text.split()) > self.limit for text in texts)

    def fingerprint(self):
        return f'word bag {self.dim}'


class Peer:
    """An encoder as sentence-transformers' evaluators call theirs."""

    similarity_fn_name = 'cosine'

    def __init__(self, encoder):
        self.encoder = encoder
        self.model_card_data = type('Card', (), dict(set_evaluation_metrics=lambda *args, **kwargs: None))()

    def encode(self, texts, convert_to_tensor=False, **options):
        found = self.encoder.encode_text(list(texts))
        return found if convert_to_tensor else found.numpy()

    encode_query = encode_document = encode


def sentences(count, words=6, seed=0, vocabulary=30):
    """Different sentences of a small vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    return [' '.join(f'w{index}' for index in torch.randint(vocabulary, (words,), generator=generator).tolist())
            for _ in range(count)]


def write_year(root, year, subsets, count=12, seed=0):
    """A year of STS as SentEval has it, the first score of each sub-set empty; sub-set -> (first, second, scores)."""
    pairs, written = {}, {}
    for place, name in enumerate(subsets):
        first, second = sentences(count, seed=seed + 2 * place), sentences(count, seed=seed + 2 * place + 1)
        scores = (5 * torch.rand(count, generator=torch.Generator().manual_seed(seed + place))).tolist()
        pairs[name] = [*zip(['', *(f'{score:.6f}' for score in scores[1:])], first, second)]
        written[name] = first[1:], second[1:], [float(f'{score:.6f}') for score in scores[1:]]
    write_pairs_of_year(root, year, pairs)
    return written


def write_pairs(root, name, split='test', count=20, seed=7):
    """STS-B (packed or not) or SICK; (first, second, scores)."""
    first, second = sentences(count, seed=seed), sentences(count, seed=seed + 1)
    scores = [round(float(value), 3) for value in
              5 * torch.rand(count, generator=torch.Generator().manual_seed(seed))]
    rows = list(zip(scores, first, second))
    if name == 'packed':
        write_packed_pairs(root, {'train': [('3.0', two, one) for _, one, two in rows],
                                  split: [(str(score), one, two) for score, one, two in rows]})
    elif name == 'sts-b':
        write(Path(root) / 'STS' / 'STSBenchmark' / f'sts-{split}.csv',
              [f'main\tx\t2012\t{row}\t{score}\t{one}\t{two}' for row, (score, one, two) in enumerate(rows)])
    else:
        labels = ('NEUTRAL', 'ENTAILMENT', 'CONTRADICTION')
        write(Path(root) / 'SICK' / f'SICK_{dict(test="test_annotated", dev="trial").get(split, split)}.txt',
              ['pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment',
               *(f'{row}\t{one}\t{two}\t{score}\t{labels[row % 3]}' for row, (score, one, two) in enumerate(rows))])
    return first, second, scores


def labelled(count, classes=2, seed=0):
    """(sentence, class): texts of a class share two words of its own, but for some noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for row in range(count):
        label = row % classes
        shown = label if torch.rand((), generator=generator) > 0.15 else (label + 1) % classes
        length = int(torch.randint(1, 4, (), generator=generator))
        noise = [f'n{index}' for index in torch.randint(40, (length,), generator=generator).tolist()]
        rows.append((' '.join([f'c{shown}', f'd{shown}', *noise]), label))
    return rows


def write_transfer(root, name, count=60, seed=0):
    """One of SentEval's sets in its layout."""
    from clear.evaluation.text.transfer_files import CLASSES, transfer_files

    paths, classes = transfer_files(Path(root), name), CLASSES[name]
    if name in ('mr', 'cr', 'subj', 'mpqa'):
        for label, path in enumerate(paths):
            write(path, [f'{text} caf\xe9' for text, own in labelled(count, 2, seed) if own == label], 'latin-1')
        return
    for place, path in enumerate(paths):
        rows = labelled(count, len(classes), seed + place)
        others = [text for text, _ in labelled(count, len(classes), seed + place + 10)]
        pairs = [(text, other, label) for (text, label), other in zip(rows, others)]
        lines = {
            'trec': [f'{classes[label]}:kind {text}' for text, label in rows],
            'mrpc': ['Quality\tid\tid\tone\ttwo', *(f'{label}\t1\t2\t{one}\t"{two}' for one, two, label in pairs)],
            'sst2': [f'{text}\t{label}' for text, label in rows],
            'sst5': [f'{label} {text}' for text, label in rows],
            'sick-e': ['id\tA\tB\tscore\tclass', *(f'{row}\t{one}\t{two}\t{row % 5}.0\t{classes[label]}'
                                                    for row, (one, two, label) in enumerate(pairs))]}
        write(path, lines[name], 'latin-1' if name == 'trec' else 'utf-8')
