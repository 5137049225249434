"""What surrounds an algorithm: its environments, and the folder that a training run leaves behind.

A run's folder is `<runs>/<environment>/<agent>__seed<k>__<hash of the flags>/`:

- `config.json`: the agent, its flags, and for each start the commit, versions, hardware and time;
- `metrics.jsonl`: one JSON object a line, keys from `metrics.METRICS`;
- `checkpoints/<step>/`: the two newest states to resume from (safetensors and JSON), the older one for where the newer
  is damaged; when training ends, the newest stays, and only where a run with more steps may go on from it;
- `policy.safetensors`: the policy alone, as of the newest checkpoint; `eval.jsonl`: what the harness measured of it;
- `done`: there once training has ended, with its steps and seconds.
"""

import ast
import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

import mentorgym
from mentorgym.agents.toolbox.interruption import INTERRUPTION, Interrupted
from mentorgym.agents.toolbox.masks import MASKS_SHAPE
from mentorgym.agents.toolbox.replay import ACTION_SIZE, STATE_SIZE, Batch
from mentorgym.envs.driving import DrivingVectorEnv
from mentorgym.memory import keep_large_blocks
from mentorgym.tensors import load_tensors

NOT_HASHED = ("seed", "runs", "resume", "device", "torch_threads", "log_every", "checkpoint_every", "routes")
"""Flags that leave alone what a run computes; the seed has its own place in the folder's name."""

SAVE_AFTER = 300.0
"""Seconds after which there is a checkpoint, however few steps were taken."""


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


@contextlib.contextmanager
def explain(flag: str) -> Iterator[None]:
    """Turn a TypeError, as for an unknown keyword argument, into a ValueError that names the `flag` which gave it."""
    try:
        yield
    except TypeError as error:
        raise ValueError(f"{flag}: {error}") from error


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
    with explain("--env-args"):
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
    """The folder of one training run, opened where an earlier start of the same command left it.

    The folder appears with `open`, which the first line of the log and the first checkpoint call: a start that fails
    before leaves nothing.
    """

    current: ClassVar["Run | None"] = None
    """The run that this process trains."""

    def __init__(self, agent: str, args: Any, environment: str = "", extendable: bool = False):
        """`agent` is the algorithm's name and `args` its dataclass, with `seed`, `runs`, `resume` and `env_id`.

        A trainer, which has no `env_id`, says in `environment` what its data are of. A run is `extendable` if nothing
        but its end depends on `total_steps`: its last checkpoint stays, and a run with more steps goes on from there.

        Raises ValueError for a `device` that torch does not have.
        """
        check_device(getattr(args, "device", "cpu"))
        self.agent, self.args, self.extendable = agent, args, extendable
        self.flags = {
            name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(args).items()
        }
        hashed = {name: value for name, value in self.flags.items() if name not in NOT_HASHED}
        digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
        environment = environment or args.env_id.split(":")[-1].replace("/", "_")
        self.folder = Path(args.runs) / environment / f"{agent}__seed{args.seed}__{digest}"
        self.finished = args.resume and (self.folder / "done").exists()
        self.resumes = 0
        self._opened = False
        self._step = 0
        self._shorter: Path | None = None
        self._checkpoint: Path | None = None
        self._seconds_before = 0.0
        self._start = self._saved = time.monotonic()
        self._save_after = SAVE_AFTER

    @property
    def seconds(self) -> float:
        """Training time so far, earlier starts included."""
        return self._seconds_before + time.monotonic() - self._start

    def open(self, total_steps: int = 0) -> None:
        """Make the folder, write down this start, and say on standard error where it writes and from which step on.

        `total_steps` is for runs whose flags do not name it. Only the first call counts.
        """
        if self._opened:
            return
        self._opened = True
        Run.current = self
        if not self.args.resume and self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        config_file = self.folder / "config.json"
        config = json.loads(config_file.read_text()) if config_file.exists() else {}
        if self._shorter:
            config = {"starts": read_config(self._shorter)["starts"], "extends": self._shorter.name}
            shutil.copy(self._shorter / "metrics.jsonl", self.folder)
        config |= {
            "schema": 1,
            "agent": self.agent,
            "args": self.flags,
            "starts": config.get("starts", []) + [describe_start()],
        }
        write_atomically(config_file, json.dumps(config, indent=2) + "\n")
        drop_half_line(self.folder / "metrics.jsonl")
        total = total_steps or getattr(self.args, "total_steps", 0)
        of_total = f" of {total:,}" if total else ""
        begin = f"goes on at step {self._step:,}{of_total}" if self.resumes else f"starts at step 0{of_total}"
        say(f"{self.agent}: {begin}, on {getattr(self.args, 'device', 'cpu')}, in {self.folder}")
        if self._shorter:
            say(f"{self.agent}: its first {self._step:,} steps are those of {self._shorter}")
        if not self.resumes and not self.extendable and (shorter := self._find_shorter("done")):
            say(f"{self.agent}: its schedules depend on total_steps, so it does not go on from {shorter}")

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one line to `metrics.jsonl`. `METRICS` explains the names that the agents of the package use.

        A resumed run takes the steps after its checkpoint again and keeps the lines that the earlier start wrote for
        them: a line with more `resumes`, or with a smaller step than the line before, stands for all earlier lines from
        its step on.
        """
        self.open()
        row = {"step": step, "seconds": round(self.seconds, 3), "resumes": self.resumes, **metrics}
        with (self.folder / "metrics.jsonl").open("a") as lines:
            lines.write(json.dumps(row, default=float) + "\n")

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

    def checkpoint_due(self, step: int, interval: int, stride: int = 1) -> bool:
        """Whether to call `save` now: the last `stride` steps reached a multiple of `interval`, or minutes have passed
        since the last checkpoint, or the process was asked to end.

        A loop that calls this after each step is interrupted by `save`, and not in the middle of a step.
        """
        INTERRUPTION.awaited = True
        late = time.monotonic() - self._saved > self._save_after
        return INTERRUPTION.requested or late or passed(step, interval, stride)

    def save(
        self,
        step: int,
        networks: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        stored: Mapping[str, Stored],
    ) -> None:
        """Write a checkpoint, whole or not at all, beside the one before; `stored` by the name of its folder.

        Raises Interrupted afterwards if the process was asked to end.
        """
        self._write_checkpoint(step, networks, optimizers, stored)
        if INTERRUPTION.requested:
            raise Interrupted(self.stopped())

    def _write_checkpoint(
        self,
        step: int,
        networks: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        stored: Mapping[str, Stored],
    ) -> None:
        self.open()
        began = time.monotonic()
        checkpoints = self.folder / "checkpoints"
        temporary = checkpoints / "unfinished"
        shutil.rmtree(temporary, ignore_errors=True)
        # Only the last whole one stays, so that there are never more than two on the disk.
        for folder in newest_first(self.folder):
            if folder != self._checkpoint:
                shutil.rmtree(folder)
        temporary.mkdir(parents=True)
        save_file(networks.state_dict(), temporary / "networks.safetensors")
        for name, optimizer in optimizers.items():
            save_file(flatten_optimizer(optimizer), temporary / f"optimizer_{name}.safetensors")
        save_file(random_states(), temporary / "random.safetensors")
        for name, part in stored.items():
            part.save(temporary / name)
        state = {"step": step, "seconds": self.seconds, "resumes": self.resumes}
        (temporary / "state.json").write_text(json.dumps(state) + "\n")
        set_ordinary_permissions(temporary)
        sync(temporary)
        checkpoint = checkpoints / f"{step:012d}"
        replaced = checkpoints / f"{step:012d}-replaced"
        if checkpoint.exists():
            checkpoint.rename(replaced)
        temporary.rename(checkpoint)
        sync_entry(checkpoint)
        shutil.rmtree(replaced, ignore_errors=True)
        self._checkpoint, self._step, self._saved = checkpoint, step, time.monotonic()
        # Writing a large replay buffer may take long: at most 2 % of the time goes into it.
        self._save_after = max(SAVE_AFTER, 50 * (self._saved - began))

    def load(
        self, networks: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], stored: Mapping[str, Stored]
    ) -> int:
        """Restore the newest checkpoint, if there is one, and return its step, 0 for none.

        Without one of its own, an `extendable` run takes the last one of the longest shorter run. Where a checkpoint is
        damaged, the one before is restored.

        Raises ValueError where there are checkpoints, and none can be restored.
        """
        if not self.args.resume:
            return 0
        checkpoints = newest_first(self.folder)
        if not checkpoints and self.extendable and (shorter := self._find_shorter("checkpoints/[0-9]*")):
            self._shorter, checkpoints = shorter, newest_first(shorter)
        if not checkpoints:
            return 0
        for folder in checkpoints:
            try:
                state = restore(folder, networks, optimizers, stored)
                break
            except Exception as error:  # Damaged files lead to errors of many types.
                fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                say(f"{self.agent}: the checkpoint {folder} cannot be restored: {fault}")
        else:
            raise ValueError(
                f"no checkpoint in {checkpoints[0].parent} can be restored ({fault}): --no-resume starts over"
            )
        self._checkpoint = folder
        self._seconds_before = state["seconds"]
        self.resumes = state["resumes"] + 1
        self._step = state["step"]
        return self._step

    def save_policy(self, modules: nn.Module, step: int | None = None) -> None:
        """Write `policy.safetensors`, whole or not at all, with the `step` that it is of."""
        self.open()
        temporary = self.folder / "policy.unfinished"
        save_file(modules.state_dict(), temporary, None if step is None else {"step": str(step)})
        set_ordinary_permissions(temporary)
        sync(temporary)
        temporary.replace(self.folder / "policy.safetensors")

    def finish(self, step: int, *state: Any) -> None:
        """Mark the run done and remove its checkpoint.

        A run that is `extendable` keeps one of the end; `state` are the other arguments of `save` for it.
        """
        self.open()
        INTERRUPTION.awaited = False
        if self.extendable:
            self._write_checkpoint(step, *state)
            for folder in newest_first(self.folder)[1:]:
                shutil.rmtree(folder)
        set_ordinary_permissions(self.folder)
        write_atomically(self.folder / "done", json.dumps({"step": step, "seconds": round(self.seconds, 3)}) + "\n")
        if not self.extendable:
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        Run.current = None
        say(f"{self.agent}: done, {self.folder}")

    def stop_if_requested(self) -> None:
        """Raise Interrupted, without a checkpoint, if the process was asked to end."""
        INTERRUPTION.awaited = True
        if INTERRUPTION.requested:
            raise Interrupted(self.stopped())

    def stopped(self) -> str:
        """How the run goes on after it has been stopped."""
        return f"{self.agent}: stopped; the same command goes on from step {self._step:,}: {self.folder}"

    def _find_shorter(self, pattern: str) -> Path | None:
        """The longest finished run that is shorter than this one, has the same flags otherwise, and holds `pattern`."""
        flags = identity(self.flags)
        shorter_runs = {}
        for done in self.folder.parent.glob(f"{self.agent}__seed{self.args.seed}__*/done"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                steps, config = json.loads(done.read_text())["step"], read_config(done.parent)
                same = identity(config["args"]) == flags and config["args"]["total_steps"] < self.flags["total_steps"]
                if same and steps < self.flags["total_steps"] and any(done.parent.glob(pattern)):
                    shorter_runs[steps] = done.parent
        return shorter_runs[max(shorter_runs)] if shorter_runs else None


def identity(flags: Mapping[str, Any]) -> Any:
    """What makes two runs of different length the same otherwise."""
    return json.loads(
        json.dumps({name: value for name, value in flags.items() if name not in (*NOT_HASHED, "total_steps")})
    )


def read_config(folder: Path) -> dict[str, Any]:
    """A run's `config.json`."""
    return json.loads((folder / "config.json").read_text())


def policy_step(folder: Path) -> int | None:
    """The environment steps behind the policy in the folder of a run that still trains; None before there is one."""
    with contextlib.suppress(OSError, SafetensorError), safe_open(folder / "policy.safetensors", "pt") as file:
        step = (file.metadata() or {}).get("step")
        return None if step is None else int(step)
    return None


def restore(
    folder: Path, networks: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], stored: Mapping[str, Stored]
) -> dict[str, Any]:
    """Restore the checkpoint in `folder`, and return its `step`, `seconds` and `resumes`."""
    numbers = json.loads((folder / "state.json").read_text())
    state = {name: numbers[name] for name in ("step", "seconds", "resumes")}
    networks.load_state_dict(load_tensors(folder / "networks.safetensors"))
    for name, optimizer in optimizers.items():
        restore_optimizer(optimizer, load_tensors(folder / f"optimizer_{name}.safetensors"))
    restore_random_states(load_tensors(folder / "random.safetensors"))
    for name, part in stored.items():
        part.load(folder / name)
    return state


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder."""
    return sorted((folder / "checkpoints").glob("[0-9]*"), reverse=True)


def set_ordinary_permissions(path: Path) -> None:
    """Give safetensors files, which are written for their owner alone, the permissions of any new file."""
    mask = os.umask(0)
    os.umask(mask)
    for file in path.rglob("*.safetensors") if path.is_dir() else [path]:
        file.chmod(0o666 & ~mask)


def check_device(device: str) -> None:
    """Raise ValueError for a device that torch does not have."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: {str(error).splitlines()[0]}") from error


def say(line: str) -> None:
    """Print a line to standard error, on a terminal in place of a status line."""
    print(f"\r{line}\x1b[K" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)


def drop_half_line(path: Path) -> None:
    """Remove the half line that a kill may have left at the end of `path`."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    temporary = path.with_name(path.name + ".unfinished")
    temporary.write_text(text, "utf-8")
    sync(temporary)
    temporary.replace(path)


def sync(path: Path) -> None:
    """Have the disk hold a file, or a folder with all that is in it, before a rename makes it count."""
    for each in [*path.rglob("*"), path] if path.is_dir() else [path]:
        # Windows opens no folder, and syncs no file that is open for reading alone.
        with contextlib.suppress(PermissionError):
            handle = os.open(each, os.O_RDONLY if each.is_dir() else os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def sync_entry(path: Path) -> None:
    """Have the disk hold the name of a file or folder."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
