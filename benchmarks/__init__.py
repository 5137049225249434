"""The benchmark harness: what evaluates, ranks, draws and times. `mentorgym --help` lists its commands."""
