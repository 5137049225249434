"""`BddOia-Caption-v0` as a Gymnasium environment: a vector environment with one row."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode

from mentorgym.envs.caption.scenes import Scenes
from mentorgym.envs.caption.vector import CaptionVectorEnv
from mentorgym.envs.single import SingleEnv
from mentorgym.names import names_unknown_arguments

if TYPE_CHECKING:
    from mentorgym.mentors.clip import Scorer


class CaptionEnv(SingleEnv):
    """A driving scene to put into words, `BddOia-Caption-v0`: a bandit of one step.

    ## Description

    The scene is seen from the driver's seat. The task is to say what to do and why, as in BDD-OIA (Xu et al. 2020):
    "Action: stop. Reason: Red light." A CLIP and rules score the text; it is the environment of the RLOO paper.

    ## Action Space

    `Text(256)` of printable ASCII. A text of any length and characters is taken: what lies beyond the space is scored
    as `reward.clean` reads it.

    ## Observation Space

    `Dict` of two:

    - `frames` `Box(0, 255, (M, H, W, 3), uint8)`: the newest frame last
    - `instruction` `Text`: the task in words (`language.PROMPT`)

    ## Rewards

    By `reward`, of the text and the scene, plus the weighted `terms` (`reward.CaptionReward`):

    - "contrast": the probability of the text among all captions of the data, by the CLIP, in [0, 1]
    - "cosine": the cosine of text and scene, in [-1, 1]
    - "prob": the logistic function of the scaled cosine, in [0, 1]
    - "none": 0

    ## Starting State

    Each reset shows the next scene of an endless list: in the splits "train" and "toy" shuffled by the seed, in the
    others in their own order. `reset` takes `options={"index": i}`, the scene to show; the list then stays where it is.

    ## Episode End

    Terminated after one step. The observation of that step is the scene that the text was about.

    The info of a reset and a step holds `scene` int, its index; `caption` str, the ground truth; `actions` bool [4] and
    `reasons` bool [21], its labels. That of a step also holds `terms`, a dict of what the reward is made of.

    ## Arguments

    Args:
        split: "train", "val" or "test"; of BDD-OIA's files with `labels="one"` also "toy".
        data: "staged" for our own scenes, or the folder of BDD-OIA's files, see `data.load_scenes`; or scenes
            themselves.
        reward: "contrast", "cosine", "prob" or "none".
        frames: M, of each scene the last.
        model: the CLIP that scores, see `reward.load_scorer`; "" for our own.
        labels: "one" for scenes with one action and one reason alone, "all" for any.
        terms: weights of what is added to the reward, by the names of `reward.TERMS`.
        judge: who gives the term "judge", see `mentors.load.load_mentor`.
        reason_order: of BDD-OIA's reasons, see `bddoia.BddOiaScenes`.
        device: of the CLIP, as torch names it.
        render_mode: None or "rgb_array".

    Raises:
        ValueError, TypeError: an argument is unknown or does not fit; the message names what would.
        ImportError: a package is missing; the message says what to install (the extra `caption`).

    ## Version History

    - v0: the first version.

    Example:
        >>> import gymnasium as gym
        >>> import mentorgym
        >>> env = gym.make("BddOia-Caption-v0", split="test", reward="none", terms={"action": 1.0, "reason": 1.0})
        >>> observation, info = env.reset(seed=0)
        >>> observation["frames"].shape
        (1, 108, 192, 3)
        >>> observation, reward, terminated, truncated, info = env.step(info["caption"])
        >>> reward, terminated, info["terms"]
        (2.0, True, {'action': 1.0, 'reason': 1.0})
        >>> env.close()
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 1}
    vector: CaptionVectorEnv
    reset_options = ("index",)

    @names_unknown_arguments
    def __init__(
        self,
        *,
        split: str = "train",
        data: str | Path | Scenes = "staged",
        reward: str = "contrast",
        frames: int = 1,
        model: "str | Scorer" = "",
        labels: str = "one",
        terms: Mapping[str, float] | None = None,
        judge: str = "",
        reason_order: str = "file",
        device: str = "cpu",
        render_mode: str | None = None,
    ):
        super().__init__(
            CaptionVectorEnv(
                1,
                1,
                split,
                data,
                reward,
                frames,
                model,
                labels,
                terms=terms,
                judge=judge,
                reason_order=reason_order,
                device=device,
                render_mode=render_mode,
                autoreset_mode=AutoresetMode.DISABLED,
            )
        )

    def _batch_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"indices": [options["index"]]} if "index" in options else {}

    def _batch_action(self, action: Any) -> Any:
        return [action]

    @property
    def scenes(self) -> Scenes:
        """The scenes of the split."""
        return self.vector.scenes

    @property
    def captions(self) -> list[str]:
        """The distinct captions of the scenes, sorted."""
        return self.vector.captions
