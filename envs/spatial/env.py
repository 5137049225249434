"""`UnitySpatial-v0` as a Gymnasium environment: a vector environment with one row."""

from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode

from mentorgym.envs.single import SingleEnv
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.vector import SpatialVectorEnv
from mentorgym.names import names_unknown_arguments


class SpatialEnv(SingleEnv):
    """A room in which three of nine objects are moved in turn, `UnitySpatial-v0` (RLS3, section 4).

    ## Description

    A camera looks at a furnished room. Three objects stand on its surfaces, and each step moves one of them. RLS3's
    sampler learns here to find arrangements that a vision-language model describes wrongly.

    ## Action Space

    `Box(-1, 1, (3,), float32)`: how far the object moves along the room's x, y and z, times `move_scale` m, clipped to
    the box. It then settles on the nearest surface that is above or below its whole base, at most `world.REACH` away.
    NaN raises ValueError.

    ## Observation Space

    `Box((32,), float32)`, in m and rad:

    | entries | meaning |
    | --- | --- |
    | 0 | index in `objects.OBJECTS` of the object to be moved |
    | 1 | index in `rooms.ROOMS` of the room |
    | 2 to 4 | length, width and free height of the surface that the object stands on |
    | 5 to 7 | the middle of that surface |
    | 8 to 25 | of each object, in the order of turns: position of the base (3), roll, pitch and yaw (3) |
    | 26 to 31 | position (3) and rotation (3) of the camera |

    ## Rewards

    1 for a valid move. -1 for an invalid one, after which the object stays where it was; `world.REASONS` names why.

    ## Starting State

    Room, camera, objects, yaws and places are drawn from the seed and the split, all objects in view. They are drawn
    anew after every `block` steps.

    ## Episode End

    Truncated after `steps` steps; never terminated.

    The info of a reset and a step holds `valid` bool, `reason` str, of `world.REASONS`, and `moved` int, which of the
    three, as `arrangement` numbers them, or -1 where none has been.

    ## Arguments

    Args:
        split: "train", "val" (the same five rooms, other draws) or "test" (three others).
        camera: "close" or "paper", see `rooms.KINDS`.
        steps: of an episode.
        block: steps between two draws.
        move_scale: metres along each axis that an action of 1 asks for.
        in_view: whether a move that takes an object's middle out of the picture, or behind furniture, is invalid. RLS3
            tests no such thing, but an agent that is paid for a model's errors would learn to hide what is asked about.
        unity: None for our own rooms; else the path of a Unity build, "editor" to wait until Play is pressed in one, or
            the port that a running player calls, see `unity.link.UnityWorld`.
        render_mode: None or "rgb_array" (the extra `scenes`).

    Raises:
        ValueError, TypeError: an argument is unknown or does not fit; the message names what would.
        ImportError: render_mode="rgb_array" without the extra `scenes`.
        unity.link.UnityError: the Unity player cannot be reached, has ended or does what it should not.

    ## Version History

    - v0: the first version.

    Example:
        >>> import gymnasium as gym
        >>> import mentorgym
        >>> env = gym.make("UnitySpatial-v0")
        >>> observation, info = env.reset(seed=0)
        >>> observation.shape, info
        ((32,), {'valid': True, 'reason': '', 'moved': -1})
        >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        >>> info["moved"]
        0
        >>> env.close()
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}
    vector: SpatialVectorEnv

    @names_unknown_arguments
    def __init__(
        self,
        *,
        split: str = "train",
        camera: str = "close",
        steps: int = 200,
        block: int = 10,
        move_scale: float = 0.28,
        in_view: bool = True,
        unity: str | Path | int | None = None,
        render_mode: str | None = None,
    ):
        super().__init__(
            SpatialVectorEnv(
                1,
                split,
                camera,
                steps,
                block,
                move_scale,
                in_view,
                unity,
                render_mode=render_mode,
                autoreset_mode=AutoresetMode.DISABLED,
            )
        )

    def arrangement(self) -> Arrangement:
        """See `SpatialVectorEnv.arrangement`."""
        return self.vector.arrangement(0)

    def observed(self) -> Arrangement:
        """See `SpatialVectorEnv.observed`."""
        return self.vector.observed(0)

    def truth(self) -> dict[str, Any]:
        """See `SpatialVectorEnv.truth`."""
        return self.vector.truth(0)
