import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.benchmarks.driving.drivers import load_drivers
from mentorgym.benchmarks.harness.agents import agent_names, load_agent, read_training
from mentorgym.benchmarks.harness.command import UsageError


@pytest.fixture
def run_folder(fake_drive, tiny_agent: Path, tmp_path: Path) -> Path:
    """The folder of a finished run of the tiny agent."""
    agent = load_agent(tiny_agent)
    return tmp_path / agent.train(agent.Args(env_id="fake_drive:FakeDrive-v0", seed=3, total_steps=1, horizon=5))


def test_an_agent_is_found_by_name_and_by_path():
    assert "sac" in agent_names()
    assert load_agent("sac") is load_agent(Path(load_agent("sac").__file__))


def test_a_file_outside_the_package_is_loaded_from_where_it_lies(tiny_agent: Path):
    agent = load_agent(tiny_agent)
    assert Path(agent.__file__) == tiny_agent and agent.Args().seed == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sacc", "no agent 'sacc': did you mean 'sac'"),
        ("exprt", "did you mean 'expert'"),
        ("./nowhere.py", "no file nowhere.py"),
    ],
)
def test_an_unknown_agent_gets_the_nearest_name(name: str, message: str):
    with pytest.raises(UsageError, match=message):
        load_drivers(name, [], "cpu")


def test_a_file_may_not_take_the_name_of_a_driver(tmp_path: Path):
    (tmp_path / "expert.py").write_text("")
    with pytest.raises(UsageError, match="has the name of the driver expert: rename"):
        load_agent(tmp_path / "expert.py")


def test_a_file_without_the_contract_is_no_agent(tmp_path: Path):
    (tmp_path / "empty.py").write_text("class Args: pass\n")
    with pytest.raises(UsageError, match="empty.py is no agent: it does not define train"):
        load_agent(tmp_path / "empty.py")


def test_a_trainer_is_not_ranked(tmp_path: Path):
    (tmp_path / "tuner.py").write_text("class Args: pass\ndef train(args): pass\n")
    with pytest.raises(UsageError, match="tuner.py is a trainer: it can be run, but not ranked"):
        load_drivers(str(tmp_path / "tuner.py"), [], "cpu")


@pytest.mark.parametrize(
    ("driver", "runs", "message"),
    [
        ("", [], "nobody to drive"),
        ("sac", [], "give --run FOLDER"),
        ("expert", [Path("somewhere")], "never trained: leave --run out"),
        ("sac", [Path("somewhere")], "somewhere is not the folder of a training run"),
    ],
)
def test_drivers_and_runs_have_to_match(driver: str, runs: list[Path], message: str):
    with pytest.raises(UsageError, match=message):
        load_drivers(driver, runs, "cpu")


def test_a_finished_run_tells_its_training(run_folder: Path, tiny_agent: Path):
    training = read_training(run_folder, load_agent(tiny_agent))
    assert (training.seed, training.steps, len(training.weights)) == (3, 80, 12)
    (driver,) = load_drivers(str(tiny_agent), [run_folder], "cpu")
    assert driver.name == "tiny_agent" and driver.training == training


def test_different_weights_have_different_digests(run_folder: Path):
    before = read_training(run_folder).weights
    np.save(run_folder / "policy.npy", np.ones((2, 11)))
    assert read_training(run_folder).weights != before


def test_a_run_is_ranked_only_when_it_is_finished_and_whole(run_folder: Path):
    (run_folder / "config.json").write_text(json.dumps({"agent": "tiny_agent", "args": {}}))
    with pytest.raises(UsageError, match="KeyError: 'seed'"):
        read_training(run_folder)
    (run_folder / "policy.npy").unlink()
    with pytest.raises(UsageError, match="has no weights"):
        read_training(run_folder)
    (run_folder / "done").unlink()
    with pytest.raises(UsageError, match="is not finished: run its training command again"):
        read_training(run_folder)


def test_a_run_of_an_unknown_agent_asks_for_the_driver(run_folder: Path):
    (run_folder / "config.json").write_text(json.dumps({"args": {"seed": 0}}))
    with pytest.raises(UsageError, match="does not name the agent that trained it: give --driver"):
        load_drivers("", [run_folder], "cpu")
