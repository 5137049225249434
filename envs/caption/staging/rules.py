"""Which actions and reasons are true of a staged scene, from what stands where.

Own lane means within 1.5 m of the middle of the ego's lane.

- Obstacle: car: a vehicle in the own lane whose near end is less than 7 m ahead and that is not turning off.
- Obstacle: person, rider: one of them in the own lane less than 11 m ahead.
- Obstacle: others: cones, crates, tyres, a trunk or a barrier in the own lane less than 11 m ahead.
- Traffic light is not green, is green, allows to turn left or right: a signal with that lamp. Traffic sign: one stands
  beside the lane.
- Front car turning left or right: a vehicle in the own lane less than 12 m ahead with that blinker.
- On the left-turn or right-turn lane: the own lane bears that arrow.
- Follow traffic: a vehicle in the own lane between 7 and 25 m ahead, and no reason to stop.
- Road is clear: nothing in the own lane less than 25 m ahead, and no reason to stop, no signal and no turn arrow.
- No lane on a side: no lane of the ego's direction lies there. Solid line: one does, behind a solid or double line.
  Obstacles on the lane: one does, behind a dashed line, and a vehicle, a rider, a person or clutter is on it less than
  15 m ahead.

Stop is possible with any of the obstacles, a light that is not green, or a sign. Forward is possible where stop is not
and the way is straight: traffic to follow, a clear road, or a green light. Left is possible with a free lane there or
one of the three reasons to turn left, and right likewise; a side's closure is named only where the side is not
possible. Where a closed lane leaves one side open, it is a way around and no reason to stop.
"""

import numpy as np

from mentorgym.envs.caption.language import REASONS
from mentorgym.envs.caption.staging.records import Record, Thing

_VEHICLES = ("car", "van", "truck")
_RIDERS = ("bicycle", "motorbike")
_CLUTTER = ("cone", "crate", "tyres", "trunk", "barrier")
_BLOCKING = (*_VEHICLES, *_RIDERS, *_CLUTTER, "person")
_INDEX = {name: index for index, name in enumerate(REASONS)}


def _place(record: Record, thing: Thing) -> tuple[float, float, float]:
    """A thing's nearest point along the street, and the range of its offsets, m."""
    street = record.street
    gaps = ((street.course[:, :2] - thing.position[:2]) ** 2).sum(1)
    k = int(gaps.argmin())
    yaw = street.heading(float(street.distances[k]))
    dx, dy = thing.position[0] - street.course[k, 0], thing.position[1] - street.course[k, 1]
    turn = thing.yaw - yaw
    along = abs(np.cos(turn)) * thing.size[0] + abs(np.sin(turn)) * thing.size[1]
    across = abs(np.sin(turn)) * thing.size[0] + abs(np.cos(turn)) * thing.size[1]
    distance = float(street.distances[k]) + dx * np.cos(yaw) + dy * np.sin(yaw)
    offset = dy * np.cos(yaw) - dx * np.sin(yaw)
    return float(distance - along / 2), float(offset - across / 2), float(offset + across / 2)


def labels_of(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Actions bool [4] and reasons bool [21] of a scene, by the rules above."""
    found = np.zeros(len(REASONS), bool)
    spans = [(thing, *_place(record, thing)) for thing in record.things]
    own = [(thing, near) for thing, near, low, high in spans if near > 0 and low < 1.5 and high > -1.5]
    turning = [
        thing for thing, near in own if thing.kind in _VEHICLES and thing.state in ("left", "right") and near < 12
    ]
    for thing in turning:
        found[_INDEX[f"Front car turning {thing.state}"]] = True
    for thing, near in own:
        if thing.kind in _VEHICLES and thing.state not in ("left", "right"):
            found[_INDEX["Obstacle: car"]] |= near < 7
            found[_INDEX["Follow traffic"]] |= 7 <= near < 25
        found[_INDEX["Obstacle: person"]] |= thing.kind == "person" and near < 11
        found[_INDEX["Obstacle: rider"]] |= thing.kind in _RIDERS and near < 11
        found[_INDEX["Obstacle: others"]] |= thing.kind in _CLUTTER and near < 11
    lamps = {thing.state for thing in record.things if thing.kind == "light"}
    found[_INDEX["Traffic light is green"]] = "green" in lamps
    found[_INDEX["Traffic light is not green"]] = bool(lamps & {"red", "yellow"})
    for side in ("left", "right"):
        found[_INDEX[f"Traffic light allows to turn {side}"]] = side in lamps
    found[_INDEX["Traffic sign"]] = any(thing.kind == "sign" for thing in record.things)
    (lane,) = (lane for lane in record.street.lanes if lane.offset == 0)
    for side in ("left", "right"):
        found[_INDEX[f"On the {side}-turn lane"]] = lane.arrow == side

    open_sides = {}
    for side, sign in (("left", 1), ("right", -1)):
        beside = [other for other in record.street.lanes if other.offset * sign > 0 and other.direction > 0]
        border = [line for line in record.street.lines if line.offset * sign > 0]
        closure = None
        if not beside:
            closure = f"No lane on the {side}"
        elif border[0].kind != "dashed":
            closure = f"Solid line on the {side}"
        else:
            low, high = beside[0].offset - 1.2, beside[0].offset + 1.2
            if any(thing.kind in _BLOCKING and 0 < near < 15 and a < high and b > low for thing, near, a, b in spans):
                closure = f"Obstacles on the {side} lane"
        ways = (f"Front car turning {side}", f"On the {side}-turn lane", f"Traffic light allows to turn {side}")
        turn = any(found[_INDEX[name]] for name in ways)
        open_sides[side] = turn or closure is None
        if closure is not None and not turn:
            found[_INDEX[closure]] = True

    others = _INDEX["Obstacle: others"]
    closed = any(thing.kind == "barrier" for thing, _ in own)
    around = closed and any(open_sides.values())
    if around:
        found[others] = any(thing.kind in _CLUTTER and thing.kind != "barrier" and near < 11 for thing, near in own)
    stop = bool(found[3:9].any())
    if stop:
        found[_INDEX["Follow traffic"]] = False
    busy = any(near < 25 and thing.kind not in ("light", "post", "sign") for thing, near in own)
    found[_INDEX["Road is clear"]] = not (stop or busy or lamps or lane.arrow in ("left", "right"))
    forward = not stop and not closed and bool(found[:3].any())
    return np.array([forward, stop, open_sides["left"], open_sides["right"]]), found
