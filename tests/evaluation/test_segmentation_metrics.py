import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from clear.evaluation.metrics.pixels.depth import DepthErrors
from clear.evaluation.metrics.pixels.flow import FlowErrors
from clear.evaluation.metrics.pixels.segmentation import ConfusionMatrix
from clear.evaluation.metrics.pixels.virb import batch_binary_iou, batch_iou, neighbour_accuracy


def drawn(classes=7, shape=(3, 20, 30), void=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    predictions, targets = (torch.randint(classes, shape, generator=generator) for _ in range(2))
    if void is not None:
        targets[torch.rand(shape, generator=generator) < 0.2] = void
    return predictions, targets


def by_loops(predictions, targets, classes, void=None):
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for predicted, target in zip(predictions.flatten().tolist(), targets.flatten().tolist()):
        if target != void:
            counts[target, predicted] += 1
    return counts


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int64])
@pytest.mark.parametrize('classes, void', [(7, None), (7, 255), (7, 7), (7, 0), (7, 3), (200, 255), (1, 255)])
def test_counts_are_those_of_loops(dtype, classes, void):
    predictions, targets = drawn(classes, void=void)
    matrix = ConfusionMatrix(classes, void)
    matrix.update(predictions, targets.to(dtype))
    assert torch.equal(matrix.counts, by_loops(predictions, targets, classes, void))


@pytest.mark.parametrize('void', [-1, -100, 1000])
def test_void_that_is_no_byte(void):
    predictions, targets = drawn(void=void)
    matrix = ConfusionMatrix(7, void)
    matrix.update(predictions, targets)
    assert torch.equal(matrix.counts, by_loops(predictions, targets, 7, void))


def test_many_classes_and_more_pixels_than_a_chunk():
    predictions, targets = drawn(2000, (1, 800, 900), 65535)
    matrix = ConfusionMatrix(2000, 65535)
    matrix.update(predictions, targets)
    kept = targets != 65535
    expected = torch.from_numpy(np.bincount((targets * 2000 + predictions)[kept].numpy(), minlength=2000 * 2000))
    assert torch.equal(matrix.counts.flatten(), expected)


@pytest.mark.parametrize('void', [None, 255])
def test_mean_is_torchmetrics_and_of_the_pooled_matrix(void):
    parts = [drawn(5, (1, 9, 11), void, seed) for seed in range(4)]
    matrix, peer = ConfusionMatrix(5, void), MulticlassJaccardIndex(5, ignore_index=void)
    for part in parts:
        matrix.update(*part)
        peer.update(*part)
    assert matrix.mean_iou() == pytest.approx(peer.compute().item(), abs=1e-6)
    whole = ConfusionMatrix(5, void)
    whole.update(*(torch.cat(tensors) for tensors in zip(*parts)))
    assert torch.equal(whole.counts, matrix.counts)


def test_absent_and_only_predicted_classes():
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([[0, 0, 1, 1], [0, 0, 1, 3]]), torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]]))
    assert matrix.iou().nan_to_num(nan=-1).tolist() == [1, 0.75, -1, 0]
    assert matrix.mean_iou() == pytest.approx((1 + 0.75 + 0) / 3)
    assert matrix.pixel_accuracy() == 7 / 8 and matrix.mean_class_accuracy() == pytest.approx((1 + 0.75) / 2)


def test_three_images_of_which_one_is_wrong():
    """torchmetrics' segmentation.MeanIoU says 0.75 here, which is no pooled figure."""
    right, wrong = torch.tensor([[0, 0, 1, 1]]), torch.zeros(1, 4, dtype=torch.long)
    matrix = ConfusionMatrix(2)
    for predicted in (right, right, wrong):
        matrix.update(predicted, right)
    assert matrix.mean_iou() == pytest.approx((6 / 8 + 4 / 6) / 2)


def test_void_that_is_a_class_is_not_a_void_beside_the_classes():
    targets, predictions = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 1, 1, 1, 0, 2])
    means = []
    for void, renamed in ((0, targets), (255, torch.where(targets == 0, 255, targets))):
        matrix = ConfusionMatrix(3, void)
        matrix.update(predictions, renamed)
        means.append(matrix.mean_iou())
        assert matrix.iou().tolist() == pytest.approx([0, 2 / 3, 1])
    assert means == pytest.approx([5 / 9, 5 / 9])


@pytest.mark.parametrize('predictions, targets, named', [
    ([3], [0], 'predictions hold 3'), ([-1], [0], 'predictions hold -1'), ([0], [3], 'targets hold 3'),
    ([0], [-1], 'targets hold -1'), ([0, 1], [0], 'differ in shape')])
def test_indices_that_are_no_class(predictions, targets, named):
    with pytest.raises(ValueError, match=named):
        ConfusionMatrix(3).update(torch.tensor(predictions), torch.tensor(targets))


def test_bytes_that_are_no_class():
    with pytest.raises(ValueError, match='targets hold 7'):
        ConfusionMatrix(3, 255).update(torch.tensor([0, 0]), torch.tensor([255, 7], dtype=torch.uint8))


def test_nothing_at_all_is_no_accuracy():
    matrix = ConfusionMatrix(3)
    matrix.update(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    assert all(np.isnan(value) for value in (matrix.mean_iou(), matrix.pixel_accuracy(), matrix.mean_class_accuracy()))


def test_depth_by_hand():
    predicted = torch.tensor([[[1.0, 2.0, 9.0, -5.0]], [[4.0, 4.0, 0.0, 8.0]]])
    target = torch.tensor([[[2.0, 2.0, 0.0, float('nan')]], [[4.0, 5.0, 11.0, 1.0]]])
    errors = DepthErrors(most=10)
    errors.update(predicted[:, None], target[:, None])
    found = errors.values()
    # Image 0: 1 for 2, 2 for 2. Image 1: 4 for 4, 4 for 5, 8 for 1.
    assert found['l1'] == pytest.approx((1 + 0 + 0 + 1 + 7) / 5)
    assert found['abs_rel'] == pytest.approx(((0.5 + 0) / 2 + (0 + 0.2 + 7) / 3) / 2)
    assert found['rmse'] == pytest.approx((np.sqrt(1 / 2) + np.sqrt(50 / 3)) / 2)
    assert found['delta1'] == pytest.approx((1 / 2 + 1 / 3) / 2)  # 5/4 is not below 1.25
    assert found['delta2'] == pytest.approx((1 / 2 + 2 / 3) / 2) and found['delta3'] == found['delta2']
    pooled = DepthErrors(most=10, pooled=True)
    for image in range(2):
        pooled.update(predicted[image:image + 1], target[image:image + 1])
    found = pooled.values()
    assert found['abs_rel'] == pytest.approx(7.7 / 5) and found['rmse'] == pytest.approx(np.sqrt(51 / 5))
    assert found['delta1'] == 2 / 5


def test_depths_that_are_not_there_or_not_finite():
    with pytest.raises(ValueError, match='no pixel of any image has a depth'):
        DepthErrors().values()
    with pytest.raises(ValueError, match='not finite'):
        DepthErrors().update(torch.full((1, 2, 2), torch.nan), torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match='differ in shape'):
        DepthErrors().update(torch.ones(1, 2, 2), torch.ones(1, 2, 3))
    low = DepthErrors()
    low.update(torch.tensor([[[-1.0]]]), torch.tensor([[[1.0]]]))
    assert low.values()['l1'] == pytest.approx(0.999)


def test_flow_by_hand():
    target = torch.tensor([[100.0, 0], [0, 10], [3, 4], [0, 0]]).T[None, :, None]
    predicted = target + torch.tensor([[4.0, 0], [0, 4], [0, 3], [99, 0]]).T[None, :, None]
    errors = FlowErrors()
    errors.update(predicted, target, torch.tensor([[[1, 1, 1, 0]]]))
    # 4 of 100 is within 5 %, 4 of 10 is not, 3 is not above 3; the last is not valid.
    assert errors.values() == dict(epe=pytest.approx(11 / 3), fl_all=pytest.approx(1 / 3))
    with pytest.raises(ValueError, match='should be'):
        errors.update(predicted[:, :1], target[:, :1], torch.ones(1, 1, 4))
    with pytest.raises(ValueError, match='no pixel'):
        FlowErrors().values()


def test_iou_of_a_batch_as_virb_has_it():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 5, 6, 6, generator=generator), torch.randint(5, (3, 6, 6), generator=generator)
    labels[labels == 4] = 0
    labels[1] = labels[1].clamp(max=2)
    scores = []
    for label in (1, 2, 3):
        each = []
        for image in range(3):
            predicted = {*map(tuple, (logits[image].argmax(0) == label).nonzero().tolist())}
            target = {*map(tuple, (labels[image] == label).nonzero().tolist())}
            each.append((len(predicted & target) + 1e-8) / (len(predicted | target) + 1e-8))
        scores.append(np.mean(each))
    assert batch_iou(logits, labels) == pytest.approx(np.mean(scores), abs=1e-12)
    assert np.isnan(batch_iou(logits, torch.zeros_like(labels)))


def test_binary_iou_and_neighbours_as_virb_has_them():
    logits = torch.tensor([[[[3.0, -3.0]]], [[[-1.0, -1.0]]]])
    assert batch_binary_iou(logits, torch.tensor([[[[1, 1]]], [[[0, 0]]]])) == pytest.approx((0.5 + 1) / 2)
    assert neighbour_accuracy(torch.tensor([[[0.5, 0.2, 0.9]]]), torch.tensor([[0.54, 0.3, 0.0]])) == 0.5
