"""Sets with a target for every pixel whose files are taken as they are."""

from __future__ import annotations

from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import inside
from clear.datasets.make.virb.classes import pets
from clear.datasets.make.virb.given import Given, listed_lines
from clear.datasets.make.virb.layout import Layout
from clear.datasets.readers.image_files import image_files

# What ViRB calls a domain of Taskonomy, and what the official download does.
TASKONOMY_DOMAINS = {'rgb': 'rgb', 'depth_zbuffer': 'depth_zbuffer', 'edges': 'edge_texture'}
_TASKONOMY_READERS = {'depth_zbuffer': 'TaskonomyDepth', 'edges': 'TaskonomyEdges', 'rgb': 'Inpainting'}


def pets_detection(given: Given) -> Layout:
    """As `pets`, and every image must have its trimap: images.tar.gz, and annotations.tar.gz as a list."""
    layout = pets(given)
    layout.readers += _readers('PetsTrimaps', 'train', 'test')
    return layout


def cityscapes(given: Given) -> Layout:
    """`leftImg8bit` and `gtFine` of `train` and `val`, from leftImg8bit_trainvaltest.zip, with gtFine's as a list."""
    layout = Layout(readers=_readers('Cityscapes', 'train', 'val'))
    for folder in ('leftImg8bit', 'gtFine'):
        _add_files(layout, given.holding(f'{folder}/train', f'{folder}/val'), f'{folder}/train', f'{folder}/val')
    return layout


def thor_depth(given: Given) -> Layout:
    """`{train,test}/<scene>/*{rgb,depth}.jpg` from thor_depth.zip, which ViRB publishes."""
    layout = Layout(readers=_readers('ThorDepth', 'train', 'test'))
    _add_files(layout, given.holding('train', 'test'), 'train', 'test')
    return layout


def kitti(given: Given) -> Layout:
    """`training/{image_2,flow_occ,viz_flow_occ}` from data_scene_flow.zip; its own test part has no flow."""
    layout = Layout(readers=_readers('KITTIFlow', 'train', 'test'))
    base = given.holding('training/image_2', 'training/flow_occ')
    _add_files(layout, base, 'training/image_2', 'training/flow_occ')
    if (base / 'training' / 'viz_flow_occ').is_dir():
        _add_files(layout, base, 'training/viz_flow_occ')
    return layout


def taskonomy(given: Given) -> Layout:
    """`{train,test}/{rgb,depth_zbuffer,edges}/<building>/*.png` from what the official programs download and unpack.

    ARCHIVE is a folder with `<domain>/<building>`, `<domain>/taskonomy/<building>` or `<building>/<domain>`; edges are
    `edge_texture`; depth or edges may be missing. Lists are train.txt and test.txt, a building on each line: ViRB
    publishes which buildings it uses, not which of them are for testing.
    """
    files = {split: given.required(f'{split}.txt') for split in ('train', 'test')}
    buildings = {split: listed_lines(file) for split, file in files.items()}
    if both := sorted(set(buildings['train']) & set(buildings['test'])):
        raise DataError(f"building '{both[0]}' is in {files['train']} and in {files['test']}.")
    layout = Layout()
    for ours, official in TASKONOMY_DOMAINS.items():
        folders = {(split, name): _building(given.folder, name, official) for split, names in buildings.items()
                   for name in names}
        missing = [name for (_, name), folder in folders.items() if folder is None]
        if len(missing) == len(folders) and ours != 'rgb':
            continue
        if missing:
            raise DataError(f"{given.archive} has no {official} of building '{missing[0]}', which a list names.")
        for (split, name), folder in folders.items():
            for path in image_files(folder):
                layout.add(f'{split}/{ours}/{name}/{path}', folder / path)
        layout.readers += _readers(_TASKONOMY_READERS[ours], 'train', 'test')
    return layout


def voc2012(given: Given) -> Layout:
    """`ImageSets/Segmentation`, `JPEGImages` and `SegmentationClass` from VOCtrainval_11-May-2012.tar."""
    base = given.holding('ImageSets/Segmentation', 'JPEGImages', 'SegmentationClass')
    layout = Layout(readers=_readers('VOCSegmentation', 'train', 'val'))
    for file in sorted((base / 'ImageSets' / 'Segmentation').glob('*.txt')):
        layout.add(f'ImageSets/Segmentation/{file.name}', file)
    _add_files(layout, base, 'JPEGImages', 'SegmentationClass')
    return layout


def ade20k(given: Given) -> Layout:
    """`images`, `annotations` and `objectInfo150.txt` from ADEChallengeData2016.zip."""
    base = given.holding('images/training', 'annotations/training')
    layout = Layout(readers=_readers('ADE20K', 'train', 'val'))
    _add_files(layout, base, 'images', 'annotations')
    if (base / 'objectInfo150.txt').is_file():
        layout.add('objectInfo150.txt', base / 'objectInfo150.txt')
    return layout


def _readers(kind: str, *splits: str) -> list[dict[str, object]]:
    return [dict(type=kind, root='.', split=split) for split in splits]


def _add_files(layout: Layout, base: Path, *folders: str) -> None:
    for folder in folders:
        for path in image_files(base, folder):
            layout.add(path, base / path)


def _building(source: Path, building: str, domain: str) -> Path | None:
    places = (f'{domain}/{building}', f'{domain}/taskonomy/{building}', f'{building}/{domain}')
    return next((folder for folder in (inside(source, place) for place in places) if folder.is_dir()), None)
