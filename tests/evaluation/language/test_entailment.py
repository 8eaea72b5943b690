"""Entailment in a toy world: a hypothesis names an attribute of a drawn scene, a wrong one, or one that is not seen."""

import re

import pytest
import torch
from banks import BankOfIds

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.make.scenes import COLOURS, SHAPES, UNSEEN, WORDS, val_scenes, write_scenes
from clear.datasets.readers.pairs.snli_ve import LABELS, read_entailment
from clear.evaluation.language.entailment import (
    Pairs,
    VisualEntailment,
    accuracy,
    fuse,
    predict,
    train_classifier,
)
from clear.evaluation.task import TaskData

ATTRIBUTES = [*COLOURS, *SHAPES, *WORDS[1:], *UNSEEN]
QUICK = dict(hidden_dim=64, epochs=40, lrs=[3e-3], batch_size=64)


class Towers(torch.nn.Module):
    """A text is the sum of the attributes that it names."""

    def encode_text(self, texts):
        return torch.tensor([[*(float(bool(re.search(rf'\b{word}s?\b', text))) for word in ATTRIBUTES), 0.1]
                             for text in texts])


class Bank(BankOfIds):
    """The embeddings of scenes under the ids of a table; one may be unreadable."""

    def __init__(self, folder, unreadable=()):
        ids = read_images(dict(type='SNLIVE', data_root=str(folder))).texts('id')
        captions = {f'flickr30k-images/{scene.number}.jpg': scene.caption() for scene in val_scenes()}
        super().__init__(ids, Towers().encode_text([captions[name] for name in ids]), unreadable)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes') / 'scenes'
    write_scenes(root, per_kind=2)
    return root


def test_what_is_learnt_from_captions_holds_for_images(folder):
    result = VisualEntailment(str(folder), **QUICK).run(Towers(), TaskData(bank={'test': Bank(folder)}))
    assert (result.metric, result.value) == ('accuracy', 1.0)
    assert result.extras['metrics'] == dict(accuracy=1.0, entailment=1.0, neutral=1.0, contradiction=1.0,
                                            text_accuracy=1.0)
    # '-' stands beside every sixth scene.
    assert result.extras['unlabelled'] == dict(train=8, val=8, test=2)
    assert (result.extras['n_train'], result.extras['n_val'], result.extras['n_test']) == (432, 432, 108)
    assert result.extras['selected']['val_accuracy'] == 1 and result.extras['selected'] in result.extras['settings']
    assert result.extras['figure_data']['labels']['matrix'] == [[36, 0, 0], [0, 36, 0], [0, 0, 36]]


def test_images_take_the_place_of_captions_and_unreadable_ones_are_counted(folder):
    bank = Bank(folder, unreadable=[0, 5])
    shown = VisualEntailment(str(folder), **QUICK).run(Towers(), TaskData(bank={'test': bank}))
    assert (shown.extras['n_test'], shown.extras['unreadable'], shown.value) == (90, 18, 1.0)
    bank.features = bank.features.roll(1, 0)  # each image shows another scene: captions are right all the same
    wrong = VisualEntailment(str(folder), **QUICK).run(Towers(), TaskData(bank={'test': bank}))
    assert wrong.value < 0.8 and wrong.extras['metrics']['text_accuracy'] == 1
    assert wrong.extras['metrics']['neutral'] == 1  # what no picture shows


def test_seeds_make_networks_of_their_own_that_come_again(folder):
    data, few = TaskData(bank={'test': Bank(folder)}), {**QUICK, 'epochs': 3, 'lrs': [1e-3, 1e-6]}
    results = [VisualEntailment(str(folder), seeds=[3, 4], **few).run(Towers(), data) for _ in range(2)]
    assert results[0] == results[1]
    per_seed = results[0].extras['per_seed']
    assert results[0].value == pytest.approx(sum(each['accuracy'] for each in per_seed.values()) / 2)
    assert list(per_seed) == ['3', '4'] and per_seed['3'] != per_seed['4']
    settings = results[0].extras['settings']
    assert [point['lr'] for point in settings] == [1e-3, 1e-6]
    assert results[0].extras['selected'] == max(settings, key=lambda point: point['val_accuracy'])


def test_pairs_are_fused_by_hand():
    one, other = torch.tensor([[1.0, 2]]), torch.tensor([[3.0, 5]])
    assert fuse(one, other).tolist() == [[1, 2, 3, 5, 4, 7, -2, -3, 3, 10]]
    pairs = Pairs(torch.eye(3), torch.tensor([2, 0]), torch.eye(3) * 2, torch.tensor([1, 0]), torch.tensor([0, 1]))
    assert torch.equal(pairs.fused(torch.tensor([1, 0])), fuse(torch.eye(3)[[0, 2]], 2 * torch.eye(3)[[0, 1]]))


def test_the_best_epoch_on_validation_is_kept():
    generator = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(40, 4, generator=generator), torch.arange(40) % 3
    pairs = Pairs(rows, torch.arange(40), rows.roll(1, 0), torch.arange(40), labels)
    val = Pairs(rows, torch.arange(40), rows.roll(1, 0), torch.arange(40), labels.roll(1))
    found = [train_classifier(pairs, val, hidden_dim=16, epochs=epochs, lr=1e-2, batch_size=8)
             for epochs in range(1, 9)]
    accuracies = [accuracy(predict(fit.network, val), val.labels) for fit in found]
    assert accuracies == [fit.val_accuracy for fit in found] == sorted(accuracies)
    assert found[-1].epoch == 1 + accuracies.index(accuracies[-1])
    before = torch.get_rng_state()
    train_classifier(pairs, val, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize('options', [dict(lrs=[]), dict(lrs=[0.0]), dict(lrs=1e-3), dict(hidden_dim=0), dict(epochs=0),
                                     dict(dropout=1.0), dict(weight_decay=-1), dict(batch_size=0), dict(seeds=[1, 1])])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        VisualEntailment('nowhere', **options)


def test_data_that_do_not_fit_are_refused(folder, tmp_path):
    task, bank = VisualEntailment(str(folder), **QUICK), Bank(folder)
    with pytest.raises(ConfigError, match='needs an encoder of text'):
        task.run(None, TaskData(bank={'test': bank}))
    with pytest.raises(DataError, match='does not exist'):
        VisualEntailment(str(tmp_path / 'nowhere')).run(Towers(), TaskData(bank={'test': bank}))
    bank.features = bank.features[:, :3]
    with pytest.raises(DataError, match='dimensions, the bank holds 3'):
        task.run(Towers(), TaskData(bank={'test': bank}))
    with pytest.raises(DataError, match='no pair of the label'):
        task.run(Towers(), TaskData(bank={'test': Bank(folder, unreadable=range(12))}))
    write_scenes(tmp_path / 'scenes', per_kind=1)
    file = tmp_path / 'scenes' / 'snli_ve_train.jsonl'
    file.write_text(file.read_text().replace('"neutral"', '"-"'))
    with pytest.raises(DataError, match="no pair of the label 'neutral'"):
        VisualEntailment(str(tmp_path / 'scenes')).run(Towers(), TaskData(bank={'test': Bank(folder)}))
    before = VisualEntailment(str(folder)).files_fingerprint()
    assert before != VisualEntailment(str(tmp_path / 'scenes')).files_fingerprint()
    assert LABELS[read_entailment(folder)[0].label] == 'entailment'
