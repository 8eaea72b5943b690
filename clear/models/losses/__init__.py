"""Losses of self-supervised learning and of image-text alignment: plain modules."""

from clear.models.losses.alignment.compress_loss import CompRessLoss
from clear.models.losses.alignment.cross_modal_dino_loss import CrossModalDINOLoss
from clear.models.losses.alignment.distillation_losses import FeatureDistillationLoss, LogitDistillationLoss
from clear.models.losses.alignment.info_nce_loss import InfoNCELoss, SimCSELoss
from clear.models.losses.alignment.prompted_cross_entropy_loss import PromptedCrossEntropyLoss
from clear.models.losses.alignment.proto_cpc_loss import ProtoCPCLoss
from clear.models.losses.alignment.proto_loss import ProtoLoss
from clear.models.losses.alignment.rkd_loss import RKDLoss
from clear.models.losses.alignment.seed_loss import SEEDLoss
from clear.models.losses.alignment.siglip_loss import SigLIPLoss
from clear.models.losses.alignment.simreg_loss import SimRegLoss
from clear.models.losses.alignment.unicl_loss import UniCLLoss
from clear.models.losses.selfsup.barlow_twins_loss import BarlowTwinsLoss
from clear.models.losses.selfsup.clsa_loss import CLSALoss, DistributionalDivergenceLoss
from clear.models.losses.selfsup.dino_loss import DINOLoss
from clear.models.losses.selfsup.moco_loss import MoCoLoss
from clear.models.losses.selfsup.negative_cosine import NegativeCosineSimilarity
from clear.models.losses.selfsup.ntxent_loss import NTXentLoss
from clear.models.losses.selfsup.swav_loss import SwAVLoss
from clear.models.losses.selfsup.tico_loss import TiCoLoss
from clear.models.losses.selfsup.vicreg_loss import VICRegLoss

__all__ = ['BarlowTwinsLoss', 'CLSALoss', 'CompRessLoss', 'CrossModalDINOLoss', 'DINOLoss',
           'DistributionalDivergenceLoss', 'FeatureDistillationLoss', 'InfoNCELoss', 'LogitDistillationLoss',
           'MoCoLoss', 'NTXentLoss', 'NegativeCosineSimilarity', 'PromptedCrossEntropyLoss', 'ProtoCPCLoss',
           'ProtoLoss', 'RKDLoss', 'SEEDLoss', 'SigLIPLoss', 'SimCSELoss', 'SimRegLoss', 'SwAVLoss', 'TiCoLoss',
           'UniCLLoss', 'VICRegLoss']
