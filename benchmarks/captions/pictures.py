"""Draw scenes with what is said of them, right and wrong in colours, as in the RLOO paper's Fig. 4.

    mentorgym caption-pictures --run runs/BddOia-Caption-v0/rloo__seed1__0123abcd
    mentorgym caption-pictures --model vlm:my_model --pictures holiday/*.jpg

On each picture four arrows stand for forward (up), stop (down), turn left and turn right; below it are the actions and
reasons. Green is said and true, red said and wrong, gray true and not said. Of users' own pictures nobody knows what is
true: what is said of them is black. A text that names neither action nor reason stands there as it is.

Scenes are by default those of the test split, in towns that no training has seen, of all reasons alike.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mentorgym.benchmarks.captions import measure as captions
from mentorgym.benchmarks.harness.command import UsageError, show, user_input, verb
from mentorgym.benchmarks.harness.plots import new_figure
from mentorgym.envs.caption import language
from mentorgym.envs.caption.scenes import Labels
from mentorgym.pictures import read_rgb

RIGHT, WRONG, MISSED, UNKNOWN = "#1a8a2e", "#cc2222", "#8a8a8a", "#111111"

ARROWS = ((0.0, 1.0), (0.0, -1.0), (-1.0, 0.0), (1.0, 0.0))
"""Where the arrows of the 4 actions point."""


@dataclass
class Args(captions.SceneFlags):
    """Draw scenes with predictions."""

    run: Path | None = None
    """folder of a finished training run"""
    model: str = ""
    """or a model that was not trained here: a folder or hub name, or a mentor"""
    driver: str = ""
    """or a baseline: majority, random, truth; with --run, the agent's file where it is not in `agents/`"""
    pictures: tuple[Path, ...] = ()
    """picture files to describe in place of scenes"""
    limit: int = 12
    """scenes to draw"""
    across: int = 4
    """pictures in a row"""
    device: str = "cpu"
    """torch device of the model"""
    output: Path = Path("runs/captions.png")
    """file for the drawing"""


@dataclass(frozen=True)
class Description:
    """A picture uint8 [H, W, 3], what was said of it, and its true actions bool [4] and reasons bool [21] if known."""

    picture: np.ndarray
    text: str
    truth: tuple[np.ndarray, np.ndarray] | None


def colour(named: bool, true: bool | None) -> str | None:
    """The colour of a class, None for one that is neither named nor true."""
    if true is None:
        return UNKNOWN if named else None
    return (RIGHT if true else WRONG) if named else MISSED if true else None


def action_colours(described: Description) -> list[str | None]:
    """Colours of the 4 actions."""
    named = language.read(described.text).actions.tolist()
    true = described.truth[0].tolist() if described.truth else [None] * len(named)
    return [colour(*each) for each in zip(named, true, strict=True)]


def lines(described: Description) -> list[tuple[str, str]]:
    """What stands below a picture, line by line, each with its colour."""
    reading = language.read(described.text)
    rows = []
    true = described.truth[1].tolist() if described.truth else [None] * len(reading.reasons)
    for names, colours in (
        (language.ACTIONS, action_colours(described)),
        (language.REASONS, [colour(*each) for each in zip(reading.reasons.tolist(), true, strict=True)]),
    ):
        rows += [(name, each) for name, each in zip(names, colours, strict=True) if each]
    if not reading.actions.any() and not reading.reasons.any():
        words = "".join(letter if letter.isprintable() else " " for letter in described.text).strip()
        shortened = textwrap.shorten(words, 80) or "(nothing)"
        rows += [(part, WRONG if described.truth else UNKNOWN) for part in textwrap.wrap(shortened, 34)]
    return rows


def describe_scenes(speaker: captions.Speaker, tasks: captions.SceneFlags) -> list[Description]:
    """Scenes of `tasks`, settled, with what is said of them."""
    scenes = captions.open_scenes(tasks)
    indices = captions.choose(scenes, tasks.limit)
    texts = captions.describe(speaker.open(scenes.labels), scenes, indices, tasks.frames, tasks.batch_size)
    actions, reasons = scenes.labels.actions, scenes.labels.reasons
    return [
        Description(scenes.frames(index, 1)[0], text, (actions[index], reasons[index]))
        for index, text in zip(indices.tolist(), texts, strict=True)
    ]


def describe_pictures(speaker: captions.Speaker, paths: Sequence[Path]) -> list[Description]:
    """Users' pictures, which are shown one by one, for each has a size of its own."""
    say = speaker.open(Labels([], np.zeros((0, 4), bool), np.zeros((0, 21), bool)))
    described = []
    for path in paths:
        with user_input(f"{path} is no picture that can be read: "):
            picture = read_rgb(path)
        (text,) = say(np.zeros(1, np.int64), {"frames": picture[None, None], "instruction": (language.PROMPT,)})
        described.append(Description(picture, text, None))
    return described


def draw(described: Sequence[Description], across: int, title: str, path: Path) -> None:
    """Write the pictures as a grid, PNG."""
    across = min(across, len(described))
    down = -(-len(described) // across)
    most = max(len(lines(each)) for each in described)
    with new_figure(path, 3.2 * across, (1.9 + 0.17 * most) * down + 0.4, dpi=110, frames=True) as figure:
        for axes in (grid := figure.subplots(down, across, squeeze=False).ravel()):
            axes.set_axis_off()
        for axes, each in zip(grid, described, strict=False):
            axes.imshow(each.picture)
            dial = axes.inset_axes((0.83, 0.72, 0.16, 0.27))
            dial.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), xticks=[], yticks=[], facecolor=(1, 1, 1, 0.75))
            for (x, y), own in zip(ARROWS, action_colours(each), strict=True):
                style = {"width": 0.2, "head_width": 0.75, "head_length": 0.5, "length_includes_head": True}
                dial.arrow(0.25 * x, 0.25 * y, x, y, color=own or "#dddddd", linewidth=0, **style)
            for place, (words, own) in enumerate(lines(each)):
                # What a model writes between two dollars is no formula.
                spot = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "parse_math": False}
                axes.annotate(words, (0, 0), xytext=(0, -3 - 12 * place), color=own, **spot)
            # Room for the longest text, so that all pictures are of one size.
            axes.annotate(" ", (0, 0), xytext=(0, -3 - 12 * most), **spot)
        figure.suptitle(title, parse_math=False)


def load_speaker(args: Args) -> captions.Speaker:
    """The one that `args` name."""
    if sum((bool(args.run), bool(args.model), args.driver in captions.BASELINES)) > 1:
        raise UsageError("one describes the pictures: give --run, --model or --driver")
    if args.pictures and args.driver in captions.BASELINES:
        raise UsageError(f"{args.driver} looks at labels, which pictures of one's own have not: give --run or --model")
    named = captions.Args(
        run=(args.run,) if args.run else (),
        model=(args.model,) if args.model else (),
        driver=(args.driver,) if args.driver else (),
        device=args.device,
    )
    return next(captions.load_speakers(named))


@verb("caption-pictures")
def main(args: Args) -> dict[str, Any]:
    """Describe the pictures, and draw them."""
    if args.across < 1 or args.limit < 1:
        raise UsageError("--across and --limit count from 1")
    speaker = load_speaker(args)
    if args.pictures:
        described, where = describe_pictures(speaker, args.pictures), f"{len(args.pictures)} pictures"
    else:
        tasks = captions.settle(args, speaker.training)
        described, where = describe_scenes(speaker, tasks), f"{tasks.data}, {tasks.split}"
    args.output.parent.mkdir(parents=True, exist_ok=True)
    draw(described, args.across, f"{speaker.name} on {where}", args.output)
    show(f"drawn: {args.output}")
    return {"picture": str(args.output), "texts": [each.text for each in described]}
