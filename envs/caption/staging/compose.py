"""Scenes, composed: a place in a town, a street staged on it, and the things that make one reason true.

A street has up to three lanes. `_Plan` says what lies on either side of the ego's: no lane (a kerb), a lane behind a
solid line, or one behind a dashed line, free or taken. Signs and lamps are larger than real ones, since a picture may
be seen at 96 x 96 pixels.
"""

from dataclasses import dataclass, replace

import numpy as np

from mentorgym.envs.caption.language import ACTION_OF_REASON, REASONS
from mentorgym.envs.caption.staging.records import Lane, Line, Record, Street, Thing
from mentorgym.envs.caption.staging.sites import TOWNS, Site, pick_site

WIDTH = 3.5
"""Metres of a lane."""

FAR_END = 1e3
"""The end of a street that meets no junction within sight."""

_AT_JUNCTIONS = {name for name in REASONS if "urn" in name or "light" in name or name == "Traffic sign"}
"""Reasons that are staged before a junction."""
_ANYWHERE = {name for name in REASONS if name.startswith("Obstacle:") or name == "Road is clear"}
"""Reasons that are staged before junctions and away from them; the rest need a longer street."""

_CARS = {"car": (4.4, 1.8, 1.48), "van": (5.0, 2.0, 2.15), "truck": (6.8, 2.35, 2.9)}


@dataclass
class _Plan:
    """What is being staged."""

    rng: np.random.Generator
    left: str
    """what lies there: "none", "oncoming", "solid" (a lane behind a solid line), "dashed" (a free one behind a dashed
    line) or "taken" (the same, full of cars)"""
    right: str
    """likewise"""
    street: Street
    things: list[Thing]
    speed: float

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def add(
        self,
        kind: str,
        distance: float,
        offset: float,
        size: tuple[float, float, float],
        turn: float = 0.0,
        rise: float = 0.0,
        state: str = "",
        speed: float = 0.0,
    ) -> None:
        """Something at so many metres ahead and to the left, turned by `turn` out of the street's direction."""
        (x, y, z), yaw = self.street.at(distance, offset)
        self.things.append(Thing(kind, (x, y, z + rise), yaw + turn, size, state, speed, int(self.rng.integers(8))))

    def vehicle(
        self, distance: float, offset: float, turn: float = 0.0, state: str = "", speed: float = 0.0, kind: str = ""
    ) -> None:
        """A vehicle whose near end is `distance` metres ahead."""
        kind = kind or ("car", "car", "car", "van", "truck")[int(self.rng.integers(5))]
        length, width, height = _CARS[kind]
        scale = self.between(0.95, 1.06)
        size = (length * scale, width, height * self.between(0.97, 1.05))
        reach = (abs(np.cos(turn)) * size[0] + abs(np.sin(turn)) * width) / 2
        self.add(kind, distance + reach, offset, size, turn, state=state, speed=speed)


def compose(split: str, seed: int, index: int, reason: int, more: bool, scenery: bool = True) -> Record:
    """Scene `index` of a split, staged for `reason` (an index into `language.REASONS`).

    With `more`, things that bring reasons of their own may stand beside those that are needed. Without `scenery` the
    same scene comes without buildings and trees, which no label depends on, in a third of the time.
    """
    rng = np.random.default_rng([seed, tuple(TOWNS).index(split), index, reason, int(more)])
    towns = TOWNS[split]
    town = towns[int(rng.integers(len(towns)))]
    name = REASONS[reason]
    junction = name in _AT_JUNCTIONS or (name in _ANYWHERE and rng.random() < 0.3)
    site = pick_site(town, junction, ACTION_OF_REASON[reason] == 0, rng)
    left, right = _sides(name, more, rng)
    end = max(site.end, 8.0) if junction else (site.end if site.end > 45 else FAR_END)
    street = Street(site.distances, site.course, (), (), (0.0, 0.0), end)
    plan = _Plan(rng, left, right, street, [], 0.0)
    plan.street = _street(plan, name)
    _STAGED[name](plan)
    if more:
        _extras(plan, name)
    _traffic(plan)
    weather = ("clear", "clear", "clear", "overcast", "fog", "rain")[int(rng.integers(6))]
    daylight = ("noon", "noon", "low sun", "dusk")[int(rng.integers(4))]
    look = int(rng.integers(2**31))
    if scenery:
        plan.rng = np.random.default_rng([look, 0])
        _scenery(plan, site)
    return Record(
        town=town,
        origin=site.origin,
        road=site.road,
        reason=reason,
        street=plan.street,
        things=tuple(plan.things),
        weather=weather,
        daylight=daylight,
        speed=plan.speed,
        look=look,
    )


def _sides(name: str, more: bool, rng: np.random.Generator) -> tuple[str, str]:
    """What lies left and right of the ego's lane."""
    closed = {"Obstacles on the": "taken", "No lane on the": "none", "Solid line on the": "solid"}
    for start, side in closed.items():
        if name.startswith(start):
            return (side, "dashed") if name.endswith("left lane") or name.endswith("left") else ("dashed", side)
    if name == "On the left-turn lane":
        return ("oncoming", "none")[int(rng.random() < 0.4)], "solid"
    if name == "On the right-turn lane":
        return "solid", "none"
    lefts, rights = ["oncoming", "oncoming", "none", "dashed"], ["none", "none", "dashed"]
    if more and name != "Obstacle: others":
        lefts, rights = [*lefts, "solid", "taken"], [*rights, "solid", "taken"]
    return lefts[int(rng.integers(len(lefts)))], rights[int(rng.integers(len(rights)))]


def _street(plan: _Plan, name: str) -> Street:
    """The street with lanes, lines and kerbs for what lies on either side."""
    lanes, lines = [Lane(0.0, WIDTH, 1)], []
    edges = [-WIDTH / 2, WIDTH / 2]
    for side, kind in ((-1, plan.right), (1, plan.left)):
        border = side * WIDTH / 2
        if kind == "none":
            continue
        lanes.append(Lane(side * WIDTH, WIDTH, -1 if kind == "oncoming" else 1))
        edges[0 if side < 0 else 1] = side * 1.5 * WIDTH
        if kind == "oncoming":
            style = ("solid", "double", "dashed")[int(plan.rng.integers(3))]
            lines.append(Line(border, style, "yellow"))
        elif kind == "solid":
            lines.append(Line(border, ("solid", "double")[int(plan.rng.integers(2))], "white"))
        else:
            lines.append(Line(border, "dashed", "white"))
    lanes.sort(key=lambda lane: lane.offset)
    if name in ("On the left-turn lane", "On the right-turn lane"):
        way = "left" if "left" in name else "right"
        lanes = [replace(lane, arrow=way if lane.offset == 0 else "") for lane in lanes]
    return replace(plan.street, lanes=tuple(lanes), lines=tuple(lines), edges=(edges[0], edges[1]))


def _light(plan: _Plan, state: str) -> None:
    """A signal: round lamps above the lane, arrows on the side that they are for."""
    near = max(min(plan.street.end, 14.0), 9.0)
    plan.street = replace(plan.street, stop_line=near - 4.0)
    size = (0.4, 0.95, 2.5)
    right, left = plan.street.edges
    if state in ("left", "right"):
        side = 1 if state == "left" else -1
        size = (0.4, 1.15, 2.9)
        offset = side * min(plan.between(2.3, 3.0), near * 0.36)
        plan.add("post", near + 0.3, offset, (0.2, 0.0, 2.2))
        plan.add("light", near, offset, size, rise=1.7, state=state)
        return
    # The head stays within the picture.
    rise = min(plan.between(2.7, 3.3), 0.39 * near - 0.95)
    offset = plan.between(-0.5, 0.5)
    pole = right - 0.6
    plan.add("post", near + 0.35, pole, (0.2, offset - pole, rise + 2.3))
    plan.add("light", near, offset, size, rise=rise, state=state)


def _follow(plan: _Plan) -> None:
    plan.speed = plan.between(6, 11)
    near = plan.between(8.2, 11.5)
    plan.vehicle(
        near, plan.between(-0.25, 0.25), speed=plan.speed, kind=("car", "car", "van")[int(plan.rng.integers(3))]
    )
    plan.vehicle(near + plan.between(15, 19), plan.between(-0.3, 0.3), speed=plan.speed, kind="car")


def _clear(plan: _Plan) -> None:
    plan.speed = plan.between(7, 12)


def _green(plan: _Plan) -> None:
    plan.speed = plan.between(3, 8)
    _light(plan, "green")


def _red(plan: _Plan) -> None:
    plan.speed = plan.between(0, 4)
    _light(plan, "red" if plan.chance(0.75) else "yellow")


def _car(plan: _Plan) -> None:
    plan.speed = plan.between(1, 4)
    if plan.chance(0.3):
        turn = np.pi / 2 * (1 if plan.chance(0.5) else -1) + plan.between(-0.35, 0.35)
        plan.vehicle(plan.between(5.0, 6.5), plan.between(-0.4, 0.4), turn, kind="car")
    else:
        plan.vehicle(plan.between(4.2, 6.0), plan.between(-0.3, 0.3), plan.between(-0.06, 0.06), "brake")


def _people(plan: _Plan) -> None:
    plan.speed = plan.between(1, 4)
    near = plan.between(4.7, 6.5)
    if plan.chance(0.8):
        plan.street = replace(plan.street, crosswalk=near)
    for k in range(int(plan.rng.integers(3, 6))):
        side = 1 if plan.chance(0.5) else -1
        height = plan.between(1.55, 1.9)
        offset = plan.between(-0.9, 0.9) if k == 0 else plan.between(-2.4, 2.4)
        plan.add(
            "person",
            near + plan.between(-0.7, 0.7),
            offset,
            (0.6, 0.6, height),
            side * np.pi / 2,
            speed=plan.between(0.7, 1.4),
        )


def _rider(plan: _Plan) -> None:
    plan.speed = plan.between(2, 5)
    kind = "bicycle" if plan.chance(0.6) else "motorbike"
    side = 1 if plan.chance(0.5) else -1
    turn = side * plan.between(0.55, 1.5)
    plan.add(kind, plan.between(4.8, 6.5), plan.between(-0.5, 0.5), (1.95, 0.7, 1.85), turn, speed=plan.between(1, 3))


def _others(plan: _Plan) -> None:
    plan.speed = plan.between(1, 4)
    near = plan.between(5.5, 8.0)
    right, left = plan.street.edges
    kind = int(plan.rng.integers(3))
    if kind == 0:
        plan.add("trunk", near, (left + right) / 2, (0.7, left - right - 0.4, 0.6), plan.between(-0.12, 0.12))
    elif kind == 1:
        for offset in np.arange(right + 0.6, left - 0.3, 1.15):
            plan.add(
                "crate",
                near + plan.between(-0.5, 0.5),
                float(offset),
                (0.9, plan.between(0.7, 1.0), plan.between(0.6, 1.0)),
                plan.between(-0.5, 0.5),
            )
        plan.add("crate", near + 0.3, 0.0, (0.9, 0.9, 1.4))
    else:
        for k, offset in enumerate(np.arange(right + 0.5, left - 0.3, 0.95)):
            if k % 3 == 2:
                plan.add("tyres", near, float(offset), (0.75, 0.75, 0.75))
            else:
                plan.add("cone", near + plan.between(-0.2, 0.2), float(offset), (0.6, 0.6, 1.0))


def _traffic_sign(plan: _Plan) -> None:
    plan.speed = plan.between(1, 4)
    near = plan.between(6.5, 8.0)
    plan.street = replace(plan.street, stop_line=near - 1.0)
    state = ("stop", "stop", "give way", "no entry")[int(plan.rng.integers(4))]
    plan.add("sign", near, -WIDTH / 2 - plan.between(0.3, 0.7), (0.2, 1.25, plan.between(2.5, 2.8)), state=state)
    if plan.right != "none":
        # The sign takes the place of the lane beside, so that it stands at the edge of the ego's.
        plan.street = replace(
            plan.street,
            lanes=tuple(lane for lane in plan.street.lanes if lane.offset >= 0),
            lines=tuple(line for line in plan.street.lines if line.offset > 0),
            edges=(-WIDTH / 2, plan.street.edges[1]),
        )
        plan.right = "none"


def _turning(plan: _Plan, side: int) -> None:
    plan.speed = plan.between(3, 6)
    kind = "car" if plan.chance(0.75) else "van"
    turn = side * plan.between(0.5, 0.95)
    state = "left" if side > 0 else "right"
    plan.vehicle(plan.between(4.6, 6.6), side * plan.between(0.2, 0.7), turn, state, plan.between(3, 5), kind)


def _turn_lane(plan: _Plan) -> None:
    plan.speed = plan.between(2, 6)


def _turn_light(plan: _Plan, state: str) -> None:
    plan.speed = plan.between(1, 4)
    _light(plan, state)


def _closed(plan: _Plan) -> None:
    """The own lane ends at a barrier; one side is open."""
    plan.speed = plan.between(3, 7)
    near = plan.between(7.0, 9.5)
    plan.add("barrier", near, 0.0, (0.7, 2.9, 1.15))


def _traffic(plan: _Plan) -> None:
    """Cars that fill a lane beside, and oncoming ones some way off, which decide nothing."""
    for side, kind in ((1, plan.left), (-1, plan.right)):
        if kind == "taken":
            start = plan.between(3.2, 5.0)
            for k in range(3):
                away, model = start + k * plan.between(6.6, 7.2), "car" if k < 2 else "van"
                plan.vehicle(away, side * WIDTH, speed=plan.speed, kind=model)
    if plan.left == "oncoming" and plan.chance(0.5):
        plan.vehicle(plan.between(14, 30), WIDTH, np.pi, speed=plan.between(5, 9), kind="car")


def _extras(plan: _Plan, name: str) -> None:
    """Things that bring reasons of their own, where they leave the first one in sight and true."""
    if name == "Follow traffic" and plan.chance(0.4):
        _light(plan, "green")
    elif name in ("Obstacle: car", "Front car turning left", "Front car turning right") and plan.chance(0.4):
        _light(plan, "red" if plan.chance(0.5) else "green")
    elif name == "Traffic light is green" and plan.chance(0.5):
        _follow(plan)
    elif name in ("Traffic light is not green", "Traffic sign") and plan.chance(0.5):
        _people(plan)


def _scenery(plan: _Plan, site: Site) -> None:
    """Buildings and trees beside the street, and beyond the junction where no other road of the town is."""
    right, left = plan.street.edges
    roads = site.other_roads()

    def room(distance: float, offset: float) -> float:
        """Metres to the nearest other road."""
        (x, y, _), _ = plan.street.at(distance, offset)
        return float(np.sqrt(((roads - (x, y)) ** 2).sum(1).min(initial=1e6)))

    for side, edge in ((1, left), (-1, right)):
        distance = plan.between(-4, 4)
        while distance < 75:
            if plan.chance(0.45):
                size = (plan.between(9, 15), plan.between(8, 11), plan.between(5, 13))
                offset = edge + side * (4.0 + plan.between(0.5, 5) + size[1] / 2)
                middle = distance + size[0] / 2
                if room(middle, offset) > float(np.hypot(size[0], size[1])) / 2 + 2.5:
                    plan.add("building", middle, offset, size)
                distance += size[0] + plan.between(1.5, 9)
            else:
                size = (plan.between(2.4, 4.0),) * 2 + (plan.between(4.5, 7.5),)
                offset = edge + side * plan.between(4.2, 8)
                if room(distance, offset) > 4.0:
                    plan.add("tree", distance, offset, size)
                distance += plan.between(5, 12)


_STAGED = {
    "Follow traffic": _follow,
    "Road is clear": _clear,
    "Traffic light is green": _green,
    "Obstacle: car": _car,
    "Obstacle: person": _people,
    "Obstacle: rider": _rider,
    "Obstacle: others": _others,
    "Traffic light is not green": _red,
    "Traffic sign": _traffic_sign,
    "Front car turning left": lambda plan: _turning(plan, 1),
    "On the left-turn lane": _turn_lane,
    "Traffic light allows to turn left": lambda plan: _turn_light(plan, "left"),
    "Front car turning right": lambda plan: _turning(plan, -1),
    "On the right-turn lane": _turn_lane,
    "Traffic light allows to turn right": lambda plan: _turn_light(plan, "right"),
    "Obstacles on the left lane": _closed,
    "No lane on the left": _closed,
    "Solid line on the left": _closed,
    "Obstacles on the right lane": _closed,
    "No lane on the right": _closed,
    "Solid line on the right": _closed,
}
