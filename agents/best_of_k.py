"""Best of k: the text that a CLIP finds to fit best becomes the label of its scene.

Documentation: `docs/agents/best_of_k.md`.

What section 5.3 of the RLOO paper says of its stage 1, where Algorithm 2 and eq. 1 say RLOO: k texts are sampled for a
scene, and the policy is trained by cross-entropy on the one of the highest reward, the first of several. No text is
pushed away, so that what all texts get wrong stays.

    mentorgym train best_of_k
    mentorgym train best_of_k --preset paper --model HuggingFaceTB/SmolVLM-Instruct --lora 16

The cross-entropy is that of the policy itself, without temperature, top-k and top-p, which are for sampling alone.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mentorgym.agents.toolbox import Run, run_program, start_torch
from mentorgym.agents.toolbox.captioner import Captioner, Random, Sampling, Trained, Written, load_captioner
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
from mentorgym.mentors.trainable import make_optimizer, take_step


@dataclasses.dataclass
class Args:
    """Flags of best of k on captions.

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

    group_size: int = 4
    """texts that are sampled for a scene"""
    batch_size: int = 32
    """scenes in a batch"""
    learning_rate: float = 2e-4
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


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "reward": "cosine",
        "epochs": 5.0,
        "group_size": 8,
        "learning_rate": 1e-6,
        "anneal": False,
        "temperature": 1.5,
        "top_k": 50,
        "top_p": 0.95,
    },
}
"""Section 5.3."""


def best_texts(written: Written, rewards: torch.Tensor) -> Written:
    """Of the texts with `rewards` [B, k], the best of each scene, the first of several."""
    rows = rewards.argmax(1) + torch.arange(len(rewards), device=rewards.device) * rewards.shape[1]
    return Written(written.tokens[rows], written.mask[rows], [written.texts[row] for row in rows.tolist()])


def update(
    captioner: Captioner,
    optimizer: torch.optim.Optimizer,
    envs: Any,
    generator: torch.Generator,
    rate: float,
    args: Args,
    seed: int | None,
) -> dict[str, float]:
    """One update from the next scenes of `envs`."""
    observations, _ = envs.reset(seed=seed)
    rows = slice(None, None, args.group_size)
    prefix = captioner.read(captioner.prepare(observations["frames"][rows], observations["instruction"][rows]))
    written = captioner.write(prefix, args.group_size, generator)
    _, rewards, _, _, infos = envs.step(written.texts)
    grouped = rewards.reshape(-1, args.group_size)
    best = best_texts(written, torch.as_tensor(grouped, device=captioner.device))
    scores = captioner.score(prefix, best, sampling=Sampling())
    loss = -scores.log_probabilities.sum() / best.mask.sum()
    take_step(optimizer, loss, rate, args.max_norm)
    return {
        "loss/answer": float(loss.detach()),
        "text/entropy": float(scores.entropies.sum() / best.mask.sum()),
        "text/length": float(written.mask.float().sum(1).mean()),
        **describe_groups(written.texts, grouped),
        **describe_terms(infos["terms"]),
    }


def train(args: Args) -> Path:
    """Train, or go on training, and return the run's folder."""
    start_torch(args.seed, args.torch_threads)
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.max_new_tokens)
    save_dtype = saved_dtype(args.save_dtype)
    run = Run("best_of_k", args)
    if run.finished:
        print(f"{run.folder} is done; --no-resume trains it anew")
        return run.folder
    captioner = load_captioner(args.model or str(WEIGHTS / "caption_vlm"), args.device, args.dtype, sampling, args.lora)
    envs = make_caption_envs(args.env_id, args.env_args, args.batch_size, args.group_size, reward=args.reward)
    unseen = make_caption_envs(args.env_id, args.env_args, 1, 1, reward="none", split=args.heldout_split)
    heldout = Heldout(unseen, args.heldout_scenes, args.seed)
    scenes = len(envs.scenes.labels.names)
    an_epoch = math.ceil(scenes / args.batch_size)
    total_steps = args.total_steps or math.ceil(args.epochs * scenes / args.batch_size)
    optimizer = make_optimizer(captioner.model, args.weight_decay)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    stored: dict[str, Any] = {"policy": Trained(captioner.model), "sampling": Random(generator), "scenes": Place(envs)}
    step = run.load(nn.Module(), {"policy": optimizer}, stored)
    run.open(total_steps)
    if step == 0:
        run.log(0, heldout.measure(captioner, captioner))
    lines = Lines(run, step, total_steps)
    while step < total_steps:
        rate = args.learning_rate * (1 - step / total_steps if args.anneal else 1.0)
        seed = args.seed if step == 0 else None
        lines.add(update(captioner, optimizer, envs, generator, rate, args, seed), args.batch_size * args.group_size)
        step += 1
        if step % args.log_every == 0 or step == total_steps:
            lines.log(step)
        if step % (args.eval_every or an_epoch) == 0 or step == total_steps:
            lines.log_heldout(step, lambda: heldout.measure(captioner, captioner))
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
