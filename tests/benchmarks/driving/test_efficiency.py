"""The efficiency table: who is in it, what is counted, and the clock against one that is known."""

import json
import time
from pathlib import Path

import pytest

from mentorgym.agents import sac
from mentorgym.benchmarks.driving import efficiency

ENV = "fake_drive:FakeDrive-v0"
PUBLISHED = """paper,table,method,benchmark,metric,value,spread,note
Found-RL,8,Found-RL,inference,frames_per_second,500,,
Found-RL,8,Found-RL,inference,parameters_millions,3.82,,
"""


def test_agents_and_mentors_are_timed_and_written_beside_the_published(fake_drive, capsys: pytest.CaptureFixture):
    Path("published.csv").write_text(PUBLISHED)
    arguments = f"--env {ENV} --agent sac ppo --mentor expert scripted_mentor:Scripted --passes 3 --json"
    arguments += " --published published.csv"
    efficiency.main(arguments.split())
    told = json.loads(capsys.readouterr().out)
    lines = {line["driver"]: line for line in told["lines"]}
    assert {"sac", "ppo", "expert", "scripted_mentor:Scripted"} <= lines.keys()
    policy = sac.Policy(sac.ENCODERS["small"][0](), sac.Actor())
    assert lines["sac"]["parameters"] == sum(each.numel() for each in policy.parameters())
    assert lines["expert"]["parameters"] is None
    assert all(line["passes"] == 3 and line["passes_per_s"] > 0 for line in told["lines"])
    page = Path("runs/efficiency.md").read_text()
    assert "1 thread of torch" in page and f"efficiency {arguments}" in page
    assert "| Found-RL | 3.82 | 500 |" in page


def test_agents_with_the_same_networks_share_a_line():
    names = [name for name, _ in efficiency.policies(["sac", "sac_vmr", "ppo"])]
    assert "sac, sac_vmr" in names and "ppo" in names
    # The published extractor and heads (facts of its code): a deployable actor of about 1.3 to 1.4 million.
    sizes = {name: sum(each.numel() for each in policy.parameters()) for name, policy in efficiency.policies(["sac"])}
    assert 1.2e6 < sizes["sac --preset found-rl"] < 1.5e6


def test_the_rate_is_that_of_the_passes():
    def decide(observation: None) -> None:
        time.sleep(0.01)

    line = efficiency.measure(efficiency.Candidate("sleeper", 0, decide, [None]), 10)
    assert 30 < line["passes_per_s"] <= 100
    assert line["median_ms"] >= 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--agent nobody", "no agent 'nobody': there are"),
        ("--agent sac --mentor exprt --passes 1", "unknown mentor 'exprt'"),
        ("--passes 0", "count from 1"),
    ],
)
def test_a_mistake_ends_with_one_message(fake_drive, arguments: str, message: str):
    with pytest.raises(SystemExit, match=f"efficiency: .*{message}"):
        efficiency.main(["--env", ENV, *arguments.split()])
