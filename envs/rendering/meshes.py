"""Triangle meshes with flat colours, made of boxes, cylinders, spheres and flat polygons.

Lengths are in metres, x points ahead, y left, z up; angles are in radians, counterclockwise seen from above.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mentorgym.extras import import_extra

Colour = tuple[float, float, float]
"""Linear red, green and blue, 0 to 1."""

PLAIN, GRAIN, WINDOWS, LEAVES = range(4)
"""Textures of faces: none, the grain of asphalt, rows of windows on walls, and mottled green."""


class Mesh(NamedTuple):
    """V vertices and F triangles."""

    vertices: np.ndarray  # float32 [V, 3] m
    faces: np.ndarray  # int32 [F, 3] into vertices
    colours: np.ndarray  # float32 [F, 3] linear
    glow: np.ndarray  # float32 [F] how brightly the colour shines by itself, 0 where it does not
    texture: np.ndarray  # uint8 [F]
    instance: np.ndarray  # int32 [F] the thing that the face belongs to, -1 for the surroundings


def painted(vertices: np.ndarray, faces: np.ndarray, colour: Colour, glow: float = 0.0, texture: int = PLAIN) -> Mesh:
    """A mesh of one colour from vertices [V, 3] and faces [F, 3]."""
    count = len(faces)
    return Mesh(
        np.asarray(vertices, np.float32),
        np.asarray(faces, np.int32),
        np.tile(np.asarray(colour, np.float32), (count, 1)),
        np.full(count, glow, np.float32),
        np.full(count, texture, np.uint8),
        np.full(count, -1, np.int32),
    )


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """All in one; at least one is needed."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = np.concatenate([mesh.faces + np.int32(start) for mesh, start in zip(meshes, starts, strict=True)])
    fields = {
        name: np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in Mesh._fields if name != "faces"
    }
    return Mesh(faces=faces, **fields)


def placed(mesh: Mesh, position: Sequence[float] | np.ndarray, yaw: float = 0.0, instance: int | None = None) -> Mesh:
    """The mesh turned by `yaw` about z, then moved to `position`; its faces belong to `instance` where one is given."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    moved = mesh._replace(vertices=mesh.vertices @ turn + np.asarray(position, np.float32))
    return moved if instance is None else moved._replace(instance=np.full(len(mesh.faces), instance, np.int32))


@lru_cache
def _unit(shape: str, detail: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a shape of width 1 about the origin; a cylinder stands along z."""
    creation = import_extra("trimesh.creation", "scenes", "drawing scenes")
    if shape == "box":
        made = creation.box()
    elif shape == "cylinder":
        made = creation.cylinder(radius=0.5, height=1.0, sections=detail)
    else:
        made = creation.icosphere(subdivisions=detail, radius=0.5)
    return np.asarray(made.vertices, np.float32), np.asarray(made.faces, np.int32)


def box(
    size: Sequence[float],
    centre: Sequence[float],
    colour: Colour,
    glow: float = 0.0,
    texture: int = PLAIN,
    taper: float = 1.0,
    yaw: float = 0.0,
) -> Mesh:
    """A box of `size` (x, y, z) about `centre`; its top is `taper` times as long and wide as its base."""
    corners, faces = _unit("box", 0)
    corners = corners.copy()
    corners[corners[:, 2] > 0, :2] *= np.float32(taper)
    mesh = painted(corners * np.asarray(size, np.float32), faces, colour, glow, texture)
    return placed(mesh, centre, yaw)


def cylinder(
    start: Sequence[float], end: Sequence[float], radius: float, colour: Colour, glow: float = 0.0, sections: int = 8
) -> Mesh:
    """A round bar from `start` to `end`."""
    corners, faces = _unit("cylinder", sections)
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = b - a
    length = float(np.linalg.norm(axis))
    axis /= length
    side = np.cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    frame = np.stack([side * 2 * radius, np.cross(axis, side) * 2 * radius, axis * length])
    return painted(corners @ frame + (a + b) / 2, faces, colour, glow)


def sphere(
    size: Sequence[float], centre: Sequence[float], colour: Colour, texture: int = PLAIN, detail: int = 1
) -> Mesh:
    """A ball of `size` (x, y, z) about `centre`."""
    corners, faces = _unit("sphere", detail)
    return painted(corners * np.asarray(size, np.float32) + np.asarray(centre, np.float32), faces, colour, 0.0, texture)


def polygon(
    corners: Sequence[Sequence[float]] | np.ndarray, colour: Colour, glow: float = 0.0, texture: int = PLAIN
) -> Mesh:
    """A flat polygon [n, 3] as a fan about its first corner, which must see all the others."""
    count = len(corners)
    faces = [(0, k, k + 1) for k in range(1, count - 1)]
    return painted(np.asarray(corners), np.asarray(faces), colour, glow, texture)


def ribbon(left: np.ndarray, right: np.ndarray, colour: Colour, texture: int = PLAIN, glow: float = 0.0) -> Mesh:
    """The strip between two lines of as many points, [n, 3] each."""
    count = len(left)
    k = np.arange(count - 1)
    faces = np.concatenate([np.stack([k, k + count, k + 1], 1), np.stack([k + 1, k + count, k + count + 1], 1)])
    return painted(np.concatenate([left, right]), faces, colour, glow, texture)
