"""The harness of the driving environments."""
