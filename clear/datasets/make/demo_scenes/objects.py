"""One thing in a place, by class: the layouts of ImageNet, ImageNet v2, Oxford Pets, CalTech-101 and CIFAR-100."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from clear.datasets.make.demo_scenes.files import save_image
from clear.datasets.make.demo_scenes.layouts import Layout, Sample
from clear.datasets.make.demo_scenes.render import Body, Camera, Scene, View, render
from clear.datasets.make.demo_scenes.worlds import COVERS, KINDS, all_visible, open_land, pick, scatter, stand, tint
from clear.datasets.make.writing import write_plain_json

# A class of ImageNet's layout is a shape with a cover, numbered in the order of the names of its folders.
IMAGENET = tuple(product(KINDS, ('fur', 'brick', 'flower')))
WNIDS = tuple(f'n{10_000_000 + number}' for number in range(len(IMAGENET)))
# Breed -> its cover, and how long its body is. Capitals are cats, as in the real set.
PETS = {'Brickshire': ('brick', 1.0), 'Longcat': ('fur', 1.9), 'Shortcat': ('fur', 1.0),
        'coffee_spaniel': ('coffee', 1.0), 'gravel_hound': ('gravel', 1.9), 'page_terrier': ('page', 1.9)}
CALTECH = ('barbell', 'column', 'mushroom', 'pyramid', 'snowman', 'table', 'tower', 'wall')
CIFAR = tuple(product(KINDS, ('coffee', 'retina')))
_CIFAR_EDGE = 32
_PET, _BACKGROUND, _BORDER = 1, 2, 3


def _eye(rng: np.random.Generator, *, away: float = 0.0) -> Camera:
    return Camera((float(rng.uniform(-0.3, 0.3)), -away, float(rng.uniform(1.0, 2.0))),
                  yaw=float(rng.uniform(-0.08, 0.08)), pitch=float(rng.uniform(-0.3, -0.12)))


def _with_thing(rng: np.random.Generator, kind: str, cover: str, size: tuple[int, int]) -> View:
    """A large thing of the class among small ones with covers that no class has."""
    def draw() -> tuple[Scene, Camera]:
        land = open_land(rng)
        thing = stand(rng, kind, cover, float(rng.uniform(-0.7, 0.7)), float(rng.uniform(3.5, 4.5)),
                      float(rng.uniform(0.7, 1.0)), 1)
        others = scatter(rng, int(rng.integers(0, 3)), area=(-3, 3, 4, 8), radius=(0.25, 0.45),
                         covers=('cells', 'china', 'motorcycle'), taken=[thing], first=0)
        return replace(land, bodies=(*land.bodies, thing, *(replace(other, instance=0) for other in others))), _eye(rng)

    return all_visible(draw, size)[2]


def write_imagenet(sample: Sample) -> None:
    number = sample.number % len(IMAGENET)
    name = f'{WNIDS[number]}_{sample.number}' if sample.split == 'train' else f'ILSVRC2012_val_{sample.number:08}'
    save_image(sample.root / sample.split / WNIDS[number] / f'{name}.JPEG',
               _with_thing(sample.rng, *IMAGENET[number], sample.size).image)


def write_imagenetv2(sample: Sample) -> None:
    """The classes of the layout of ImageNet, a little darker, as the new set is a little harder."""
    number = sample.number % len(IMAGENET)
    image = _with_thing(sample.rng, *IMAGENET[number], sample.size).image
    darker = np.rint(image * float(sample.rng.uniform(0.55, 0.8))).astype(np.uint8)
    save_image(sample.root / str(number) / f'{sample.number:06}.jpeg', darker)


def write_pet(sample: Sample) -> None:
    rng, breed = sample.rng, sample.choose(list(PETS))
    view = all_visible(lambda: _pet_scene(rng, breed), sample.size)[2]
    # Numbers go on over both parts: the trimaps lie in one folder.
    name = f'{breed}_{2 * sample.number + (sample.split == "test")}'
    save_image(sample.root / sample.split / breed / f'{name}.jpg', view.image)
    save_image(sample.root / 'annotations/trimaps' / f'{name}.png', trimap(view.instance == 1))


def _pet_scene(rng: np.random.Generator, breed: str) -> tuple[Scene, Camera]:
    cover, length = PETS[breed]
    land = open_land(rng)
    facing = float(rng.choice([-1, 1]))
    x, y = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(3.2, 4.2))
    own = dict(tint=tint(rng, 0.9, 1.4), tile_m=0.8, name='pet', instance=1)
    body = Body('sphere', cover, (x, y, 0.8), (0.5 * length, 0.45, 0.45), **own)
    parts = [body, Body('sphere', cover, (x + facing * (0.5 * length + 0.1), y - 0.1, 1.3), (0.32, 0.32, 0.32), **own)]
    for along, across in product((-0.35, 0.35), (-0.2, 0.2)):
        parts.append(Body('cylinder', cover, (x + along * length, y + across, 0.25), (0.1, 0.1, 0.25), **own))
    others = scatter(rng, int(rng.integers(0, 3)), area=(-3, 3, 5, 8), radius=(0.3, 0.6))
    return replace(land, bodies=(*land.bodies, *parts, *(replace(other, instance=0) for other in others))), _eye(rng)


def trimap(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of Oxford Pets: 1 on the pet, 2 in the background, 3 on the pixels of both that touch the other."""
    padded = np.pad(mask, 1, mode='edge')
    around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    border = np.logical_or.reduce([mask != other for other in around])
    return np.where(border, _BORDER, np.where(mask, _PET, _BACKGROUND)).astype(np.uint8)


def write_caltech(sample: Sample) -> str:
    """Things made of parts; which cover they have says nothing."""
    rng, name = sample.rng, sample.choose(CALTECH)
    land = open_land(rng)
    cover, colour = pick(rng, COVERS), tint(rng, 0.8, 1.4)
    turn = float(rng.uniform(-0.3, 0.3))
    x, y = float(rng.uniform(-0.4, 0.4)), float(rng.uniform(4.0, 5.0))
    parts = tuple(Body(kind, cover, (x + math.cos(turn) * along, y - math.sin(turn) * along, height), size, yaw=turn,
                       tint=colour, tile_m=0.8, name=name, instance=1)
                  for kind, along, height, size in _PARTS[name])
    view = render(replace(land, bodies=(*land.bodies, *parts)), _eye(rng), sample.size)
    path = f'{name}/image_{2 * sample.number + 1 + (sample.split == "test"):04}.jpg'
    save_image(sample.root / path, view.image)
    return path


# Name -> parts: kind, how far to the right, height of the centre, half extents.
_PARTS: dict[str, tuple[tuple[str, float, float, tuple[float, float, float]], ...]] = {
    'barbell': (('sphere', -0.9, 0.5, (0.5, 0.5, 0.5)), ('sphere', 0.9, 0.5, (0.5, 0.5, 0.5)),
                ('cube', 0.0, 0.5, (0.9, 0.1, 0.1))),
    'column': (('cylinder', 0.0, 1.1, (0.3, 0.3, 1.1)), ('cube', 0.0, 0.1, (0.5, 0.5, 0.1)),
               ('cube', 0.0, 2.2, (0.5, 0.5, 0.1))),
    'mushroom': (('cylinder', 0.0, 0.5, (0.2, 0.2, 0.5)), ('sphere', 0.0, 1.2, (0.8, 0.8, 0.35))),
    'pyramid': (('cone', 0.0, 0.9, (1.1, 1.1, 0.9)),),
    'snowman': (('sphere', 0.0, 0.6, (0.6, 0.6, 0.6)), ('sphere', 0.0, 1.5, (0.45, 0.45, 0.45)),
                ('sphere', 0.0, 2.15, (0.3, 0.3, 0.3))),
    'table': (('cube', 0.0, 1.0, (1.0, 0.5, 0.08)), ('cylinder', -0.8, 0.5, (0.08, 0.08, 0.5)),
              ('cylinder', 0.8, 0.5, (0.08, 0.08, 0.5))),
    'tower': (('cube', 0.0, 0.5, (0.5, 0.5, 0.5)), ('cube', 0.0, 1.35, (0.4, 0.4, 0.35)),
              ('cone', 0.0, 2.1, (0.4, 0.4, 0.4))),
    'wall': (('cube', 0.0, 0.6, (1.4, 0.2, 0.6)),),
}


def finish_caltech(root: Path, split: str, paths: list[str]) -> None:
    write_plain_json(root / f'caltech101_{split}.json', sorted(paths))


def write_cifar(sample: Sample) -> tuple[int, np.ndarray]:
    fine = sample.number % len(CIFAR)
    # 32 x 32 whatever the size of the other sets: the file has no other.
    return fine, _with_thing(sample.rng, *CIFAR[fine], (_CIFAR_EDGE, _CIFAR_EDGE)).image


def finish_cifar(root: Path, split: str, rows: list[tuple[int, np.ndarray]]) -> None:
    """Keys, their order and types as in the files of the real set; a coarse class is a shape. Classes without images
    fill the lists of names up to 100 and 20.
    """
    root.mkdir(parents=True, exist_ok=True)
    fine = [label for label, _ in rows]
    data = np.stack([image.transpose(2, 0, 1).ravel() for _, image in rows])
    content = {b'filenames': [f'{split}_{number:06}.png'.encode() for number in range(len(rows))],
               b'batch_label': f'{split}ing batch 1 of 1'.encode(), b'fine_labels': fine,
               b'coarse_labels': [label // 2 for label in fine], b'data': data}
    (root / split).write_bytes(pickle.dumps(content, protocol=2))
    fine_names = [f'{cover}_{kind}' for kind, cover in CIFAR] + [f'none_{number}' for number in range(len(CIFAR), 100)]
    coarse_names = [*KINDS, *(f'none_{number}' for number in range(len(KINDS), 20))]
    names = {b'fine_label_names': [name.encode() for name in fine_names],
             b'coarse_label_names': [name.encode() for name in coarse_names]}
    (root / 'meta').write_bytes(pickle.dumps(names, protocol=2))


LAYOUTS = (
    Layout('imagenet', write_imagenet, least=len(IMAGENET)),
    Layout('imagenetv2', write_imagenetv2, train=None, test='', least=len(IMAGENET)),
    Layout('pets', write_pet, test='test', least=len(PETS)),
    Layout('caltech-101', write_caltech, test='test', finish=finish_caltech, least=len(CALTECH)),
    Layout('cifar-100', write_cifar, test='test', finish=finish_cifar, least=len(CIFAR)),
)
