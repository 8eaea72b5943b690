"""Frames of Kinetics-400: six of each video, and the action that it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import read_json
from clear.core.logs import logger
from clear.datasets.clips import clip_table
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.datasets.table import ImageTable
from clear.registry import READERS

NUM_FRAMES = 6
SPLITS = ('train', 'validate')


@READERS.register_module(name='KineticsFrames')
def kinetics_frames(root: str, split: str, missing: str = 'refuse') -> ImageTable:
    """`root/annotations/{train,validate}.json` (`{id: {'annotations': {'label': ...}}}`) and the frames of each video,
    `root/<split>/<first two letters of the id>/<id>_<anything>.jpg`.

    A video is a clip (`clear.datasets.clips`) of six frames, evenly spaced from its first to its last; frames are
    sorted, by number where they end in numbers. (ViRB takes the first six that the file system names.) The
    classes are the labels of `train.json`, sorted.

    Args:
        split: 'train' or 'validate'.
        missing: 'refuse', or 'skip' to leave out videos of fewer than six frames; the log says how many.

    Raises:
        ConfigError: for another split.
        DataError: naming the video with fewer than six frames, or whose label no video of 'train' has; or if a list is
            missing or not what it should be.
    """
    check_choice('split', split, SPLITS)
    check_choice('missing', missing, ('refuse', 'skip'))
    base = existing_folder(root)
    lists = {part: base / 'annotations' / f'{part}.json' for part in SPLITS}
    names = sorted({*video_labels(lists['train']).values()})
    of_name = {name: label for label, name in enumerate(names)}
    labels = video_labels(lists[split])
    frames = frames_of(image_files(base, split) if (base / split).is_dir() else [], labels)
    short = [video for video in labels if len(frames[video]) < NUM_FRAMES]
    if short and (missing == 'refuse' or len(short) == len(labels)):
        raise DataError(f"{lists[split]}: {len(short)} of {len(labels)} videos have fewer than {NUM_FRAMES} frames in "
                        f"{base / split}, the first is '{short[0]}' with {len(frames[short[0]])}. Are the frames "
                        f"complete? missing='skip' leaves such videos out.")
    if short:
        logger.warning('%s: %d of %d videos have fewer than %d frames and are left out.', base / split, len(short),
                       len(labels), NUM_FRAMES)
    kept = {video: label for video, label in labels.items() if len(frames[video]) >= NUM_FRAMES}
    other = next((video for video, label in kept.items() if label not in of_name), None)
    if other is not None:
        raise DataError(f"{lists[split]}: '{other}' shows '{kept[other]}', which no video of {lists['train']} does.")
    return clip_table(base, ((video, spaced(frames[video]), of_name[label]) for video, label in kept.items()), names,
                      f'kinetics_{split}')


def spaced(frames: list[str], count: int = NUM_FRAMES) -> list[str]:
    """`count` frames from the first to the last, each the nearest to its place on an even scale, the later of two."""
    last = len(frames) - 1
    return [frames[(2 * place * last + count - 1) // (2 * (count - 1))] for place in range(count)]


def video_labels(file: Path) -> dict[str, str]:
    """Id -> label of an annotation file, in its order.

    Raises:
        DataError: if it is none.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{file}: expected a dict, id -> {{'annotations': {{'label': ...}}}}.")
    labels = {}
    for video, entry in content.items():
        label = entry.get('annotations') if isinstance(entry, dict) else None
        label = label.get('label') if isinstance(label, dict) else None
        if not isinstance(label, str) or not label:
            raise DataError(f"{file}: video '{video}' has no annotations.label that is text.")
        labels[video] = label
    return labels


def frames_of(paths: Iterable[str], videos: Mapping[str, object]) -> dict[str, list[str]]:
    """Video -> its frames among paths `<anything>/<two letters>/<id>_<rest>`, sorted; none for a video without any.

    Where one id begins with another and `_`, a frame belongs to the longer one.
    """
    found: dict[str, list[str]] = {video: [] for video in videos}
    for path in paths:
        _, _, rest = path.rpartition('/')
        folder = path.split('/')[-2]
        video, mark, _ = rest.rpartition('_')
        while mark and video not in found:
            video, mark, _ = video.rpartition('_')
        if mark and video[:2] == folder:
            found[video].append(path)
    return {video: sorted(frames, key=_order) for video, frames in found.items()}


def _order(path: str) -> tuple:
    """Frame 10 follows frame 9 and not frame 1, whether or not numbers are filled with zeros."""
    stem = path.rpartition('.')[0]
    digits = len(stem) - len(stem.rstrip('0123456789'))
    return (stem[:len(stem) - digits], int(stem[-digits:][:1000]) if digits else -1, path)
