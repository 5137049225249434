"""What every environment checks of its arguments, and of the seeds, options and actions that it is given."""

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.names import BATCH_ARGUMENTS, BATCH_REMEDY, nearest_name


def check_choice(argument: str, value: object, valid: Iterable[str | None]) -> None:
    """Raise ValueError for a value that is not among the `valid` ones."""
    valid = tuple(valid)
    if not (value is None or isinstance(value, str)) or value not in valid:
        raise ValueError(f"unknown {argument}={value!r}: {nearest_name(value, valid)}")


def check_count(argument: str, value: object) -> int:
    """A whole number from 1 on; ValueError for anything else."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument}={value!r}: give a whole number, at least 1")
    return int(value)


def check_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """The mode itself or by its value, e.g. "NextStep"; ValueError for anything else."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        raise ValueError(
            f"unknown autoreset_mode={mode!r}: {nearest_name(mode, [each.value for each in AutoresetMode])}"
        ) from None


def check_options(options: Iterable[str], valid: Sequence[str]) -> None:
    """Raise ValueError for an option of `reset` that is not among the `valid` ones."""
    for name in options:
        if name not in valid:
            hint = nearest_name(name, valid) if valid else "a reset takes none"
            raise ValueError(f"unknown option {name!r}: {BATCH_REMEDY if name in BATCH_ARGUMENTS else hint}")


def check_reset_mask(options: dict[str, Any], rows: int) -> np.ndarray:
    """`options["reset_mask"]`, bool [rows], all of them where it is not given; ValueError for another shape or type."""
    mask = np.asarray(options.get("reset_mask", np.ones(rows, bool)))
    if mask.dtype != bool or mask.shape != (rows,):
        raise ValueError(
            f"options['reset_mask'] must be a bool array of shape ({rows},), not {mask.dtype} {mask.shape}"
        )
    return mask


def check_seeds(seed: Any, rows: int) -> list[int | None]:
    """One seed for each row: those of a list, or seed + row; ValueError for another count or what is no seed."""
    seeds: list[Any]
    if isinstance(seed, list | tuple | np.ndarray):
        seeds = list(seed)
        if len(seeds) != rows:
            raise ValueError(f"{len(seeds)} seeds for {rows} rows: give one per row, or a single one")
    else:
        check_seed(seed)
        seeds = [None if seed is None else int(seed) + row for row in range(rows)]
    for each in seeds:
        check_seed(each)
    return [None if each is None else int(each) for each in seeds]


def check_seed(seed: object) -> None:
    """Raise ValueError for what is neither None nor a whole number from 0 on."""
    if seed is not None and not (isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0):
        raise ValueError(f"seed {seed!r}: a seed is a whole number from 0 on, or None")


def check_actions(actions: Any, space: gym.Space, ignored: np.ndarray) -> np.ndarray:
    """Actions as float64 of the shape of `space`, 0 in the rows `ignored` (bool).

    Raises ValueError for another shape, and for NaN in any other row.
    """
    try:
        actions = np.asarray(actions, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"actions must be numbers of shape {space.shape}: {error}") from error
    if actions.shape != space.shape:
        raise ValueError(f"actions have shape {actions.shape}, not {space.shape} = (rows, numbers)")
    actions = np.where(ignored[:, None], 0.0, actions)
    if np.isnan(actions).any():
        raise ValueError(
            f"actions of the rows {np.flatnonzero(np.isnan(actions).any(1)).tolist()} are NaN: check the policy"
        )
    return actions


def needs_reset(method: str) -> gym.error.ResetNeeded:
    """The error for a call of `method` that comes too early."""
    return gym.error.ResetNeeded(f"{method} was called before reset: call reset first")
