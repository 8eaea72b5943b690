"""Text encoders from three libraries under one contract: strings in, an embedding each out."""

from clear.models.towers.text.base import TextEncoder
from clear.models.towers.text.build import build_text_encoder
from clear.models.towers.text.huggingface import POOLERS, HuggingFaceTextEncoder
from clear.models.towers.text.open_clip import OpenCLIPTextEncoder
from clear.models.towers.text.sentence_transformer import SentenceTransformerEncoder

__all__ = ['POOLERS', 'HuggingFaceTextEncoder', 'OpenCLIPTextEncoder', 'SentenceTransformerEncoder', 'TextEncoder',
           'build_text_encoder']
