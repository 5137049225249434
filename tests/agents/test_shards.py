"""Shards: what is written is read back, and what is no shard is refused."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mentorgym.agents.toolbox.shards import Samples, filling, to_png, write_shard, write_sharegpt
from mentorgym.agents.toolbox.tuning import sample_weights

WORDS = {"prompt": '<image>Speed: 3.0 m/s. Say "go" — or not.', "answer": '{"throttle": 0.5}', "caption": "A ↑ road."}


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of two samples each."""
    for shard in range(2):
        samples = [(f"{shard}_{i}", to_png(drawn(2 * shard + i)), WORDS | {"label": 2 * shard + i}) for i in range(2)]
        write_shard(tmp_path / f"{shard:05d}.tar", samples)
    return tmp_path


def test_what_is_written_is_read(folder):
    samples = Samples(folder)
    assert len(samples) == 4 and samples.anchors == []
    for index, (picture, words) in enumerate(samples):
        np.testing.assert_array_equal(picture, drawn(index))
        assert words == WORDS | {"label": index}


def test_shards_are_in_the_layout_of_webdataset(folder):
    # WebDataset's rule: files of one sample stand together and share all up to the first dot.
    with tarfile.open(folder / "00000.tar") as shard:
        names = shard.getnames()
        text = shard.extractfile(names[1])
        assert text and text.read().decode() == WORDS["caption"]
    assert names == [f"0_{i}.{suffix}" for i in range(2) for suffix in ("png", "txt", "json")]
    assert all(name.count(".") == 1 for name in names)


def test_an_unfinished_shard_is_not_read(folder):
    def interrupted():
        yield "0", to_png(drawn(0)), WORDS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(folder / "00002.tar", interrupted())
    assert len(Samples(folder)) == 4


def test_a_folder_that_was_not_written_to_its_end_is_not_read(folder):
    with pytest.raises(KeyboardInterrupt), filling(folder):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="interrupted: run its command again"):
        Samples(folder)
    with filling(folder):
        pass
    assert len(Samples(folder)) == 4


def test_sharegpt_records_go_round(folder, tmp_path):
    path = write_sharegpt(Samples(folder), tmp_path / "export")
    info = json.loads((path.parent / "dataset_info.json").read_text())["mentorgym"]
    assert (info["file_name"], info["formatting"]) == (path.name, "sharegpt")
    records = json.loads(path.read_text())
    assert [turn["from"] for turn in records[0]["conversations"]] == ["human", "gpt"]
    assert all((path.parent / image).is_file() for record in records for image in record["images"])
    samples = Samples(path)
    assert len(samples) == 4
    for index, (picture, words) in enumerate(samples):
        np.testing.assert_array_equal(picture, drawn(index))
        assert words == {name: WORDS[name] for name in ("prompt", "answer")}


def test_records_of_another_systems_editor_are_read(folder, tmp_path):
    path = write_sharegpt(Samples(folder), tmp_path)
    expected = Samples(path).words
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").decode().encode("utf-8-sig"))
    assert Samples(path).words == expected


def test_samples_without_an_answer_are_no_conversations(tmp_path):
    write_shard(tmp_path / "00000.tar", [("0", to_png(drawn(0)), {"caption": "A road."})])
    with pytest.raises(ValueError, match="without a prompt and an answer"):
        write_sharegpt(Samples(tmp_path), tmp_path / "export")


def test_pictures_of_any_mode_are_read_as_rgb(tmp_path):
    file = io.BytesIO()
    Image.fromarray(drawn(0)).convert("P").save(file, "PNG")
    write_shard(tmp_path / "00000.tar", [("0", file.getvalue(), WORDS)])
    assert Samples(tmp_path)[0].picture.shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "neither a folder of shards"),
        ("records.json", b'[{"id": "0"}]', "no ShareGPT records"),
        ("records.json", b"[", "no ShareGPT records"),
        ("records.json", b"[]", "no samples"),
        (
            "records.json",
            b'[{"conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": ""}], "image": "gone.png"}]',
            "there is no picture .*gone.png",
        ),
    ],
)
def test_sources_of_other_kinds_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Samples(tmp_path / name)


def test_broken_shards_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no samples"):
        Samples(tmp_path)
    (tmp_path / "00000.tar").write_bytes(b"no tar at all")
    with pytest.raises(ValueError, match=r"00000\.tar is no shard"):
        Samples(tmp_path)
    with tarfile.open(tmp_path / "00000.tar", "w") as shard:
        shard.addfile(tarfile.TarInfo("0.txt"), io.BytesIO())
    with pytest.raises(ValueError, match="0 has no picture"):
        Samples(tmp_path)


def test_a_picture_that_breaks_later_is_an_error_that_names_file_and_remedy(folder):
    samples = Samples(folder)
    path = folder / "00000.tar"
    content = bytearray(path.read_bytes())
    place = content.index(b"\x89PNG")
    content[place : place + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"byte {place} of .*00000\.tar.*delete the file and write it again"):
        samples[0]
    np.testing.assert_array_equal(samples[1].picture, drawn(1))
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot read the picture .*00000\.tar"):
        samples[1]


def test_captions_are_drawn_in_proportion_to_a_power_of_their_count(folder, tmp_path):
    captions = ["It drives."] * 4 + ["It brakes."]
    samples = [(str(i), to_png(drawn(i)), WORDS | {"caption": caption}) for i, caption in enumerate(captions)]
    other = tmp_path / "other"
    other.mkdir()
    write_shard(other / "00000.tar", samples)
    for balance, rare in ((0.0, 1 / 5), (0.5, 1 / 3), (1.0, 1 / 2)):
        weights = sample_weights(Samples(other), balance)
        assert weights.sum() == pytest.approx(1.0)
        assert weights[4] == pytest.approx(rare)
        assert np.ptp(weights[:4]) == 0.0
