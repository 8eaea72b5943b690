"""Models: classifiers and their parts, freezing, weights. Importing this registers them in `MODELS`."""

from clear.core.compat import patch_libraries

patch_libraries()  # Before anything of mmpretrain's models is imported.

from clear.models.classifier import ComposedClassifier, build_classifier  # noqa: E402
from clear.models.freeze import Freezable, FreezeReport, freeze  # noqa: E402
from clear.models.heads import CosineDistanceHead  # noqa: E402
from clear.models.weights import SOURCES, LoadReport, load_weights  # noqa: E402

__all__ = ['SOURCES', 'ComposedClassifier', 'CosineDistanceHead', 'Freezable', 'FreezeReport', 'LoadReport',
           'build_classifier', 'freeze', 'load_weights']
