"""The study of labels: which commands, in which order, each once; that it goes on; its table and plot."""

import functools
import json
import shlex
import threading
from pathlib import Path

import pytest
import tyro

from mentorgym.benchmarks.captions import data as caption_data
from mentorgym.benchmarks.captions import label_efficiency
from mentorgym.benchmarks.captions import measure as captions
from mentorgym.benchmarks.captions.label_efficiency import ALL_LABELS, points
from mentorgym.benchmarks.harness import rows as rows_module
from mentorgym.benchmarks.harness import runner
from mentorgym.benchmarks.harness.agents import load_agent
from mentorgym.benchmarks.harness.rows import read_rows

AGENT = Path(__file__).parents[1] / "drawn_scenes.py"
FLAGS = "--shares 0.05 1 --seeds 1 2 --sft-flags= --contrast-flags= --contrast-steps 7 --pairs-flags= --workers 2"


@pytest.fixture
def commands(drawn_captions, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that were run: the agent of the drawn scenes stands for all of them.

    It knows a reason more for each stage that it has gone through, and some for the share.
    """
    ran: list[str] = []
    monkeypatch.setattr(label_efficiency, "AGENTS", dict.fromkeys(label_efficiency.AGENTS, str(AGENT)))

    def process(self: runner.Runner, arguments: list[str], log: Path, cores: set[int]) -> None:
        ran.append(shlex.join(arguments))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        if arguments[0] == "caption-data":
            caption_data.write(tyro.cli(caption_data.Args, args=arguments[1:]))
        elif arguments[0] == "evaluate":
            args = tyro.cli(captions.Args, args=[*arguments[1:], "--driver", str(AGENT)])
            captions.measure(args, runner.as_shell(arguments))
        else:
            args = tyro.cli(drawn_captions.Args, args=arguments[2:])
            assert "fail" not in arguments
            (drawn_captions.train(args) / "model").mkdir(exist_ok=True)

    alone = threading.Lock()  # What are processes of their own must not meet in one.

    def one_by_one(*arguments) -> None:
        with alone:
            process(*arguments)

    monkeypatch.setattr(runner.Runner, "process", one_by_one)
    monkeypatch.setattr(label_efficiency, "open_agent", functools.cache(load_agent))
    # Asking git for the commit of each row takes longer than all the rest.
    start = rows_module.describe_start()
    for module in (rows_module, caption_data):
        monkeypatch.setattr(module, "describe_start", lambda: start)
    monkeypatch.setattr(caption_data, "load_scenes", lambda *which, **more: drawn_captions.DrawnScenes())
    return ran


def test_each_share_and_seed_is_learned_in_each_way_and_what_is_shared_is_made_once(
    commands, capsys: pytest.CaptureFixture[str]
):
    label_efficiency.main(FLAGS.split())
    assert len(commands) == len(set(commands))
    counts = {name: sum(command.startswith(name) for command in commands) for name in ("caption-data", "evaluate")}
    # 5 % has 5 rows, all labels have 3; 2 seeds.
    assert counts == {"caption-data": 4, "evaluate": 16}
    trained = [command for command in commands if command.startswith(f"train {AGENT}")]
    # Rewards in two steps, starts, RLOO (at 5 % twice) and stage 2 likewise.
    assert len(trained) == 2 * (4 + 2 + 3 + 3)
    rows = read_rows(Path("runs/label_efficiency.jsonl"))
    every = {"sft", "sft, rloo", "sft, rloo, action sft"}
    marked = {f"sft, rloo{ALL_LABELS}", f"sft, rloo, action sft{ALL_LABELS}"}
    assert sorted((row["label_share"], row["driver"], row["training_seed"]) for row in rows) == sorted(
        (share, name, seed)
        for seed in (1, 2)
        for share, names in ((0.05, every | marked), (1.0, every))
        for name in names
    )
    data = [command for command in commands if command.startswith("caption-data")]
    commands.clear()
    capsys.readouterr()
    label_efficiency.main([*FLAGS.split(), "--json"])
    assert sorted(commands) == sorted(data), "the second time the data are checked, and there is nothing to do"
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])["parts"].values()) == {"skipped"}
    page = Path("runs/label_efficiency.md").read_text()
    assert "| 5% | sft | " in page
    assert "| - | majority | " in page
    assert Path("runs/label_efficiency.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_other_flags_stay_in_the_file_and_out_of_the_table(commands):
    flags = [*FLAGS.split(), "--shares", "1", "--seeds", "1"]
    rows, page = Path("runs/label_efficiency.jsonl"), Path("runs/label_efficiency.md")
    label_efficiency.main(flags)
    before, first = read_rows(rows), page.read_text()
    for more in (["--limit", "21"], ["--sft-steps", "9"]):
        label_efficiency.main([*flags, *more])
        lines = page.read_text().splitlines()
        assert [line.split(" | ")[-1] for line in lines if line.startswith("| 100%")] == ["1 |"] * 3
        assert ("21 test scenes" in page.read_text()) == ("--limit" in more)
    assert len(read_rows(rows)) == 9
    assert all(row in read_rows(rows) for row in before)
    label_efficiency.main(flags)
    assert page.read_text() == first


def test_labels_of_other_data_of_the_same_name_are_not_taken(commands, capsys: pytest.CaptureFixture[str]):
    flags = [*FLAGS.split(), "--shares", "1", "--seeds", "1"]
    label_efficiency.main([*flags, "--data", "a/bdd"])
    commands.clear()
    with pytest.raises(SystemExit):
        label_efficiency.main([*flags, "--data", "b/bdd"])
    assert "captions/bdd_100_percent_seed1 holds data with another data" in capsys.readouterr().out
    assert len(commands) == 1, "nothing is trained on them"
    label_efficiency.main([*flags, "--data", "b/bdd", "--shards", "other"])


def test_rewards_learn_from_the_share_alone_but_in_the_marked_curve(commands):
    label_efficiency.main([*FLAGS.split(), "--shares", "0.05", "--seeds", "1"])
    learned = [shlex.split(command) for command in commands if "model=" in command]
    rewards = [command[command.index("--env-args") + 2] for command in learned]
    assert len(set(rewards)) == 2
    configs = [
        json.loads((Path(reward.removeprefix("model=")).parent / "config.json").read_text()) for reward in rewards
    ]
    assert [config["args"]["data"] for config in configs] == [
        "captions/staged_5_percent_seed1",
        "captions/staged_100_percent_seed1",
    ]


def test_a_reward_model_of_all_labels_can_be_brought_along(commands):
    label_efficiency.main([*FLAGS.split(), "--seeds", "1", "--all-labels-reward", "tuned"])
    rewards = [command.split("model=")[1].split()[0] for command in commands if "model=" in command]
    assert sorted(reward == "tuned" for reward in rewards) == [False, True, True], "5 % twice, and all labels"
    assert sum("--loss pairs" in command for command in commands) == 1


def test_flags_that_an_agent_lacks_are_told_before_anything_is_run(commands):
    with pytest.raises(SystemExit, match="(?s)rloo: .*nonsense"):
        label_efficiency.main([*FLAGS.split(), "--rloo-flags=--nonsense 1"])
    assert commands == []


def test_a_part_that_fails_is_told_and_the_others_go_on(commands, capsys: pytest.CaptureFixture[str]):
    Path("captions").mkdir()
    Path("captions/staged_5_percent_seed1").write_text("in the way of the data")
    with pytest.raises(SystemExit) as failure:
        label_efficiency.main([*FLAGS.split(), "--seeds", "1"])
    assert failure.value.code == 1
    assert "failed: share0.05_seed1" in capsys.readouterr().out
    assert len(read_rows(Path("runs/label_efficiency.jsonl"))) == 3


def test_a_dry_run_of_the_agents_own_commands_names_every_flag_that_they_have(capsys: pytest.CaptureFixture[str]):
    label_efficiency.main(["--dry-run", "--shares", "0.01", "--seeds", "7"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mentorgym caption-data --data staged --split train --share 0.01")
    programs = [line.split()[1 + line.startswith("mentorgym train")] for line in lines]
    counts = {"caption-data": 2, "clip_finetune": 4, "sft": 1, "rloo": 2, "action_sft": 2, "evaluate": 5}
    assert {name: programs.count(name) for name in counts} == counts
    assert all("--seed 7" in line for line in lines if line.startswith("mentorgym train"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--shares 0", "more than 0"),
        ("--shares 2", "at most 1"),
        ("--seeds 1 1", "different"),
        ("--workers 0", "at least"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: str, reason: str):
    with pytest.raises(SystemExit, match=reason):
        label_efficiency.main(arguments.split())


def test_all_labels_are_a_point_of_either_curve_of_a_method():
    def row(driver: str, share: float, value: float) -> dict:
        return {"driver": driver, "label_share": share, "score": {"exact": value}}

    rows = [row("sft, rloo", 1.0, 0.9), row("sft, rloo", 0.1, 0.2), row(f"sft, rloo{ALL_LABELS}", 0.1, 0.5)]
    assert points(rows, "sft, rloo", "exact") == [(0.1, [0.2]), (1.0, [0.9])]
    assert points(rows, f"sft, rloo{ALL_LABELS}", "exact") == [(0.1, [0.5]), (1.0, [0.9])]
