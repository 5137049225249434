"""Meshes of the objects and of a room, with normals that run smoothly over round surfaces.

An object's solid (`objects.Object`: a profile turned about its axis, and lugs) is what collides; what is drawn keeps to
it within 2 cm, with rounder curves, handles that are bent bars, a spout, and a bird's body on the bird's stand.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mentorgym.envs.rendering import meshes
from mentorgym.envs.rendering.meshes import Colour, Mesh, box, cylinder, painted, polygon, sphere
from mentorgym.envs.spatial.objects import OBJECTS, Object
from mentorgym.envs.spatial.rooms import TEXTURES, Piece, Room

_CREASE = np.cos(0.7)
"""Faces that meet at a larger angle, in rad, meet at an edge."""

_WALL = 0.006
"""Metres, the thickness of an open vessel."""


class Model(NamedTuple):
    """A mesh of F triangles, and the normals that shading sees."""

    mesh: Mesh
    normals: np.ndarray  # float32 [F, 3, 3] at each face's corners, of length 1


def smooth(mesh: Mesh) -> Model:
    """The mesh with each corner's normal the mean of the faces' that meet there without an edge, weighted by area."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    units = areas / np.maximum(np.linalg.norm(areas, axis=1, keepdims=True), 1e-20)
    # All pairs of faces that share a vertex: those of one vertex lie together in `order`.
    order = np.argsort(mesh.faces.ravel(), kind="stable")
    counts = np.bincount(mesh.faces.ravel(), minlength=len(mesh.vertices))
    meeting = counts[mesh.faces.ravel()[order]]
    starts = (np.cumsum(counts) - counts)[mesh.faces.ravel()[order]]
    one = np.repeat(order, meeting)
    within = np.arange(len(one)) - np.repeat(np.cumsum(meeting) - meeting, meeting)
    other = order[np.repeat(starts, meeting) + within]
    level = (units[one // 3] * units[other // 3]).sum(1) > _CREASE
    normals = np.zeros((mesh.faces.size, 3))
    np.add.at(normals, one[level], areas[other[level] // 3])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    return Model(mesh, normals.reshape(-1, 3, 3).astype(np.float32))


def joined(models: Sequence[Model]) -> Model:
    """All in one; at least one is needed."""
    return Model(meshes.joined([model.mesh for model in models]), np.concatenate([model.normals for model in models]))


def placed(
    model: Model, position: Sequence[float] | np.ndarray, yaw: float = 0.0, instance: int | None = None
) -> Model:
    """The model turned by `yaw` about z, then moved to `position`; its faces belong to `instance` if one is given."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    return Model(meshes.placed(model.mesh, position, yaw, instance), model.normals @ turn)


def turned(outline: Sequence[tuple[float, float]], colours: Sequence[Colour], sections: int = 32) -> Mesh:
    """A solid of revolution about z: `outline`, points (radius, height), has a colour for each of its lines."""
    radius, height = np.array(outline, np.float64).T
    angles = np.arange(sections) * (2 * np.pi / sections)
    grid = np.stack(np.broadcast_arrays(np.cos(angles)[:, None] * radius, np.sin(angles)[:, None] * radius, height), -1)
    count, lines = len(radius), np.arange(len(radius) - 1)
    here = np.arange(sections)[:, None] * count + lines
    there = np.roll(here, -1, axis=0)
    faces = np.stack([np.stack([here, there, there + 1], -1), np.stack([here, there + 1, here + 1], -1)], 2)
    mesh = painted(grid.reshape(-1, 3), faces.reshape(-1, 3), (0.0, 0.0, 0.0))
    mesh.colours[:] = np.tile(np.repeat(np.array(colours, np.float32), 2, axis=0), (sections, 1))
    # On the axis all points of a ring are one, and one of the two triangles of a line has no area.
    vertices, faces_of = np.unique(np.round(mesh.vertices, 7), axis=0, return_inverse=True)
    kept = faces_of.reshape(-1)[mesh.faces]
    solid = (kept[:, 0] != kept[:, 1]) & (kept[:, 1] != kept[:, 2]) & (kept[:, 2] != kept[:, 0])
    fields = {name: getattr(mesh, name)[solid] for name in ("colours", "glow", "texture", "instance")}
    return Mesh(vertices.astype(np.float32), kept[solid].astype(np.int32), **fields)


def tube(path: np.ndarray, radius: float, colour: Colour, sections: int = 10) -> Mesh:
    """A bar of circular section along `path` [n, 3], which lies in a plane with y constant; its ends are open."""
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    across = np.array([0.0, 1.0, 0.0])
    angles = np.arange(sections) * (2 * np.pi / sections)
    ring = np.cos(angles)[:, None, None] * across + np.sin(angles)[:, None, None] * np.cross(ahead, across)
    vertices = (path + radius * ring).reshape(-1, 3)
    here = np.arange(sections)[:, None] * len(path) + np.arange(len(path) - 1)
    there = np.roll(here, -1, axis=0)
    faces = np.stack([np.stack([here, there, there + 1], -1), np.stack([here, there + 1, here + 1], -1)], 2)
    return painted(vertices, faces.reshape(-1, 3), colour)


def _curve(profile: Sequence[tuple[float, float]], heights: np.ndarray) -> np.ndarray:
    """Radii at `heights` on a curve through the profile that overshoots nowhere.

    Cubic Hermite pieces whose slopes are harmonic means of the neighbouring lines' (Fritsch and Butland, 1984).
    """
    z, radius = np.array(profile, np.float64).T
    lines = np.diff(radius) / np.diff(z)
    product = lines[1:] * lines[:-1]
    total = lines[1:] + lines[:-1]
    inner = np.where(product > 0, 2 * product / np.where(product > 0, total, 1), 0)
    slopes = np.concatenate([lines[:1], inner, lines[-1:]])
    piece = np.clip(np.searchsorted(z, heights, "right") - 1, 0, len(lines) - 1)
    step = np.diff(z)[piece]
    t = (heights - z[piece]) / step
    return (
        radius[piece] * (1 + 2 * t) * (1 - t) ** 2
        + radius[piece + 1] * t**2 * (3 - 2 * t)
        + step * t * (1 - t) * (slopes[piece] * (1 - t) - slopes[piece + 1] * t)
    )


def body(item: Object) -> Mesh:
    """An object's solid of revolution, hollow if it is open."""
    z = np.array([height for height, _ in item.profile])
    edges = np.array([edge for low, high, _ in item.bands for edge in (low, high)])
    fine = np.unique(np.concatenate([np.linspace(a, b, 6) for a, b in zip(z, z[1:], strict=False)] + [edges]).round(6))
    # What lies on the line between its neighbours is not needed.
    radii = _curve(item.profile, fine)
    bent = np.ones(len(fine), bool)
    bent[1:-1] = np.abs(np.diff(np.diff(radii) / np.diff(fine))) > 0.05
    heights = fine[bent | np.isin(fine, edges) | np.isin(fine, z)]
    outer = list(zip(_curve(item.profile, heights).tolist(), heights.tolist(), strict=True))
    colours = [item.colour]
    for low, high in zip(heights, heights[1:], strict=False):
        middle = (low + high) / 2
        covers = [colour for start, end, colour in item.bands if start <= middle <= end]
        colours.append(covers[-1] if covers else item.colour)
    outline = [(0.0, 0.0), *outer]
    if item.open:
        inside = [(radius - _WALL, height) for radius, height in reversed(outer) if height > _WALL]
        floor = (float(_curve(item.profile, np.array([_WALL]))[0]) - _WALL, _WALL)
        outline += [*inside, floor, (0.0, _WALL)]
    else:
        outline += [(0.0, heights[-1])]
    colours += [colours[-1]] * (len(outline) - 1 - len(colours))
    return turned(outline, colours)


def _bar(x0: float, x1: float, z0: float, z1: float) -> np.ndarray:
    """A handle's path [n, 3]: out from x0, round the corners at x1, and back, between two heights."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 15)
    # Of a superellipse, which is between an ellipse and a rectangle.
    out, up = np.cos(angles) ** 0.6, np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** 0.7
    return np.stack([x0 + (x1 - x0) * out, 0 * out, (z0 + z1) / 2 + (z1 - z0) / 2 * up], 1)


def _jug(item: Object) -> list[Mesh]:
    """A jug's lip is drawn out into the spout."""
    spout, handle = item.lugs
    mesh = body(item)
    x, y, z = mesh.vertices.T
    rise = np.clip((z - spout.z[0] + 0.02) / (spout.z[1] - spout.z[0] + 0.02), 0, 1)
    near = np.exp(-((np.arctan2(y, x) / 0.42) ** 2)) * (np.hypot(x, y) > 0.04)
    mesh.vertices[:, 0] += (spout.x[1] - 0.07) * rise**2 * near
    mesh.vertices[:, 1] *= 1 - 0.25 * rise * near
    return [
        mesh,
        tube(_bar(-0.06, handle.x[0] + 0.009, handle.z[0] + 0.006, handle.z[1] - 0.009), 0.009, handle.colour),
    ]


def _pot(item: Object) -> list[Mesh]:
    """A long handle, round at its end."""
    (handle,) = item.lugs
    z = sum(handle.z) / 2
    bar = cylinder(
        (handle.x[0] - 0.004, 0, z - 0.003), (handle.x[1] - 0.012, 0, z + 0.004), 0.0115, handle.colour, 0.0, 16
    )
    return [
        body(item),
        bar,
        sphere((0.026, 0.026, 0.026), (handle.x[1] - 0.013, 0, z + 0.004), handle.colour, detail=2),
    ]


def _blender(item: Object) -> list[Mesh]:
    """A bent handle, and a dial on the base."""
    (handle,) = item.lugs
    grip = tube(_bar(-0.068, handle.x[0] + 0.011, handle.z[0] + 0.01, handle.z[1] - 0.01), 0.011, handle.colour)
    return [body(item), grip, cylinder((0.076, 0, 0.055), (0.088, 0, 0.056), 0.022, (0.5, 0.5, 0.5), 0.0, 20)]


def _bird(item: Object) -> list[Mesh]:
    """A bird on a stand: body, tail, wings, head, beak and eyes; it looks along x."""
    beak, tail = item.lugs
    feathers = (0.42, 0.36, 0.28)
    stand = turned(
        [(0, 0), (0.05, 0), (0.05, 0.014), (0.044, 0.02), (0.009, 0.022), (0.009, 0.1), (0, 0.1)],
        [item.bands[0][2]] * 4 + [(0.3, 0.24, 0.12)] * 2,
    )
    point = 0.02 * np.cos(np.arange(8) * np.pi / 4)
    side = 0.02 * np.sin(np.arange(8) * np.pi / 4)
    middle = sum(beak.z) / 2
    ring = np.stack([np.full(8, 0.042), 0.55 * side, middle + 0.55 * point], 1)
    tip = (beak.x[1], 0.0, middle - 0.004)
    cone = [polygon([tip, ring[k], ring[(k + 1) % 8]], beak.colour) for k in range(8)]
    fan = box((0.1, 0.05, 0.014), (-0.09, 0, 0.125), feathers, taper=0.85)
    return [
        stand,
        sphere((0.14, 0.1, 0.095), (-0.004, 0, 0.127), item.colour, detail=3),
        sphere((0.084, 0.022, 0.056), (-0.012, 0.042, 0.133), feathers, detail=2),
        sphere((0.084, 0.022, 0.056), (-0.012, -0.042, 0.133), feathers, detail=2),
        sphere((0.068, 0.062, 0.062), (0.022, 0, 0.199), item.colour, detail=2),
        sphere((0.07, 0.06, 0.07), (0.014, 0, 0.165), item.colour, detail=2),
        fan,
        *cone,
        sphere((0.012, 0.012, 0.012), (0.043, 0.022, 0.207), (0.01, 0.01, 0.01), detail=1),
        sphere((0.012, 0.012, 0.012), (0.043, -0.022, 0.207), (0.01, 0.01, 0.01), detail=1),
    ]


_SHAPED = {"green cup": _jug, "small pot": _pot, "blender": _blender, "bird sculpture": _bird}


@lru_cache
def object_model(index: int) -> Model:
    """The object of this index in `objects.OBJECTS`, its base about the origin. Raises ImportError without trimesh."""
    item = OBJECTS[index]
    parts = _SHAPED[item.name](item) if item.name in _SHAPED else [body(item)]
    return joined([smooth(part) for part in parts])


def _piece(piece: Piece) -> Mesh:
    if piece.shape == "box":
        mesh = box(piece.size, piece.centre, piece.colour)
    else:
        radius, height = piece.size[0] / 2, piece.size[2]
        outline = [(0.0, -height / 2), (radius, -height / 2), (radius, height / 2), (0.0, height / 2)]
        mesh = meshes.placed(turned(outline, [piece.colour] * 3, 48), piece.centre)
    mesh.glow[:], mesh.texture[:] = piece.glow, TEXTURES.index(piece.texture)
    return mesh


def room_model(room: Room, eye: Sequence[float]) -> Model:
    """Furniture, floor, and those walls and that ceiling which are seen from their inside by a camera at `eye`.

    Raises ImportError, naming the extra, without trimesh.
    """
    x, y, z = room.size[0] / 2, room.size[1] / 2, room.size[2]
    sides: list[tuple[bool, list[tuple[float, float, float]], Colour]] = [
        (True, [(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)], room.floor),
        (eye[2] < z, [(-x, y, z), (x, y, z), (x, -y, z), (-x, -y, z)], (0.8, 0.8, 0.78)),
        (eye[1] > -y, [(x, -y, 0), (-x, -y, 0), (-x, -y, z), (x, -y, z)], room.wall),
        (eye[1] < y, [(-x, y, 0), (x, y, 0), (x, y, z), (-x, y, z)], room.wall),
        (eye[0] > -x, [(-x, -y, 0), (-x, y, 0), (-x, y, z), (-x, -y, z)], room.wall),
        (eye[0] < x, [(x, y, 0), (x, -y, 0), (x, -y, z), (x, y, z)], room.wall),
    ]
    shell = [polygon(corners, colour) for inside, corners, colour in sides if inside]
    shell[0].texture[:] = TEXTURES.index(room.floor_texture)
    return joined([smooth(part) for part in (*shell, *(_piece(piece) for piece in room.pieces))])
