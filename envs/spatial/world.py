"""N arrangements at once, and what moving an object in each does."""

from typing import NamedTuple

import numpy as np

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import rooms, solids
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import ROOMS

ACTIVE = 3
"""Objects in a room."""

OBSERVED = 32
"""Numbers in an observation."""

REASONS = ("", "still", "outside", "no surface", "furniture", "object", "out of view")
"""Why a move is invalid: it was shorter than `LEAST_MOVE`; the object would leave the room, have no surface under its
whole base, overlap furniture or another object, or (only where that is asked for) leave the picture. "" for a valid."""

LEAST_MOVE = 0.02
"""Metres; a shorter move shows nothing new."""

REACH = 0.25
"""Metres of height within which an object settles on a surface, down or up."""

_MARGIN = 0.08
"""Of the picture's width, between its edge and the middle of an object that is in view."""

_TRIES = 40


class _Layout(NamedTuple):
    """All rooms and their cameras of one kind in arrays; what a room has fewer of is padded with zeros."""

    sizes: np.ndarray  # [R, 3] m
    pieces: np.ndarray  # [R, F, 3] m, middles of the furniture
    piece_sizes: np.ndarray  # [R, F, 3] m
    piece_round: np.ndarray  # bool [R, F]
    tops: np.ndarray  # [R, S, 3] m, middles of the surfaces
    top_sizes: np.ndarray  # [R, S, 2] m
    top_round: np.ndarray  # bool [R, S]
    clearance: np.ndarray  # [R, S] m of free height above a surface's middle
    cameras: np.ndarray  # int [R], how many
    places: np.ndarray  # [R, C, 3] m
    turns: np.ndarray  # [R, C, 3] rad: roll, pitch, yaw
    axes: np.ndarray  # [R, C, 3, 3] ahead, right, down
    slopes: np.ndarray  # [R, C] half the width of the picture at 1 m
    seen: np.ndarray  # bool [R, C, S] whether the camera has the middle of the surface in its picture


def _layout(kind: str) -> _Layout:
    every = list(ROOMS.values())
    count = len(every)
    pieces, tops, cameras = (
        max(map(len, lists))
        for lists in (
            [room.pieces for room in every],
            [room.surfaces for room in every],
            [room.cameras[kind] for room in every],
        )
    )
    layout = _Layout(
        np.array([room.size for room in every]),
        np.zeros((count, pieces, 3)),
        np.zeros((count, pieces, 3)),
        np.zeros((count, pieces), bool),
        np.zeros((count, tops, 3)),
        np.zeros((count, tops, 2)),
        np.zeros((count, tops), bool),
        np.zeros((count, tops)),
        np.array([len(room.cameras[kind]) for room in every]),
        np.zeros((count, cameras, 3)),
        np.zeros((count, cameras, 3)),
        np.zeros((count, cameras, 3, 3)),
        np.ones((count, cameras)),
        np.zeros((count, cameras, tops), bool),
    )
    for index, room in enumerate(every):
        for place, piece in enumerate(room.pieces):
            layout.pieces[index, place], layout.piece_sizes[index, place] = piece.centre, piece.size
            layout.piece_round[index, place] = piece.shape == "cylinder"
        for place, top in enumerate(room.surfaces):
            layout.tops[index, place], layout.top_sizes[index, place] = top.centre, top.size
            layout.top_round[index, place] = top.round
            bottoms = [
                piece.centre[2] - piece.size[2] / 2
                for piece in room.pieces
                if all(abs(piece.centre[i] - top.centre[i]) < piece.size[i] / 2 for i in (0, 1))
            ]
            above = [bottom for bottom in bottoms if bottom > top.centre[2]]
            layout.clearance[index, place] = min([room.size[2], *above]) - top.centre[2]
        for place, camera in enumerate(room.cameras[kind]):
            layout.places[index, place] = camera.position
            layout.turns[index, place] = 0.0, camera.pitch, camera.yaw
            layout.axes[index, place] = camera.axes()
            layout.slopes[index, place] = np.tan(camera.field / 2)
            centres = np.array([top.centre for top in room.surfaces])
            layout.seen[index, place, : len(centres)] = _in_view(
                centres, layout.places[index, place], layout.axes[index, place], layout.slopes[index, place]
            )
    return layout


def _in_view(points: np.ndarray, place: np.ndarray, axes: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Whether points [n, 3] lie in pictures, a little away from their edges."""
    ahead, right, down = np.moveaxis((axes @ (points - place)[..., None])[..., 0], -1, 0)
    limit = ahead * slope * (1 - 2 * _MARGIN)
    return (ahead > 0.1) & (np.abs(right) < limit) & (np.abs(down) < limit)


def _uniform(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) that depend on key and counter alone (uint64): SplitMix64's output for a counted state."""
    with np.errstate(over="ignore"):
        mixed = keys + counters * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


class World:
    """`num` arrangements, each with numbers of its own: what a row does depends on its seed and its actions alone.

    Args:
        num: N.
        names: the rooms to draw from, of `rooms.ROOMS`.
        kind: of the cameras, see `rooms.KINDS`.
        move_scale: metres along each axis that an action of 1 asks for.
        in_view: whether leaving the picture makes a move invalid.
    """

    def __init__(self, num: int, names: tuple[str, ...], kind: str, move_scale: float, in_view: bool):
        self.num, self.kind, self.move_scale, self.in_view = num, kind, move_scale, in_view
        self._choices = np.array([rooms.INDEX[name] for name in names])
        self._layout = _layout(kind)
        self.keys = np.zeros(num, np.uint64)
        self.counters = np.zeros(num, np.uint64)
        self.room = np.zeros(num, np.int64)
        self.camera = np.zeros(num, np.int64)
        self.objects = np.tile(np.arange(ACTIVE), (num, 1))
        self.positions = np.zeros((num, ACTIVE, 3))
        self.yaws = np.zeros((num, ACTIVE))
        self.surfaces = np.zeros((num, ACTIVE), np.int64)
        self.turn = np.zeros(num, np.int64)

    def seed(self, rows: np.ndarray, seeds: np.ndarray, salt: int) -> None:
        """Start the numbers of these rows: int [n] and uint64 [n]; another salt gives others for the same seed."""
        start = _uniform(seeds.astype(np.uint64), np.full(len(rows), salt + 1, np.uint64))
        self.keys[rows] = (start * 2.0**53).astype(np.uint64) << np.uint64(11)
        self.counters[rows] = 0

    def _draw(self, rows: np.ndarray, count: int) -> np.ndarray:
        """The rows' next numbers in [0, 1), [n, count]."""
        self.counters[rows] += np.uint64(count)
        steps = self.counters[rows, None] - np.arange(count, dtype=np.uint64)
        return _uniform(self.keys[rows, None], steps)

    def arrange(self, rows: np.ndarray) -> None:
        """Draw these rows anew: room, camera, three objects, their yaws, and where they stand, all in view."""
        layout = self._layout
        while len(rows):
            drawn = self._draw(rows, 2 + len(OBJECTS) + ACTIVE)
            room = self._choices[(drawn[:, 0] * len(self._choices)).astype(int)]
            self.room[rows], self.camera[rows] = room, (drawn[:, 1] * layout.cameras[room]).astype(int)
            self.objects[rows] = np.argsort(drawn[:, 2 : 2 + len(OBJECTS)], 1)[:, :ACTIVE]
            self.yaws[rows] = (drawn[:, -ACTIVE:] * 2 - 1) * np.pi
            self.turn[rows] = 0
            failed = np.zeros(len(rows), bool)
            for place in range(ACTIVE):
                waiting = rows[~failed]
                for _ in range(_TRIES):
                    waiting = waiting[~self._place(waiting, place)]
                failed |= np.isin(rows, waiting)
            rows = rows[failed]

    def _place(self, rows: np.ndarray, place: int) -> np.ndarray:
        """Try once to put the objects at `place` somewhere; which of the rows it worked in."""
        layout, room, camera = self._layout, self.room[rows], self.camera[rows]
        drawn = self._draw(rows, 4)
        seen = layout.seen[room, camera]
        chosen = (drawn[:, 0] * seen.sum(1)).astype(int)
        surface = np.argmax(np.cumsum(seen, 1) > chosen[:, None], 1)
        if place:
            # Half of the time beside the first: relations on one surface are the common ones.
            surface = np.where(drawn[:, 1] < 0.5, self.surfaces[rows, 0], surface)
        centre, size = layout.tops[room, surface], layout.top_sizes[room, surface]
        position = centre + np.pad((drawn[:, 2:] - 0.5) * size, ((0, 0), (0, 1)))
        thing, yaw = self.objects[rows, place], self.yaws[rows, place]
        fine = self._on(position, thing, room)[np.arange(len(rows)), surface]
        middle = position + np.stack([np.zeros(len(rows))] * 2 + [solids.HEIGHTS[thing] / 2], 1)
        fine &= _in_view(
            middle, layout.places[room, camera], layout.axes[room, camera], layout.slopes[room, camera]
        )
        fine &= ~self._meets_furniture(rows, thing, position, yaw)
        for other in range(place):
            fine &= ~solids.objects_overlap(
                thing, position, yaw, self.objects[rows, other], self.positions[rows, other], self.yaws[rows, other]
            )
        self.positions[rows[fine], place], self.surfaces[rows[fine], place] = position[fine], surface[fine]
        return fine

    def _on(self, position: np.ndarray, thing: np.ndarray, room: np.ndarray) -> np.ndarray:
        """Above which surfaces of the room the whole base of an object lies, bool [n, S]."""
        layout, base = self._layout, solids.BASES[thing][:, None]
        away = np.abs(position[:, None, :2] - layout.tops[room][:, :, :2])
        half = layout.top_sizes[room] / 2
        square = (away <= half - base[:, :, None]).all(2)
        disc = np.hypot(away[:, :, 0], away[:, :, 1]) <= half[:, :, 0] - base
        return np.where(layout.top_round[room], disc, square)

    def _meets_furniture(self, rows: np.ndarray, thing: np.ndarray, position: np.ndarray, yaw: np.ndarray) -> np.ndarray:
        layout, room = self._layout, self.room[rows]
        return solids.furniture_overlap(
            thing, position, yaw, layout.pieces[room], layout.piece_sizes[room], layout.piece_round[room]
        )

    def move(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move in each row the object whose turn it is, [N, 3] in -1 to 1; a move that does not do is undone.

        Returns into `REASONS` int [N], and which of the three was moved, int [N].
        """
        layout, every, moved = self._layout, np.arange(self.num), self.turn.copy()
        thing, yaw = self.objects[every, moved], self.yaws[every, moved]
        start, room, camera = self.positions[every, moved], self.room, self.camera
        target = start + self.move_scale * actions
        gap = target[:, None, 2] - layout.tops[room][:, :, 2]
        able = self._on(target, thing, room) & (np.abs(gap) <= REACH)
        surface = np.argmax(np.where(able, layout.tops[room][:, :, 2], -1.0), 1)
        stands = able[every, surface]
        target[:, 2] = np.where(stands, layout.tops[room, surface, 2], target[:, 2])
        reach = layout.sizes[room, :2] / 2 - solids.REACHES[thing][:, None]
        middle = target + np.stack([np.zeros(self.num)] * 2 + [solids.HEIGHTS[thing] / 2], 1)
        why = np.zeros(self.num, np.int64)
        if self.in_view:
            place, axes, slope = layout.places[room, camera], layout.axes[room, camera], layout.slopes[room, camera]
            why[~_in_view(middle, place, axes, slope)] = REASONS.index("out of view")
        for other in range(1, ACTIVE):
            beside = (moved + other) % ACTIVE
            other_positions, other_yaws = self.positions[every, beside], self.yaws[every, beside]
            hit = solids.objects_overlap(
                thing, target, yaw, self.objects[every, beside], other_positions, other_yaws
            )
            why[hit] = REASONS.index("object")
        why[self._meets_furniture(every, thing, target, yaw)] = REASONS.index("furniture")
        why[~stands] = REASONS.index("no surface")
        why[(np.abs(target[:, :2]) > reach).any(1)] = REASONS.index("outside")
        why[np.linalg.norm(target - start, axis=1) < LEAST_MOVE] = REASONS.index("still")
        fine = why == 0
        self.positions[every[fine], moved[fine]] = target[fine]
        self.surfaces[every[fine], moved[fine]] = surface[fine]
        self.turn = (self.turn + 1) % ACTIVE
        return why, moved

    def observe(self) -> np.ndarray:
        """float32 [N, 32], see `vector.SpatialVectorEnv`."""
        layout, every, room = self._layout, np.arange(self.num), self.room
        order = (self.turn[:, None] + np.arange(ACTIVE)) % ACTIVE
        surface = self.surfaces[every, self.turn]
        told = np.zeros((self.num, OBSERVED), np.float32)
        told[:, 0], told[:, 1] = self.objects[every, self.turn], room
        told[:, 2:4], told[:, 4] = layout.top_sizes[room, surface], layout.clearance[room, surface]
        told[:, 5:8] = layout.tops[room, surface]
        things = told[:, 8:26].reshape(self.num, ACTIVE, 6)
        things[:, :, :3] = self.positions[every[:, None], order]
        things[:, :, 5] = self.yaws[every[:, None], order]
        told[:, 26:29], told[:, 29:32] = layout.places[room, self.camera], layout.turns[room, self.camera]
        return told

    def copied(self) -> dict[str, np.ndarray]:
        """Independent copies of what `arrangement` reads."""
        return {name: getattr(self, name).copy() for name in ("room", "camera", "objects", "positions", "yaws")}

    def arrangement(self, row: int, held: dict[str, np.ndarray] | None = None) -> Arrangement:
        """What a row holds now, or held when `copied` gave `held`."""
        held = self.copied() if held is None else held
        name = list(ROOMS)[held["room"][row]]
        camera: Camera = ROOMS[name].cameras[self.kind][held["camera"][row]]
        objects = tuple(held["objects"][row].tolist())
        return Arrangement(name, camera, objects, held["positions"][row].copy(), held["yaws"][row].copy())
