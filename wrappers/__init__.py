"""Wrappers that bring a mentor's feedback into an environment: these are for `gymnasium.Env`, those of the same names
in `mentorgym.wrappers.vector` for `gymnasium.vector.VectorEnv`."""

from mentorgym.wrappers.feedback import LateBonuses, LateHints
from mentorgym.wrappers.single import ActionHints, ClipReward

__all__ = ["ActionHints", "ClipReward", "LateBonuses", "LateHints"]
