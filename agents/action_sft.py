"""Supervised fine-tuning (SFT) of actions, stage 2 of the RLOO paper: from its own description to the action.

Documentation: `docs/agents/action_sft.md`.

For each scene the policy writes a description, sampled (Algorithm 3), which is put before the question "Based on the
caption and image, what is the next action ...?"; what it answers is trained to be "Action: stop." By cross-entropy, as
section 5.3 has it; or, `--loss bleu`, as Algorithm 3 has it, by BLEU-4 of the answer against the truth, a reward and no
loss that could be differentiated, and so by RLOO on k sampled answers.

    mentorgym train action_sft --model runs/BddOia-Caption-v0/rloo__seed0__0123abcd/model
    mentorgym train action_sft --model ... --data captions/train_5

The policy says both: the action answered, and of the description what is not about the action. Descriptions are those
of the start, whose weights stay, stage 1's as in the paper's figure 3; where the model that learns to answer describes
as well, as in Algorithm 3, a small one forgets how.
"""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mentorgym.agents.toolbox import Run, run_program, start_torch
from mentorgym.agents.toolbox.captioner import Captioner, Random, Sampling, Trained, load_captioner, written_as
from mentorgym.agents.toolbox.captions import (
    Heldout,
    Lines,
    Place,
    ShardScenes,
    describe_texts,
    make_caption_envs,
)
from mentorgym.agents.toolbox.tuning import saved_dtype
from mentorgym.envs.caption import language
from mentorgym.envs.caption.inference import action_of, action_question
from mentorgym.envs.caption.reward import bleu
from mentorgym.mentors.load import WEIGHTS
from mentorgym.mentors.trainable import make_optimizer, take_step
from mentorgym.mentors.vlm import without_markers

LOSSES = ("answer", "bleu")


@dataclasses.dataclass
class Args:
    """Flags of supervised fine-tuning of actions, stage 2 of RLOO.

    Rerunning the same command continues the run from its last checkpoint.
    """

    env_id: str = "BddOia-Caption-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: data=bdd-oia labels=all frames=2"""
    data: Path | None = None
    """folder of shards, whose scenes alone are trained on; without one those of the environment"""
    model: str = ""
    """folder or hub name of the model to start from; by default our own, fine-tuned on captions"""
    seed: int = 0
    """seed of the order of the scenes and of the sampling"""
    epochs: float = 3.0
    """how often each scene is shown"""
    total_steps: int = 0
    """gradient updates, instead of epochs"""
    runs: str = "runs"
    """folder of the run folders"""
    resume: bool = True
    """continue an earlier start of this run; --no-resume deletes what it left and starts over"""
    device: str = "cpu"
    """torch device of the policy"""
    torch_threads: int = 1
    """threads of torch on the CPU; with 1, runs side by side do not fight over the cores"""
    log_every: int = 10
    """updates between two lines of losses"""
    eval_every: int = 0
    """updates between two lines measured on held-out scenes; 0 for once an epoch"""
    checkpoint_every: int = 100
    """updates between two checkpoints"""
    heldout_split: str = "val"
    """split of the held-out scenes"""
    heldout_scenes: int = 300
    """held-out scenes to measure on, at most"""

    loss: str = "answer"
    """answer: cross-entropy of the true answer; bleu: BLEU-4 of sampled answers, by policy gradient"""
    group_size: int = 4
    """answers that are sampled for a scene, with the loss bleu"""
    batch_size: int = 16
    """scenes in a batch"""
    learning_rate: float = 1e-4
    """learning rate (AdamW)"""
    anneal: bool = True
    """let the learning rate fall to 0, linearly, over the run"""
    weight_decay: float = 0.01
    """of matrices"""
    max_norm: float = 1.0
    """norm that gradients are clipped to"""
    temperature: float = 1.0
    """of the sampling"""
    top_k: int = 0
    """the likeliest tokens that are sampled from; 0 for all"""
    top_p: float = 1.0
    """share of the probability that is sampled from, the likeliest tokens first"""
    max_new_tokens: int = 32
    """where a text is cut off"""
    lora: int = 0
    """rank of the adapters that are trained instead of the weights (peft); 0 trains the weights"""
    dtype: str = "float32"
    """of the weights while training: float32, or bfloat16 with --lora, whose adapters stay float32"""
    save_dtype: str = "float16"
    """of the weights that are saved: float16, bfloat16 or float32"""


def questions(captioner: Captioner, descriptions: Sequence[str]) -> list[str]:
    """The second question about each scene."""
    return [action_question(without_markers(captioner.processor, each)) for each in descriptions]


def true_answers(actions: np.ndarray) -> list[str]:
    """What is to be answered of scenes with `actions` bool [B, 4]."""
    actions_of_scenes = [[name for name, there in zip(language.ACTIONS, row, strict=True) if there] for row in actions]
    return [f"Action: {', '.join(names)}." for names in actions_of_scenes]


def both(description: str, answer: str) -> str:
    """The action of the answer, and of the description what is not about the action."""
    named = action_of(answer)
    rest = re.sub(r"action:[^.]*(\.\s*|$)", "", description, flags=re.IGNORECASE)
    return f"{f'Action: {named}.' if named else answer} {rest}".strip()


class TwoStage:
    """The policy: one model describes, the other is asked for the action; it says both."""

    def __init__(self, describer: Captioner, captioner: Captioner):
        self.describer, self.captioner = describer, captioner

    def __call__(self, observations: dict[str, Any]) -> list[str]:
        """A text for each row of `frames` uint8 [N, M, H, W, 3] and `instruction` [N], the likeliest tokens."""
        descriptions = self.describer(observations)
        second = {"frames": observations["frames"], "instruction": questions(self.captioner, descriptions)}
        return [both(*each) for each in zip(descriptions, self.captioner(second), strict=True)]

    def ask(self, observations: dict[str, Any]) -> list[str]:
        """The second question about each row."""
        return questions(self.captioner, self.describer(observations))


def update(
    captioner: Captioner,
    describer: Captioner,
    optimizer: torch.optim.Optimizer,
    envs: Any,
    generator: torch.Generator,
    rate: float,
    args: Args,
    seed: int | None,
) -> dict[str, float]:
    """One update from the next scenes of `envs`."""
    observations, infos = envs.reset(seed=seed)
    frames, truths = observations["frames"], true_answers(infos["actions"])
    with torch.no_grad():
        before = describer.read(describer.prepare(frames, observations["instruction"]))
        described = describer.write(before, 1, generator)
    second_questions = questions(captioner, described.texts)
    prefix = captioner.read(captioner.prepare(frames, second_questions))
    figures = {"text/length": float(described.mask.float().sum(1).mean()), **describe_texts(described.texts)}
    if args.loss == "answer":
        answers = written_as(captioner, second_questions, truths)
        scores = captioner.score(prefix, answers, sampling=Sampling())
        loss = -scores.log_probabilities.sum() / answers.mask.sum()
        figures["loss/answer"] = float(loss.detach())
    else:
        answers = captioner.write(prefix, args.group_size, generator)
        scores = captioner.score(prefix, answers)
        meant = [truth for truth in truths for _ in range(args.group_size)]
        scores_of_answers = [bleu(answer, truth) for answer, truth in zip(answers.texts, meant, strict=True)]
        rewards = torch.tensor(scores_of_answers, device=captioner.device).view(-1, args.group_size)
        advantage = rewards - (rewards.sum(1, keepdim=True) - rewards) / (args.group_size - 1)
        loss = -(advantage.flatten() * scores.log_probabilities.sum(1)).mean()
        figures |= {"loss/policy": float(loss.detach()), "reward/mean": float(rewards.mean())}
    take_step(optimizer, loss, rate, args.max_norm)
    return figures | {"text/entropy": float(scores.entropies.sum() / answers.mask.sum())}


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.loss not in LOSSES:
        raise ValueError(f"loss {args.loss!r} is unknown; choose one of {', '.join(LOSSES)}")
    if args.loss == "bleu" and args.group_size < 2:
        raise ValueError("the loss bleu needs a group_size of at least 2: the other answers are the baseline")
    start_torch(args.seed, args.torch_threads)
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.max_new_tokens)
    save_dtype = saved_dtype(args.save_dtype)
    run = Run("action_sft", args)
    if run.finished:
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder
    start = args.model or str(WEIGHTS / "caption_vlm")
    captioner = load_captioner(start, args.device, args.dtype, sampling, args.lora)
    describer = load_captioner(start, args.device, args.dtype, sampling)
    own: dict[str, Any] = {"data": ShardScenes(args.data)} if args.data else {}
    # With shards the environment's own data are those of the held-out scenes alone.
    env_args = tuple(each for each in args.env_args if not (own and each.startswith("data=")))
    envs = make_caption_envs(args.env_id, env_args, args.batch_size, 1, reward="none", **own)
    unseen = make_caption_envs(args.env_id, args.env_args, 1, 1, reward="none", split=args.heldout_split)
    heldout = Heldout(unseen, args.heldout_scenes, args.seed)
    scenes = len(envs.scenes.labels.names)
    an_epoch = math.ceil(scenes / args.batch_size)
    total_steps = args.total_steps or math.ceil(args.epochs * scenes / args.batch_size)
    policy = TwoStage(describer, captioner)
    optimizer = make_optimizer(captioner.model, args.weight_decay)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    stored: dict[str, Any] = {"policy": Trained(captioner.model), "sampling": Random(generator), "scenes": Place(envs)}
    step = run.load(nn.Module(), {"policy": optimizer}, stored)
    run.open(total_steps)
    if step == 0:
        run.log(0, heldout.measure(policy, captioner, ask=policy.ask))
    lines = Lines(run, step, total_steps)
    while step < total_steps:
        rate = args.learning_rate * (1 - step / total_steps if args.anneal else 1.0)
        seed = args.seed if step == 0 else None
        lines.add(update(captioner, describer, optimizer, envs, generator, rate, args, seed), args.batch_size)
        step += 1
        if step % args.log_every == 0 or step == total_steps:
            lines.log(step)
        if step % (args.eval_every or an_epoch) == 0 or step == total_steps:
            lines.log_heldout(step, lambda: heldout.measure(policy, captioner, ask=policy.ask))
        if step < total_steps and run.checkpoint_due(step, args.checkpoint_every):
            run.save(step, nn.Module(), {"policy": optimizer}, stored)
    captioner.save(run.folder / "model", save_dtype)
    describer.save(run.folder / "describer", save_dtype)
    run.finish(step)
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> TwoStage:
    """The policy of a run's folder: observations in, descriptions with their actions out."""
    args = json.loads((Path(folder) / "config.json").read_text("utf-8"))["args"]
    sampling = Sampling(max_new_tokens=args["max_new_tokens"])
    describer, captioner = (
        load_captioner(str(Path(folder) / name), device, "float32", sampling) for name in ("describer", "model")
    )
    return TwoStage(describer, captioner)


if __name__ == "__main__":
    run_program(train, Args)
