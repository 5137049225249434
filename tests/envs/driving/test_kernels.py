"""Compiled functions: one signature each, and random numbers that depend on their counters alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mentorgym.envs.driving
from mentorgym.envs.driving.kernel import draw, episode_key, mix, uniform

ANY_INTEGERS = {"mentorgym.envs.driving.kernel.draw", "mentorgym.envs.driving.kernel.uniform"}
"""These convert their arguments themselves, and are too small for their signatures to cost anything."""

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
    offenders = {
        name: differences(each) for name, each in signatures.items() if len(each) > 1 and name not in ANY_INTEGERS
    }
    assert offenders == {}
    assert len(signatures) == sum(
        path.read_text("utf-8").count("\n@kernel\n") + path.read_text("utf-8").count("\n@inner\n")
        for path in Path(mentorgym.envs.driving.__file__).parent.rglob("*.py")
    )
    used = [name for name, each in signatures.items() if each]
    assert len(used) == len(signatures) if "cold" in request.node.name else len(used) > 10


# Random numbers


def test_mix_is_splitmix64():
    # The generator's published first outputs from the state 0.
    golden = 0x9E3779B97F4A7C15
    outputs = [int(mix(np.uint64(n * golden % 2**64))) for n in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(st.integers(0, 2**64 - 1), st.integers(0, 255), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_draw_is_a_function_of_its_counters(key, stream, actor, tick):
    arguments = np.uint64(key), stream, actor, tick
    value = draw(*arguments)
    assert value == draw(*arguments)
    assert value != draw(arguments[0], stream, actor + 1, tick)
    assert value != draw(arguments[0], stream, actor, tick + 1)
    assert value != draw(arguments[0], stream ^ 1, actor, tick)
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
