"""Writes the 25 fixed NoCrash routes of our towns: `python -m mentorgym.envs.driving.towns.write_routes [--check]`.

Their lengths follow those of the routes they stand for: the quartiles of NoCrash's 25 routes in CARLA's Town01 and
Town02, planned on those maps. Starts and goals are spawn points, and no two routes share both start and goal lane.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mentorgym.envs.driving.frames import to_carla
from mentorgym.envs.driving.routes import RouteError, plan_route
from mentorgym.envs.driving.town import load_town

ROUTES = 25

QUARTILES = {"Suburb": (259, 508, 686, 811, 1199), "Village": (173, 243, 342, 435, 688)}
"""Metres: shortest, quartiles and longest of the NoCrash routes in Town01 and Town02."""

TOLERANCE = 0.05
"""Share by which a route's length may miss its quantile."""

SEED = 1


def routes_csv(name: str) -> str:
    """The route file of one of our towns, in CARLA's frame."""
    town = load_town(name)
    tables = town.tables
    spawns = [
        int(tables.lane_first[lane] + s / tables.lane_step[lane])
        for lane, s in zip(tables.spawn_lane, tables.spawn_s, strict=True)
    ]
    rng = np.random.default_rng(SEED)
    shares = (np.arange(ROUTES) + 0.5) / ROUTES
    lengths = rng.permutation(np.interp(shares, np.linspace(0, 1, 5), QUARTILES[name]))
    lines = ["route,start_x_m,start_y_m,start_yaw_deg,goal_x_m,goal_y_m,goal_yaw_deg"]
    taken = set()
    for wanted in lengths:
        while True:
            start, goal = (spawns[k] for k in rng.integers(len(spawns), size=2))
            pair = (tables.waypoint_lane[start], tables.waypoint_lane[goal])
            if pair in taken or pair[0] == pair[1]:
                continue
            try:
                route = plan_route(town, [start, goal])
            except RouteError:
                continue
            metres = np.linalg.norm(np.diff(tables.waypoint_pose[route, :2], axis=0), axis=1).sum()
            if abs(metres - wanted) <= TOLERANCE * wanted:
                break
        taken.add(pair)
        numbers = []
        for end in (start, goal):
            x, y, _, yaw = tables.waypoint_pose[end].astype(np.float64)
            numbers += to_carla(x + town.origin[0], y + town.origin[1], yaw)
        lines.append(f"{len(lines) - 1}," + ",".join(f"{number:.3f}" for number in numbers))
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the files beside this one; with --check, say which would change and return 1 if any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    check = parser.parse_args(arguments).check
    stale = []
    for name in QUARTILES:
        path = Path(__file__).parent / f"nocrash_{name}.csv"
        text = routes_csv(name)
        if not path.is_file() or path.read_text("utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, "utf-8")
    if stale:
        print(("would change: " if check else "written: ") + ", ".join(stale))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
