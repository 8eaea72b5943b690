"""EgoHands: from the polygons of its authors to a label of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clear.core.errors import DataError
from clear.datasets.images.decode import UnreadableImage, read_file, read_header
from clear.datasets.make.virb.given import Given
from clear.datasets.make.virb.layout import Layout
from clear.datasets.make.virb.matlab import read_matlab
from clear.datasets.readers.dense.egohands import EGOHANDS_CLASSES, HELD_OUT
from clear.datasets.readers.image_files import folders_in, image_files

_SAMPLES, _POLYGONS = '_LABELLED_SAMPLES', 'polygons.mat'


def egohands(given: Given) -> Layout:
    """`images/<video>/*.jpg` and `labels/<video>/*.png` from egohands_data.zip, whose polygons of hands are drawn.

    Pillow draws them, outline included, the wearer's hands over the other person's. The labels of ViRB are not
    published, so its edges may lie half a pixel elsewhere: a square of side 3 has 16 pixels here, and 9 by pycocotools.
    """
    samples = given.holding(_SAMPLES) / _SAMPLES
    drawn = given.empty_folder()
    layout = Layout(readers=[dict(type='EgoHands', root='.', split=split) for split in ('train', *HELD_OUT)])
    videos = folders_in(samples)
    with given.bar('draw', 'videos') as progress:
        for done, video in enumerate(videos, start=1):
            _draw_video(layout, video, drawn / video.name)
            if progress is not None:
                progress(done, len(videos))
    return layout


def _draw_video(layout: Layout, video: Path, drawn: Path) -> None:
    frames, hands = image_files(video), _polygons_of(video / _POLYGONS)
    if len(hands) != len(frames):
        raise DataError(f'{video / _POLYGONS} has polygons of {len(hands)} frames; the folder has {len(frames)}.')
    drawn.mkdir()
    for frame, polygons in zip(frames, hands):
        label = f'{Path(frame).stem}.png'
        Image.fromarray(draw_hands(_size_of(video / frame), polygons)).save(drawn / label)
        layout.add(f'images/{video.name}/{frame}', video / frame)
        layout.add(f'labels/{video.name}/{label}', drawn / label)


def draw_hands(size: tuple[int, int], polygons: Mapping[str, np.ndarray]) -> np.ndarray:
    """Ids of hands.

    Args:
        size: width and height.
        polygons: hand -> (N, 2) corners x, y in pixels; of fewer than three corners there is nothing to draw.

    Returns:
        (H, W) uint8, places in `EGOHANDS_CLASSES`.
    """
    labels = Image.new('L', size)
    for label, hand in enumerate(EGOHANDS_CLASSES):
        corners = polygons.get(hand, np.empty((0, 2)))
        if len(corners) >= 3:
            ImageDraw.Draw(labels).polygon([tuple(corner) for corner in corners.tolist()], fill=label)
    return np.array(labels)


def _polygons_of(file: Path) -> list[dict[str, np.ndarray]]:
    """Frame by frame, the corners of each hand."""
    content = read_matlab(file)
    try:
        frames = [{hand: np.asarray(frame[hand], np.float64) for hand in EGOHANDS_CLASSES[1:]}
                  for frame in content['polygons'].ravel()]
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(f'{file} holds no polygons of hands: {type(error).__name__}: {error}') from error
    for corners in frames:
        if any(each.size and (each.ndim != 2 or each.shape[1] != 2 or not np.isfinite(each).all())
               for each in corners.values()):
            raise DataError(f'{file}: polygons should be (N, 2) numbers, found '
                            f'{[each.shape for each in corners.values()]}.')
    return [{hand: each.reshape(-1, 2) for hand, each in corners.items()} for corners in frames]


def _size_of(image: Path) -> tuple[int, int]:
    try:
        _, width, height = read_header(read_file(image))
    except UnreadableImage as error:
        raise DataError(f'{image}: {error}') from error
    return width, height
