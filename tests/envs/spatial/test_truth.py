"""Ground truth against the picture, COCO's own tools, and pinhole geometry."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.envs.rendering.render import Picture
from mentorgym.envs.spatial import picture, truth
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES, OBJECTS
from mentorgym.envs.spatial.relations import relation_of
from mentorgym.envs.spatial.rooms import ROOMS

SIZE = 96
TABLE = np.array([0.1, 0.5, 0.75])


def arranged(*things: tuple[str, float, float], yaw: float = 0.7) -> Arrangement:
    """Objects on the dining corner's table; the first camera looks along y."""
    return Arrangement(
        "dining corner",
        ROOMS["dining corner"].cameras["close"][0],
        tuple(NAMES.index(name) for name, _, _ in things),
        np.array([TABLE + (x, y, 0) for _, x, y in things]),
        np.full(len(things), yaw),
    )


THREE = arranged(("green cup", -0.2, 0.0), ("vase", 0.2, 0.15), ("small pot", 0.05, -0.25))


@pytest.fixture(scope="module")
def drawn() -> Picture:
    return picture.draw(THREE, SIZE)


@pytest.fixture(scope="module")
def told(drawn: Picture) -> dict:
    return truth.describe(THREE, drawn)


def test_json_holds_it(told: dict):
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_masks_are_the_pixels_and_boxes_hold_them(told: dict, drawn: Picture):
    mask = pytest.importorskip("pycocotools.mask")
    for place, thing in enumerate(told["objects"]):
        own = drawn.instances == place
        counts = thing["mask"]["counts"].encode()
        np.testing.assert_array_equal(mask.decode({"size": thing["mask"]["size"], "counts": counts}), own)
        assert thing["box_2d"] == mask.toBbox({"size": [SIZE, SIZE], "counts": counts}).astype(int).tolist()
        assert thing["pixels"] == own.sum() > 20


@given(st.integers(0, 9), st.integers(0, 9), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_run_lengths_are_those_of_coco(height: int, width: int, share: float, seed: int):
    mask = pytest.importorskip("pycocotools.mask")
    own = np.random.default_rng(seed).random((height * 7 + 1, width * 7 + 1)) < share
    theirs = mask.encode(np.asfortranarray(own.astype(np.uint8)))
    ours = truth.run_lengths(own)
    assert ours["counts"] == theirs["counts"].decode()
    assert ours["size"] == theirs["size"]


def test_what_stands_free_is_seen_whole(told: dict):
    assert [thing["visible"] for thing in told["objects"]] == [1.0, 1.0, 1.0]


def test_what_is_hidden_is_not_seen():
    camera = replace(THREE.camera, position=(0.1, -1.0, 0.9), yaw=np.pi / 2, pitch=0.0)
    partly = replace(arranged(("plate", 0.0, 0.25), ("blender", 0.0, -0.2)), camera=camera)
    plate, blender = truth.describe(partly, picture.draw(partly, SIZE))["objects"]
    # Its rim looks out at both sides.
    assert 0 < plate["visible"] < 0.7
    assert blender["visible"] == 1
    bottle = replace(arranged(("bottle", 0.0, 0.25), ("blender", 0.0, -0.2)), camera=camera)
    thing = truth.describe(bottle, picture.draw(bottle, SIZE))["objects"][0]
    assert (thing["visible"], thing["pixels"], thing["box_2d"]) == (0.0, 0, None)


def test_what_is_out_of_the_picture_is_not_seen():
    behind = arranged(("vase", 0.0, -30.0), ("plate", 0.0, 0.0))
    vase, plate = truth.describe(behind, picture.draw(behind, SIZE))["objects"]
    assert (vase["visible"], vase["box_2d"], vase["centre_2d"]) == (0.0, None, None)
    assert vase["depth"] < 0 < plate["depth"]


def test_the_camera_takes_boxes_of_space_round_boxes_of_the_picture(told: dict):
    camera = told["camera"]
    matrix, axes = np.array(camera["intrinsics"]), np.array(camera["axes"])
    turn = axes[[1, 2, 0]]  # right, down, ahead
    for thing in told["objects"]:
        points = matrix @ turn @ (np.array(thing["box_3d"]) - camera["position"]).T
        columns, rows = points[:2] / points[2]
        x, y, width, height = thing["box_2d"]
        assert columns.min() - 0.01 < x + 0.5 and x + width - 0.5 < columns.max() + 0.01
        assert rows.min() - 0.01 < y + 0.5 and y + height - 0.5 < rows.max() + 0.01
        u, v, depth = matrix @ turn @ (np.array(thing["centre"]) - camera["position"])
        np.testing.assert_allclose([u / depth, v / depth], thing["centre_2d"], rtol=1e-5)
        assert depth == pytest.approx(thing["depth"])


def test_boxes_of_space_turn_with_the_object():
    boxes = [
        np.array(truth._corners(arranged(("small pot", 0.0, 0.0), yaw=yaw), 0)) - TABLE for yaw in (0.0, np.pi / 2)
    ]
    np.testing.assert_allclose(boxes[1][:, 1], boxes[0][:, 0], atol=1e-9)
    np.testing.assert_allclose(boxes[1][:, 0], -boxes[0][:, 1], atol=1e-9)
    handle = OBJECTS[NAMES.index("small pot")].lugs[0].x[1]
    assert boxes[0][:, 0].max() == pytest.approx(handle, abs=0.01)
    assert (boxes[0][:4, 2] == 0).all()


def test_relations_are_of_all_ordered_pairs(told: dict):
    assert [(each["subject"], each["referent"]) for each in told["relations"]] == [
        (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)
    ]  # fmt: skip
    for each in told["relations"]:
        relation = relation_of(THREE, each["subject"], each["referent"])
        assert each == {"subject": each["subject"], "referent": each["referent"], **relation._asdict()} | {
            "terms": list(relation.terms)
        }


def test_surfaces_are_the_rooms(told: dict):
    assert [each["name"] for each in told["surfaces"]] == [each.name for each in ROOMS["dining corner"].surfaces]
