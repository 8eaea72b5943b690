"""The ground truth of rendered scenes against formulas of planes and spheres, marched rays and warped frames."""

from dataclasses import replace

import numpy as np
import pytest

from clear.datasets.make.demo_scenes import Body, Camera, Scene, optical_flow, render
from clear.datasets.make.demo_scenes.counting import STEP_M, counted_scene, steps_scene
from clear.datasets.make.demo_scenes.motion import EGOMOTIONS, action_scene, flow_scenes
from clear.datasets.make.demo_scenes.render import cast, look, pixel_grid
from clear.datasets.make.demo_scenes.solids import meet, normals

SIZE = (30, 40)
GROUND = Body('ground', 'grass', tile_m=2.0)


def offsets(size, focal):
    """(u, v) of pixel centres from the middle of the image, in focal lengths."""
    v, u = np.mgrid[:size[0], :size[1]]
    scale = focal * size[0]
    return (u - (size[1] - 1) / 2) / scale, (v - (size[0] - 1) / 2) / scale


@pytest.mark.parametrize('pitch', [0.0, -0.4, 0.2])
def test_depth_of_the_ground_is_that_of_the_formula(pitch):
    depth, body = look(Scene((GROUND,)), Camera((1.0, -2.0, 1.7), yaw=0.7, pitch=pitch, focal=1.2), SIZE)
    _, v = offsets(SIZE, 1.2)
    falls = v * np.cos(pitch) - np.sin(pitch)  # metres down per metre along the axis
    with np.errstate(divide='ignore'):
        expected = np.where((falls > 0) & (60 * falls >= 1.7), 1.7 / falls, np.inf)
    np.testing.assert_allclose(depth, expected, rtol=1e-5)
    assert (body == np.where(np.isfinite(expected), 0, -1)).all()


def test_depth_of_a_sphere_is_that_of_the_formula():
    """Along the axis, not along the ray; turned and lifted cameras see the same as one at the origin."""
    centre, radius = np.array([0.3, -0.2, 4.0]), 1.1  # right, down, ahead of the camera
    camera = Camera((2.0, 1.0, 3.0), yaw=-0.6, pitch=0.25)
    place = np.asarray(camera.position) + centre @ camera.axes()
    depth, _ = look(Scene((Body('sphere', 'fur', tuple(place), (radius,) * 3),)), camera, SIZE)
    u, v = offsets(SIZE, 1.0)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            ray = np.array([u[row, column], v[row, column], 1.0])
            b, length = ray @ centre, ray @ ray
            inner = b * b - length * (centre @ centre - radius ** 2)
            expected = (b - np.sqrt(inner)) / length if inner > 0 else np.inf
            assert depth[row, column] == pytest.approx(expected, rel=1e-5)


INSIDE = {'sphere': lambda p: (p ** 2).sum(-1) < 1, 'cube': lambda p: (np.abs(p) < 1).all(-1),
          'cylinder': lambda p: ((p[..., :2] ** 2).sum(-1) < 1) & (np.abs(p[..., 2]) < 1),
          'cone': lambda p: ((p[..., :2] ** 2).sum(-1) < ((1 - p[..., 2]) / 2) ** 2) & (np.abs(p[..., 2]) < 1)}


@pytest.mark.parametrize('kind', INSIDE)
def test_rays_meet_a_solid_where_marching_does(kind):
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(300, 3))
    origins *= rng.uniform(2, 4, (300, 1)) / np.linalg.norm(origins, axis=1, keepdims=True)
    rays = rng.uniform(-1.2, 1.2, (300, 3)) - origins
    step = 1e-3
    marched = np.arange(0, 1.5, step)
    inside = INSIDE[kind](origins[:, None] + marched[None, :, None] * rays[:, None])
    expected = np.where(inside.any(1), marched[inside.argmax(1)], np.inf)
    found = meet(kind, origins, rays)
    # A ray that grazes an edge may be inside for less than a step.
    sure = inside.sum(1) != 0
    assert sure.sum() > 100 and (~sure).sum() > 20
    assert (np.abs(found[sure] - expected[sure]) <= step).all()
    assert np.isinf(found[~sure]).mean() > 0.95


@pytest.mark.parametrize('kind', INSIDE)
def test_normals_point_out_of_a_solid(kind):
    rng = np.random.default_rng(1)
    origins = rng.normal(size=(200, 3)) * 0.1 + [0.0, -3.0, 1.0]
    rays = rng.uniform(-0.9, 0.9, (200, 3)) - origins
    found = meet(kind, origins, rays)
    hit = np.isfinite(found)
    points = origins[hit] + found[hit, None] * rays[hit]
    out = normals(kind, points)
    out = out / np.linalg.norm(out, axis=1, keepdims=True)
    assert not INSIDE[kind](points + 1e-4 * out).any()
    assert INSIDE[kind](points - 1e-4 * out).mean() > 0.98  # not where two faces meet
    assert ((out * rays[hit]).sum(1) <= 1e-9).all(), 'they face the eye'


def test_a_turned_and_stretched_body_lies_where_it_should():
    """A long box that is turned to the right: its near face is that of the rotated plane."""
    body = Body('cube', 'brick', (0.0, 5.0, 0.0), (3.0, 1.0, 4.0), yaw=0.5)
    depth, _ = look(Scene((body,)), Camera((0.0, 0.0, 0.0)), (9, 9))
    u, _ = offsets((9, 9), 1.0)
    # Clockwise from above: the long axis points to (cos, -sin), the near face's normal to (-sin, -cos).
    normal = -np.array([np.sin(0.5), np.cos(0.5)])
    expected = (normal @ [0.0, 5.0] + 1.0) / (normal[0] * u + normal[1])
    np.testing.assert_allclose(depth, expected, rtol=1e-5)


def test_a_mask_shows_the_nearest_body_of_each_pixel():
    scene, camera, view = counted_scene(np.random.default_rng(3), 6, (40, 40))
    rays = camera.rays(pixel_grid((40, 40)), (40, 40))
    alone = np.stack([cast([body], np.asarray(camera.position), rays)[0] for body in scene.bodies])
    nearest = np.where(np.isfinite(alone.min(0)), alone.argmin(0), -1).reshape(40, 40)
    assert (view.body == nearest).all()
    np.testing.assert_allclose(view.depth, alone.min(0).reshape(40, 40), rtol=1e-6)
    expected = np.array([body.instance for body in scene.bodies] + [0])[nearest]
    assert (view.instance == expected).all()


@pytest.mark.parametrize('count', [1, 4, 8])
def test_as_many_things_are_seen_as_are_counted(count):
    for seed in range(5):
        _, _, view = counted_scene(np.random.default_rng(seed), count, (64, 64))
        assert len(np.unique(view.instance[view.instance > 0])) == count


def test_flow_of_a_step_ahead_is_that_of_the_formula():
    """What lies z ahead moves away from the middle as z / (z - step)."""
    camera = Camera((0.0, 0.0, 1.5), focal=1.3)
    scene = Scene((GROUND, Body('room', 'brick', (0.0, 4.0, 1.0), (3.0, 6.0, 1.5))))
    flow, _ = optical_flow(scene, camera, scene, replace(camera, position=(0.0, 0.4, 1.5)), SIZE)
    depth, _ = look(scene, camera, SIZE)
    for axis, offset in enumerate(offsets(SIZE, 1.3)):
        expected = offset * 1.3 * SIZE[0] * (depth / (depth - 0.4) - 1)
        np.testing.assert_allclose(flow[..., axis], expected, atol=1e-3)


@pytest.mark.parametrize('sky', [True, False])
def test_flow_of_a_turn_does_not_know_the_depth(sky):
    """In the middle row what was at angle a is at a - turn, near or endlessly far."""
    bodies = () if sky else (Body('room', 'brick', (0.0, 1.0, 0.0), (3.0, 6.0, 1.5)),)
    camera = Camera((0.0, 0.0, 0.0))
    flow, visible = optical_flow(Scene(bodies), camera, Scene(bodies), replace(camera, yaw=0.2), (31, 41))
    u = offsets((31, 41), 1.0)[0][15]
    expected = (np.tan(np.arctan(u) - 0.2) - u) * 31
    np.testing.assert_allclose(flow[15, :, 0], expected, atol=1e-4)
    np.testing.assert_allclose(flow[15, :, 1], 0, atol=1e-4)
    ends = np.arange(41) + expected
    assert (visible[15] == ((ends > -0.5) & (ends < 40.5))).all(), 'what leaves the picture is not seen'


def test_flow_of_a_body_that_moves_and_what_it_covers():
    """A wall two metres away steps half a metre right: u = f / z / 2, and the wall behind is covered there."""
    camera, size = Camera((0.0, 0.0, 0.0)), (32, 32)
    far, near = (Body('cube', cover, (0.0, y, 0.0), (half, 0.1, half), name=cover)
                 for cover, y, half in (('brick', 8.1, 20.0), ('fur', 2.1, 0.4)))
    before, after = Scene((far, near)), Scene((far, replace(near, centre=(0.5, 2.1, 0.0))))
    flow, visible = optical_flow(before, camera, after, camera, size)
    body = look(before, camera, size)[1]
    on = body == 1
    front = on & (np.abs(look(before, camera, size)[0] - 2.0) < 1e-4)
    assert front.sum() > 100
    np.testing.assert_allclose(flow[front], np.broadcast_to([32 * 0.5 / 2.0, 0.0], flow[front].shape), atol=1e-4)
    assert visible[front].all()
    np.testing.assert_allclose(flow[~on], 0, atol=1e-6)
    covered = ~on & (look(after, camera, size)[1] == 1)
    assert covered.any() and (visible == ~covered | on).all()


@pytest.mark.parametrize('seed', range(4))
def test_the_second_frame_warped_by_the_flow_is_the_first(seed):
    """With bilinear reading, on pixels that both frames see; far better than the second frame as it is."""
    size = (64, 128)
    before, camera, after, camera_after = flow_scenes(np.random.default_rng(seed))
    first, second = (render(*each, size).image.astype(float) for each in ((before, camera), (after, camera_after)))
    flow, visible = optical_flow(before, camera, after, camera_after, size)
    v, u = np.nonzero(visible)
    x, y = (u + flow[v, u, 0]).clip(0, 127), (v + flow[v, u, 1]).clip(0, 63)
    left, top = np.floor(x).astype(int).clip(0, 126), np.floor(y).astype(int).clip(0, 62)
    right, down = (x - left)[:, None], (y - top)[:, None]
    warped = ((second[top, left] * (1 - right) + second[top, left + 1] * right) * (1 - down)
              + (second[top + 1, left] * (1 - right) + second[top + 1, left + 1] * right) * down)
    error, unmoved = np.abs(warped - first[v, u]).mean(), np.abs(second[v, u] - first[v, u]).mean()
    assert visible.mean() > 0.5
    assert error < 9, 'grey levels of 255'
    assert error < 0.55 * unmoved


def mean_flow(action, seed):
    scene, before, after = action_scene(np.random.default_rng(seed), action)
    flow, visible = optical_flow(scene, before, scene, after, SIZE)
    return flow, visible


@pytest.mark.parametrize('seed', range(3))
def test_the_picture_moves_against_the_motion_of_the_camera(seed):
    for action, axis, sign in (('RotateLeft', 0, 1), ('RotateRight', 0, -1), ('LookUp', 1, 1), ('LookDown', 1, -1)):
        flow, visible = mean_flow(action, seed)
        moved = flow[visible]
        assert (sign * moved[:, axis] > 1).mean() > 0.95, action
        assert np.abs(moved[:, axis]).mean() > 2 * np.abs(moved[:, 1 - axis]).mean(), action
    flow, visible = mean_flow('MoveAhead', seed)
    away = np.stack(offsets(SIZE, 1.0), axis=-1)
    assert ((flow * away).sum(-1)[visible] > 0).mean() > 0.9, 'a step ahead: everything moves outwards'
    assert EGOMOTIONS == ('MoveAhead', 'RotateLeft', 'RotateRight', 'LookUp', 'LookDown')


@pytest.mark.parametrize('steps', [0, 3, 7])
def test_the_thing_ahead_is_so_many_steps_away(steps):
    for seed in range(5):
        scene, camera = steps_scene(np.random.default_rng(seed), steps)
        target = next(body for body in scene.bodies if body.instance == 1)
        assert round((target.centre[1] - camera.position[1] - 0.9) / STEP_M) == steps
        instances = np.array([body.instance for body in scene.bodies] + [0])[look(scene, camera, (64, 64))[1]]
        _, columns = np.nonzero(instances == 1)
        assert len(columns) > 8 and abs(columns.mean() - 31.5) < 12, 'it is seen, straight ahead'
