"""Sets of scenes, pairs and videos, whose labels are in files beside the images."""

from __future__ import annotations

from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import read_text
from clear.datasets.make.virb.given import Given, listed_files
from clear.datasets.make.virb.layout import Layout
from clear.datasets.readers.image_files import image_files
from clear.datasets.readers.virb.kinetics import NUM_FRAMES, frames_of, video_labels
from clear.datasets.readers.virb.nuscenes import pairs_of
from clear.datasets.readers.virb.thor import labelled_lines


def kinetics(given: Given) -> Layout:
    """`annotations/{train,validate}.json` and `{train,validate}/<two letters>/<id>_*.jpg` from a folder of frames.

    The frames are yours: `train` and `validate` (or `val`) hold, at any depth, files called `<id>_<anything>`, or
    folders called `<id>`. The lists train.json and validate.json are of the official archive kinetics400.tar.gz. Videos
    of fewer than six frames are left out of them.
    """
    layout = Layout()
    for split, folders in dict(train=('train',), validate=('validate', 'val')).items():
        file = given.required(*(f'{name}.json' for name in folders))
        labels = video_labels(file)
        base = next((found for found in (given.folder / name for name in folders) if found.is_dir()), None) or \
            given.holding(folders[0]) / folders[0]
        names: dict[str, Path] = {}
        for path in image_files(base):
            parts = path.split('/')
            # A frame that lies in a folder of its video's name need not say it again.
            name = f'{parts[-2]}_{parts[-1]}' if len(parts) > 1 and parts[-2] in labels else parts[-1]
            names[f'{split}/{name[:2]}/{name}'] = base / path
        frames = {video: found for video, found in frames_of(names, labels).items() if len(found) >= NUM_FRAMES}
        if not frames:
            raise DataError(f'{base}: no video of {file} has {NUM_FRAMES} frames there, files called <id>_<anything> '
                            'or folders called <id>.')
        for path in (path for found in frames.values() for path in found):
            layout.add(path, names[path])
        layout.json[f'annotations/{split}.json'] = {video: {'annotations': {'label': labels[video]}}
                                                    for video in labels if video in frames}
        if len(frames) < len(labels):
            layout.notes.append(f'{split}: {len(labels) - len(frames)} of {len(labels)} videos have fewer than '
                                f'{NUM_FRAMES} frames and are left out.')
        layout.readers.append(dict(type='KineticsFrames', root='.', split=split))
    return layout


def nuscenes(given: Given) -> Layout:
    """`nuScenes_{train,test}.json` and the images that they name, from a folder with `samples` and `sweeps`."""
    base = given.holding('samples')
    layout = Layout()
    for split in ('train', 'test'):
        file = given.required(f'nuScenes_{split}.json')
        paths = dict.fromkeys(path for first, second, _ in pairs_of(file) for path in (first, second))
        for path, source in listed_files(file, base, list(paths)).items():
            layout.add(path, source)
        layout.texts[file.name] = read_text(file)
        layout.readers.append(dict(type='NuScenesPairs', root='.', split=split))
    return layout


def thor_egomotion(given: Given) -> Layout:
    """`{train,val}_labels.txt` and the pairs that they name, from thor_egomotion.zip."""
    return _thor(given, 'ThorEgomotion', ('rgb_a', 'rgb_b'))


def thor_num_steps(given: Given) -> Layout:
    """`{train,val}_labels.txt` and the images that they name, from thor_num_steps.zip."""
    return _thor(given, 'ThorNumSteps', ('rgb',))


def _thor(given: Given, reader: str, views: tuple[str, ...]) -> Layout:
    base = given.holding('train_labels.txt', 'val_labels.txt')
    layout = Layout()
    for split in ('train', 'val'):
        file = base / f'{split}_labels.txt'
        paths = [f'{stem}_{view}.jpg' for stem, _ in labelled_lines(file).values() for view in views]
        for path, source in listed_files(file, base, paths).items():
            layout.add(path, source)
        layout.texts[file.name] = read_text(file)
        layout.readers.append(dict(type=reader, root='.', split=split))
    return layout


def clevr(given: Given) -> Layout:
    """`images/{train,val}/*.png` and `scenes/CLEVR_{train,val}_scenes.json` from CLEVR_v1.0.zip."""
    base = given.holding('images', 'scenes')
    layout = Layout()
    for split in ('train', 'val'):
        scenes = f'scenes/CLEVR_{split}_scenes.json'
        layout.add(scenes, given.holding('images', scenes) / scenes)
        for path in image_files(base, f'images/{split}') if (base / 'images' / split).is_dir() else []:
            layout.add(path, base / path)
        layout.readers += [dict(type='CLEVRScenes', root='.', split=split, answer=answer)
                           for answer in ('count', 'distance')]
    return layout
