"""The worked examples of docs/dense_metrics.md: what its table says of ours is what the code gives, and what it says of
other packages is what those that are installed give.
"""

import importlib.metadata
import math
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.transform import resize
from sklearn.metrics import jaccard_score
from torchmetrics.classification import BinaryJaccardIndex, MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.regression import MeanAbsoluteError, MeanAbsolutePercentageError
from torchmetrics.segmentation import DiceScore, MeanIoU

from clear.datasets.dense.geometry import nearest
from clear.evaluation.dense.scores import pixel_scores

PAGE = Path(__file__).parents[3] / 'docs' / 'dense_metrics.md'
PLUS = (torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 3]]]), torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]]))
THREE = (torch.tensor([[[0, 0, 1, 1]]] * 2 + [[[0, 0, 0, 0]]]), torch.tensor([[[0, 0, 1, 1]]] * 3))
VOID = (torch.tensor([[[0, 1, 1, 1, 0, 2]]]), torch.tensor([[[255, 255, 1, 1, 1, 2]]]))
TWO_MASKS = (torch.tensor([[[1, 1, 0, 0]], [[1, 0, 0, 0]]]), torch.tensor([[[1, 1, 1, 1]], [[0, 0, 0, 0]]]))
METRES = (torch.tensor([[[1.0, 2, 9]], [[4.0, 4, 8]]]), torch.tensor([[[2.0, 2, 0]], [[4.0, 5, 1]]]))
FLOWS = (torch.tensor([[104.0, 0], [0, 14], [3, 7]]), torch.tensor([[100.0, 0], [0, 10], [3, 4]]))
SHADES = (torch.tensor([[[0.5, 0.25, 0.75]]]), torch.tensor([[[0.5, 0.28125, 0.0]]]))


def of_classes(pair, classes, **options):
    predicted, truth = pair
    scores = pixel_scores('classes', classes, 'miou', **options)
    scores.update(torch.nn.functional.one_hot(predicted, classes).permute(0, 3, 1, 2).float(), truth.to(torch.uint8),
                  truth != 255)
    return scores.values()


def of_masks(**options):
    predicted, truth = TWO_MASKS
    scores = pixel_scores('mask', None, 'iou', **options)
    scores.update(predicted[:, None] * 2.0 - 1, truth.to(torch.uint8), truth >= 0)
    return scores.values()


def of_depths(**options):
    predicted, truth = METRES
    scores = pixel_scores('depth', None, 'l1', **options)
    scores.update(predicted[:, None], truth[:, None], truth > 0)
    return scores.values()


def of_flows():
    scores = pixel_scores('flow', None, 'epe')
    scores.update(*(each.T[None, :, None] for each in FLOWS), torch.ones(1, 1, 3))
    return scores.values()


def of_shades():
    predicted, truth = SHADES
    scores = pixel_scores('luminance', None, 'l1')
    scores.update(predicted[:, None], truth[:, None], truth > 0)
    return scores.values()


OURS = [
    ('`miou`', of_classes(PLUS, 4)['miou']), ('`iou_2`', of_classes(PLUS, 4)['iou_2']),
    ('`iou_3`', of_classes(PLUS, 4)['iou_3']), ('`aacc`', of_classes(PLUS, 4)['aacc']),
    ('`macc`', of_classes(PLUS, 4)['macc']), ('`miou`', of_classes(THREE, 2)['miou']),
    ('`legacy_iou`', of_classes(THREE, 2, legacy=True)['legacy_iou']), ('`miou`', of_classes(VOID, 3)['miou']),
    ('`macc`', of_classes(VOID, 3)['macc']), ('`iou`', of_masks()['iou']),
    ('`legacy_iou`', of_masks(legacy=True)['legacy_iou']), ('`l1`', of_depths()['l1']),
    ('`abs_rel`', of_depths()['abs_rel']), ('`abs_rel`, pooled', of_depths(pooled=True)['abs_rel']),
    ('`rmse`', of_depths()['rmse']), ('`delta1`', of_depths()['delta1']),
    ('`legacy_l1`', of_depths(legacy=True)['legacy_l1']), ('`epe`', of_flows()['epe']),
    ('`fl_all`', of_flows()['fl_all']), ('`neighbour_accuracy`', of_shades()['neighbour_accuracy']),
    ('`l1`', of_shades()['l1'])]


def rows(heading):
    part = PAGE.read_text(encoding='utf-8').split(f'## {heading}')[1].split('\n## ')[0]
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in part.splitlines() if line[:1] == '|']
    return lines[2:]


def test_every_example_is_what_the_code_gives():
    said = [(cells[0], cells[2]) for cells in rows('Definitions')]
    assert [measure for measure, _ in said] == [measure for measure, _ in OURS]
    for (measure, text), (_, value) in zip(said, OURS):
        assert (text == 'none') == math.isnan(value), measure
        assert text == 'none' or f'{float(text):.4f}' == f'{value:.4f}', measure


def test_packages_are_those_named():
    said = re.search(r'Packages run here: (.*?\d)\. ', PAGE.read_text())[1].split(', ')
    assert len(said) == 2
    for name, version in (each.split() for each in said):
        assert importlib.metadata.version(name) == version, name


@pytest.mark.filterwarnings('ignore')
def test_what_is_said_of_torchmetrics_and_scikit_learn():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = {
            'jaccard': MulticlassJaccardIndex(4)(*PLUS), 'MeanIoU': MeanIoU(4, input_format='index')(*PLUS),
            'sklearn': jaccard_score(PLUS[1].flatten(), PLUS[0].flatten(), average='macro'),
            'sklearn, labels': jaccard_score(PLUS[1].flatten(), PLUS[0].flatten(), average='macro', labels=range(4)),
            'dice': DiceScore(4, input_format='index', average='macro')(*PLUS),
            'accuracy': MulticlassAccuracy(4, average='macro')(*PLUS),
            'MeanIoU, three': MeanIoU(2, input_format='index')(*THREE),
            'jaccard, three': MulticlassJaccardIndex(2)(*THREE),
            'void 255': MulticlassJaccardIndex(3, ignore_index=255)(*VOID),
            'void 0': MulticlassJaccardIndex(3, ignore_index=0)(VOID[0], torch.where(VOID[1] == 255, 0, VOID[1])),
            'accuracy, void': MulticlassAccuracy(3, average='macro', ignore_index=255)(*VOID),
            'masks': BinaryJaccardIndex()(*TWO_MASKS)}
        valid = METRES[1] > 0
        found['mae'] = MeanAbsoluteError()(METRES[0][valid], METRES[1][valid])
        found['mape'] = MeanAbsolutePercentageError()(METRES[0][valid], METRES[1][valid])
    expected = {'jaccard': 0.5833, 'MeanIoU': 0.5833, 'sklearn': 0.5833, 'sklearn, labels': 0.4375, 'dice': 0.6190,
                'accuracy': 0.5833, 'MeanIoU, three': 0.75, 'jaccard, three': 0.7083, 'void 255': 0.5556,
                'void 0': 0.8333, 'accuracy, void': 0.5556, 'masks': 0.4, 'mae': 1.8, 'mape': 1.54}
    assert {name: round(float(value), 4) for name, value in found.items()} == expected
    text = PAGE.read_text()
    assert all(f'{value:.4f}'.rstrip('0') in text for value in expected.values())


def test_which_pixels_nearest_keeps():
    row = np.arange(6, dtype=np.uint8)[None]
    for size, cells in zip((3, 4, 9), list(zip(*rows('Targets at another size')))[1:]):
        names = [cells[0] for cells in rows('Targets at another size')]
        assert names == ['ours', 'Pillow', 'scikit-image', "torch 'nearest-exact'", 'OpenCV INTER_NEAREST_EXACT',
                         'OpenCV INTER_NEAREST', "torch 'nearest'"]
        values = torch.arange(6.0)[None, None]
        with_torch = [torch.nn.functional.interpolate(values, size, mode=mode).int()[0, 0].tolist()
                      for mode in ('nearest-exact', 'nearest')]
        with_cv2 = [cv2.resize(row, (size, 1), interpolation=each)[0].tolist()
                    for each in (cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST)]
        found = [nearest(6, size).tolist(),
                 np.asarray(Image.fromarray(row).resize((size, 1), Image.Resampling.NEAREST))[0].tolist(),
                 resize(row, (1, size), order=0, preserve_range=True, anti_aliasing=False)[0].astype(int).tolist(),
                 with_torch[0], *with_cv2, with_torch[1]]
        assert [' '.join(map(str, each)) for each in found] == list(cells)
