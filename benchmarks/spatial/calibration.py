"""How often moves in `UnitySpatial-v0` are valid, and whether an agent's are so by skill or by hardly moving.

    mentorgym spatial-calibration
    mentorgym spatial-calibration --run runs/UnitySpatial-v0/rls3__seed1__0123abcd

The random policy comes first, then the policy of each run, with the same seeds. Of each the share of valid moves, in
all and by room; and of the valid ones the median displacement in m, and two entropies in bits: of where on its surface
the object then stands (8 x 8 cells of the surface's length and width, all surfaces in one histogram; at most 6), and of
which surface that is. Ratios are to the random policy's figures.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mentorgym.benchmarks.harness.command import TableFlags, UsageError, report, user_input, verb
from mentorgym.benchmarks.harness.tables import markdown_lines
from mentorgym.envs.spatial.rooms import ROOMS
from mentorgym.envs.spatial.vector import SpatialVectorEnv

CELLS = 8
"""Along either side of a surface."""

FIGURES = ("valid", "displacement", "place_bits", "surface_bits")


@dataclass
class Args(TableFlags):
    """How often moves are valid, and how far and where to they go."""

    run: tuple[Path, ...] = ()
    """folders of finished runs of rls3 with SAC as sampler"""
    split: str = "train"
    """rooms: those of train and val are the same, those of test others"""
    camera: str = "close"
    """cameras: close to a surface, or paper, at room scale"""
    anywhere: bool = False
    """moves out of the picture are valid too"""
    num_envs: int = 256
    """rooms side by side"""
    steps: int = 200
    """moves in each"""
    seed: int = 0
    """of the rooms"""
    device: str = "cpu"
    """torch device of the policies"""


def entropy(counts: Iterable[int]) -> float:
    """The entropy in bits of a histogram; 0 for an empty one."""
    shares = np.array([count for count in counts if count], float)
    shares /= shares.sum()
    return float(abs((shares * np.log2(shares)).sum()))


def where(room: str, position: np.ndarray) -> tuple[int, int, int]:
    """The surface of the room that an object stands on, by its place in the list, and the cell, along x and y."""
    for index, surface in enumerate(ROOMS[room].surfaces):
        share = (position[:2] - surface.centre[:2]) / surface.size + 0.5
        if abs(position[2] - surface.centre[2]) < 1e-6 and ((share >= 0) & (share <= 1)).all():
            x, y = np.minimum(share * CELLS, CELLS - 1).astype(int).tolist()
            return index, x, y
    raise ValueError(f"nothing carries what stands at {position} in the {room}")


def measure(
    envs: SpatialVectorEnv, policy: Callable[[np.ndarray], np.ndarray], steps: int, seed: int
) -> dict[str, Any]:
    """The figures of a policy (observations float32 [N, 32] to actions float [N, 3]) over `steps` of each row."""
    observations, _ = envs.reset(seed=seed)
    moves, valid, reasons = Counter[str](), Counter[str](), Counter[str]()
    places, surfaces = Counter[tuple[int, int]](), Counter[tuple[str, int]]()
    displacements: list[float] = []
    for _ in range(steps):
        before = [envs.observed(row) for row in range(envs.num_envs)]
        observations, _, _, _, infos = envs.step(policy(observations))
        moves.update(each.room for each in before)
        reasons.update(infos["reason"].tolist())
        for row in np.flatnonzero(infos["valid"]).tolist():
            after, moved = envs.arrangement(row), infos["moved"][row]
            position = after.positions[moved]
            surface, *cell = where(after.room, position)
            valid[after.room] += 1
            places[cell[0], cell[1]] += 1
            surfaces[after.room, surface] += 1
            displacements.append(float(np.linalg.norm(position - before[row].positions[moved])))
    count = steps * envs.num_envs
    return {
        "moves": count,
        "valid": len(displacements) / count,
        "displacement": float(np.median(displacements)) if displacements else 0.0,
        "place_bits": entropy(places.values()),
        "surface_bits": entropy(surfaces.values()),
        "rooms": {name: valid[name] / moves[name] for name in ROOMS if moves[name]},
        "reasons": {name: reasons[name] / count for name in sorted(reasons) if name},
    }


def calibrate(args: Args) -> dict[str, Any]:
    """The figures of the random policy and of each run's."""
    arguments = {"split": args.split, "camera": args.camera, "in_view": not args.anywhere}
    with user_input():
        envs = SpatialVectorEnv(args.num_envs, **arguments)  # type: ignore[arg-type]
    if args.steps < 1 or args.seed < 0:
        raise UsageError(f"--steps {args.steps} --seed {args.seed}: give at least 1 step, and a seed from 0 on")
    policies = [load(folder, args.device) for folder in args.run]
    generator = np.random.default_rng(args.seed)
    entries = [
        {"policy": "random"}
        | measure(envs, lambda seen: generator.uniform(-1, 1, (len(seen), 3)), args.steps, args.seed)
    ]
    for folder, policy in zip(args.run, policies, strict=True):
        figures = measure(envs, policy, args.steps, args.seed)
        # Of what the random policy does not do at all, there is no ratio.
        ratios = {name: figures[name] / entries[0][name] if entries[0][name] else None for name in FIGURES}
        entries.append({"policy": str(folder), **figures, "ratios": ratios})
    return arguments | {"seed": args.seed, "num_envs": args.num_envs, "steps": args.steps, "entries": entries}


def load(folder: Path, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """The policy in a run's folder; UsageError where there is none."""
    # torch takes seconds to import, and the random policy needs none.
    from mentorgym.agents.toolbox import start_torch
    from mentorgym.benchmarks.harness.agents import agent_of, load_agent, read_training, require_policy

    training = read_training(folder)
    module = load_agent(agent_of(folder))
    require_policy(module)
    start_torch(training.seed, 1)
    with user_input(f"{folder} cannot be loaded: "):
        return module.load_policy(folder, device)


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    entries = figures["entries"]
    rooms = list(entries[0]["rooms"])
    heads = ["policy", "valid", "displacement (m)", "place (bits)", "surface (bits)", *rooms]
    rows = []
    for entry in entries:
        ratios = {name: f" ({ratio:.2f})" for name, ratio in entry.get("ratios", {}).items() if ratio is not None}
        cells = [f"{entry['valid']:.1%}"] + [f"{entry[name]:.3f}{ratios.get(name, '')}" for name in FIGURES[1:]]
        by_room = [f"{entry['rooms'][name]:.1%}" if name in entry["rooms"] else "" for name in rooms]
        rows.append([Path(entry["policy"]).name, *cells, *by_room])
    where = f"Split {figures['split']}, {figures['camera']} cameras, {entries[0]['moves']:,} moves of each policy; "
    where += "objects may leave the picture" if not figures["in_view"] else "what leaves the picture is invalid"
    refused = ", ".join(f"{name} {share:.1%}" for name, share in entries[0]["reasons"].items())
    lines = [f"{where}. In brackets the ratio to the random policy.", "", *markdown_lines(heads, rows), ""]
    return [*lines, f"Random moves fail by: {refused}."]


@verb("spatial-calibration")
def main(args: Args, command: str) -> dict[str, Any]:
    """Measure the policies, and print the table."""
    figures = calibrate(args)
    report("Spatial calibration", table(figures), args.table, command)
    return figures
