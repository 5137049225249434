"""The picture of an arrangement: 224 x 224, one lamp with hard shadows, smooth normals, edges from several rays.

What a room alone looks like from a camera is traced once and kept. A picture then traces only the rays that a moved
object, or its shadow, can touch; the rest is copied. The result is that of tracing all of it, bit for bit.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mentorgym.envs.rendering.render import FAR, Camera, Picture, Tracer
from mentorgym.envs.spatial import models
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.models import Model
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import ROOMS, SIDE, TEXTURES, Room

_OFFSET = np.float32(0.002)
"""Metres by which a ray towards the lamp starts above its surface."""

_CONTRAST = np.float32(0.05)
"""Difference between neighbouring pixels, of 1, from which both are drawn from several rays."""

_OPEN_RAYS, _OPEN_REACH = 32, 0.7
"""Rays that ask how much of a place's surroundings is near, and how far these reach in m."""

_KEPT = 48
"""Backgrounds that are kept; one of 224 x 224 takes about 8 MB."""


@dataclass(frozen=True)
class Lamp:
    """One point that shines. `colour` is linear, times strength, at 2 m; `ambient` comes from all around."""

    position: tuple[float, float, float]
    colour: tuple[float, float, float] = (0.82, 0.78, 0.7)
    ambient: tuple[float, float, float] = (0.4, 0.42, 0.45)


class Smooth(Tracer):
    """A model that rays can be sent into. Raises ImportError, naming the extra, without embreex."""

    def __init__(self, model: Model):
        super().__init__(model.mesh)
        self.normals = model.normals

    def meet(
        self, origin: np.ndarray, rays: np.ndarray, most: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which `rays` [n, 3] from `origin` [3] meet a face within `most` [n] m: their places, int [m], ascending;
        the faces, the distances [m] and the interpolated normals [m, 3], which face the ray's side of the surface."""
        hits = self._scene.run(_contiguous(origin, rays), rays, dists=most, query="INTERSECT", output=True)
        hit = np.flatnonzero(hits["primID"] >= 0)
        face, u, v = hits["primID"][hit], hits["u"][hit, None], hits["v"][hit, None]
        corner = self.normals[face]
        normals = _unit(corner[:, 0] * (1 - u - v) + corner[:, 1] * u + corner[:, 2] * v)
        behind = (_dot(hits["Ng"][hit], rays[hit]) > 0) ^ (_dot(hits["Ng"][hit], normals) < 0)
        normals[behind] *= -1
        return hit, face, hits["tfar"][hit], normals

    def between(self, starts: np.ndarray, directions: np.ndarray, most: np.ndarray) -> np.ndarray:
        """Whether anything lies within `most` [n] m of `starts` [n, 3] in unit `directions` [n, 3], bool [n]."""
        return self._scene.run(starts, directions, dists=most, query="OCCLUDED") >= 0

    def nearness(self, starts: np.ndarray, directions: np.ndarray, most: np.ndarray) -> np.ndarray:
        """1 where something lies at the start, falling to 0 where nothing lies within `most` [n] m, float32 [n]."""
        hits = self._scene.run(starts, directions, dists=most, query="INTERSECT", output=True)
        return 1 - hits["tfar"] / most


class Ball(NamedTuple):
    """Spheres about the moved objects, K of them."""

    centres: np.ndarray  # float32 [K, 3] m
    radii: np.ndarray  # float32 [K] m: all of the object is inside
    weights: np.ndarray  # float32 [K, 4]: the ball that keeps ambient light off, its centre and radius


class Seen(NamedTuple):
    """What n rays meet, and the light there."""

    rays: np.ndarray  # float32 [n, 3] unit
    far: np.ndarray  # float32 [n] m
    points: np.ndarray  # float32 [n, 3] m
    normals: np.ndarray  # float32 [n, 3]
    from_lamp: np.ndarray  # float32 [n, 3] unit, from the lamp to the point
    direct: np.ndarray  # bool [n] whether the lamp reaches it
    ambient: np.ndarray  # float32 [n, 3] linear colour that is there without the lamp
    lamp: np.ndarray  # float32 [n, 3] linear colour that the lamp adds
    instances: np.ndarray  # int32 [n]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of vectors [n, 3], [n]; unlike those of BLAS they do not depend on how many there are."""
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt(_dot(vectors, vectors)), np.float32(1e-20))[:, None]


def _contiguous(point: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(point, like.shape).copy()


def _directions(camera: Camera, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Unit vectors through points of the picture, float32 [n, 3]; the first pixel's middle is (0.5, 0.5)."""
    focal = camera.width / 2 / np.tan(camera.field / 2)
    right = ((columns - camera.width / 2) / focal).astype(np.float32)[:, None]
    down = ((rows - camera.height / 2) / focal).astype(np.float32)[:, None]
    ahead, rightward, downward = camera.axes()
    return _unit(ahead + right * rightward + down * downward)


_SHOWN = (np.linspace(0, 1, 65536) ** (1 / 2.2)).astype(np.float32)


def _shown(colours: np.ndarray) -> np.ndarray:
    """Linear colours as a screen shows them, 0 to 1."""
    return _SHOWN[(np.clip(colours, 0, 1) * np.float32(65535)).astype(np.uint16)]


def _noise(*cells: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) that depend on whole numbers [n] alone, float32 [n]."""
    with np.errstate(over="ignore"):
        mixed = np.zeros(len(cells[0]), np.uint32)
        for cell, prime in zip(cells, (73856093, 19349663, 83492791), strict=False):
            np.bitwise_xor(mixed, np.floor(cell).astype(np.int64).astype(np.uint32) * np.uint32(prime), out=mixed)
        mixed = np.bitwise_xor(mixed, mixed >> np.uint32(13), dtype=np.uint32) * np.uint32(1274126177)
    return ((mixed >> 8) & 0xFFFF).astype(np.float32) / 65536


def _textured(colours: np.ndarray, texture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Colours [n, 3] with the texture of their faces at `points`."""
    for code in np.unique(texture):
        chosen = np.flatnonzero(texture == code)
        x, y, _ = points[chosen].T
        kind = TEXTURES[code]
        if kind == "planks":
            row = np.floor(y / 0.13)
            along = x / 1.1 + _noise(row)
            tone = 0.82 + 0.3 * _noise(row, along) + 0.06 * np.sin(y * 260 + 3 * np.sin(x * 5 + row))
            seam = (y / 0.13 % 1 < 0.035) | (along % 1 < 0.006)
            shade = np.where(seam, np.float32(0.55), tone)
        elif kind == "tiles":
            seam = (x / 0.3 % 1 < 0.03) | (y / 0.3 % 1 < 0.03)
            shade = np.where(seam, np.float32(0.6), 0.92 + 0.16 * _noise(x / 0.3, y / 0.3))
        elif kind == "weave":
            shade = 0.86 + 0.28 * (np.floor(y / 0.1) % 2)
        elif kind == "marble":
            vein = np.abs(np.sin(5 * x + 3 * y + 1.5 * np.sin(6 * y - 2 * x) + 0.7 * np.sin(15 * x + 11 * y)))
            shade = 0.8 + 0.2 * np.minimum(vein * 4, 1)
        elif kind == "grain":
            shade = 0.92 + 0.09 * np.sin(70 * y + 4 * np.sin(2.5 * x + 9 * y)) * np.sin(23 * y + 1.7 * np.sin(3 * x))
        else:
            continue
        colours[chosen] *= shade.astype(np.float32)[:, None]
    return colours


def _look(
    tracer: Smooth, blockers: tuple[Smooth, ...], lamp: Lamp, origin: np.ndarray, rays: np.ndarray, most: np.ndarray
) -> tuple[np.ndarray, Seen]:
    """What of `tracer` the rays meet within `most` m, which of them, and what light there is, with no regard to what
    keeps ambient light off; `blockers` cast shadows."""
    mesh = tracer.mesh
    hit, face, far, normals = tracer.meet(origin, rays, most)
    ray = rays[hit]
    points = origin + ray * far[:, None]
    own = _textured(mesh.colours[face], mesh.texture[face], points)
    instances = mesh.instance[face]
    light = np.asarray(lamp.position, np.float32)
    from_lamp = points - light
    distance = np.sqrt(_dot(from_lamp, from_lamp))
    from_lamp /= distance[:, None]
    slant = np.maximum(-_dot(normals, from_lamp), 0)
    starts = points + normals * _OFFSET
    lit = np.flatnonzero(slant > 0)
    dark = np.zeros(len(lit), bool)
    for blocker in blockers:
        dark |= blocker.between(starts[lit], -from_lamp[lit], distance[lit])
    direct = np.zeros(len(hit), bool)
    direct[lit[~dark]] = True
    # A lamp of some size is weaker far away, but not by the square: light comes back from the walls.
    strength = slant * 3 / (1 + distance)
    # Blinn's highlight, the 64th power by squaring, which is exact however many there are.
    shine = np.maximum(_dot(normals, _unit(-from_lamp - ray)), 0)
    for _ in range(6):
        shine = shine * shine
    shine *= np.float32(0.5) * (instances >= 0) * (slant > 0)
    glow = mesh.glow[face][:, None]
    facing = np.float32(0.78) + np.float32(0.12) * normals[:, 2:] - np.float32(0.22) * _dot(normals, ray)[:, None]
    ambient = own * (np.asarray(lamp.ambient, np.float32) * facing * (1 - np.minimum(glow, 1)) + glow)
    added = (own * strength[:, None] + shine[:, None]) * np.asarray(lamp.colour, np.float32) * (glow == 0)
    return hit, Seen(ray, far, points, normals, from_lamp, direct, ambient, added, instances)


def _openness(tracer: Smooth, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """How much of its surroundings a place sees, [n, 1]: 1 less the share of rays that meet something, the nearer the
    more."""
    side = _unit(np.cross(normals, np.where(np.abs(normals[:, 2:]) < 0.9, (0, 0, 1), (1, 0, 0)).astype(np.float32)))
    other = np.cross(normals, side)
    starts = points + normals * _OFFSET
    most = np.full(len(points), _OPEN_REACH, np.float32)
    met = np.zeros(len(points), np.float32)
    for k in range(_OPEN_RAYS):
        # As many rays as the light from there counts: evenly on the disc below the hemisphere, on a sunflower's spiral.
        radius, angle = np.sqrt((k + 0.5) / _OPEN_RAYS), k * np.pi * (3 - np.sqrt(5))
        across, along, up = (
            np.float32(v) for v in (radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2))
        )
        met += tracer.nearness(starts, across * side + along * other + up * normals, most)
    return np.maximum(1 - np.float32(1.3) * met / _OPEN_RAYS, np.float32(0.2))[:, None]


class Ground(NamedTuple):
    """A room without objects, from one camera."""

    tracer: Smooth
    lamp: Lamp
    camera: Camera
    rays_per_edge: int
    seen: Seen  # at the pixels' middles
    shown: np.ndarray  # float32 [H * W, 3] of these alone
    open: np.ndarray  # float32 [H * W, 1]
    edge: np.ndarray  # int [H * W]: where in `fine` a pixel is, -1 if it is not drawn from several rays
    fine: Seen  # rays_per_edge for each of E pixels
    fine_shown: np.ndarray  # float32 [E * rays_per_edge, 3]
    mean_shown: np.ndarray  # float32 [E, 3]


def _all(tracer: Smooth, lamp: Lamp, origin: np.ndarray, rays: np.ndarray) -> Seen:
    """What all the rays meet in a room; a ray that leaves it meets blackness at FAR."""
    hit, seen = _look(tracer, (tracer,), lamp, origin, rays, np.full(len(rays), FAR, np.float32))
    if len(hit) == len(rays):
        return seen
    count = len(rays)
    whole = {
        name: np.zeros((count, *getattr(seen, name).shape[1:]), getattr(seen, name).dtype) for name in Seen._fields
    }
    whole["far"][:] = FAR
    whole["instances"][:] = -2
    whole["from_lamp"][:, 2] = 1
    for name, values in whole.items():
        values[hit] = getattr(seen, name)
    whole["rays"][:] = rays
    return Seen(**whole)


def _colours(seen: Seen, opened: np.ndarray, direct: np.ndarray) -> np.ndarray:
    """Colours [n, 3] as a screen shows them."""
    return _shown(seen.ambient * opened + seen.lamp * direct[:, None])


def _edges(shown: np.ndarray, camera: Camera) -> np.ndarray:
    """The pixels that differ from a neighbour, ascending."""
    picture = shown.reshape(camera.height, camera.width, 3)
    edge = np.zeros((camera.height, camera.width), bool)
    for channel in np.moveaxis(picture, 2, 0).copy():
        down = np.abs(channel[1:] - channel[:-1]) > _CONTRAST
        right = np.abs(channel[:, 1:] - channel[:, :-1]) > _CONTRAST
        edge[:-1] |= down
        edge[1:] |= down
        edge[:, :-1] |= right
        edge[:, 1:] |= right
    return np.flatnonzero(edge)


def _within(camera: Camera, pixels: np.ndarray, side: int) -> np.ndarray:
    """The directions of side x side rays in each of `pixels` [E], float32 [E * side * side, 3]."""
    rows, columns = pixels // camera.width, pixels % camera.width
    steps = (np.arange(side) + 0.5) / side
    down, right = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    return _directions(camera, (rows[:, None] + down).ravel(), (columns[:, None] + right).ravel())


def lamp(room: Room) -> Lamp:
    """The lamp of a room: below the ceiling, off the middle, so that shadows fall to one side."""
    return Lamp((-0.22 * room.size[0], -0.2 * room.size[1], room.size[2] - 0.25))


def ground(model: Model, light: Lamp, camera: Camera, rays_per_edge: int) -> Ground:
    """What `camera` sees of a room without objects."""
    tracer = Smooth(model)
    origin = np.asarray(camera.position, np.float32)
    side = round(rays_per_edge**0.5)
    every = np.arange(camera.height * camera.width)
    seen = _all(tracer, light, origin, _within(camera, every, 1))
    opened = _openness(tracer, seen.points, seen.normals)
    shown = _colours(seen, opened, seen.direct)
    edges = _edges(shown, camera) if side > 1 else every[:0]
    edge = np.full(len(every), -1)
    edge[edges] = np.arange(len(edges))
    fine = _all(tracer, light, origin, _within(camera, edges, side))
    fine_shown = _colours(fine, np.repeat(opened[edges], side * side, axis=0), fine.direct)
    mean_shown = fine_shown.reshape(len(edges), side * side, 3).mean(1)
    return Ground(tracer, light, camera, side * side, seen, shown, opened, edge, fine, fine_shown, mean_shown)


@lru_cache(maxsize=_KEPT)
def _background(room: str, camera: Camera, rays_per_edge: int) -> Ground:
    return ground(models.room_model(ROOMS[room], camera.position), lamp(ROOMS[room]), camera, rays_per_edge)


@lru_cache
def _ball(index: int) -> tuple[np.ndarray, float]:
    """Centre [3] and radius of a sphere that holds an object at the origin."""
    vertices = models.object_model(index).mesh.vertices
    centre = (vertices.min(0) + vertices.max(0)) / 2
    return centre, float(np.linalg.norm(vertices - centre, axis=1).max())


def balls(arrangement: Arrangement) -> Ball:
    """The spheres about an arrangement's objects."""
    centres, radii, weights = [], [], []
    for index, position, yaw in zip(arrangement.objects, arrangement.positions, arrangement.yaws, strict=True):
        (x, y, z), radius = _ball(index)
        cos, sin = np.cos(yaw), np.sin(yaw)
        centres.append(position + np.array([cos * x - sin * y, sin * x + cos * y, z]))
        radii.append(radius)
        item = OBJECTS[index]
        weights.append((*position[:2], position[2] + min(item.height / 2, item.radius), item.radius))
    return Ball(*(np.asarray(values, np.float32) for values in (centres, radii, weights)))


def objects_model(arrangement: Arrangement) -> Model:
    """The objects where they are; their instances are their places in the arrangement."""
    return models.joined(
        [
            models.placed(models.object_model(index), position, float(yaw), place)
            for place, (index, position, yaw) in enumerate(
                zip(arrangement.objects, arrangement.positions, arrangement.yaws, strict=True)
            )
        ]
    )


def _meets(offsets: np.ndarray, radii: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Whether rays [n, 3] from one point pass through any of the spheres at `offsets` [K, 3] from it; a few more do."""
    met = np.zeros(len(directions), bool)
    for offset, radius in zip(offsets, radii, strict=True):
        reach = radius * np.float32(1.02) + np.float32(0.01)
        along = directions @ offset
        met |= (along * along > offset @ offset - reach * reach) & (along > -reach)
    return met


def _kept_off(ball: Ball, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The share of ambient light that objects leave to `points` [n, 3] of the room, [n, 1]: 1 beyond three radii."""
    left = np.ones(len(points), np.float32)
    for x, y, z, radius in ball.weights:
        towards = np.array([x, y, z], np.float32) - points
        square = np.maximum(_dot(towards, towards), np.float32(1e-8))
        # A sphere covers cos * (radius / distance)^2 of what a surface sees.
        cover = np.clip((radius * radius / square - np.float32(1 / 9)) * np.float32(9 / 8), 0, 1)
        left *= 1 - np.float32(0.6) * cover * np.maximum(_dot(towards, normals) / np.sqrt(square), 0)
    return left[:, None]


def _added(
    scene: Ground, moving: Smooth, ball: Ball, seen: Seen, opened: np.ndarray, shown: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`shown` [n, 3], `seen` of the room alone, with the objects: colours, instances, distances, and what changed."""
    colours, instances, far = shown.copy(), seen.instances.copy(), seen.far.copy()
    changed = np.zeros(len(shown), bool)
    origin, light = (np.asarray(point, np.float32) for point in (scene.camera.position, scene.lamp.position))
    asked = np.flatnonzero(_meets(ball.centres - origin, ball.radii, seen.rays))
    hit, new = _look(moving, (scene.tracer, moving), scene.lamp, origin, seen.rays[asked], seen.far[asked])
    covered = asked[hit]
    colours[covered] = _colours(new, np.ones((1, 1), np.float32), new.direct)
    instances[covered], far[covered] = new.instances, new.far
    changed[covered] = True
    room = ~changed & (seen.instances == -1)
    asked = np.flatnonzero(room & seen.direct & _meets(ball.centres - light, ball.radii, seen.from_lamp))
    away = seen.points[asked] - light
    starts = seen.points[asked] + seen.normals[asked] * _OFFSET
    dark = asked[moving.between(starts, -seen.from_lamp[asked], np.sqrt(_dot(away, away)))]
    changed[dark] = True
    for *centre, radius in ball.weights:
        middle = np.array(centre, np.float32)
        asked = np.flatnonzero(_meets((middle - origin)[None], np.array([3 * radius], np.float32), seen.rays))
        away = seen.points[asked] - middle
        changed[asked[room[asked] & (_dot(away, away) < np.float32(9.1) * radius * radius)]] = True
    changed[covered] = False
    mended = np.flatnonzero(changed)
    direct = seen.direct.copy()
    direct[dark] = False
    part = Seen(*(values[mended] for values in seen))
    left = opened[mended] * _kept_off(ball, part.points, part.normals)
    colours[mended] = _colours(part, left, direct[mended])
    changed[covered] = True
    return colours, instances, far, changed


def draw(arrangement: Arrangement, size: int = SIDE, rays_per_edge: int = 4) -> Picture:
    """The picture of an arrangement, `size` x `size`; instances are places in the arrangement, -1 for the room.

    Each pixel has one ray; one that differs from a neighbour gets `rays_per_edge` (1, 4 or 9, a square number) in all.
    Raises KeyError for a room that does not exist and ImportError, naming the extra, without trimesh and embreex.
    """
    camera = replace(arrangement.camera, height=size, width=size)
    return draw_on(_background(arrangement.room, camera, rays_per_edge), arrangement)


def draw_on(scene: Ground, arrangement: Arrangement) -> Picture:
    """The picture of an arrangement's objects in a room that its camera has seen without them."""
    camera = scene.camera
    moving, ball = Smooth(objects_model(arrangement)), balls(arrangement)
    colours, instances, far, _ = _added(scene, moving, ball, scene.seen, scene.open, scene.shown)
    many = scene.rays_per_edge
    if many > 1:
        edges = _edges(colours, camera)
        known = edges[scene.edge[edges] >= 0]
        fine, _, _, changed = _added(
            scene, moving, ball, scene.fine, np.repeat(scene.open[scene.edge >= 0], many, axis=0), scene.fine_shown
        )
        colours[known] = scene.mean_shown[scene.edge[known]]
        touched = known[changed.reshape(-1, many).max(1)[scene.edge[known]]]
        colours[touched] = fine.reshape(-1, many, 3)[scene.edge[touched]].mean(1)
        new = edges[scene.edge[edges] < 0]
        origin = np.asarray(camera.position, np.float32)
        seen = _all(scene.tracer, scene.lamp, origin, _within(camera, new, round(many**0.5)))
        opened = np.repeat(scene.open[new], many, axis=0)
        fine, *_ = _added(scene, moving, ball, seen, opened, _colours(seen, opened, seen.direct))
        colours[new] = fine.reshape(-1, many, 3).mean(1)
    return Picture(
        (colours * 255 + np.float32(0.5)).astype(np.uint8).reshape(camera.height, camera.width, 3),
        instances.reshape(camera.height, camera.width),
        far.reshape(camera.height, camera.width),
    )


def coverage(model: Model, camera: Camera) -> int:
    """How many pixels of a picture a model covers with nothing before it."""
    vertices = model.mesh.vertices
    centre = (vertices.min(0) + vertices.max(0)) / 2
    radius = np.linalg.norm(vertices - centre, axis=1).max(keepdims=True)
    origin = np.asarray(camera.position, np.float32)
    rays = _within(camera, np.arange(camera.height * camera.width), 1)
    rays = rays[_meets((centre - origin)[None], radius, rays)]
    return len(Smooth(model).meet(origin, rays, np.full(len(rays), FAR, np.float32))[0])
