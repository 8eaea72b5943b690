"""Where rays meet solids of unit size: along the ray, with which normal, at which place of a texture.

A solid lies in its own frame: a sphere of radius 1, a cube of half edge 1, a cylinder and a cone of radius 1 and height
2 around the third axis (the apex at +1); 'ground' is the plane z = 0, 'room' the cube seen from inside.
"""

from __future__ import annotations

import numpy as np

FLAT = ('cube', 'room', 'ground')
_TINY = 1e-9


def meet(kind: str, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """How many directions away from the origins the nearest hit in front of them lies: (N,), inf for none.

    Args:
        origins: (N, 3) or (3,), outside the solid ('room': inside).
        directions: (N, 3), of any length.
    """
    origins = np.broadcast_to(origins, directions.shape)
    directions = np.where(np.abs(directions) < _TINY, _TINY, directions)
    with np.errstate(invalid='ignore', divide='ignore'):
        found = _MEET[kind](origins, directions)
    return np.where(found > _TINY, found, np.inf)


def normals(kind: str, points: np.ndarray) -> np.ndarray:
    """(N, 3) of the solid's frame, of any length, at points of its surface (N, 3)."""
    x, y, z = points.T
    none = np.zeros_like(x)
    if kind == 'sphere':
        return points
    if kind == 'ground':
        return np.stack([none, none, none + 1], axis=1)
    if kind in ('cube', 'room'):
        axis = np.abs(points).argmax(axis=1)
        rows = np.arange(len(points))
        out = np.zeros_like(points)
        out[rows, axis] = np.sign(points[rows, axis])
        return out if kind == 'cube' else -out
    if kind == 'cylinder':
        cap = np.abs(z) > 1 - 1e-6
        return np.stack([np.where(cap, 0, x), np.where(cap, 0, y), np.where(cap, z, 0)], axis=1)
    base = z < -1 + 1e-6
    return np.stack([np.where(base, 0, x), np.where(base, 0, y), np.where(base, -1, (1 - z) / 4)], axis=1)


def texture_places(kind: str, points: np.ndarray, size: np.ndarray, tile_m: float) -> np.ndarray:
    """(N, 2) in tiles, at points of the solid's frame (N, 3) of a solid of half extents `size` (3,), in metres."""
    if kind in FLAT:
        lengths = points * size / tile_m
        axis = np.full(len(points), 2) if kind == 'ground' else np.abs(points).argmax(axis=1)
        rows = np.arange(len(points))
        # The last coordinate of a wall is its height.
        return np.stack([lengths[rows, np.where(axis == 0, 1, 0)], lengths[rows, np.where(axis == 2, 1, 2)]], axis=1)
    # A whole number of tiles around, mirrored by turns: no seam where the angle jumps.
    around = max(1, round(np.pi * float(size[0]) / tile_m))
    angle = np.arctan2(points[:, 1], points[:, 0]) / np.pi
    return np.stack([angle * around, points[:, 2] * float(size[2]) / tile_m], axis=1)


def _sphere(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return _smaller_root((directions ** 2).sum(1), (origins * directions).sum(1), (origins ** 2).sum(1) - 1)


def _smaller_root(a: np.ndarray, half_b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Of a t² + 2 half_b t + c, the smaller root in front; NaN without one."""
    root = np.sqrt(half_b ** 2 - a * c)
    near, far = (-half_b - root) / a, (-half_b + root) / a
    near, far = np.minimum(near, far), np.maximum(near, far)
    return np.where(near > _TINY, near, far)


def _slabs(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, other = (-1 - origins) / directions, (1 - origins) / directions
    return np.minimum(one, other).max(axis=1), np.maximum(one, other).min(axis=1)


def _cube(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    enters, leaves = _slabs(origins, directions)
    return np.where(enters < leaves, enters, np.nan)


def _room(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return _slabs(origins, directions)[1]


def _ground(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return -origins[:, 2] / directions[:, 2]


def _cap(origins: np.ndarray, directions: np.ndarray, height: float) -> np.ndarray:
    """Where rays meet the disc of radius 1 at a height."""
    along = (height - origins[:, 2]) / directions[:, 2]
    flat = origins[:, :2] + along[:, None] * directions[:, :2]
    return np.where(((flat ** 2).sum(1) <= 1) & (along > _TINY), along, np.inf)


def _side(origins: np.ndarray, directions: np.ndarray, along: np.ndarray) -> np.ndarray:
    height = origins[:, 2] + along * directions[:, 2]
    return np.where((np.abs(height) <= 1) & (along > _TINY), along, np.inf)


def _cylinder(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    flat, to = origins[:, :2], directions[:, :2]
    side = _side(origins, directions, _smaller_root((to ** 2).sum(1), (flat * to).sum(1), (flat ** 2).sum(1) - 1))
    return np.minimum(side, np.minimum(_cap(origins, directions, 1), _cap(origins, directions, -1)))


def _cone(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    # x² + y² = ((1 - z) / 2)²: with w = (1 - z) / 2 a difference of squares.
    flat, to = origins[:, :2], directions[:, :2]
    w, w_to = (1 - origins[:, 2]) / 2, -directions[:, 2] / 2
    a, half_b = (to ** 2).sum(1) - w_to ** 2, (flat * to).sum(1) - w * w_to
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    root = np.sqrt(half_b ** 2 - a * ((flat ** 2).sum(1) - w ** 2))
    # The other half of the double cone may be met first: each root is asked whether it lies on this one.
    sides = [_side(origins, directions, (-half_b + sign * root) / a) for sign in (-1, 1)]
    return np.minimum(np.minimum(*sides), _cap(origins, directions, -1))


_MEET = dict(sphere=_sphere, cube=_cube, cylinder=_cylinder, cone=_cone, ground=_ground, room=_room)
