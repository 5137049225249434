"""Writes the suites beside this file: `mentorgym write-suites [--check]`.

Each route of a benchmark is driven once in Found-RL's weathers of training ("train_eval", seed 0) and once in new ones
("new", seed 1); odd routes take the second weather of the two. NoCrash has four levels of traffic, the Leaderboard one.
The weather is a label in the embedded world, so what the two rounds differ in there is the traffic.

Found-RL draws its episodes at random: 80 on NoCrash, 20 for each of two towns and two groups of weathers, in "busy"
traffic; 168 on the Leaderboard, 12 for each of seven sets of routes and two groups.
"""

import argparse
import sys
from pathlib import Path

from mentorgym.envs.driving.map.town import load_town, packaged_towns
from mentorgym.envs.driving.task.suites import BENCHMARKS, COLUMNS
from mentorgym.envs.driving.task.tasks import LEADERBOARD, TRAFFIC, WEATHER_GROUPS, packaged_routes

ROUNDS = ("train_eval", "new")
"""Groups of weathers; their places are the seeds."""

SUITES = {
    "nocrash": ("CarlaNoCrash-v0", ("Suburb", "Village"), tuple(TRAFFIC)),
    "leaderboard": ("CarlaLeaderboard-BEV-v0", LEADERBOARD.test_towns, (LEADERBOARD.test_level,)),
}


def suite_csv(name: str) -> str:
    """The file of one of our suites."""
    env, towns, levels = SUITES[name]
    lines = [",".join(COLUMNS)]
    for town in towns:
        count = len(packaged_routes(load_town(town), packaged_towns()[town], BENCHMARKS[env]) or ())
        for level in levels:
            for seed, group in enumerate(ROUNDS):
                weathers = WEATHER_GROUPS[group]
                lines += [
                    f"{env},{town},{route},{level},{weathers[route % len(weathers)]},{seed}" for route in range(count)
                ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the files; with --check, say which would change and return 1 if any."""
    parser = argparse.ArgumentParser(prog="mentorgym write-suites", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    check = parser.parse_args(arguments).check
    stale = []
    for name in SUITES:
        path, text = Path(__file__).with_name(f"{name}.csv"), suite_csv(name)
        if not path.is_file() or path.read_text("utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, "utf-8")
    if stale:
        print(("would change: " if check else "written: ") + ", ".join(stale))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
