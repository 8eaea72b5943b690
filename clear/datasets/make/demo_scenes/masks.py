"""Masks of classes: the layouts of EgoHands, Cityscapes, COCO's panoptic labels, PASCAL VOC 2012 and ADE20K."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from clear.core.seeding import derive_seed
from clear.datasets.make.demo_scenes.files import save_image, save_palette
from clear.datasets.make.demo_scenes.layouts import Layout, Sample
from clear.datasets.make.demo_scenes.render import Body, Camera, Scene, View, render
from clear.datasets.make.demo_scenes.worlds import open_land, pick, room, scatter, street, tint

VIDEOS = tuple(sorted(f'{game}_{place}_{players}' for game, place, players in product(
    ('CARDS', 'CHESS', 'JENGA', 'PUZZLE'), ('COURTYARD', 'LIVINGROOM', 'OFFICE'), ('B_T', 'H_S', 'S_B', 'T_H'))))
HANDS = ('yourleft', 'yourright', 'myleft', 'myright')  # 1 ... 4; 0 is the background
# The places of their palms in metres, right and ahead of the middle of the table, and where their arms come from: who
# sits opposite has the left hand on our right.
_PALMS = {'yourleft': (0.25, 0.28, 1), 'yourright': (-0.25, 0.28, 1), 'myleft': (-0.25, -0.25, -1),
          'myright': (0.25, -0.25, -1)}
CITYSCAPES = dict(road=7, sidewalk=8, building=11, pole=17, vegetation=21, terrain=22, sky=23, person=24, car=26)
_EGO_VEHICLE = 1
CITIES = ('aachen', 'bremen', 'lindau')
COCO = dict(sphere=37, cube=84, cylinder=44, cone=64, ground=193, sky=187)
VOC = dict(cube=6, sphere=8, cylinder=5, cone=16)
ADE20K = dict(wall=1, sky=3, floor=4, ground=10, window=9, sphere=120, cube=42, cylinder=99, cone=18)
_VOC_VOID = 255


def write_hands(sample: Sample) -> None:
    """A table from above with some of four hands; table and skin go with the video."""
    video = sample.choose(VIDEOS)
    size = (sample.edge, sample.edge * 16 // 9)
    scene, camera = hands_scene(np.random.default_rng(derive_seed('video', video)), sample.rng)
    view = render(scene, camera, size)
    name = f'{video}/frame_{sample.number // len(VIDEOS) + 1:04}'
    save_image(sample.root / f'images/{name}.jpg', view.image)
    save_image(sample.root / f'labels/{name}.png', view.instance.astype(np.uint8))


def hands_scene(of_video: np.random.Generator, rng: np.random.Generator) -> tuple[Scene, Camera]:
    table = Body('ground', pick(of_video, ('brick', 'page', 'coins', 'cells', 'gravel')), tint=tint(of_video, 0.7, 1.3),
                 tile_m=float(of_video.uniform(0.3, 0.8)), name='table')
    skins = [tuple(float(of_video.uniform(0.6, 1.1)) * share for share in (1.5, 1.1, 0.9)) for _ in range(2)]
    shown = [hand for hand in HANDS if rng.random() < 0.75] or [pick(rng, HANDS)]
    bodies = [table]
    for hand in shown:
        x, y, side = _PALMS[hand]
        x, y = x + float(rng.uniform(-0.1, 0.1)), y + float(rng.uniform(-0.08, 0.08))
        own = dict(tile='skin', tint=skins[side > 0], tile_m=0.2, name=hand, instance=HANDS.index(hand) + 1)
        bodies.append(Body('sphere', centre=(x, y, 0.05), size=(0.075, 0.09, 0.03), **own))
        bodies.append(Body('sphere', centre=(x, y + side * 0.3, 0.06), size=(0.04, 0.25, 0.04), **own))
        for finger in range(4):
            bodies.append(Body('sphere', centre=(x + 0.036 * (finger - 1.5), y - side * 0.11, 0.04),
                               size=(0.014, 0.06, 0.015), **own))
    return Scene(tuple(bodies)), Camera((0.0, -0.35, 1.05), pitch=-math.pi / 2 + 0.35, focal=1.1)


def write_city(sample: Sample) -> None:
    """A street behind the bonnet of the own car, which is void, as whatever has no name of ours would be."""
    size = (sample.edge, 2 * sample.edge)
    scene, view = _street_view(sample.rng, size)
    ids = _ids(scene, view, CITYSCAPES)
    bonnet = slice(sample.edge - max(1, sample.edge // 12), None)
    image = view.image.copy()
    image[bonnet], ids[bonnet] = image[bonnet] // 4, _EGO_VEHICLE
    city = CITIES[sample.number % len(CITIES)]
    name = f'{sample.split}/{city}/{city}_{sample.number:06}_000019'
    save_image(sample.root / f'leftImg8bit/{name}_leftImg8bit.png', image)
    save_image(sample.root / f'gtFine/{name}_gtFine_labelIds.png', ids)


def _street_view(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Scene, View]:
    scene = street(rng)
    camera = Camera((float(rng.uniform(-2, 2)), 0.0, float(rng.uniform(1.4, 1.8))), yaw=float(rng.uniform(-0.1, 0.1)),
                    pitch=float(rng.uniform(-0.08, 0.02)))
    return scene, render(scene, camera, size)


def _ids(scene: Scene, view: View, names: Mapping[str, int]) -> np.ndarray:
    """(H, W) uint8: the id of the name of what is seen; 0 for a name without one."""
    ids = np.array([names.get(body.name, 0) for body in scene.bodies] + [names.get('sky', 0)], np.uint8)
    return ids[view.body]


def _things_view(rng: np.random.Generator, size: tuple[int, int], *, indoors: bool) -> tuple[Scene, View]:
    """Up to five things in a room or outdoors; one of ten has no name."""
    place = room(rng) if indoors else open_land(rng)
    things = scatter(rng, int(rng.integers(2, 6)), area=(-2, 2, 2.5, 5.5), radius=(0.3, 0.7))
    things = [replace(thing, name='') if rng.random() < 0.1 else thing for thing in things]
    scene = replace(place, bodies=(*place.bodies, *things))
    camera = Camera((float(rng.uniform(-0.5, 0.5)), -0.5, float(rng.uniform(1.2, 1.8))),
                    yaw=float(rng.uniform(-0.15, 0.15)), pitch=float(rng.uniform(-0.3, -0.1)))
    return scene, render(scene, camera, size)


def write_coco(sample: Sample) -> None:
    scene, view = _things_view(sample.rng, sample.size, indoors=False)
    # Numbers of images are not those of the other part.
    name = f'{2 * sample.number + (sample.split == "val") + 1:012}'
    save_image(sample.root / f'{sample.split}2017/{name}.jpg', view.image)
    save_image(sample.root / f'annotations/panoptic_labels_{sample.split}2017/{name}.png', _ids(scene, view, COCO))


def write_voc(sample: Sample) -> str:
    scene, view = _things_view(sample.rng, sample.size, indoors=sample.number % 2 == 1)
    name = f'{2007 if sample.split == "train" else 2008}_{sample.number:06}'
    save_image(sample.root / f'JPEGImages/{name}.jpg', view.image)
    save_palette(sample.root / f'SegmentationClass/{name}.png', ringed(_ids(scene, view, VOC), view.instance))
    return name


def ringed(ids: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Class ids in which the pixels of things that touch another thing or the background are void, 255, as in VOC."""
    padded = np.pad(instances, 1, mode='edge')
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.logical_or.reduce([instances != other for other in around])
    return np.where(border & (instances > 0), _VOC_VOID, ids).astype(np.uint8)


def finish_voc(root: Path, split: str, names: list[str]) -> None:
    folder = root / 'ImageSets/Segmentation'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{split}.txt').write_text('\n'.join(sorted(names)) + '\n', encoding='utf-8')


def write_ade(sample: Sample) -> None:
    scene, view = _things_view(sample.rng, sample.size, indoors=sample.number % 2 == 0)
    name = f'{sample.split}/ADE_{"train" if sample.split == "training" else "val"}_{sample.number + 1:08}'
    save_image(sample.root / f'images/{name}.jpg', view.image)
    save_image(sample.root / f'annotations/{name}.png', _ids(scene, view, ADE20K))


LAYOUTS = (
    Layout('egohands', write_hands, train='', test=None, least=len(VIDEOS)),
    Layout('cityscapes', write_city),
    Layout('coco', write_coco),
    Layout('VOCdevkit/VOC2012', write_voc, finish=finish_voc),
    Layout('ADEChallengeData2016', write_ade, train='training', test='validation'),
)
