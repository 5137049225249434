"""BDD-OIA's files, made small by our own writer, in both layouts; and whatever can be wrong with them."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mentorgym.envs.caption import CaptionVectorEnv, bddoia, language, load_scenes
from mentorgym.envs.caption.bddoia import BddOiaScenes, write_bddoia
from mentorgym.envs.caption.scenes import Labels
from tests.envs.caption.drawn import DrawnScenes

pytestmark = pytest.mark.usefixtures("cache")

LAYOUTS = ("25k_images", "gt_4a_21r")


class LargeScenes(DrawnScenes):
    """Smooth pictures, for JPEG keeps these nearly as they are."""

    picture_shape = (90, 160, 3)

    def frames(self, index: int, count: int) -> np.ndarray:
        ramp = np.linspace(0, 60, 160)[None, :, None] + np.zeros((90, 1, 3))
        return np.stack([ramp + 10 * index + 3 * (5 - count + i) for i in range(count)]).astype(np.uint8)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(tmp_path: Path, layout: str) -> Path:
    """Splits of 12, 6 and 8 scenes with clips of 3 frames."""
    for split, size in (("train", 12), ("val", 6), ("test", 8)):
        write_bddoia(tmp_path, split, LargeScenes(size), layout, frames=3)
    return tmp_path


def edit(path: Path, change) -> None:
    """Rewrite a JSON file with what `change` makes of, or does to, its content."""
    content = json.loads(path.read_text())
    content = change(content) or content
    path.write_text(json.dumps(content))


def annotations(folder: Path, split: str = "test") -> tuple[Path, Path]:
    """The file of the actions and that of the reasons."""
    if (table := folder / f"gt_4a_21r_{split}.json").is_file():
        return table, table
    return folder / f"{split}_25k_images_actions.json", folder / f"{split}_25k_images_reasons.json"


def picture_of(folder: Path, index: int, split: str = "test") -> Path:
    inner = "data" if (folder / "data").is_dir() else split
    return folder / inner / f"{split}_{index:05d}.jpg"


def set_labels(folder: Path, index: int, actions: Any = None, reasons: Any = None) -> None:
    """Change the bits of a sample of the test split."""
    first, second = annotations(folder)

    def change(content: Any) -> None:
        if "annotations" in content:
            content["annotations"][index]["category"] = actions
        elif isinstance(content, list):
            content[index]["reason"] = reasons
        else:
            entry = content[f"test_{index:05d}"]
            entry.update({name: bits for name, bits in (("actions", actions), ("reason", reasons)) if bits is not None})

    if actions is not None:
        edit(first, change)
    if reasons is not None:
        edit(second, change)


def test_what_is_written_is_read_again_without_a_warning(folder: Path):
    for split, size in (("train", 12), ("val", 6), ("test", 8)):
        wanted = LargeScenes(size)
        scenes = BddOiaScenes(folder, split)
        np.testing.assert_array_equal(scenes.labels.actions, wanted.labels.actions)
        np.testing.assert_array_equal(scenes.labels.reasons, wanted.labels.reasons)
        assert len(set(scenes.labels.names)) == size and scenes.picture_shape == (90, 160, 3)
        for count in (1, 2, 3):
            film = scenes.frames(5, count)
            assert film.dtype == np.uint8 and film.shape == (count, 90, 160, 3)
            np.testing.assert_allclose(film.astype(int), wanted.frames(5, count), atol=4)


def test_the_environment_takes_every_step_on_the_files(folder: Path, clip_folder: Path):
    envs = CaptionVectorEnv(4, 2, "train", folder, frames=2, model=str(clip_folder), labels="all", terms={"bleu": 1.0})
    observation, infos = envs.reset(seed=0)
    for _ in range(6):
        assert observation in envs.observation_space
        observation, rewards, *_, infos = envs.step(infos["caption"].tolist())
        assert np.isfinite(rewards).all() and (infos["terms"]["bleu"] == 1).all()
    assert set(envs.captions) == set(language.captions()[:12])


def test_samples_are_joined_by_file_name_and_id(tmp_path: Path):
    write_bddoia(tmp_path, "test", LargeScenes(8))
    actions, reasons = annotations(tmp_path)
    generator = np.random.default_rng(0)

    def shuffle(content: Any) -> None:
        places = generator.permutation(8).tolist()
        content["annotations"] = [content["annotations"][place] for place in places]
        for image in content["images"]:
            image["id"] = places.index(image["id"])
        generator.shuffle(content["images"])

    edit(actions, shuffle)
    edit(reasons, lambda content: generator.shuffle(content))
    scenes = BddOiaScenes(tmp_path, "test")
    np.testing.assert_array_equal(scenes.labels.reasons, LargeScenes(8).labels.reasons)
    np.testing.assert_array_equal(scenes.labels.actions, LargeScenes(8).labels.actions)


@pytest.mark.parametrize("inner", ["labels", "annotations", "data"])
def test_annotations_may_lie_beside_the_pictures_or_apart(tmp_path: Path, inner: str):
    write_bddoia(tmp_path, "test", LargeScenes(3))
    (tmp_path / inner).mkdir(exist_ok=True)
    for path in tmp_path.glob("*.json"):
        path.rename(tmp_path / inner / path.name)
    assert len(BddOiaScenes(tmp_path, "test").labels.names) == 3


@pytest.mark.parametrize(
    ("actions", "kept"),
    [([0, 1, 0, 0, 0], True), ([0, 1, 0, 0, 1], False), ([0, 0, 0, 0], False), ([1, 1, 0, 1], True)],
)
def test_confused_samples_and_such_without_labels_are_left_out(folder: Path, actions: list[int], kept: bool):
    set_labels(folder, 2, actions)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scenes = BddOiaScenes(folder, "test")
    assert len(scenes.labels.names) == (8 if kept else 7) and scenes.labels.actions.shape[1] == 4
    assert any("1 " in str(each.message) and "test_00002" in str(each.message) for each in caught) != kept


def test_reasons_that_are_all_zero_are_left_out(folder: Path):
    set_labels(folder, 0, reasons=[0] * 21)
    set_labels(folder, 3, reasons=[0] * 21)
    with pytest.warns(UserWarning, match="2 without any action or reason"):
        assert len(BddOiaScenes(folder, "test").labels.names) == 6


def test_pictures_that_are_missing_or_broken_are_named_and_left_out(folder: Path):
    picture_of(folder, 0).unlink()
    picture_of(folder, 1).write_bytes(b"no picture")
    whole = picture_of(folder, 2).read_bytes()
    picture_of(folder, 2).write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning) as caught:
        scenes = BddOiaScenes(folder, "test")
    (told,) = [str(each.message) for each in caught]
    for fault, name in (("without a picture", 0), ("that cannot be read", 1), ("that is cut short", 2)):
        assert f"1 {fault} (test_{name:05d}" in told.replace("with a picture that", "that")
    assert [int(Path(name).stem[-5:]) for name in scenes.labels.names] == [3, 4, 5, 6, 7]
    assert scenes.frames(0, 1).shape == (1, 90, 160, 3)


def detailed_picture() -> Image.Image:
    """Noise, whose files are as long as a photograph's."""
    return Image.fromarray(np.random.default_rng(4).integers(0, 256, (360, 640, 3), np.uint8))


def test_pictures_that_are_broken_between_a_sound_start_and_end_are_left_out(folder: Path):
    jpeg, png = picture_of(folder, 1), picture_of(folder, 2).with_suffix(".png")
    detailed_picture().save(jpeg)
    detailed_picture().save(png)
    picture_of(folder, 2).unlink()
    whole = jpeg.read_bytes()
    middle = len(whole) // 2
    jpeg.write_bytes(whole[:middle] + b"\xff\xc0" + whole[middle + 2 :])
    png.write_bytes(png.read_bytes()[: png.stat().st_size // 2])
    for path in (jpeg, png):
        with Image.open(path):
            pass
    with pytest.warns(UserWarning, match=r"2 with a picture that cannot be read \(test_00001.*test_00002"):
        scenes = BddOiaScenes(folder, "test")
    assert [int(Path(name).stem[-5:]) for name in scenes.labels.names] == [0, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("form", "options"), [("jpg", {}), ("jpg", {"progressive": True}), ("png", {})])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_kept_of_damaged_pictures_can_be_read(tmp_path: Path, form: str, options: dict[str, Any]):
    write_bddoia(tmp_path, "test", DrawnScenes(60))
    generator = np.random.default_rng(5)
    detailed_picture().save(tmp_path / f"whole.{form}", **options)
    whole = (tmp_path / f"whole.{form}").read_bytes()
    for index in range(1, 60):
        damaged = bytearray(whole)
        place = int(generator.integers(len(whole)))
        if index % 3 == 0:
            damaged[place] ^= 255
        elif index % 3 == 1:
            damaged[place : place + 2] = b"\xff" + generator.bytes(1)
        else:
            del damaged[place : place + 100]
        picture_of(tmp_path, index).unlink()
        picture_of(tmp_path, index).with_suffix(f".{form}").write_bytes(damaged)
    scenes = BddOiaScenes(tmp_path, "test")
    assert 1 <= len(scenes.labels.names) < 60
    for index in range(len(scenes.labels.names)):
        assert scenes.frames(index, 1).shape == (1, *scenes.picture_shape)


def test_a_broken_picture_beside_a_sound_clip_is_left_out(folder: Path):
    picture_of(folder, 0).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"1 with a picture that cannot be read \(test_00000"):
        scenes = BddOiaScenes(folder, "test", least_frames=3)
    assert len(scenes.labels.names) == 7 and scenes.frames(0, 1).shape == (1, 90, 160, 3)


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that were looked into, with a cache of one's own that is used from 8 pictures on."""
    looked: list[str] = []
    fault_of = bddoia._fault_of

    def look(path: Path) -> str:
        looked.append(path.name)
        return fault_of(path)

    monkeypatch.setattr(bddoia, "MANY", 8)
    monkeypatch.setattr(bddoia, "_fault_of", look)
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path / "cache"))
    return looked


def test_of_many_pictures_those_that_were_whole_are_decoded_once(folder: Path, decoded: list[str]):
    broken = picture_of(folder, 5)
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    for again in (8, 1):
        with pytest.warns(UserWarning, match=r"1 with a picture that cannot be read \(test_00005"):
            assert len(BddOiaScenes(folder, "test").labels.names) == 7
        assert len(decoded) == again, "what cannot be read may be readable the next time"
        decoded.clear()
    broken.write_bytes(whole)
    picture_of(folder, 2).write_bytes(whole[:-300])
    with pytest.warns(UserWarning, match=r"1 with a picture that is cut short \(test_00002"):
        assert len(BddOiaScenes(folder, "test").labels.names) == 7
    assert sorted(decoded) == ["test_00002.jpg", "test_00005.jpg"]
    decoded.clear()
    BddOiaScenes(folder, "train")
    assert len(decoded) == 12
    decoded.clear()
    BddOiaScenes(folder, "val")
    BddOiaScenes(folder, "val")
    assert len(decoded) == 12, "few pictures are decoded each time"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"data/test_00000.jpg": 3}', "\udc80"])
def test_a_broken_record_of_whole_pictures_is_made_anew(folder: Path, tmp_path: Path, decoded: list[str], content: str):
    for _ in range(2):
        BddOiaScenes(folder, "test")
    assert len(decoded) == 8
    (record,) = (tmp_path / "cache" / "whole_pictures").iterdir()
    record.write_text(content, "utf-8", "surrogateescape")
    for _ in range(2):
        assert len(BddOiaScenes(folder, "test").labels.names) == 8
    assert len(decoded) == 16


def test_a_cache_that_cannot_be_written_is_no_error(folder: Path, tmp_path: Path, decoded: list[str]):
    (tmp_path / "cache").write_text("a file, not a folder")
    for _ in range(2):
        assert len(BddOiaScenes(folder, "test").labels.names) == 8
    assert len(decoded) == 16


def test_a_picture_that_breaks_later_is_an_error_that_names_file_and_remedy(folder: Path):
    scenes = BddOiaScenes(folder, "test")
    picture_of(folder, 4).write_bytes(b"")
    with pytest.raises(ValueError, match=r"test_00004\.jpg.*fetch it anew, or delete it"):
        scenes.frames(4, 1)


def test_labels_on_one_side_alone_are_named(folder: Path, layout: str):
    if layout == "25k_images":
        edit(annotations(folder)[1], lambda content: content.pop(0) and None)
        edit(annotations(folder)[0], lambda content: content["images"].pop() and None)
    else:
        edit(annotations(folder)[0], lambda content: content["test_00000"].pop("reason") and None)
        edit(annotations(folder)[0], lambda content: content["test_00007"].pop("actions") and None)
    with pytest.warns(UserWarning, match=r"1 without reasons \(test_00000.*1 without actions \(test_00007"):
        assert len(BddOiaScenes(folder, "test").labels.names) == 6


def list_again(folder: Path, index: int, actions: list[int] | None = None, reasons: list[int] | None = None) -> None:
    """List a sample of the test split a second time in both files, before the first, with these labels or the same."""
    first, second = annotations(folder)

    def repeat(content: Any) -> None:
        bits = actions or content["annotations"][index]["category"]
        content["images"].insert(0, {"file_name": f"test_{index:05d}.jpg", "id": len(content["annotations"])})
        content["annotations"].append({"category": bits})

    edit(first, repeat)
    edit(second, lambda content: content.insert(0, content[index] | ({"reason": reasons} if reasons else {})))


def test_a_sample_listed_again_with_the_same_labels_counts_once(tmp_path: Path):
    write_bddoia(tmp_path, "test", LargeScenes(8))
    list_again(tmp_path, 3)
    told = r"left out are 1 listed more than once with the same labels \(test_00003\.jpg\)$"
    with pytest.warns(UserWarning, match=told):
        scenes = BddOiaScenes(tmp_path, "test")
    assert len(set(scenes.labels.names)) == len(scenes.labels.names) == 8
    np.testing.assert_array_equal(scenes.labels.reasons, LargeScenes(8).labels.reasons)
    np.testing.assert_array_equal(scenes.labels.actions, LargeScenes(8).labels.actions)


@pytest.mark.parametrize("labels", [{"actions": [1, 1, 1, 1]}, {"reasons": [1] * 21}])
def test_a_sample_listed_with_differing_labels_is_left_out(tmp_path: Path, labels: dict[str, list[int]]):
    for split in ("train", "val", "test"):
        write_bddoia(tmp_path, split, LargeScenes(8))
    list_again(tmp_path, 3, **labels)
    told = r"left out are 1 listed more than once with differing labels \(test_00003\.jpg\)$"
    with pytest.warns(UserWarning, match=told):
        scenes = BddOiaScenes(tmp_path, "test")
    assert [int(Path(name).stem[-5:]) for name in scenes.labels.names] == [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_array_equal(scenes.labels.reasons, np.delete(LargeScenes(8).labels.reasons, 3, 0))
    BddOiaScenes(tmp_path, "train")
    with pytest.warns(UserWarning, match=told):
        BddOiaScenes(tmp_path, "train", "one")


def test_a_sample_of_several_splits_is_in_one_part_of_the_subset_alone(tmp_path: Path, layout: str):
    for split in ("train", "val", "test"):
        write_bddoia(tmp_path, split, DrawnScenes(40), layout)
    shared = "train_00007"
    for path in annotations(tmp_path):
        path.write_text(path.read_text().replace("test_00007", shared))
    picture_of(tmp_path, 7).rename(picture_of(tmp_path, 7).with_stem(shared))
    names: list[str] = []
    for split in ("train", "val", "test"):
        with pytest.warns(UserWarning, match=rf"left out are 1 listed in an earlier split, too \({shared}[.jpg]*\)$"):
            names += BddOiaScenes(tmp_path, split, "one").labels.names
    assert len(set(names)) == len(names) == 119 and {Path(name).stem for name in names} >= {shared}


def test_pictures_without_labels_are_counted(folder: Path):
    Image.new("RGB", (160, 90)).save(picture_of(folder, 99))
    with pytest.warns(UserWarning, match=r"1 pictures without labels \(test_00099\.jpg\)"):
        assert len(BddOiaScenes(folder, "test").labels.names) == 8
    with pytest.warns(UserWarning, match=r"1 pictures without labels \(test_00099\.jpg\)"):
        BddOiaScenes(folder, "train", "one")


@pytest.mark.parametrize("layout", ["25k_images"], indirect=True)
@pytest.mark.parametrize("file", ["train_25k_images_actions.json", "train_25k_images_reasons.json"])
def test_pictures_of_a_split_whose_annotations_are_not_there_are_no_fault(folder: Path, file: str):
    (folder / file).unlink()
    assert len(BddOiaScenes(folder, "test").labels.names) == 8


def test_frames_need_a_clip(folder: Path):
    scenes = BddOiaScenes(folder, "test")
    with pytest.raises(ValueError, match="3 frames, not 4.*or ask for frames=1"):
        scenes.frames(0, 4)
    for path in (folder / "clips" / "test_00001").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="0 frames, not 2"):
        scenes.frames(1, 2)


def test_samples_with_too_few_frames_are_left_out_before_they_are_asked_for(folder: Path, clip_folder: Path):
    (folder / "clips" / "test_00003" / "000.jpg").unlink()
    (folder / "clips" / "test_00005" / "001.jpg").write_bytes(b"no picture")
    faults = r"1 with fewer than 3 frames in clips/ \(test_00003.*1 with a picture that cannot be read \(test_00005"
    with pytest.warns(UserWarning, match=faults):
        envs = CaptionVectorEnv(1, 1, "test", folder, frames=3, model=str(clip_folder), labels="all")
    assert [int(Path(name).stem[-5:]) for name in envs.scenes.labels.names] == [0, 1, 2, 4, 6, 7]
    assert len(load_scenes(folder, "test", "all").labels.names) == 8, "a single frame needs no clip"
    with (
        pytest.warns(UserWarning, match="8 with fewer than 4 frames"),
        pytest.raises(ValueError, match="no usable sample.*8 with fewer than 4 frames"),
    ):
        load_scenes(folder, "test", "all", frames=4)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_pictures_of_any_kind_and_size_get_one_shape(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch):
    write_bddoia(tmp_path, "test", LargeScenes(2), "gt_4a_21r")
    image = Image.new("L", (1920, 700), 128).convert("I;16" if mode == "I;16" else mode)
    path = picture_of(tmp_path, 1)
    path.unlink()
    image.save(path.with_suffix(".jpg" if mode in ("L", "CMYK") else ".png"))
    scenes = BddOiaScenes(tmp_path, "test")
    assert scenes.frames(1, 1).shape == (1, 90, 160, 3)
    monkeypatch.setattr(bddoia, "LONGEST_EDGE", 80)
    scenes = BddOiaScenes(tmp_path, "test")
    assert scenes.picture_shape == (45, 80, 3) and scenes.frames(1, 1).shape == (1, 45, 80, 3)


def some_labels(order: np.ndarray, size: int = 60) -> Labels:
    """Labels as the files have them whose bits mean `order`, of random scenes that keep to what reasons imply."""
    generator = np.random.default_rng(3)
    chosen = np.arange(size) % 21
    reasons = np.eye(21, dtype=bool)[chosen]
    actions = np.eye(4, dtype=bool)[language.ACTION_OF_REASON[chosen]]
    actions[:, 1] |= generator.random(size) < 0.3
    return Labels([str(i) for i in range(size)], actions, reasons[:, order])


TABLE1 = (
    "Traffic light is green,Follow traffic,Road is clear,Traffic light is not green,Traffic sign,Obstacle: car,"
    "Obstacle: person,Obstacle: rider,Obstacle: others,No lane on the left,Obstacles on the left lane,"
    "Solid line on the left,On the left-turn lane,Traffic light allows to turn left,Front car turning left,"
    "No lane on the right,Obstacles on the right lane,Solid line on the right,On the right-turn lane,"
    "Traffic light allows to turn right,Front car turning right"
).split(",")
"""The names of the reasons in the order of Table 1 of the BDD-OIA paper."""


def test_the_order_of_the_reasons_is_checked_against_the_actions(tmp_path: Path, layout: str):
    order = np.array([language.REASONS.index(name) for name in TABLE1])
    right = LargeScenes(60)
    right.labels = some_labels(np.arange(21))
    table = LargeScenes(60)
    table.labels = some_labels(order)
    write_bddoia(tmp_path / "file", "test", right, layout)
    write_bddoia(tmp_path / "table1", "test", table, layout)
    scenes = BddOiaScenes(tmp_path / "file", "test")
    assert scenes.agreement["file"] == 1.0 > scenes.agreement["table1"]
    np.testing.assert_array_equal(scenes.labels.reasons, right.labels.reasons)
    rates = r"100\.0 % in the order 'file' and \d+\.\d % in the order 'table1'"
    with pytest.warns(UserWarning, match=f"THE REASONS IN .* DO NOT FIT.*{rates}.*reason_order='file' is likely right"):
        BddOiaScenes(tmp_path / "file", "test", reason_order="table1")
    with pytest.warns(UserWarning, match="reason_order='table1' is likely right"):
        BddOiaScenes(tmp_path / "table1", "test")
    scenes = BddOiaScenes(tmp_path / "table1", "test", reason_order="table1")
    np.testing.assert_array_equal(scenes.labels.reasons, right.labels.reasons)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 samples in three splits, a third of them with two reasons."""
    folder = tmp_path_factory.mktemp("many")
    for split, size in (("train", 120), ("val", 40), ("test", 40)):
        scenes = DrawnScenes(size)
        scenes.labels.reasons[::3, 0] = True
        scenes.labels.reasons[::3, 1] = True
        write_bddoia(folder, split, scenes, "gt_4a_21r")
    return folder


def test_the_subset_of_one_action_and_one_reason_has_the_paper_s_splits(many: Path):
    parts = {split: load_scenes(many, split) for split in ("train", "val", "test", "toy")}
    names = {split: set(scenes.labels.names) for split, scenes in parts.items()}
    for scenes in parts.values():
        assert (scenes.labels.actions.sum(1) == 1).all() and (scenes.labels.reasons.sum(1) == 1).all()
    assert names["train"].isdisjoint(names["val"]) and names["test"].isdisjoint(names["train"] | names["val"])
    assert names["toy"] <= names["train"] and len(names["toy"]) == len(names["val"])
    counts = {split: scenes.labels.actions.sum(0) for split, scenes in parts.items()}
    together = counts["train"] + counts["val"] + counts["test"]
    everything = [load_scenes(many, split, "all").labels for split in ("train", "val", "test")]
    alone = [labels.actions[labels.reasons.sum(1) == 1].sum(0) for labels in everything]
    np.testing.assert_array_equal(together, sum(alone))
    assert (np.abs(counts["test"] - together / 5) <= 0.5).all()
    assert (np.abs(counts["val"] - (together - counts["test"]) / 8) <= 0.5).all()
    assert list(load_scenes(many, "test").labels.names) == list(parts["test"].labels.names)


def test_a_missing_picture_moves_no_sample_to_another_split(many: Path, tmp_path: Path):
    whole = set(load_scenes(many, "test").labels.names)
    lost = many / "train" / f"{next(name for name in sorted(whole) if name.startswith('train'))}.jpg"
    kept = lost.read_bytes()
    lost.unlink()
    try:
        with pytest.warns(UserWarning, match="1 without a picture"):
            assert set(load_scenes(many, "test").labels.names) == whole - {lost.stem}
    finally:
        lost.write_bytes(kept)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda folder: annotations(folder)[1].unlink(), "lacks annotations of BDD-OIA: it needs .*test"),
        (lambda folder: annotations(folder)[0].write_text("{"), "cannot read .*test"),
        (lambda folder: annotations(folder)[1].write_text("[1]"), "not as BDD-OIA's"),
        (lambda folder: set_labels(folder, 1, [1, 0, 0]), "not 4 or 5 bits"),
        (lambda folder: set_labels(folder, 1, [1, 0, 0, 2]), "not 4 or 5 bits"),
        (lambda folder: set_labels(folder, 1, reasons=[0] * 20), "not 21 bits"),
        (lambda folder: set_labels(folder, 1, reasons="yes"), "not 21 bits"),
    ],
)
def test_files_that_are_not_as_described_are_refused(folder: Path, fault, message: str):
    fault(folder)
    with pytest.raises(ValueError, match=message):
        BddOiaScenes(folder, "test")


def test_an_image_whose_annotation_is_missing_is_refused(tmp_path: Path):
    write_bddoia(tmp_path, "test", LargeScenes(3))
    edit(annotations(tmp_path)[0], lambda content: content["annotations"].pop() and None)
    with pytest.raises(ValueError, match=r"'test_00002\.jpg' has the id 2"):
        BddOiaScenes(tmp_path, "test")


def test_a_split_without_pictures_is_refused(folder: Path):
    for index in range(8):
        picture_of(folder, index).unlink()
    with (
        pytest.warns(UserWarning, match="8 without a picture"),
        pytest.raises(ValueError, match="no usable sample.*pictures belong in"),
    ):
        BddOiaScenes(folder, "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tests",), "did you mean 'test'"),
        (("toy",), "unknown split 'toy'"),
        (("test", "ome"), "did you mean 'one'"),
        (("test", "all", "table"), "did you mean 'table1'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path: Path, arguments: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        BddOiaScenes(tmp_path, *arguments)


@pytest.mark.parametrize(("split", "layout"), [("tset", "25k_images"), ("test", "25k")])
def test_the_writer_refuses_what_it_does_not_know(tmp_path: Path, split: str, layout: str):
    with pytest.raises(ValueError, match="did you mean"):
        write_bddoia(tmp_path, split, LargeScenes(1), layout)


def test_pictures_with_an_orientation_are_read_upright_and_annotations_with_a_byte_order_mark(folder: Path):
    expected = BddOiaScenes(folder, "test").frames(0, 1)[0].astype(int)
    for path in {*annotations(folder)}:
        path.write_bytes(path.read_bytes().decode().replace("\n", "\r\n").encode("utf-8-sig"))
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(2):
        with Image.open(picture_of(folder, index)) as image:
            sideways = image.transpose(Image.Transpose.ROTATE_90)
        sideways.save(picture_of(folder, index), quality=95, exif=exif)
    scenes = BddOiaScenes(folder, "test")
    assert scenes.picture_shape == (90, 160, 3) and len(scenes.labels.names) == 8
    np.testing.assert_allclose(scenes.frames(0, 1)[0].astype(int), expected, atol=8)
