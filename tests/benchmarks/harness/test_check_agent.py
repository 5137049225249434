"""The check of an agent's file finds what the harness would trip over, and trains nothing for it."""

import json
from pathlib import Path

import pytest

from mentorgym.agents.toolbox import template
from mentorgym.benchmarks.harness import check_agent as command
from mentorgym.benchmarks.harness.check_agent import check_agent

AGENT = '''"""An agent that brakes."""
import dataclasses, json
from pathlib import Path
import numpy as np

@dataclasses.dataclass
class Args:
    """Flags."""

    env_id: str = "FakeDrive-v0"
    """environment"""
    seed: int = 0
    """seed"""
    total_steps: int = 100
    """steps"""
    runs: str = "runs"
    """folder"""

def train(args):
    assert args.total_steps == 0, "nothing is to be trained"
    folder = Path(args.runs) / "brakes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"agent": "brakes", "args": dataclasses.asdict(args)}))
    (folder / "policy.txt").write_text("brake")
    (folder / "done").write_text(json.dumps({"step": 0}))
    return folder

def load_policy(folder, device):
    return lambda observations: np.tile(np.float32([-1, 0]), (len(observations["state"]), 1))

if __name__ == "__main__":
    train(Args())
'''


def problems(tmp_path: Path, source: str) -> list[str]:
    path = tmp_path / "brakes.py"
    path.write_text(source)
    return check_agent(path)


def test_an_agent_without_a_problem(fake_drive, tmp_path):
    assert problems(tmp_path, AGENT) == []
    assert not (tmp_path / "runs").exists()


def test_an_agent_of_another_systems_editor(fake_drive, tmp_path):
    path = tmp_path / "brakes.py"
    path.write_bytes(AGENT.replace("\n", "\r\n").encode("utf-8-sig"))
    assert check_agent(path) == []


def test_the_template_is_an_agent(tmp_path):
    path = tmp_path / "my_agent.py"
    path.write_text(Path(template.__file__).read_text())
    assert check_agent(path) == []


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ('"""An agent that brakes."""', "", "no docstring"),
        ('if __name__ == "__main__":\n    train(Args())\n', "", "no main guard"),
        ("def train(args):", "def train(args", "correct the syntax"),
        ("import numpy as np\n", "import numpyy as np\n", "No module named 'numpyy'"),
        ("def train(args):", "def learn(args):", "does not define train"),
        ("@dataclasses.dataclass\n", "", "Args is no dataclass"),
        ("    seed: int = 0\n", "    sead: int = 0\n", "Args has no seed: add seed: int = 0"),
        ('    """steps"""\n', "", "Args.total_steps has no help"),
        ("def train(args):", "def train(args, more):", "train takes other than one argument"),
        ("def load_policy(folder, device):", "def load_policy(folder):", "define load_policy(folder, device)"),
        ("def load_policy(", "def policy(", "the agent is run, but not ranked"),
        ('"FakeDrive-v0"', '"FakeDriv-v0"', "the environment FakeDriv-v0 cannot be made"),
        ("    return folder\n", "    return str(folder)\n", "return the run's folder, a Path"),
        ('"agent": "brakes"', '"agent": "breaks"', "give the file's name, 'brakes'"),
        ('    (folder / "config.json")', '    (folder / "config.jsn")', "has no config.json"),
        ('    (folder / "policy.txt")', '    (folder / "weights.txt")', "has no weights"),
        ('    (folder / "done")', '    (folder / "don")', "is not finished"),
        ("    folder.mkdir(", "    1 / 0\n    folder.mkdir(", "raises ZeroDivisionError"),
        ("np.float32([-1, 0])", "np.float64([-1, 0])", "return actions float32"),
        ("[-1, 0]", "[-2, 0]", "outside [-1, 1]: clip them"),
        ('observations["state"]', 'observations["stat"]', "its policy raise KeyError"),
        (
            "np.tile(np.float32([-1, 0]), ",
            "np.random.default_rng().random(2, np.float32) * np.ones(",
            "leave exploration out",
        ),
    ],
)
def test_each_problem_is_told_with_its_remedy(line, instead, message, fake_drive, tmp_path):
    assert line in AGENT
    source = AGENT.replace(line, instead)
    if "exploration" in message:
        source = source.replace('(len(observations["state"]), 1))', '(len(observations["state"]), 1), np.float32)')
    found = problems(tmp_path, source)
    assert len(found) >= 1 and any(message in problem for problem in found), found


@pytest.mark.parametrize("name", ["queue.py", "sac.py", "expert.py", "agent.txt"])
def test_a_file_of_a_wrong_name_is_refused(name, tmp_path):
    (tmp_path / name).write_text(AGENT)
    assert len(check_agent(tmp_path / name)) == 1


def test_the_command_prints_problems_and_fails(fake_drive, tmp_path, capsys):
    (tmp_path / "brakes.py").write_text(AGENT)
    command.main([str(tmp_path / "brakes.py")])
    assert capsys.readouterr().out.endswith("brakes.py: no problem found\n")
    with pytest.raises(SystemExit) as end:
        command.main([str(tmp_path / "nothing.py"), "--json"])
    assert end.value.code == 1
    assert "no Python file" in json.loads(capsys.readouterr().out)["problems"][0]
