"""A model alone at the wheel: what it replies is driven, what cannot be read is not made up, and the rows say so."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.agents import vlm_driver
from mentorgym.benchmarks import evaluate
from mentorgym.benchmarks.driving.drivers import load_drivers
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.rows import read_rows

ENV = "fake_drive:FakeDrive-v0"
GO = '{"throttle": 1.0, "steer": 0.0, "brake": 0.0}'
HALF = '{"throttle": 0.5, "steer": 0.25, "brake": 0.0}'


def make_run(*replies: str, **flags) -> Path:
    args = vlm_driver.Args(
        env_id=ENV, mentor="scripted_mentor:Scripted", mentor_args=(f"replies={list(replies)!r}",), **flags
    )
    return vlm_driver.train(args)


def test_it_drives_what_the_model_replies_and_the_rows_say_how_much_could_be_read(fake_drive):
    folder = make_run(GO, "I cannot see", GO, "none")
    arguments = f"--env {ENV} --run {folder} --town Suburb --routes 0 3 --num-envs 1".split()
    evaluate.main(arguments)
    rows = read_rows(folder / "eval.jsonl")
    assert [row["score"]["success"] for row in rows] == [True, True]
    # The last action is repeated, so the car never lifts its foot; every other reply could be read.
    assert all(0.5 <= row["score"]["replies_parsed"] < 0.8 for row in rows)
    assert (rows[0]["driver"].partition("@")[0], rows[0]["training_steps"]) == ("vlm_driver", 0)
    assert rows[0]["training_args"]["mentor"] == "scripted_mentor:Scripted"


def test_the_program_drives_test_routes_and_prints_their_scores(fake_drive, capsys):
    args = vlm_driver.Args(env_id=ENV, mentor="scripted_mentor:Scripted", mentor_args=(f"replies={[GO, 'hm']!r}",))
    folder = vlm_driver.drive(args)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["route 0", "route 1", "all routes"]
    assert all("100% driven, completed" in line for line in lines[:2])
    assert lines[-1].endswith(f"mentorgym evaluate --run {folder}")
    assert [start[1] for start in fake_drive.FakeDrive.started if start[1]] == [1]
    assert vlm_driver.drive(vlm_driver.Args(**vars(args) | {"routes": 0})) == folder
    with pytest.raises(ValueError, match="--routes -1"):
        vlm_driver.drive(vlm_driver.Args(**vars(args) | {"routes": -1}))


def test_without_a_last_action_it_brakes_and_an_episode_begins_without_one(fake_drive):
    policy = vlm_driver.load_policy(make_run("none", HALF, "nothing", prompt="<image>Go."))
    envs = fake_drive.FakeDrive(num_envs=2, observation="state")
    envs.reset()

    def act() -> list[list[float]]:
        return policy.act(envs, {}).tolist()

    for row in range(2):
        policy.start(row, seed=0)
    brake, half = vlm_driver.BRAKE.tolist(), [0.5, 0.25]
    assert act() == [brake, brake]
    assert act() == [half, half]
    policy.start(1, seed=1)
    assert act() == [half, brake]
    assert (policy.report(0), policy.report(1)) == ({"replies_parsed": 1 / 3}, {"replies_parsed": 0.0})
    assert policy.mentor.prompts[:2] == ["<image>Go. row 0, 0.00 m", "<image>Go. row 1, 0.00 m"]


def test_a_run_is_made_once_and_names_model_and_prompt(fake_drive):
    folder = make_run(GO)
    told = json.loads((folder / "policy.json").read_text())
    assert told["mentor"] == "scripted_mentor:Scripted" and "<image>" in told["prompt"]
    assert told["weights"] is None
    written = (folder / "policy.json").stat().st_mtime_ns
    assert make_run(GO) == folder and (folder / "policy.json").stat().st_mtime_ns == written
    assert make_run(HALF) != folder


def test_other_weights_under_the_same_name_are_refused(fake_drive, monkeypatch: pytest.MonkeyPatch):
    weights = Path("weights")
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"one")
    monkeypatch.setattr(vlm_driver, "open_mentor", lambda args, device: None)
    folder = vlm_driver.train(vlm_driver.Args(env_id=ENV, mentor=f"vlm:{weights}"))
    (driver,) = load_drivers("", [folder], "cpu")
    assert driver.observation == "state"
    (weights / "model.safetensors").write_bytes(b"two")
    with pytest.raises(UsageError, match="the weights of vlm:weights have changed"):
        load_drivers("", [folder], "cpu")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mentor": "exprt"}, "unknown mentor 'exprt': did you mean 'expert'"),
        ({"mentor": "expert", "prompt": "Drive."}, "one slot <image>"),
        ({"mentor": "scripted_mentor:Nobody"}, "has no 'Nobody'"),
    ],
)
def test_what_cannot_be_asked_is_told_before_it_drives(fake_drive, flags: dict, message: str):
    with pytest.raises(ValueError, match=message):
        vlm_driver.train(vlm_driver.Args(env_id=ENV, **flags))


def test_the_grid_has_a_reply_for_each_semantic_action(fake_drive, monkeypatch: pytest.MonkeyPatch):
    asked = {}
    monkeypatch.setattr(vlm_driver, "load_mentor", lambda spec, **options: asked.update(options))
    vlm_driver.open_mentor(vlm_driver.Args(score_grid=True), "cuda")
    assert len(asked["answers"]) == 30 and asked["device"] == "cuda"
    assert np.isfinite([json.loads(reply)["throttle"] for reply in asked["answers"]]).all()
    asked.clear()
    vlm_driver.open_mentor(vlm_driver.Args(mentor="http://localhost:8000/v1"), "cuda")
    assert not asked, "where an endpoint's model runs is not for its client to say"


CHAT = "I see 2 cars and 1 walker 30 m ahead"


@pytest.mark.parametrize(("reading", "action"), [("strict", [-1.0, 0.0]), ("first_numbers", [-1.0, 1.0])])
def test_a_chatty_reply_is_driven_only_where_first_numbers_are_wanted(fake_drive, reading, action):
    policy = vlm_driver.load_policy(make_run(CHAT, reading=reading))
    envs = fake_drive.FakeDrive(num_envs=1, observation="state")
    envs.reset()
    policy.start(0, seed=0)
    assert policy.act(envs, {}).tolist() == [action]
    with pytest.raises(ValueError, match="--reading loose: Valid are 'strict', 'first_numbers'"):
        make_run(CHAT, reading="loose")
