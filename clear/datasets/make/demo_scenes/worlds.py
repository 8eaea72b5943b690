"""Places and things, drawn at random: open land, rooms, streets, and bodies that stand there without touching."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from clear.datasets.make.demo_scenes.render import Body, Camera, Scene, View, look, render

KINDS = ('sphere', 'cube', 'cylinder', 'cone')
GROUNDS = ('grass', 'gravel', 'brick', 'coins', 'page')
COVERS = ('fur', 'brick', 'flower', 'coffee', 'motorcycle', 'cells', 'china', 'retina')
SKIES = ('hazy sky', 'dawn sky', 'cloudy sky')
ROOM_M = (5.0, 8.0, 2.8)  # width, length, height
_TRIES = 1000


def tint(rng: np.random.Generator, low: float = 0.6, high: float = 1.5) -> tuple[float, float, float]:
    """A colour cast of its own brightness."""
    brightness = rng.uniform(low, high)
    red, green, blue = (float(brightness * share) for share in rng.uniform(0.75, 1.25, 3))
    return red, green, blue


def pick(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


def open_land(rng: np.random.Generator, grounds: Sequence[str] = GROUNDS, skies: Sequence[str] = SKIES) -> Scene:
    """Ground up to the horizon below a sky."""
    ground = Body('ground', pick(rng, grounds), tint=tint(rng, 0.7, 1.3), tile_m=float(rng.uniform(1.0, 2.5)),
                  yaw=float(rng.uniform(-math.pi, math.pi)), name='ground')
    light = float(rng.uniform(0.8, 1.6))
    return Scene((ground,), pick(rng, skies), (light, light * 1.05, light * 1.15))


def room(rng: np.random.Generator) -> Scene:
    """A floor and four walls around the origin, which stands near the wall behind; a window in the wall ahead."""
    width, length, height = ROOM_M
    floor = Body('ground', pick(rng, GROUNDS), tint=tint(rng, 0.6, 1.2), tile_m=float(rng.uniform(0.8, 1.6)),
                 name='floor')
    walls = Body('room', pick(rng, ('brick', 'page', 'gravel', 'cells')), (0.0, length / 2 - 1, height / 2 - 0.25),
                 (width / 2, length / 2, height / 2 + 0.25), tint=tint(rng, 0.9, 1.6),
                 tile_m=float(rng.uniform(1.0, 2.5)), name='wall')
    window = Body('cube', pick(rng, SKIES), (float(rng.uniform(-1.5, 1.5)), length - 1.05, 1.7), (0.6, 0.05, 0.5),
                  tint=(1.8, 1.9, 2.0), name='window')
    return Scene((floor, walls, window))


def street(rng: np.random.Generator) -> Scene:
    """A road that runs ahead between sidewalks and houses, with cars, persons, poles and trees."""
    land = open_land(rng, ('grass',))
    ground = replace(land.bodies[0], name='terrain', tint=(0.7, 1.2, 0.5))
    grey = float(rng.uniform(0.6, 1.0))
    bodies = [ground,
              Body('cube', 'gravel', (0.0, 20.0, 0.0), (3.0, 60.0, 0.02), tint=(grey, grey, grey), tile_m=2.0,
                   name='road')]
    for side in (-1, 1):
        bodies.append(Body('cube', 'brick', (side * 4.2, 20.0, 0.0), (1.2, 60.0, 0.12), tint=tint(rng, 1.0, 1.4),
                           tile_m=1.5, name='sidewalk'))
        y = float(rng.uniform(3, 8))
        while y < 40:
            length, height = float(rng.uniform(2.5, 5.0)), float(rng.uniform(2.0, 5.0))
            if rng.random() < 0.75:
                bodies.append(Body('cube', pick(rng, ('brick', 'page', 'china')), (side * 9.5, y + length, height),
                                   (3.0, length, height), tint=tint(rng), tile_m=3.0, name='building'))
            else:
                bodies += _tree(rng, side * 7.0, y + length)
            y += 2 * length + float(rng.uniform(0, 3))
        for y in np.arange(rng.uniform(4, 9), 30, 9.0):
            bodies.append(Body('cylinder', 'page', (side * 3.3, float(y), 2.2), (0.09, 0.09, 2.2), tint=(0.6, 0.6, 0.6),
                               name='pole'))
    count = int(rng.integers(1, 4))
    for number, y in enumerate(np.sort(rng.uniform(6, 26, count)).tolist()):
        bodies += _car(rng, float(rng.choice([-1.5, 1.5])), y + 4.5 * number, number + 1)
    for number in range(int(rng.integers(1, 4))):
        bodies += _person(rng, float(rng.choice([-1, 1]) * rng.uniform(3.4, 5.0)), float(rng.uniform(4, 16)),
                          count + number + 1)
    return replace(land, bodies=tuple(bodies))


def scatter(rng: np.random.Generator, count: int, *, area: tuple[float, float, float, float],
            radius: tuple[float, float], kinds: Sequence[str] = KINDS, covers: Sequence[str] = COVERS,
            taken: Sequence[Body] = (), first: int = 1) -> list[Body]:
    """Bodies on the ground that touch neither each other nor what is `taken`.

    Args:
        area: (left, right, near, far) of their centres in metres.
        radius: least and greatest.
        first: instance of the first one.
    """
    found: list[Body] = []
    for _ in range(_TRIES):
        if len(found) == count:
            return found
        size = float(rng.uniform(*radius))
        x, y = float(rng.uniform(*area[:2])), float(rng.uniform(*area[2:]))
        # 1.45: a cube may stand corner to corner.
        if all(math.dist((x, y), other.centre[:2]) > 1.45 * (size + max(other.size[:2])) for other in (*found, *taken)):
            found.append(stand(rng, pick(rng, kinds), pick(rng, covers), x, y, size, first + len(found)))
    raise RuntimeError(f'{count} bodies of {radius} m do not fit into {area}.')


def stand(rng: np.random.Generator, kind: str, cover: str, x: float, y: float, radius: float, instance: int) -> Body:
    """A body of equal half extents that stands on the ground."""
    return Body(kind, cover, (x, y, radius), (radius, radius, radius), yaw=float(rng.uniform(-math.pi, math.pi)),
                tint=tint(rng), tile_m=radius * float(rng.uniform(1.0, 2.0)), name=kind, instance=instance)


def all_visible(draw: Callable[[], tuple[Scene, Camera]], size: tuple[int, int]) -> tuple[Scene, Camera, View]:
    """Draw scenes until each thing is seen with at least a 350th of the picture, and look at that one."""
    least = max(2, size[0] * size[1] // 350)
    for _ in range(_TRIES):
        scene, camera = draw()
        things = max(body.instance for body in scene.bodies)
        _, which = look(scene, camera, size)
        instances = np.array([body.instance for body in scene.bodies] + [0])[which]
        if np.bincount(instances.ravel(), minlength=things + 1)[1:].min(initial=least) >= least:
            return scene, camera, render(scene, camera, size)
    raise RuntimeError(f'no scene in {_TRIES} tries in which all things are seen.')


def _car(rng: np.random.Generator, x: float, y: float, instance: int) -> list[Body]:
    paint = tint(rng, 0.7, 1.7)
    cover = pick(rng, ('motorcycle', 'retina', 'coffee'))
    return [Body('cube', cover, (x, y, 0.55), (0.85, 1.9, 0.45), tint=paint, tile_m=3.0, name='car', instance=instance),
            Body('cube', cover, (x, y + 0.1, 1.25), (0.7, 1.0, 0.28), tint=paint, tile_m=3.0, name='car',
                 instance=instance)]


def _person(rng: np.random.Generator, x: float, y: float, instance: int) -> list[Body]:
    return [Body('cylinder', pick(rng, ('flower', 'cells', 'coffee')), (x, y, 0.87), (0.25, 0.25, 0.75),
                 tint=tint(rng), name='person', instance=instance),
            Body('sphere', 'skin', (x, y, 1.75), (0.17, 0.17, 0.17), tint=(1.4, 1.1, 0.9), name='person',
                 instance=instance)]


def _tree(rng: np.random.Generator, x: float, y: float) -> list[Body]:
    crown = float(rng.uniform(1.0, 1.8))
    green = float(rng.uniform(0.6, 1.1))
    return [Body('cylinder', 'brick', (x, y, 0.8), (0.2, 0.2, 0.8), tint=(0.8, 0.5, 0.3), name='vegetation'),
            Body(pick(rng, ('sphere', 'cone')), 'grass', (x, y, 1.4 + crown), (crown, crown, crown * 1.2),
                 tint=(0.5 * green, green, 0.3 * green), name='vegetation')]
