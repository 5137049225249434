"""The renderer against pinhole geometry and the laws of light, on scenes of a few boxes."""

import sys

import numpy as np
import pytest

from mentorgym.envs.rendering.meshes import GRAIN, box, cylinder, joined, placed, polygon, ribbon, sphere
from mentorgym.envs.rendering.render import FAR, Camera, Light, Picture, Tracer, render

CAMERA = Camera((0.0, 0.0, 1.0), 0.0, 0.0, np.pi / 2, 60, 100)
FLAT = Light((0, 0, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0), (0, 0, 0), 1e9)
GROUND = polygon([(-50, -50, 0), (200, -50, 0), (200, 50, 0), (-50, 50, 0)], (0.3, 0.3, 0.3))


def picture(*meshes, light: Light = FLAT, camera: Camera = CAMERA, rays: int = 4) -> Picture:
    return render(Tracer(joined(meshes)), camera, light, rays)


def test_a_box_covers_the_pixels_that_a_pinhole_says():
    block = placed(box((2, 2, 2), (0, 0, 0), (1, 0, 0)), (11, 0, 1), 0.0, 5)
    seen = picture(GROUND, block)
    rows, columns = np.nonzero(seen.instances == 5)
    # Its face is 10 m away and 2 m wide and high; at 90 degrees a metre there is 5 of the 50 pixels to either side.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 34, 45, 54)
    assert (seen.instances[40:, 50] == -1).all()
    assert (seen.instances[:20] == -2).all()


def test_left_is_left_and_up_is_up():
    seen = picture(placed(box((1, 1, 1), (0, 0, 0), (1, 1, 1)), (10, 4, 3), 0.0, 0))
    rows, columns = np.nonzero(seen.instances == 0)
    assert rows.max() < 30
    assert columns.max() < 50


def test_the_camera_turns_with_its_yaw():
    camera = Camera((0, 0, 1), np.pi / 2, 0.0, np.pi / 2, 60, 100)
    seen = picture(placed(box((1, 1, 1), (0, 0, 0), (1, 1, 1)), (0, 10, 1), 0.0, 0), camera=camera)
    rows, columns = np.nonzero(seen.instances == 0)
    assert abs(columns.mean() - 49.5) < 0.6
    assert abs(rows.mean() - 29.5) < 0.6


def test_depth_is_metres_along_the_ray():
    seen = picture(GROUND)
    row, column = 50, 70
    down, right = (row + 0.5 - 30) / 50, (column + 0.5 - 50) / 50
    # The ray (1, right, down) meets the ground when down * t = 1.
    assert seen.depth[row, column] == pytest.approx(np.sqrt(1 + right**2 + down**2) / down, rel=1e-5)
    assert seen.depth[0, 0] == FAR


def test_the_same_picture_twice_bit_for_bit():
    light = Light((1, 1, 1), (0.3, 0.4, 0.6), (0.3, 0.3, 0.3), (0, 0, 1), (1, 1, 1), 80)
    mesh = joined([GROUND._replace(texture=np.full(2, GRAIN, np.uint8)), sphere((2, 2, 2), (9, 1, 1), (0, 1, 0))])
    first, second = (render(Tracer(mesh), CAMERA, light) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_what_the_sun_does_not_reach_is_in_shadow():
    light = Light((1, 1, 1), (0, 0, 1), (0.2, 0.2, 0.2), (0, 0, 0), (0, 0, 0), 1e9)
    roof = box((2, 2, 0.1), (8, 0, 4), (1, 1, 1))
    seen = picture(GROUND, roof, light=light).colours[..., 0].astype(int)

    def row(distance: float) -> int:
        return int(30 + 50 / distance)

    assert seen[row(8.0), 50] < seen[row(4.0), 50] - 40
    assert seen[row(8.0), 50] == pytest.approx(255 * (0.3 * 0.2) ** (1 / 2.2), abs=2)


def test_what_glows_keeps_its_colour_in_the_dark():
    dark = Light((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0), 1e9)
    lamp = box((1, 1, 1), (6, 0, 1), (1.0, 0.0, 0.0), 1.0)
    np.testing.assert_array_equal(picture(GROUND, lamp, light=dark).colours[30, 50], [255, 0, 0])
    assert picture(GROUND, light=dark).colours.max() == 0


def test_fog_takes_distant_things_to_the_horizons_colour():
    light = Light((0, 0, 0), (0, 0, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1), 10)
    near, far = (picture(box((1, 9, 9), (away, 0, 1), (0, 0, 0)), light=light).colours[30, 50, 0] for away in (3, 60))
    assert near < 150
    assert far > 250


def test_more_rays_smooth_edges_and_leave_the_rest_alone():
    slanted = cylinder((10, -3, 0), (10, 3, 3), 0.3, (1, 1, 1))
    rough, smooth = (picture(GROUND, slanted, rays=rays).colours[..., 0].astype(int) for rays in (1, 9))
    assert len(np.unique(smooth)) > len(np.unique(rough))
    same = rough == smooth
    assert same[:5].all()
    assert 0.5 < same.mean() < 1


def test_a_mesh_keeps_its_parts_apart():
    strip = ribbon(np.array([[0, 1, 0], [5, 1, 0]]), np.array([[0, -1, 0], [5, -1, 0]]), (1, 1, 1))
    both = joined([placed(strip, (0, 0, 0), instance=3), placed(strip, (0, 0, 1), instance=4)])
    assert both.instance.tolist() == [3, 3, 4, 4]
    np.testing.assert_array_equal(both.vertices[both.faces[2:]][..., 2], 1)


def test_a_turn_is_counterclockwise():
    moved = placed(box((1, 1, 1), (2, 0, 0), (1, 1, 1)), (10, 0, 0), np.pi / 2)
    np.testing.assert_allclose(moved.vertices.mean(0), [10, 2, 0], atol=1e-5)


def test_without_embreex_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "embreex"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ImportError, match=r"\[scenes\]"):
        Tracer(GROUND)
