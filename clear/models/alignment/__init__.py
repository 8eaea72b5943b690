"""Models of an image tower and a text tower that are trained to agree."""

from clear.models.alignment.continued import continued
from clear.models.alignment.encoder import AlignedEncoder, AlignedRun
from clear.models.alignment.image_text import ImageTextAlignment
from clear.models.alignment.pair import TowerPair
from clear.models.alignment.proto_clip import ClusterTargets, ProtoCLIP

__all__ = ['AlignedEncoder', 'AlignedRun', 'ClusterTargets', 'ImageTextAlignment', 'ProtoCLIP', 'TowerPair',
           'continued']
