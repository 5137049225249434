"""Staged scenes: their labels against geometry of the tests' own, and the set's promises."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mentorgym.envs.caption.language import ACTION_OF_REASON, REASONS, caption
from mentorgym.envs.caption.staging import StagedScenes, scenes
from mentorgym.envs.caption.staging.compose import compose
from mentorgym.envs.caption.staging.draw import draw
from mentorgym.envs.caption.staging.records import Line
from mentorgym.envs.caption.staging.rules import labels_of

confirmed = runpy.run_path(str(Path(__file__).parent / "scene_checker.py"))["confirmed"]

REASON = {name: index for index, name in enumerate(REASONS)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path))
    return tmp_path


def staged(reason: int, k: int = 0):
    return StagedScenes("test", count=1050).record(reason + len(REASONS) * k)


@pytest.mark.parametrize("reason", range(21), ids=REASONS)
def test_a_picture_shows_its_reason_and_no_other(reason: int):
    for k in (1, 8):
        record = staged(reason, k)
        assert confirmed(record, draw(record)) == {REASONS[reason]}


@pytest.mark.parametrize("start", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_picture_shows_all_that_its_labels_say_but_of_sides(start: int):
    every = StagedScenes("test", labels="all", count=21 * (1 + 9 * start))
    for index in range(21 * start, every.count):
        record = every.record(index)
        seen = {name for name in confirmed(record, draw(record)) if REASON[name] < 15}
        assert seen == {REASONS[k] for k in np.flatnonzero(every.labels.reasons[index]) if k < 15}


@pytest.mark.slow
def test_every_reason_is_confirmed_in_the_test_towns():
    sure, every = np.zeros(len(REASONS), int), StagedScenes("test")
    for index, reason in enumerate(every.staged_for):
        record = every.record(index)
        sure[reason] += confirmed(record, draw(record)) == {REASONS[reason]}
    assert sure.min() >= 45, dict(zip(REASONS, sure.tolist(), strict=True))


def test_the_checker_tells_a_wrong_label():
    red = staged(REASON["Traffic light is not green"], 1)
    light = next(thing for thing in red.things if thing.kind == "light")
    others = tuple(thing for thing in red.things if thing is not light)
    green = replace(red, things=(*others, replace(light, state="green")))
    assert confirmed(green, draw(green)) == {"Traffic light is green"}
    # The picture has a green lamp where the record says red.
    claimed = replace(green, things=(*others, replace(light, state="red")))
    assert "Traffic light is not green" not in confirmed(claimed, draw(green))
    solid = staged(REASON["Solid line on the left"], 1)
    lines = tuple(Line(line.offset, "dashed", "white") if line.offset > 0 else line for line in solid.street.lines)
    broken = replace(solid, street=replace(solid.street, lines=lines))
    assert "Solid line on the left" not in confirmed(broken, draw(broken))


def test_what_is_hidden_is_not_confirmed():
    record = staged(REASON["Obstacle: person"], 1)
    truck = staged(REASON["Obstacle: car"], 1)
    wall = next(thing for thing in truck.things if thing.kind in ("car", "van", "truck"))
    wall = replace(wall, kind="crate", size=(0.3, 12.0, 6.0), position=(3.0, 0.0, 0.0), yaw=0.0)
    blocked = replace(record, things=(*record.things, wall))
    assert "Obstacle: person" not in confirmed(blocked, draw(blocked))


@pytest.mark.parametrize("more", [False, True])
def test_the_rules_find_the_reason_that_a_scene_was_staged_for(more: bool):
    for index in range(2 * len(REASONS)):
        reason = index % len(REASONS)
        actions, reasons = labels_of(compose("val", 3, index, reason, more, scenery=False))
        assert reasons[reason]
        assert actions[ACTION_OF_REASON[reason]]
        # Of a side no more than one closure is named, and none where the way there is open.
        for side, action in ((slice(15, 18), 2), (slice(18, 21), 3)):
            assert reasons[side].sum() == (0 if actions[action] else 1)
        assert actions[1] == reasons[3:9].any()
        assert not (actions[0] and actions[1])


def test_scenery_changes_no_label():
    with_scenery, bare = (compose("train", 0, 40, 5, True, scenery=scenery) for scenery in (True, False))
    assert with_scenery.things[: len(bare.things)] == bare.things
    assert {thing.kind for thing in with_scenery.things[len(bare.things) :]} <= {"building", "tree"}


def test_one_label_each_and_the_sizes_of_the_splits():
    sets = {split: StagedScenes(split) for split in ("train", "val", "test")}
    assert {split: len(each.labels.names) for split, each in sets.items()} == {"train": 4200, "val": 420, "test": 1050}
    names, actions, reasons = sets["test"].labels
    assert len(set(names)) == 1050
    assert (reasons.sum(0) == 50).all()
    assert (actions.argmax(1) == ACTION_OF_REASON[reasons.argmax(1)]).all()
    assert (actions.sum(1) == 1).all()


def test_all_labels_are_captions_and_some_have_several():
    labels = StagedScenes("val", labels="all", count=42).labels
    assert all(caption(*row) for row in zip(labels.actions, labels.reasons, strict=True))
    assert (labels.reasons.sum(1) > 1).mean() > 0.3


def test_tested_is_where_nothing_is_trained():
    assert set(scenes.TOWNS["test"]).isdisjoint({*scenes.TOWNS["train"], *scenes.TOWNS["val"]})
    assert {StagedScenes("test").record(index).town for index in range(30)} == set(scenes.TOWNS["test"])


def test_a_larger_set_begins_with_the_smaller_one():
    for prior in ("uniform", "paper"):
        small, large = (StagedScenes("train", prior=prior, count=count) for count in (30, 60))
        assert small.labels.names == large.labels.names[:30]
        np.testing.assert_array_equal(small.labels.reasons, large.labels.reasons[:30])


def test_the_papers_prior_is_the_papers():
    staged_for = StagedScenes("train", prior="paper").staged_for
    share = np.bincount(staged_for, minlength=21) / len(staged_for)
    expected = np.array(scenes.PAPER_COUNTS) / sum(scenes.PAPER_COUNTS)
    np.testing.assert_allclose(share, expected, atol=0.025)
    assert not share[expected == 0].any()


def test_a_seed_gives_one_picture_and_another_seed_another(cache: Path, monkeypatch: pytest.MonkeyPatch):
    first = StagedScenes("val", seed=1, count=5).frames(3, 1)
    monkeypatch.setenv("MENTORGYM_CACHE", str(cache / "other"))
    np.testing.assert_array_equal(StagedScenes("val", seed=1, count=9).frames(3, 1), first)
    assert (StagedScenes("val", seed=2, count=5).frames(3, 1) != first).mean() > 0.2


def test_frames_end_at_the_labelled_moment_and_move(cache: Path):
    few = StagedScenes("test", count=21)
    frames = few.frames(0, 3)
    assert frames.shape == (3, 108, 192, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[-1:], few.frames(0, 1))
    assert (frames[0] != frames[1]).any(2).mean() > 0.1


def test_a_moving_thing_was_behind_where_it_is():
    record = staged(REASON["Obstacle: rider"], 2)
    k = next(k for k, thing in enumerate(record.things) if thing.kind in ("bicycle", "motorbike"))
    rider = replace(record.things[k], yaw=np.pi / 2, speed=2.0)
    record = replace(record, things=(*record.things[:k], rider, *record.things[k + 1 :]), speed=0.0)
    now, before = (np.nonzero(draw(record, ago).instances == k)[1].mean() for ago in (0.0, 0.5))
    assert before > now + 3  # to the left now, so further right then


def test_the_cache_is_used_and_mended(cache: Path, monkeypatch: pytest.MonkeyPatch):
    few = StagedScenes("val", count=3)
    drawn = few.frames(1, 1)
    path = few.path(1)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    marked = np.full((108, 192, 3), 7, np.uint8)
    Image.fromarray(marked).save(path)
    np.testing.assert_array_equal(few.frames(1, 1)[0], marked)
    for damage in (b"", b"no picture", path.read_bytes()[:60]):
        path.write_bytes(damage)
        np.testing.assert_array_equal(few.frames(1, 1), drawn)
    Image.fromarray(marked[:50]).save(path)
    np.testing.assert_array_equal(few.frames(1, 1), drawn)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path / "file"))
    assert StagedScenes("val", count=1).frames(0, 1).shape == (1, 108, 192, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tests"}, "split must be one of train, val, test, not 'tests'"),
        ({"split": "val", "labels": "two"}, "labels must be one of one, all"),
        ({"split": "val", "prior": "flat"}, "prior must be one of uniform, paper"),
        ({"split": "val", "count": 0}, "count must be at least 1"),
        ({"split": "val", "seed": -1}, "seed must not be negative"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        StagedScenes(**arguments)


def test_scenes_and_frames_that_are_not_there():
    few = StagedScenes("val", count=3)
    for index in (-1, 3):
        with pytest.raises(IndexError, match="of 3"):
            few.frames(index, 1)
    for count in (0, 7):
        with pytest.raises(ValueError, match="1 to 6 frames"):
            few.frames(0, count)
