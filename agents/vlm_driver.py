"""A vision-language model alone at the wheel: nothing is trained.

Documentation: `docs/agents/vlm_driver.md`.

Found-RL's fine-tuned models as drivers (its paper, section 5): at every step the model is shown the picture and the
prompt, and what it replies is driven. A reply that suggests no action is not replaced by a made-up one: the car repeats
its last action, or brakes where there is none, and `replies_parsed`, the share of replies that could be driven, stands
beside the scores of each episode.

    mentorgym train vlm_driver --mentor vlm

The program drives the first test routes, one after the other, and prints the score of each. `mentorgym evaluate` with
the run's folder drives the whole benchmark. `train` only checks that the model can be loaded, and writes down which one
it is: `policy.json` holds the model's name and options, the prompt, and the SHA-256 of its files where they lie in a
folder.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from mentorgym.agents.toolbox import ProgressLine, Run, parse_keywords, run_program
from mentorgym.agents.toolbox.runs import explain, write_atomically
from mentorgym.envs.driving.view.language import PROMPT, check_prompt, grid
from mentorgym.mentors.load import load_mentor, weights_digest
from mentorgym.mentors.mentor import GRID, Mentor
from mentorgym.mentors.replies import READINGS
from mentorgym.names import nearest_name
from mentorgym.wrappers.feedback import reader_of

BRAKE = np.array([-1.0, 0.0], np.float32)


@dataclasses.dataclass
class Args:
    """Flags of a vision-language model that drives.

    Rerunning the same command finds the run that is there.
    """

    env_id: str = "CarlaNoCrash-v0"
    """environment, or module:environment where a module of yours registers it"""
    env_args: tuple[str, ...] = ()
    """the environment's keyword arguments, as in: town=Suburb traffic=dense"""
    seed: int = 0
    """seed of the environments, networks, actions and batches"""
    runs: str = "runs"
    """folder of the run folders"""
    resume: bool = True
    """continue an earlier start of this run; --no-resume deletes what it left and starts over"""
    device: str = "cpu"
    """torch device of the model"""
    routes: int = 2
    """test routes that the program drives; 0 for none"""

    mentor: str = "vlm"
    """who drives: expert, vlm, vlm:<folder or hub name>, the http address of an endpoint, or module:callable"""
    mentor_args: tuple[str, ...] = ()
    """the mentor's keyword arguments, as in: max_new_tokens=32"""
    prompt: str = ""
    """what is asked, with <image> and the fields {speed}, {forward}, {right}, {command}; by default the built-in one"""
    reading: str = "strict"
    """which replies are driven: strict, what the prompt asks for; first_numbers, the first three numbers of any text,
    as in Found-RL's released code"""
    score_grid: bool = False
    """take the likeliest of 30 replies, one for each semantic action, instead of letting the model write"""


def open_mentor(args: Args, device: str) -> Mentor:
    """The model that `args` name; raises as `load_mentor` does, and ValueError for a prompt that cannot be filled."""
    check_prompt(args.prompt or PROMPT)
    if args.reading not in READINGS:
        raise ValueError(f"--reading {args.reading}: {nearest_name(args.reading, READINGS)}")
    options: dict[str, Any] = parse_keywords(args.mentor_args)
    if args.score_grid or options.get("answers") == GRID:
        options["answers"] = grid()
    if device != "cpu" and args.mentor.partition(":")[0] in ("vlm", "clip", "openclip"):
        options.setdefault("device", device)
    return load_mentor(args.mentor, **options)


class Policy:
    """Asks the model about every row at every step; called with the environments, whose pictures it needs."""

    observation = "state"

    def __init__(self, mentor: Mentor, prompt: str, reading: str = "strict"):
        self.mentor, self.prompt, self.reading = mentor, prompt, reading
        self._last: dict[int, np.ndarray] = {}
        self._questions: dict[int, int] = {}
        self._parsed: dict[int, int] = {}

    def start(self, row: int, seed: int) -> None:
        """An episode begins in `row`."""
        self._last[row] = BRAKE
        self._questions[row] = self._parsed[row] = 0

    def act(self, envs: Any, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Actions float32 [N, 2] for the rows of `envs`, which have an `adapter`."""
        rows = range(envs.num_envs)
        feedback = self.mentor(envs.adapter.requests(rows, self.prompt))
        to_action = reader_of(envs.adapter, self.reading)
        for row, reply in zip(rows, feedback, strict=True):
            action = None if reply is None else to_action(reply)
            self._questions[row] += 1
            if action is not None:
                self._last[row] = action
                self._parsed[row] += 1
        return np.stack([self._last[row] for row in rows], dtype=np.float32, casting="same_kind")

    def report(self, row: int) -> dict[str, float]:
        """The share of replies that could be driven, in the episode so far."""
        return {"replies_parsed": self._parsed[row] / max(self._questions[row], 1)}


def train(args: Args) -> Path:
    """Check that the model can be asked, write down which one it is, and return the run's folder."""
    run = Run("vlm_driver", args)
    if run.finished:
        print(f"{run.folder} is done; --no-resume writes it anew")
        return run.folder
    open_mentor(args, args.device)
    description: dict[str, Any] = {
        "mentor": args.mentor,
        "mentor_args": args.mentor_args,
        "prompt": args.prompt or PROMPT,
        "score_grid": args.score_grid,
        "weights": weights_digest(args.mentor),
    }
    run.open()
    write_atomically(run.folder / "policy.json", json.dumps(description, indent=2) + "\n")
    run.finish(0)
    return run.folder


def load_policy(folder: Path | str, device: str = "cpu") -> Policy:
    """The model of a run's folder as a driver of vector environments.

    Raises ValueError where the model's files are no longer those that the run was made with.
    """
    config = json.loads((Path(folder) / "config.json").read_text("utf-8"))["args"]
    args = Args(**config | {name: tuple(config[name]) for name in ("env_args", "mentor_args")})
    description = json.loads((Path(folder) / "policy.json").read_text("utf-8"))
    if description["weights"] != weights_digest(args.mentor):
        raise ValueError(f"the weights of {args.mentor} have changed since {folder}: run its command with --no-resume")
    return Policy(open_mentor(args, device), description["prompt"], args.reading)


def drive(args: Args) -> Path:
    """`train`, then drive the first `args.routes` test routes and print how each ended."""
    if args.routes < 0:
        raise ValueError(f"--routes {args.routes}: give at least 0")
    keywords = {"split": "test"} | parse_keywords(args.env_args)
    with explain("--env-args"):
        envs: Any = gym.make_vec(args.env_id, num_envs=1, observation=Policy.observation, **keywords).unwrapped
    folder = train(args)
    policy = load_policy(folder, args.device)
    for route in range(args.routes):
        line = ProgressLine(0, 0, f"steps of route {route}")
        policy.start(0, seed=args.seed)
        observations, _ = envs.reset(seed=args.seed, options={"route": np.array([route])})
        for step in itertools.count(1):
            observations, _, terminated, truncated, infos = envs.step(policy.act(envs, observations))
            if terminated[0] or truncated[0]:
                break
            line.show(step, f"{infos['route_completion'][0]:.0%} of the route")
        score = infos["final_info"]["score"]
        completion, end = score["route_completion"][0], score["end"][0]
        parsed = policy.report(0)["replies_parsed"]
        print(f"route {route}: {completion:.0%} driven, {end}; {parsed:.0%} of {step:,} replies could be driven")
    envs.close()
    print(f"all routes: mentorgym evaluate --run {folder}")
    return folder


if __name__ == "__main__":
    run_program(drive, Args)
