"""The captions of COCO, of 2014 and 2017."""

from __future__ import annotations

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import read_json
from clear.core.logs import logger
from clear.datasets.readers.image_files import existing_folder
from clear.datasets.readers.pairs.table import check_files
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='CocoCaptions')
def coco_captions(data_root: str, split: str = 'train', year: int = 2017) -> ImageTable:
    """Images of `<split><year>/` with all their captions, of `annotations/captions_<split><year>.json`.

    Images are in the order of the file, captions in that of their ids. Images without a caption are left out with a
    warning.

    Args:
        data_root: the folder of both, or the one above it, where it is called `coco2017` or `coco2014`.
        split: 'train' or 'val'.
        year: 2014 or 2017.

    Raises:
        ConfigError: for another split or year.
        DataError: if the annotations are missing or not what they should be, or an image is not there.
    """
    check_choice('split', split, ('train', 'val'))
    check_choice('year', year, (2014, 2017))
    base = existing_folder(data_root)
    if (base / f'coco{year}').is_dir():
        base = base / f'coco{year}'
    file = base / 'annotations' / f'captions_{split}{year}.json'
    content = read_json(file)
    try:
        names = {int(image['id']): str(image['file_name']) for image in content['images']}
        if len(names) < len(content['images']):
            raise ValueError('two images have one id')
        captions: dict[int, list[tuple[int, str]]] = {number: [] for number in names}
        for note in content['annotations']:
            captions[int(note['image_id'])].append((int(note['id']), _text(note['caption'])))
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f'{file} is no list of captions: expected {{"images": [{{"id", "file_name"}}], "annotations": '
                        f'[{{"id", "image_id", "caption"}}]}}; {type(error).__name__}: {error}.') from error
    blank = next((number for number, notes in captions.items() if any(not text for _, text in notes)), None)
    if blank is not None:
        raise DataError(f'{file}: image {blank} has an empty caption.')
    kept = [number for number in names if captions[number]]
    if len(kept) < len(names):
        logger.warning('%s: %d of %d images have no caption and are left out.', file, len(names) - len(kept),
                       len(names))
    images = ImageTable.from_columns(
        base, dict(path=[f'{split}{year}/{names[number]}' for number in kept],
                   caption=[[text for _, text in sorted(captions[number])] for number in kept]),
        name=f'coco{year}_{split}')
    check_files(images, str(file))
    return images


def _text(caption: object) -> str:
    if not isinstance(caption, str):
        raise TypeError(f'a caption is {caption!r}')
    return caption.strip()
