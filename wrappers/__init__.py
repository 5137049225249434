"""Wrappers that bring a mentor's feedback into an environment, for `gymnasium.Env` and `gymnasium.vector.VectorEnv`."""
