"""Scenes as shards: what is written of each, that shares are stratified and nested, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.agents.toolbox.augmentation import Augmentation
from mentorgym.agents.toolbox.shards import UNFINISHED, Samples
from mentorgym.benchmarks.captions import data as caption_data
from mentorgym.envs.caption import language
from mentorgym.envs.caption.scenes import Labels, Scenes


class FakeScenes:
    """Pictures in a shade of grey that tells the scene's number."""

    def __init__(self, reasons: np.ndarray, actions: np.ndarray | None = None, shape: tuple[int, int, int] = (6, 9, 3)):
        many = np.eye(21, dtype=bool)[reasons] if reasons.ndim == 1 else reasons
        taken = np.eye(4, dtype=bool)[language.ACTION_OF_REASON[many.argmax(1)]] if actions is None else actions
        self.labels = Labels([f"scene {index}" for index in range(len(many))], taken, many)
        self.picture_shape = shape

    def frames(self, index: int, count: int) -> np.ndarray:
        if index == 200:
            raise ValueError("scene 200: no picture; fetch it again")
        return np.full((count, *self.picture_shape), index, np.uint8)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`given(scenes, *arguments)`: the samples that the command writes of `scenes`."""

    def run(scenes: Scenes, *arguments: str, folder: str = "out") -> Samples:
        monkeypatch.setattr(caption_data, "load_scenes", lambda data, split, labels, reason_order: scenes)
        monkeypatch.setattr(caption_data, "SCENES_IN_A_SHARD", 25)
        caption_data.main(["--output", str(tmp_path / folder), *arguments])
        return Samples(tmp_path / folder)

    return run


REASONS = np.repeat(np.arange(21), 9)[np.random.default_rng(0).permutation(189)]


def test_each_scene_has_its_picture_and_words(given):
    samples = given(FakeScenes(REASONS))
    assert len(samples) == 189
    assert samples.anchors == [language.captions()]
    for picture, words in samples:
        index = int(picture[0, 0, 0])
        assert picture.shape == (6, 9, 3)
        assert words["name"] == f"scene {index}"
        assert words["caption"] == words["answer"] == language.captions()[REASONS[index]]
        assert (words["prompt"], words["context"], words["label"]) == (language.PROMPT, 0, REASONS[index])
    assert len(list(samples.source.glob("*.tar"))) == 8


def test_shares_are_stratified_and_nested(given):
    names = {}
    for share, count in ((0.12, 23), (0.34, 64), (1.0, 189)):
        samples = given(FakeScenes(REASONS), "--share", str(share), folder=f"{share}")
        counts = np.bincount([words["label"] for words in samples.words], minlength=21)
        assert counts.sum() == count
        assert np.ptp(counts) <= 1
        names[share] = {words["name"] for words in samples.words}
    assert names[0.12] < names[0.34] < names[1.0]
    other = given(FakeScenes(REASONS), "--share", "0.34", "--seed", "1", folder="other")
    assert {words["name"] for words in other.words} != names[0.34]


def test_writing_goes_on_where_it_was_interrupted_and_only_there(given, tmp_path: Path):
    samples = given(FakeScenes(REASONS))
    shards = sorted(samples.source.glob("*.tar"))
    kept = shards[0].stat().st_mtime_ns
    before = shards[3].read_bytes()
    shards[3].unlink()
    given(FakeScenes(REASONS))
    assert shards[3].read_bytes() == before
    assert shards[0].stat().st_mtime_ns == kept
    with pytest.raises(SystemExit, match="holds data with another seed, share"):
        given(FakeScenes(REASONS), "--share", "0.5", "--seed", "3")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear")
    with pytest.raises(SystemExit, match="holds something else"):
        given(FakeScenes(REASONS), folder="mine")


def test_writing_that_was_interrupted_at_once_goes_on(given, tmp_path: Path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / UNFINISHED).touch()
    assert len(given(FakeScenes(REASONS), folder="new")) == len(REASONS)


def test_pairs_that_are_not_the_usual_ones_are_anchors_too_and_so_are_their_mirror_images(given):
    actions = np.eye(4, dtype=bool)[[0, 3]]
    samples = given(FakeScenes(np.array([0, 8]), actions))
    odd, mirrored = ("Action: turn right. Reason: Traffic sign.", "Action: turn left. Reason: Traffic sign.")
    assert samples.anchors == [[*language.captions(), mirrored, odd]]
    assert {words["caption"]: words["label"] for words in samples.words} == {language.captions()[0]: 0, odd: 22}
    Augmentation(samples.anchors)


def test_scenes_of_several_labels_have_no_anchors(given):
    reasons = np.zeros((3, 21), bool)
    reasons[:, 3] = reasons[1, 7] = True
    samples = given(FakeScenes(reasons), "--labels", "all")
    assert samples.anchors == []
    assert not any("label" in words for words in samples.words)
    assert "Action: stop. Reason: Obstacle: car; Traffic light is not green." in [
        words["caption"] for words in samples.words
    ]


def test_large_pictures_are_shrunk(given):
    samples = given(FakeScenes(np.array([0, 1]), shape=(90, 160, 3)), "--longest", "64")
    assert samples[0].picture.shape == (36, 64, 3)


def test_mistakes_are_explained(given, tmp_path: Path):
    for arguments, said in (
        (["--share", "0"], "--share"),
        (["--share", "1.5"], "--share"),
        (["--longest", "0"], "--long"),
    ):
        with pytest.raises(SystemExit, match=said):
            given(FakeScenes(REASONS), *arguments)
    with pytest.raises(SystemExit, match="at least one action and one reason"):
        given(FakeScenes(np.zeros((2, 21), bool)))
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="fetch it again"):
        given(FakeScenes(np.arange(210) % 21))
    flags = json.loads((tmp_path / "out" / "collection.json").read_text())["flags"]
    assert flags["split"] == "train"
