"""What a mentor is told of driving, when it is asked out of turn, and what its replies mean."""

import json

import gymnasium as gym
import numpy as np
import pytest

from mentorgym.envs.driving.mentoring import DrivingAdapter, find_urgent
from mentorgym.envs.driving.view import language
from mentorgym.envs.driving.worlds.state import CAR, WALKER, empty_world_state


@pytest.fixture(scope="module")
def envs():
    envs = gym.make_vec("CarlaNoCrash-v0", num_envs=3, town="Village", traffic="regular")
    envs.reset(seed=3)
    for _ in range(30):
        envs.step(envs.unwrapped.expert_actions())
    yield envs.unwrapped
    envs.close()


def test_a_request_holds_picture_prompt_context_and_the_experts_action(envs):
    assert envs.adapter is envs.adapter
    assert envs.adapter.answers == language.grid()
    for row, request in zip([2, 0], envs.adapter.requests([2, 0], ""), strict=True):
        told = envs.prompt_context(row)
        np.testing.assert_array_equal(request.picture, envs.picture(row))
        assert request.picture.shape == envs.adapter.picture_shape
        assert request.prompt == language.fill(language.PROMPT, told)
        assert request.context == language.context(told["command"], told["speed"])
        np.testing.assert_array_equal(request.action, envs.expert_actions()[row])
    (request,) = envs.adapter.requests([1], "<image> {speed:.0f} m/s")
    assert request.prompt == f"<image> {envs.prompt_context(1)['speed']:.0f} m/s"


def test_the_single_environment_has_the_adapter_of_its_one_world():
    env = gym.make("CarlaNoCrash-v0", town="Village", traffic="empty")
    env.reset(seed=3)
    (request,) = env.unwrapped.adapter.requests([0], "")
    np.testing.assert_array_equal(request.picture, env.unwrapped.picture())
    np.testing.assert_array_equal(request.action, env.unwrapped.expert_action())
    env.close()


def test_infractions_and_leaving_the_lane_are_urgent(envs):
    state = envs.get_state()
    calm = [name for name in state if name.startswith("episode.event")] + ["episode.outside", "episode.wrong_lane"]
    still = state | {name: np.zeros_like(state[name]) for name in calm}
    still |= {f"world.{actor}_kind": np.zeros_like(state[f"world.{actor}_kind"]) for actor in ("vehicle", "walker")}
    for name in calm:
        one = still | {name: np.array([0, 1, 0], np.uint8)}
        envs.set_state(one)
        assert envs.adapter.urgent({}).tolist() == [False, True, False], name
    envs.set_state(state)


ACTORS = [
    # actor, its place (ahead, left), its velocity in the ego's frame, whether it is urgent at 5 m/s
    ("vehicle", (19.0, 0.0), (0.0, 0.0), True),  # 19 - 2 - 2 = 15 m, just under 3 s with what follows
    ("vehicle", (19.5, 0.0), (0.0, 0.0), False),
    ("vehicle", (19.0, 2.1), (0.0, 0.0), False),
    ("vehicle", (19.5, 0.0), (-5.0, 0.0), True),
    ("vehicle", (10.0, 0.0), (5.0, 0.0), False),
    ("vehicle", (-8.0, 0.0), (9.0, 0.0), False),
    ("walker", (10.0, 3.0), (0.0, -1.5), True),
    ("walker", (10.0, 3.0), (0.0, 0.0), False),
    ("walker", (10.0, 3.0), (0.0, 1.5), False),
]


@pytest.mark.parametrize("yaw", [0.0, 2.0])
@pytest.mark.parametrize(("actor", "place", "velocity", "urgent"), ACTORS)
def test_what_will_be_hit_within_three_seconds_is_urgent(actor, place, velocity, urgent, yaw):
    world = empty_world_state(2, 3, 2, 0)
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    world.vehicle_half_size[:], world.walker_half_size[:] = (2.0, 1.0, 0.8), (0.25, 0.25, 0.9)
    world.vehicle_kind[:, 0] = CAR
    world.vehicle_pose[:, :, 3] = yaw
    world.vehicle_velocity[:, 0] = (5.0001, 0.0) @ turn
    slot = 1 if actor == "vehicle" else 0
    getattr(world, f"{actor}_kind")[1, slot] = CAR if actor == "vehicle" else WALKER
    getattr(world, f"{actor}_pose")[1, slot, :2] = place @ turn
    getattr(world, f"{actor}_velocity")[1, slot] = velocity @ turn

    def found():
        marked = np.zeros((2, 1), bool)
        find_urgent(world, marked)
        return marked.ravel().tolist()

    assert found() == [False, urgent]
    getattr(world, f"{actor}_pose")[1, slot, 2] = 6.0
    assert found() == [False, False], "on a bridge"


@pytest.mark.parametrize(
    ("feedback", "action"),
    [
        ('{"throttle": 0.5, "steer": -0.25, "brake": 0.0}', (0.5, -0.25)),
        ("I would not know", None),
        (np.array([3.0, -0.5]), (1.0, -0.5)),
        (np.array([np.nan, 0.0]), None),
        (np.zeros(30), None),
    ],
)
def test_a_reply_becomes_an_action_or_nothing(envs, feedback, action):
    made = envs.adapter.to_action(feedback)
    assert (made is None) if action is None else (made.dtype == np.float32 and made.tolist() == pytest.approx(action))


def semantic(action):
    """Found-RL's two labels of an action, by its table of thresholds, float64."""
    throttle, brake, steer = max(action[0], 0.0), max(-action[0], 0.0), action[1]
    if brake > 0.05:
        along = "hard" if brake > 0.5 else "brake"
    else:
        steps = ((0.8, "fast"), (0.3, "normal"), (0.05, "gentle"))
        along = next((name for bound, name in steps if throttle > bound), "idle")
    side = "straight" if abs(steer) < 0.05 else ("right" if steer > 0 else "left")
    return along, f"sharp {side}" if abs(steer) > 0.3 else side


ALONG = ("hard", "brake", "fast", "normal", "gentle", "idle")
SIDES = ("sharp left", "left", "straight", "right", "sharp right")
ALIKE = {("hard", "brake"), ("fast", "normal"), ("normal", "gentle"), ("sharp left", "left"), ("right", "sharp right")}


def alike(one, other):
    return one == other or (one, other) in ALIKE or (other, one) in ALIKE


def test_margins_are_against_the_likeliest_action_that_is_no_neighbour():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (500, 2)) * rng.choice([1.0, 0.2], (500, 2))
    probabilities = rng.dirichlet(np.full(30, 0.2), 500)
    expected, order = [], [(a, s) for a in ALONG for s in SIDES]
    for action, row in zip(actions[::2], probabilities[::2], strict=True):
        row[order.index(semantic(action))] += rng.random()
    for action, row in zip(actions, probabilities, strict=True):
        along, side = semantic(action)
        told = dict(zip(order, row, strict=True))
        unlike = [p for (a, s), p in told.items() if not (alike(a, along) and alike(s, side))]
        expected.append(max(0.0, told[along, side] - max(unlike)))
    margins = DrivingAdapter.margins(None, probabilities, actions)
    assert margins.dtype == np.float32 and np.count_nonzero(margins) > 100
    np.testing.assert_allclose(margins, expected, atol=1e-6)


def test_answers_of_the_experts_action_come_back():
    reply = language.answer(np.array([-0.3, 0.126]))
    assert json.loads(reply) == {"throttle": 0.0, "steer": 0.13, "brake": 0.3}
    np.testing.assert_allclose(language.to_action(reply), [-0.3, 0.13], atol=1e-6)
