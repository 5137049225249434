"""The harness of the spatial environment."""
