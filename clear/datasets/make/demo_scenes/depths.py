"""Depth, floors and edges: the layouts of THOR's depth, NYU and Taskonomy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clear.datasets.make.demo_scenes.files import edges, save_image, save_tiff
from clear.datasets.make.demo_scenes.layouts import Layout, Sample
from clear.datasets.make.demo_scenes.render import Camera, Scene, View, render
from clear.datasets.make.demo_scenes.worlds import room, scatter

GREY_M = 10.0  # what the JPEG's 255 stands for in THOR's layout
UNITS_PER_M = 512  # of Taskonomy's 16-bit files
INVALID = 65535
_NUM_PLANS = 10


def furnished_room(rng: np.random.Generator) -> tuple[Scene, Camera]:
    """A room with some things on the floor."""
    inside = room(rng)
    things = scatter(rng, int(rng.integers(1, 6)), area=(-1.9, 1.9, 1.5, 5.5), radius=(0.2, 0.6))
    camera = Camera((float(rng.uniform(-1.2, 1.2)), float(rng.uniform(-0.6, 0.2)), float(rng.uniform(0.9, 1.9))),
                    yaw=float(rng.uniform(-0.5, 0.5)), pitch=float(rng.uniform(-0.45, 0.1)))
    return replace(inside, bodies=(*inside.bodies, *things)), camera


def _look(sample: Sample) -> tuple[Scene, View]:
    scene, camera = furnished_room(sample.rng)
    return scene, render(scene, camera, sample.size)


def write_thor(sample: Sample) -> None:
    """Depth as grey of a JPEG, 10 m or more white."""
    _, view = _look(sample)
    stem = sample.root / sample.split / f'FloorPlan{sample.number % _NUM_PLANS + 1}' / f'{sample.number:06}'
    save_image(stem.with_name(f'{stem.name}_rgb.jpg'), view.image)
    grey = np.rint((view.depth / GREY_M).clip(0, 1) * 255).astype(np.uint8)
    save_image(stem.with_name(f'{stem.name}_depth.jpg'), grey)


def write_nyu(sample: Sample) -> None:
    """Depth in metres, 0 in the window, where a depth camera measures nothing; the floor as mask."""
    scene, view = _look(sample)
    folder, name = sample.root / sample.split, f'{sample.number:05}'
    save_image(folder / f'images/{name}.png', view.image)
    save_tiff(folder / f'depths/{name}.tiff', np.where(view.is_named(scene, 'window', 'sky'), 0, view.depth))
    save_image(folder / f'walkable/{name}.png', view.is_named(scene, 'floor').astype(np.uint8) * 255)


def write_taskonomy(sample: Sample) -> None:
    """Depth in 512th of a metre, 65535 in the window; edges as the grey of the gradient's length."""
    scene, view = _look(sample)
    building = ('allensville', 'beechwood', 'corozal')[sample.number % 3]
    stem = f'{building}/point_{sample.number}_view_0_domain'
    folder = sample.root / sample.split
    save_image(folder / f'rgb/{stem}_rgb.png', view.image)
    units = np.rint(np.nan_to_num(view.depth, posinf=0) * UNITS_PER_M)
    units = np.where(view.is_named(scene, 'window', 'sky'), INVALID, units)
    save_image(folder / f'depth_zbuffer/{stem}_depth_zbuffer.png', units.astype(np.uint16))
    save_image(folder / f'edges/{stem}_edge_texture.png', edges(view.image))


LAYOUTS = (
    Layout('thor_depth_prediction', write_thor, test='test'),
    Layout('nyu', write_nyu, test='test'),
    Layout('taskonomy', write_taskonomy, test='test'),
)
