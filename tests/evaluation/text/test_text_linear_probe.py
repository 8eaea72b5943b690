"""Linear probes on texts: SentEval's protocols replayed with scikit-learn, tables with any probe, and odd files."""

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from text_files import WordBag, labelled, write, write_transfer

from clear.core.errors import ConfigError, DataError
from clear.evaluation.task import TaskData
from clear.evaluation.text.text_linear_probe import TextLinearProbe
from clear.evaluation.text.transfer import f1
from clear.evaluation.text.transfer_files import CLASSES, PROTOCOLS, read_transfer

CS = [0.01, 0.25, 2.0]


def arrays(texts, encoder):
    """Features and labels of a split as SentEval makes them."""
    first = encoder.encode_text(texts.first).numpy()
    if texts.second:
        second = encoder.encode_text(texts.second).numpy()
        first = np.c_[np.abs(first - second), first * second]
    return first, np.array(texts.labels)


def fitted(x, y, c):
    return LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x, y)


def by_folds(x, y, folds):
    """The C of the highest mean accuracy, as SentEval's loops find it."""
    scores = [np.mean([fitted(x[rest], y[rest], c).score(x[own], y[own]) for rest, own in
                       StratifiedKFold(folds, shuffle=True, random_state=1111).split(x, y)]) for c in CS]
    return CS[int(np.argmax(scores))]


def replayed(parts, protocol, encoder, folds):
    """(accuracy over test rows, predictions, labels, chosen) by scikit-learn alone."""
    x, y = arrays(parts['train'], encoder)
    if protocol == 'nested':
        predicted, chosen = np.zeros_like(y), []
        for rest, own in StratifiedKFold(folds, shuffle=True, random_state=1111).split(x, y):
            chosen.append(by_folds(x[rest], y[rest], folds))
            predicted[own] = fitted(x[rest], y[rest], chosen[-1]).predict(x[own])
        return predicted, y, chosen
    if protocol == 'folds':
        chosen = by_folds(x, y, folds)
    else:
        held = arrays(parts['val'], encoder)
        chosen = CS[int(np.argmax([fitted(x, y, c).score(*held) for c in CS]))]
    test = arrays(parts['test'], encoder)
    return fitted(x, y, chosen).predict(test[0]), test[1], [chosen]


@pytest.mark.parametrize('name', PROTOCOLS)
def test_the_protocols_of_senteval(tmp_path, name):
    write_transfer(tmp_path, name)
    encoder = WordBag()
    result = TextLinearProbe(dataset=name, root=str(tmp_path), folds=3, cs=CS).run(encoder, TaskData())
    predicted, labels, chosen = replayed(read_transfer(tmp_path, name), PROTOCOLS[name], encoder, 3)
    assert result.extras['selected'] == dict(c=chosen)
    assert result.value == pytest.approx((predicted == labels).mean())
    assert result.metric == 'top1' and result.extras['n_test'] == len(labels) == 60
    assert result.value > 1.3 / len(CLASSES[name])
    if name == 'mrpc':
        assert result.extras['metrics']['f1'] == pytest.approx(f1_score(labels, predicted))


def test_f1_by_hand():
    assert f1(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 1, 0])) == 0.5
    assert f1(torch.tensor([0, 0]), torch.tensor([0, 0])) == 0.0


def tables(root):
    """Captioned images in the layout of ITRA: two training files and one for tests; texts with quotes and commas."""
    paths = {}
    for place, name in enumerate(('train_0', 'train_1', 'test')):
        rows = labelled(40, 3, seed=place)
        paths[name] = str(write(root / f'{name}.csv', [',class_name,caption', *(
            f'{row},class {label},"a ""photo"", {text}"' for row, (text, label) in enumerate(rows))]))
    return paths


@pytest.mark.parametrize('kind', ['LogisticProbe', 'LinearProbe', 'KNN'])
def test_tables_with_any_probe(tmp_path, kind):
    paths = tables(tmp_path)
    options = dict(LinearProbe=dict(lrs=[0.1], seeds=1, epochs=20), KNN=dict(k=3)).get(kind, {})
    task = TextLinearProbe(train=[paths['train_0'], paths['train_1']], test=paths['test'], max_chars=120,
                           probe=dict(type=kind, **options))
    result = task.run(WordBag(), TaskData())
    assert (result.metric, result.extras['n_test']) == ('top1', 40) and result.value > 0.5
    assert result.extras['n_texts'] > 80


def test_file_kinds_and_cut_texts(tmp_path):
    paths = tables(tmp_path)
    whole = TextLinearProbe(train=paths['train_0'], test=paths['test']).run(WordBag(), TaskData())
    rows = labelled(40, 3, seed=0)
    train = dict(label=[f'class {label}' for _, label in rows], text=[f'a "photo", {text}' for text, _ in rows])
    parquet.write_table(pyarrow.table(train), tmp_path / 'train.parquet')
    test = write(tmp_path / 'test.tsv', ['text\tlabel', *(f'a "photo", {text}\tclass {label}'
                                                         for text, label in labelled(40, 3, seed=2))])
    again = TextLinearProbe(train=str(tmp_path / 'train.parquet'), test=str(test), columns=['text', 'label']).run(
        WordBag(), TaskData())
    assert again == whole
    seen = []

    class Watched(WordBag):
        def encode_text(self, texts):
            seen.extend(texts)
            return super().encode_text(texts)

    TextLinearProbe(train=paths['train_0'], test=paths['test'], max_chars=10).run(Watched(), TaskData())
    assert max(map(len, seen)) == 10


@pytest.mark.parametrize('options, message', [
    (dict(), 'give dataset='), (dict(dataset='mr'), 'give dataset='), (dict(train='x'), 'give dataset='),
    (dict(dataset='mr', root='x', test='y'), 'give dataset='), (dict(dataset='snli', root='x'), 'snli'),
    (dict(train=[], test='x'), 'a list of files'), (dict(train='x', test='y', columns=['a']), 'two names'),
    (dict(dataset='mr', root='x', folds=1), 'folds'), (dict(dataset='mr', root='x', cs=[0]), 'cs'),
    (dict(train='x', test='y', max_chars=0), 'max_chars'), (dict(train='x', test='y', probe='KNN'), 'a dict such as'),
    (dict(train='x', test='y', probe=dict(type='ZeroShot')), 'on banks alone')])
def test_refused_arguments(options, message):
    with pytest.raises(ConfigError, match=message):
        TextLinearProbe(**options)


def test_refused_files(tmp_path):
    paths = tables(tmp_path)
    other = write(tmp_path / 'other.csv', [',class_name,caption', '0,new,text', '1,newer,text'])
    with pytest.raises(DataError, match="'test' has the class 'new', which no text of 'train' shows, and 1 more"):
        TextLinearProbe(train=paths['train_0'], test=str(other)).run(WordBag(), TaskData())
    other.write_text(',class_name,caption\n0,,text\n')
    with pytest.raises(DataError, match='row 1 has no class'):
        TextLinearProbe(train=paths['train_0'], test=str(other)).run(WordBag(), TaskData())
    other.write_text(',class,caption\n0,a,text\n')
    with pytest.raises(DataError, match="no column 'class_name'"):
        TextLinearProbe(train=paths['train_0'], test=str(other)).run(WordBag(), TaskData())


@pytest.mark.parametrize('name, lines, message', [
    ('trec', ['DESC what is it ?'], 'expected CLASS:kind question'), ('trec', ['WHY:x is it ?'], "the class 'WHY'"),
    ('sst2', ['no tab'], 'expected 2 cells'), ('sst5', ['9 much'], "the class '9'"), ('mrpc', ['x', '0\t1'], '5 cells'),
    ('mr', ['one text'], '10 folds need 10 rows of each class; one has 1')])
def test_refused_transfer_files(tmp_path, name, lines, message):
    write_transfer(tmp_path, name)
    from clear.evaluation.text.transfer_files import transfer_files

    write(transfer_files(tmp_path, name)[0], lines)
    with pytest.raises(DataError, match=message):
        TextLinearProbe(dataset=name, root=str(tmp_path)).run(WordBag(), TaskData())
