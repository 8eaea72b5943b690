"""Oxford-IIIT Pets (Parkhi et al. 2012) with the trimaps that come with it: where in the image the animal is.

::

    <root>/{train,test}/<breed>/<name>.jpg
    <root>/annotations/trimaps/<name>.png       1 pet, 2 background, 3 border ("not classified")
"""

from __future__ import annotations

from clear.core.checks import check_choice, check_flag
from clear.core.errors import ConfigError
from clear.datasets.dense.decoders import MaskOfIds
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import check_there, paired_table, stem
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.registry import READERS

PET, BACKGROUND, BORDER = 1, 2, 3
MASKS = {'pet': MaskOfIds((PET,), (BACKGROUND,), (BORDER,)), 'pet_and_border': MaskOfIds((PET, BORDER), (BACKGROUND,))}
_EARLIER = MaskOfIds((BACKGROUND, BORDER), (PET,))


@READERS.register_module(name='PetsTrimaps')
def pets_trimaps(root: str, split: str, positive: str = 'pet', legacy: bool = False) -> DenseTable:
    """A mask of the animal.

    Args:
        split: 'train' or 'test'.
        positive: 'pet': the border does not count; 'pet_and_border': it is part of the mask.
        legacy: the mask that the earlier system trained on: background and border are 1, the animal is 0. Every pixel
            counts. The original also made ids in between, by enlarging the trimap with bicubic interpolation; this does
            not.

    Raises:
        ConfigError: for another split or mask, or both `positive` and `legacy`.
        DataError: if a folder or the trimap of an image is missing.
    """
    check_choice('split', split, ('train', 'test'))
    check_choice('positive', positive, MASKS)
    if check_flag('legacy', legacy) and positive != 'pet':
        raise ConfigError(f"positive is '{positive}' with legacy=True, which has a mask of its own; leave one out.")
    base = existing_folder(root)
    existing_folder(base / split)
    images = image_files(base, split)
    targets = [f'annotations/trimaps/{stem(path)}.png' for path in images]
    check_there(base, split, images, targets)
    return paired_table(base, split, images, targets, 'mask', _EARLIER if legacy else MASKS[positive])
