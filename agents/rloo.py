"""REINFORCE leave-one-out (RLOO): texts about driving scenes, learned from how well CLIP finds them to fit the picture.

Documentation: `docs/agents/rloo.md`.

REINFORCE with a leave-one-out baseline (Kool et al., 2019; RLOO paper, eq. 1 and Algorithm 2): of the k texts that are
sampled for a scene, each is held against the mean reward of the others. `--baseline greedy` takes the reward of the
likeliest text instead (SCST, Rennie et al., 2017), `--baseline none` none at all (REINFORCE).

    mentorgym train rloo
    mentorgym train rloo --preset paper --env-args data=bdd-oia --model HuggingFaceTB/SmolVLM-Instruct --lora 16

What differs from the paper: the reward is CLIP's softmax among the data's captions rather than the raw cosine, and the
KL divergence to the start is a cost, its log-ratio being taken off each reward before the baseline; without the two the
reward rises while the captions get worse. Log-probabilities are those of the distribution that was sampled from, with
its temperature, top-k and top-p and without markers, so that the gradient is unbiased. The loss is the mean over the k
samples, of which eq. 1 has the sum. Presets `paper` (section 5.3) and `poster` are the authors' two sets of constants.

With `--lora` the weights stay and adapters are trained; the reference is the model with its adapters switched off.
"""

import contextlib
import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mentorgym.agents.toolbox import Run, run_program, start_torch
from mentorgym.agents.toolbox.captioner import (
    Captioner,
    Prefix,
    Random,
    Sampling,
    Scores,
    Trained,
    Written,
    load_captioner,
)
from mentorgym.agents.toolbox.captions import (
    Heldout,
    Lines,
    Place,
    describe_groups,
    describe_terms,
    make_caption_envs,
)
from mentorgym.agents.toolbox.tuning import saved_dtype
from mentorgym.mentors.load import WEIGHTS
from mentorgym.mentors.trainable import make_optimizer

BASELINES = ("loo", "greedy", "none")


@dataclasses.dataclass
class Args:
    """Flags of REINFORCE leave-one-out (RLOO) on captions.

    Rerunning the same command continues the run from its last checkpoint.
    """

    env_id: str = "BddOia-Caption-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: data=bdd-oia labels=all frames=2"""
    reward: str = "contrast"
    """how CLIP judges: contrast, cosine, prob, or none for the terms alone"""
    model: str = ""
    """folder or hub name of the model to start from; by default our own, fine-tuned on captions"""
    seed: int = 0
    """seed of the order of the scenes and of the sampling"""
    epochs: float = 5.0
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

    baseline: str = "loo"
    """what a text's reward is held against: loo (the scene's other texts), greedy (its likeliest text) or none"""
    group_size: int = 4
    """texts that are sampled for a scene"""
    batch_size: int = 32
    """scenes in a batch"""
    accumulate: int = 1
    """batches in an update"""
    learning_rate: float = 2e-4
    """learning rate (AdamW)"""
    anneal: bool = True
    """let the learning rate fall to 0, linearly, over the run"""
    weight_decay: float = 0.0
    """of matrices"""
    max_norm: float = 1.0
    """norm that gradients are clipped to"""
    kl: float = 0.02
    """cost of the log-ratio of policy to start, summed over a text; 0 leaves the start behind"""
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


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "reward": "cosine",
        "epochs": 5.0,
        "group_size": 8,
        "learning_rate": 1e-6,
        "anneal": False,
        "kl": 0.0,
        "temperature": 1.5,
        "top_k": 50,
        "top_p": 0.95,
    },
    "poster": {
        "reward": "cosine",
        "epochs": 3.0,
        "group_size": 4,
        "learning_rate": 2e-5,
        "anneal": False,
        "kl": 0.0,
    },
}
"""The paper's section 5.3, and its poster (Appendix C), which is silent about the sampling."""


def advantages(rewards: torch.Tensor, baseline: str) -> torch.Tensor:
    """Rewards [B, k] less their baseline; with "greedy", rewards [B, k + 1] of which the last is the baseline."""
    if baseline == "greedy":
        return rewards[:, :-1] - rewards[:, -1:]
    if baseline == "loo":
        return rewards - (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards


class Reference:
    """The start of the policy, which stays."""

    def __init__(self, captioner: Captioner):
        self.captioner = captioner
        self._model = None if captioner.lora else copy.deepcopy(captioner.model).requires_grad_(False)

    @torch.no_grad()
    def __call__(self, inputs: dict[str, torch.Tensor], written: Written, support: torch.Tensor | None) -> torch.Tensor:
        """Its log-probabilities [N, T] of `written` after `inputs`, among the tokens of `support`."""
        adapters = self.captioner.model.disable_adapter() if self._model is None else contextlib.nullcontext()
        with adapters:
            prefix = self.captioner.read(inputs, self._model)
            return self.captioner.score(prefix, written, support, self._model).log_probabilities


def policy_loss(
    scores: Scores, rewards: torch.Tensor, reference: torch.Tensor | None, kl: float, baseline: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minus advantage times log-probability, mean over the sampled texts, and each row's log-ratio to the reference.

    `rewards` [B, rows] are of the texts of B scenes, with the baseline "greedy" of the likeliest one last.
    """
    own = scores.log_probabilities.sum(1).view(rewards.shape)
    ratio = torch.zeros_like(own) if reference is None else own.detach() - reference.sum(1).view(rewards.shape)
    advantage = advantages(rewards - kl * ratio, baseline)
    return -(advantage * own[:, : advantage.shape[1]]).mean(), ratio


def sample(captioner: Captioner, prefix: Prefix, args: Args, generator: torch.Generator) -> Written:
    """The texts of an update: `group_size` for each scene, and where the baseline needs it the likeliest one."""
    greedy = int(args.baseline == "greedy")
    return captioner.write(prefix, args.group_size + greedy, generator, likeliest=greedy)


def update(
    captioner: Captioner,
    reference: Reference | None,
    optimizer: torch.optim.Optimizer,
    envs: Any,
    generator: torch.Generator,
    rate: float,
    args: Args,
    seed: int | None,
) -> dict[str, float]:
    """One update from the next scenes of `envs`."""
    figures: list[dict[str, float]] = []
    rows = args.group_size + (args.baseline == "greedy")
    optimizer.zero_grad()
    for part in range(args.accumulate):
        observations, _ = envs.reset(seed=seed if part == 0 else None)
        inputs = captioner.prepare(observations["frames"][::rows], observations["instruction"][::rows])
        prefix = captioner.read(inputs)
        written = sample(captioner, prefix, args, generator)
        _, rewards, _, _, infos = envs.step(written.texts)
        grouped = torch.as_tensor(rewards, dtype=torch.float32, device=captioner.device).view(-1, rows)
        scores = captioner.score(prefix, written)
        others = reference(inputs, written, scores.support) if reference else None
        loss, ratio = policy_loss(scores, grouped, others, args.kl, args.baseline)
        (loss / args.accumulate).backward()
        sampled = np.arange(len(rewards)) % rows < args.group_size
        texts = [text for text, own in zip(written.texts, sampled, strict=True) if own]
        divergence = {"text/kl": float(ratio[:, : args.group_size].mean())} if reference else {}
        figures.append(
            {
                **divergence,
                "loss/policy": float(loss.detach()),
                "text/entropy": float(scores.entropies[sampled].sum() / written.mask[sampled].sum()),
                "text/length": float(written.mask[sampled].float().sum(1).mean()),
                **describe_groups(texts, rewards[sampled].reshape(-1, args.group_size)),
                **describe_terms({name: each[sampled] for name, each in infos["terms"].items()}),
            }
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], args.max_norm)
    optimizer.step()
    return {name: float(np.mean([each[name] for each in figures if name in each])) for name in figures[0]}


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    if args.baseline not in BASELINES:
        raise ValueError(f"baseline {args.baseline!r} is unknown; choose one of {', '.join(BASELINES)}")
    if args.baseline == "loo" and args.group_size < 2:
        raise ValueError("the baseline loo needs a group_size of at least 2: the other texts are the baseline")
    start_torch(args.seed, args.torch_threads)
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.max_new_tokens)
    save_dtype = saved_dtype(args.save_dtype)
    run = Run("rloo", args)
    if run.finished:
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder
    captioner = load_captioner(args.model or str(WEIGHTS / "caption_vlm"), args.device, args.dtype, sampling, args.lora)
    reference = Reference(captioner)
    rows = args.group_size + (args.baseline == "greedy")
    envs = make_caption_envs(args.env_id, args.env_args, args.batch_size, rows, reward=args.reward)
    unseen = make_caption_envs(args.env_id, args.env_args, 1, 1, reward="none", split=args.heldout_split)
    heldout = Heldout(unseen, args.heldout_scenes, args.seed)
    scenes = len(envs.scenes.labels.names)
    an_epoch = math.ceil(scenes / (args.batch_size * args.accumulate))
    total_steps = args.total_steps or math.ceil(args.epochs * scenes / (args.batch_size * args.accumulate))
    optimizer = make_optimizer(captioner.model, args.weight_decay)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    stored: dict[str, Any] = {"policy": Trained(captioner.model), "sampling": Random(generator), "scenes": Place(envs)}
    step = run.load(nn.Module(), {"policy": optimizer}, stored)
    run.open(total_steps)
    if step == 0:
        run.log(0, heldout.measure(captioner, captioner, reference))
    lines = Lines(run, step, total_steps)
    while step < total_steps:
        rate = args.learning_rate * (1 - step / total_steps if args.anneal else 1.0)
        seed = args.seed if step == 0 else None
        figures = update(captioner, reference if args.kl else None, optimizer, envs, generator, rate, args, seed)
        step += 1
        lines.add(figures, args.batch_size * args.group_size * args.accumulate)
        if step % args.log_every == 0 or step == total_steps:
            lines.log(step)
        if step % (args.eval_every or an_epoch) == 0 or step == total_steps:
            lines.log_heldout(step, lambda: heldout.measure(captioner, captioner, reference))
        if step < total_steps and run.checkpoint_due(step, args.checkpoint_every):
            run.save(step, nn.Module(), {"policy": optimizer}, stored)
    captioner.save(run.folder / "model", save_dtype)
    run.finish(step)
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> Captioner:
    """The policy of a run's folder: observations in, the likeliest texts out."""
    args = json.loads((Path(folder) / "config.json").read_text("utf-8"))["args"]
    return load_captioner(
        str(Path(folder) / "model"), device, "float32", Sampling(max_new_tokens=args["max_new_tokens"])
    )


if __name__ == "__main__":
    run_program(train, Args, PRESETS)
