"""EgoHands (Bambach et al. 2015): the hands of two people who play, as one of them sees them.

::

    <root>/images/<video>/<frame>.jpg       48 videos of 100 frames
    <root>/labels/<video>/<frame>.png       0 background, 1 yourleft, 2 yourright, 3 myleft, 4 myright
"""

from __future__ import annotations

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.datasets.dense.decoders import ClassIds
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import paired_table, targets_of
from clear.datasets.readers.image_files import existing_folder, folders_in, image_files
from clear.registry import READERS

EGOHANDS_CLASSES = ('background', 'yourleft', 'yourright', 'myleft', 'myright')
NUM_VIDEOS = 48
# Places of videos in the order of their names; the rest is for training.
HELD_OUT = {'test': (0, 10, 12, 19, 30, 33, 37, 43), 'val': (6, 13, 27, 46)}


@READERS.register_module(name='EgoHands')
def egohands(root: str, split: str) -> DenseTable:
    """Whose hand every pixel shows, in frames of 36 videos for training, 4 for validation and 8 for testing.

    Args:
        split: 'train', 'val' or 'test'. No video is in two of them.

    Raises:
        ConfigError: for another split.
        DataError: if there are not 48 videos, by which the parts are known, or a folder or the labels of a frame are
            missing.
    """
    check_choice('split', split, ('train', *HELD_OUT))
    base = existing_folder(root)
    for part in ('images', 'labels'):
        existing_folder(base / part)
    videos = [folder.name for folder in folders_in(base / 'images')]
    if len(videos) != NUM_VIDEOS:
        raise DataError(f'{base / "images"} holds {len(videos)} videos, expected {NUM_VIDEOS}: which of them are for '
                        'testing is known by their place among all.')
    images = [path for video in _videos_of(split, videos) for path in image_files(base, f'images/{video}')]
    labels = [path for video in _videos_of(split, videos) if (base / 'labels' / video).is_dir()
              for path in image_files(base, f'labels/{video}')]
    targets = targets_of(base, split, images, labels, _frame)
    return paired_table(base, split, images, targets, 'classes', ClassIds.of({place: place for place in range(5)}),
                        EGOHANDS_CLASSES)


def _videos_of(split: str, videos: list[str]) -> list[str]:
    held_out = {place: part for part, places in HELD_OUT.items() for place in places}
    return [video for place, video in enumerate(videos) if held_out.get(place, 'train') == split]


def _frame(path: str) -> str:
    return path.partition('/')[2].rpartition('.')[0]
