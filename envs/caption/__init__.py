"""The caption bandit: look at a driving scene, say what to do and why."""
