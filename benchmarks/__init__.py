"""The benchmark harness: evaluates and ranks agents and measures speed, as `python -m mentorgym.benchmarks.<name>`."""
