"""BDD-OIA's own files (Xu et al., CVPR 2020), in both published layouts, and a writer of both.

| layout | annotations | pictures |
| --- | --- | --- |
| "25k_images", the official one | `{train,val,test}_25k_images_actions.json` and `..._reasons.json` | `data/` |
| "gt_4a_21r" | `gt_4a_21r_{train,val,test}.json` | `train/`, `validate/`, `test/` |

Actions are `{"images": [{"file_name", "id"}, ...], "annotations": [{"category": [4 or 5 bits]}, ...]}`, an image's
annotation being the `id`-th; reasons `[{"file_name", "reason": [21 bits]}, ...]` in any order; the other layout has
`{stem: {"actions": [4 bits], "reason": [21 bits]}}`. In both, `clips/<stem>/` may hold the frames of a clip, in the
order of their names; the picture by itself is its last. A fifth action bit means confusion.

The data may not be passed on, so none are here; `write_bddoia` makes small ones of any scenes.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image
from rich.console import Console
from rich.progress import track

from mentorgym.cache import cache_folder, keep
from mentorgym.envs.caption.scenes import Labels, Scenes
from mentorgym.files import read_text
from mentorgym.names import nearest_name
from mentorgym.pictures import read_rgb, upright_size

LAYOUTS = ("25k_images", "gt_4a_21r")

OFFICIAL_SPLITS = ("train", "val", "test")

REASON_ORDERS = {
    "file": np.arange(21),
    "table1": np.array([2, 0, 1, 7, 8, 3, 4, 5, 6, 16, 15, 17, 10, 11, 9, 19, 18, 20, 13, 14, 12]),
}
"""Which of `language.REASONS` each bit of a file means, int64 [21].

"file" is the order of the labels that go around with the files; "table1" the one in which Table 1 of the BDD-OIA paper
names the reasons, beside which it prints counts that fit the other.
"""

SUFFIXES = (".jpg", ".jpeg", ".png")

LONGEST_EDGE = 640
"""Pixels of a picture's longer edge; larger ones (BDD-OIA: 1280 x 720) are made smaller."""

SEED = 42
"""Of the splits of the one-action-one-reason subset (RLOO paper, appendix B)."""

END_OF_JPEG = b"\xff\xd9"

MANY = 1000
"""Pictures, from which on decoding them takes seconds: progress is shown, and which are whole is kept on disk."""


class BddOiaScenes:
    """`scenes.Scenes` of BDD-OIA's files; pictures are read when they are asked for, all in the shape of the first.

    Every fault of the files is counted at construction: samples without a picture, without one of the labels, with none
    of either set or listed more than once are left out with a warning that names them, and so are pictures that cannot
    be decoded or are not there as often as `least_frames`. Of a sample listed more than once the first entry is kept,
    but none where entries of one split differ in their labels.

    Args:
        folder: what holds the annotation files, or has them in `labels/`, `annotations/` or `data/`.
        split: "train", "val" or "test"; with `labels="one"` also "toy".
        labels: "all" for all samples of the official split. "one" for the RLOO paper's subset (appendices A and B): the
            samples of all official splits with one action and one reason, 20 % of each action for "test", of the rest
            1/8 for "val"; "train" is what remains, and "toy" as large a part of it as "val" is.
        reason_order: "file" or "table1", see REASON_ORDERS. Reasons imply actions; a warning says so where the other
            order fits these better.
        least_frames: above 1, samples whose clip has fewer frames are left out, too.

    Attributes: `agreement`, by order the share of reasons that fit the actions, NaN where there are none to tell by.

    Raises:
        ValueError: files are missing or not as described, or nothing is left; the message says what to do.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        labels: str = "all",
        reason_order: str = "file",
        least_frames: int = 1,
    ):
        if reason_order not in REASON_ORDERS:
            raise ValueError(f"unknown reason_order {reason_order!r}: {nearest_name(reason_order, REASON_ORDERS)}")
        if labels not in ("one", "all"):
            raise ValueError(f"unknown labels {labels!r}: {nearest_name(labels, ('one', 'all'))}")
        valid = (*OFFICIAL_SPLITS, "toy") if labels == "one" else OFFICIAL_SPLITS
        if split not in valid:
            raise ValueError(f"unknown split {split!r}: {nearest_name(split, valid)}")
        self.folder = Path(folder).expanduser()
        layout, places = _find_files(self.folder, split if labels == "all" else None)
        faults = _Faults()
        names: list[str] = []
        actions, reasons = [], []
        pictures: list[Path | None] = []
        folders: dict[Path, dict[str, Path]] = {}
        labelled: set[str] = set()
        earlier: set[str] = set()
        read = _read_lists if layout == LAYOUTS[0] else _read_table
        for official in OFFICIAL_SPLITS if labels == "one" else (split,):
            folder_of_pictures = _picture_folder(self.folder, layout, official)
            found = folders.setdefault(folder_of_pictures, _pictures_in(folder_of_pictures))
            samples = read(places, official, faults)
            labelled |= _stems(samples)
            for name, action, reason in samples:
                if name in earlier:
                    faults.add("listed in an earlier split, too", name)
                elif len(action) == 5 and action[4]:
                    faults.add("confused (the fifth action bit is set)", name)
                elif not any(action[:4]) or not any(reason):
                    faults.add("without any action or reason", name)
                else:
                    names.append(name)
                    actions.append(action[:4])
                    reasons.append(reason)
                    pictures.append(found.get(name.lower()) or found.get(Path(name).stem.lower()))
            earlier.update(name for name, _, _ in samples)
        own = np.array(actions, bool).reshape(-1, 4)
        in_file = np.array(reasons, bool).reshape(-1, 21)
        self.agreement = {order: _agreement(own, _reordered(in_file, order)) for order in REASON_ORDERS}
        self._check_order(reason_order)
        chosen = np.arange(len(names)) if labels == "all" else _subset(own, in_file, split)
        fault_of = self._faults_of_films([path for index in chosen if (path := pictures[index])], least_frames)
        kept: list[int] = []
        self._paths: list[Path] = []
        for index in chosen.tolist():
            path = pictures[index]
            fault = "without a picture" if path is None else fault_of[path]
            if fault:
                faults.add(fault, names[index])
            elif path is not None:
                kept.append(index)
                self._paths.append(path)
        # The official layout has the pictures of all splits in one folder.
        others = OFFICIAL_SPLITS if labels == "all" and layout == LAYOUTS[0] else ()
        if all(name in places for other in others for name in _files_of(layout, other)):
            elsewhere = _Faults()
            labelled = labelled.union(*(_stems(read(places, other, elsewhere)) for other in others))
            # Those listed with differing labels are labelled, too.
            labelled |= faults.stems() | elsewhere.stems()
            for path in (path for found in folders.values() for path in found.values()):
                if path.stem.lower() not in labelled:
                    faults.add("pictures without labels", path.name)
        faults.warn(f"{self.folder}, split {split!r}")
        if not kept:
            raise ValueError(
                f"{self.folder} has no usable sample in the split {split!r} ({faults or 'none is labelled so'}); "
                f"pictures belong in {_picture_folder(self.folder, layout, split if split != 'toy' else 'train')}"
            )
        self.labels = Labels([names[index] for index in kept], own[kept], _reordered(in_file, reason_order)[kept])
        size = upright_size(self._paths[0])
        scale = min(1.0, LONGEST_EDGE / max(size))
        self.picture_shape = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)), 3)

    def frames(self, index: int, count: int) -> np.ndarray:
        """The last `count` frames of scene `index`, uint8 [count, H, W, 3], the newest last.

        One is the picture itself, more come from `clips/<stem>/`. Raises ValueError, naming file and remedy, for a
        picture that is missing or cannot be read, and where a scene has fewer frames.
        """
        film = self._film(self._paths[index], count)
        if len(film) < count:
            raise ValueError(
                f"{self._clip(self._paths[index])} has {len(film)} frames, not {count}: put the frames of the clip "
                "there as pictures, in the order of their names, or ask for frames=1"
            )
        return np.stack([self._read(each) for each in film])

    def _clip(self, path: Path) -> Path:
        """The folder of the clip that ends with a picture."""
        return self.folder / "clips" / path.stem

    def _film(self, path: Path, count: int) -> list[Path]:
        """The files of the last `count` frames of the sample with this picture, or of as many as there are."""
        if count == 1:
            return [path]
        clip = self._clip(path)
        there = sorted(each for each in clip.iterdir() if each.suffix.lower() in SUFFIXES) if clip.is_dir() else []
        return there[-count:]

    def _faults_of_films(self, paths: Sequence[Path], count: int) -> dict[Path, str]:
        """What shows that the samples with these pictures lack `count` frames that can be read; "" for nothing."""
        films = {path: self._film(path, count) for path in paths}
        # `frames` may be asked for the picture by itself even where there is a clip.
        fault_of = _faults_of(self.folder, dict.fromkeys(each for path in films for each in (path, *films[path])))
        return {
            path: f"with fewer than {count} frames in clips/"
            if len(film) < count
            else next(filter(None, (fault_of[each] for each in (path, *film))), "")
            for path, film in films.items()
        }

    def _read(self, path: Path) -> np.ndarray:
        try:
            return read_rgb(path, self.picture_shape[:2])
        except ValueError as error:
            raise ValueError(
                f"cannot read the picture {path} ({error}): fetch it anew, or delete it, and the sample is left out"
            ) from None

    def _check_order(self, chosen: str) -> None:
        other = "table1" if chosen == "file" else "file"
        if self.agreement[other] > self.agreement[chosen]:
            rates = " and ".join(f"{100 * rate:.1f} % in the order {order!r}" for order, rate in self.agreement.items())
            warnings.warn(
                f"THE REASONS IN {self.folder} DO NOT FIT THEIR ACTIONS: of those for and against turning "
                f"left and right {rates} agree with them. reason_order={chosen!r} is in use; "
                f"reason_order={other!r} is likely right, and with the wrong one most captions are wrong",
                stacklevel=3,
            )


class _Faults:
    """What is wrong with which samples."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def add(self, fault: str, name: str) -> None:
        self.names.setdefault(fault, []).append(name)

    def stems(self) -> set[str]:
        """The names without suffix, in small letters."""
        return {Path(name).stem.lower() for names in self.names.values() for name in names}

    def __str__(self) -> str:
        told = []
        for fault, names in self.names.items():
            more = ", ..." if len(names) > 3 else ""
            told.append(f"{len(names)} {fault} ({', '.join(names[:3])}{more})")
        return "; ".join(told)

    def warn(self, where: str) -> None:
        if self.names:
            warnings.warn(f"{where}: left out are {self}", stacklevel=3)


def _files_of(layout: str, split: str) -> list[str]:
    """The annotation files of a split."""
    if layout == LAYOUTS[0]:
        return [f"{split}_25k_images_{kind}.json" for kind in ("actions", "reasons")]
    return [f"gt_4a_21r_{split}.json"]


def _find_files(folder: Path, split: str | None) -> tuple[str, dict[str, Path]]:
    """The layout, and the annotation files by name; those of `split` must be there, or of all for None."""
    needed = OFFICIAL_SPLITS if split is None else (split,)
    wanted = {layout: [name for each in OFFICIAL_SPLITS for name in _files_of(layout, each)] for layout in LAYOUTS}
    missing: dict[str, list[str]] = {}
    for layout, files in wanted.items():
        places: dict[str, Path] = {}
        for name in files:
            for inner in ("", "labels", "annotations", "data"):
                if (path := folder / inner / name).is_file():
                    places.setdefault(name, path)
        lacking = [name for each in needed for name in _files_of(layout, each) if name not in places]
        if not lacking:
            return layout, places
        missing[layout] = lacking
    fewest = min(missing.values(), key=len) if any(len(missing[each]) < len(wanted[each]) for each in wanted) else None
    raise ValueError(
        f"{folder} lacks annotations of BDD-OIA: it needs {' and '.join(fewest or missing[LAYOUTS[0]])}"
        + ("" if fewest else f", or {' and '.join(missing[LAYOUTS[1]])}")
    )


def _picture_folder(folder: Path, layout: str, split: str) -> Path:
    if layout == LAYOUTS[0]:
        return folder / "data"
    named = {"train": ("train",), "val": ("validate", "val"), "test": ("test",)}[split]
    there = [folder / inner / name for inner in ("", "data") for name in named if (folder / inner / name).is_dir()]
    return there[0] if there else folder / named[0]


def _pictures_in(folder: Path) -> dict[str, Path]:
    """Pictures by their names without suffix, in small letters."""
    if not folder.is_dir():
        return {}
    return {path.stem.lower(): path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _load(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def _bits(value: Any, sizes: Sequence[int], path: Path, name: object) -> list[int]:
    if not isinstance(value, list) or len(value) not in sizes or not all(bit in (0, 1) for bit in value):
        raise ValueError(f"{path}: {name!r} has {value!r}, not {' or '.join(map(str, sizes))} bits")
    return [int(bit) for bit in value]


Sample = tuple[str, list[int], list[int]]


def _stems(samples: Sequence[Sample]) -> set[str]:
    """The names of samples without suffix, in small letters."""
    return {Path(name).stem.lower() for name, _, _ in samples}


def _read_lists(places: dict[str, Path], split: str, faults: _Faults) -> list[Sample]:
    """Names, actions (4 or 5 bits) and reasons of the official layout, joined on the file's name.

    Samples that either file lists with differing labels are left out.
    """
    actions_path, reasons_path = (places[f"{split}_25k_images_{kind}.json"] for kind in ("actions", "reasons"))
    actions, reasons = _load(actions_path), _load(reasons_path)
    try:
        told: list[tuple[str, Any]] = []
        for image in actions["images"]:
            name, place = str(image["file_name"]), image["id"]
            if not isinstance(place, int) or not 0 <= place < len(actions["annotations"]):
                raise ValueError(
                    f"{actions_path}: the image {name!r} has the id {place!r}, and no annotation has that place"
                )
            told.append((Path(name).name, actions["annotations"][place]["category"]))
        why = [(Path(str(entry["file_name"])).name, entry["reason"]) for entry in reasons]
    except (LookupError, TypeError):
        raise ValueError(
            f"{actions_path.name} and {reasons_path.name} in {actions_path.parent} are not as BDD-OIA's: they need "
            '{"images": [{"file_name", "id"}], "annotations": [{"category"}]} and [{"file_name", "reason"}]'
        ) from None
    action_of, reason_of = dict(told), dict(why)
    repeated = {name for each in (told, why) for name, times in Counter(name for name, _ in each).items() if times > 1}
    differing = {name for name, bits in told if bits != action_of[name]}
    differing |= {name for name, bits in why if bits != reason_of[name]}
    for name in sorted(repeated):
        faults.add(f"listed more than once with {'differing' if name in differing else 'the same'} labels", name)
    for name in sorted((action_of.keys() ^ reason_of.keys()) - differing):
        faults.add("without reasons" if name in action_of else "without actions", name)
    return [
        (name, _bits(action_of[name], (4, 5), actions_path, name), _bits(reason_of[name], (21,), reasons_path, name))
        for name in sorted((action_of.keys() & reason_of.keys()) - differing)
    ]


def _read_table(places: dict[str, Path], split: str, faults: _Faults) -> list[Sample]:
    """The same of the layout with one file for each split."""
    path = places[f"gt_4a_21r_{split}.json"]
    table, samples = _load(path), []
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ValueError(f'{path} is not as BDD-OIA\'s: it needs {{stem: {{"actions", "reason"}}}}')
    for name, entry in sorted(table.items()):
        if "actions" in entry and "reason" in entry:
            bits = _bits(entry["actions"], (4, 5), path, name), _bits(entry["reason"], (21,), path, name)
            samples.append((name, *bits))
        else:
            faults.add("without reasons" if "actions" in entry else "without actions", name)
    return samples


def _reordered(in_file: np.ndarray, order: str) -> np.ndarray:
    """Reasons bool [N, 21] in the order of `language.REASONS`."""
    reasons = np.zeros_like(in_file)
    reasons[:, REASON_ORDERS[order]] = in_file
    return reasons


def _agreement(actions: np.ndarray, reasons: np.ndarray) -> float:
    """The share of the reasons 9 to 20 that fit the actions: those for a side go with it, those against it do not.

    The others mean the same action in either order.
    """
    left, right = actions[:, 2], actions[:, 3]
    fits = np.stack([left] * 3 + [right] * 3 + [~left] * 3 + [~right] * 3, 1)
    turning = reasons[:, 9:]
    return float(fits[turning].mean()) if turning.any() else float("nan")


def _subset(actions: np.ndarray, reasons: np.ndarray, split: str) -> np.ndarray:
    """The places of a split of the one-action-one-reason subset, in ascending order."""
    alone = np.flatnonzero((actions.sum(1) == 1) & (reasons.sum(1) == 1))
    generator, parts = np.random.default_rng(SEED), []
    for action in range(4):
        shuffled = generator.permutation(alone[actions[alone, action]])
        tests = round(len(shuffled) / 5)
        eighth = round((len(shuffled) - tests) / 8)
        test, val, train = np.split(shuffled, [tests, tests + eighth])
        parts.append({"test": test, "val": val, "train": train, "toy": train[:eighth]}[split])
    return np.sort(np.concatenate(parts))


def _fault_of(path: Path) -> str:
    """What shows that a picture cannot be read; "" where nothing does."""
    try:
        with Image.open(path) as image, path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            # The zeros that a broken download may leave at the end can decode without an error.
            if image.format == "JPEG" and END_OF_JPEG not in file.read():
                return "with a picture that is cut short"
        # At 1 x 1 a JPEG is decoded at an eighth of its size: fast, and refused where it would be at any other.
        read_rgb(path, (1, 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "with a picture that cannot be read"
    return ""


def _faults_of(folder: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """`_fault_of` pictures in `folder`; of many, those that were whole are not decoded anew until they change."""
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    stamps = {name: _stamp(path) for path, name in names.items()}
    # Another version of Pillow may refuse other files.
    digest = hashlib.sha256(os.fsencode(folder.resolve()) + PIL.__version__.encode()).hexdigest()
    memory = cache_folder() / "whole_pictures" / f"{digest[:32]}.json"
    whole = _whole_pictures(memory) if len(names) >= MANY else {}
    new = [path for path, name in names.items() if whole.get(name) != stamps[name]]
    with ThreadPoolExecutor() as pool:
        shown = track(
            pool.map(_fault_of, new),
            "checking pictures",
            total=len(new),
            console=Console(stderr=True),
            transient=True,
            disable=len(new) < MANY,
        )
        fault_of = dict.fromkeys(names, "") | dict(zip(new, shown, strict=True))
    if new and len(names) >= MANY:
        whole |= {names[path]: stamps[names[path]] for path in new if not fault_of[path]}
        told = json.dumps(whole)
        keep(memory, lambda scratch: scratch.write_text(told, "utf-8"))
    return fault_of


def _stamp(path: Path) -> list[int]:
    """Size and time of the last change of a file; of one that is not there, nothing."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _whole_pictures(memory: Path) -> dict[str, list[int]]:
    """The stamps of pictures known to be whole, by name; none where the file is not there or broken."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        kept = json.loads(memory.read_text("utf-8"))
        if isinstance(kept, dict):
            return kept
    return {}


def write_bddoia(
    folder: str | Path,
    split: str,
    scenes: Scenes,
    layout: str = "25k_images",
    frames: int = 1,
) -> None:
    """Write scenes as a split of BDD-OIA to `folder`, in a layout of LAYOUTS, with clips where `frames` is above 1."""
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}: {nearest_name(layout, LAYOUTS)}")
    if split not in OFFICIAL_SPLITS:
        raise ValueError(f"unknown split {split!r}: {nearest_name(split, OFFICIAL_SPLITS)}")
    folder = Path(folder)
    inner = "data" if layout == LAYOUTS[0] else {"val": "validate"}.get(split, split)
    (folder / inner).mkdir(parents=True, exist_ok=True)
    stems = [f"{split}_{index:05d}" for index in range(len(scenes.labels.names))]
    for index, stem in enumerate(stems):
        film = [Image.fromarray(picture) for picture in scenes.frames(index, frames)]
        film[-1].save(folder / inner / f"{stem}.jpg", quality=95)
        if frames > 1:
            (folder / "clips" / stem).mkdir(parents=True, exist_ok=True)
            for place, picture in enumerate(film):
                picture.save(folder / "clips" / stem / f"{place:03d}.jpg", quality=95)
    actions = np.asarray(scenes.labels.actions).astype(int).tolist()
    reasons = np.asarray(scenes.labels.reasons).astype(int).tolist()
    files: dict[str, Any]
    if layout == LAYOUTS[0]:
        files = {
            f"{split}_25k_images_actions.json": {
                "images": [{"file_name": f"{stem}.jpg", "id": index} for index, stem in enumerate(stems)],
                "annotations": [{"id": index, "category": bits} for index, bits in enumerate(actions)],
            },
            f"{split}_25k_images_reasons.json": [
                {"file_name": f"{stem}.jpg", "reason": bits} for stem, bits in zip(stems, reasons, strict=True)
            ],
        }
    else:
        table = zip(stems, actions, reasons, strict=True)
        files = {f"gt_4a_21r_{split}.json": {stem: {"actions": first, "reason": why} for stem, first, why in table}}
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content) + "\n", "utf-8")
