"""Heads that are trained on what frozen encoders give: embeddings, or five feature maps."""

from clear.evaluation.heads.deeplab import ASPP, DeepLabClassificationHead, DeepLabHead, can_dilate, dilated
from clear.evaluation.heads.embedding import LinearHead, MultiEmbeddingHead
from clear.evaluation.heads.linear_pixel import LinearPixelHead
from clear.evaluation.heads.pixelwise import PixelWiseHead, SiameseHead

__all__ = ['ASPP', 'DeepLabClassificationHead', 'DeepLabHead', 'LinearHead', 'LinearPixelHead', 'MultiEmbeddingHead',
           'PixelWiseHead', 'SiameseHead', 'can_dilate', 'dilated']
