"""Gymnasium environments, single-file agents and a benchmark for learning with foundation models as mentors.

Importing this package registers its environments by string and does nothing else, so it stays light. Each of these
lines makes one::

    import mentorgym; env = gymnasium.make("CarlaNoCrash-v0")
    env = gymnasium.make("mentorgym:CarlaNoCrash-v0")  # imports mentorgym by itself: the form for worker processes
    envs = gymnasium.make_vec("mentorgym:CarlaNoCrash-v0", num_envs=64)

The code lies in `mentors/`, `envs/`, `wrappers/`, `agents/` and `benchmarks/` at the root of the repository, and is
installed as `mentorgym.mentors`, `mentorgym.envs` and so on. This file is apart from them in `src/` because a folder
named `mentorgym` at the root would hide the installed package from whatever is run there.
"""

import gymnasium

__version__ = "0.1.0"
__all__ = ["__version__", "register_envs"]


def register_envs() -> None:
    """Register the environments of this package with Gymnasium; an id that is already there is left as it is."""
    for name, prefix in {"CarlaNoCrash-v0": "Driving", "CarlaLeaderboard-BEV-v0": "Leaderboard"}.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point=f"mentorgym.envs.driving.env:{prefix}Env",
                vector_entry_point=f"mentorgym.envs.driving.vector:{prefix}VectorEnv",
            )
    for name, family in {"BddOia-Caption-v0": "Caption", "UnitySpatial-v0": "Spatial"}.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point=f"mentorgym.envs.{family.lower()}.env:{family}Env",
                vector_entry_point=f"mentorgym.envs.{family.lower()}.vector:{family}VectorEnv",
            )


register_envs()
