"""The harness of the caption environment."""
