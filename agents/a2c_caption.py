"""Advantage actor-critic (A2C) on captions: one text a scene, compared with a critic's estimate; two-part reward.

Documentation: `docs/agents/a2c_caption.md`.

The toy example of the RLOO paper (appendix A, Algorithm 4). The reward is alpha * R1 + beta * R2: R1 how well CLIP
finds that text and picture fit, and R2, the paper's "LLM as a judge", 1 where BLEU-4 against the scene's caption is
above 0.5, which needs labels. The critic is a small network on the model's last state before the text, through which no
gradients flow back; the text as a whole is one action.

    mentorgym train a2c_caption
    mentorgym train a2c_caption --env-args split=toy --epochs 3

The paper prints neither alpha and beta nor any constant of the optimizers.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mentorgym.agents.toolbox import Run, run_program, start_torch
from mentorgym.agents.toolbox.captioner import Captioner, Random, Sampling, Trained, load_captioner
from mentorgym.agents.toolbox.captions import Heldout, Lines, Place, describe_terms, describe_texts, make_caption_envs
from mentorgym.agents.toolbox.tuning import saved_dtype
from mentorgym.mentors.load import WEIGHTS
from mentorgym.mentors.trainable import make_optimizer, take_step


@dataclasses.dataclass
class Args:
    """Flags of advantage actor-critic (A2C) on captions.

    Rerunning the same command continues the run from its last checkpoint.
    """

    env_id: str = "BddOia-Caption-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: data=bdd-oia labels=all frames=2"""
    reward: str = "cosine"
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

    alpha: float = 1.0
    """weight of CLIP's judgement"""
    beta: float = 1.0
    """weight of the judge's, which is BLEU-4 above 0.5"""
    batch_size: int = 32
    """scenes in a batch, of one text each"""
    critic_hidden: int = 128
    """units of the critic's hidden layer"""
    critic_learning_rate: float = 1e-3
    """learning rate of the critic (AdamW)"""
    learning_rate: float = 5e-5
    """learning rate (AdamW)"""
    anneal: bool = True
    """let the learning rate fall to 0, linearly, over the run"""
    weight_decay: float = 0.0
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


def make_critic(width: int, hidden: int) -> nn.Module:
    """From features float32 [B, width] to the rewards to expect, float32 [B, 1]."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))


def update(
    captioner: Captioner,
    critic: nn.Module,
    optimizers: dict[str, torch.optim.Optimizer],
    envs: Any,
    generator: torch.Generator,
    rate: float,
    args: Args,
    seed: int | None,
) -> dict[str, float]:
    """One update of policy and critic from the next scenes of `envs`."""
    observations, _ = envs.reset(seed=seed)
    prefix = captioner.read(captioner.prepare(observations["frames"], observations["instruction"]))
    written = captioner.write(prefix, 1, generator)
    _, _, _, _, infos = envs.step(written.texts)
    terms = infos["terms"]
    fit = terms[args.reward] if args.reward in terms else 0.0
    rewards = torch.as_tensor(args.alpha * fit + args.beta * terms["bleu"], device=captioner.device)
    expected = critic(prefix.features)[:, 0]
    scores = captioner.score(prefix, written)
    loss = -((rewards - expected.detach()) * scores.log_probabilities.sum(1)).mean()
    critic_loss = (expected - rewards).square().mean()
    take_step(optimizers["policy"], loss, rate, args.max_norm)
    take_step(optimizers["critic"], critic_loss, args.critic_learning_rate, args.max_norm)
    return {
        "loss/policy": float(loss.detach()),
        "loss/critic": float(critic_loss.detach()),
        "value/v": float(expected.detach().mean()),
        "reward/mean": float(rewards.mean()),
        "text/entropy": float(scores.entropies.sum() / written.mask.sum()),
        "text/length": float(written.mask.float().sum(1).mean()),
        **describe_texts(written.texts),
        **describe_terms(terms),
    }


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    start_torch(args.seed, args.torch_threads)
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.max_new_tokens)
    save_dtype = saved_dtype(args.save_dtype)
    run = Run("a2c_caption", args)
    if run.finished:
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder
    captioner = load_captioner(args.model or str(WEIGHTS / "caption_vlm"), args.device, args.dtype, sampling, args.lora)
    terms = {"bleu": 1.0}
    envs = make_caption_envs(args.env_id, args.env_args, args.batch_size, 1, reward=args.reward, terms=terms)
    unseen = make_caption_envs(args.env_id, args.env_args, 1, 1, reward="none", split=args.heldout_split)
    heldout = Heldout(unseen, args.heldout_scenes, args.seed)
    scenes = len(envs.scenes.labels.names)
    an_epoch = math.ceil(scenes / args.batch_size)
    total_steps = args.total_steps or math.ceil(args.epochs * scenes / args.batch_size)
    critic = make_critic(captioner.width, args.critic_hidden).to(args.device)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "policy": make_optimizer(captioner.model, args.weight_decay),
        "critic": make_optimizer(critic, 0.0),
    }
    generator = torch.Generator(args.device).manual_seed(args.seed)
    stored: dict[str, Any] = {"policy": Trained(captioner.model), "sampling": Random(generator), "scenes": Place(envs)}
    step = run.load(critic, optimizers, stored)
    run.open(total_steps)
    if step == 0:
        run.log(0, heldout.measure(captioner, captioner))
    lines = Lines(run, step, total_steps)
    while step < total_steps:
        rate = args.learning_rate * (1 - step / total_steps if args.anneal else 1.0)
        seed = args.seed if step == 0 else None
        lines.add(update(captioner, critic, optimizers, envs, generator, rate, args, seed), args.batch_size)
        step += 1
        if step % args.log_every == 0 or step == total_steps:
            lines.log(step)
        if step % (args.eval_every or an_epoch) == 0 or step == total_steps:
            lines.log_heldout(step, lambda: heldout.measure(captioner, captioner))
        if step < total_steps and run.checkpoint_due(step, args.checkpoint_every):
            run.save(step, critic, optimizers, stored)
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
    run_program(train, Args)
