"""BDD-OIA's own files through every command: a miniature in each of its layouts, from annotations to tables."""

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mentorgym import cli
from mentorgym.agents.toolbox import Run
from mentorgym.agents.toolbox.shards import Samples
from mentorgym.benchmarks.harness.agents import AGENTS
from mentorgym.benchmarks.harness.rows import read_rows
from mentorgym.envs.caption import language
from mentorgym.envs.caption.bddoia import REASON_ORDERS

torch.set_num_threads(1)

MEASURES = {"25k_images": ("one", "file", 1), "gt_4a_21r": ("all", "table1", 2)}
"""Of each layout the labels that are used, the order of the reasons in its files and the frames of a scene."""


class Workplace:
    """A folder with a miniature in it, in which commands are run."""

    def __init__(self, folder: Path, layout: str, patch: pytest.MonkeyPatch):
        self.folder, self.layout, self.patch = folder, layout, patch
        self.labels, self.order, self.frames = MEASURES[layout]
        self.data = str(folder / "bdd")

    def command(self, name: str, *arguments: object) -> None:
        """A command of the harness."""
        with pytest.raises(SystemExit) as end:
            cli.main([name, *map(str, arguments)])
        assert not end.value.code

    def agent(self, name: str, runs: str, *arguments: object) -> Path:
        """An agent's file, as Python starts it; the run's folder."""
        with self.patch.context() as patch:
            patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments), "--runs", runs])
            runpy.run_path(str(AGENTS / f"{name}.py"), run_name="__main__")
        (folder,) = Path(runs).glob(f"*/{name}__seed0__*")
        return folder

    def reorder(self) -> None:
        """Write the reasons in the files anew, in the order that they are to be in."""
        for path in Path(self.data).glob("gt_4a_21r_*.json"):
            table = json.loads(path.read_text())
            for entry in table.values():
                entry["reason"] = np.array(entry["reason"])[REASON_ORDERS[self.order]].tolist()
            path.write_text(json.dumps(table))

    def add_fifth_bits(self) -> None:
        """Give each action the bit that says whether it was confusing, which none was."""
        for path in Path(self.data).glob("*_25k_images_actions.json"):
            content = json.loads(path.read_text())
            for annotation in content["annotations"]:
                annotation["category"].append(0)
            path.write_text(json.dumps(content))


SMALL = ("--image-size", 24, "--patch-size", 6, "--width", 32)
SHORT = ("--total-steps", 2, "--heldout-scenes", 6, "--max-new-tokens", 8, "--log-every", 1, "--batch-size", 2)


@pytest.fixture(params=MEASURES)
def workplace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The working directory, with a miniature in the layout."""
    monkeypatch.chdir(tmp_path)
    place = Workplace(tmp_path, request.param, monkeypatch)
    counts = ("--train", 63, "--val", 21, "--test", 21, "--frames", place.frames, "--labels", place.labels)
    place.command("miniature", "--output", place.data, "--layout", place.layout, *counts)
    if place.layout == "25k_images":
        place.add_fifth_bits()
    else:
        place.reorder()
    return place


@pytest.mark.slow
def test_the_official_files_go_through_every_command(workplace: Workplace, capsys: pytest.CaptureFixture):
    do, agent = workplace.command, workplace.agent
    own = ("--data", workplace.data, "--labels", workplace.labels)
    for split in ("train", "val", "test"):
        do("caption-data", *own, "--reason-order", workplace.order, "--split", split, "--output", f"shards/{split}")
    shards = Samples(Path("shards/test"))
    assert bool(shards.anchors) == (workplace.labels == "one")
    assert all(language.read(words["caption"]).unknown == 0 for words in shards.words)

    heldout = ("--heldout", "shards/test") if workplace.labels == "one" else ()
    train = ("--data", "shards/train", "--batch-size", 8, "--augment", "--autocast", "float32")
    first = agent("clip_finetune", "runs/contrastive", *train, *heldout, *SMALL, "--total-steps", 3)
    pairs = ("--loss", "pairs", "--model", first / "model", "--validation", "shards/val", "--heldout", "shards/test")
    flags: dict[str, tuple[Any, ...]] = {"clip_finetune": (*train, *pairs, "--epochs", 1)}
    runs = {"clip_finetune": agent("clip_finetune", "runs/pairs", *flags["clip_finetune"])}
    reward = runs["clip_finetune"] / "model"
    assert "logit_bias" in json.loads((reward / "config.json").read_text())
    do("clip-reward", "--data", "shards/test", "--models", f"ours={reward}", "--output", "tables")
    size = ("--image-size", 32, "--patch-size", 8, "--vision-layers", 1, "--text-layers", 1, "--tokens", "words")
    flags["sft"] = (*train, "--heldout", "shards/test", *size, "--total-steps", 3)
    runs["sft"] = agent("sft", "runs/sft", *flags["sft"])

    env_args = [f"data={workplace.data}", f"labels={workplace.labels}", f"frames={workplace.frames}"]
    env_args += [f"reason_order={workplace.order}", f"model={reward}"]
    common = (*SHORT, "--env-args", *env_args)
    for name, group in (("rloo", 3), ("best_of_k", 3), ("a2c_caption", 0), ("action_sft", 0)):
        start = ("--model", runs["rloo" if name == "action_sft" else "sft"] / "model")
        flags[name] = (*common, *start, "--group-size", group) if group else (*common, *start)
        runs[name] = agent(name, f"runs/{name}", *flags[name])
    learned = runs["rloo"]
    if workplace.frames == 1:
        agent("action_sft", "runs/share", *flags["action_sft"], "--data", "shards/train", "--loss", "bleu")

    where = (*own, "--reason-order", workplace.order, "--reward-model", reward, "--output", "rows/all.jsonl")
    do("evaluate", "--env", "BddOia-Caption-v0", "--run", runs["sft"], *where, "--frames", 1)
    captioners = list(runs.values())[2:]
    do("evaluate", "--run", *captioners, *where, "--frames", workplace.frames, "--driver", "truth")
    rows = {row["driver"].partition("@")[0]: row for row in read_rows(Path("rows/all.jsonl"))}
    assert set(rows) == {"sft", "rloo", "best_of_k", "a2c_caption", "action_sft", "truth"}
    for row in rows.values():
        assert row["backend"] == "files" and row["data"] == "bdd" and row["scenes"] == len(shards)
        assert 0.0 <= row["score"]["clip_score"] <= 1.0
    assert rows["truth"]["score"]["exact"] == 1.0
    # What a run was trained with is what it is measured with, where nothing else is said.
    do("evaluate", "--run", learned, "--reward-model", reward, "--output", "rows_of_run/all.jsonl")
    (row,) = read_rows(Path("rows_of_run/all.jsonl"))
    assert row["score"] == rows["rloo"]["score"]
    predictions = learned / f"predictions_bdd_test_{workplace.labels}.jsonl"
    told = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert sorted(each["truth"] for each in told) == sorted(words["caption"] for words in shards.words)

    do("caption-tables", "--rows", "rows", "--data", "bdd", "--labels", workplace.labels, "--output", "tables/all.md")
    assert "rloo" in Path("tables/all.md").read_text()
    do("caption-pictures", "--run", learned, "--limit", 4, "--output", "tables/scenes.png")
    picture = next(Path(workplace.data).rglob("*.jpg"))
    do("caption-pictures", "--model", learned / "model", "--pictures", picture, "--output", "tables/own.png")
    capsys.readouterr()
    do("decide", picture, "--model", learned / "model", "--json")
    (decision,) = json.loads(capsys.readouterr().out)["decisions"]
    assert isinstance(decision["description"], str)

    if workplace.frames == 1:
        for name, whole in runs.items():
            check_that_a_killed_run_ends_as_the_whole_one(workplace, name, whole, flags[name])
        check_that_a_picture_which_vanishes_is_named(workplace, flags["rloo"])


KILLED = """
import os, runpy, signal, sys
from mentorgym.agents.toolbox import Run

save = Run.save

def killed(run, *rest):
    save(run, *rest)
    os.kill(os.getpid(), signal.SIGKILL)

Run.save = killed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Starts an agent's file and ends with its first checkpoint, without another word."""


def check_that_a_killed_run_ends_as_the_whole_one(
    workplace: Workplace, name: str, whole: Path, flags: tuple[Any, ...]
) -> None:
    """The same command goes on to the same weights."""
    flags = (*flags, "--checkpoint-every", 1)
    command = [sys.executable, "-c", KILLED, str(AGENTS / f"{name}.py"), *map(str, flags), "--runs", f"killed/{name}"]
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == -signal.SIGKILL
    (folder,) = Path("killed", name).glob(f"*/{name}__*")
    assert list(folder.glob("checkpoints/0*")) and not (folder / "done").exists()
    assert workplace.agent(name, f"killed/{name}", *flags) == folder
    assert json.loads((folder / "done").read_text()).keys() == {"step", "seconds"}
    assert {json.loads(line)["resumes"] for line in (folder / "metrics.jsonl").read_text().splitlines()} >= {1}
    one, other = (load_file(each / "model" / "model.safetensors") for each in (whole, folder))
    assert all(torch.equal(one[tensor], other[tensor]) for tensor in one)


def check_that_a_picture_which_vanishes_is_named(workplace: Workplace, flags: tuple[Any, ...]) -> None:
    """Where pictures vanish while training runs, it ends with the name of one; without it the same command goes on."""
    pictures = list(Path(workplace.data, "data").glob("*.jpg"))
    save = Run.save

    def vanish(run: Run, *rest: Any) -> None:
        save(run, *rest)
        for path in pictures:
            path.rename(path.with_suffix(".away"))

    with workplace.patch.context() as patch:
        patch.setattr(Run, "save", vanish)
        flags = (*flags, "--checkpoint-every", 1)
        with pytest.raises(ValueError, match="fetch it anew, or delete it, and the sample is left out") as raised:
            workplace.agent("rloo", "runs/vanished", *flags)
    (named,) = [path for path in pictures if str(path) in str(raised.value)]
    for path in pictures:
        if path != named:
            path.with_suffix(".away").rename(path)
    with pytest.warns(UserWarning, match=f"1 without a picture.*{named.name}"):
        folder = workplace.agent("rloo", "runs/vanished", *flags)
    assert (folder / "done").exists()
