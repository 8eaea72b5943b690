"""Self-supervised algorithms: models whose loss needs views of images and no labels."""

from clear.models.selfsup.barlow_twins import BarlowTwins
from clear.models.selfsup.byol import BYOL
from clear.models.selfsup.clsa import CLSA
from clear.models.selfsup.dino import DINO
from clear.models.selfsup.moco import MoCo
from clear.models.selfsup.parts.base import Progress, SelfSupervisedModel
from clear.models.selfsup.parts.distillation import Distillation, distilled
from clear.models.selfsup.parts.encoder import Encoder
from clear.models.selfsup.parts.momentum import cosine_momentum, follow, momentum_copy
from clear.models.selfsup.parts.view_preprocessor import ViewPreprocessor
from clear.models.selfsup.simclr import SimCLR
from clear.models.selfsup.simsiam import SimSiam
from clear.models.selfsup.swav import SwAV
from clear.models.selfsup.vicreg import VICReg

__all__ = ['BYOL', 'CLSA', 'DINO', 'BarlowTwins', 'Distillation', 'Encoder', 'MoCo', 'Progress', 'SelfSupervisedModel',
           'SimCLR', 'SimSiam', 'SwAV', 'VICReg', 'ViewPreprocessor', 'cosine_momentum', 'distilled', 'follow',
           'momentum_copy']
