"""Pictures with words, in shards: what is collected, exported, and read by the trainers.

A shard is a tar file in WebDataset's layout, which open_clip reads as it is: for each sample `<key>.png`, the picture,
`<key>.txt`, its caption, and `<key>.json`, an object with what else is known of it, as its prompt and answer. A folder
of shards may hold `anchors.json`, texts [C][K]: a sample with "context" c and "label" k in its JSON is then known to
have none of context c's captions but the k-th. ShareGPT records (`<name>.json` beside their pictures), as LLaMA-Factory
reads them, are read and written too.
"""

import contextlib
import copy
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mentorgym.files import decode, read_text
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.pictures import read_rgb

ANCHORS = "anchors.json"
UNFINISHED = "unfinished"
"""File that stands in a folder while shards are written to it."""


class Sample(NamedTuple):
    """A picture, uint8 [H, W, 3], and its words: "prompt" and "answer", "caption", and what else is known."""

    picture: np.ndarray
    words: dict[str, Any]


class _Place(NamedTuple):
    """Where a picture's file lies: all of `path`, or `size` bytes of it from `offset` on."""

    path: Path
    offset: int = 0
    size: int = -1


def to_png(picture: np.ndarray) -> bytes:
    """A picture, uint8 [H, W, 3], as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and mark it as unfinished until the block is through without an error."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / UNFINISHED
    mark.touch()
    yield
    mark.unlink()


def write_shard(path: Path, samples: Iterable[tuple[str, bytes, Mapping[str, Any]]]) -> None:
    """Write samples (key, PNG file, words with a "caption") to a tar file, whole or not at all."""
    temporary = path.with_name(path.name + ".unfinished")
    with tarfile.open(temporary, "w") as shard:
        for key, png, words in samples:
            caption = str(words["caption"]).encode()
            rest = {name: value for name, value in words.items() if name != "caption"}
            for suffix, content in (("png", png), ("txt", caption), ("json", json.dumps(rest).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    temporary.replace(path)


class Samples(Sequence[Sample]):
    """The samples of a folder of shards, or of a file of ShareGPT records; pictures are read when asked for.

    Raises ValueError, naming file and remedy, for a source that is neither, was not written to its end or holds no
    sample.
    """

    def __init__(self, source: Path | str):
        self.source = Path(source)
        if (self.source / UNFINISHED).exists():
            raise ValueError(
                f"the writing of {self.source} was interrupted: run its command again, which goes on there"
            )
        self.words: list[dict[str, Any]] = []
        self._places: list[_Place] = []
        if self.source.is_dir():
            for path in sorted(self.source.glob("*.tar")):
                self._read_shard(path)
        elif self.source.suffix == ".json" and self.source.is_file():
            self._read_sharegpt()
        else:
            raise ValueError(
                f"{self.source} is neither a folder of shards (.tar) nor a file of ShareGPT records (.json)"
            )
        if not self.words:
            raise ValueError(f"{self.source} holds no samples: collect some first")
        anchors = self.source / ANCHORS
        self.anchors: list[list[str]] = json.loads(read_text(anchors)) if anchors.is_file() else []
        """texts [C][K], or none"""

    def _read_shard(self, path: Path) -> None:
        try:
            with tarfile.open(path) as shard:
                files: dict[str, dict[str, tarfile.TarInfo]] = {}
                for member in shard:
                    key, _, suffix = member.name.rpartition(".")
                    if member.isfile():
                        files.setdefault(key, {})[suffix] = member

                def content(member: tarfile.TarInfo) -> bytes:
                    file = shard.extractfile(member)
                    assert file, "only members that are files were kept"
                    return file.read()

                for key, parts in files.items():
                    if "png" not in parts:
                        raise ValueError(f"sample {key} has no picture")
                    words = json.loads(decode(content(parts["json"]))) if "json" in parts else {}
                    if "txt" in parts:
                        words["caption"] = decode(content(parts["txt"]))
                    self.words.append(words)
                    self._places.append(_Place(path, parts["png"].offset_data, parts["png"].size))
        except (tarfile.TarError, ValueError) as error:
            raise ValueError(f"{path} is no shard of samples: {error}") from None

    def _read_sharegpt(self) -> None:
        try:
            for record in json.loads(read_text(self.source)):
                turns = {turn["from"]: turn["value"] for turn in record["conversations"]}
                (image,) = record.get("images") or [record["image"]]
                self.words.append({"prompt": turns["human"], "answer": turns["gpt"]})
                self._places.append(_Place(picture := self.source.parent / image))
                if not picture.is_file():
                    raise ValueError(f"there is no picture {picture}")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.source} holds no ShareGPT records with one image, a human and a gpt turn each "
                f"({type(error).__name__}: {error})"
            ) from None

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Sample(self.picture(index), self.words[index])

    def select(self, indices: Iterable[int]) -> "Samples":
        """These of the samples, in this order."""
        chosen = [int(index) for index in indices]
        part = copy.copy(self)
        part.words = [self.words[index] for index in chosen]
        part._places = [self._places[index] for index in chosen]
        return part

    def file(self, index: int) -> bytes:
        """The file of a picture as it was stored."""
        path, offset, size = self._places[index]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def picture(self, index: int) -> np.ndarray:
        """A picture, upright, uint8 [H, W, 3]; ValueError, naming file and remedy, where it cannot be read."""
        try:
            return read_rgb(io.BytesIO(self.file(index)))
        except (OSError, ValueError) as error:
            path, offset, _ = self._places[index]
            raise ValueError(
                f"cannot read the picture at byte {offset} of {path} ({error}): delete the file and write it again"
            ) from None


def stratified_order(labels: Sequence[Any], seed: int) -> np.ndarray:
    """An order, int64 [N], every beginning of which has the labels as often as the whole, as nearly as can be.

    Which of a label's samples come first, and which of the labels where several are due, is drawn by the seed.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    _, strata, counts = np.unique(np.asarray(labels)[shuffled], return_inverse=True, return_counts=True)
    due = np.empty(len(shuffled))
    for stratum, count in enumerate(counts):
        due[strata == stratum] = (np.arange(count) + 0.5) / count
    return shuffled[np.lexsort((generator.random(len(shuffled)), due))]


def write_sharegpt(samples: Samples, folder: Path) -> Path:
    """Write samples as ShareGPT records `<folder>/sharegpt.json`, with `images/` and LLaMA-Factory's
    `dataset_info.json` beside it; returns the records' path.

    LLaMA-Factory marks the picture's place as our prompts do.

    Raises ValueError for samples without prompt and answer, or with a prompt without one place for the picture.
    """
    if any(not {"prompt", "answer"} <= words.keys() for words in samples.words):
        raise ValueError(f"{samples.source} has samples without a prompt and an answer: they cannot be conversations")
    if any(words["prompt"].count(IMAGE_SLOT) != 1 for words in samples.words):
        raise ValueError(f"{samples.source} has prompts without one slot {IMAGE_SLOT} for the picture")
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    records = []
    for index, words in enumerate(samples.words):
        name = f"{index:08d}"
        (images / f"{name}.png").write_bytes(samples.file(index))
        turns = [{"from": "human", "value": words["prompt"]}, {"from": "gpt", "value": words["answer"]}]
        records.append({"id": name, "images": [f"images/{name}.png"], "conversations": turns})
    path = folder / "sharegpt.json"
    path.write_text(json.dumps(records, indent=1) + "\n", "utf-8")
    columns = {"messages": "conversations", "images": "images"}
    info = {"mentorgym": {"file_name": path.name, "formatting": "sharegpt", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n", "utf-8")
    return path
