"""N arrangements at once, and what moving an object in each does."""

from functools import lru_cache
from typing import Any, NamedTuple, Protocol

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

PICTURE_SHAPE = (224, 224, 3)
"""Of an arrangement's colours, uint8."""

REASONS = ("", "still", "no surface", "outside", "furniture", "object", "out of view")
"""Why a move is invalid, the first that applies: it was shorter than `LEAST_MOVE`; no surface within `REACH` lies under
the object's whole base; the object would stick through a wall, or overlap furniture or another object; or, where that
is asked for, its middle would leave the picture or hide behind furniture. "" for a valid move."""
_STILL, _NO_SURFACE, _OUTSIDE, _FURNITURE, _OBJECT, _HIDDEN = range(1, 7)

LEAST_MOVE = 0.02
"""Metres; a shorter move shows nothing new."""

REACH = 0.4
"""Metres of height within which an object settles on a surface, down or up."""

_MARGIN = 0.08
"""Of the picture's width, between its edge and the middle of an object that is in view."""

_TRIES = 40
"""Places tried for an object before the whole row is drawn again."""

_PER_TRY = 4
"""Numbers that a try takes."""

_AT_ONCE = 256
"""Places tried together, where fewer rows than that are drawn: NumPy's calls cost as much for one."""

_NOWHERE = -100.0
"""Coordinate of what has no place yet: nothing is near it."""

_GRID = np.stack([*(axis.ravel() for axis in np.meshgrid(*[np.linspace(-0.45, 0.45, 12)] * 2)), np.full(144, 0.1)], 1)
"""Points over a surface of size 1."""

_SEEN = 0.25
"""Share of a surface that a camera must see to have things put there."""


_SHOWN = ("room", "camera", "objects", "positions", "yaws")
"""What an arrangement is made of."""

_STATE = (*_SHOWN, "keys", "counters", "surfaces", "turn")


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
    seen: np.ndarray  # bool [R, C, S] whether the camera sees enough of the surface


@lru_cache
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
            for which, top in enumerate(room.surfaces):
                points = np.array(top.centre) + _GRID * (*top.size, 1.0)
                layout.seen[index, place, which] = _visible(layout, index, place, points).mean() > _SEEN
    return layout


def _in_view(points: np.ndarray, place: np.ndarray, axes: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Whether points [n, 3] lie in pictures, a little away from their edges."""
    ahead, right, down = np.moveaxis((axes @ (points - place)[..., None])[..., 0], -1, 0)
    limit = ahead * slope * (1 - 2 * _MARGIN)
    return (ahead > 0.1) & (np.abs(right) < limit) & (np.abs(down) < limit)


def _visible(layout: _Layout, room: np.ndarray | int, camera: np.ndarray | int, points: np.ndarray) -> np.ndarray:
    """Whether points [n, 3] are in the pictures of cameras, with no furniture (cylinders as boxes) before them."""
    room, camera = np.broadcast_to(room, len(points)), np.broadcast_to(camera, len(points))
    place = layout.places[room, camera]
    seen = _in_view(points, place, layout.axes[room, camera], layout.slopes[room, camera])
    middle, half = layout.pieces[room] - place[:, None], layout.piece_sizes[room] / 2 - solids.TOUCH
    # Where the line of sight enters and leaves the three slabs of each box, in shares of its length.
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([middle - half, middle + half]) / (points - place)[:, None]
    entry, leave = ends.min(0).max(2), ends.max(0).min(2)
    return seen & ~((entry < leave) & (leave > 0) & (entry < 1) & (half > 0).all(2)).any(1)


def _mixed(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Numbers uint64 that depend on key and counter (uint64) alone: SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = keys + counters * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class World(Protocol):
    """N arrangements in which objects are moved: what `SpatialVectorEnv` asks of whoever holds them.

    An arrangement and its picture are those of now, or with `shown` those of the last `show` of the row.
    """

    def seed(self, rows: np.ndarray, seeds: np.ndarray, salt: int) -> None:
        """Start the random numbers of these rows: int [n] and uint64 [n]; another salt gives others for a seed."""

    def announce(self, rows: np.ndarray) -> None:
        """Name the rows, int [n], that are arranged right after the next `move`."""

    def arrange(self, rows: np.ndarray) -> None:
        """Draw these rows anew: room, camera, three objects, their yaws, and where they stand, all in view."""

    def move(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move in each row the object whose turn it is, by [N, 3] of -1 to 1; an invalid move is undone.

        Returns indices into `REASONS`, int [N], and which of the three was moved, int [N].
        """

    def show(self, rows: np.ndarray) -> None:
        """Keep what these rows hold now for `arrangement` and `picture`."""

    def observe(self) -> np.ndarray:
        """float32 [N, 32], see `env.SpatialEnv`."""

    def arrangement(self, row: int, shown: bool = False) -> Arrangement:
        """What a row holds."""

    def picture(self, row: int, shown: bool = False) -> np.ndarray:
        """What a row's camera sees, uint8 [H, W, 3]."""

    def truth(self, row: int) -> dict[str, Any]:
        """The ground truth of what was shown, see `truth.describe`. ValueError where there is none."""

    def frozen(self) -> dict[str, np.ndarray]:
        """Independent copies of all that the future depends on. ValueError where there is no such copy."""

    def thaw(self, state: dict[str, np.ndarray]) -> None:
        """Go back to what `frozen` gave."""

    def close(self) -> None:
        """Release what the world holds."""


class EmbeddedWorld:
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
        self._shown = {name: getattr(self, name).copy() for name in _SHOWN}

    def seed(self, rows: np.ndarray, seeds: np.ndarray, salt: int) -> None:
        """See `World.seed`."""
        self.keys[rows] = _mixed(seeds, np.full(len(rows), salt + 1, np.uint64))
        self.counters[rows] = 0

    def _draw(self, rows: np.ndarray, count: int, times: int = 1) -> np.ndarray:
        """The rows' next numbers in [0, 1), [n, times, count]: what as many draws of `count` would give in turn."""
        steps = (np.arange(times)[:, None] * count + np.arange(count, 0, -1)).astype(np.uint64)
        mixed = _mixed(self.keys[rows, None, None], self.counters[rows, None, None] + steps)
        self.counters[rows] += np.uint64(count * times)
        return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def announce(self, rows: np.ndarray) -> None:
        """Nothing: rows are arranged when `arrange` is called."""

    def arrange(self, rows: np.ndarray) -> None:
        """See `World.arrange`."""
        layout = self._layout
        while len(rows):
            drawn = self._draw(rows, 2 + len(OBJECTS) + ACTIVE)[:, 0]
            room = self._choices[(drawn[:, 0] * len(self._choices)).astype(int)]
            self.room[rows], self.camera[rows] = room, (drawn[:, 1] * layout.cameras[room]).astype(int)
            self.objects[rows] = np.argsort(drawn[:, 2 : 2 + len(OBJECTS)], 1)[:, :ACTIVE]
            self.yaws[rows] = (drawn[:, -ACTIVE:] * 2 - 1) * np.pi
            self.positions[rows] = _NOWHERE
            self.turn[rows] = 0
            failed = np.zeros(self.num, bool)
            for place in range(ACTIVE):
                waiting, left = rows[~failed[rows]], _TRIES
                while left and len(waiting):
                    times = min(left, max(1, _AT_ONCE // len(waiting)))
                    waiting, left = waiting[~self._place(waiting, place, times)], left - times
                failed[waiting] = True
            rows = rows[failed[rows]]

    def _place(self, rows: np.ndarray, place: int, times: int) -> np.ndarray:
        """Try so many times to put the objects at `place` somewhere; in which of the rows it worked, bool [n].

        The first try that works counts, and no number beyond it is used up: `times` changes nothing but the speed.
        """
        layout, tries = self._layout, np.repeat(rows, times)
        room, drawn = self.room[tries], self._draw(rows, _PER_TRY, times).reshape(-1, _PER_TRY)
        seen = layout.seen[room, self.camera[tries]]
        chosen = (drawn[:, 0] * seen.sum(1)).astype(int)
        surface = np.argmax(np.cumsum(seen, 1) > chosen[:, None], 1)
        if place:
            # Half of the time beside the first: what stands on one surface is most often compared.
            surface = np.where(drawn[:, 1] < 0.5, self.surfaces[tries, 0], surface)
        position = layout.tops[room, surface].copy()
        position[:, :2] += (drawn[:, 2:] - 0.5) * layout.top_sizes[room, surface]
        fine = self._on(tries, place, position)[np.arange(len(tries)), surface]
        on = np.flatnonzero(fine)
        fine[on] = self._obstacle(tries[on], np.full(len(on), place), position[on], True) == 0
        fine = fine.reshape(-1, times)
        worked, first = fine.any(1), fine.argmax(1)
        taken = np.flatnonzero(worked) * times + first[worked]
        self.positions[rows[worked], place], self.surfaces[rows[worked], place] = position[taken], surface[taken]
        self.counters[rows[worked]] -= (_PER_TRY * (times - 1 - first[worked])).astype(np.uint64)
        return worked

    def _on(self, rows: np.ndarray, which: np.ndarray | int, position: np.ndarray) -> np.ndarray:
        """Above which surfaces of their rooms the whole bases of objects would lie at `position`, bool [n, S]."""
        layout, room = self._layout, self.room[rows]
        base = solids.BASES[self.objects[rows, which]][:, None]
        away = np.abs(position[:, None, :2] - layout.tops[room][:, :, :2])
        half = layout.top_sizes[room] / 2
        square = (away <= half - base[:, :, None]).all(2)
        disc = np.hypot(away[:, :, 0], away[:, :, 1]) <= half[:, :, 0] - base
        return np.where(layout.top_round[room], disc, square)

    def _obstacle(self, rows: np.ndarray, which: np.ndarray, position: np.ndarray, in_view: bool) -> np.ndarray:
        """What keeps one of each row's objects from standing at `position`, into `REASONS` int [n]; 0 for nothing."""
        layout, room = self._layout, self.room[rows]
        thing, yaw = self.objects[rows, which], self.yaws[rows, which]
        why = np.zeros(len(rows), np.int64)
        far = layout.sizes[room, :2] / 2 - solids.REACHES[thing][:, None]
        why[(np.abs(position[:, :2]) > far).any(1)] = _OUTSIDE
        free = np.flatnonzero(why == 0)
        pieces = (array[room[free]] for array in (layout.pieces, layout.piece_sizes, layout.piece_round))
        hit = solids.furniture_overlap(thing[free], position[free], yaw[free], *pieces)
        why[free[hit]] = _FURNITURE
        for other in range(1, ACTIVE):
            free = np.flatnonzero(why == 0)
            row, beside = rows[free], (which[free] + other) % ACTIVE
            there = (self.objects[row, beside], self.positions[row, beside], self.yaws[row, beside])
            why[free[solids.objects_overlap(thing[free], position[free], yaw[free], *there)]] = _OBJECT
        if in_view:
            free = np.flatnonzero(why == 0)
            middle = position[free] + solids.HEIGHTS[thing[free], None] * (0.0, 0.0, 0.5)
            why[free[~_visible(layout, room[free], self.camera[rows[free]], middle)]] = _HIDDEN
        return why

    def move(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `World.move`."""
        layout, every, moved = self._layout, np.arange(self.num), self.turn.copy()
        start = self.positions[every, moved]
        target = start + self.move_scale * actions
        tops = layout.tops[self.room][:, :, 2]
        gaps = np.where(self._on(every, moved, target), np.abs(target[:, 2:] - tops), np.inf)
        surface = np.argmin(gaps, 1)
        stands = gaps[every, surface] <= REACH
        target[stands, 2] = tops[every, surface][stands]
        why = np.where(stands, 0, _NO_SURFACE)
        why[np.linalg.norm(target - start, axis=1) < LEAST_MOVE] = _STILL
        free = np.flatnonzero(why == 0)
        why[free] = self._obstacle(free, moved[free], target[free], self.in_view)
        fine = np.flatnonzero(why == 0)
        self.positions[fine, moved[fine]], self.surfaces[fine, moved[fine]] = target[fine], surface[fine]
        self.turn = (self.turn + 1) % ACTIVE
        return why, moved

    def observe(self) -> np.ndarray:
        """See `World.observe`."""
        layout, every, room = self._layout, np.arange(self.num), self.room
        order = (self.turn[:, None] + np.arange(ACTIVE)) % ACTIVE
        surface = self.surfaces[every, self.turn]
        observations = np.zeros((self.num, OBSERVED), np.float32)
        observations[:, 0], observations[:, 1] = self.objects[every, self.turn], room
        observations[:, 2:4], observations[:, 4] = layout.top_sizes[room, surface], layout.clearance[room, surface]
        observations[:, 5:8] = layout.tops[room, surface]
        things = observations[:, 8:26].reshape(self.num, ACTIVE, 6)
        things[:, :, :3] = self.positions[every[:, None], order]
        things[:, :, 5] = self.yaws[every[:, None], order]
        observations[:, 26:29], observations[:, 29:32] = (
            layout.places[room, self.camera],
            layout.turns[room, self.camera],
        )
        return observations

    def show(self, rows: np.ndarray) -> None:
        """See `World.show`."""
        for name, array in self._shown.items():
            array[rows] = getattr(self, name)[rows]

    def arrangement(self, row: int, shown: bool = False) -> Arrangement:
        """See `World.arrangement`."""
        held = self._shown if shown else {name: getattr(self, name) for name in _SHOWN}
        name = list(ROOMS)[held["room"][row]]
        camera: Camera = ROOMS[name].cameras[self.kind][held["camera"][row]]
        objects = tuple(held["objects"][row].tolist())
        return Arrangement(name, camera, objects, held["positions"][row].copy(), held["yaws"][row].copy())

    def picture(self, row: int, shown: bool = False) -> np.ndarray:
        """See `World.picture`. ImportError, naming the extra, where the renderer's packages are missing."""
        from mentorgym.envs.spatial import picture

        return picture.draw(self.arrangement(row, shown)).colours

    def truth(self, row: int) -> dict[str, Any]:
        """See `World.truth`."""
        from mentorgym.envs.spatial import picture, truth

        arrangement = self.arrangement(row, shown=True)
        return truth.describe(arrangement, picture.draw(arrangement))

    def frozen(self) -> dict[str, np.ndarray]:
        """See `World.frozen`."""
        shown = {f"shown.{name}": array.copy() for name, array in self._shown.items()}
        return {name: getattr(self, name).copy() for name in _STATE} | shown

    def thaw(self, state: dict[str, np.ndarray]) -> None:
        """See `World.thaw`."""
        for name in _STATE:
            setattr(self, name, state[name].copy())
        self._shown = {name: state[f"shown.{name}"].copy() for name in _SHOWN}

    def close(self) -> None:
        """Nothing."""
