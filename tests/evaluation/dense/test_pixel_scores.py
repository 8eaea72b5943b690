"""Metrics of pixels: against loops and torchmetrics, whatever the batches; and ViRB's own."""

import itertools
import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryJaccardIndex, MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.regression import MeanAbsoluteError

from clear.core.errors import ConfigError, DataError
from clear.evaluation.dense.scores import KINDS, pixel_scores

COUNT, SIZE, CLASSES = 7, (6, 5), 4
METRICS = dict(classes='miou', mask='iou', depth='l1', edges='l1', flow='epe', luminance='neighbour_accuracy',
               image='l1')
CHANNELS = dict(classes=CLASSES, flow=2, image=3)


def drawn(kind, seed=0, count=COUNT):
    """Outputs, values and valid; of classes the third image has only class 0, and its last is nowhere."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(count, CHANNELS.get(kind, 1), *SIZE, generator=generator)
    valid = torch.rand(count, *SIZE, generator=generator) < 0.8
    if kind == 'classes':
        outputs[:, -1] = -9
        values = torch.randint(CLASSES - 1, (count, *SIZE), generator=generator, dtype=torch.uint8)
        values[2] = 0
        return outputs, values.masked_fill(~valid, 255), valid
    if kind == 'mask':
        return outputs, torch.randint(2, (count, *SIZE), generator=generator, dtype=torch.uint8), valid
    values = torch.rand(outputs.shape, generator=generator) + (kind == 'depth')
    if kind == 'luminance':
        outputs = values + outputs * 0.1
    if kind == 'flow':
        outputs, values = values * 40 + outputs * 4, values * 40
    return outputs, values * valid[:, None], valid


def scores_of(kind, parts, legacy=False, **options):
    scores = pixel_scores(kind, CLASSES if kind == 'classes' else None, METRICS[kind], legacy=legacy, **options)
    for part in parts:
        scores.update(*part)
    return scores.values()


def cut(tensors, size):
    return list(zip(*(tensor.split(size) for tensor in tensors)))


@pytest.mark.parametrize('kind', KINDS)
def test_no_metric_depends_on_the_batch(kind):
    tensors = drawn(kind)
    whole = scores_of(kind, [tensors])
    for size in (1, 2, 5):
        assert scores_of(kind, cut(tensors, size)) == pytest.approx(whole, rel=1e-12, nan_ok=True)
    order = torch.tensor([6, 2, 0, 1, 5, 4, 3])
    found = scores_of(kind, cut([tensor[order] for tensor in tensors], 3))
    assert found == pytest.approx(whole, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize('kind', KINDS)
def test_invalid_pixels_do_not_count(kind):
    outputs, values, valid = drawn(kind)
    other = outputs.masked_fill(~valid[:, None], 77.0)
    assert scores_of(kind, [(other, values, valid)]) == pytest.approx(scores_of(kind, [(outputs, values, valid)]),
                                                                      nan_ok=True)


# Classes and masks


def counted(predictions, values, valid, classes):
    counts = np.zeros((classes, classes), int)
    for predicted, truth, counts_here in zip(predictions.flatten().tolist(), values.flatten().tolist(),
                                             valid.flatten().tolist()):
        if counts_here:
            counts[truth, predicted] += 1
    return counts


def test_classes_by_loops_and_torchmetrics():
    outputs, values, valid = drawn('classes')
    found = scores_of('classes', cut((outputs, values, valid), 3), means=dict(no_ground=[1, 2, 3], last=[3]))
    counts = counted(outputs.argmax(1), values, valid, CLASSES)
    iou = [counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]) for k in range(3)]
    assert [found[f'iou_{k}'] for k in range(3)] == pytest.approx(iou) and math.isnan(found['iou_3'])
    assert found['miou'] == pytest.approx(np.mean(iou)) and found['no_ground'] == pytest.approx(np.mean(iou[1:]))
    assert math.isnan(found['last'])
    assert found['aacc'] == pytest.approx(np.trace(counts) / counts.sum())
    assert found['macc'] == pytest.approx(np.mean([counts[k, k] / counts[k].sum() for k in range(3)]))
    targets = values.long()
    for name, peer in (('miou', MulticlassJaccardIndex(CLASSES, ignore_index=255)),
                       ('aacc', MulticlassAccuracy(CLASSES, average='micro', ignore_index=255)),
                       ('macc', MulticlassAccuracy(CLASSES, average='macro', ignore_index=255))):
        assert peer(outputs, targets).item() == pytest.approx(found[name], abs=1e-6), name


def test_the_hands_of_egohands():
    scores = pixel_scores('classes', 5, 'hands_miou', means=dict(hands_miou=[1, 2, 3, 4]))
    values = torch.tensor([[[0, 0, 0, 1, 2, 3]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 0, 1, 1, 2, 0]]])
    scores.update(torch.nn.functional.one_hot(predicted, 5).permute(0, 3, 1, 2).float(), values, values < 9)
    found = scores.values()
    assert found['hands_miou'] == pytest.approx((1 / 2 + 1 + 0) / 3)  # the fourth hand is nowhere
    assert found['miou'] == pytest.approx((2 / 4 + 1 / 2 + 1 + 0) / 4) and scores.higher_is_better


def test_masks_by_loops_and_torchmetrics():
    outputs, values, valid = drawn('mask')
    found = scores_of('mask', cut((outputs, values, valid), 2))
    counts = counted((outputs[:, 0] > 0).int(), values, valid, 2)
    assert found['iou'] == pytest.approx(counts[1, 1] / (counts.sum() - counts[0, 0]))
    assert found['aacc'] == pytest.approx(np.trace(counts) / counts.sum())
    peer = BinaryJaccardIndex(ignore_index=255)
    peer.update(outputs[:, 0].sigmoid(), values.long().masked_fill(~valid, 255))
    assert peer.compute().item() == pytest.approx(found['iou'], abs=1e-6)


def test_a_mask_that_is_empty_everywhere_has_no_iou():
    found = scores_of('mask', [(torch.full((1, 1, 2, 2), -1.0), torch.zeros(1, 2, 2, dtype=torch.uint8),
                                torch.ones(1, 2, 2))])
    assert math.isnan(found['iou']) and found['aacc'] == 1
    assert math.isnan(scores_of('mask', [])['iou']) and math.isnan(scores_of('classes', [])['miou'])


def test_a_logit_of_0_is_background():
    found = scores_of('mask', [(torch.zeros(1, 1, 1, 2), torch.tensor([[[0, 1]]]), torch.ones(1, 1, 2))])
    assert found == dict(iou=0, aacc=0.5)


# Depth, flow, errors


def test_depth_by_loops():
    outputs, values, valid = drawn('depth')
    outputs = outputs.abs() + 0.5
    found = scores_of('depth', cut((outputs, values, valid), 3), most=1.9)
    errors, images = [], []
    for image in range(COUNT):
        pairs = [(o, y) for o, y, v in zip(outputs[image].flatten().tolist(), values[image].flatten().tolist(),
                                           valid[image].flatten().tolist()) if v and y <= 1.9]
        errors += [abs(o - y) for o, y in pairs]
        images.append([np.mean([abs(o - y) / y for o, y in pairs]),
                       math.sqrt(np.mean([(o - y)**2 for o, y in pairs])),
                       *(np.mean([max(o / y, y / o) < 1.25**power for o, y in pairs]) for power in (1, 2, 3))])
    assert found['l1'] == pytest.approx(np.mean(errors), abs=1e-6)
    names = ('abs_rel', 'rmse', 'delta1', 'delta2', 'delta3')
    assert [found[name] for name in names] == pytest.approx(np.mean(images, 0).tolist(), abs=1e-6)
    pooled = scores_of('depth', [(outputs, values, valid)], pooled=True, most=1.9)
    assert pooled['l1'] == pytest.approx(found['l1']) and pooled['rmse'] != pytest.approx(found['rmse'], abs=1e-6)


def test_flow_by_loops():
    outputs, values, valid = drawn('flow')
    errors = [(math.hypot(du - u, dv - v), math.hypot(u, v)) for (du, dv), (u, v), counts in zip(
        outputs.permute(0, 2, 3, 1).reshape(-1, 2).tolist(), values.permute(0, 2, 3, 1).reshape(-1, 2).tolist(),
        valid.flatten().tolist()) if counts]
    found = scores_of('flow', cut((outputs, values, valid), 3))
    assert found['epe'] == pytest.approx(np.mean([error for error, _ in errors]), abs=1e-5)
    share = np.mean([error > 3 and error > 0.05 * length for error, length in errors])
    assert found['fl_all'] == pytest.approx(share) and 0.1 < share < 0.95


@pytest.mark.parametrize('kind', ['edges', 'image', 'luminance'])
def test_errors_are_those_of_torchmetrics(kind):
    outputs, values, valid = drawn(kind)
    found = scores_of(kind, cut((outputs, values, valid), 2))
    chosen = valid[:, None].expand_as(outputs)
    assert found['l1'] == pytest.approx(MeanAbsoluteError()(outputs[chosen], values[chosen]).item(), abs=1e-6)
    if kind == 'luminance':
        near = [abs(o - y) <= np.float32(0.05) for o, y in zip(outputs[chosen].tolist(), values[chosen].tolist())]
        assert found['neighbour_accuracy'] == pytest.approx(np.mean(near)) and 0.1 < np.mean(near) < 0.9


@pytest.mark.parametrize('kind', ['depth', 'flow'])
def test_no_valid_pixel_at_all(kind):
    outputs, values, valid = drawn(kind)
    with pytest.raises(DataError, match='no pixel of any image has a'):
        scores_of(kind, [(outputs, values * 0, torch.zeros_like(valid))])


# ViRB's own


def test_legacy_is_beside_the_others():
    for kind in KINDS:
        tensors = drawn(kind)
        plain, both = scores_of(kind, [tensors]), scores_of(kind, [tensors], legacy=True)
        beside = {name for name in both if name.startswith('legacy_')}
        assert {name: both[name] for name in {*both} - beside} == pytest.approx(plain, nan_ok=True)
        assert bool(beside) == (kind != 'flow')


def test_recorded_iou_of_classes():
    generator = torch.Generator()
    outputs = torch.randn(2, 5, 6, 6, generator=generator.manual_seed(5), dtype=torch.float64)
    labels = torch.randint(5, (2, 6, 6), generator=generator.manual_seed(6))
    scores = pixel_scores('classes', 5, 'legacy_iou', legacy=True)
    scores.update(outputs, labels.to(torch.uint8), torch.ones(2, 6, 6))
    assert scores.values()['legacy_iou'] == pytest.approx(0.08909632189863406, abs=1e-9)


def test_recorded_neighbour_accuracy():
    generator = torch.Generator()
    outputs = torch.randn(2, 1, 6, 6, generator=generator.manual_seed(1), dtype=torch.float64)
    labels = torch.randn(2, 1, 6, 6, generator=generator.manual_seed(4), dtype=torch.float64).abs().clamp(max=1)
    labels[:, :, ::2] = 0
    scores = pixel_scores('luminance', None, 'legacy_neighbour_accuracy', legacy=True)
    scores.update(outputs, labels, (labels != 0)[:, 0])
    found = scores.values()
    assert found['legacy_neighbour_accuracy'] == pytest.approx(0.0833333358168602, abs=1e-7)
    assert found['neighbour_accuracy'] == pytest.approx(1 / 12)


def test_legacy_depends_on_the_batch_and_void_is_no_class():
    outputs, values, valid = drawn('classes')
    values[0, valid[0]] = values[0, valid[0]].clamp(max=1)
    found = [scores_of('classes', cut((outputs[:2], values[:2], valid[:2]), size), legacy=True)['legacy_iou']
             for size in (1, 2)]
    assert found[0] != pytest.approx(found[1]), 'class 2 is not in the first image'
    by_hand = []
    for label, image in itertools.product((1, 2), range(2)):
        inside = valid[image]
        predicted, there = outputs[image].argmax(0)[inside] == label, values[image][inside] == label
        by_hand.append((int((predicted & there).sum()) + 1e-8) / (int((predicted | there).sum()) + 1e-8))
    first = scores_of('classes', [(outputs[:2], values[:2], valid[:2])], legacy=True)
    assert first['legacy_iou'] == pytest.approx(np.mean(by_hand))


def test_legacy_of_an_image_of_background_alone():
    outputs, values, valid = drawn('classes')
    assert math.isnan(scores_of('classes', [(outputs[2:3], values[2:3], valid[2:3])], legacy=True)['legacy_iou'])
    empty = torch.full((1, 1, 2, 2), -1.0), torch.zeros(1, 2, 2, dtype=torch.uint8), torch.ones(1, 2, 2)
    assert scores_of('mask', [empty], legacy=True)['legacy_iou'] == 1


def test_legacy_means_are_by_the_number_of_images():
    outputs, values, valid = drawn('mask')
    one, rest = [tensor[:5] for tensor in (outputs, values, valid)], [tensor[5:] for tensor in (outputs, values, valid)]
    parts = [scores_of('mask', [part], legacy=True)['legacy_iou'] for part in (one, rest)]
    assert scores_of('mask', [one, rest], legacy=True)['legacy_iou'] == pytest.approx((parts[0] * 5 + parts[1] * 2) / 7)


# What cannot be


@pytest.mark.parametrize('kind, classes, metric, options, said', [
    ('boxes', None, 'iou', {}, 'target_kind'), ('mask', None, 'miou', {}, "metric is 'miou'; expected 'iou' or 'aacc'"),
    ('classes', None, 'miou', {}, 'num_classes is None'), ('classes', 256, 'miou', {}, '255 is void'),
    ('classes', 3, 'legacy_iou', {}, 'metric is'), ('flow', None, 'epe', dict(most=3), "no key 'most'"),
    ('classes', 3, 'miou', dict(num_classes=4), "no key 'num_classes'"),
    ('classes', 3, 'miou', dict(means=[1]), 'names with lists'), ('classes', 3, 'hands', {}, "metric is 'hands'"),
    ('classes', 3, 'miou', dict(means=dict(a=[3])), 'metric_options.means.a')])
def test_options_that_are_none(kind, classes, metric, options, said):
    with pytest.raises(ConfigError, match=said):
        pixel_scores(kind, classes, metric, **options)


def test_directions():
    assert pixel_scores('depth', None, 'delta1').higher_is_better
    assert not pixel_scores('depth', None, 'rmse').higher_is_better
    assert not pixel_scores('flow', None, 'fl_all').higher_is_better


@pytest.mark.parametrize('kind', KINDS)
def test_shapes_that_do_not_fit(kind):
    outputs, values, valid = drawn(kind)
    for wrong in ((outputs[..., :-1], values, valid), (outputs, values, valid[:1]), (outputs[:1], values, valid)):
        with pytest.raises(ValueError, match='do not fit'):
            scores_of(kind, [wrong])


def test_outputs_of_another_number():
    outputs, values, valid = drawn('classes')
    with pytest.raises(ValueError, match='not of 4 classes'):
        scores_of('classes', [(outputs[:, :2], values, valid)])
    outputs, values, valid = drawn('mask')
    with pytest.raises(ValueError, match=r'should be \(N, 1, H, W\)'):
        scores_of('mask', [(outputs.repeat(1, 2, 1, 1), values, valid)])
