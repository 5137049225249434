"""Several egos in one embedded world, as a PettingZoo parallel environment."""

import copy
import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from mentorgym.envs.checks import check_count, needs_reset
from mentorgym.envs.driving.batch import DrivingBatch, Observation, Reward, Towns
from mentorgym.envs.driving.task.score import episode_score
from mentorgym.names import names_unknown_arguments


class DrivingParallelEnv(DrivingBatch, ParallelEnv):
    """NoCrash driving with `num_egos` cars, the agents `ego_0`, `ego_1` ..., in one embedded world.

    Every ego has a route, observations, rewards, infos and an end of its own, all as in `DrivingEnv`, which explains
    the arguments; it sees the other egos as vehicles, and so does the traffic. Egos start at least 12 m apart.
    When its episode ends an ego leaves `agents` and its car leaves the world, while the others drive on; `reset` starts
    them all again. `ego_0` under a seed starts where the single environment under that seed does.

    Args:
        num_egos: how many cars are driven.
        reward: "found-rl", or a callable that returns a float [num_egos].

    `reset` takes `options={"route": k}` (an int per ego) in the test split, and ignores other options: PettingZoo's own
    test passes some. In that split episode n takes the next `num_egos` routes that start apart from each other.

    Observations are independent arrays. `render` with render_mode="rgb_array" is one image of all pictures side by
    side, in the order of `possible_agents`; those of egos that have left are black. With "human" a window shows it
    after every reset and step, in real time.

    Raises:
        ValueError, TypeError: an argument is unknown, or does not fit the town; the message names what would.
        gymnasium.error.DependencyNotInstalled: render_mode="human" without pygame.

    Example:
        >>> env = DrivingParallelEnv(3, town="Village", traffic="empty", observation="state")
        >>> observations, infos = env.reset(seed=0)
        >>> {name: observation.shape for name, observation in observations.items()}
        {'ego_0': (10,), 'ego_1': (10,), 'ego_2': (10,)}
        >>> observations, rewards, terminated, truncated, infos = env.step(env.expert_actions())
        >>> sorted(rewards)
        ['ego_0', 'ego_1', 'ego_2']
        >>> env.close()
    """

    metadata: dict[str, Any] = DrivingBatch.metadata | {"name": "carla_nocrash_v0", "is_parallelizable": True}

    @names_unknown_arguments
    def __init__(
        self,
        num_egos: int = 2,
        *,
        town: Towns | None = None,
        routes: str | os.PathLike[str] | None = None,
        traffic: str | tuple[int, int] | None = None,
        weather: str = "train",
        split: str = "train",
        ends: str = "found-rl",
        observation: str = "masks",
        reward: str | Reward = "found-rl",
        soft_reset: float = 0.0,
        threads: int = 1,
        carla: str | None = None,
        render_mode: str | None = None,
    ):
        super().__init__(
            1,
            check_count("num_egos", num_egos),
            town=town,
            routes=routes,
            traffic=traffic,
            weather=weather,
            split=split,
            ends=ends,
            observation=observation,
            reward=reward,
            soft_reset=soft_reset,
            threads=threads,
            carla=carla,
            render_mode=render_mode,
        )
        self.possible_agents = [f"ego_{ego}" for ego in range(self.num_egos)]
        self.agents: list[str] = []
        self.observation_spaces = {name: copy.deepcopy(self.single_observation_space) for name in self.possible_agents}
        self.action_spaces = {name: copy.deepcopy(self.single_action_space) for name in self.possible_agents}
        self._entropy, _ = seeding.np_random(None)

    def observation_space(self, agent: str) -> gym.Space:
        """What `agent` observes."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space:
        """What `agent` may do."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start the next episode with all egos."""
        routes = self._check_routes((options or {}).get("route"), self.num_egos)
        mask = np.ones(1, bool)
        self._seed_worlds([seed], mask, self._entropy)
        self._start_world(0, routes)
        self.agents = list(self.possible_agents)
        observations = self._share(self._observe(mask))
        self._show()
        return observations, {name: {} for name in self.agents}

    def step(
        self, actions: dict[str, np.ndarray]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Drive 0.1 s. Actions float [2] = (acceleration, steer) of every agent in `agents`; NaN is refused."""
        if not self.agents:
            raise needs_reset("step")
        controls = np.zeros((self.num_egos, 2))
        if not isinstance(actions, dict):
            raise ValueError(f"actions must be a dict by the egos' names, not {type(actions).__name__}")
        for name in {**dict.fromkeys(self.agents), **actions}:
            if name not in self.agents or name not in actions:
                raise ValueError(
                    f"actions are for {', '.join(actions) or 'nobody'}, those who drive are {', '.join(self.agents)}"
                )
            try:
                action = np.asarray(actions[name], np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"the action of {name} must be two numbers: {error}") from error
            if action.shape != (2,):
                raise ValueError(f"the action of {name} has shape {action.shape}, not (2,) = (acceleration, steer)")
            if np.isnan(action).any():
                raise ValueError(f"the action of {name} is NaN: check the policy")
            controls[self.possible_agents.index(name)] = action
        observations = self._share(self._drive(controls))
        rows = {name: self.possible_agents.index(name) for name in self.agents}
        values = self._step_infos()
        rewards = {name: float(self._rewards[row]) for name, row in rows.items()}
        terminated = {name: bool(self._terminated[row]) for name, row in rows.items()}
        truncated = {name: bool(self._truncated[row]) for name, row in rows.items()}
        infos = {name: {key: array[row] for key, array in values.items()} for name, row in rows.items()}
        for name, row in rows.items():
            if terminated[name] or truncated[name]:
                infos[name]["score"] = episode_score(self._episode, row)
                self._world.remove_ego(0, row)
                self.agents.remove(name)
        self._show()
        return observations, rewards, terminated, truncated, infos

    def _share(self, arrays: dict[str, np.ndarray]) -> dict[str, Observation]:
        """A copy of its own for each ego on the road."""
        rows = {name: self.possible_agents.index(name) for name in self.agents}
        return {
            agent: self._observation({name: array[row].copy() for name, array in arrays.items()})
            for agent, row in rows.items()
        }

    def expert_actions(self) -> dict[str, np.ndarray]:
        """What the rule-based driver would do now in the place of each ego on the road: float32 [2]."""
        actions = self.rule_based_actions()
        return {name: actions[self.possible_agents.index(name)] for name in self.agents}

    def render(self) -> np.ndarray | None:
        """All egos' pictures, uint8 [192, 192 * num_egos, 3], with render_mode="rgb_array", else None."""
        return self._frame() if self.render_mode == "rgb_array" else None

    def _show(self) -> None:
        if self._window is not None:
            self._window.show(self._frame())

    def _frame(self) -> np.ndarray:
        frame = np.zeros((192, self.num_egos, 192, 3), np.uint8)
        for name in self.agents:
            row = self.possible_agents.index(name)
            frame[:, row] = self.picture(row)
        return frame.reshape(192, -1, 3)

    def set_state(self, state: dict[str, np.ndarray]) -> dict[str, Observation]:
        """Go back to a state of `get_state`; returns its observations.

        Raises ValueError, and changes nothing, when the state is of another environment.
        """
        arrays = self._restore(state)
        self.agents = [name for name, active in zip(self.possible_agents, self._episode.active, strict=True) if active]
        return self._share(arrays)

    def close(self) -> None:
        """Stop the threads and close the window."""
        self._release()
