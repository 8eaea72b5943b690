"""Whole pictures by class: the layouts of SUN397 (places), EuroSAT (land from above) and DTD (textures)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from clear.datasets.make.demo_scenes.files import save_image
from clear.datasets.make.demo_scenes.layouts import Layout, Sample
from clear.datasets.make.demo_scenes.render import Body, Camera, Scene, render
from clear.datasets.make.demo_scenes.worlds import open_land, pick, room, scatter, street, tint

PLACES = ('brickyard', 'desert', 'library', 'meadow', 'street', 'village')
LANDS = ('AnnualCrop', 'Forest', 'Highway', 'Pasture', 'Residential', 'River')
TEXTURES = ('blotchy', 'bricked', 'dotted', 'furry', 'grassy', 'lettered', 'pebbly', 'starry', 'tubular', 'veined')
_TEXTURE_TILES = dict(zip(TEXTURES, ('cells', 'brick', 'coins', 'fur', 'grass', 'page', 'gravel', 'stars', 'motorcycle',
                                     'retina')))


def write_place(sample: Sample) -> None:
    name = sample.choose(PLACES)
    image = render(_place(sample.rng, name), _walker(sample.rng), sample.size).image
    save_image(sample.root / sample.split / name / f'sun_{sample.split}_{sample.number:06}.jpg', image)


def _walker(rng: np.random.Generator) -> Camera:
    return Camera((float(rng.uniform(-0.8, 0.8)), 0.0, float(rng.uniform(1.3, 1.8))),
                  yaw=float(rng.uniform(-0.25, 0.25)), pitch=float(rng.uniform(-0.15, 0.05)))


def _place(rng: np.random.Generator, name: str) -> Scene:
    if name == 'library':
        base = room(rng)
    elif name == 'street':
        return street(rng)
    else:
        grounds = dict(brickyard=('brick',), desert=('gravel',), meadow=('grass',), village=('grass', 'gravel'))[name]
        base = open_land(rng, grounds)
    things = scatter(rng, int(rng.integers(1, 5)), area=(-2, 2, 3, 6), radius=(0.2, 0.6))
    if name == 'village':
        things += [Body('cube', pick(rng, ('brick', 'china')), (side * float(rng.uniform(4.5, 6)), y, 1.5),
                        (1.6, 1.6, 1.5), tint=tint(rng), tile_m=2.0) for side in (-1, 1) for y in (6.0, 11.0)]
    return replace(base, bodies=(*base.bodies, *things))


def write_land(sample: Sample) -> None:
    name = sample.choose(LANDS)
    rng = sample.rng
    camera = Camera((0.0, 0.0, 22.0), yaw=float(rng.uniform(-math.pi, math.pi)), pitch=-math.pi / 2)
    image = render(_land(rng, name), camera, sample.size).image
    save_image(sample.root / sample.split / name / f'{name}_{sample.number + 1}.jpg', image)


def _land(rng: np.random.Generator, name: str) -> Scene:
    """Seen from above, 22 m wide: trees, houses, a road, a river, rows of plants, or nothing but grass."""
    green = float(rng.uniform(0.7, 1.2))
    ground = Body('ground', pick(rng, ('grass', 'gravel')), tint=(0.8 * green, green, 0.6 * green), tile_m=6.0)
    bodies = [ground]
    if name == 'Forest':
        for tree in scatter(rng, 26, area=(-11, 11, -11, 11), radius=(0.7, 1.1), kinds=('cone', 'sphere'),
                            covers=('grass',)):
            bodies.append(replace(tree, tint=(0.4 * green, 0.7 * green, 0.3 * green), tile_m=3.0))
    elif name == 'Residential':
        bodies += [replace(house, tint=tint(rng, 0.9, 1.4)) for house in scatter(
            rng, 13, area=(-10, 10, -10, 10), radius=(1.0, 1.5), kinds=('cube',), covers=('brick', 'china'))]
    elif name in ('Highway', 'River'):
        width = float(rng.uniform(1.2, 2.2))
        colour = (0.9, 0.9, 0.9) if name == 'Highway' else (0.3, 0.5, 1.0)
        bodies.append(Body('cube', 'gravel' if name == 'Highway' else 'cells', (float(rng.uniform(-5, 5)), 0.0, 0.0),
                           (width, 40.0, 0.05), tint=colour, tile_m=3.0))
    elif name == 'AnnualCrop':
        step = float(rng.uniform(1.6, 2.4))
        bodies += [Body('cube', 'grass', (float(x), 0.0, 0.0), (0.45, 40.0, 0.3), tint=(0.5, 1.0, 0.3), tile_m=3.0)
                   for x in np.arange(-16, 16, step)]
    return Scene(tuple(bodies))


def write_texture(sample: Sample) -> None:
    """One surface that fills the picture, nearer or farther, turned and tilted, in another light."""
    rng, name = sample.rng, sample.choose(TEXTURES)
    surface = Body('ground', _TEXTURE_TILES[name], yaw=float(rng.uniform(-math.pi, math.pi)), tint=tint(rng, 0.8, 1.4),
                   tile_m=float(rng.uniform(0.7, 1.4)))
    camera = Camera((float(rng.uniform(0, 9)), float(rng.uniform(0, 9)), float(rng.uniform(1.2, 2.2))),
                    pitch=float(rng.uniform(-1.5, -0.9)))
    image = render(Scene((surface,)), camera, sample.size).image
    save_image(sample.root / sample.split / name / f'{name}_{sample.number:04}.jpg', image)


LAYOUTS = (
    Layout('SUN397', write_place, test='test', least=len(PLACES)),
    Layout('eurosat', write_land, test='test', least=len(LANDS)),
    Layout('dtd', write_texture, test='test', least=len(TEXTURES)),
)
