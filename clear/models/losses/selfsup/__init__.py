"""Losses of self-supervised learning, one a file: plain modules, tensors in, a scalar out."""

from clear.models.losses.selfsup.barlow_twins_loss import BarlowTwinsLoss
from clear.models.losses.selfsup.clsa_loss import CLSALoss, DistributionalDivergenceLoss
from clear.models.losses.selfsup.dino_loss import DINOLoss
from clear.models.losses.selfsup.moco_loss import MoCoLoss
from clear.models.losses.selfsup.negative_cosine import NegativeCosineSimilarity
from clear.models.losses.selfsup.ntxent_loss import NTXentLoss
from clear.models.losses.selfsup.swav_loss import SwAVLoss
from clear.models.losses.selfsup.tico_loss import TiCoLoss
from clear.models.losses.selfsup.vicreg_loss import VICRegLoss

__all__ = ['BarlowTwinsLoss', 'CLSALoss', 'DINOLoss', 'DistributionalDivergenceLoss', 'MoCoLoss', 'NTXentLoss',
           'NegativeCosineSimilarity', 'SwAVLoss', 'TiCoLoss', 'VICRegLoss']
