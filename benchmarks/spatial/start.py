"""Train the small models that RLS3 starts from, from nothing, on what a random policy leaves behind it.

    mentorgym spatial-start clip --output start/clip
    mentorgym spatial-start vlm --output start/vlm

They show `samples.arrangements("train", ...)` with a seed of their own, small, as seen and mirrored, with left and
right changed in the words. It takes far longer to learn from relations alone what names and places are. So the vision
tower first learns to find the objects; then questions, or captions, tell where in the picture objects are, by row and
column of 8 by 8; and then several ordered pairs of a picture's objects are asked about at once, or make captions with
two altered ones each, beside the places. Training is short on purpose; the rest is for loops to add.
"""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from rich.progress import track

from mentorgym.agents.toolbox import start_torch
from mentorgym.benchmarks.harness.command import UsageError, progress_console, show, verb
from mentorgym.envs.spatial import language, relations
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.picture import draw
from mentorgym.envs.spatial.samples import arrangements
from mentorgym.mentors.checkpoints import save_pretrained
from mentorgym.mentors.mentor import IMAGE_SLOT
from mentorgym.mentors.tiny import build_clip, build_vlm
from mentorgym.mentors.trainable import (
    HIGHEST_SCALE,
    MAX_NORM,
    TrainableClip,
    TrainableVlm,
    contrastive_losses,
    make_optimizer,
    take_step,
)
from mentorgym.mentors.vlm import render_prompt, render_reply

SIDE = 112
"""Pixels of a drawn picture's sides: the models read fewer."""

GRID = 8
"""Rows, and columns, that a picture is cut into to tell places."""

UPDATES = 50
"""Updates between two lines of losses, after which the model is saved."""

QUESTIONS = 4
"""Relations of a picture that are learned at once, beside half as many places."""

WARM_UP, FALLING = 50, 0.3
"""Updates over which the learning rate rises, and the share of the last ones over which it falls to 0."""

WEIGHT_DECAY = 0.05

SIGHTS = 48
"""Pictures in a batch of the vision tower alone."""

SCALE = 30.0
"""First scale of a CLIP's cosines: from a lower one it takes longer."""

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
    sight: int = 300
    """gradient updates of the vision tower alone, which finds objects"""
    updates: int = 1_000
    """gradient updates of the whole model"""
    places: float = 0.5
    """share of the updates in which places alone are learned, before relations join them"""
    batch_size: int = 16
    """pictures in a batch"""
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


def mirrored(terms: Sequence[str]) -> tuple[str, ...]:
    """The terms that hold in the picture's mirror image."""
    return tuple(relations.OPPOSITES[term] if term in relations.SIDE else term for term in terms)


def words_of(arrangement: Arrangement, generator: np.random.Generator) -> Iterator[tuple[bool, str, str, list[str]]]:
    """For all ordered pairs, as seen and mirrored: whether it is mirrored, question, caption and two altered ones."""
    for pair in itertools.permutations(range(len(arrangement.objects)), 2):
        terms = relations.relation_of(arrangement, *pair).terms
        subject, referent = (arrangement.names[place] for place in pair)
        for flip in (False, True):
            held = mirrored(terms) if flip else terms
            swaps = language.term_swaps(held)
            swapped = swaps[generator.integers(len(swaps))]
            altered = [language.caption(subject, referent, swapped), language.caption(referent, subject, held)]
            yield flip, language.question(subject, referent), language.caption(subject, referent, held), altered


def seen_at(arrangement: Arrangement) -> Iterator[tuple[int, float, float]]:
    """Of each object in view its index, and the shares of the picture that lie above and to the left of its middle."""
    camera = arrangement.camera
    offsets = (arrangement.centres - np.array(camera.position)) @ camera.axes().T
    focal = camera.width / 2 / np.tan(camera.field / 2)
    for index, (ahead, right, down) in zip(arrangement.objects, offsets, strict=True):
        column = 0.5 + right / ahead * focal / camera.width
        row = 0.5 + down / ahead * focal / camera.height
        if ahead > 0 and 0 <= column < 1 and 0 <= row < 1:
            yield index, float(row), float(column)


def places_of(arrangement: Arrangement) -> Iterator[tuple[bool, str, str]]:
    """For each object in view, as seen and mirrored: whether it is mirrored, a question for its place, the answer."""
    for index, row, column in seen_at(arrangement):
        for flip in (False, True):
            across = min(int((1 - column if flip else column) * GRID), GRID - 1)
            yield flip, f"Where is the {NAMES[index]}?", f"Row {int(row * GRID)}, column {across}."


def located(told: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Captions that tell objects' places, from questions for them and answers, each with two that are false.

    Those give it the next object's place, or that one its own, where the two differ.
    """
    names = [question.removeprefix("Where is ").removesuffix("?") for question, _ in told]
    cells = [f"is in {answer[0].lower()}{answer[1:]}" for _, answer in told]
    found = []
    for k in range(len(told)):
        other = (k + 1) % len(told)
        if cells[k] != cells[other]:
            pairs = ((k, k), (k, other), (other, k))
            caption, *altered = (f"T{names[name][1:]} {cells[cell]}" for name, cell in pairs)
            found.append((caption, altered))
    return found


def corpus() -> list[str]:
    """All that the models are to read and write."""
    places = [f"Row {row}, column {column}." for row in range(GRID) for column in range(GRID)]
    told = [f"The {name} is in row {row}, column {row}." for name in NAMES for row in range(GRID)]
    asked = [f"Where is the {name}?" for name in NAMES]
    return [*language.all_captions(), *language.all_questions(), *asked, *places, *told]


def shown(rooms: Sequence[Arrangement]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The picture of each arrangement and its mirror image."""
    drawn = (draw(each, SIDE).colours for each in track(rooms, "drawing", console=progress_console, transient=True))
    return [(picture, np.ascontiguousarray(picture[:, ::-1])) for picture in drawn]


def learn_to_see(
    args: Args,
    tower: Any,
    prepare: Any,
    pictures: Sequence[tuple[np.ndarray, np.ndarray]],
    rooms: Sequence[Arrangement],
) -> Iterator[float]:
    """Train a vision tower to tell which of its patches has the middle of each object, and where in the picture it is.

    A feature that says where it is lets a language model compare places, which itself counts tokens from one another
    alone. Yields the mean loss of every `UPDATES` updates; `prepare` is the image processor. What reads the tower's
    features for that is not kept.
    """
    generator = np.random.default_rng([args.seed, 2])
    grid = args.image_size // args.patch_size
    head = torch.nn.Linear(args.width, 3 * len(NAMES))
    optimizer = make_optimizer(torch.nn.ModuleList([tower, head]), WEIGHT_DECAY)
    places = [list(seen_at(room)) for room in rooms]
    losses = []
    for step in range(args.sight):
        shown, targets = [], []
        for place, row in enumerate(generator.integers(len(rooms), size=SIGHTS)):
            flip = int(generator.integers(2))
            shown.append([Image.fromarray(pictures[row][flip])])
            targets += [(place, index, up, 1 - across if flip else across) for index, up, across in places[row]]
        pixels = prepare(shown, return_tensors="pt")["pixel_values"].view(SIGHTS, 3, args.image_size, args.image_size)
        with torch.autocast("cpu", torch.bfloat16):
            # Of a CLIP the first feature is no patch's.
            features = tower(pixel_values=pixels).last_hidden_state[:, -grid * grid :]
        told = head(features.float()).unflatten(-1, (len(NAMES), 3))
        which, index, *shares = (torch.tensor(column) for column in zip(*targets, strict=True))
        spots = (torch.stack(shares, 1) * grid).clamp(0, grid - 1e-3).float()
        cells = spots.long()[:, 0] * grid + spots.long()[:, 1]
        found = F.cross_entropy(told[which, :, index, 0], cells)
        loss = found + (told[which, cells, index, 1:] - spots).abs().mean()
        take_step(optimizer, loss, args.learning_rate * min(1.0, (step + 1) / WARM_UP), MAX_NORM)
        losses.append(loss.item())
        if (step + 1) % UPDATES == 0:
            yield float(np.mean(losses[-UPDATES:]))


class Lessons:
    """Several questions about each picture in one pass, which is that of one question each, but reads pictures once.

    Each question and its answer see the picture and themselves alone, and count their places from the picture on.
    """

    def __init__(self, vlm: TrainableVlm):
        self.vlm, self.processor = vlm, vlm.vlm.processor
        text = render_prompt(self.processor, IMAGE_SLOT)
        read = self.processor(text=[text], images=[[Image.new("RGB", (SIDE, SIDE))]])["input_ids"][0]
        after = self._after_picture("")
        self.picture = read[: len(read) - len(after)]
        """the tokens up to the question"""

    def _after_picture(self, question: str) -> list[int]:
        text = render_prompt(self.processor, IMAGE_SLOT + question).partition(IMAGE_SLOT)[2]
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def loss(self, pictures: Sequence[np.ndarray], told: Sequence[Sequence[tuple[str, str]]]) -> torch.Tensor:
        """Mean cross-entropy of the answers' tokens; `told` are questions and answers for each picture."""
        tokenizer = self.processor.tokenizer
        rows: list[list[list[int]]] = []
        for lessons in told:
            start = len(self.picture)
            row = [list(self.picture), [-100] * start, [0] * start, list(range(start))]
            for part, (question, answer) in enumerate(lessons, 1):
                asked = self._after_picture(question)
                reply = render_reply(self.processor, IMAGE_SLOT + question, answer)
                replied = tokenizer(reply, add_special_tokens=False)["input_ids"]
                count = len(asked) + len(replied)
                row[0] += asked + replied
                row[1] += [-100] * len(asked) + replied
                row[2] += [part] * count
                row[3] += range(start, start + count)
            rows.append(row)
        tokens, labels, parts, places = (
            torch.nn.utils.rnn.pad_sequence([torch.tensor(row[k]) for row in rows], True, filler)
            for k, filler in enumerate((tokenizer.pad_token_id, -100, -1, 0))
        )
        earlier = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()
        seen = earlier & ((parts[:, None, :] == 0) | (parts[:, None, :] == parts[:, :, None]))
        images = [[Image.fromarray(picture)] for picture in pictures]
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.vlm.model(
                input_ids=tokens,
                attention_mask=torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None],
                position_ids=places,
                pixel_values=self.processor.image_processor(images, return_tensors="pt")["pixel_values"],
                use_cache=False,
            ).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)


def train_vlm(args: Args, folder: Path, rooms: Sequence[Arrangement]) -> Iterator[float]:
    """Train the VLM in `folder` and save it; the mean loss of every `UPDATES` updates.

    Once it sees, its vision tower stays: what comes back from words that are still guessed would undo it.
    """
    generator = np.random.default_rng([args.seed, 1])
    vlm = TrainableVlm(str(folder))
    lessons, tower = Lessons(vlm), vlm.model.model.vision_model
    pictures = shown(rooms)
    yield from learn_to_see(args, tower, lessons.processor.image_processor, pictures, rooms)
    tower.requires_grad_(False)
    optimizer = make_optimizer(vlm.model, WEIGHT_DECAY)
    told = [list(words_of(room, generator)) for room in rooms]
    places = [list(places_of(room)) for room in rooms]
    losses = []
    for step in range(args.updates):
        seen, asked = [], []
        for row in generator.integers(len(rooms), size=args.batch_size):
            flip = bool(generator.integers(2))
            some = [(question, answer) for mirror, question, answer in places[row] if mirror == flip]
            if step >= args.places * args.updates:
                some = [some[k] for k in generator.permutation(len(some))[: QUESTIONS // 2]]
                pairs = [(question, caption) for mirror, question, caption, _ in told[row] if mirror == flip]
                some += [pairs[k] for k in generator.permutation(len(pairs))[:QUESTIONS]]
            seen.append(pictures[row][int(flip)])
            asked.append(some)
        loss = lessons.loss(seen, asked)
        take_step(optimizer, loss, rate(args, step), MAX_NORM)
        losses.append(loss.item())
        if (step + 1) % UPDATES == 0:
            vlm.save(args.output, "float16")
            yield float(np.mean(losses[-UPDATES:]))


def train_clip(args: Args, folder: Path, rooms: Sequence[Arrangement]) -> Iterator[float]:
    """Train the CLIP in `folder` and save it; the mean loss of every `UPDATES` updates.

    A picture is read once for all its captions, none of which is false of it.
    """
    generator = np.random.default_rng([args.seed, 1])
    clip = TrainableClip(str(folder))
    optimizer = make_optimizer(clip.model, WEIGHT_DECAY)
    pictures = shown(rooms)
    yield from learn_to_see(args, clip.model.vision_model, clip.scorer.image_processor, pictures, rooms)
    told = [list(words_of(room, generator)) for room in rooms]
    places = [list(places_of(room)) for room in rooms]
    losses = []
    for step in range(args.updates):
        seen: list[np.ndarray] = []
        captions: list[str] = []
        altered: list[list[str]] = []
        owner: list[int] = []
        for row in generator.integers(len(rooms), size=args.batch_size):
            flip = bool(generator.integers(2))
            chosen = located([each[1:] for each in places[row] if each[0] == flip])
            if step >= args.places * args.updates:
                some = [each for each in told[row] if each[0] == flip]
                chosen = chosen[: QUESTIONS // 2]
                chosen += [each[2:] for each in (some[k] for k in generator.permutation(len(some))[:QUESTIONS])]
            owner += len(chosen) * [len(seen)]
            seen.append(pictures[row][int(flip)])
            captions += [caption for caption, _ in chosen]
            altered += [negatives for _, negatives in chosen]
        belongs = np.array(owner)
        same = np.array(captions)[:, None] == np.array([*captions, *itertools.chain(*zip(*altered, strict=True))])
        same[:, : len(captions)] |= belongs[:, None] == belongs
        with torch.autocast("cpu", torch.bfloat16):
            images = clip.encode_pictures(seen)[belongs]
            texts = clip.encode_texts([*captions, *itertools.chain(*zip(*altered, strict=True))])
        loss = contrastive_losses(images, texts, torch.from_numpy(same), clip.model.logit_scale.exp()).mean()
        take_step(optimizer, loss, rate(args, step), MAX_NORM)
        with torch.no_grad():
            clip.model.logit_scale.clamp_(max=HIGHEST_SCALE)
        losses.append(loss.item())
        if (step + 1) % UPDATES == 0:
            clip.save(args.output, "float16")
            yield float(np.mean(losses[-UPDATES:]))


def rate(args: Args, step: int) -> float:
    """The learning rate of an update: it rises, stays, and falls to 0."""
    falling = (args.updates - step) / (FALLING * args.updates)
    return args.learning_rate * min(1.0, (step + 1) / WARM_UP, falling)


@verb("spatial-start")
def main(args: Args) -> dict[str, Any]:
    """The command."""
    if args.sample_seed == 0:
        raise UsageError("--sample-seed 0 is that of the fixed sets")
    start_torch(args.seed, args.torch_threads)
    sizes = {name: getattr(args, name) for name in SIZES}
    if args.kind == "clip":
        model, processor = build_clip(corpus(), **sizes, scale=SCALE, phrases=PHRASES)
    else:
        model, processor = build_vlm(corpus(), **sizes, phrases=PHRASES)
    train = train_clip if args.kind == "clip" else train_vlm
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, processor, torch.float32, Path(folder))
        rooms = list(itertools.islice(arrangements("train", args.sample_seed), args.samples))
        for loss in train(args, Path(folder), rooms):
            losses.append(loss)
            show(f"{len(losses) * UPDATES:>6,}/{args.sight + args.updates:,} updates  loss {loss:.4f}")
    return {"output": str(args.output), "losses": losses}
