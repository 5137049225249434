"""Agents: one algorithm is one file that trains, saves and loads by itself; CONTRIBUTING.md has the contract."""
