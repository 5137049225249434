"""The link to Unity: ML-Agents' protocol, by its own Python client, and a player of ours that speaks its other side."""
