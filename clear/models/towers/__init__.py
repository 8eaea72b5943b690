"""Image encoders from five libraries under one contract: an embedding, five maps, and what to do to an image first."""

from clear.models.towers.base import ImageEncoder
from clear.models.towers.build import build_encoder
from clear.models.towers.mmpretrain import MMPretrainEncoder
from clear.models.towers.open_clip import OpenCLIPImageEncoder
from clear.models.towers.preprocess import Preprocess
from clear.models.towers.strip import strip_classifier
from clear.models.towers.timm import TimmEncoder
from clear.models.towers.torch_hub import TorchHubEncoder
from clear.models.towers.torchvision import TorchvisionEncoder

__all__ = ['ImageEncoder', 'MMPretrainEncoder', 'OpenCLIPImageEncoder', 'Preprocess', 'TimmEncoder', 'TorchHubEncoder',
           'TorchvisionEncoder', 'build_encoder', 'strip_classifier']
