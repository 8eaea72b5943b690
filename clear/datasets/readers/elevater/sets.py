"""How ELEVATER's image sets lie on a disk: folders, index files, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from clear.core.errors import ConfigError, nearest

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class StoredSet:
    """One set as it is published.

    Attributes:
        config: the name of its config in ELEVATER's toolkit.
        name: what the benchmark calls it, in submissions too.
        folder: below `classification/`.
        sizes: images of each split, which says what splits there are.
        index: the index file of a split where it is not `<split>.txt`.
        labels: the file of its class names; '' where the index, COCO JSON, has them.
        is_multi_label: whether an image may show several classes.
    """

    config: str
    name: str
    folder: str
    num_classes: int
    sizes: Mapping[str, int]
    index: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    labels: str = 'labels.txt'
    is_multi_label: bool = False

    def index_file(self, split: str) -> str:
        """The name of the index file of a split."""
        return self.index.get(split, f'{split}.txt')


def _set(config: str, name: str, folder: str, num_classes: int, train: int, val: int | None, test: int,
         **options) -> StoredSet:
    sizes = {split: size for split, size in zip(SPLITS, (train, val, test)) if size}
    return StoredSet(config, name, folder, num_classes, sizes, **options)


_VALID = {'val': 'valid.txt'}

# ELEVATER (Li et al. 2022, arXiv:2204.08790), table 1 and the registry of data of its toolkit.
STORED_SETS = (
    _set('caltech101', 'caltech-101', 'caltech_101_20211007', 102, 3060, None, 6084),
    _set('cifar10', 'cifar-10', 'cifar_10_20211007', 10, 50000, None, 10000),
    _set('cifar100', 'cifar-100', 'cifar100_20200721', 100, 50000, None, 10000,
         index={'train': 'train_images.txt', 'test': 'test_images.txt'}),
    _set('country211', 'country211', 'country211_20210924', 211, 31650, 10550, 21100, index=_VALID),
    _set('dtd', 'dtd', 'dtd_20211007', 47, 1880, 1880, 1880),
    _set('eurosat-clip', 'eurosat_clip', 'eurosat_clip_20210930', 10, 5000, 5000, 5000),
    _set('fer2013', 'fer-2013', 'fer_2013_20211008', 7, 28709, 3589, 3589),
    _set('fgvc-aircraft-2013b', 'fgvc-aircraft-2013b-variants102', 'fgvc_aircraft_2013b_variants102_20211007', 100,
         3334, 3333, 3333),
    _set('flower102', 'oxford-flower-102', 'oxford_flower_102_20211007', 102, 1020, 1020, 6149),
    _set('food101', 'food-101', 'food_101_20211007', 101, 75750, None, 25250),
    _set('gtsrb', 'gtsrb', 'gtsrb_20210923', 43, 26640, 12569, 12630, labels='labelmap.txt'),
    _set('hateful-memes', 'hateful-memes', 'hateful_memes_20211014', 2, 8500, None, 500, labels='',
         index={'train': 'train_meta.json', 'test': 'test_meta.json'}),
    _set('kitti-distance', 'kitti-distance', 'kitti_distance_20210923', 4, 6347, 423, 711, labels='',
         index={'train': 'train_meta.json', 'val': 'validation_meta.json', 'test': 'test_meta.json'}),
    _set('mnist', 'mnist', 'mnist_20211008', 10, 60000, None, 10000),
    _set('oxford-iiit-pets', 'oxford-iiit-pets', 'oxford_iiit_pets_20211007', 37, 3680, None, 3669),
    _set('patchcamelyon', 'patch-camelyon', 'patch_camelyon_20211007', 2, 262144, 32768, 32768),
    _set('rendered-sst2', 'rendered-sst2', 'rendered_sst2_20210924', 2, 6920, 827, 1821, index=_VALID),
    _set('resisc45-clip', 'resisc45_clip', 'resisc45_clip_20210924', 45, 3150, 3150, 25200, labels='',
         index={split: f'{split}.json' for split in SPLITS}),
    _set('stanfordcar', 'stanford-cars', 'stanford_cars_20211007', 196, 8144, None, 8041),
    _set('voc2007classification', 'voc-2007-classification', 'voc2007_20211007', 20, 2501, 2510, 4952,
         index={split: f'{split}_ic.txt' for split in SPLITS}, is_multi_label=True),
    _set('imagenet-1k', 'imagenet-1k', 'imagenet_1k_20220105', 1000, 0, None, 50000),
)
_BY_NAME = {name: each for each in STORED_SETS for name in (each.config, each.name)}


def stored_set(name: str) -> StoredSet | None:
    """The set of that name, by its config or by the benchmark; None if it is none of ELEVATER's."""
    return _BY_NAME.get(name)


def require_set(name: str, what: str = 'set') -> StoredSet:
    """The set of that name.

    Raises:
        ConfigError: with the nearest names.
    """
    found = stored_set(name) if isinstance(name, str) else None
    if found is None:
        near = nearest(str(name), _BY_NAME)
        raise ConfigError(f"{what} is {name!r}, which is none of ELEVATER's{f'; nearest: {near}' if near else ''}. "
                          f'Sets: {", ".join(each.name for each in STORED_SETS)}.')
    return found
