"""Write the towns beside this file: `mentorgym write-towns [--check]`."""

import argparse
import sys
from pathlib import Path

from mentorgym.envs.driving.map.towns.plans import TOWNS
from mentorgym.envs.driving.map.towns.writer import town_xml


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the files, or with ``--check`` only compare them; returns 1 if that finds a difference, else 0."""
    parser = argparse.ArgumentParser(
        prog="mentorgym write-towns", description="Write our towns as OpenDRIVE files, where the package has them."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    check = parser.parse_args(arguments).check
    stale = 0
    for town in TOWNS:
        path, text = Path(__file__).with_name(f"{town.name}.xodr"), town_xml(town)
        if check and (not path.is_file() or path.read_bytes() != text):
            print(f"{path.name} differs; rewrite it with mentorgym write-towns")
            stale = 1
        elif not check:
            path.write_bytes(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())
