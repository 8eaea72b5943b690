"""The captions of COCO, of 2014 and 2017."""

from __future__ import annotations

from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import read_json, read_text
from clear.core.logs import logger
from clear.datasets.readers.image_files import existing_folder
from clear.datasets.readers.pairs.table import check_files
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='CocoCaptions')
def coco_captions(data_root: str, split: str = 'train', year: int = 2017, only: str | None = None) -> ImageTable:
    """Images of `<split><year>/` with all their captions, of `annotations/captions_<split><year>.json`.

    Images are in the order of the file, captions in that of their ids. Images without a caption are left out with a
    warning. The columns `image_id` and `caption_ids` hold COCO's ids as text.

    Args:
        data_root: the folder of both, or the one above it, where it is called `coco2017` or `coco2014`.
        split: 'train' or 'val'.
        year: 2014 or 2017.
        only: a file with ids of images, one a line, which are taken alone: the 5,000 of val2014 that Karpathy and
            Fei-Fei (2015, arXiv:1412.2306) test on, for example. Of a `.json` file `{"image_to_captions": {"391895":
            [770337, ...], ...}}` these captions alone are taken too, and images are in its order (see
            `tools/dataset_converters/caption_positives.py`).

    Raises:
        ConfigError: for another split or year.
        DataError: if the annotations are missing or not what they should be, an image is not there, or `only` names
            an image that has no caption, or a caption that is not there.
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
    if only is not None:
        captions = _captions_of(only, captions) if Path(only).suffix == '.json' else {
            number: captions[number] for number in _those_of(Path(only), kept)}
        kept = list(captions)
    notes = [sorted(captions[number]) for number in kept]
    images = ImageTable.from_columns(
        base, dict(path=[f'{split}{year}/{names[number]}' for number in kept],
                   caption=[[text for _, text in each] for each in notes],
                   image_id=[str(number) for number in kept],
                   caption_ids=[[str(note) for note, _ in each] for each in notes]), name=f'coco{year}_{split}')
    check_files(images, str(file))
    return images


def _those_of(file: Path, known: list[int]) -> list[int]:
    lines = [line.strip() for line in read_text(file).split('\n') if line.strip()]
    wanted = {int(line) if line.isascii() and line.isdigit() and len(line) < 16 else line for line in lines}
    lacking = wanted - set(known)
    if lacking or not wanted:
        raise DataError(f'{file}: {len(lacking)} of {len(wanted)} are no images with captions'
                        + (f", the first is '{min(map(str, lacking))}'." if lacking else '.'))
    return [number for number in known if number in wanted]


def _captions_of(only: str, captions: dict[int, list[tuple[int, str]]]) -> dict[int, list[tuple[int, str]]]:
    """The captions of a file of ids, in its order of images."""
    content = read_json(only)
    try:
        wanted = {int(image): {int(each) for each in ids} for image, ids in content['image_to_captions'].items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f'{only} is no list of captions by image: expected {{"image_to_captions": {{image id: '
                        f'[caption id, ...]}}}}; {type(error).__name__}: {error}.') from error
    found = {image: [note for note in captions.get(image, ()) if note[0] in ids] for image, ids in wanted.items()}
    lacking = next((image for image, ids in wanted.items() if len(found[image]) < len(ids) or not ids), None)
    if lacking is not None:
        raise DataError(f'{only}: of image {lacking} the annotations have {len(found[lacking])} of '
                        f'{len(wanted[lacking])} captions. Is it of this split and year?')
    return found


def _text(caption: object) -> str:
    if not isinstance(caption, str):
        raise TypeError(f'a caption is {caption!r}')
    return caption.strip()
