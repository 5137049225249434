"""Pictures of rooms against tracing everything, against geometry, and against the laws of light."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from mentorgym.envs.rendering.meshes import sphere
from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import models, picture
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES, OBJECTS, Object
from mentorgym.envs.spatial.rooms import ROOMS, TEXTURES

SIZE = 72
TABLE = (0.1, 0.5, 0.75)
"""The middle of the dining corner's table, m."""


def on_table(*things: tuple[str, float, float], camera: Camera | None = None, yaw: float = 0.4) -> Arrangement:
    """Objects at offsets from the middle of a table."""
    chosen = ROOMS["dining corner"].cameras["close"][0] if camera is None else camera
    positions = np.array([(TABLE[0] + x, TABLE[1] + y, TABLE[2]) for _, x, y in things])
    return Arrangement(
        "dining corner", chosen, tuple(NAMES.index(name) for name, _, _ in things), positions, np.full(len(things), yaw)
    )


CROWDED = on_table(("green cup", -0.2, 0.0), ("vase", 0.06, 0.1), ("small pot", 0.1, -0.2))


def traced_whole(arrangement: Arrangement, size: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours, instances and depth from one scene of everything, every ray traced and nothing kept."""
    camera = replace(arrangement.camera, height=size, width=size)
    room = ROOMS[arrangement.room]
    alone = picture.ground(models.room_model(room, camera.position), picture.lamp(room), camera, 1)
    everything = models.joined([models.room_model(room, camera.position), picture.objects_model(arrangement)])
    tracer = picture.Smooth(everything)
    origin = np.asarray(camera.position, np.float32)

    def colours(rays: np.ndarray, opened: np.ndarray) -> tuple[np.ndarray, picture.Seen]:
        seen = picture._all(tracer, alone.lamp, origin, rays)
        left = opened * picture._kept_off(picture.balls(arrangement), seen.points, seen.normals)
        opened = np.where(seen.instances[:, None] >= 0, np.float32(1), left)
        return picture._colours(seen, opened, seen.direct), seen

    shown, seen = colours(picture._within(camera, np.arange(size * size), 1), alone.open)
    edges = picture._edges(shown, camera)
    fine, _ = colours(picture._within(camera, edges, side), np.repeat(alone.open[edges], side * side, axis=0))
    shown[edges] = fine.reshape(len(edges), side * side, 3).mean(1)
    shape = (size, size)
    return (shown * 255 + np.float32(0.5)).astype(np.uint8).reshape(*shape, 3), seen.instances.reshape(shape), seen.far


@pytest.mark.parametrize("room", ["dining corner", "hallway"])
def test_what_is_kept_changes_nothing(room: str):
    # The second of two arrangements: a background that the first had touched would show.
    camera = ROOMS[room].cameras["close"][1]
    first = replace(CROWDED, room=room, camera=camera)
    if room == "hallway":
        first = replace(first, positions=CROWDED.positions + np.array(ROOMS[room].surfaces[0].centre) - TABLE)
    second = replace(first, positions=first.positions + np.array([0.07, 0.03, 0.0]), yaws=first.yaws + 1.0)
    picture.draw(first, SIZE)
    drawn = picture.draw(second, SIZE)
    colours, instances, far = traced_whole(second, SIZE, 2)
    np.testing.assert_array_equal(drawn.colours, colours)
    np.testing.assert_array_equal(drawn.instances, instances)
    np.testing.assert_array_equal(drawn.depth.ravel(), far)
    assert set(np.unique(instances)) == {-1, 0, 1, 2}


def test_the_same_arrangement_twice_bit_for_bit():
    first = picture.draw(CROWDED, SIZE)
    picture._background.cache_clear()
    for one, other in zip(first, picture.draw(CROWDED, SIZE), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_an_object_is_where_a_pinhole_says(name: str):
    arrangement = on_table((name, 0.0, 0.0))
    drawn = picture.draw(arrangement, 112, rays_per_edge=1)
    camera = replace(arrangement.camera, height=112, width=112)
    # The corners of the mesh through the pinhole, and the middles of pixels: the outermost agree, narrow tips aside.
    model = picture.objects_model(arrangement)
    ahead, right, down = camera.axes().astype(float) @ (model.mesh.vertices - np.array(camera.position)).T
    focal = 56 / np.tan(camera.field / 2)
    columns, rows = 56 + focal * right / ahead, 56 + focal * down / ahead
    seen_rows, seen_columns = np.nonzero(drawn.instances == 0)
    for corners, pixels in ((columns, seen_columns), (rows, seen_rows)):
        assert corners.min() - 0.01 <= pixels.min() + 0.5 <= corners.min() + 2
        assert corners.max() - 2 <= pixels.max() + 0.5 <= corners.max() + 0.01


def test_a_nearer_object_hides_a_farther_one():
    # The camera looks along y.
    drawn = picture.draw(on_table(("vase", 0.0, 0.25), ("blender", 0.0, -0.05)), SIZE)
    alone = picture.draw(on_table(("vase", 0.0, 0.25)), SIZE)
    both = (drawn.instances == 1) & (alone.instances == 0)
    assert both.any()
    assert (drawn.depth[both] < alone.depth[both]).all()


def test_an_object_throws_a_shadow_away_from_the_lamp():
    empty = picture.draw(on_table(("plate", 50.0, 50.0)), SIZE)
    with_vase = picture.draw(on_table(("vase", 0.0, 0.0)), SIZE)
    darker = (empty.colours.astype(int) - with_vase.colours).max(2) > 25
    rows, columns = np.nonzero(darker & (with_vase.instances == -1))
    assert len(rows) > 10
    # The lamp hangs to the left of the table, so most of the shadow lies to the right.
    lamp = picture.lamp(ROOMS["dining corner"]).position
    assert lamp[0] < TABLE[0]
    assert columns.mean() > np.nonzero(with_vase.instances == 0)[1].mean()


def test_normals_of_a_ball_are_those_of_a_sphere():
    ball = models.smooth(sphere((2, 2, 2), (1, 2, 3), (1, 1, 1), detail=4))
    rays = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    origin = np.array([4.0, 2.0, 3.0], np.float32)
    hit, _, far, normals = picture.Smooth(ball).meet(origin, rays, np.full(4000, 100, np.float32))
    points = origin + rays[hit] * far[:, None]
    analytic = points - np.array([1, 2, 3])
    analytic /= np.linalg.norm(analytic, axis=1, keepdims=True)
    assert len(hit) > 100
    assert np.degrees(np.arccos((normals * analytic).sum(1).min())) < 0.5
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)


def test_normals_keep_sharp_edges():
    room = models.room_model(ROOMS["workshop"], (0, 0, 1))
    corners = room.mesh.vertices[room.mesh.faces].astype(float)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    # Of boxes and walls all, of cylinders the ends: whatever is level or upright along the walls.
    along = np.abs(flat).max(1) > 0.9999
    np.testing.assert_allclose(room.normals[along & (np.abs(flat[:, 2]) > 0.9)][..., 2] ** 2, 1, atol=1e-5)
    assert along.mean() > 0.5


@pytest.mark.parametrize("item", OBJECTS, ids=NAMES)
def test_what_is_drawn_keeps_to_the_solid(item: Object):
    vertices = models.object_model(OBJECTS.index(item)).mesh.vertices.astype(float)
    heights, radii = np.array(item.profile).T
    x, y, z = vertices.T
    outside = np.hypot(x, y) - np.interp(z, heights, radii)
    for lug in item.lugs:
        low, high = np.array([lug.x, lug.y, lug.z]).T
        away = np.maximum(low - vertices, vertices - high)
        outside = np.minimum(outside, np.linalg.norm(np.maximum(away, 0), axis=1))
    assert outside.max() < 0.02
    assert abs(vertices[:, 2].min()) < 1e-6
    assert abs(z.max() - item.height) < 0.01


def test_a_wall_between_camera_and_room_is_left_out():
    room = ROOMS["bedroom"]
    outside = models.room_model(room, (0.0, -room.size[1], 1.0))
    inside = models.room_model(room, (0.0, 0.0, 1.0))
    assert len(inside.mesh.faces) == len(outside.mesh.faces) + 2
    walls = outside.mesh.vertices[outside.mesh.vertices[:, 2] == np.float32(room.size[2])]
    assert (walls[:, 1] == np.float32(room.size[1] / 2)).any()


def test_every_texture_is_drawn_and_has_the_mean_of_its_colour():
    points = np.random.default_rng(0).uniform(-3, 3, (20000, 3)).astype(np.float32)
    for code, name in enumerate(TEXTURES):
        shade = picture._textured(np.ones((20000, 3), np.float32), np.full(20000, code, np.uint8), points)
        assert (np.ptp(shade) > 0) == bool(name)
        assert 0.85 < shade.mean() < 1.1


def test_more_rays_smooth_edges_alone():
    rough, smooth = (picture.draw(CROWDED, SIZE, rays) for rays in (1, 4))
    np.testing.assert_array_equal(rough.instances, smooth.instances)
    same = (rough.colours == smooth.colours).all(2)
    assert 0.5 < same.mean() < 1


def test_a_room_that_does_not_exist():
    with pytest.raises(KeyError, match="cellar"):
        picture.draw(replace(CROWDED, room="cellar"), SIZE)


def test_without_embreex_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "embreex"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ImportError, match=r"\[scenes\]"):
        picture.draw(CROWDED, SIZE)
