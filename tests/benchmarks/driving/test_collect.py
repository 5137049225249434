"""Collections: what is left out, what is said of a frame, and that an interrupted one goes on."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.agents.toolbox.shards import Samples
from mentorgym.benchmarks.driving import collect
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.envs.driving.view import language
from mentorgym.envs.driving.worlds.state import ENDS


@pytest.mark.parametrize(
    ("end", "steps", "kept"),
    [
        ("running", 3000, 3000),
        ("running", 300, 300),
        ("running", 299, 0),
        ("collision", 900, 600),
        ("red light", 600, 300),
        ("stop sign", 599, 0),
        ("pixel collision", 3000, 2700),
        ("blocked", 900, 300),
        ("blocked", 899, 0),
        ("lateral deviation", 3000, 0),
        ("route deviation", 3000, 0),
    ],
)
def test_what_leads_up_to_a_failure_is_left_out(end, steps, kept):
    assert end in ENDS
    assert collect.kept_steps(end, steps) == kept


def test_bursts_are_triangles_on_one_number_at_a_time():
    bursts = collect.Bursts(50, np.random.default_rng(0))
    noise = np.stack([bursts.step() for _ in range(2000)])
    assert (np.abs(noise).max((0, 1)) <= collect.BURST_STRENGTH).all()
    assert np.abs(noise).max((0, 1)) == pytest.approx(collect.BURST_STRENGTH, rel=0.1)
    assert not noise.all(axis=2).any(), "pedals and wheel are never disturbed together"
    for series in noise.transpose(1, 2, 0).reshape(100, -1):
        edges = np.flatnonzero(np.diff((series != 0).astype(int), prepend=0, append=0)).reshape(-1, 2)
        for first, last in edges[1:-1]:
            sizes = np.abs(series[first:last])
            peak = sizes.argmax()
            assert (np.diff(sizes[: peak + 1]) > 0).all() and (np.diff(sizes[peak:]) < 1e-12).all()
    quiet = (noise == 0).all(axis=2).mean()
    expected = collect.BURST_EVERY / (collect.BURST_EVERY + np.mean(collect.BURST_SECONDS))
    assert quiet == pytest.approx(expected, abs=0.05)


@pytest.fixture
def args(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> collect.Args:
    """A collection of short episodes, of which even the shortest counts: three, so two rounds of two."""
    monkeypatch.setattr(collect, "LEAST_STEPS", 1)
    return collect.Args(
        output=tmp_path / "drives", town=("Village",), traffic="empty", episodes=3, steps=12, every=4, num_envs=2
    )


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def test_an_interrupted_collection_goes_on_to_the_same_end(args, monkeypatch, tmp_path):
    collect.collect(args)
    whole = read(args.output)
    assert list(whole) == ["00000.tar", "00001.tar"]

    rounds = []
    drive_round = collect.drive_round

    def interrupted(envs, seeds, args):
        rounds.append(list(seeds))
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return drive_round(envs, seeds, args)

    args.output = tmp_path / "again"
    monkeypatch.setattr(collect, "drive_round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect.collect(args)
    assert list(read(args.output)) == ["00000.tar"]
    with pytest.raises(ValueError, match="interrupted: run its command again"):
        Samples(args.output)
    collect.collect(args)
    assert len(Samples(args.output)) > 0
    assert rounds == [[0, 1], [2, 3], [2, 3]]
    assert read(args.output) == whole


def test_frames_hold_the_expert_in_pictures_and_words(args):
    collect.collect(args)
    samples = Samples(args.output)
    # Rows take turns at every fourth of twelve steps.
    assert [words["step"] for words in samples.words] == [0, 4, 8, 3, 7, 11] * 2
    assert [words["seed"] for words in samples.words] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert samples.anchors == language.anchors()
    for picture, words in samples:
        assert picture.shape == (192, 192, 3)
        action = np.array(words["action"], np.float32)
        np.testing.assert_allclose(language.to_action(words["answer"]), action, atol=0.00501)
        assert language.labels(action) == words["label"]
        assert words["caption"] == samples.anchors[words["context"]][words["label"]]
        assert words["context"] == language.context(words["command"], words["speed"])
        assert f"Speed: {words['speed']:.1f} m/s" in words["prompt"]
        assert words["town"] == "Village"


def test_the_label_is_the_experts_own_action_and_not_the_noise(args, monkeypatch):
    applied = []
    step = collect.DrivingVectorEnv.step

    def watched(envs, actions):
        applied.append((envs.expert_actions(), np.array(actions)))
        return step(envs, actions)

    monkeypatch.setattr(collect.DrivingVectorEnv, "step", watched)
    monkeypatch.setattr(collect.Bursts, "step", lambda self: np.full((2, 2), 0.25))
    collect.collect(args)
    words = Samples(args.output).words
    for index, (expert, driven) in enumerate(applied[:12]):
        np.testing.assert_allclose(driven, np.clip(expert + 0.25, -1, 1), atol=1e-6)
        for each in words[:6]:
            if each["step"] == index:
                np.testing.assert_allclose(each["action"], expert[each["seed"]], atol=1e-4)


def test_other_flags_need_another_folder(args):
    collect.collect(args)
    args.every = 3
    with pytest.raises(UsageError, match="collected with another every"):
        collect.collect(args)


def test_bad_input_is_one_line(args):
    args.town = ("Nowhere",)
    with pytest.raises(UsageError, match="Nowhere"):
        collect.collect(args)
    args.every = 0
    with pytest.raises(UsageError, match="count from 1"):
        collect.collect(args)


@pytest.mark.parametrize(
    ("preset", "episodes", "towns"), [("leaderboard", 160, 4), ("nocrash", 80, 1), ("challenge", 240, 6)]
)
def test_presets_are_found_rls(preset, episodes, towns):
    assert (collect.PRESETS[preset].episodes, len(collect.PRESETS[preset].town)) == (episodes, towns)


def test_the_command_exports_sharegpt_records(args, capsys, tmp_path):
    flags = ["--town", "Village", "--traffic", "empty", "--episodes", "1", "--steps", "3", "--num-envs", "1", "--json"]
    collect.main(["--output", str(args.output), "--sharegpt", str(tmp_path / "share"), *flags])
    told = json.loads(capsys.readouterr().out)
    assert told["new_frames"] == 3
    assert len(Samples(told["sharegpt"])) == 3
