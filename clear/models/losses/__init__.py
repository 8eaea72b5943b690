"""Losses of self-supervised learning: plain modules that work without the rest of the framework."""

from clear.models.losses.barlow_twins_loss import BarlowTwinsLoss
from clear.models.losses.clsa_loss import CLSALoss, DistributionalDivergenceLoss
from clear.models.losses.dino_loss import DINOLoss
from clear.models.losses.moco_loss import MoCoLoss
from clear.models.losses.negative_cosine import NegativeCosineSimilarity
from clear.models.losses.ntxent_loss import NTXentLoss
from clear.models.losses.swav_loss import SwAVLoss
from clear.models.losses.tico_loss import TiCoLoss
from clear.models.losses.vicreg_loss import VICRegLoss

__all__ = ['BarlowTwinsLoss', 'CLSALoss', 'DINOLoss', 'DistributionalDivergenceLoss', 'MoCoLoss', 'NTXentLoss',
           'NegativeCosineSimilarity', 'SwAVLoss', 'TiCoLoss', 'VICRegLoss']
