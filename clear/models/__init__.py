"""Models: classifiers and their parts, image encoders, freezing, weights. Importing this registers them in `MODELS`."""

from clear.core.compat import patch_libraries

patch_libraries()  # Before anything of mmpretrain's models is imported.

from clear.models.classifier import ComposedClassifier, build_classifier  # noqa: E402
from clear.models.freeze import Freezable, FreezeReport, freeze  # noqa: E402
from clear.models.heads import CosineDistanceHead  # noqa: E402
from clear.models.towers import (  # noqa: E402
    ImageEncoder,
    MMPretrainEncoder,
    OpenCLIPImageEncoder,
    Preprocess,
    TimmEncoder,
    TorchHubEncoder,
    TorchvisionEncoder,
    build_encoder,
)
from clear.models.weights import SOURCES, LoadReport, load_weights  # noqa: E402

__all__ = ['SOURCES', 'ComposedClassifier', 'CosineDistanceHead', 'Freezable', 'FreezeReport', 'ImageEncoder',
           'LoadReport', 'MMPretrainEncoder', 'OpenCLIPImageEncoder', 'Preprocess', 'TimmEncoder', 'TorchHubEncoder',
           'TorchvisionEncoder', 'build_classifier', 'build_encoder', 'freeze', 'load_weights']
