"""Image transforms: building them from configs, and our own ones."""

from clear.datasets.transforms.batched_draws import sample_seeds
from clear.datasets.transforms.batched_views import BatchedMultiCrop
from clear.datasets.transforms.build import ImageTransform, build_transform
from clear.datasets.transforms.clsa_augment import CLSAStrongAugment
from clear.datasets.transforms.multi_crop import MultiCrop, PILGaussianBlur
from clear.datasets.transforms.tower_augment import AUGMENTATIONS, TowerAugment
from clear.datasets.transforms.view_recipes import RECIPES, View, build_views

__all__ = ['AUGMENTATIONS', 'RECIPES', 'BatchedMultiCrop', 'CLSAStrongAugment', 'ImageTransform', 'MultiCrop',
           'PILGaussianBlur', 'TowerAugment', 'View', 'build_transform', 'build_views', 'sample_seeds']
