"""What surrounds an algorithm: its environments, and the folder that a training run leaves behind.

A run's folder is `<runs>/<environment>/<agent>__seed<k>__<hash of the flags>/`:

- `config.json`: the agent, its flags, and for each start the commit, versions, hardware and time;
- `metrics.jsonl`: one JSON object a line, keys from `metrics.METRICS`;
- `checkpoints/<step>/`: the newest state to resume from (safetensors and JSON), until training ends;
- `policy.safetensors`: the policy alone; `eval.jsonl`: what the harness measured of it;
- `done`: there once training has ended, with its steps and seconds.
"""

import argparse
import ast
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gymnasium as gym
import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import nn

import mentorgym
from mentorgym.agents.toolbox.masks import MASKS_SHAPE
from mentorgym.agents.toolbox.metrics import METRICS
from mentorgym.agents.toolbox.replay import ACTION_SIZE, STATE_SIZE, Batch
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.memory import keep_large_blocks

Flags = TypeVar("Flags")

NOT_HASHED = ("seed", "runs", "resume", "device", "torch_threads", "log_every", "checkpoint_every")
"""Flags that leave alone what a run computes; the seed has its own place in the folder's name."""


def start_torch(seed: int, threads: int) -> None:
    """Seed torch and set its threads on the CPU."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    keep_large_blocks()


def random_states() -> dict[str, torch.Tensor]:
    """The states of torch's default generators, those of GPUs too once they are in use."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"torch": torch.get_rng_state(), **{f"cuda:{number}": state for number, state in enumerate(gpus)}}


def restore_random_states(states: Mapping[str, torch.Tensor]) -> None:
    """Undo what was drawn since `random_states`; a GPU that is not there any more is passed over."""
    torch.set_rng_state(states["torch"])
    for number in range(torch.cuda.device_count()):
        if (state := states.get(f"cuda:{number}")) is not None:
            torch.cuda.set_rng_state(state, number)


def require_positive(args: Any, *names: str) -> None:
    """Raise ValueError for a flag of `args` that is not above 0."""
    for name in names:
        if getattr(args, name) <= 0:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)}: it has to be above 0")


def to_tensors(arrays: Any, device: torch.device | str) -> Any:
    """An array, dict or `Batch` of arrays as tensors on `device`; on the CPU they share the arrays' memory."""
    if arrays is None:
        return None
    if isinstance(arrays, dict):
        return {name: to_tensors(array, device) for name, array in arrays.items()}
    if isinstance(arrays, Batch):
        return Batch(*(to_tensors(field, device) for field in arrays))
    return torch.from_numpy(arrays).to(device)


def parse_keywords(assignments: tuple[str, ...]) -> dict[str, Any]:
    """`("traffic=dense", "soft_reset=0.25")` as keyword arguments: Python literals, or else strings."""
    keywords = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"argument {assignment!r} is not keyword=value, as in traffic=dense")
        try:
            keywords[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            keywords[name] = value
    return keywords


def parse_flags(flags: type[Flags], presets: Mapping[str, Mapping[str, Any]]) -> Flags:
    """The command line as an instance of the dataclass `flags`.

    `--preset NAME` replaces the defaults of those flags that `presets[NAME]` lists; flags that are given win.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", choices=sorted(presets))
    known, rest = parser.parse_known_args()
    told = f"--preset {{{','.join(sorted(presets))}}} replaces defaults by published constants; given flags win."
    default = flags(**presets.get(known.preset, {}))
    return tyro.cli(flags, args=rest, default=default, description=f"{flags.__doc__}\n\n{told}")


def set_learning_rate(optimizers: Mapping[str, torch.optim.Optimizer], learning_rate: float) -> None:
    """Give every optimizer this learning rate."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def passed(step: int, interval: int, stride: int) -> bool:
    """Whether the last `stride` steps, up to `step`, reached a multiple of `interval`."""
    return step % interval < stride


def make_envs(env_id: str, num_envs: int, env_args: tuple[str, ...]) -> gym.vector.VectorEnv:
    """`num_envs` environments with same-step autoreset, native where the id has a vector environment.

    `env_id` may name the module that registers it, as in `package.module:Id-v0`. Raises ValueError where observations
    and actions are not `CarlaNoCrash-v0`'s masks, state and two numbers.
    """
    keywords = parse_keywords(env_args)
    envs = gym.make_vec(env_id, num_envs=num_envs, **keywords)
    if isinstance(envs.unwrapped, DrivingVectorEnv):
        # Agents are done with an observation before the step after the next.
        envs.unwrapped.copy = False
    same_step = gym.vector.AutoresetMode.SAME_STEP
    if envs.metadata.get("autoreset_mode") is not same_step:
        envs.close()
        options = {"autoreset_mode": same_step}
        envs = gym.make_vec(env_id, num_envs, vectorization_mode="sync", vector_kwargs=options, **keywords)
    masks = gym.spaces.Box(0, 255, MASKS_SHAPE, np.uint8)
    observations, actions = envs.single_observation_space, envs.single_action_space
    known = (
        isinstance(observations, gym.spaces.Dict)
        and observations.get("bev") == masks
        and getattr(observations.get("state"), "shape", None) == (STATE_SIZE,)
        and actions == gym.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)
    )
    if not known:
        envs.close()
        raise ValueError(
            f"{env_id} has observations {observations} and actions {actions}; agents need bev uint8 {MASKS_SHAPE}, "
            f"state ({STATE_SIZE},) and actions ({ACTION_SIZE},) in [-1, 1], as CarlaNoCrash-v0 with observation=masks"
        )
    return envs


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The tensors of an optimizer's state, by `<parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Undo `flatten_optimizer`; learning rates and the like stay the optimizer's own."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class Stored(Protocol):
    """What writes itself into a new folder of a checkpoint, and reads it back."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class Run:
    """The folder of one training run, opened where an earlier start of the same command left it."""

    def __init__(self, agent: str, args: Any, environment: str = ""):
        """`agent` is the algorithm's name and `args` its dataclass, with `seed`, `runs`, `resume` and `env_id`.

        A trainer, which has no `env_id`, says in `environment` what its data are of.
        """
        flags = {
            name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(args).items()
        }
        hashed = {name: value for name, value in flags.items() if name not in NOT_HASHED}
        digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
        environment = environment or args.env_id.split(":")[-1].replace("/", "_")
        self.folder = Path(args.runs) / environment / f"{agent}__seed{args.seed}__{digest}"
        if not args.resume and self.folder.exists():
            shutil.rmtree(self.folder)
        self.finished = (self.folder / "done").exists()
        self.resumes = 0
        self._seconds_before = 0.0
        self._start = self._shown = time.monotonic()
        if self.finished:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        config_file = self.folder / "config.json"
        config = json.loads(config_file.read_text()) if config_file.exists() else {}
        starts = config.get("starts", []) + [describe_start()]
        config = {"schema": 1, "agent": agent, "args": flags, "starts": starts}
        write_atomically(config_file, json.dumps(config, indent=2) + "\n")
        drop_half_line(self.folder / "metrics.jsonl")

    @property
    def seconds(self) -> float:
        """Training time so far, earlier starts included."""
        return self._seconds_before + time.monotonic() - self._start

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one line to `metrics.jsonl`; ValueError for a key that `METRICS` lacks.

        A resumed run takes the steps after its checkpoint again and keeps the lines that the earlier start wrote for
        them: a line with more `resumes`, or with a smaller step than the line before, stands for all earlier lines from
        its step on.
        """
        row = {"step": step, "seconds": round(self.seconds, 3), "resumes": self.resumes, **metrics}
        unknown = sorted(set(row) - set(METRICS))
        if unknown:
            raise ValueError(f"metrics {unknown} are unknown; add them to METRICS in agents/toolbox/metrics.py")
        with (self.folder / "metrics.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")

    def log_episode(
        self, step: int, episode_return: float, length: int, terminated: bool, infos: Mapping[str, Any], env: int
    ) -> str:
        """Append the line of the episode that ended in environment `env`, with its score where `infos` has one.

        Returns why it ended, as the line says.
        """
        final_info = infos.get("final_info", {})
        score = final_info.get("score", {}) if final_info.get("_score", np.zeros(env + 1, bool))[env] else {}
        row: dict[str, Any] = {
            "episode/return": round(float(episode_return), 4),
            "episode/length": int(length),
            "episode/end": str(score["end"][env]) if "end" in score else "terminated" if terminated else "truncated",
        }
        for name in ("completed_km", "mean_speed"):
            if name in score:
                row[f"episode/{name}"] = round(float(score[name][env]), 4)
        self.log(step, row)
        return row["episode/end"]

    def save(
        self,
        step: int,
        networks: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        stored: Mapping[str, Stored],
    ) -> None:
        """Write a checkpoint, whole or not at all, and drop the one before; `stored` by the name of its folder."""
        checkpoints = self.folder / "checkpoints"
        temporary = checkpoints / "unfinished"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(networks.state_dict(), temporary / "networks.safetensors")
        for name, optimizer in optimizers.items():
            save_file(flatten_optimizer(optimizer), temporary / f"optimizer_{name}.safetensors")
        save_file(random_states(), temporary / "random.safetensors")
        for name, part in stored.items():
            part.save(temporary / name)
        state = {"step": step, "seconds": self.seconds, "resumes": self.resumes}
        (temporary / "state.json").write_text(json.dumps(state) + "\n")
        older = self._checkpoints()
        temporary.rename(checkpoints / f"{step:012d}")
        for folder in older:
            shutil.rmtree(folder)

    def load(
        self, networks: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], stored: Mapping[str, Stored]
    ) -> int:
        """Restore the newest checkpoint, if there is one, and return its step, 0 for none."""
        checkpoints = self._checkpoints()
        if not checkpoints:
            return 0
        folder = checkpoints[-1]
        networks.load_state_dict(load_file(folder / "networks.safetensors"))
        for name, optimizer in optimizers.items():
            restore_optimizer(optimizer, load_file(folder / f"optimizer_{name}.safetensors"))
        restore_random_states(load_file(folder / "random.safetensors"))
        for name, part in stored.items():
            part.load(folder / name)
        state = json.loads((folder / "state.json").read_text())
        self._seconds_before = state["seconds"]
        self.resumes = state["resumes"] + 1
        return state["step"]

    def save_policy(self, modules: nn.Module) -> None:
        """Write `policy.safetensors`, whole or not at all."""
        temporary = self.folder / "policy.unfinished"
        save_file(modules.state_dict(), temporary)
        temporary.replace(self.folder / "policy.safetensors")

    def finish(self, step: int) -> None:
        """Mark the run done and remove its checkpoint."""
        write_atomically(self.folder / "done", json.dumps({"step": step, "seconds": round(self.seconds, 3)}) + "\n")
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    def show_progress(self, step: int, total_steps: int, steps_per_s: float, returns: Sequence[float]) -> None:
        """Print one status line, on a terminal over the one before, elsewhere a new one at most every 30 s."""
        terminal = sys.stderr.isatty()
        last = step >= total_steps
        if not terminal and not last and time.monotonic() - self._shown < 30:
            return
        self._shown = time.monotonic()
        mean = float(np.mean(returns)) if returns else float("nan")
        left = timedelta(seconds=round((total_steps - step) / max(steps_per_s, 1e-9)))
        line = f"{step:>9,}/{total_steps:,} steps  {steps_per_s:6,.0f} steps/s  return {mean:8.1f}  {left} left"
        print("\r" + line if terminal else line, end="" if terminal and not last else "\n", file=sys.stderr, flush=True)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").glob("[0-9]*"))


def drop_half_line(path: Path) -> None:
    """Remove the half line that a kill may have left at the end of `path`."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    temporary = path.with_name(path.name + ".unfinished")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def describe_start() -> dict[str, Any]:
    """When, from which commit, with which versions and on what hardware a process starts."""
    versions = {module.__name__: module.__version__ for module in (mentorgym, gym, np, torch)}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    system = f"{platform.system()} {platform.machine()}"
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **git_commit(),
        "versions": {"python": platform.python_version(), **versions},
        "hardware": {"system": system, "cpu": cpu_name(), "cores": os.cpu_count(), "gpu": gpu},
    }


def git_commit() -> dict[str, str | bool | None]:
    """The `commit` that this file is of and whether the checkout is `dirty`; None outside a checkout.

    Results do not count: they are what is being written.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Fails for an installation that merely lies inside another project's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", ":/", ":(top,exclude)results")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
