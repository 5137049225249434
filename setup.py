"""Map the folders of the repository to packages: `envs/driving` is `mentorgym.envs.driving`, and so on for each floor.

The rest of the build is in pyproject.toml. The packages are collected, because a list kept by hand drops a new folder
from the wheel without a word.
"""

from setuptools import find_packages, setup

FLOORS = ("mentors", "envs", "wrappers", "agents", "benchmarks")

packages = ["mentorgym"]
for floor in FLOORS:
    packages += [f"mentorgym.{floor}", *(f"mentorgym.{floor}.{package}" for package in find_packages(floor))]

setup(
    packages=packages,
    package_dir={"mentorgym": "src/mentorgym", **{f"mentorgym.{floor}": floor for floor in FLOORS}},
)
