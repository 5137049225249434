"""`CarlaNoCrash-v0` and `CarlaLeaderboard-BEV-v0` as Gymnasium environments: vector environments with one world."""

import os
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from mentorgym.envs.driving.batch import DrivingBatch, Observation, Reward, Towns
from mentorgym.envs.driving.vector import DrivingVectorEnv, LeaderboardVectorEnv
from mentorgym.envs.single import SingleEnv, first_row
from mentorgym.names import names_unknown_arguments


class DrivingEnv(SingleEnv):
    """NoCrash driving, `CarlaNoCrash-v0`, in one embedded world.

    ## Description

    A car, the ego, follows a route through a town among cars and walkers, lights and stop signs. It is Found-RL's
    driving task on CARLA's NoCrash benchmark (Codevilla et al. 2019) in towns of our own. In training the route has no
    end; in tests it is one of the town's fixed routes, which training never draws.

    ## Action Space

    `Box(-1, 1, (2,), float32)`: acceleration and steer, clipped to the box.

    | entry | meaning |
    | --- | --- |
    | 0 | acceleration: throttle from 0 to 1, brake from 0 to -1 |
    | 1 | steer, positive to the right |

    A step is 0.1 s. NaN raises ValueError.

    ## Observation Space

    `Dict` of two:

    - `bev` `Box(0, 255, (15, 96, 96), uint8)`: bird's-eye masks of 38.4 m x 38.4 m, the ego's forward direction up:
      road, route, lane markings, and at four instants of the last 1.5 s vehicles, walkers, and lights with stop signs
      (`view.masks.masks`)
    - `state` `Box(-inf, inf, (10,), float32)`: applied controls, gear, velocity in m/s, the light ahead, the stop sign
      ahead (`view.masks.state_vector`)

    With `observation="state"` it is the `Box` of the state vector alone, and nothing is drawn.

    ## Rewards

    Found-RL's, the sum of five terms (`task.reward.found_rl`):

    - speed: 1 - |v - v*| / 6, v the speed and v* the desired one in m/s, which falls from 6 to 0 near obstacles
    - position: -0.5 per metre from the route's centre line
    - rotation: minus the angle to the route in radians
    - action: -0.1 when the applied steer changes by more than 0.01
    - terminal: -1 when the episode terminates, and minus the speed in m/s on top for a collision, a red light, a stop
      sign or a pixel collision

    ## Starting State

    The ego stands at rest on a random spawn point, or at the start of a test route; cars and walkers are placed anew.
    Seed and number of the episode decide everything. In tests episode n takes the n-th route; `reset` takes
    `options={"route": k}` instead.

    ## Episode End

    Terminated (`task.termination.check`): at the first collision, red light or stop sign run, too far from the route's
    centre line, or after 90 s of standing; in training also at a pixel collision, in tests when the route is completed.
    Truncated: in tests after 1,200 s. With `ends="leaderboard"` infractions end nothing.

    The info of a step holds `reward_terms` float32 [5], the five terms; `route_completion` in [0, 1], which falls on an
    endless route whenever it is lengthened; and `respawns`, how many cars have been moved elsewhere. That of the last
    step also holds `score`, the dict of `task.score.episode_score`.

    ## Arguments

    Args:
        town: one of ours ("Suburb", the default, to train in; "Village", never trained in; "City", "Ring", "Grid",
            "Avenue"), a name under `MENTORGYM_MAPS` or `CARLA_ROOT`, or the path of an `.xodr` file. Of several towns
            training drives in number (seed + number of the episode) mod their count, and soft resets stay where they
            are; the test routes of all are numbered one town after another.
        routes: the test routes: None for the town's own, or a file (CSV of start and goal poses, or Leaderboard XML),
            by path or by name under `MENTORGYM_ROUTES`. Training never draws their pairs of start and goal lanes.
        traffic: "empty", "regular" (the default), "dense", "busy", or a pair (vehicles, walkers), the same in every
            episode; or "train", which draws both anew for each episode (Found-RL: 0 to 150 vehicles and 0 to 200
            walkers).
        weather: a preset's or a group's name (`tasks.WEATHERS`, `tasks.WEATHER_GROUPS`), drawn for each episode; or
            "dynamic" or "dynamic_k", which changes during the episode (`tasks.change_weather`) at k times the speed.
            In the embedded world it is a label.
        split: "train" for endless random routes, "test" for the fixed ones.
        ends: "found-rl" ends at the first infraction, "leaderboard" drives on.
        observation: "masks", or "state" for the state vector alone.
        reward: "found-rl", or a callable of (WorldState, EpisodeState) that returns a float for each world. With a
            callable `reward_terms` stay 0.
        soft_reset: probability that a training episode keeps the last one's traffic and moves only the ego (Found-RL).
        threads: how many threads share the worlds of a step; the results are the same, bit for bit.
        carla: reserved.
        render_mode: None, "rgb_array", or "human": a window shows the world after every reset and step, in real time
            (the extra `human`).

    Raises:
        ValueError, TypeError: an argument is unknown, or does not fit the town; the message names what would.
        gymnasium.error.DependencyNotInstalled: render_mode="human" without pygame.

    ## Version History

    - v0: the first version.

    Example:
        >>> import gymnasium as gym
        >>> import mentorgym
        >>> env = gym.make("CarlaNoCrash-v0", town="Village", traffic="empty")
        >>> observation, info = env.reset(seed=0)
        >>> observation["bev"].shape, observation["state"].shape
        ((15, 96, 96), (10,))
        >>> observation, reward, terminated, truncated, info = env.step(env.unwrapped.expert_action())
        >>> sorted(info)
        ['respawns', 'reward_terms', 'route_completion']
        >>> env.close()
    """

    metadata: dict[str, Any] = DrivingBatch.metadata
    vector: DrivingVectorEnv
    vector_class = DrivingVectorEnv
    reset_options = ("route",)

    @names_unknown_arguments
    def __init__(
        self,
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
        vector = self.vector_class(
            1,
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
            autoreset_mode=AutoresetMode.DISABLED,
            # `first_row` copies.
            copy=False,
        )
        super().__init__(vector)

    def _info(self, infos: dict[str, Any]) -> dict[str, Any]:
        # As NumPy's scalars, so that Gymnasium's vector environments make arrays of the same types as ours.
        return first_row(infos)

    def expert_action(self) -> np.ndarray:
        """What the rule-based driver would do now: float32 [2]."""
        return self.vector.expert_actions()[0]

    def picture(self) -> np.ndarray:
        """The scene as an image, uint8 [192, 192, 3]."""
        return self.vector.picture(0)

    def prompt_context(self) -> dict[str, Any]:
        """What a prompt says about the scene: see `picture.prompt_contexts`."""
        return self.vector.prompt_context(0)

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the episode's future depends on, as independent arrays by name."""
        return self.vector.get_state()

    def set_state(self, state: dict[str, np.ndarray]) -> Observation:
        """Go back to a state of `get_state`; returns its observation."""
        return first_row(self.vector.set_state(state))


class LeaderboardEnv(DrivingEnv):
    """Leaderboard driving, `CarlaLeaderboard-BEV-v0`, in one embedded world.

    ## Description

    Found-RL's driving task on the routes of CARLA's Leaderboard 1.0, without scripted scenarios, in towns of our own.
    Action space, observation space, rewards and starting state are those of `DrivingEnv`.

    ## Episode End

    That of `DrivingEnv`. Found-RL tests under the rules that it trains under, and adds the route's completion and a
    time limit. `ends="leaderboard"` drives on after infractions, as the CARLA leaderboard does.

    ## Arguments

    Those of `DrivingEnv`, with other defaults:

    Args:
        town: "Suburb", "City", "Ring" and "Avenue" to train in, episode after episode; all six for tests.
        routes: the test routes are `leaderboard_<town>.xml`, 10 + 6 + 20 + 20 + 10 + 10 = 76 in the towns' order
            Suburb, Village, City, Ring, Grid, Avenue; as long as the public Leaderboard 1.0 routes that stand behind
            Found-RL's suite.
        traffic: "train" in training, drawn for every episode that begins with new traffic from Found-RL's ranges
            (Town01: 80 to 160 vehicles, 80 to 160 walkers, and so on); "busy" in tests, as in its tables. Both are
            scaled to our towns' kilometres of lanes.

    ## Version History

    - v0: the first version.

    Example:
        >>> import gymnasium as gym
        >>> import mentorgym
        >>> env = gym.make("CarlaLeaderboard-BEV-v0", town="Village", split="test", traffic=(10, 10))
        >>> env.reset(seed=0, options={"route": 5})[0]["state"].shape
        (10,)
        >>> env.close()
    """

    vector_class = LeaderboardVectorEnv
