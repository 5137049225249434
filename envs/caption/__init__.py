"""The caption bandit: look at a driving scene, say what to do and why."""

from mentorgym.envs.caption import language
from mentorgym.envs.caption.data import load_scenes
from mentorgym.envs.caption.env import CaptionEnv
from mentorgym.envs.caption.reward import CaptionReward, load_scorer
from mentorgym.envs.caption.scenes import Labels, Scenes
from mentorgym.envs.caption.vector import CaptionVectorEnv

__all__ = [
    "CaptionEnv",
    "CaptionReward",
    "CaptionVectorEnv",
    "Labels",
    "Scenes",
    "language",
    "load_scenes",
    "load_scorer",
]
