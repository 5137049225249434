"""Wrappers that add a mentor's feedback to an environment.

Those here are for `gymnasium.Env`; `mentorgym.wrappers.vector` has the same names for `gymnasium.vector.VectorEnv`.
"""

from mentorgym.wrappers.feedback import LateBonuses, LateHints
from mentorgym.wrappers.single import ActionHints, ClipReward

__all__ = ["ActionHints", "ClipReward", "LateBonuses", "LateHints"]
