"""What is true of a picture, as plain lists, numbers and strings that JSON can hold."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from mentorgym.envs.rendering.render import Camera, Picture
from mentorgym.envs.spatial import models, picture
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.relations import all_relations
from mentorgym.envs.spatial.rooms import ROOMS


def describe(arrangement: Arrangement, drawn: Picture) -> dict[str, Any]:
    """The ground truth of a sample; lengths in m, angles in rad, pixels counted from the top left corner.

    - `room`, and its `surfaces`: name, centre of the upper side, size, and whether it is a disc;
    - `camera`: position, yaw, pitch, the horizontal angle of view `field`, width, height, the matrix of `intrinsics`
      [3, 3], and the unit vectors ahead, right and down of the picture as rows of `axes` [3, 3];
    - `objects`, in the order of the arrangement: `id` (place), `index` in `objects.OBJECTS`, `name`, `colour` (linear),
      `position` of the base's middle, `yaw`, `centre`; `box_3d`, 8 corners that turn with the object, the lower four
      first; `box_2d` [x, y, width, height] of its visible pixels, None without any; `mask`, these pixels as COCO's
      compressed run lengths; `pixels`; `visible`, their share of the pixels within the picture that it would have if
      it were alone, 0 where that is none; `depth` of its centre along the camera's axis; `centre_2d`, where the centre
      is in the picture, None if it is not before the camera;
    - `relations` of all ordered pairs: subject and referent (places), terms, elevation, azimuth, and the margin to the
      nearest boundary of angles.

    `drawn` is `picture.draw(arrangement)`, in any size.
    """
    camera = replace(arrangement.camera, height=drawn.instances.shape[0], width=drawn.instances.shape[1])
    focal = camera.width / 2 / np.tan(camera.field / 2)
    middle = (camera.width / 2, camera.height / 2)
    told: dict[str, Any] = {
        "room": arrangement.room,
        "surfaces": [
            {"name": top.name, "centre": list(top.centre), "size": list(top.size), "round": top.round}
            for top in ROOMS[arrangement.room].surfaces
        ],
        "camera": {
            "position": list(camera.position),
            "yaw": camera.yaw,
            "pitch": camera.pitch,
            "field": camera.field,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [[float(focal), 0.0, middle[0]], [0.0, float(focal), middle[1]], [0.0, 0.0, 1.0]],
            "axes": camera.axes().tolist(),
        },
        "objects": [],
        "relations": [
            {"subject": subject, "referent": referent, **relation._asdict(), "terms": list(relation.terms)}
            for (subject, referent), relation in all_relations(arrangement).items()
        ],
    }
    for place, (index, name, centre) in enumerate(
        zip(arrangement.objects, arrangement.names, arrangement.centres, strict=True)
    ):
        mask = drawn.instances == place
        pixels, alone = int(mask.sum()), _pixels_alone(arrangement, place, camera)
        ahead, right, down = camera.axes().astype(np.float64) @ (centre - np.array(camera.position))
        told["objects"].append(
            {
                "id": place,
                "index": index,
                "name": name,
                "colour": list(OBJECTS[index].colour),
                "position": np.asarray(arrangement.positions[place], np.float64).tolist(),
                "yaw": float(arrangement.yaws[place]),
                "centre": centre.tolist(),
                "box_3d": _corners(arrangement, place).tolist(),
                "box_2d": box_of(mask),
                "mask": run_lengths(mask),
                "pixels": pixels,
                "visible": pixels / alone if alone else 0.0,
                "depth": float(ahead),
                "centre_2d": [float(middle[0] + focal * right / ahead), float(middle[1] + focal * down / ahead)]
                if ahead > 0
                else None,
            }
        )
    return told


def _pixels_alone(arrangement: Arrangement, place: int, camera: Camera) -> int:
    """The pixels of an object with nothing else in the world."""
    model = models.object_model(arrangement.objects[place])
    return picture.coverage(models.placed(model, arrangement.positions[place], float(arrangement.yaws[place])), camera)


@lru_cache
def _bounds(index: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest coordinates [3] of an object's mesh at the origin."""
    vertices = models.object_model(index).mesh.vertices.astype(np.float64)
    return vertices.min(0), vertices.max(0)


def _corners(arrangement: Arrangement, place: int) -> np.ndarray:
    """The corners [8, 3] of the box about an object."""
    low, high = _bounds(arrangement.objects[place])
    corners = np.array([(x, y, z) for z in (low[2], high[2]) for x in (low[0], high[0]) for y in (low[1], high[1])])
    cos, sin = np.cos(arrangement.yaws[place]), np.sin(arrangement.yaws[place])
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return corners @ turn + np.asarray(arrangement.positions[place], np.float64)


def box_of(mask: np.ndarray) -> list[int] | None:
    """The box [x, y, width, height] about a mask bool [H, W]; None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask bool [H, W] as COCO's compressed run lengths, `size` and `counts`, as its API's `encode` gives them.

    Runs of zeros and ones in turn, down the columns. From the fourth on each is told by its difference from the last
    but one. A number is in digits of five bits, the lowest first, with a sixth bit where another follows, plus 48.
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    ends = np.append(np.flatnonzero(np.diff(flat)) + 1, flat.size)
    runs = np.diff(ends, prepend=0).tolist()
    if flat.size and flat[0]:
        runs = [0, *runs]
    letters = []
    for place, run in enumerate(runs):
        number = run - runs[place - 2] if place > 2 else run
        while True:
            digit, number = number & 31, number >> 5
            more = number != (-1 if digit & 16 else 0)
            letters.append(chr(48 + digit + 32 * more))
            if not more:
                break
    return {"size": list(mask.shape), "counts": "".join(letters)}
