"""Models: classifiers, their parts, image encoders, losses, freezing, weights. Importing registers them in `MODELS`."""

from clear.core.compat import patch_libraries

patch_libraries()  # Before anything of mmpretrain's models is imported.

from clear.models import losses, necks, selfsup  # noqa: E402
from clear.models.alignment import (  # noqa: E402
    AlignedEncoder,
    AlignedRun,
    ImageTextAlignment,
    ProtoCLIP,
    TowerPair,
)
from clear.models.backbones import FAN, AdaptFormer  # noqa: E402
from clear.models.classifier import ComposedClassifier, build_classifier  # noqa: E402
from clear.models.freeze import Freezable, FreezeReport, freeze  # noqa: E402
from clear.models.heads import CosineDistanceHead  # noqa: E402
from clear.models.locking import LockReport, lock_groups, lock_tower  # noqa: E402
from clear.models.lora import LoRALinear, apply_lora, merge_lora  # noqa: E402
from clear.models.sync_batch_norm import convert_sync_batch_norm, synchronised  # noqa: E402
from clear.models.towers.image import (  # noqa: E402
    ConSEImageEncoder,
    DictEncoder,
    HuggingFaceImageEncoder,
    ImageEncoder,
    MMPretrainEncoder,
    OpenCLIPImageEncoder,
    Preprocess,
    TimmEncoder,
    TorchHubEncoder,
    TorchvisionEncoder,
    build_encoder,
)
from clear.models.towers.text import (  # noqa: E402
    HuggingFaceTextEncoder,
    OpenCLIPTextEncoder,
    SentenceTransformerEncoder,
    TextEncoder,
    build_text_encoder,
)
from clear.models.weights.load import SOURCES, LoadReport, load_weights  # noqa: E402

__all__ = ['FAN', 'SOURCES', 'AdaptFormer', 'AlignedEncoder', 'AlignedRun', 'ComposedClassifier', 'ConSEImageEncoder',
           'CosineDistanceHead', 'DictEncoder', 'Freezable', 'FreezeReport', 'HuggingFaceImageEncoder',
           'HuggingFaceTextEncoder', 'ImageEncoder', 'ImageTextAlignment', 'LoRALinear', 'LoadReport', 'LockReport',
           'MMPretrainEncoder', 'OpenCLIPImageEncoder', 'OpenCLIPTextEncoder', 'Preprocess', 'ProtoCLIP',
           'SentenceTransformerEncoder', 'TextEncoder', 'TimmEncoder', 'TorchHubEncoder', 'TorchvisionEncoder',
           'TowerPair', 'apply_lora', 'build_classifier', 'build_encoder', 'build_text_encoder',
           'convert_sync_batch_norm', 'freeze', 'load_weights', 'lock_groups', 'lock_tower', 'losses', 'merge_lora',
           'necks', 'selfsup', 'synchronised']
