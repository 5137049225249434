"""Write labelled driving scenes as shards, to train captioners and reward models on.

    mentorgym caption-data --split train --share 0.05 --output captions/train_5

Each scene becomes a picture, its newest frame, with the prompt `language.PROMPT`, as answer and as caption the sentence
for its labels, and its name. Where scenes have one action and one reason each (`--labels one`) their captions are the
anchors of context 0, in the order of the reasons, and a scene's label is its place among them.

`--share` keeps that share of the scenes, stratified by reason (for `--labels all` by caption), and a smaller share of
the same seed is part of a larger one. Writing that was interrupted goes on with the next shard.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from rich.progress import track

from mentorgym.agents.toolbox.augmentation import mirrored_caption
from mentorgym.agents.toolbox.runs import describe_start, write_atomically
from mentorgym.agents.toolbox.shards import ANCHORS, UNFINISHED, filling, stratified_order, to_png, write_shard
from mentorgym.benchmarks.harness.command import UsageError, progress_console, show, verb
from mentorgym.envs.caption import language
from mentorgym.envs.caption.data import load_scenes
from mentorgym.envs.caption.scenes import Scenes

SCENES_IN_A_SHARD = 500


@dataclass
class Args:
    """Write scenes as shards."""

    output: Path
    """folder of the shards"""
    split: Literal["train", "val", "test", "toy"] = "train"
    """split of the scenes; toy is the RLOO paper's eighth of BDD-OIA's"""
    data: str = "staged"
    """staged, staged:paper with the RLOO paper's imbalance, or a folder with BDD-OIA's files"""
    labels: Literal["one", "all"] = "one"
    """scenes with one action and one reason each, or with all that hold"""
    reason_order: Literal["file", "table1"] = "file"
    """order of the reasons in BDD-OIA's files"""
    share: float = 1.0
    """share of the scenes to keep"""
    seed: int = 0
    """seed of the choice"""
    longest: int = 640
    """pixels of a picture's longer side, at most; larger ones are shrunk"""


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """The picture, uint8 [H, W, 3], with no side longer than `longest` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    return np.asarray(image)


def words_of(scenes: Scenes) -> tuple[list[dict[str, Any]], list[str]]:
    """What is told of each scene, and the captions that they are weighed against: none for scenes of several labels.

    Those are the captions of the 21 reasons, and after them what else BDD-OIA's own files pair, with its mirror image,
    which a picture that is flipped has.
    """
    names, actions, reasons = scenes.labels
    captions = scenes.labels.captions()
    words: list[dict[str, Any]] = [
        {"prompt": language.PROMPT, "answer": caption, "caption": caption, "name": name}
        for caption, name in zip(captions, names, strict=True)
    ]
    if (actions.sum(1) > 1).any() or (reasons.sum(1) > 1).any():
        return words, []
    anchors = list(dict.fromkeys([*language.captions(), *sorted({*captions, *map(mirrored_caption, captions)})]))
    places = {caption: place for place, caption in enumerate(anchors)}
    for each in words:
        each |= {"context": 0, "label": places[each["caption"]]}
    return words, anchors


def write(args: Args) -> dict[str, Any]:
    """Write the shards that are missing in `args.output`; what there is of the captions, and how many scenes."""
    if not 0.0 < args.share <= 1.0:
        raise UsageError("--share is more than 0 and at most 1")
    if args.longest < 1:
        raise UsageError("--longest counts from 1")
    flags = {name: value for name, value in asdict(args).items() if name not in ("output", "as_json")}
    about = args.output / "collection.json"
    if about.exists():
        before = json.loads(about.read_text())["flags"]
        if differ := sorted(name for name in flags.keys() | before.keys() if flags.get(name) != before.get(name)):
            raise UsageError(f"{args.output} holds data with another {', '.join(differ)}: choose another --output")
    elif args.output.exists() and any(path.name != UNFINISHED for path in args.output.iterdir()):
        raise UsageError(f"{args.output} holds something else: choose another --output")
    try:
        scenes = load_scenes(args.data, args.split, labels=args.labels, reason_order=args.reason_order)
        words, anchors = words_of(scenes)
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(str(error)) from error
    strata = [each["caption"] for each in words] if args.labels == "all" else scenes.labels.reasons.argmax(1)
    order = stratified_order(strata, args.seed)
    chosen = order[: max(1, round(args.share * len(order)))].tolist()
    with filling(args.output):
        write_atomically(about, json.dumps({"flags": flags, "start": describe_start()}, indent=2) + "\n")
        if anchors:
            write_atomically(args.output / ANCHORS, json.dumps([anchors], indent=0) + "\n")
        starts = range(0, len(chosen), SCENES_IN_A_SHARD)
        for number, start in enumerate(track(starts, "writing", console=progress_console, transient=True)):
            path = args.output / f"{number:05d}.tar"
            if path.exists():
                continue
            group = chosen[start : start + SCENES_IN_A_SHARD]
            samples = []
            for place, index in enumerate(group, start):
                try:
                    picture = shrink(scenes.frames(index, 1)[-1], args.longest)
                except ValueError as error:
                    raise UsageError(str(error)) from error
                samples.append((f"{place:08d}", to_png(picture), words[index]))
            write_shard(path, samples)
    distinct = len({words[index]["caption"] for index in chosen})
    return {"output": str(args.output), "scenes": len(chosen), "of": len(words), "captions": distinct}


@verb("caption-data")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    result = write(args)
    show(*(f"{name}: {value}" for name, value in result.items()))
    return result
