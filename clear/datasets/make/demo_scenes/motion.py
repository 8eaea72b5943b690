"""Things and cameras that move: the layouts of Kinetics, nuScenes, THOR's actions and KITTI's optical flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from clear.core.seeding import derive_seed
from clear.datasets.make.demo_scenes.files import flow_colours, save_flow, save_image
from clear.datasets.make.demo_scenes.layouts import Layout, Sample
from clear.datasets.make.demo_scenes.render import Body, Camera, Scene, optical_flow, render
from clear.datasets.make.demo_scenes.worlds import COVERS, KINDS, open_land, pick, room, scatter, stand, street
from clear.datasets.make.writing import write_plain_json

NUM_FRAMES = 8
_STEP = 1 / (NUM_FRAMES - 1)
# Action -> the thing at a moment of 0 ... 1.
ACTIONS: dict[str, Callable[[Body, float], Body]] = {
    'bouncing': lambda body, at: _moved(body, up=1.2 * abs(math.sin(2 * math.pi * at))),
    'coming closer': lambda body, at: _moved(body, ahead=1.5 - 3.0 * at),
    'going away': lambda body, at: _moved(body, ahead=-1.5 + 3.0 * at),
    'moving left': lambda body, at: _moved(body, right=1.2 - 2.4 * at),
    'moving right': lambda body, at: _moved(body, right=-1.2 + 2.4 * at),
    'resting': lambda body, at: body,
}
# In the order of the classes of THOR's actions.
EGOMOTIONS = ('MoveAhead', 'RotateLeft', 'RotateRight', 'LookUp', 'LookDown')
DRIVES = dict(ahead='MoveAhead', left='RotateLeft', right='RotateRight')


def _moved(body: Body, right: float = 0.0, ahead: float = 0.0, up: float = 0.0) -> Body:
    x, y, z = body.centre
    return replace(body, centre=(x + right, y + ahead, z + up))


def write_clip(sample: Sample) -> tuple[str, str]:
    rng, action = sample.rng, sample.choose(list(ACTIONS))
    land = open_land(rng)
    thing = stand(rng, pick(rng, KINDS), pick(rng, COVERS), 0.0, float(rng.uniform(4.5, 5.5)),
                  float(rng.uniform(0.4, 0.6)), 1)
    others = scatter(rng, 2, area=(-4, 4, 7.5, 9), radius=(0.3, 0.5), taken=[thing])
    camera = Camera((float(rng.uniform(-0.3, 0.3)), 0.0, 1.6), pitch=float(rng.uniform(-0.2, -0.05)))
    name = f'{derive_seed("clip", sample.split, sample.number):016x}'[:11]
    for frame in range(NUM_FRAMES):
        scene = replace(land, bodies=(*land.bodies, ACTIONS[action](thing, frame * _STEP), *others))
        save_image(sample.root / sample.split / name[:2] / f'{name}_{frame + 1:06}.jpg',
                   render(scene, camera, sample.size).image)
    return name, action


def finish_clips(root: Path, split: str, clips: list[tuple[str, str]]) -> None:
    write_plain_json(root / f'annotations/{split}.json',
                     {name: dict(annotations=dict(label=action, segment=[0.0, 1.0]), duration=1.0, subset=split)
                      for name, action in clips})


def moved_camera(rng: np.random.Generator, camera: Camera, action: str) -> Camera:
    """The camera after an action: half a metre ahead or a sixth to a quarter of a right angle, give or take."""
    if action == 'MoveAhead':
        x, y, z = camera.position
        step = float(rng.uniform(0.4, 0.6))
        return replace(camera, position=(x + step * math.sin(camera.yaw), y + step * math.cos(camera.yaw), z))
    angle = float(rng.uniform(0.18, 0.3))
    if action in ('RotateLeft', 'RotateRight'):
        return replace(camera, yaw=camera.yaw + (angle if action == 'RotateRight' else -angle))
    return replace(camera, pitch=camera.pitch + (angle if action == 'LookUp' else -angle))


def write_drive(sample: Sample) -> dict[str, str]:
    label = sample.choose(list(DRIVES))
    scene, camera = _drive(sample.rng)
    paths = {f'img_{which}': f'samples/CAM_FRONT/{sample.split}_{sample.number:06}_{which}.jpg' for which in 'ab'}
    for path, seen_by in zip(paths.values(), (camera, moved_camera(sample.rng, camera, DRIVES[label]))):
        save_image(sample.root / path, render(scene, seen_by, sample.size).image)
    return dict(**paths, label=label)


def _drive(rng: np.random.Generator) -> tuple[Scene, Camera]:
    return street(rng), Camera((float(rng.uniform(-2, 2)), 0.0, float(rng.uniform(1.4, 1.8))),
                               yaw=float(rng.uniform(-0.05, 0.05)), pitch=float(rng.uniform(-0.08, 0.02)))


def finish_drives(root: Path, split: str, pairs: list[dict[str, str]]) -> None:
    write_plain_json(root / f'nuScenes_{split}.json', pairs)


def write_action(sample: Sample) -> str:
    action = sample.choose(EGOMOTIONS)
    scene, before, after = action_scene(sample.rng, action)
    stem = f'{sample.split}/{sample.number:06}'
    for which, camera in (('a', before), ('b', after)):
        save_image(sample.root / f'{stem}_rgb_{which}.jpg', render(scene, camera, sample.size).image)
    return f'{stem} {action}'


def action_scene(rng: np.random.Generator, action: str) -> tuple[Scene, Camera, Camera]:
    """A room with things, seen before and after an action of the camera."""
    inside = room(rng)
    things = scatter(rng, int(rng.integers(2, 6)), area=(-1.8, 1.8, 2.0, 5.5), radius=(0.2, 0.5))
    camera = Camera((float(rng.uniform(-1, 1)), float(rng.uniform(-0.5, 0.3)), float(rng.uniform(1.1, 1.6))),
                    yaw=float(rng.uniform(-0.4, 0.4)), pitch=float(rng.uniform(-0.25, 0.05)))
    return replace(inside, bodies=(*inside.bodies, *things)), camera, moved_camera(rng, camera, action)


def finish_lines(root: Path, split: str, lines: list[str]) -> None:
    """`<split>_labels.txt`, a line for each sample."""
    root.mkdir(parents=True, exist_ok=True)
    (root / f'{split}_labels.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')


def write_flow(sample: Sample) -> None:
    """A drive of half a metre to a metre in which one car moves too; the sky has no flow, as lasers see none there."""
    size = (sample.edge, 2 * sample.edge)
    before, camera, after, camera_after = flow_scenes(sample.rng)
    first, second = render(before, camera, size), render(after, camera_after, size)
    flow, _ = optical_flow(before, camera, after, camera_after, size)
    valid = np.isfinite(first.depth) & np.isfinite(flow).all(-1)
    folder, name = sample.root / 'training', f'{sample.number:06}'
    save_image(folder / f'image_2/{name}_10.png', first.image)
    save_image(folder / f'image_2/{name}_11.png', second.image)
    save_flow(folder / f'flow_occ/{name}_10.png', flow, valid)
    save_image(folder / f'viz_flow_occ/{name}_10.png', flow_colours(flow, valid))


def flow_scenes(rng: np.random.Generator) -> tuple[Scene, Camera, Scene, Camera]:
    """A street and a camera, before and after both moved."""
    scene, camera = _drive(rng)
    x, y, z = camera.position
    after = replace(camera, position=(x + float(rng.uniform(-0.05, 0.05)), y + float(rng.uniform(0.3, 0.9)), z),
                    yaw=camera.yaw + float(rng.uniform(-0.03, 0.03)),
                    pitch=camera.pitch + float(rng.uniform(-0.01, 0.01)))
    ahead = float(rng.uniform(-0.8, 0.8))
    moved = tuple(_moved(body, ahead=ahead) if body.name == 'car' and body.instance == 1 else body
                  for body in scene.bodies)
    return scene, camera, replace(scene, bodies=moved), after


LAYOUTS = (
    Layout('kinetics400', write_clip, test='validate', finish=finish_clips, least=len(ACTIONS)),
    Layout('nuScenes', write_drive, test='test', finish=finish_drives, least=len(DRIVES)),
    Layout('thor_action_prediction', write_action, finish=finish_lines, least=len(EGOMOTIONS)),
    # Ten scenes, so that there is one in the last tenth, which is to test on.
    Layout('KITTI', write_flow, train='', test=None, least=10),
)
