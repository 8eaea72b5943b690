"""Classification heads of ours; mmpretrain's are found by their bare names as well."""

from clear.models.heads.cosine_head import CosineDistanceHead

__all__ = ['CosineDistanceHead']
