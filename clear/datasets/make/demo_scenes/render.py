"""A ray caster: pictures of solids covered with photographs, with their exact depth, masks and optical flow.

World coordinates in metres: x to the right, y ahead, z up, the ground at z = 0. Depth is the distance along the optical
axis, as depth cameras give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clear.datasets.make.demo_scenes.photographs import tile
from clear.datasets.make.demo_scenes.solids import meet, normals, texture_places

REACH_M = 60.0  # the ground ends here
_OVERSAMPLING = 2
_LIGHT = np.array([-0.48, -0.6, 0.64])
_AMBIENT = 0.45


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: (x, y, z) in metres.
        yaw: to the right of straight ahead, in radians.
        pitch: above the horizon, in radians.
        focal: in heights of the image; 1.0 sees 53 degrees from top to bottom.
    """

    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0
    focal: float = 1.0

    def axes(self) -> np.ndarray:
        """(3, 3): to the right, down and ahead, in world coordinates."""
        sin_yaw, cos_yaw, sin_pitch, cos_pitch = (np.sin(self.yaw), np.cos(self.yaw), np.sin(self.pitch),
                                                  np.cos(self.pitch))
        right = np.array([cos_yaw, -sin_yaw, 0.0])
        ahead = np.array([sin_yaw * cos_pitch, cos_yaw * cos_pitch, sin_pitch])
        return np.stack([right, np.cross(ahead, right), ahead])

    def rays(self, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """World directions (N, 3) of length 1 along the optical axis, through pixels (N, 2) as (u, v).

        The centre of the first pixel is (0, 0).
        """
        height, width = size
        scale = self.focal * height
        planar = (pixels - [(width - 1) / 2, (height - 1) / 2]) / scale
        return np.concatenate([planar, np.ones((len(pixels), 1))], axis=1) @ self.axes()

    def project(self, points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) and depths (N,) of world points (N, 3)."""
        return self._image(points - np.asarray(self.position), size)

    def project_directions(self, directions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Pixels (N, 2) of what lies endlessly far away in world directions (N, 3)."""
        return self._image(directions, size)[0]

    def _image(self, offsets: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        height, width = size
        right, down, ahead = (offsets @ self.axes().T).T
        scale = self.focal * height
        with np.errstate(divide='ignore', invalid='ignore'):
            pixels = np.stack([right, down], axis=1) / ahead[:, None] * scale
        return pixels + [(width - 1) / 2, (height - 1) / 2], ahead


@dataclass(frozen=True)
class Body:
    """A solid in the world.

    Attributes:
        kind: of `solids`.
        tile: of `photographs`, mirrored by turns.
        centre: (x, y, z) in metres.
        size: half extents along its own axes in metres.
        yaw: how far it is turned about the upright axis, clockwise seen from above, in radians.
        tint: brightness per channel; 1 shows the photograph at a mean grey of 0.5.
        tile_m: edge of a tile in metres.
        name: what it is, for masks of classes.
        instance: which thing it belongs to, counted from 1; 0 for the surroundings.
    """

    kind: str
    tile: str
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    yaw: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tile_m: float = 1.0
    name: str = ''
    instance: int = 0

    def to_own(self, vectors: np.ndarray) -> np.ndarray:
        """World vectors (N, 3) in the frame of the unit solid."""
        return vectors @ self._turn() / np.asarray(self.size)

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Points of the unit solid (N, 3) in world coordinates."""
        return points * np.asarray(self.size) @ self._turn().T + np.asarray(self.centre)

    def world_normals(self, points: np.ndarray) -> np.ndarray:
        """Unit normals (N, 3) in world coordinates at points of the unit solid."""
        turned = normals(self.kind, points) / np.asarray(self.size) @ self._turn().T
        return turned / np.linalg.norm(turned, axis=1, keepdims=True).clip(1e-12)

    def _turn(self) -> np.ndarray:
        """(3, 3), own axes as columns."""
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Scene:
    """Bodies below a sky.

    Attributes:
        sky: tile of the sky.
        sky_tint: its brightness per channel.
    """

    bodies: tuple[Body, ...]
    sky: str = 'hazy sky'
    sky_tint: tuple[float, float, float] = (1.5, 1.6, 1.8)


@dataclass(frozen=True)
class View:
    """What a camera sees.

    Attributes:
        image: (H, W, 3) uint8.
        depth: (H, W) float32 in metres, at the centres of pixels; inf in the sky.
        body: (H, W) int16, which of the scene's bodies; -1 in the sky.
        instance: (H, W) int16; 0 in the surroundings.
    """

    image: np.ndarray
    depth: np.ndarray
    body: np.ndarray
    instance: np.ndarray

    def is_named(self, scene: Scene, *names: str) -> np.ndarray:
        """(H, W) bool: whether a pixel shows a body of one of the names ('sky' too)."""
        known = np.array([body.name in names for body in scene.bodies] + ['sky' in names])
        return known[self.body]  # -1: the sky, the last


def render(scene: Scene, camera: Camera, size: tuple[int, int]) -> View:
    """Look at a scene; `size` is (height, width)."""
    height, width = size
    depth, body = look(scene, camera, size)
    fine = (height * _OVERSAMPLING, width * _OVERSAMPLING)
    # The centre of a fine pixel in pixels of the image.
    rays = camera.rays((pixel_grid(fine) + 0.5) / _OVERSAMPLING - 0.5, size)
    colours = _colours(scene, np.asarray(camera.position), rays, camera.focal * height * _OVERSAMPLING)
    image = colours.reshape(height, _OVERSAMPLING, width, _OVERSAMPLING, 3).mean(axis=(1, 3))
    instances = np.array([each.instance for each in scene.bodies] + [0], np.int16)
    return View(np.rint(image * 255).astype(np.uint8), depth, body, instances[body])


def look(scene: Scene, camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Depth and body of `View` without the picture, which is most of the work."""
    depth, body = cast(scene.bodies, np.asarray(camera.position), camera.rays(pixel_grid(size), size))
    return depth.reshape(size).astype(np.float32), body.reshape(size)


def cast(bodies: Sequence[Body], origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest hit of each ray (N, 3): depth (N,) float64, inf for none, and body (N,) int16, -1 for none."""
    nearest, which = np.full(len(rays), np.inf), np.full(len(rays), -1, np.int16)
    lengths = (rays ** 2).sum(1)
    for number, body in enumerate(bodies):
        offset = np.asarray(body.centre) - origin
        near = np.arange(len(rays))
        if body.kind not in ('ground', 'room'):
            # A ball around the body is asked first: most rays of a street miss most of its bodies.
            along = rays @ offset
            reach = sum(extent ** 2 for extent in body.size)
            near = np.flatnonzero(along ** 2 >= (offset @ offset - reach) * lengths)
        found = meet(body.kind, body.to_own(-offset[None]), body.to_own(rays[near]))
        if body.kind == 'ground':
            found = np.where(found <= REACH_M, found, np.inf)
        closer = found < nearest[near]
        near = near[closer]
        nearest[near], which[near] = found[closer], number
    return nearest, which


def pixel_grid(size: tuple[int, int]) -> np.ndarray:
    """(H * W, 2) float64: (u, v) of every pixel, row by row."""
    v, u = np.mgrid[:size[0], :size[1]]
    return np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64)


def optical_flow(before: Scene, camera: Camera, after: Scene, camera_after: Camera,
                 size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's surface goes to.

    The bodies of both scenes are the same ones, moved.

    Returns:
        (H, W, 2) float32: (u, v) in pixels; NaN where the surface ends behind the camera.
        (H, W) bool: whether the place is seen in the second view too: neither outside the picture nor covered.
    """
    pixels = pixel_grid(size)
    rays, origin = camera.rays(pixels, size), np.asarray(camera.position)
    depth, which = cast(before.bodies, origin, rays)
    ends, depths = np.full_like(pixels, np.nan), np.full(len(pixels), np.inf)
    sky = which < 0
    ends[sky] = camera_after.project_directions(rays[sky], size)
    for number, (body, moved) in enumerate(zip(before.bodies, after.bodies)):
        on = which == number
        own = body.to_own(origin + rays[on] * depth[on, None] - np.asarray(body.centre))
        ends[on], depths[on] = camera_after.project(moved.to_world(own), size)
    ends[depths <= 0] = np.nan
    inside = ((ends > -0.5) & (ends < np.array(size[::-1]) - 0.5)).all(axis=1)
    seen, seen_which = cast(after.bodies, np.asarray(camera_after.position),
                            camera_after.rays(np.nan_to_num(ends), size))
    with np.errstate(invalid='ignore'):  # inf - inf in the sky
        same = sky | (np.abs(seen - depths) < 1e-6 * (1 + depth))
    visible = inside & (seen_which == which) & same
    return (ends - pixels).reshape(*size, 2).astype(np.float32), visible.reshape(size)


def _colours(scene: Scene, origin: np.ndarray, rays: np.ndarray, pixels_per_m: float) -> np.ndarray:
    """(N, 3) float32 in 0 ... 1."""
    depth, which = cast(scene.bodies, origin, rays)
    out = np.empty((len(rays), 3), np.float32)
    sky = which < 0
    out[sky] = _sky(scene, rays[sky])
    for number in np.unique(which[~sky]):
        body, on = scene.bodies[number], which == number
        points = body.to_own(origin + rays[on] * depth[on, None] - np.asarray(body.centre))
        # Coarser levels for what is far away: a pixel covers depth / pixels_per_m metres.
        texels = depth[on] / pixels_per_m / body.tile_m * len(tile(body.tile)[0])
        colour = _sample(body.tile, texture_places(body.kind, points, np.asarray(body.size), body.tile_m), texels)
        light = _AMBIENT + (1 - _AMBIENT) * (body.world_normals(points) @ _LIGHT).clip(0)
        out[on] = colour * np.asarray(body.tint, np.float32) * light[:, None].astype(np.float32)
    return out.clip(0, 1)


def _sky(scene: Scene, rays: np.ndarray) -> np.ndarray:
    azimuth = np.arctan2(rays[:, 0], rays[:, 1]) / np.pi * 4
    height = rays[:, 2] / np.hypot(rays[:, 0], rays[:, 1]).clip(1e-6)
    colour = _sample(scene.sky, np.stack([azimuth, height.clip(-4, 4)], axis=1), np.full(len(rays), 2.0))
    return colour * np.asarray(scene.sky_tint, np.float32)


def _sample(name: str, places: np.ndarray, texels: np.ndarray) -> np.ndarray:
    """(N, 3) float32: a tile, mirrored by turns, at places (N, 2) in tiles, where a pixel covers `texels` (N,)."""
    levels = tile(name)
    chosen = np.floor(np.log2(texels.clip(1))).astype(int).clip(0, len(levels) - 1)
    places = places * [1, -1]  # rows of an image run down
    places = 1 - np.abs(places % 2 - 1)
    out = np.empty((len(places), 3), np.float32)
    for number in np.unique(chosen):
        on = chosen == number
        out[on] = _bilinear(levels[number], places[on])
    return out


def _bilinear(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    edge = len(image)
    at = (places * edge - 0.5).clip(0, edge - 1)
    low = np.floor(at).astype(int).clip(0, edge - 2)
    (x, y), (right, down) = low.T, (at - low).T.astype(np.float32)[:, :, None]
    return ((image[y, x] * (1 - right) + image[y, x + 1] * right) * (1 - down)
            + (image[y + 1, x] * (1 - right) + image[y + 1, x + 1] * right) * down)
