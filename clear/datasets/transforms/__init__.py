"""Image transforms: building them from configs, and our own ones."""

from clear.datasets.transforms.build import ImageTransform, build_transform

__all__ = ['ImageTransform', 'build_transform']
