"""Sets whose images lie in folders of classes, or in one folder with lists beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import read_text
from clear.datasets.make.virb.given import Given, json_of, listed_files, listed_lines
from clear.datasets.make.virb.layout import Layout, split_by_class
from clear.datasets.readers.image_files import IMAGE_SUFFIXES, folders_in, image_files
from clear.datasets.readers.virb.caltech101 import TRAIN_PER_CLASS, thirty_per_class
from clear.datasets.splits import stratified_split

TEST_SHARE = 0.2  # of EuroSAT and SUN397, which makes ViRB's 21,600 and 87,003 training images
_GROUND_TRUTH = 'ILSVRC2012_validation_ground_truth.txt'


def imagenet(given: Given) -> Layout:
    """`{train,val}/<class>/*.JPEG` from the training tar and the validation tar, or a folder with `train` and `val`.

    Validation images without folders find their classes in LOC_val_solution.csv (Kaggle) or the development kit.
    """
    tars = sorted(given.folder.glob('n*.tar'))
    if tars:
        folders = dict(zip((tar.stem for tar in tars), given.unpacked_each(tars)))
        val = next((folder for folder in given.others if folder.is_dir() and _is_flat(folder)), None)
        if val is None:
            raise DataError(f'{given.archive} holds the training images; give ILSVRC2012_img_val.tar too (--lists).')
        given.mark_used(val)
    else:
        # In Kaggle's archive annotations lie in folders of the same names, and before the images.
        kaggle = given.find('Data/CLS-LOC')
        base = given.holding('train', 'val') if kaggle is None else kaggle / 'Data' / 'CLS-LOC'
        folders, val = {folder.name: folder for folder in folders_in(base / 'train')}, base / 'val'
    train = [(name, path, folder / path) for name, folder in folders.items() for path in image_files(folder)]
    paths = image_files(val)
    if _is_flat(val):
        classes = _val_classes(given)
        unknown = next((path for path in paths if Path(path).stem not in classes), None)
        if unknown is not None:
            raise DataError(f"No list says of which class the validation image '{unknown}' is.")
        test = [(classes[Path(path).stem], path, val / path) for path in paths]
    else:
        test = [(path.split('/')[0], path.partition('/')[2], val / path) for path in paths]
    return split_by_class(Layout(), dict(train=train, val=test))


def imagenet_v2(given: Given) -> Layout:
    """`<0 ... 999>/*.jpeg` from imagenetv2-matched-frequency.tar.gz, or one of its siblings."""
    base = given.holding('0', '1')
    layout = Layout(readers=[dict(type='ImageNetV2', root='.')])
    for path in image_files(base):
        layout.add(path, base / path)
    return layout


def pets(given: Given) -> Layout:
    """`{train,test}/<breed>/*.jpg` and `annotations/trimaps/*.png` from images.tar.gz and annotations.tar.gz.

    Both archives are needed: the lists trainval.txt (ViRB's 3,680 training images) and test.txt are in the second.
    """
    images = given.holding('images') / 'images'
    lists = given.holding('trainval.txt', 'test.txt')
    split = {}
    for part, name in dict(train='trainval.txt', test='test.txt').items():
        names = [line.split()[0] for line in listed_lines(lists / name) if not line.startswith('#')]
        found = listed_files(lists / name, images, [f'{each}.jpg' for each in names])
        # A breed is what stands before the number: class ids of the list are in another order than text.
        split[part] = [(path.rpartition('_')[0], path, source) for path, source in found.items()]
    layout = split_by_class(Layout(), split)
    if (lists / 'trimaps').is_dir():
        for path in image_files(lists / 'trimaps'):
            layout.add(f'annotations/trimaps/{path}', lists / 'trimaps' / path)
    return layout


def caltech101(given: Given) -> Layout:
    """`<category>/*.jpg` and both lists from 101_ObjectCategories.tar.gz, or caltech-101.zip which holds it.

    Without caltech101_train.json and caltech101_test.json 30 images of each category are drawn to train on.
    """
    nested = given.file('101_ObjectCategories.tar.gz')
    base = given.unpacked(nested) / '101_ObjectCategories' if nested else given.holding('accordion')
    paths = [path for path in image_files(base) if path.count('/') == 1]
    layout = Layout(readers=[dict(type='Caltech101', root='.', split=split) for split in ('train', 'test')])
    for path in paths:
        layout.add(path, base / path)
    files = {split: given.file(f'caltech101_{split}.json') for split in ('train', 'test')}
    if all(files.values()):
        lists = {split: json_of(file, list, "a list of '<category>/<image>.jpg'") for split, file in files.items()}
    elif any(files.values()):
        raise DataError('Give both of caltech101_train.json and caltech101_test.json, or none.')
    else:
        lists = thirty_per_class(paths, base, given.seed)
        layout.notes.append(f'No lists were given: {TRAIN_PER_CLASS} images of each of '
                            f'{len({path.split("/")[0] for path in paths})} categories, drawn with seed {given.seed}, '
                            "are for training, all others for testing. Results do not compare with those on ViRB's "
                            'lists.')
    layout.json = {f'caltech101_{split}.json': paths for split, paths in lists.items()}
    return layout


def cifar100(given: Given) -> Layout:
    """`train`, `test`, `meta` from cifar-100-python.tar.gz."""
    base = given.holding('train', 'test', 'meta')
    layout = Layout(readers=[dict(type='CIFAR100Pickles', root='.', split=split) for split in ('train', 'test')])
    for name in ('train', 'test', 'meta'):
        layout.add(name, base / name)
    return layout


def sun397(given: Given) -> Layout:
    """`{train,test}/<category>/*.jpg` from SUN397.tar.gz; `/o/outdoor/x` of a category becomes `_x`.

    With one of the ten official pairs of lists, as Training_01.txt and Testing_01.txt, 50 images of each category are
    for training and 50 for testing. Without them a fifth of each category is drawn for testing.
    """
    base = given.holding('ClassName.txt')
    lists = {part: [path for path in given.others if path.name.startswith(begin)]
             for part, begin in dict(train='Training_', test='Testing_').items()}
    if any(len(found) > 1 for found in lists.values()) or len(lists['train']) != len(lists['test']):
        raise DataError('Give one pair of lists, as Training_01.txt and Testing_01.txt, or none.')
    if lists['train']:
        given.mark_used(*lists['train'], *lists['test'])
        files = {part: listed_files(found[0], base, listed_lines(found[0])) for part, found in lists.items()}
        return split_by_class(Layout(), {part: [(_sun_category(path), path.rpartition('/')[2], source)
                                                for path, source in found.items()] for part, found in files.items()})
    rows = [(_sun_category(line), path, base / line.lstrip('/') / path)
            for line in listed_lines(base / 'ClassName.txt') for path in image_files(base / line.lstrip('/'))
            if '/' not in path]
    return _drawn(given, rows)


def eurosat(given: Given) -> Layout:
    """`{train,test}/<class>/*.jpg` from EuroSAT.zip; a fifth of each class is drawn for testing: there is no list."""
    base = given.holding('AnnualCrop', 'SeaLake')
    return _drawn(given, [(folder.name, path, folder / path) for folder in folders_in(base)
                          for path in image_files(folder)])


def dtd(given: Given) -> Layout:
    """`{train,test}/<texture>/*.jpg` from dtd-r1.0.1.tar.gz by its first lists: train1 with val1, and test1."""
    base = given.holding('images', 'labels')
    split = {}
    for part, names in dict(train=('train1.txt', 'val1.txt'), test=('test1.txt',)).items():
        split[part] = [(*path.split('/', 1), source) for name in names for path, source in
                       listed_files(base / 'labels' / name, base / 'images', listed_lines(base / 'labels' / name)
                                    ).items()]
    return split_by_class(Layout(), split)


def _drawn(given: Given, rows: Sequence[tuple[str, str, Path]]) -> Layout:
    """A seeded share of each class for testing, and a note that says so."""
    names = sorted({name for name, _, _ in rows})
    if not names:
        raise DataError(f'{given.archive} holds no images in folders of classes.')
    parts = stratified_split([names.index(name) for name, _, _ in rows], test_ratio=TEST_SHARE, seed=given.seed,
                             bucket='virb')
    layout = Layout(notes=[f'No lists were given: {TEST_SHARE:.0%} of each class, drawn with seed {given.seed}, are '
                           "for testing. Results do not compare with those on ViRB's split, which is not published."])
    return split_by_class(layout, {part: [rows[row] for row in own] for part, own in zip(('train', 'test'), parts)})


def _sun_category(path: str) -> str:
    """'/a/apartment_building/outdoor[/sun_x.jpg]' -> 'apartment_building_outdoor'."""
    parts = [part for part in path.split('/') if part]
    if parts and parts[-1].lower().endswith(IMAGE_SUFFIXES):
        parts = parts[:-1]
    if len(parts) < 2:
        raise DataError(f"'{path}' is no path of SUN397, as '/a/abbey/sun_x.jpg'.")
    return '_'.join(parts[1:])


def _is_flat(folder: Path) -> bool:
    return not folders_in(folder)


def _val_classes(given: Given) -> dict[str, str]:
    """Name of a validation image without its suffix -> id of WordNet."""
    solution = given.file('LOC_val_solution.csv')
    if solution is not None:
        rows = list(csv.DictReader(io.StringIO(read_text(solution))))
        if not rows or not {'ImageId', 'PredictionString'} <= {*rows[0]}:
            raise DataError(f'{solution}: expected the columns ImageId and PredictionString.')
        return {row['ImageId']: (row['PredictionString'] or '').split(' ')[0] for row in rows}
    truth = given.required(_GROUND_TRUTH, 'LOC_val_solution.csv')
    ids = _wordnet_ids(truth.parent / 'meta.mat')
    numbers = listed_lines(truth)
    wrong = next((line for line in numbers if line not in ids), None)
    if wrong is not None:
        raise DataError(f"{truth}: '{wrong}' is no number of a class in meta.mat.")
    return {f'ILSVRC2012_val_{row:08}': ids[line] for row, line in enumerate(numbers, start=1)}


def _wordnet_ids(file: Path) -> dict[str, str]:
    """Number of a class in the development kit, which is not its place among the sorted ids -> id of WordNet."""
    from scipy.io import loadmat

    try:
        synsets = loadmat(file, squeeze_me=True)['synsets']
        return {str(int(number)): str(name) for number, name in zip(synsets['ILSVRC2012_ID'], synsets['WNID'])}
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DataError(f'{file} is no meta.mat of the development kit: {error}') from error
