"""Measure captions: what trained captioners, other models and baselines say of the scenes of a split.

    mentorgym evaluate --run runs/BddOia-Caption-v0/rloo__seed1__0123abcd
    mentorgym evaluate --env BddOia-Caption-v0 --model HuggingFaceTB/SmolVLM-Instruct --driver majority truth

Each scene is described once, greedily. The row of a run, a model or a baseline (`benchmarks.harness.rows`) holds what
`metrics.measure` makes of its captions and, with a reward model, over the captions the mean of the probability that it
gives them (`clip_score`) and the share above 0.5 (`match`); the same of their parts alone, "Action: stop." and "Reason:
Traffic sign." (`action_clip_score` and so on), over the captions that name any.

Rows go to `--output`, else to the run's `eval.jsonl`, else to `runs/rows/<name>__BddOia-Caption-v0.jsonl`; a row that
is already there for the same scenes is replaced. What a run said of each goes to its
`predictions_<data>_<split>_<labels>.jsonl`.

Fields of a row:

- `data`, `split`, `labels` ("one" or "all"), `frames`, `scenes`: which scenes were described, how many frames of each
  were shown, and how many scenes there were
- `label_share`: the share of the labelled scenes that training saw, null where nobody said
- `classes`: of the `actions` and of the `reasons` each class's `f1`, `support` and number `predicted`
- `majority`: the score of the most frequent caption, given to every scene
- `reward_model`: the `name` of the CLIP that `score` holds the means of, and the `weights`' digest; null for none
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from rich.table import Table

from mentorgym.agents.toolbox import parse_keywords, start_torch
from mentorgym.agents.toolbox.runs import write_atomically
from mentorgym.agents.toolbox.shards import stratified_order
from mentorgym.benchmarks.families import Row, family_of
from mentorgym.benchmarks.harness.agents import Training, agent_of, load_agent, read_training, run_name
from mentorgym.benchmarks.harness.command import UsageError, track, user_input
from mentorgym.benchmarks.harness.rows import add_rows, default_file, make_header
from mentorgym.benchmarks.harness.tables import driver_and_seed, group_rows, in_percent, text_table
from mentorgym.envs.caption import language, metrics
from mentorgym.envs.caption.data import load_scenes
from mentorgym.envs.caption.mentoring import CaptionAdapter
from mentorgym.envs.caption.metrics import MEASURES, class_scores, most_frequent, understand
from mentorgym.envs.caption.scenes import Labels, Scenes
from mentorgym.mentors.load import SPECS, load_mentor, weights_digest
from mentorgym.mentors.mentor import Mentor, Request

if TYPE_CHECKING:
    from mentorgym.envs.caption.reward import CaptionReward

FAMILY, ENV = "captions", "BddOia-Caption-v0"

FIELDS: dict[str, tuple[type, ...]] = {
    "data": (str,),
    "split": (str,),
    "labels": (str,),
    "frames": (int,),
    "scenes": (int,),
    "label_share": (float, type(None)),
    "classes": (dict,),
    "majority": (dict,),
    "reward_model": (dict, type(None)),
}

KEY = ("data", "split", "labels", "frames", "scenes", "label_share")

EPISODE: tuple[str, ...] = ()

CELL: tuple[str, ...] = ()

RANKS_TRAINERS = True

FIT = tuple(f"{part}{name}" for name in ("clip_score", "match") for part in ("", "action_", "reason_"))
"""Scores by a reward model."""

COLUMNS = {
    "exact": "exact",
    "action_top1": "action top-1",
    "action_macro_f1": "action macro-F1",
    "action_label_accuracy": "action label accuracy",
    "reason_top1": "reason top-1",
    "reason_macro_f1": "reason macro-F1",
    "reason_label_accuracy": "reason label accuracy",
    "out_of_vocabulary": "out of vocabulary",
    "clip_score": "CLIP score",
    "match": "match",
}
"""The scores that tables show, with headings."""

MOST_TOKENS = 64
"""Of a model's caption."""

SCORES = tuple(COLUMNS)

MORE_SCORES = tuple(name for name in (*MEASURES, *FIT) if name not in COLUMNS)

Observations = dict[str, Any]
SetOfScenes = tuple[str, str, str, str, int]
Say = Callable[[np.ndarray, Observations], Sequence[str]]
"""From the indices int64 [N] of scenes, and observations of them as the environment makes them, to N captions."""


@dataclass
class SceneFlags:
    """The scenes to describe."""

    data: str = ""
    """staged, staged:paper, or a folder with BDD-OIA's files; by default what the run was trained on, else staged"""
    split: Literal["train", "val", "test", "toy"] = "test"
    """split of the scenes"""
    labels: str = ""
    """one or all: scenes with one action and one reason each, or with all that hold; by default the run's, else one"""
    reason_order: str = ""
    """order of the reasons in BDD-OIA's files, file or table1; by default the run's, else file"""
    frames: int = 0
    """frames of a scene that are shown, the last ones; by default the run's, else 1"""
    limit: int = 0
    """scenes to describe, of all reasons alike; all of them for 0"""
    batch_size: int = 64
    """scenes that are described at once"""


Which = TypeVar("Which", bound=SceneFlags)


@dataclass
class Tasks(SceneFlags):
    """The scenes to describe, and what judges that."""

    env: str = ENV
    """environment id: this one"""
    reward_model: str = ""
    """folder or hub name of the CLIP that captions are scored by; by default our own; none to do without"""


@dataclass
class Args(Tasks):
    """Measure captions."""

    run: tuple[Path, ...] = ()
    """folders of finished training runs, of captioners or of `sft`"""
    model: tuple[str, ...] = ()
    """models that were not trained here: folders or hub names, or mentors, as the address of an endpoint"""
    model_args: tuple[str, ...] = ()
    """keyword arguments of these mentors, as in: dtype=bfloat16"""
    driver: tuple[str, ...] = ()
    """baselines: majority, random, truth; or, with --run, the agent's file, where it is not in `agents/`"""
    name: str = ""
    """name on the table; by default the agent's, the model's or the baseline's"""
    label_share: float | None = None
    """share of the labelled scenes that training saw, to be written into the row"""
    device: str = "cpu"
    """torch device of the models"""
    output: Path | None = None
    """file for the rows"""


@dataclass(frozen=True)
class Speaker:
    """An agent, a model or a baseline that describes scenes."""

    name: str
    open: Callable[[Labels], Say]
    """loads it; what it says, for scenes with these labels, which baselines alone look at"""
    training: Training | None = None
    weights: str | None = None
    one_picture: bool = False
    """whether it is shown the newest frame alone"""


def say_most_frequent(labels: Labels) -> Say:
    """The most frequent caption, whatever the scene."""
    caption = most_frequent(labels)
    return lambda indices, observations: [caption] * len(indices)


def say_random(labels: Labels) -> Say:
    """One of the captions that occur, each as likely as any other, drawn for each scene from its index."""
    known = sorted(set(labels.captions()))
    return lambda indices, observations: [
        known[np.random.default_rng(index).integers(len(known))] for index in indices.tolist()
    ]


def say_truth(labels: Labels) -> Say:
    """The truth."""
    truth = labels.captions()
    return lambda indices, observations: [truth[index] for index in indices.tolist()]


BASELINES: dict[str, Callable[[Labels], Say]] = {
    "majority": say_most_frequent,
    "random": say_random,
    "truth": say_truth,
}


def say_replies(mentor: Mentor, name: str) -> Say:
    """What a mentor replies to the instruction beside the newest frame; nothing where it has no answer."""

    def say(indices: np.ndarray, observations: Observations) -> list[str]:
        nothing = np.full(2, np.nan, np.float32)
        requests = [
            Request(frames[-1], instruction, 0, nothing)
            for frames, instruction in zip(observations["frames"], observations["instruction"], strict=True)
        ]
        replies = mentor(requests)
        if any(reply is not None and not isinstance(reply, str) for reply in replies):
            raise UsageError(f"{name} answers in numbers: captions need a model that writes")
        return [reply if isinstance(reply, str) else "" for reply in replies]

    return say


def mentor_spec(model: str) -> str:
    """`model` as `load_mentor` takes it: a folder or hub name, a mentor, an address, or "vlm" for our own captioner."""
    if Path(model).expanduser().is_dir():
        return f"vlm:{model}"
    model = CaptionAdapter.own_models.get(model, model)
    return model if model in SPECS or ":" in model else f"vlm:{model}"


def load_speaker(model: str, options: dict[str, Any], device: str) -> Speaker:
    """A model that was not trained here."""
    spec = mentor_spec(model)
    if spec.startswith("vlm"):
        options = {"max_new_tokens": MOST_TOKENS} | options
        options |= {"device": device} if device != "cpu" else {}

    def open_model(labels: Labels) -> Say:
        with user_input():
            return say_replies(load_mentor(spec, **options), model)

    weights = weights_digest(spec)
    folder = Path(model).expanduser().absolute()
    # Every run calls its model's folder "model".
    name = (folder.parent if folder.name == "model" else folder).name if folder.is_dir() else model
    return Speaker(name, open_model, weights=weights and weights[:12], one_picture=True)


def load_run(folder: Path, driver: str, device: str) -> Speaker:
    """Who came out of the training run in `folder`: its agent's policy, or the model that a trainer has left."""
    module = load_agent(driver or agent_of(folder))
    training = read_training(folder, module)
    env = str(training.args.get("env_id", ENV))
    if family_of(env) != FAMILY:
        raise UsageError(f"{folder} was trained in {env}: captions are measured in {ENV}")
    name = run_name(training.agent, training.flags, environment_defaults(ENV))
    if not hasattr(module, "load_policy"):
        if not (folder / "model").is_dir():
            raise UsageError(f"{folder} cannot be asked: {training.agent} has no load_policy, and there is no model/")
        speaker = load_speaker(str(folder / "model"), {}, device)
        return replace(speaker, name=name, training=training, weights=training.weights)

    def open_policy(labels: Labels) -> Say:
        with user_input(f"{folder} cannot be loaded: "):
            policy = module.load_policy(folder, device)
        return lambda indices, shown: policy(shown)

    return Speaker(name, open_policy, training, training.weights)


def load_speakers(args: Args) -> Iterator[Speaker]:
    """Everybody that `args` name, one after the other; models are loaded when they are opened."""
    files = [driver for driver in args.driver if driver not in BASELINES]
    if files and (len(files) > 1 or not args.run):
        raise UsageError(f"no baseline {files[0]!r}: there are {', '.join(BASELINES)}; of others give --run or --model")
    if not (args.run or args.model or args.driver):
        raise UsageError(f"nobody to measure: give --run FOLDER, --model NAME or --driver {' '.join(BASELINES)}")
    # More threads gain nothing on small batches, and where other programs run they wait for each other.
    start_torch(seed=0, threads=1)
    for baseline in dict.fromkeys(args.driver):
        if baseline in BASELINES:
            yield Speaker(baseline, BASELINES[baseline])
    for folder in args.run:
        yield load_run(folder, files[0] if files else "", args.device)
    with user_input("--model-args: "):
        options = parse_keywords(args.model_args)
    for model in args.model:
        yield load_speaker(model, options, args.device)


def settle(tasks: Which, training: Training | None) -> Which:
    """`tasks` with what they leave open as the run has it; raises UsageError for what does not fit."""
    keywords = parse_keywords(tuple(training.args.get("env_args", ()))) if training else {}
    own = tasks.data in ("", keywords.get("data"))
    settled = replace(
        tasks,
        data=tasks.data or str(keywords.get("data", "staged")),
        labels=tasks.labels or str(keywords.get("labels", "one")),
        reason_order=tasks.reason_order or str(keywords.get("reason_order", "file") if own else "file"),
        frames=tasks.frames or int(keywords.get("frames", 1)),
    )
    if settled.frames < 1 or settled.batch_size < 1 or settled.limit < 0:
        raise UsageError("--frames and --batch-size count from 1, --limit from 0")
    return settled


def set_of(tasks: SceneFlags) -> SetOfScenes:
    """What tells the scenes of `tasks`, settled, from others."""
    return tasks.data, tasks.split, tasks.labels, tasks.reason_order, tasks.frames


def open_scenes(tasks: SceneFlags) -> Scenes:
    """The scenes that `tasks`, settled, are about."""
    with user_input():
        scenes = load_scenes(tasks.data, tasks.split, tasks.labels, tasks.reason_order, tasks.frames)
    if not len(scenes.labels.names):
        raise UsageError(f"the split {tasks.split} of {tasks.data} has no scenes")
    return scenes


def choose(scenes: Scenes, limit: int) -> np.ndarray:
    """Indices int64 of at most `limit` scenes, in order, with as many of each reason as can be; of all for 0."""
    order = stratified_order(scenes.labels.reasons.argmax(1), 0)
    return np.sort(order[: limit or len(order)])


def describe(say: Say, scenes: Scenes, indices: np.ndarray, frames: int, batch_size: int) -> list[str]:
    """What is said of the scenes at `indices`."""
    texts: list[str] = []
    starts = range(0, len(indices), batch_size)
    for start in track(starts, "describing"):
        group = indices[start : start + batch_size]
        with user_input():
            shown = np.stack([scenes.frames(index, frames) for index in group.tolist()])
        own = list(say(group, {"frames": shown, "instruction": (language.PROMPT,) * len(group)}))
        if len(own) != len(group) or not all(isinstance(text, str) for text in own):
            raise UsageError(f"{len(group)} scenes were described by {own!r:.200}: that is not a text for each")
        texts += own
    return texts


def _part(kind: str, separator: str, names: Sequence[str], there: np.ndarray) -> str:
    """The part of a caption that names the actions or the reasons; "" for none."""
    named = [name for name, held in zip(names, there, strict=True) if held]
    return f"{kind}: {separator.join(named)}." if named else ""


def fit(reward: "CaptionReward", indices: np.ndarray, texts: Sequence[str]) -> dict[str, float]:
    """What a reward of the kind "prob" makes of `texts`, and of the actions and reasons that they name."""
    reading = understand(texts)
    parts = {
        "": list(texts),
        "action_": [_part("Action", ", ", language.ACTIONS, row) for row in reading.actions],
        "reason_": [_part("Reason", "; ", language.REASONS, row) for row in reading.reasons],
    }
    scores = {}
    for prefix, words in parts.items():
        places = [place for place, text in enumerate(words) if text or not prefix]
        if places:
            probabilities = reward.score(indices[places], [words[place] for place in places])["prob"]
            scores[f"{prefix}clip_score"] = float(probabilities.mean())
            scores[f"{prefix}match"] = float((probabilities > 0.5).mean())
    return scores


def classes(texts: Sequence[str], labels: Labels) -> dict[str, dict[str, list[float]]]:
    """F1, support and predictions of each action and each reason, as a row holds them."""
    reading = understand(texts)
    pairs = {"actions": (reading.actions, labels.actions), "reasons": (reading.reasons, labels.reasons)}
    return {
        part: {name: values.tolist() for name, values in class_scores(*pair)._asdict().items()}
        for part, pair in pairs.items()
    }


class Judge:
    """The reward models of sets of scenes, each opened once."""

    def __init__(self, model: str, device: str):
        self._model, self._device = model, device
        self._scorer: Any = None
        self._rewards: dict[SetOfScenes, CaptionReward] = {}
        self.model: dict[str, Any] | None = None
        """its name and digest; None without a model"""

    def of(self, scenes: Scenes, tasks: Tasks) -> "CaptionReward | None":
        """The reward of these scenes; None without a model."""
        if self._model == "none":
            return None
        from mentorgym.envs.caption.reward import CaptionReward, load_scorer

        key = set_of(tasks)
        with user_input("--reward-model (none does without one): "):
            if self._scorer is None:
                self._scorer = load_scorer(self._model, self._device)
                weights = weights_digest(f"clip:{self._model}" if self._model else "caption_clip")
                self.model = {"name": self._model or "caption_clip", "weights": weights and weights[:12]}
            if key not in self._rewards:
                self._rewards[key] = CaptionReward(scenes, "prob", self._scorer, frames=tasks.frames)
        return self._rewards[key]


def required_scores(row: Row) -> Sequence[str]:
    """Scores that a row has to have."""
    return tuple(MEASURES)


def environment_defaults(env: str) -> Mapping[str, Any]:
    """What the environment shows where nothing is said."""
    return {"env_id": ENV, "data": "staged"}


def make_row(speaker: Speaker, args: Args, tasks: Tasks, labels: Labels, texts: Sequence[str], command: str) -> Row:
    """The row of a speaker, but for what a reward model says of it."""
    backend = "staged" if tasks.data.split(":")[0] == "staged" else "files"
    return make_header(ENV, backend, args.name or speaker.name, speaker.training, command) | {
        "weights": speaker.weights,
        # A folder's own place says nothing to others.
        "data": tasks.data if tasks.data.split(":")[0] == "staged" else Path(tasks.data).name,
        "split": tasks.split,
        "labels": tasks.labels,
        "frames": tasks.frames,
        "scenes": len(texts),
        "label_share": args.label_share,
        "score": metrics.measure(texts, labels),
        "classes": classes(texts, labels),
        "majority": metrics.measure([most_frequent(labels)] * len(texts), labels),
    }


def measure(args: Args, command: str) -> tuple[list[Row], list[Path], dict[str, Any]]:
    """Measure everybody that `args` name and write the rows and predictions; returns the rows and where they went."""
    if family_of(args.env) != FAMILY:
        raise UsageError(f"--env {args.env}: captions are measured in {ENV}")
    judge = Judge(args.reward_model, args.device)
    opened: dict[SetOfScenes, Scenes] = {}
    rows, outputs = [], []
    speakers = [(speaker, settle(args, speaker.training)) for speaker in load_speakers(args)]
    for speaker, tasks in speakers:
        if speaker.one_picture and tasks.frames > 1:
            raise UsageError(f"{speaker.name} is shown one picture of a scene, not {tasks.frames}: give --frames 1")
    for speaker, tasks in speakers:
        key = set_of(tasks)
        if key not in opened:
            opened[key] = open_scenes(tasks)
        scenes = opened[key]
        indices = choose(scenes, tasks.limit)
        labels = scenes.labels.select(indices)
        texts = describe(speaker.open(scenes.labels), scenes, indices, tasks.frames, tasks.batch_size)
        row = make_row(speaker, args, tasks, labels, texts, command)
        if reward := judge.of(scenes, tasks):
            row["score"] |= fit(reward, indices, texts)
        row["reward_model"] = judge.model
        output = args.output or default_file(speaker.training, args.name or speaker.name, ENV)
        add_rows(output, [row])
        if speaker.training:
            lines = zip(labels.names, labels.captions(), texts, strict=True)
            predictions = [{"scene": name, "truth": truth, "said": text} for name, truth, text in lines]
            name = f"predictions_{row['data'].replace(':', '_')}_{tasks.split}_{tasks.labels}.jsonl"
            write_atomically(speaker.training.folder / name, "".join(json.dumps(each) + "\n" for each in predictions))
        rows.append(row)
        outputs.append(output)
    return rows, outputs, {}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """`rows` as `mentorgym evaluate --json` prints them."""
    shown = ("driver", "run", "training_seed", "data", "split", "scenes", "score", "majority")
    return {"rows": [{name: row[name] for name in shown} for row in rows]}


def summary(rows: Sequence[Row], args: Args) -> Table:
    """`rows` for the terminal, below those of each set of scenes what the most frequent caption scores."""
    lines = []
    for (data, split, _, count), own in group_rows(rows, ("data", "split", "labels", "scenes")).items():
        scores = [(driver_and_seed(row), row["score"]) for row in own]
        if "majority" not in [row["driver"] for row in own]:
            scores.append(("majority", own[0]["majority"]))
        for driver, score in scores:
            cells = (in_percent(score.get(column)) for column in COLUMNS)
            lines.append([driver, f"{count} of {data}, {split}", *cells])
    return text_table(["driver", "scenes", *(words.replace(" ", "\n") for words in COLUMNS.values())], lines, 2)
