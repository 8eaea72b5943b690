"""Both VOC 2007 protocols on a small folder: against scikit-learn, a loop that trains by torch alone, and by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC
from torchvision.transforms import v2
from voc_quarters import SMALL, Quarters, images_of
from voc_tree import annotation, write_voc

from clear.core.errors import DataError
from clear.datasets.readers.voc import read_voc, voc_targets
from clear.evaluation import VOC07SVM, VOC07Linear
from clear.evaluation.image.voc07_linear import VOC_MEAN, VOC_STD, learning_rates, summed_loss
from clear.evaluation.image.voc07_svm import voc_metrics
from clear.evaluation.task import TaskData
from clear.registry import TASKS


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp('voc'))


# The linear layer


def test_learning_rates_are_torch_s_stepped_first():
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12, eta_min=0)
    wanted = []
    for _ in range(100):
        optimizer.step()
        scheduler.step()
        wanted.append(optimizer.param_groups[0]['lr'])
    assert learning_rates(100) == pytest.approx(wanted, abs=1e-12)
    assert learning_rates(24)[11] == pytest.approx(0) and learning_rates(24)[23] == pytest.approx(0.05)


def test_loss_leaves_difficult_out_and_sums():
    logits = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    loss = summed_loss(logits, torch.tensor([[1, 0, -1]], dtype=torch.int8))
    assert loss.item() == pytest.approx(np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-1.0)), abs=1e-6)
    loss.backward()
    assert logits.grad[0, 2] == 0 and (logits.grad[0, :2] != 0).all()


def prepared(base, split, crop):
    """Images as the protocol describes them, by torchvision alone."""
    end = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(VOC_MEAN, VOC_STD)])
    for name in (base / 'ImageSets' / 'Main' / f'{split}.txt').read_text().split():
        image = v2.functional.resize(Image.open(base / 'JPEGImages' / f'{name}.jpg').convert('RGB'), [22])
        crops = [v2.functional.center_crop(image, [20, 20])] if crop == 'center' else v2.functional.five_crop(image, 20)
        yield torch.stack([end(each) for each in crops])


def test_linear_protocol_selects_on_val_and_reports_test_once(base, monkeypatch):
    encoder = Quarters()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    # No augmentation, so that a plain loop can follow.
    whole = [dict(type='Resize', size=(20, 20))]
    from clear.evaluation.image import voc07_linear

    real = voc07_linear.build_transform
    monkeypatch.setattr(voc07_linear, 'build_transform', lambda steps: real(
        whole + steps[-2:] if any(step['type'] == 'RandomRotation' for step in steps) else steps))
    task = VOC07Linear(data_root=str(base), epochs=6, t_max=6, lr=0.1, **SMALL)
    result = task.run(encoder, images_of(base))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())

    history, wanted = result.extras['history'], by_plain_torch(base, encoder, task)
    assert [entry['val_map'] for entry in history] == pytest.approx([each for each, _ in wanted], abs=1e-6)
    best = int(np.argmax([each for each, _ in wanted]))
    assert result.extras['selected'] == dict(epoch=best + 1)
    assert (result.metric, result.value) == ('map', pytest.approx(wanted[best][1], abs=1e-6))
    assert set(result.extras['metrics']) == {'map', 'map_11point', 'map_per_image'}
    assert len(result.extras['per_class']) == 20 and result.extras['n_test'] == 61
    assert np.mean(list(result.extras['per_class'].values())) == pytest.approx(result.value)


def by_plain_torch(base, encoder, task):
    """(val map, test map) after each epoch: images one by one, all five crops through the head."""
    from clear.evaluation.image.rows import shuffled

    end = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(VOC_MEAN, VOC_STD)])
    train = read_voc(base, 'train')
    images = [end(v2.functional.resize(Image.open(base / path).convert('RGB'), [20, 20]))
              for path in train.texts('path')]
    train_targets = voc_targets(train)
    head = task._new_head(12)
    optimizer = torch.optim.SGD(head.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.t_max)
    found = []
    for epoch in range(task.epochs):
        optimizer.zero_grad()
        optimizer.step()  # of nothing: the scheduler wants one before it
        scheduler.step()
        order = shuffled(len(train), task.seed, 'order', epoch).tolist()
        for start in range(0, len(order), 16):
            rows = order[start:start + 16]
            logits = head(encoder(torch.stack([images[row] for row in rows])))
            loss = 0
            for i, row in enumerate(rows):
                for column, target in enumerate(train_targets[row]):
                    if target >= 0:
                        loss = loss - torch.nn.functional.logsigmoid(logits[i, column] * (2 * int(target) - 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        maps = []
        for split, crop in (('val', 'center'), ('test', 'five')):
            with torch.no_grad():
                scores = np.stack([head(encoder(views)).mean(0).numpy() for views in prepared(base, split, crop)])
            targets = voc_targets(read_voc(base, split))
            kept = [targets[:, c] >= 0 for c in range(20)]
            maps.append(np.mean([average_precision_score(targets[kept[c], c], scores[kept[c], c]) for c in range(20)]))
        found.append(maps)
    return found


def test_augmentation_depends_on_seed_epoch_and_id_alone(base):
    runs = [VOC07Linear(data_root=str(base), epochs=2, batch_size=size, seed=seed, num_workers=workers,
                        **SMALL).run(Quarters(), images_of(base))
            for size, seed, workers in ((16, 0, 0), (16, 0, 2), (16, 1, 0))]
    losses = [[entry['loss'] for entry in run.extras['history']] for run in runs]
    assert losses[0] == losses[1] and losses[0] != losses[2]
    assert runs[0].extras == runs[1].extras


def test_unreadable_images_are_left_out_and_limited(tmp_path):
    base = write_voc(tmp_path, (2, 1, 1))
    for name in ('000001', '000021'):
        (base / 'JPEGImages' / f'{name}.jpg').write_bytes(b'no image')
    result = VOC07Linear(data_root=str(base), epochs=1, max_bad_fraction=0.1, **SMALL).run(Quarters(), images_of(base))
    assert result.extras['unreadable'] == dict(train=2, val=0, test=0)
    with pytest.raises(DataError, match='1 of 41 train images cannot be read'):
        VOC07Linear(data_root=str(base), epochs=1, **SMALL).run(Quarters(), images_of(base))


# Support vector machines


class Bank:
    def __init__(self, names, features):
        self.names, self.features = list(names), features
        self.valid = np.ones(len(self.names), bool)

    def rows_of(self, names):
        return np.array([self.names.index(name) for name in names])

    def tensors(self, rows):
        rows = rows[self.valid[rows]]
        return torch.from_numpy(self.features[rows]), torch.zeros(len(rows))


def test_machines_against_scikit_learn(base):
    rng = np.random.default_rng(0)
    splits = {name: read_voc(base, name) for name in ('trainval', 'test')}
    of = {name: voc_targets(split) for name, split in splits.items()}
    features = {name: (targets.clip(0) @ rng.standard_normal((20, 12))
                       + rng.standard_normal((len(targets), 12))).astype(np.float32) for name, targets in of.items()}
    banks = {bank: Bank([Path(path).name for path in splits[name].texts('path')], features[name])
             for bank, name in (('train', 'trainval'), ('test', 'test'))}
    task = TASKS.build(dict(type='VOC07SVM', data_root=str(base), costs=[10.0, 0.1]))
    result = task.run(None, TaskData(bank=banks))
    unit = {name: value.astype(float) / (np.linalg.norm(value.astype(float), axis=1, keepdims=True) + 1e-5)
            for name, value in features.items()}
    each = []
    for column, name in enumerate(result.extras['per_class']):
        targets = of['trainval'][:, column]
        kept = targets >= 0
        cost = result.extras['selected']['cost'][name]
        cross = result.extras['cross_validation'][name]
        assert cost == [0.1, 10.0][int(np.argmax(cross))]
        assert cross == pytest.approx([folds_by_hand(unit['trainval'][kept], targets[kept], c) for c in (0.1, 10.0)])
        model = LinearSVC(C=cost, class_weight={1: 2, 0: 1}, max_iter=2000, random_state=0, dual=True)
        scores = model.fit(unit['trainval'][kept], targets[kept]).decision_function(unit['test'])
        held = of['test'][:, column] >= 0
        each.append(average_precision_score(of['test'][held, column], scores[held]))
    assert list(result.extras['per_class'].values()) == pytest.approx(each)
    assert result.value == pytest.approx(np.mean(each)) and result.extras['n_train'] == 102


def folds_by_hand(features, targets, cost):
    """Mean over three stratified folds of scikit-learn's average precision."""
    model = LinearSVC(C=cost, class_weight={1: 2, 0: 1}, max_iter=2000, random_state=0, dual=True)
    return cross_val_score(model, features, targets, cv=3, scoring='average_precision').mean()


def test_a_bank_without_an_image_or_with_bad_ones(base):
    split = read_voc(base, 'trainval')
    features = np.random.default_rng(0).standard_normal((len(split), 5)).astype(np.float32)
    bank = Bank([Path(path).name for path in split.texts('path')], features)
    bank.valid[3] = False
    test = Bank([Path(path).name for path in read_voc(base, 'test').texts('path')], features[:61])
    result = VOC07SVM(data_root=str(base), costs=[1.0]).run(None, TaskData(bank={'train': bank, 'test': test}))
    assert result.extras['n_train'] == 101 and result.extras['unreadable'] == dict(train=1, test=0)
    bank.features[5] = np.nan
    with pytest.raises(DataError, match='not finite'):
        VOC07SVM(data_root=str(base), costs=[1.0]).run(None, TaskData(bank={'train': bank, 'test': test}))


def test_too_few_positives_are_named(tmp_path):
    base = write_voc(tmp_path, (1, 1, 1))
    with pytest.raises(DataError, match="2 of the 42 images of 'trainval' show class 'bird', at least 3"):
        targets = voc_targets(read_voc(base, 'trainval'))
        VOC07SVM(data_root=str(base)).fit(np.ones((42, 2)), targets, np.ones((42, 2)), targets)
    (base / 'Annotations' / '000002.xml').write_text(annotation([]))
    (base / 'Annotations' / '000021.xml').write_text(annotation([]))
    with pytest.raises(DataError, match="0 of the 21 images of 'train' show class 'bicycle'"):
        VOC07Linear(data_root=str(base), epochs=1).run(Quarters(), images_of(base))


def test_metrics_of_scores_by_hand():
    targets = np.array([[1, 0], [-1, 1], [0, 1]])
    scores = np.array([[1.0, 3.0], [9.0, 2.0], [2.0, 1.0]])
    found = voc_metrics(scores, targets)
    assert found['per_class'] == {'0': 0.5, '1': pytest.approx((1 / 2 + 2 / 3) / 2)}
    assert found['metrics']['map'] == pytest.approx((0.5 + 7 / 12) / 2)
