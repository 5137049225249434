"""`BddOia-Caption-v0` as a vector environment: a list of texts is scored in one batch."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mentorgym.envs.caption import language
from mentorgym.envs.caption.data import load_scenes
from mentorgym.envs.caption.picture import draw
from mentorgym.envs.caption.reward import CaptionReward, clean
from mentorgym.envs.caption.scenes import Scenes
from mentorgym.envs.checks import (
    check_autoreset_mode,
    check_choice,
    check_count,
    check_options,
    check_reset_mask,
    needs_reset,
)
from mentorgym.names import names_unknown_arguments

if TYPE_CHECKING:
    from mentorgym.envs.caption.mentoring import CaptionAdapter
    from mentorgym.mentors.clip import Scorer

CHARACTERS = "".join(map(chr, range(32, 127)))
"""Of the texts of the spaces; others are taken too, see `CaptionVectorEnv`."""

MOST_SAMPLED = 256
"""Characters of a text that the action space samples."""


class CaptionVectorEnv(gym.vector.VectorEnv):
    """`num_envs` driving scenes to put into words, Gymnasium's vector interface: a batch of texts is scored at once.

    `CaptionEnv` describes actions, observations, rewards and the end of an episode, and the arguments that are not
    listed here.

    Args:
        num_envs: N, texts in a step.
        group_size: rows that share a scene: rows i * group_size to (i + 1) * group_size - 1 hold the same.
        autoreset_mode: SAME_STEP, NEXT_STEP or DISABLED, as the enumeration or its value. With SAME_STEP a step shows
            the next scenes; those that it scored are in `infos["final_obs"]`, object [N], and `infos["final_info"]`.
            With NEXT_STEP the step after shows them, ignores the texts, and has reward 0. DISABLED leaves it to `reset`
            with `options={"reset_mask": ...}`.

    The scenes come from one endless list that the rows read together, each reset taking the next scenes in the order
    of its rows. In the splits "train" and "toy" it is one shuffle of all scenes after another, in the others their own
    order over and over; so each epoch of S scenes shows each once. Under the same seed the single environment reads the
    same list alone: with `group_size=1` row i of step t is its episode t * N + i.

    A step takes a list or tuple of N texts. Observations are independent arrays: `frames` uint8 [N, M, H, W, 3] and
    `instruction`, a tuple of N texts. `reset` takes `options={"reset_mask": mask}`, bool [N], whole groups to reset,
    and `options={"indices": [...]}`, the scenes to show, one for each group; the list then stays where it is.

    Infos: those of the single environment as arrays [N], each with its mask `_<name>`; `terms` is a dict of float32
    [N].

    Attributes: `scenes`; `captions`, the distinct ones of the set, sorted; `reward_model`, the
    `reward.CaptionReward`; `adapter`.

    Raises:
        ValueError, TypeError: an argument is unknown or does not fit; the message names what would.
        ImportError: a package is missing; the message says what to install.

    Example:
        >>> envs = CaptionVectorEnv(4, group_size=2, reward="none", terms={"action": 1.0}, autoreset_mode="Disabled")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations["frames"].shape, len(observations["instruction"])
        ((4, 1, 108, 192, 3), 4)
        >>> truth, other = infos["caption"][0], "Action: backward."
        >>> envs.step([truth, other, other, other])[1]
        array([1., 0., 0., 0.])
        >>> envs.close()
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 1,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    single_observation_space: gym.spaces.Dict
    single_action_space: gym.spaces.Text

    @names_unknown_arguments
    def __init__(
        self,
        num_envs: int = 1,
        group_size: int = 1,
        split: str = "train",
        data: str | Path | Scenes = "staged",
        reward: str = "contrast",
        frames: int = 1,
        model: "str | Scorer" = "",
        labels: str = "one",
        *,
        terms: Mapping[str, float] | None = None,
        judge: str = "",
        reason_order: str = "file",
        device: str = "cpu",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ):
        counts = (("num_envs", num_envs), ("group_size", group_size), ("frames", frames))
        self.num_envs, self.group_size, self._frames = (check_count(name, number) for name, number in counts)
        if self.num_envs % self.group_size:
            raise ValueError(f"num_envs={num_envs} is no multiple of group_size={group_size}: groups are whole")
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.split, self.render_mode = split, render_mode
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.scenes: Scenes = (
            load_scenes(data, split, labels, reason_order, self._frames) if isinstance(data, str | Path) else data
        )
        if not len(self.scenes.labels.names):
            raise ValueError(f"no scenes in the split {split!r} of {data}")
        self.reward_model = CaptionReward(self.scenes, reward, model, terms, self._frames, judge, device)
        self.captions = self.reward_model.captions
        self.scenes.frames(0, self._frames)  # What has too few frames fails here rather than later.
        self._actions = np.asarray(self.scenes.labels.actions, bool)
        self._reasons = np.asarray(self.scenes.labels.reasons, bool)
        self._truths = np.array(self.reward_model.truths, object)
        self.single_observation_space = gym.spaces.Dict(
            frames=gym.spaces.Box(0, 255, (self._frames, *self.scenes.picture_shape), np.uint8),
            instruction=gym.spaces.Text(len(language.PROMPT), charset=CHARACTERS),
        )
        self.single_action_space = gym.spaces.Text(MOST_SAMPLED, min_length=0, charset=CHARACTERS)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        groups = self.num_envs // self.group_size
        self._seed: int | None = None
        self._place = 0
        self._order, self._epoch = np.empty(0, np.int64), -1
        self._scene = np.full(groups, -1, np.int64)
        self._over = np.ones(groups, bool)
        self._shown = np.empty((groups, self._frames, *self.scenes.picture_shape), np.uint8)
        self._drawn: dict[int, tuple[np.ndarray, str, str | None, float]] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Show the next scenes, or those of `options["indices"]`; `options["reset_mask"]`, bool [N], spares groups.

        A seed starts the list of scenes; without one it goes on.
        """
        options = options or {}
        check_options(options, ("indices", "reset_mask"))
        mask = self._check_groups(check_reset_mask(options, self.num_envs))
        indices = options.get("indices")
        if indices is not None:
            indices = self._check_indices(indices, int(mask.sum()))
        if seed is not None and (not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0):
            raise ValueError(f"seed {seed!r}: the batch reads one list of scenes; give one whole number from 0 on")
        if not mask.all() and (self._scene[~mask] < 0).any():
            raise gym.error.ResetNeeded("reset everything before only some rows")
        super().reset(seed=None if seed is None else int(seed))
        if seed is not None or self._seed is None:
            self._seed = int(self.np_random.integers(1 << 62)) if seed is None else int(seed)
            self._place, self._epoch = 0, -1
        self._show(mask, self._next(int(mask.sum())) if indices is None else indices)
        self._drawn = {}
        return self._observe(), self._infos()

    def step(self, actions: Sequence[str]) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Score N texts; each episode ends, and with SAME_STEP the next scenes are shown."""
        over = self._over.copy()
        if (self._scene < 0).any() or (over.any() and self.autoreset_mode != AutoresetMode.NEXT_STEP):
            raise needs_reset("step")
        # The rows whose texts are scored; the others are due for a reset.
        scored = np.flatnonzero(np.repeat(~over, self.group_size))
        texts = self._check_texts(actions, scored)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        terminated[scored] = True
        rewards = np.zeros(self.num_envs)
        infos: dict[str, Any] = {}
        if len(scored):
            parts = self.reward_model.score(self._rows()[scored], texts)
            # Gymnasium's own vector environments give rewards as float64.
            rewards[scored] = parts.pop("reward")
            infos = {"terms": _spread(parts, scored, self.num_envs), "_terms": terminated.copy()}
        if self.render_mode is not None:
            self._keep_drawn(scored, texts, rewards)
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            last = self._observe()
            final_obs = np.empty(self.num_envs, object)
            for row in range(self.num_envs):
                final_obs[row] = {"frames": last["frames"][row], "instruction": last["instruction"][row]}
            final_info = infos | self._infos()
            infos |= {"final_obs": final_obs, "_final_obs": terminated.copy()}
            infos |= {"final_info": final_info, "_final_info": terminated.copy()}
            over = ~over
        else:
            self._over[:] = True
        if over.any():
            self._show(over, self._next(int(over.sum())))
        return self._observe(), rewards, terminated, truncated, infos | self._infos()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Of each row the last frame with the caption under it, uint8 [H + 116, W, 3], and after a step its text.

        None without render_mode="rgb_array".
        """
        if self.render_mode is None:
            return None
        if (self._scene < 0).any():
            raise needs_reset("render")
        drawn = [
            self._drawn.get(row, (self._shown[row // self.group_size, -1], self._truths[scene], None, 0.0))
            for row, scene in enumerate(self._rows().tolist())
        ]
        return tuple(draw(*each) for each in drawn)

    @functools.cached_property
    def adapter(self) -> "CaptionAdapter":
        """What mentors are told of these scenes."""
        from mentorgym.envs.caption.mentoring import CaptionAdapter

        return CaptionAdapter(self)

    def get_state(self) -> dict[str, np.ndarray]:
        """All that the future depends on, as independent arrays by name."""
        if self._seed is None:
            raise needs_reset("get_state")
        place = np.array([self._seed, self._place], np.int64)
        return {"place": place, "scene": self._scene.copy(), "over": self._over.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Go back to a state of `get_state`; returns what a reset there would. ValueError for one of another batch."""
        scene, over = np.asarray(state["scene"]), np.asarray(state["over"])
        if scene.shape != self._scene.shape or over.shape != self._over.shape or scene.max() >= len(self._truths):
            raise ValueError("this state is of another batch or of other scenes")
        self._seed, self._place = (int(each) for each in state["place"])
        self._epoch, self._drawn = -1, {}
        self._show(np.ones(len(scene), bool), scene.astype(np.int64))
        self._over = over.astype(bool)
        return self._observe(), self._infos()

    def last_pictures(self, rows: Sequence[int]) -> list[np.ndarray]:
        """The newest frame, uint8 [H, W, 3], of what each of these rows shows."""
        return [self._shown[row // self.group_size, -1] for row in rows]

    def labels_of(self, rows: Sequence[int]) -> np.ndarray:
        """The scenes' labels of these rows, float32 [B, 25]: 4 actions, then 21 reasons."""
        scenes = self._rows()[list(rows)]
        return np.concatenate([self._actions[scenes], self._reasons[scenes]], 1).astype(np.float32)

    def _rows(self) -> np.ndarray:
        return np.repeat(self._scene, self.group_size)

    def _next(self, count: int) -> np.ndarray:
        """The next scenes of the list, int64 [count]."""
        size, taken = len(self._truths), np.empty(count, np.int64)
        for i in range(count):
            epoch, place = divmod(self._place, size)
            if epoch != self._epoch:
                self._epoch = epoch
                shuffled = self.split in ("train", "toy")
                generator = np.random.default_rng((self._seed or 0, epoch))
                self._order = generator.permutation(size) if shuffled else np.arange(size)
            taken[i] = self._order[place]
            self._place += 1
        return taken

    def _show(self, groups: np.ndarray, scenes: np.ndarray) -> None:
        # All are read before anything changes: a picture that cannot be read leaves things as they were.
        frames = [self.scenes.frames(scene, self._frames) for scene in scenes.tolist()]
        for group, scene, each in zip(np.flatnonzero(groups).tolist(), scenes.tolist(), frames, strict=True):
            self._shown[group], self._scene[group], self._over[group] = each, scene, False

    def _observe(self) -> dict[str, Any]:
        instructions = (language.PROMPT,) * self.num_envs
        return {"frames": np.repeat(self._shown, self.group_size, 0), "instruction": instructions}

    def _infos(self) -> dict[str, Any]:
        scene, every = self._rows(), np.ones(self.num_envs, bool)
        values = {
            "scene": scene,
            "caption": self._truths[scene],
            "actions": self._actions[scene],
            "reasons": self._reasons[scene],
        }
        return values | {f"_{name}": every for name in values}

    def _check_groups(self, mask: np.ndarray) -> np.ndarray:
        """The groups of a mask of rows."""
        groups = mask.reshape(-1, self.group_size)
        if (groups.any(1) != groups.all(1)).any():
            raise ValueError(f"options['reset_mask'] must treat the {self.group_size} rows of a group alike")
        return np.asarray(groups.all(1))

    def _check_indices(self, indices: Any, count: int) -> np.ndarray:
        wanted = np.asarray(indices)
        if wanted.shape != (count,) or not np.issubdtype(wanted.dtype, np.integer):
            raise ValueError(f"options['indices']={indices!r}: give {count} whole numbers, one for each group to reset")
        size = len(self._truths)
        if ((wanted < 0) | (wanted >= size)).any():
            raise ValueError(f"options['indices']={indices!r}: the {size} scenes are numbered from 0 to {size - 1}")
        return wanted.astype(np.int64)

    def _keep_drawn(self, rows: np.ndarray, texts: Sequence[str], rewards: np.ndarray) -> None:
        """Keep what `render` shows of these rows: the scene with what was said of it."""
        scenes = self._rows()
        self._drawn = {
            row: (self._shown[row // self.group_size, -1].copy(), self._truths[scenes[row]], clean(text), rewards[row])
            for row, text in zip(rows.tolist(), texts, strict=True)
        }

    def _check_texts(self, actions: Sequence[str], rows: np.ndarray) -> list[str]:
        """The texts of these rows."""
        if isinstance(actions, str) or not isinstance(actions, Sequence | np.ndarray) or len(actions) != self.num_envs:
            kind = "one text" if isinstance(actions, str) else f"{type(actions).__name__} {np.shape(actions)}"
            raise ValueError(f"a step takes a list or tuple of {self.num_envs} texts, not {kind}")
        for row in rows.tolist():
            if not isinstance(actions[row], str):
                raise ValueError(f"the action of row {row} is a {type(actions[row]).__name__}, not a text")
        return [str(actions[row]) for row in rows.tolist()]


def _spread(parts: Mapping[str, np.ndarray], rows: np.ndarray, num_envs: int) -> dict[str, np.ndarray]:
    """Arrays [N] from those of some rows; 0 in the others."""
    spread = {name: np.zeros(num_envs, part.dtype) for name, part in parts.items()}
    for name, part in parts.items():
        spread[name][rows] = part
    return spread
