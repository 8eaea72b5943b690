"""Image encoders of six libraries, or of one's own, under one contract: an embedding, five maps, a preprocessing."""

from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.build import build_encoder
from clear.models.towers.image.conse import ConSEImageEncoder
from clear.models.towers.image.huggingface import HuggingFaceImageEncoder
from clear.models.towers.image.mmpretrain import MMPretrainEncoder
from clear.models.towers.image.open_clip import OpenCLIPImageEncoder
from clear.models.towers.image.own import DictEncoder
from clear.models.towers.image.preprocess import Preprocess
from clear.models.towers.image.strip import strip_classifier
from clear.models.towers.image.timm import TimmEncoder
from clear.models.towers.image.torch_hub import TorchHubEncoder
from clear.models.towers.image.torchvision import TorchvisionEncoder

__all__ = ['ConSEImageEncoder', 'DictEncoder', 'HuggingFaceImageEncoder', 'ImageEncoder', 'MMPretrainEncoder',
           'OpenCLIPImageEncoder', 'Preprocess', 'TimmEncoder', 'TorchHubEncoder', 'TorchvisionEncoder',
           'build_encoder', 'strip_classifier']
