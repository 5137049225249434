"""Samples as files that other projects' loaders read.

| format | what is written | who reads it |
| --- | --- | --- |
| `imagefolder` | `<split>/*.png`, `<split>/metadata.jsonl`, `README.md` | `load_dataset("imagefolder", ...)` |
| `parquet` | `data/<split>-*.parquet` with pictures, `README.md` | `load_dataset(folder)`, and the hub's viewer |
| `llava` | `images/*.png`, `llava.json` of conversations | LLaVA and what is fine-tuned like it |
| `paligemma` | `*.png` and `_annotations.<split>.jsonl` of prefix and suffix | PaliGemma's fine-tuning scripts |
| `negclip` | `images/*.png`, `negclip.tsv` | NegCLIP's fork of open_clip: negative captions, hard images |
| `whatsup` | `images/*.png`, `whatsup.json`, of the four options the first right | What'sUp's evaluation |
| `clevr` | `images/*.png`, `scenes.json` | readers of CLEVR's scenes |
| `coco` | `images/*.png`, `instances.json`, masks as run lengths | pycocotools |

`load_dataset` is that of Hugging Face's datasets. Each folder also holds `about.json`, which says how it was made.
Nothing is uploaded anywhere.
"""

import csv
import io
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.relations import TERMS, all_relations
from mentorgym.envs.spatial.samples import Sample
from mentorgym.extras import import_extra

ROWS_IN_A_FILE, ROWS_IN_A_GROUP = 1000, 100
"""Of a Parquet file, and what a reader takes at once."""

_HUB = {"train": "train", "val": "validation", "test": "test"}
_VALID = {"train": "train", "val": "valid", "test": "test"}

_SIZES = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6, "1M<n<10M": np.inf}
"""The hub's words for how many rows there are."""

_COLUMNS = {
    "caption": "what holds of the two objects",
    "question": "what a generative model is asked; the caption is the answer",
    "term_swapped": "false: one term changed to its opposite",
    "order_swapped": "false: subject and referent exchanged",
    "other": "false: another relation of as many terms",
    "subject": "name of the object that the caption is about",
    "referent": "name of the object that it is placed by",
    "terms": "of the relation, joined by commas",
    "elevation": "rad, of the line from referent to subject",
    "azimuth": "rad, 0 straight behind, to the right positive",
    "margin": "rad to the nearest boundary between two relations",
    "room": "where it is",
    "truth": "JSON: camera, objects with poses, boxes, masks and visibility, surfaces, the relations of all pairs",
}
_NUMBERS = ("elevation", "azimuth", "margin")


def export(samples: Iterable[Sample], folder: Path, kind: str, split: str, about: Mapping[str, Any]) -> int:
    """Write samples in one of FORMATS to `folder`, which is there in the end whole or not at all; returns how many.

    `about` is what `about.json` says of their making; a dataset card shows its `command`.

    Raises:
        ValueError: an unknown format or split, or no samples.
        FileExistsError: the folder holds something.
        ImportError: a package is missing, and which extra brings it.
    """
    for name, value, known in (("format", kind, FORMATS), ("split", split, _HUB)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} holds something: choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        count = FORMATS[kind](samples, draft, split, about)
        if not count:
            raise ValueError("there are no samples to write")
        _write_json(draft / "about.json", {"format": kind, "split": split, "count": count, **about})
        draft.chmod(0o755)  # Temporary folders are their owner's alone.
        if folder.exists():
            folder.rmdir()  # It is empty; not every system renames onto it.
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return count


def row_of(sample: Sample) -> dict[str, Any]:
    """What is told of a sample in a flat table: strings, and floats in rad."""
    from mentorgym.envs.spatial.truth import describe

    told, names = sample.example, sample.arrangement.names
    return {
        "caption": told.caption,
        "question": told.question,
        "term_swapped": told.term_swapped,
        "order_swapped": told.order_swapped,
        "other": told.other,
        "subject": names[told.subject],
        "referent": names[told.referent],
        "terms": ", ".join(told.relation.terms),
        **{name: getattr(told.relation, name) for name in _NUMBERS},
        "room": sample.arrangement.room,
        "truth": json.dumps(describe(sample.arrangement, sample.picture), allow_nan=False),
    }


def png(colours: np.ndarray) -> bytes:
    """A picture uint8 [H, W, 3] as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    return file.getvalue()


def _with_pictures(samples: Iterable[Sample], folder: Path) -> Iterator[tuple[str, Sample]]:
    """The samples and the names of their pictures, which are written to `folder` on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, sample in enumerate(samples):
        name = f"{index:06d}.png"
        (folder / name).write_bytes(png(sample.picture.colours))
        yield name, sample


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON lines as they come; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            count += 1
    return count


def _card(split: str, count: int, about: Mapping[str, Any], files: str) -> str:
    """The dataset card, a README with what the hub reads at its head."""
    size = next(name for name, most in _SIZES.items() if count < most)
    lines = [
        "---",
        "pretty_name: Spatial relations of objects in rooms",
        "language: [en]",
        "task_categories: [visual-question-answering, image-to-text]",
        f"size_categories: [{size}]",
        "tags: [spatial-reasoning, synthetic]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        f"  - split: {_HUB[split]}",
        f"    path: {files}",
        "---",
        "",
        "# Spatial relations of objects in rooms",
        "",
        f"{count} pictures of rooms in which three of nine objects stand about, each with what holds of two of them as "
        "the camera sees it, and captions that are false.",
        "",
        "| column | meaning |",
        "| --- | --- |",
        "| `image` | 224 x 224, RGB |",
        *(f"| `{name}` | {meaning} |" for name, meaning in _COLUMNS.items()),
        "",
    ]
    if "command" in about:
        lines += [f"Made by `{about['command']}`.", ""]
    return "\n".join(lines)


def _imagefolder(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    pictures = folder / _HUB[split]
    pictures.mkdir()
    rows = ({"file_name": name, **row_of(sample)} for name, sample in _with_pictures(samples, pictures))
    count = _write_lines(pictures / "metadata.jsonl", rows)
    (folder / "README.md").write_text(_card(split, count, about, f"{_HUB[split]}/**"), "utf-8")
    return count


def _parquet(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    pyarrow = import_extra("pyarrow", "exports", "Parquet")
    parquet = import_extra("pyarrow.parquet", "exports", "Parquet")
    types = {name: "float64" if name in _NUMBERS else "string" for name in _COLUMNS}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {name: {"dtype": kind, "_type": "Value"} for name, kind in types.items()}
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    fields = [("image", image), *((name, getattr(pyarrow, kind)()) for name, kind in types.items())]
    # What `datasets` reads to know that the column holds pictures.
    schema = pyarrow.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})
    (folder / "data").mkdir()
    count, rows = 0, (_parquet_row(index, sample) for index, sample in enumerate(samples))
    for number in itertools.count():
        group = list(itertools.islice(rows, ROWS_IN_A_GROUP))
        if not group:
            break
        with parquet.ParquetWriter(folder / "data" / f"{_HUB[split]}-{number:05d}.parquet", schema) as writer:
            for start in range(0, ROWS_IN_A_FILE, ROWS_IN_A_GROUP):
                group = group if start == 0 else list(itertools.islice(rows, ROWS_IN_A_GROUP))
                if group:
                    writer.write_table(pyarrow.Table.from_pylist(group, schema))
                    count += len(group)
    (folder / "README.md").write_text(_card(split, count, about, f"data/{_HUB[split]}-*.parquet"), "utf-8")
    return count


def _parquet_row(index: int, sample: Sample) -> dict[str, Any]:
    return {"image": {"bytes": png(sample.picture.colours), "path": f"{index:06d}.png"}, **row_of(sample)}


def _llava(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    rows = [
        {
            "id": f"{split}-{name.removesuffix('.png')}",
            "image": f"images/{name}",
            "conversations": [
                {"from": "human", "value": f"<image>\n{sample.example.question}"},
                {"from": "gpt", "value": sample.example.caption},
            ],
        }
        for name, sample in _with_pictures(samples, folder / "images")
    ]
    _write_json(folder / "llava.json", rows)
    return len(rows)


def _paligemma(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    rows = (
        {"image": name, "prefix": sample.example.question, "suffix": sample.example.caption}
        for name, sample in _with_pictures(samples, folder)
    )
    return _write_lines(folder / f"_annotations.{_VALID[split]}.jsonl", rows)


def _negclip(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    """Hard images of a row are those of the same two objects with another relation; without any, the next row's."""
    told = [(name, sample.example) for name, sample in _with_pictures(samples, folder / "images")]
    alike: dict[str, list[int]] = {}
    for row, (_, example) in enumerate(told):
        alike.setdefault(example.question, []).append(row)
    with (folder / "negclip.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["filepath", "title", "neg_caption", "neg_image"])
        for row, (name, example) in enumerate(told):
            hard = [other for other in alike[example.question] if told[other][1].caption != example.caption]
            hard = hard or [(row + 1) % len(told)]
            false = json.dumps([example.term_swapped, example.order_swapped])
            writer.writerow([f"images/{name}", example.caption, false, json.dumps(hard)])
    return len(told)


def _whatsup(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    rows = [
        {"image_path": f"images/{name}", "caption_options": list(sample.example.choices)}
        for name, sample in _with_pictures(samples, folder / "images")
    ]
    _write_json(folder / "whatsup.json", rows)
    return len(rows)


def _clevr(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    """CLEVR's keys; "above" and "below" are added, shapes are the objects' names, colours are hexadecimal."""
    from mentorgym.envs.spatial.truth import describe

    keys = {term: "front" if term == "in front" else term for term in TERMS}
    scenes = []
    for index, (name, sample) in enumerate(_with_pictures(samples, folder / "images")):
        arrangement, truth = sample.arrangement, describe(sample.arrangement, sample.picture)
        holds: dict[str, list[list[int]]] = {key: [[] for _ in arrangement.objects] for key in keys.values()}
        for (subject, referent), relation in all_relations(arrangement).items():
            for term in relation.terms:
                holds[keys[term]][referent].append(subject)
        cos, sin = np.cos(arrangement.camera.yaw), np.sin(arrangement.camera.yaw)
        axes = {"behind": (cos, sin, 0.0), "right": (sin, -cos, 0.0), "above": (0.0, 0.0, 1.0)}
        against = {"front": "behind", "left": "right", "below": "above"}
        directions = {key: [float(each) for each in axis] for key, axis in axes.items()}
        directions |= {key: [0.0 - each for each in directions[other]] for key, other in against.items()}
        scenes.append(
            {
                "split": split,
                "image_index": index,
                "image_filename": name,
                "directions": directions,
                "relationships": holds,
                "objects": [
                    {
                        "shape": thing["name"],
                        "color": _hexadecimal(thing["colour"]),
                        "size": "large" if OBJECTS[thing["index"]].height > 0.2 else "small",
                        "material": "matte",
                        "3d_coords": thing["centre"],
                        "rotation": float(np.rad2deg(thing["yaw"]) % 360),
                        "pixel_coords": [*(thing["centre_2d"] or (-1.0, -1.0)), thing["depth"]],
                    }
                    for thing in truth["objects"]
                ],
            }
        )
    _write_json(folder / "scenes.json", {"info": {"split": split, **about}, "scenes": scenes})
    return len(scenes)


def _hexadecimal(colour: Iterable[float]) -> str:
    """A linear colour as screens have it."""
    return "#" + "".join(f"{round(255 * min(each, 1.0) ** (1 / 2.2)):02x}" for each in colour)


def _coco(samples: Iterable[Sample], folder: Path, split: str, about: Mapping[str, Any]) -> int:
    """An annotation for each object that is seen at all; categories are the nine objects, counted from 1."""
    from mentorgym.envs.spatial.truth import describe

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, sample in _with_pictures(samples, folder / "images"):
        height, width = sample.picture.instances.shape
        size = {"height": height, "width": width}
        images.append({"id": len(images) + 1, "file_name": name, **size, "caption": sample.example.caption})
        for thing in describe(sample.arrangement, sample.picture)["objects"]:
            if thing["box_2d"] is not None:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": thing["index"] + 1,
                        "bbox": thing["box_2d"],
                        "area": thing["pixels"],
                        "segmentation": thing["mask"],
                        "iscrowd": 0,
                        "visible": thing["visible"],
                    }
                )
    categories = [{"id": index + 1, "name": each.name, "supercategory": "object"} for index, each in enumerate(OBJECTS)]
    told = {"info": {"split": split, **about}, "licenses": [], "images": images, "annotations": annotations}
    _write_json(folder / "instances.json", told | {"categories": categories})
    return len(images)


FORMATS: dict[str, Callable[[Iterable[Sample], Path, str, Mapping[str, Any]], int]] = {
    "imagefolder": _imagefolder,
    "parquet": _parquet,
    "llava": _llava,
    "paligemma": _paligemma,
    "negclip": _negclip,
    "whatsup": _whatsup,
    "clevr": _clevr,
    "coco": _coco,
}
"""The writers by name; each takes the samples, an empty folder, the split and what is to be said of their making."""
