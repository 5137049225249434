"""Train the small models that RLS3 starts from, from nothing, on what a random policy leaves behind it.

    python -m mentorgym.benchmarks.spatial_start clip --output start/clip
    python -m mentorgym.benchmarks.spatial_start vlm --output start/vlm

They show `samples.arrangements("train", ...)` with a seed of their own, small, as seen and mirrored, with left and
right changed in the words. All ordered pairs of objects are asked about, or make captions with two altered ones. A VLM
is first asked in every other question where an object is, and answers with the row and the column of the picture, cut
into 8 by 8: it takes far longer to connect names with what it sees by relations alone. Training is short on purpose;
the rest is for loops to add.
"""

import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.progress import track

from mentorgym.agents.toolbox import start_torch
from mentorgym.benchmarks.cli import UsageError, progress_console, run_command, show
from mentorgym.envs.spatial import language, relations
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.picture import draw
from mentorgym.envs.spatial.samples import arrangements
from mentorgym.mentors.checkpoints import save_pretrained
from mentorgym.mentors.tiny import build_clip, build_vlm
from mentorgym.mentors.trainable import TrainableClip, TrainableVlm

SIDE = 112
"""Pixels of a drawn picture's sides: the models read fewer."""

GRID = 8
"""Rows, and columns, that a picture is cut into to tell places."""

UPDATES = 200
"""Updates between two lines of losses."""

SIZES = ("image_size", "patch_size", "width", "vision_layers", "text_layers")

PHRASES = tuple(f"{article} {name}" for name in NAMES for article in ("The", " the"))
"""What is one token: to find an object in the picture, one has to be looked up."""


@dataclass
class Args:
    """Train a start model."""

    kind: tyro.conf.Positional[Literal["clip", "vlm"]]
    """which"""
    output: Path
    """folder for it"""
    samples: int = 3_000
    """pictures"""
    updates: int = 2_000
    """gradient updates"""
    places: float = 0.5
    """vlm: share of the updates in which every other question asks for a place"""
    batch_size: int = 32
    """questions in a batch, or pictures"""
    learning_rate: float = 1e-3
    """highest learning rate (AdamW)"""
    image_size: int = 96
    """side of the pictures in pixels, as the model reads them"""
    patch_size: int = 12
    """side of its patches in pixels"""
    width: int = 128
    """its width"""
    vision_layers: int = 2
    """layers of its vision tower"""
    text_layers: int = 3
    """layers of its language model or text tower"""
    seed: int = 0
    """seed of the weights and the batches"""
    sample_seed: int = 1
    """seed of the pictures; 0 is that of the fixed sets"""
    torch_threads: int = 1
    """threads of torch"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """print one JSON object instead of text"""


def mirrored(terms: Sequence[str]) -> tuple[str, ...]:
    """The terms that hold in the picture's mirror image."""
    return tuple(relations.OPPOSITES[term] if term in relations.SIDE else term for term in terms)


def words_of(arrangement: Arrangement, generator: np.random.Generator) -> Iterator[tuple[bool, str, str, list[str]]]:
    """For all ordered pairs, as seen and mirrored: whether it is mirrored, question, caption and two altered ones."""
    for pair in itertools.permutations(range(len(arrangement.objects)), 2):
        terms = relations.relation_of(arrangement, *pair).terms
        names = [arrangement.names[place] for place in pair]
        for flip in (False, True):
            held = mirrored(terms) if flip else terms
            swaps = language.term_swaps(held)
            swapped = swaps[generator.integers(len(swaps))]
            altered = [language.caption(*names, swapped), language.caption(*names[::-1], held)]
            yield flip, language.question(*names), language.caption(*names, held), altered


def places_of(arrangement: Arrangement) -> Iterator[tuple[bool, str, str]]:
    """For each object in view, as seen and mirrored: whether it is mirrored, a question for its place, the answer."""
    camera = arrangement.camera
    offsets = (arrangement.centres - np.array(camera.position)) @ camera.axes().T
    focal = camera.width / 2 / np.tan(camera.field / 2)
    for name, (ahead, right, down) in zip(arrangement.names, offsets, strict=True):
        column = 0.5 + right / ahead * focal / camera.width
        row = 0.5 + down / ahead * focal / camera.height
        if ahead > 0 and 0 <= column < 1 and 0 <= row < 1:
            for flip in (False, True):
                across = 1 - column if flip else column
                told = f"Row {int(row * GRID)}, column {min(int(across * GRID), GRID - 1)}."
                yield flip, f"Where is the {name}?", told


def corpus() -> list[str]:
    """All that the models are to read and write."""
    places = [f"Row {row}, column {column}." for row in range(GRID) for column in range(GRID)]
    return [*language.all_captions(), *language.all_questions(), *(f"Where is the {name}?" for name in NAMES), *places]


def shown(rooms: Sequence[Arrangement]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The picture of each arrangement and its mirror image."""
    drawn = (draw(each, SIDE).colours for each in track(rooms, "drawing", console=progress_console, transient=True))
    return [(picture, np.ascontiguousarray(picture[:, ::-1])) for picture in drawn]


def train_vlm(args: Args, folder: Path, rooms: Sequence[Arrangement]) -> Iterator[float]:
    """Train the VLM in `folder` and save it; the mean loss of every `UPDATES` updates."""
    generator = np.random.default_rng([args.seed, 1])
    vlm = TrainableVlm(str(folder), batch_size=args.batch_size, learning_rate=args.learning_rate, autocast="bfloat16")
    pictures = shown(rooms)
    told = [
        (place, flip, question, answer)
        for place, arrangement in enumerate(rooms)
        for flip, question, answer, _ in words_of(arrangement, generator)
    ]
    places = [(place, *each) for place, arrangement in enumerate(rooms) for each in places_of(arrangement)]
    for done in range(0, args.updates, UPDATES):
        first = done < args.places * args.updates
        count = UPDATES * args.batch_size
        chosen = [told[row] for row in generator.choice(len(told), count // 2 if first else count)]
        chosen += [places[row] for row in generator.choice(len(places), count // 2)] if first else []
        columns = [list(column) for column in zip(*chosen, strict=True)]
        seen = [pictures[place][int(flip)] for place, flip in zip(columns[0], columns[1], strict=True)]
        yield float(vlm.fine_tune(seen, columns[2], columns[3], UPDATES, seed=args.seed + done).mean())
        vlm.save(args.output, "float16")


def train_clip(args: Args, folder: Path, rooms: Sequence[Arrangement]) -> Iterator[float]:
    """Train the CLIP in `folder` and save it; the mean loss of every `UPDATES` updates."""
    generator = np.random.default_rng([args.seed, 1])
    clip = TrainableClip(str(folder), batch_size=args.batch_size, learning_rate=args.learning_rate, autocast="bfloat16")
    pictures = shown(rooms)
    told = [
        (place, flip, caption, altered)
        for place, arrangement in enumerate(rooms)
        for flip, _, caption, altered in words_of(arrangement, generator)
    ]
    for done in range(0, args.updates, UPDATES):
        columns = [
            list(column)
            for column in zip(
                *(told[row] for row in generator.choice(len(told), UPDATES * args.batch_size)), strict=True
            )
        ]
        seen = [pictures[place][int(flip)] for place, flip in zip(columns[0], columns[1], strict=True)]
        yield float(clip.fine_tune(seen, columns[2], columns[3], epochs=1, seed=args.seed + done).mean())
        clip.save(args.output, "float16")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` are those of the command line by default."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    args = tyro.cli(Args, args=arguments, prog="spatial_start", description=__doc__)

    def job() -> dict[str, Any]:
        if args.sample_seed == 0:
            raise UsageError("--sample-seed 0 is that of the fixed sets")
        start_torch(args.seed, args.torch_threads)
        build, train = (build_clip, train_clip) if args.kind == "clip" else (build_vlm, train_vlm)
        sizes = {name: getattr(args, name) for name in SIZES}
        model, processor = build(corpus(), **sizes, phrases=PHRASES)
        losses = []
        with tempfile.TemporaryDirectory() as folder:
            save_pretrained(model, processor, torch.float32, Path(folder))
            rooms = list(itertools.islice(arrangements("train", args.sample_seed), args.samples))
            for loss in train(args, Path(folder), rooms):
                losses.append(loss)
                show(f"{len(losses) * UPDATES:>6,}/{args.updates:,} updates  loss {loss:.4f}")
        return {"output": str(args.output), "losses": losses}

    run_command("spatial_start", job, args.as_json)


if __name__ == "__main__":
    main()
