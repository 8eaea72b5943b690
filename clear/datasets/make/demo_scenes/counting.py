"""How many and how far: the layouts of CLEVR and of THOR's number of steps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from clear.datasets.make.demo_scenes.files import save_image
from clear.datasets.make.demo_scenes.layouts import Layout, Sample
from clear.datasets.make.demo_scenes.motion import finish_lines
from clear.datasets.make.demo_scenes.render import Camera, Scene, View, render
from clear.datasets.make.demo_scenes.worlds import COVERS, KINDS, all_visible, open_land, pick, room, scatter, stand
from clear.datasets.make.writing import write_plain_json

COUNTS = (1, 2, 3, 4, 5, 6, 7, 8)
STEPS = (0, 1, 2, 3, 4, 5, 6, 7)
STEP_M = 0.5
_NUM_PLANS = 10


def write_counted(sample: Sample) -> dict:
    scene, camera, view = counted_scene(sample.rng, sample.choose(COUNTS), sample.size)
    name = f'CLEVR_{sample.split}_{sample.number:06}.png'
    save_image(sample.root / 'images' / sample.split / name, view.image)
    return dict(image_filename=name, image_index=sample.number, split=sample.split,
                objects=_described(scene, camera, sample.size))


def counted_scene(rng: np.random.Generator, count: int, size: tuple[int, int]) -> tuple[Scene, Camera, View]:
    """So many things around the origin, each of them seen, from seven metres away."""
    def draw() -> tuple[Scene, Camera]:
        land = open_land(rng)
        things = scatter(rng, count, area=(-2.6, 2.6, -2.6, 2.6), radius=(0.32, 0.5))
        turn = float(rng.uniform(-0.12, 0.12))
        camera = Camera((-7 * math.sin(turn), -7 * math.cos(turn), float(rng.uniform(3.2, 4.2))), yaw=turn, pitch=-0.45,
                        focal=1.15)
        return replace(land, bodies=(*land.bodies, *things)), camera

    return all_visible(draw, size)


def _described(scene: Scene, camera: Camera, size: tuple[int, int]) -> list[dict]:
    """The objects as CLEVR's files have them: centres in metres from the origin, in pixels with their depth."""
    out = []
    for body in scene.bodies:
        if body.instance:
            pixels, depths = camera.project(np.array([body.centre]), size)
            out.append({'3d_coords': [round(value, 6) for value in body.centre],
                        'pixel_coords': [round(float(value), 4) for value in (*pixels[0], depths[0])],
                        'rotation': round(math.degrees(body.yaw) % 360, 4), 'shape': body.kind, 'material': body.tile,
                        'size': 'large' if body.size[0] > 0.41 else 'small', 'color': 'mixed'})
    return out


def finish_counted(root: Path, split: str, scenes: list[dict]) -> None:
    write_plain_json(root / f'scenes/CLEVR_{split}_scenes.json',
                     dict(info=dict(split=split, version='1.0'), scenes=scenes))


def write_steps(sample: Sample) -> str:
    steps = sample.choose(STEPS)
    scene, camera = steps_scene(sample.rng, steps)
    stem = f'{sample.split}/FloorPlan{sample.number % _NUM_PLANS + 1}/{sample.number:06}'
    save_image(sample.root / f'{stem}_rgb.jpg', render(scene, camera, sample.size).image)
    return f'{stem} {steps}'


def steps_scene(rng: np.random.Generator, steps: int) -> tuple[Scene, Camera]:
    """A room in which the thing straight ahead is so many steps away; others stand aside, at other distances."""
    inside = room(rng)
    camera = Camera((0.0, -0.6, float(rng.uniform(1.2, 1.5))), pitch=float(rng.uniform(-0.35, -0.25)))
    radius = float(rng.uniform(0.25, 0.4))
    # The last step ends within reach: 0.9 m before the middle, give or take half a step.
    away = 0.9 + (steps + float(rng.uniform(-0.4, 0.4))) * STEP_M
    target = stand(rng, pick(rng, KINDS), pick(rng, COVERS), float(rng.uniform(-0.1, 0.1)), -0.6 + away, radius, 1)
    others = [thing for left, right in ((-2.0, -0.9), (0.9, 2.0)) for thing in scatter(
        rng, int(rng.integers(0, 3)), area=(left, right, 1.5, 5.5), radius=(0.2, 0.4), taken=[target])]
    return replace(inside, bodies=(*inside.bodies, target, *(replace(other, instance=0) for other in others))), camera


LAYOUTS = (
    Layout('thor_num_steps', write_steps, finish=finish_lines, least=len(STEPS)),
    Layout('CLEVR', write_counted, finish=finish_counted, least=len(COUNTS)),
)
