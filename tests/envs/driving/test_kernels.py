"""Compiled functions: one signature each, a cache that each edit of a kernel renews, and random numbers by counter."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mentorgym.envs.driving
from mentorgym.envs.driving.kernel import kernel, kernel_modules, kernels_digest
from mentorgym.envs.driving.random import episode_key, mix, random_bits, uniform
from mentorgym.envs.driving.worlds.state import ROUTE_CAPACITY, empty_episode_state, empty_world_state

DRIVING = Path(mentorgym.envs.driving.__file__).parent

INLINED = {"mentorgym.envs.driving.random.random_bits", "mentorgym.envs.driving.random.uniform"}
"""These are compiled for calls from Python alone, of whatever integers."""

DRIVE = """
import importlib, json, pkgutil
import gymnasium, numba, numpy
import mentorgym.envs.driving as driving

for split, town, soft_reset in (("train", "Suburb", 1.0), ("test", "Village", 0.0)):
    task = dict(split=split, town=town, soft_reset=soft_reset, weather="dynamic")
    envs = gymnasium.make_vec("CarlaNoCrash-v0", num_envs=3, **task)
    envs.reset(seed=1)
    ended = 0
    while not ended:
        envs.expert_actions()
        envs.adapter.urgent({})
        _, _, terminated, _, _ = envs.step(numpy.full((3, 2), 1.0, numpy.float32))
        ended += terminated.sum()
    envs.picture(0)
    envs.prompt_context(0)
    envs.set_state(envs.get_state())

def plain(signature):
    return tuple(str(numba.types.unliteral(argument)) for argument in signature)

signatures = {}
for found in pkgutil.walk_packages(driving.__path__, driving.__name__ + "."):
    module = importlib.import_module(found.name)
    for name, function in vars(module).items():
        if hasattr(function, "signatures") and function.__module__ == module.__name__:
            signatures[f"{module.__name__}.{name}"] = sorted(set(map(plain, function.signatures)))
print(json.dumps(signatures))
"""


def differences(signatures: list[list[str]]) -> list[list[str]]:
    """The types that differ, argument by argument, cut short."""
    return [sorted({each[:60] for each in types}) for types in zip(*signatures, strict=True) if len(set(types)) > 1]


@pytest.fixture
def signatures_after_a_drive(request, tmp_path) -> dict[str, list[list[str]]]:
    """The signatures, without literals, of every compiled function in a process that has driven."""
    cache = {"MENTORGYM_CACHE": str(tmp_path)} if request.param == "cold" else {}
    command = [sys.executable, "-c", DRIVE]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **cache})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# With a warm cache only the functions that Python calls are loaded; the others' code is part of theirs.
@pytest.mark.parametrize(
    "signatures_after_a_drive", ["warm", pytest.param("cold", marks=pytest.mark.slow)], indirect=True
)
def test_every_kernel_is_compiled_for_one_signature(signatures_after_a_drive, request):
    """A second signature compiles a kernel twice, and tells of arrays whose types drift."""
    signatures = signatures_after_a_drive
    offenders = {name: differences(each) for name, each in signatures.items() if len(each) > 1 and name not in INLINED}
    assert offenders == {}
    assert len(signatures) == sum(
        path.read_text("utf-8").count(f"\n@{decorator}\n")
        for path in DRIVING.rglob("*.py")
        for decorator in ("kernel", "inner", "inline")
    )
    used = {name for name, each in signatures.items() if each}
    assert used | INLINED == set(signatures) if "cold" in request.node.name else len(used) > 10


# The cache


def kernels_in(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions of a module that are compiled."""
    decorators = {"kernel", "inner", "inline"}
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and decorators & {name.id for name in node.decorator_list if isinstance(name, ast.Name)}
    ]


def test_an_edit_of_a_kernel_module_renews_the_cache_and_no_other_does(tmp_path):
    copy = tmp_path / "driving"
    shutil.copytree(DRIVING, copy, ignore=shutil.ignore_patterns("__pycache__", "*.xodr", "*.csv", "*.xml"))
    before = kernels_digest(copy)
    renewed = set()
    for path in sorted(copy.rglob("*.py")):
        text = path.read_text("utf-8")
        path.write_text(text + "\n# edited\n", "utf-8")
        if kernels_digest(copy) != before:
            renewed.add(path.relative_to(copy).as_posix())
        path.write_text(text, "utf-8")
    assert kernels_digest(copy) == before
    defining = {
        path.relative_to(DRIVING).as_posix()
        for path in DRIVING.rglob("*.py")
        if kernels_in(ast.parse(path.read_text("utf-8")))
    }
    assert defining | {"kernel.py", "record.py", "worlds/state.py", "worlds/simulator/records.py"} == renewed
    assert not renewed & {"vector.py", "env.py", "batch.py", "map/towns/plans.py", "map/towns/writer.py", "map/town.py"}


def test_what_kernels_read_of_other_modules_comes_from_kernel_modules():
    """Constants become part of the code, so that a module that holds one counts for the cache."""
    modules = {
        ".".join(("mentorgym.envs.driving", *path.relative_to(DRIVING).with_suffix("").parts))
        for path in kernel_modules(DRIVING)
    }
    checked = 0
    for path in kernel_modules(DRIVING):
        tree = ast.parse(path.read_text("utf-8"))
        origins = {
            alias.asname or alias.name: node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        # A constant of the module may be made of those of others.
        constants = [node for node in tree.body if isinstance(node, ast.Assign)]
        for part in (*kernels_in(tree), *constants):
            for name in ast.walk(part):
                origin = origins.get(name.id, "") if isinstance(name, ast.Name) else ""
                if origin and origin.startswith("mentorgym.envs"):
                    assert origin in modules, f"{path}: {name.id} of {origin}"
                    checked += 1
    assert checked > 100


def test_progress_of_a_compilation_is_said_and_the_garbage_collector_goes_on(tmp_path):
    program = """
import gc, numpy
from mentorgym.envs.driving.random import mix
mix(numpy.uint64(1))
print(gc.isenabled())
"""
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "MENTORGYM_CACHE": str(tmp_path)},
        )
        assert done.stdout.strip() == "True"
        said.append("compiling the driving kernels, once" in done.stderr)
    assert said == [True, False]


# Records


@kernel
def _write_and_read(world, episode):
    egos = world.ego_control.shape[1]
    for b in range(world.tick.shape[0]):
        world.tick[b] += 1
        for row in range(b * egos, (b + 1) * egos):
            episode.speed_sum[row] += world.vehicle_pose[b, 0, 2]
            episode.collision_position[row, 1] = world.light_elapsed[b, 0]
    return egos


def test_kernels_read_and_write_the_arrays_of_records():
    world, episode = empty_world_state(2, 3, 1, 1, egos=2), empty_episode_state(4)
    world.vehicle_pose[:, 0, 2] = 5.0, 7.0
    world.light_elapsed[:, 0] = 0.25, 0.5
    untouched = {name: array.copy() for name, array in (world._asdict() | episode._asdict()).items()}
    assert _write_and_read(world, episode) == 2
    assert world.tick.tolist() == [1, 1]
    assert episode.speed_sum.tolist() == [5.0, 5.0, 7.0, 7.0]
    assert episode.collision_position[:, 1, 0].tolist() == [0.25, 0.25, 0.5, 0.5]
    for name, array in (world._asdict() | episode._asdict()).items():
        if name not in ("tick", "speed_sum", "collision_position"):
            np.testing.assert_array_equal(array, untouched[name])


def test_a_record_of_zeros_has_the_types_that_its_fields_say():
    world = empty_world_state(2, 3, 0, 1, egos=4)
    assert (world.vehicle_pose.shape, world.vehicle_pose.dtype) == ((2, 4, 4), np.float32)
    assert (world.walker_kind.shape, world.walker_kind.dtype) == ((2, 1), np.uint8)
    assert (world.ego_gear.shape, world.ego_gear.dtype) == ((2, 4), np.int8)
    episode = empty_episode_state(5)
    assert (episode.route_total.shape, episode.route_total.dtype) == ((5,), np.float64)
    assert (episode.route.shape, episode.route.dtype) == ((5, ROUTE_CAPACITY), np.int32)
    assert not any(array.any() or not array.flags.c_contiguous for array in (*world, *episode))


def test_records_of_other_arrays_are_of_another_type():
    world = empty_world_state(2, 3, 1, 1)
    assert numba.typeof(world) == numba.typeof(empty_world_state(5, 9, 2, 4))
    assert numba.typeof(world) != numba.typeof(world._replace(tick=world.tick.astype(np.int64)))
    assert numba.typeof(world) != numba.typeof(world._replace(vehicle_pose=world.vehicle_pose[:, ::2]))


def test_a_kernel_refuses_a_record_without_the_field():
    world = empty_world_state(2, 3, 1, 1)
    with pytest.raises(numba.TypingError, match="speed_sum"):
        _write_and_read(world, world)


# Random numbers


def test_mix_is_splitmix64():
    # The generator's published first outputs from the state 0.
    golden = 0x9E3779B97F4A7C15
    outputs = [int(mix(np.uint64(n * golden % 2**64))) for n in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(st.integers(0, 2**64 - 1), st.integers(0, 255), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_draw_is_a_function_of_its_counters(key, stream, actor, tick):
    arguments = np.uint64(key), stream, actor, tick
    value = random_bits(*arguments)
    assert value == random_bits(*arguments)
    assert value != random_bits(arguments[0], stream, actor + 1, tick)
    assert value != random_bits(arguments[0], stream, actor, tick + 1)
    assert value != random_bits(arguments[0], stream ^ 1, actor, tick)
    assert 0.0 <= uniform(*arguments) < 1.0


def test_uniform_numbers_are_uniform_over_actors_and_ticks():
    by_actor = [uniform(np.uint64(7), 3, n, 0) for n in range(4000)]
    by_tick = [uniform(np.uint64(7), 3, 0, n) for n in range(4000)]
    for values in (by_actor, by_tick):
        counts = np.histogram(values, bins=10, range=(0, 1))[0]
        # Six standard deviations of a count.
        assert np.abs(counts - 400).max() < 6 * np.sqrt(360)
        assert np.abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.1


def test_every_seed_and_episode_has_its_own_key():
    keys = {episode_key(seed, episode) for seed in range(-20, 80) for episode in range(100)}
    assert len(keys) == 100 * 100
    assert all(0 <= key < 2**64 for key in keys)
    assert episode_key(2**64 - 1, 0) == episode_key(-1, 0)
