"""One picture of a mesh: embree says what each ray meets, NumPy shades it.

There is one sun with hard shadows, light from the sky, the lamps of the camera's car, fog that thickens with distance,
and a sky. The same mesh, camera and light give the same picture, bit for bit.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mentorgym.envs.rendering.meshes import GRAIN, LEAVES, WINDOWS, Mesh
from mentorgym.extras import import_extra

FAR = np.float32(1e4)
"""Metres beyond which a ray counts as having met nothing."""

_OFFSET = np.float32(0.004)
"""Metres by which a ray towards the sun starts above its surface."""

_CONTRAST = 0.05
"""Difference between neighbouring pixels, of 1, from which both are drawn from several rays."""


@dataclass(frozen=True)
class Camera:
    """A pinhole: `position` in m; `yaw`, `pitch` (up positive) and `field`, the horizontal angle of view, in rad."""

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    field: float
    height: int
    width: int

    def axes(self) -> np.ndarray:
        """The unit vectors ahead, right and down of the picture, float32 [3, 3]."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        rise, level = np.sin(self.pitch), np.cos(self.pitch)
        ahead = (cos * level, sin * level, rise)
        return np.array([ahead, (sin, -cos, 0.0), (cos * rise, sin * rise, -level)], np.float32)

    def directions(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Unit vectors through points of the picture, float32 [n, 3]; the first pixel's middle is (0.5, 0.5)."""
        focal = self.width / 2 / np.tan(self.field / 2)
        right = (columns - self.width / 2) / focal
        down = (rows - self.height / 2) / focal
        rays = np.stack([np.ones_like(right), right, down], 1).astype(np.float32) @ self.axes()
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)


@dataclass(frozen=True)
class Light:
    """What shines. Colours are linear; `fog` is the distance in m over which two thirds of a colour are lost."""

    sun: tuple[float, float, float]
    """colour times strength; zeros for none"""
    sun_direction: tuple[float, float, float]
    """towards the sun"""
    ambient: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    fog: float = 2000.0
    headlamps: float = 0.0
    """light of the camera's own lamps, 1 for as much as noon gives, at 0 m"""


class Picture(NamedTuple):
    """What a camera sees, [H, W] each."""

    colours: np.ndarray  # uint8 [H, W, 3]
    instances: np.ndarray  # int32 at the pixels' middles, -1 for the surroundings, -2 for the sky
    depth: np.ndarray  # float32 m along the ray, FAR for the sky


class Tracer:
    """A mesh that rays can be sent into. Raises ImportError, naming the extra, without embreex."""

    def __init__(self, mesh: Mesh):
        scene = import_extra("embreex.rtcore_scene", "scenes", "drawing scenes")
        construction = import_extra("embreex.mesh_construction", "scenes", "drawing scenes")
        self.mesh = mesh
        self._scene = scene.EmbreeScene()
        construction.TriangleMesh(self._scene, np.ascontiguousarray(mesh.vertices), np.ascontiguousarray(mesh.faces))

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The face that each ray meets first (int32 [n], -1 for none), how far (float32 [n] m) and its normal [n, 3].

        Origins and directions are float32 [n, 3]; directions have length 1. Normals have length 1 and face the ray.
        """
        hits = self._scene.run(origins, directions, query="INTERSECT", output=True)
        normals = hits["Ng"]
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
        normals[(normals * directions).sum(1) > 0] *= -1
        return hits["primID"], np.minimum(hits["tfar"], FAR), normals

    def blocked(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Whether anything lies in the way, bool [n]."""
        return self._scene.run(origins, directions, query="OCCLUDED") >= 0


def _noise(cells: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) that depend on whole numbers [n, 3] alone, float32 [n]."""
    with np.errstate(over="ignore"):
        mixed = (cells.astype(np.int64).astype(np.uint32) * np.array([73856093, 19349663, 83492791], np.uint32)).sum(
            1, dtype=np.uint32
        )
        mixed = (mixed ^ (mixed >> 13)) * np.uint32(1274126177)
    return ((mixed >> 8) & 0xFFFF).astype(np.float32) / 65536


def _textured(colours: np.ndarray, texture: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Colours [n, 3] with the texture of their faces at `points`."""
    for kind, size, strength in ((GRAIN, 0.15, 0.16), (LEAVES, 0.3, 0.5)):
        chosen = np.flatnonzero(texture == kind)
        if len(chosen):
            grain = _noise(np.floor(points[chosen] / size))
            colours[chosen] *= (1 + strength * (grain - 0.5))[:, None]
    walls = np.flatnonzero((texture == WINDOWS) & (np.abs(normals[:, 2]) < 0.5))
    if len(walls):
        point, normal = points[walls], normals[walls]
        along = point[:, 0] * -normal[:, 1] + point[:, 1] * normal[:, 0]
        glass = (np.abs(along / 2.6 % 1 - 0.5) < 0.26) & (np.abs(point[:, 2] / 3.0 % 1 - 0.55) < 0.26)
        colours[walls[glass]] = colours[walls[glass]] * 0.3 + np.array([0.02, 0.03, 0.05], np.float32)
    return colours


def _shaded(
    tracer: Tracer, light: Light, camera: Camera, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear colours [n, 3] along rays, the faces that they meet and how far these are."""
    mesh = tracer.mesh
    origin = np.asarray(camera.position, np.float32)
    faces, far, normals = tracer.first_hits(np.broadcast_to(origin, rays.shape).copy(), rays)
    up = np.clip(rays[:, 2:], 0, 1) ** np.float32(0.6)
    horizon, zenith = (np.asarray(colour, np.float32) for colour in (light.horizon, light.zenith))
    colours = horizon * (1 - up) + zenith * up
    seen = np.flatnonzero(faces >= 0)
    face, normal, ray, distance = faces[seen], normals[seen], rays[seen], far[seen, None]
    points = origin + ray * distance
    own = _textured(mesh.colours[face], mesh.texture[face], points, normal)
    shine = np.asarray(light.ambient, np.float32) * (np.float32(0.7) + np.float32(0.3) * normal[:, 2:])
    to_sun = np.asarray(light.sun_direction, np.float32)
    to_sun = to_sun / np.linalg.norm(to_sun)
    slant = normal @ to_sun
    sunny = np.flatnonzero(slant > 0) if any(light.sun) else np.zeros(0, int)
    if len(sunny):
        starts = points[sunny] + normal[sunny] * _OFFSET
        free = sunny[~tracer.blocked(starts, np.broadcast_to(to_sun, starts.shape).copy())]
        shine[free] += slant[free, None] * np.asarray(light.sun, np.float32)
    if light.headlamps:
        facing = -(normal * ray).sum(1, keepdims=True)
        shine += np.float32(light.headlamps) * (0.3 + 0.7 * facing) / (1 + (distance / 14) ** 2)
    glow = mesh.glow[face][:, None]
    lit = own * np.maximum(shine, 0) * (1 - np.minimum(glow, 1)) + mesh.colours[face] * glow
    clear = np.exp(-distance / np.float32(light.fog) * np.where(glow > 0, np.float32(0.4), np.float32(1)))
    colours[seen] = lit * clear + horizon * (1 - clear)
    return colours, faces, far


def render(tracer: Tracer, camera: Camera, light: Light, rays_per_edge: int = 4) -> Picture:
    """The picture of a mesh.

    Each pixel has one ray; one that differs from a neighbour gets `rays_per_edge` (1, 4 or 9, a square number) in all.
    """
    height, width = camera.height, camera.width
    rows, columns = (grid.ravel() for grid in np.mgrid[0:height, 0:width])
    colours, faces, far = _shaded(tracer, light, camera, camera.directions(rows + 0.5, columns + 0.5))
    colours = _displayed(colours)
    side = round(rays_per_edge**0.5)
    if side > 1:
        picture = colours.reshape(height, width, 3)
        edge = np.zeros((height, width), bool)
        down = np.abs(np.diff(picture, axis=0)).max(2) > _CONTRAST
        right = np.abs(np.diff(picture, axis=1)).max(2) > _CONTRAST
        edge[:-1] |= down
        edge[1:] |= down
        edge[:, :-1] |= right
        edge[:, 1:] |= right
        chosen = np.flatnonzero(edge)
        if len(chosen):
            steps = (np.arange(side) + 0.5) / side
            within_row, within_column = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
            fine = camera.directions(
                (rows[chosen, None] + within_row).ravel(), (columns[chosen, None] + within_column).ravel()
            )
            many = _displayed(_shaded(tracer, light, camera, fine)[0])
            colours[chosen] = many.reshape(len(chosen), -1, 3).mean(1)
    hit = faces >= 0
    instances = np.where(hit, tracer.mesh.instance[np.maximum(faces, 0)], -2).astype(np.int32)
    return Picture(
        (colours * 255 + 0.5).astype(np.uint8).reshape(height, width, 3),
        instances.reshape(height, width),
        far.reshape(height, width).astype(np.float32),
    )


def _displayed(colours: np.ndarray) -> np.ndarray:
    """Linear colours as a screen shows them, 0 to 1."""
    return np.clip(colours, 0, 1) ** np.float32(1 / 2.2)
