"""Exports, read back by the loaders that they are for, or by strict readers of a few lines."""

import ast
import csv
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mentorgym.envs.spatial import exports, language
from mentorgym.envs.spatial.exports import FORMATS, export
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.relations import relation_of
from mentorgym.envs.spatial.samples import Sample, collect

COUNT = 7
ABOUT = {"command": "python -m here", "seed": 3}


@pytest.fixture
def samples(sketched: list) -> list[Sample]:
    return list(collect("val", COUNT, seed=3))


@pytest.fixture
def written(samples: list[Sample], tmp_path: Path):
    """`written(format)`: the folder of the samples in this format."""

    def write(kind: str) -> Path:
        folder = tmp_path / "somewhere" / kind
        assert export(iter(samples), folder, kind, "val", ABOUT) == COUNT
        assert [path.name for path in folder.parent.iterdir()] == [kind], "nothing else is left"
        about = json.loads((folder / "about.json").read_text())
        assert about == {"format": kind, "split": "val", "count": COUNT, **ABOUT}
        return folder

    return write


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.array(image)


def check_row(row: dict, sample: Sample) -> None:
    told, names = sample.example, sample.arrangement.names
    assert row["image"].mode == "RGB"
    np.testing.assert_array_equal(np.array(row["image"]), sample.picture.colours)
    for column in ("caption", "question", "term_swapped", "order_swapped", "other"):
        assert row[column] == getattr(told, column)
    assert (row["subject"], row["referent"]) == (names[told.subject], names[told.referent])
    assert tuple(row["terms"].split(", ")) == told.relation.terms
    assert (row["elevation"], row["azimuth"], row["margin"]) == pytest.approx(told.relation[1:])
    truth = json.loads(row["truth"])
    assert [each["name"] for each in truth["objects"]] == list(names) and truth["room"] == row["room"]


def test_imagefolder_is_read_by_datasets(written, samples: list[Sample], tmp_path: Path):
    import datasets

    folder = written("imagefolder")
    told = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(told) == ["validation"] and len(told["validation"]) == COUNT
    for row, sample in zip(told["validation"], samples, strict=True):
        check_row(row, sample)


@pytest.mark.parametrize("rows_in_a_file", [1000, 4, 7])
def test_parquet_with_its_card_is_read_by_datasets(
    written, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_in_a_file: int
):
    import datasets

    monkeypatch.setattr(exports, "ROWS_IN_A_FILE", rows_in_a_file)
    monkeypatch.setattr(exports, "ROWS_IN_A_GROUP", 2)
    folder = written("parquet")
    assert len(list((folder / "data").iterdir())) == -(-COUNT // (rows_in_a_file + rows_in_a_file % 2))
    told = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(told) == ["validation"] and isinstance(told["validation"].features["image"], datasets.Image)
    for row, sample in zip(told["validation"], samples, strict=True):
        check_row(row, sample)
    card = (folder / "README.md").read_text()
    assert ABOUT["command"] in card and set(told["validation"].column_names) == {"image", *exports._COLUMNS}


def test_coco_is_read_by_its_own_tools(written, samples: list[Sample]):
    from pycocotools.coco import COCO

    folder = written("coco")
    coco = COCO(str(folder / "instances.json"))
    assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == list(NAMES)
    images = coco.loadImgs(coco.getImgIds())
    assert len(images) == COUNT
    for image, sample in zip(images, samples, strict=True):
        assert pixels(folder / "images" / image["file_name"]).shape == (image["height"], image["width"], 3)
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert [each["category_id"] - 1 for each in found] == list(sample.arrangement.objects)
        for place, annotation in enumerate(found):
            mask = sample.picture.instances == place
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, x + width - 1, y, y + height - 1) == (columns.min(), columns.max(), rows.min(), rows.max())
            assert annotation["area"] == mask.sum()


def test_an_object_that_is_not_seen_has_no_annotation(samples: list[Sample], tmp_path: Path):
    hidden = samples[0].picture.instances.copy()
    hidden[hidden == 1] = -1
    sample = samples[0]._replace(picture=samples[0].picture._replace(instances=hidden))
    export([sample], tmp_path / "coco", "coco", "train", ABOUT)
    told = json.loads((tmp_path / "coco" / "instances.json").read_text())
    seen = [sample.arrangement.objects[place] + 1 for place in (0, 2)]
    assert [each["category_id"] for each in told["annotations"]] == seen


def test_llava_has_a_question_with_its_picture_and_an_answer(written, samples: list[Sample]):
    folder = written("llava")
    told = json.loads((folder / "llava.json").read_text())
    assert len({each["id"] for each in told}) == len(told) == COUNT
    for each, sample in zip(told, samples, strict=True):
        assert each.keys() == {"id", "image", "conversations"}
        np.testing.assert_array_equal(pixels(folder / each["image"]), sample.picture.colours)
        human, model = each["conversations"]
        assert human == {"from": "human", "value": "<image>\n" + sample.example.question}
        assert model == {"from": "gpt", "value": sample.example.caption}


def test_paligemma_has_prefixes_and_suffixes(written, samples: list[Sample]):
    folder = written("paligemma")
    told = [json.loads(line) for line in (folder / "_annotations.valid.jsonl").read_text().splitlines()]
    for each, sample in zip(told, samples, strict=True):
        assert each.keys() == {"image", "prefix", "suffix"}
        assert (each["prefix"], each["suffix"]) == (sample.example.question, sample.example.caption)
        np.testing.assert_array_equal(pixels(folder / each["image"]), sample.picture.colours)


def test_negclip_has_negative_captions_and_hard_images(written, samples: list[Sample], tmp_path: Path):
    folder = written("negclip")
    with (folder / "negclip.tsv").open(newline="") as file:
        told = list(csv.DictReader(file, delimiter="\t"))
    for row, (each, sample) in enumerate(zip(told, samples, strict=True)):
        assert list(each) == ["filepath", "title", "neg_caption", "neg_image"]
        assert each["title"] == sample.example.caption and pixels(folder / each["filepath"]).ndim == 3
        assert ast.literal_eval(each["neg_caption"]) == [sample.example.term_swapped, sample.example.order_swapped]
        hard = ast.literal_eval(each["neg_image"])
        assert hard and row not in hard and set(hard) <= set(range(COUNT))
    first = samples[0]
    other = first._replace(example=first.example._replace(caption=first.example.term_swapped))
    export([first, samples[1], other], tmp_path / "three", "negclip", "val", ABOUT)
    lines = (tmp_path / "three" / "negclip.tsv").read_text().splitlines()
    assert [line.rsplit("\t", 1)[1] for line in lines[1:]] == ["[2]", "[2]", "[0]"]


def test_whatsup_has_four_options_of_which_the_first_is_right(written, samples: list[Sample]):
    folder = written("whatsup")
    told = json.loads((folder / "whatsup.json").read_text())
    for each, sample in zip(told, samples, strict=True):
        assert each.keys() == {"image_path", "caption_options"} and len(set(each["caption_options"])) == 4
        assert each["caption_options"][0] == sample.example.caption
        np.testing.assert_array_equal(pixels(folder / each["image_path"]), sample.picture.colours)


def test_clevr_scenes_hold_the_relations_and_where_they_point(written, samples: list[Sample]):
    folder = written("clevr")
    scenes = json.loads((folder / "scenes.json").read_text())["scenes"]
    for index, (scene, sample) in enumerate(zip(scenes, samples, strict=True)):
        arrangement = sample.arrangement
        assert scene["image_index"] == index and (folder / "images" / scene["image_filename"]).is_file()
        assert [each["shape"] for each in scene["objects"]] == list(arrangement.names)
        for thing, centre, yaw in zip(scene["objects"], arrangement.centres, arrangement.yaws, strict=True):
            assert thing.keys() >= {"color", "size", "material", "pixel_coords"}
            assert thing["3d_coords"] == pytest.approx(centre) and len(thing["pixel_coords"]) == 3
            assert np.exp(1j * np.deg2rad(thing["rotation"])) == pytest.approx(np.exp(1j * yaw))
        assert scene["directions"].keys() == scene["relationships"].keys()
        for one, other in itertools.permutations(range(3), 2):
            terms = relation_of(arrangement, one, other).terms
            held = {key for key, lists in scene["relationships"].items() if one in lists[other]}
            assert held == {"front" if term == "in front" else term for term in terms}
            offset = arrangement.centres[one] - arrangement.centres[other]
            assert all(np.dot(offset, scene["directions"][key]) > 0 for key in held)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_fails_half_way_leaves_nothing(samples: list[Sample], tmp_path: Path, kind: str):
    def broken():
        yield samples[0]
        raise RuntimeError("no light")

    with pytest.raises(RuntimeError, match="no light"):
        export(broken(), tmp_path / "out", kind, "train", ABOUT)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone_and_an_empty_one_is_filled(samples, tmp_path: Path):
    folder = tmp_path / "full"
    folder.mkdir()
    assert export(samples, folder, "whatsup", "train", ABOUT) == COUNT
    before = sorted(folder.rglob("*"))
    with pytest.raises(FileExistsError, match="choose another folder"):
        export(samples, folder, "llava", "train", ABOUT)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "split", "message"), [("excel", "val", "imagefolder, parquet"), ("coco", "valid", "train, val, test")]
)
def test_unknown_formats_and_splits_name_the_known_ones(tmp_path: Path, kind: str, split: str, message: str):
    with pytest.raises(ValueError, match=message):
        export([], tmp_path / "out", kind, split, ABOUT)


def test_no_samples_are_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="no samples"):
        export([], tmp_path / "out", "coco", "val", ABOUT)
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_the_extra_is_named(samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Parquet needs pyarrow.*pip install .*\[exports\]"):
        export(samples, tmp_path / "out", "parquet", "val", ABOUT)


def test_captions_are_those_of_the_language(samples: list[Sample]):
    assert all(sample.example.caption in language.all_captions() for sample in samples)
