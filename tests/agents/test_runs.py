"""A run's folder tells everything about the run, and survives being killed."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from mentorgym.agents import drqv2_awag, ppo, sac, sac_awag, sac_vmr, td3
from mentorgym.agents.toolbox import METRICS, Run, make_envs
from mentorgym.agents.toolbox.runs import (
    drop_half_line,
    flatten_optimizer,
    parse_keywords,
    policy_step,
    random_states,
    restore_optimizer,
    restore_random_states,
)

CLOCKS = ("seconds", "speed/steps_per_s", "speed/updates_per_s")


def read_metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_clocks(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def test_a_finished_folder_is_complete(agent, short_run):
    name = agent.__name__.split(".")[-1]
    folder = agent.train(short_run)
    # SAC's learning rate does not fall, so that a longer run can go on from its last checkpoint.
    assert sorted(path.name for path in folder.iterdir()) == [
        *(["checkpoints"] if agent is sac else []),
        "config.json",
        "done",
        "metrics.jsonl",
        "policy.safetensors",
    ]
    assert folder.parent == Path(short_run.runs) / "ToyRoad-v0"
    assert folder.name.startswith(f"{name}__seed0__")
    config = json.loads((folder / "config.json").read_text())
    assert config["agent"] == name
    assert config["args"] == json.loads(json.dumps(dataclasses.asdict(short_run)))
    (start,) = config["starts"]
    assert start.keys() == {"time", "commit", "dirty", "versions", "hardware"}
    assert start["versions"]["torch"] == torch.__version__
    assert start["hardware"]["cores"] == os.cpu_count()
    assert json.loads((folder / "done").read_text())["step"] == short_run.total_steps


def test_metrics_are_published_keys_at_the_asked_steps(short_flags):
    scored = short_flags(sac, clip_reward="toy_road:scorer")
    runs = [
        sac.train(scored),
        ppo.train(short_flags(ppo)),
        sac_vmr.train(short_flags(sac_vmr)),
        drqv2_awag.train(short_flags(drqv2_awag)),
    ]
    written = set()
    for rows in map(read_metrics, runs):
        written |= set().union(*rows)
        assert [row["step"] for row in rows if "speed/steps_per_s" in row] == [40, 80, 120, 160]
        episodes = [row for row in rows if "episode/return" in row]
        assert episodes
        assert all(1 <= row["episode/length"] <= 20 for row in episodes)
        assert {row["episode/end"] for row in episodes} <= {"lateral deviation"}
    # The rest is what the trainers of mentors write, the agents that write about scenes, and RLS3.
    others = ("heldout/", "validation/", "reward/", "text/", "sampling/", "test/")
    trainers = {name for name in METRICS if name.startswith(others)} | {
        "loss/tuning",
        "speed/samples_per_s",
        "loss/answer",
        "loss/contrastive",
        "loss/anchors",
        "loss/pairs",
    }
    assert written == METRICS.keys() - trainers


def test_an_agent_of_ones_own_logs_what_it_likes(short_sac):
    run = Run("mine", short_sac)
    run.log(1, {"losses/mine": np.float32(0.5)})
    assert read_metrics(run.folder)[0]["losses/mine"] == 0.5


def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(agent, short_run, tmp_path):
    first, again, other = (
        without_clocks(read_metrics(agent.train(dataclasses.replace(short_run, runs=str(tmp_path / name), seed=seed))))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first != other


def test_the_folder_follows_the_flags_that_change_the_result(short_sac):
    folder = Run("sac", short_sac).folder
    assert Run("sac", dataclasses.replace(short_sac, torch_threads=2)).folder == folder
    assert Run("sac", dataclasses.replace(short_sac, gamma=0.9)).folder != folder
    assert Run("sac", dataclasses.replace(short_sac, seed=1)).folder.name.split("__")[2] == folder.name.split("__")[2]


def test_a_killed_command_resumes_and_loses_no_metric(agent, short_run):
    args = dataclasses.replace(short_run, total_steps=480, checkpoint_every=120)
    command = [sys.executable, agent.__file__, "--env-args", *args.env_args]
    for flag in dataclasses.fields(args):
        value = getattr(args, flag.name)
        if flag.name not in ("env_args", "resume") and value != flag.default:
            command += [f"--{flag.name.replace('_', '-')}", str(value)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    folder = Run(agent.__name__.split(".")[-1], args).folder
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (list(folder.glob("checkpoints/0*")) and read_complete(folder)[-1]["step"] > 160):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline, "training wrote no checkpoint"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (folder / "metrics.jsonl").read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    (checkpoint,) = sorted(folder.glob("checkpoints/0*"))[-1:]
    assert int(checkpoint.name) % 120 == 0

    assert agent.train(args) == folder
    assert (folder / "metrics.jsonl").read_bytes().startswith(whole)
    rows = read_metrics(folder)
    resumed = [row for row in rows if row["resumes"] == 1]
    assert resumed[0]["seconds"] > json.loads(whole.splitlines()[0])["seconds"]
    steps = {row["step"] for row in rows if "speed/steps_per_s" in row}
    assert steps == set(range(40, 481, 40))
    assert min(row["step"] for row in resumed) > int(checkpoint.name)
    assert (folder / "done").exists()
    assert len(json.loads((folder / "config.json").read_text())["starts"]) == 2  # killed, resumed


def read_complete(folder: Path) -> list[dict]:
    path = folder / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines] or [{"step": 0}]


def test_a_finished_run_says_so_and_leaves_everything_alone(agent, short_run, capsys):
    folder = agent.train(short_run)

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = content()
    assert agent.train(short_run) == folder
    assert "is done" in capsys.readouterr().out
    assert content() == before


def test_no_resume_starts_over(agent, short_run):
    folder = agent.train(short_run)
    (folder / "eval.jsonl").write_text("{}\n")
    assert agent.train(dataclasses.replace(short_run, resume=False)) == folder
    assert not (folder / "eval.jsonl").exists()
    assert all(row["resumes"] == 0 for row in read_metrics(folder))


def test_a_checkpoint_restores_networks_optimizers_buffer_and_randomness(short_sac, toy_road):
    def parts(seed: int):
        torch.manual_seed(seed)
        networks = sac.Networks("small", 0.1)
        envs = make_envs(toy_road, 2, ())
        buffer = sac.ReplayBuffer(100, 2, seed)
        observations, _ = envs.reset(seed=seed)
        buffer.start(observations)
        for _ in range(10):
            actions = sac.warm_up_actions(2)
            observations, rewards, terminated, truncated, infos = envs.step(actions)
            buffer.add(actions, rewards, terminated, truncated, observations, infos.get("final_obs"))
        return networks, sac.make_optimizers(networks, 1e-3), buffer

    def updates(networks, optimizers, buffer):
        return [
            sac.update(networks, optimizers, sac.to_tensors(buffer.sample(8), "cpu"), short_sac)["loss/critic"].item()
            for _ in range(3)
        ]

    saved, loaded = parts(0), parts(1)
    updates(*saved)
    run = Run("sac", short_sac)
    run.save(120, *saved[:2], {"replay": saved[2]})
    expected = updates(*saved)
    again = Run("sac", short_sac)
    assert again.load(*loaded[:2], {"replay": loaded[2]}) == 120
    assert again.resumes == 1
    assert updates(*loaded) == expected


def test_the_random_states_of_gpus_in_use_are_kept(monkeypatch):
    set_to = {}
    states = [torch.arange(16, dtype=torch.uint8), torch.ones(16, dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, number: set_to.update({number: state}))
    saved = random_states()
    expected = torch.rand(3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    restore_random_states(saved)
    assert torch.equal(torch.rand(3), expected)
    assert list(set_to) == [0] and torch.equal(set_to[0], states[0])


@pytest.mark.parametrize(
    ("agent", "flags", "message"),
    [
        (td3, {"policy_delay": 0}, "--policy-delay 0"),
        (sac_awag, {"beta": 0.0}, "--beta 0.0"),
        (drqv2_awag, {"beta": -1.0}, "--beta -1.0"),
        (drqv2_awag, {"noise_end": 0.0}, "--noise-end 0.0"),
    ],
)
def test_a_flag_that_divides_is_above_zero(agent, flags, message, short_flags):
    with pytest.raises(ValueError, match=f"{message}: it has to be above 0"):
        short_flags(agent, **flags)


def parts_of(step: int) -> tuple:
    """Networks with a parameter that is `step`, their optimizers after an update, and a buffer with a row."""
    networks = sac.Networks("small", 0.1)
    optimizers = sac.make_optimizers(networks, 1e-3)
    for optimizer in optimizers.values():
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    with torch.no_grad():
        next(networks.parameters()).fill_(step)
    return networks, optimizers, {"replay": sac.ReplayBuffer(4, 2)}


def checkpoints_of(run: Run) -> list[str]:
    return sorted(path.name for path in (run.folder / "checkpoints").iterdir())


def test_the_two_newest_checkpoints_stay(short_sac):
    run = Run("sac", short_sac)
    for step in (900, 1000, 1100):
        run.save(step, *parts_of(step))
    # What a kill in the middle of writing leaves behind.
    (run.folder / "checkpoints" / "unfinished").mkdir()
    assert checkpoints_of(run) == ["000000001000", "000000001100", "unfinished"]
    assert Run("sac", short_sac).load(*parts_of(0)) == 1100


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = {
    "networks cut off": lambda folder: cut_off(folder / "networks.safetensors"),
    "networks empty": lambda folder: os.truncate(folder / "networks.safetensors", 0),
    "networks of zeros": lambda folder: (folder / "networks.safetensors").write_bytes(bytes(4096)),
    "networks of another kind": lambda folder: shutil.copy(
        folder / "random.safetensors", folder / "networks.safetensors"
    ),
    "no networks": lambda folder: (folder / "networks.safetensors").unlink(),
    "an optimizer cut off": lambda folder: cut_off(folder / "optimizer_actor.safetensors"),
    "random numbers cut off": lambda folder: cut_off(folder / "random.safetensors"),
    "replay cut off": lambda folder: cut_off(folder / "replay" / "replay.safetensors"),
    "no replay": lambda folder: shutil.rmtree(folder / "replay"),
    "state cut off": lambda folder: cut_off(folder / "state.json"),
    "state empty": lambda folder: os.truncate(folder / "state.json", 0),
    "state without a step": lambda folder: (folder / "state.json").write_text("{}"),
    "an empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_older_checkpoint_is_used_where_the_newer_is_damaged(short_sac, capsys, damage):
    run = Run("sac", short_sac)
    for step in (100, 200):
        run.save(step, *parts_of(step))
    DAMAGE[damage](run.folder / "checkpoints" / "000000000200")
    again, parts = Run("sac", short_sac), parts_of(0)
    assert again.load(*parts) == 100
    assert (next(parts[0].parameters()) == 100).all()
    assert "000000000200 cannot be restored: " in capsys.readouterr().err
    again.save(200, *parts)
    assert checkpoints_of(run) == ["000000000100", "000000000200"], "the whole one stays, the damaged one does not"
    assert Run("sac", short_sac).load(*parts_of(0)) == 200


def test_a_run_whose_checkpoints_are_all_damaged_says_so(short_sac):
    run = Run("sac", short_sac)
    for step in (100, 200):
        run.save(step, *parts_of(step))
        cut_off(run.folder / "checkpoints" / f"{step:012d}" / "networks.safetensors")
    with pytest.raises(ValueError, match="no checkpoint in .*checkpoints can be restored .*is cut off.*--no-resume"):
        Run("sac", short_sac).load(*parts_of(0))
    assert Run("sac", dataclasses.replace(short_sac, resume=False)).load(*parts_of(0)) == 0


def test_a_checkpoint_is_on_the_disk_before_it_counts_and_the_older_stays_until_then(short_sac, monkeypatch):
    run = Run("sac", short_sac)
    run.save(100, *parts_of(100))
    folder, synced = run.folder / "checkpoints", set()
    fsync, rename = os.fsync, Path.rename

    def note(handle: int) -> None:
        synced.add(os.path.realpath(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def check(path: Path, target: Path) -> Path:
        written = {str(each) for each in [path, *path.rglob("*")]}
        assert path.name == "unfinished" and written <= synced
        assert (folder / "000000000100" / "state.json").is_file() and not target.exists()
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", check)
    run.save(200, *parts_of(200))
    assert str(folder) in synced, "the new name, too"


def test_a_checkpoint_at_the_step_of_the_last_one_takes_its_place(short_sac):
    run = Run("sac", short_sac)
    for step, value in ((100, 1), (200, 2), (200, 3)):
        run.save(step, *parts_of(value))
    parts = parts_of(0)
    assert Run("sac", short_sac).load(*parts) == 200
    assert (next(parts[0].parameters()) == 3).all()
    assert checkpoints_of(run) == ["000000000200"]


def test_a_policy_that_is_cut_off_is_named(short_sac):
    folder = sac.train(short_sac)
    cut_off(folder / "policy.safetensors")
    with pytest.raises(ValueError, match=r"policy.safetensors is cut off: .* fetch it again"):
        sac.load_policy(folder)
    assert policy_step(folder) is None


def test_half_a_line_is_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    drop_half_line(path)
    assert path.read_text() == '{"step": 1}\n'


def test_an_optimizer_survives_flattening():
    def optimizer_after(steps: int):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            layer(torch.ones(1, 3)).sum().backward()
            optimizer.step()
        return optimizer

    old, new = optimizer_after(3), optimizer_after(0)
    restore_optimizer(new, flatten_optimizer(old))
    torch.testing.assert_close(new.state_dict(), old.state_dict())


def test_keywords_are_literals_or_strings():
    assert parse_keywords(("town=Suburb", "soft_reset=0.25", "routes=None", "traffic=(3, 4)")) == {
        "town": "Suburb",
        "soft_reset": 0.25,
        "routes": None,
        "traffic": (3, 4),
    }


@pytest.mark.parametrize("assignment", ["town", "=Suburb", "a town=Suburb"])
def test_a_malformed_keyword_is_refused(assignment):
    with pytest.raises(ValueError, match="keyword=value"):
        parse_keywords((assignment,))


def test_an_unknown_environment_is_one_clear_error(agent, short_run):
    with pytest.raises(gym.error.NameNotFound, match="CarlaNoCrush"):
        agent.train(dataclasses.replace(short_run, env_id="CarlaNoCrush-v0", env_args=()))
    assert not Path(short_run.runs).exists()


def test_an_environment_with_other_spaces_is_refused():
    with pytest.raises(ValueError, match="CartPole-v1 has observations .* agents need bev"):
        make_envs("CartPole-v1", 1, ())


class PlainEnv(gym.Env):
    """An environment with no vector form; its masks are empty."""

    observation_space = gym.spaces.Dict(
        bev=gym.spaces.Box(0, 255, (15, 96, 96), np.uint8), state=gym.spaces.Box(-np.inf, np.inf, (10,), np.float32)
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"bev": np.zeros((15, 96, 96), np.uint8), "state": np.zeros(10, np.float32)}, {}

    def step(self, action):
        return self.reset()[0], 0.0, True, False, {}


def test_an_environment_without_a_vector_form_gets_same_step_autoreset(monkeypatch):
    monkeypatch.setitem(gym.registry, "Plain-v0", gym.envs.registration.EnvSpec("Plain-v0", entry_point=PlainEnv))
    envs = make_envs("Plain-v0", 2, ())
    assert envs.metadata["autoreset_mode"] is gym.vector.AutoresetMode.SAME_STEP
    envs.reset(seed=0)
    assert "final_obs" in envs.step(np.zeros((2, 2), np.float32))[4]
    envs.close()
